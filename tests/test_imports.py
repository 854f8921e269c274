"""The house's structure: what importing costs, that rooms import downwards only, and that files import in no circle."""

from __future__ import annotations

import ast
import functools
import importlib
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

import fcnn_gpu
from fcnn_gpu.cli._commands import COMMANDS

PACKAGE = Path(fcnn_gpu.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

HEAVY = ("cupy", "matplotlib", "torch", "sklearn", "scipy", "pandas", "rich", "typer", "safetensors", "pyarrow")

ROOMS = [
    {"__main__"},
    {"cli"},
    {"report"},
    {"bench", "estimators"},
    {"doctor", "explain", "gradient_check", "reproducibility"},
    {"training"},
    {"callbacks"},
    {"model"},
    {"placement"},
    {"data", "large_matrix", "layers"},
    {"activations", "losses", "memory", "optimizers", "regularizers", "tables"},
    {"backend", "datasets", "initializers", "metrics"},
    {"schedules", "_figures", "pages"},
    {"_registry", "files"},
    {"_arrays"},
    {"_blas_threads", "_checks", "_console", "_extras", "_html", "_on_demand", "_picture", "_warnings", "_types"},
]
"""From the top of the house to the bottom; what stands together in a row does not import its neighbours."""

UPWARDS = {
    ("model", "training"): "Sequential.memory_report, a convenience: a rehearsal of what a Trainer does",
    ("model", "explain"): "Sequential.explain, a convenience: a sample's way through it",
}
"""From which room to which a line is imported upwards, in the function that needs it, and why."""

PRIVATE = {
    "backend._blas": "what only the doctor and the benchmarks ask of this machine",
    "backend._cpu": "the same",
    "backend._probe": "the same",
    "backend._kernel_source": "the doctor looks whether the kernels' files are there",
    "backend._compiled": "and whether those of the CPU are compiled",
    "backend._cublas._plan": "products in chunks ask in which orders cuBLAS multiplies a matrix where it lies",
    "bench._render": "loaded by the command when there is a report to show",
    "bench._worker": "the error that the command turns into a message",
    "datasets._cells": "what a table's CSV file and one of numbers have in common",
    "datasets._csv": "the same",
    "datasets._csv_header": "the same",
    "datasets._files": "the same",
    "datasets._parquet": "the same",
    "datasets._dataset": "`fcnn_gpu.datasets` is what users see",
    "datasets._digits": "the same",
    "datasets._rows": "the same",
    "datasets._user_files": "the command line asks what kind of file it was given",
    "datasets._source": "the same",
}
"""Private files that other rooms import, and why not from the room."""

LEVEL = {room: i for i, row in enumerate(ROOMS) for room in row}

CIRCULAR = {
    ("fcnn_gpu.model.sequential", "fcnn_gpu.model._summary"): "a convenience of Sequential: summary",
    ("fcnn_gpu.model.sequential", "fcnn_gpu.model._save_and_load"): "the same: save",
    ("fcnn_gpu.model._out_of_memory", "fcnn_gpu.model.sequential"): "a type: the network that found no memory",
    ("fcnn_gpu.explain.explanation", "fcnn_gpu.explain._sections"): "a convenience of Explanation: what is shown",
    ("fcnn_gpu.backend._compiled._call", "fcnn_gpu.backend._compiled._library"): "a type: the library that is called",
    ("fcnn_gpu.training._run", "fcnn_gpu.training.trainer"): "a type: the trainer whose run it is",
    ("fcnn_gpu.training._epoch", "fcnn_gpu.training.trainer"): "the same",
    ("fcnn_gpu.training._out_of_memory", "fcnn_gpu.training.trainer"): "the same",
    ("fcnn_gpu.training._copies", "fcnn_gpu.training.trainer"): "a type: the trainer that is copied",
}
"""What a file of a folder imports of another although that closes a circle, and why."""

CIRCULAR |= {(f"fcnn_gpu.{importing}", f"fcnn_gpu.{room}"): reason for (importing, room), reason in UPWARDS.items()}

ESTIMATORS = ("estimators", "FCNNClassifier", "FCNNRegressor", "TabularClassifier", "TabularRegressor")
"""What `from fcnn_gpu import *` does not give: scikit-learn takes longer to import than all of fcnn_gpu."""

NOT_TRAINING = {
    "cli",
    "bench",
    "estimators",
    "explain",
    "report",
    "doctor",
    "gradient_check",
    "reproducibility",
    "large_matrix",
    "tables",
}
"""Rooms that training on arrays does without."""

OTHER_FILES = (
    "fcnn_gpu.backend._kernel",
    "fcnn_gpu.backend._cublas",
    "fcnn_gpu.backend._autotune",
    "fcnn_gpu.backend._shadow",
    "fcnn_gpu.placement._shadow",
    "fcnn_gpu.training._rehearsal",
    "fcnn_gpu.datasets._catalogue",
    "fcnn_gpu.datasets._csv",
    "fcnn_gpu.datasets._download",
    "fcnn_gpu.datasets._parquet",
)
"""And files: what computes on a GPU, what foretells memory, and the readers of files."""

KNOWS_CUPY = {"backend/_cupy.py", "backend/_probe.py", "backend/_nvrtc.py", "backend/_kernels.py", "doctor.py"}
"""The files that may import cupy."""


def _module(path: Path) -> tuple[str, ...]:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


MODULES = [(PACKAGE.name, *_module(path)) for path in FILES]
FOLDERS = [module for path, module in zip(FILES, MODULES, strict=True) if path.name == "__init__.py"]


def _guarded(tree: ast.AST) -> set[ast.AST]:
    """Nodes below `if TYPE_CHECKING:`, which never run."""
    guards = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test).endswith("TYPE_CHECKING")]
    return {inner for guard in guards for statement in guard.body for inner in ast.walk(statement)}


def _lazy(tree: ast.AST) -> set[ast.AST]:
    """Nodes inside functions: imported when called."""
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {inner for function in functions for statement in function.body for inner in ast.walk(statement)}


@functools.cache
def _imports(path: Path, *, lazy: bool, types: bool = False) -> list[tuple[str, ...]]:
    """What a file imports, modules and names out of them alike, as its parts, relative imports resolved.

    `lazy`: what is imported in functions, too; `types`: and for type checkers alone.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = (set() if types else _guarded(tree)) | (set() if lazy else _lazy(tree))
    package = (PACKAGE.name, *path.relative_to(PACKAGE).parent.parts)
    found: list[tuple[str, ...]] = []
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            found += [(*module, alias.name) for alias in node.names]
    return found


def _room(module: tuple[str, ...]) -> str | None:
    inside = module[0] == PACKAGE.name and len(module) > 1 and module[1] != "__version__"
    return module[1] if inside else None


def test_every_file_has_its_place() -> None:
    rooms = {_module(path)[0] for path in FILES if _module(path)}
    assert rooms - set(LEVEL) == set(), "a new room: give it a place in ROOMS"


def _imports_of_rooms(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(room, what is imported of it), for all that a file imports of others: at load, in functions, or as a type."""
    here = _module(path)
    for imported in _imports(path, lazy=True, types=True):
        room = _room(imported)
        if room is not None and here and room != here[0]:
            yield room, imported


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    here = _module(path)
    upwards = {room for room, _ in _imports_of_rooms(path) if LEVEL.get(room, -1) <= LEVEL[here[0]]}
    assert {room for room in upwards if (here[0], room) not in UPWARDS} == set()


@pytest.mark.parametrize("excused", UPWARDS, ids=" ".join)
def test_what_points_upwards_is_one_import_in_a_function(excused: tuple[str, str]) -> None:
    importing, room = excused
    files = [path for path in FILES if _module(path)[:1] == (importing,)]
    assert sum(other == room for path in files for other, _ in _imports_of_rooms(path)) == 1
    assert room not in {_room(imported) for path in files for imported in _imports(path, lazy=False, types=True)}


def _private_files() -> dict[str, set[str]]:
    """The private files of other rooms that are imported, each with who does."""
    found: dict[str, set[str]] = {}
    for path in FILES:
        for _, imported in _imports_of_rooms(path):
            whole = imported if imported in MODULES else imported[:-1]
            if whole in MODULES and any(part.startswith("_") for part in whole[2:]):
                found.setdefault(".".join(whole[1:]), set()).add(_module(path)[0])
    return found


def test_rooms_import_from_the_room_and_not_from_its_private_files() -> None:
    assert sorted(_private_files()) == sorted(PRIVATE)


def test_the_tests_have_the_same_rooms() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms - {path.parent.name for path in Path(__file__).parent.glob("*/test_*.py")} == set()


def _neighbours(folder: tuple[str, ...]) -> dict[str, set[str]]:
    """What each file and each folder within `folder` imports of the others: at load, in functions, or as a type."""

    def entry(module: tuple[str, ...]) -> str:
        inner = module[: len(folder) + 1]
        return ".".join(inner if inner in MODULES else folder)  # the folder itself: a name out of its __init__

    found: dict[str, set[str]] = {}
    for path, module in zip(FILES, MODULES, strict=True):
        if module[: len(folder)] != folder or (module == folder == (PACKAGE.name,)):
            continue  # the package's own __init__ re-exports everything
        imported = {entry(other) for other in _imports(path, lazy=True, types=True) if other[: len(folder)] == folder}
        found.setdefault(entry(module), set()).update(imported - {entry(module)})
    return found


def _excusing(neighbours: dict[str, set[str]]) -> dict[str, set[str]]:
    return {a: {b for b in imported if (a, b) not in CIRCULAR} for a, imported in neighbours.items()}


@pytest.mark.parametrize("folder", FOLDERS, ids=".".join)
def test_nothing_in_a_folder_imports_in_a_circle(folder: tuple[str, ...]) -> None:
    TopologicalSorter(_excusing(_neighbours(folder))).prepare()  # CycleError names a circle


@pytest.mark.parametrize("excused", CIRCULAR, ids=" ".join)
def test_what_is_excused_would_close_a_circle(excused: tuple[str, str]) -> None:
    importing, imported = excused
    neighbours = _neighbours(tuple(importing.split(".")[:-1]))
    assert imported in neighbours[importing]
    graph = _excusing(neighbours)
    graph[importing].add(imported)
    with pytest.raises(CycleError):
        TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_backends_files_know_cupy(path: Path) -> None:
    cupy = {module for module in _imports(path, lazy=True) if module[0].startswith("cupy")}
    assert not cupy or path.relative_to(PACKAGE).as_posix() in KNOWS_CUPY


def _typed(path: Path) -> dict[str, str]:
    """Names that a package's `__init__` imports under `if TYPE_CHECKING:`, each with the module that it is of."""
    imports = [
        node for node in _guarded(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)
    ]
    return {alias.name: node.module or "" for node in imports for alias in node.names}


def _tabled(path: Path) -> dict[str, str]:
    """Those that its table for `on_demand` has."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tables = [ast.literal_eval(node) for node in ast.walk(tree) if isinstance(node, ast.Dict)]
    return {name: module for table in tables for module, names in table.items() for name in names.split()}


def _package(path: Path) -> ModuleType:
    return importlib.import_module(".".join((PACKAGE.name, *_module(path))))


ON_DEMAND = [path for path in FILES if path.name == "__init__.py" and "on_demand(" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", ON_DEMAND, ids=lambda path: path.parent.name)
def test_what_is_imported_on_demand_is_what_type_checkers_see(path: Path) -> None:
    assert _tabled(path) == _typed(path)


@pytest.mark.parametrize("path", ON_DEMAND, ids=lambda path: path.parent.name)
def test_what_is_imported_on_demand_is_there(path: Path) -> None:
    package = _package(path)
    for name, module in _typed(path).items():
        whole = importlib.import_module(f".{module or name}", package.__name__)
        assert getattr(package, name) is (getattr(whole, name) if module else whole)
    assert set(_typed(path)) <= set(dir(package))
    with pytest.raises(AttributeError, match=rf"^module '{package.__name__}' has no attribute 'Sequentail'$"):
        _ = package.Sequentail


def _loaded_by(code: str) -> set[str]:
    """The modules that a fresh interpreter has after `code`, which says nothing on standard error."""
    code = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(done.stdout.splitlines()[-1].split())


def _ours(modules: set[str]) -> set[str]:
    """The rooms of this package among them."""
    return {room for module in modules if (room := _room(tuple(module.split("."))))}


def test_importing_the_package_imports_no_room() -> None:
    loaded = _loaded_by("import fcnn_gpu")
    assert _ours(loaded) == {"_on_demand"}
    assert "numpy" not in loaded


def test_all_but_the_estimators_import_nothing_heavy() -> None:
    loaded = _loaded_by("from fcnn_gpu import *\nSequential, layers, chunked_matmul")
    assert loaded & set(HEAVY) == set()
    assert set(vars(fcnn_gpu)["__all__"]) == set(_typed(PACKAGE / "__init__.py")) - set(ESTIMATORS)
    assert _ours(loaded) >= set(_typed(PACKAGE / "__init__.py").values()) - {"", "estimators"}


def test_training_on_the_cpu_imports_neither_cupy_nor_what_it_does_not_use() -> None:
    loaded = _loaded_by("""
import numpy as np, fcnn_gpu as fcnn
model = fcnn.Sequential([fcnn.Dense(4, activation="relu"), fcnn.Dense(2)], n_in=3, seed=0, backend="numpy")
trainer = fcnn.Trainer(model)
trainer.fit(np.ones((4, 3)), [0, 1, 0, 1], epochs=1, progress=False)
trainer.evaluate(np.ones((4, 3)), [0, 1, 0, 1])
model.predict(np.ones((4, 3)))
""")
    assert loaded & {*HEAVY, "multiprocessing"} == set()
    assert _ours(loaded) & NOT_TRAINING == set()
    assert {module for module in loaded if module.startswith(tuple(OTHER_FILES))} == set()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["trian"]], ids=" ".join)
def test_the_command_imports_no_room_to_say_what_it_is(arguments: list[str]) -> None:
    loaded = _loaded_by(f"from fcnn_gpu.cli import run\nsys.stderr = sys.stdout\nrun({arguments!r})")
    assert _ours(loaded) == {"_console", "_on_demand", "cli"}
    assert loaded & {*HEAVY, "numpy"} <= {"rich", "typer"}
    assert {f"fcnn_gpu.cli.{name}" for name in COMMANDS} & loaded == set()


def test_a_shortage_of_memory_is_told_without_importing_anything() -> None:
    loaded = _loaded_by("""
import fcnn_gpu.cli._app as program
def fail(*arguments, **options):
    raise MemoryError
program.app = fail
sys.stderr = sys.stdout
assert program.run(["train"]) == program.FAILURE
""")
    assert _ours(loaded) == {"_console", "_on_demand", "cli"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_imports_nothing_that_it_does(name: str) -> None:
    loaded = _loaded_by(f"from fcnn_gpu.cli import run\nrun([{name!r}, '--help'])")
    assert {other for other in COMMANDS if f"fcnn_gpu.cli.{other}" in loaded} == {name}
    assert loaded & {*HEAVY, "numpy"} <= {"rich", "typer"}
    assert _ours(loaded) == {"_console", "_on_demand", "cli"}


def test_the_public_face() -> None:
    """The names that the design counts on, and none that is not there."""
    classes = """
        Sequential Dense Activation Dropout BatchNorm LayerNorm Residual Layer Trainer History Callback EarlyStopping
        ModelCheckpoint ProgressBar SGD Adam AdamW RMSprop Adagrad NAdam RAdam Adamax Adadelta Lion
        Loss CrossEntropy BinaryCrossEntropy MSE MAE Huber
        SymmetryWarning DivergenceError ModelFileError BackendError FCNNClassifier FCNNRegressor
    """
    functions = "load set_backend set_autotune autotune_report to_numpy"
    modules = "activations callbacks datasets initializers layers losses metrics optimizers regularizers schedules"
    names = f"{classes} {functions} {modules}".split()
    missing = [name for name in names if not hasattr(fcnn_gpu, name)]
    assert missing == []


PUBLIC = [module for module in MODULES if len(module) == 2 and not module[1].startswith("_")]


ALIASES = ("typing", "types", "collections")
"""Whose a name for a type says that it is, wherever it is defined."""


@pytest.mark.parametrize("module", PUBLIC, ids=".".join)
def test_a_public_module_shows_what_it_is_for(module: tuple[str, ...]) -> None:
    """Not what it imports for itself: people look with dir() and completion what there is."""
    here = importlib.import_module(".".join(module))
    shown = {name: getattr(here, name) for name in dir(here) if not name.startswith("_")}
    borrowed = {
        name
        for name, value in shown.items()
        if getattr(value, "__module__", PACKAGE.name).partition(".")[0] not in (PACKAGE.name, *ALIASES)
        or (isinstance(value, ModuleType) and not value.__name__.startswith(PACKAGE.name))
    }
    assert borrowed - {"app"} == set()  # the command itself
    assert not set(shown) & {
        "Any",
        "Callable",
        "ClassVar",
        "Mapping",
        "Self",
        "Sequence",
        "TYPE_CHECKING",
        "annotations",
        "check_real",
    }
    assert shown
