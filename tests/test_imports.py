"""The house's structure: what importing costs, that rooms import downwards only, and that files import in no circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import fcnn_gpu

PACKAGE = Path(fcnn_gpu.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

HEAVY = ("cupy", "matplotlib", "torch", "sklearn", "scipy", "pandas", "rich", "typer", "safetensors", "pyarrow")

ROOMS = [
    {"__main__"},
    {"cli"},
    {"bench"},
    {"doctor", "gradient_check", "estimators", "reproducibility"},
    {"training"},
    {"_run", "_rehearsal"},
    {"_programs", "_training_shortage"},
    {"_epoch"},
    {"_feed"},
    {"_step", "_evaluation", "_interrupt", "_diagnosis"},
    {"callbacks"},
    {"history"},
    {"_saved", "_summary"},
    {"_micro_batches"},
    {"model"},
    {"_passes"},
    {"_network"},
    {"_model_shortage"},
    {"placement"},
    {"_workspace"},
    {"_arena"},
    {"_recompute"},
    {"_fusion", "_flat", "_symmetry"},
    {"_precision"},
    {"layers"},
    {"large_matrix"},
    {"_intake", "_budget"},
    {"_out_of_memory"},
    {"optimizers", "regularizers", "losses", "activations", "_scores"},
    {"schedules", "initializers", "metrics", "_memory"},
    {"_stream"},
    {"_supply"},
    {"data"},
    {"datasets"},
    {"_inputs"},
    {"backend"},
    {"_registry", "_blas", "_plots"},
    {"serialization"},
    {"_tensor_file", "_replacement"},
    {"_files", "_blocks"},
    {"_checks", "_types", "_cpu", "_read_ahead", "_primitives", "_threads"},
]
"""From the top of the house to the bottom; what stands together in a row does not import its neighbours."""

LEVEL = {room: i for i, row in enumerate(ROOMS) for room in row}

CIRCULAR = {
    ("fcnn_gpu.model", "fcnn_gpu._summary"): "a convenience of Sequential, imported when it is called: summary",
    ("fcnn_gpu.model", "fcnn_gpu._saved"): "the same: save",
    ("fcnn_gpu.model", "fcnn_gpu._rehearsal"): "the same: memory_report",
    ("fcnn_gpu._model_shortage", "fcnn_gpu.model"): "a type: the network that found no memory",
    ("fcnn_gpu._run", "fcnn_gpu.training"): "a type: the trainer whose run it is",
    ("fcnn_gpu._epoch", "fcnn_gpu.training"): "the same",
    ("fcnn_gpu._training_shortage", "fcnn_gpu.training"): "the same",
}
"""What a file of a folder imports of another although that closes a circle, and why."""

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


def _imports(path: Path, *, lazy: bool, types: bool = False) -> Iterator[tuple[str, ...]]:
    """What a file imports, modules and names out of them alike, as its parts, relative imports resolved.

    `lazy`: what is imported in functions, too; `types`: and for type checkers alone.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = (set() if types else _guarded(tree)) | (set() if lazy else _lazy(tree))
    package = (PACKAGE.name, *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            yield from ((*module, alias.name) for alias in node.names)


def _room(module: tuple[str, ...]) -> str | None:
    inside = module[0] == PACKAGE.name and len(module) > 1 and module[1] != "__version__"
    return module[1] if inside else None


def test_every_file_has_its_place() -> None:
    rooms = {_module(path)[0] for path in FILES if _module(path)}
    assert rooms - set(LEVEL) == set(), "a new room: give it a place in ROOMS"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    here = _module(path)
    if not here:
        return  # the package's own __init__ re-exports everything
    upwards = {
        room
        for room in map(_room, _imports(path, lazy=False))
        if room is not None and room != here[0] and LEVEL.get(room, -1) <= LEVEL[here[0]]
    }
    assert upwards == set()


def _neighbours(folder: tuple[str, ...]) -> dict[str, set[str]]:
    """What each file and each folder within `folder` imports of the others: at load, in functions, or as a type.

    Of the root only the files count: its folders are rooms, and ROOMS says what they import.
    """

    def entry(module: tuple[str, ...]) -> str:
        inner = module[: len(folder) + 1]
        return ".".join(inner if inner in MODULES else folder)  # the folder itself: a name out of its __init__

    found: dict[str, set[str]] = {}
    for path, module in zip(FILES, MODULES, strict=True):
        if module[: len(folder)] != folder or (folder == (PACKAGE.name,) and path.parent != PACKAGE):
            continue
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


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, fcnn_gpu; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_training_on_the_cpu_imports_neither_cupy_nor_what_it_does_not_use() -> None:
    code = """
import sys, numpy as np, fcnn_gpu as fcnn
model = fcnn.Sequential([fcnn.Dense(4, activation="relu"), fcnn.Dense(2)], n_in=3, seed=0, backend="numpy")
fcnn.Trainer(model).fit(np.ones((4, 3)), [0, 1, 0, 1], epochs=1, progress=False)
print([m for m in ("cupy", "matplotlib", "torch", "sklearn", "scipy", "pandas", "rich", "typer") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_face() -> None:
    """The names that the design counts on, and none that is not there."""
    classes = """
        Sequential Dense Activation Dropout BatchNorm LayerNorm Residual Layer Trainer History Callback EarlyStopping
        ModelCheckpoint ProgressBar SGD Adam AdamW RMSprop Adagrad Loss CrossEntropy BinaryCrossEntropy MSE MAE Huber
        SymmetryWarning DivergenceError ModelFileError BackendError FCNNClassifier FCNNRegressor
    """
    functions = "load set_backend set_autotune autotune_report to_numpy"
    modules = "activations callbacks datasets initializers layers losses metrics optimizers regularizers schedules"
    names = f"{classes} {functions} {modules}".split()
    missing = [name for name in names if not hasattr(fcnn_gpu, name)]
    assert missing == []
