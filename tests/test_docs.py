"""The documentation says what the code does: links, tables, examples and numbers are checked against it."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import functools
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._registry import Registry
from fcnn_gpu.activations import ACTIVATIONS
from fcnn_gpu.backend._kernel_source import kernels, stems
from fcnn_gpu.backend._probe import probe_links
from fcnn_gpu.datasets import CATALOGUE
from fcnn_gpu.initializers import INITIALIZERS
from fcnn_gpu.layers import LAYERS
from fcnn_gpu.losses import LOSSES
from fcnn_gpu.metrics import METRICS
from fcnn_gpu.optimizers import OPTIMIZERS
from fcnn_gpu.regularizers import REGULARIZERS
from fcnn_gpu.schedules import SCHEDULES
from tests.test_imports import LEVEL

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "kernels/*.md", "tests/**/*.md", "benchmarks/**/*.md", "examples/**/*.md")
    for page in ROOT.glob(pattern)
)
README = ROOT / "README.md"
BACKPROP = ROOT / "docs" / "backprop.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
INTERNALS = ROOT / "docs" / "internals"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
_IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def code_blocks(page: Path, language: str) -> list[str]:
    found = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [code for named, code in found if named == language]


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives the page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def local_links(page: Path) -> list[tuple[str, Path, str]]:
    """(text, file, fragment) of every link or image that is not a web address."""
    links = []
    for text, target in [*_LINK.findall(prose(page)), *_IMAGE.findall(prose(page))]:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        links.append((text, (page.parent / path).resolve() if path else page, fragment))
    return links


@functools.cache
def python_names(path: Path) -> frozenset[str]:
    """Every name that a module defines: functions, classes, `Class.method`, `Class.field` and constants."""
    return frozenset(_names(ast.parse(path.read_text(encoding="utf-8")).body, ""))


def _names(body: list[ast.stmt], prefix: str) -> set[str]:
    names = set()
    for node in body:
        if isinstance(node, ast.FunctionDef):
            names.add(prefix + node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {prefix + node.name, *_names(node.body, f"{prefix}{node.name}.")}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {prefix + target.id for target in targets if isinstance(target, ast.Name)}
    return names


@functools.cache
def kernel_names(path: Path) -> frozenset[str]:
    """The kernels that a .cu file defines."""
    pattern = r"__global__ void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\("
    return frozenset(re.findall(pattern, path.read_text("utf-8")))


def test_there_are_pages() -> None:
    assert {README, BACKPROP, ARCHITECTURE, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    for text, target, fragment in local_links(page):
        assert target.is_relative_to(ROOT), f"{page_id(page)}: [{text}] leaves the repository"
        assert target.exists(), f"{page_id(page)}: [{text}] leads to {target}, which does not exist"
        if fragment:
            assert fragment in anchors(target), f"{page_id(page)}: {target.name} has no heading #{fragment}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_to_code_name_what_the_file_defines(page: Path) -> None:
    for text, target, _ in local_links(page):
        name = text.strip("`")
        if not text.startswith("`") or name == target.name or target.suffix not in (".py", ".cu"):
            continue
        known = python_names(target) if target.suffix == ".py" else kernel_names(target)
        assert name in known, f"{page_id(page)}: {page_id(target)} defines no {name}"


def test_the_gradients_page_links_every_layer_loss_and_optimizer() -> None:
    linked = {text.strip("`").split(".")[0] for text, target, _ in local_links(BACKPROP) if target.suffix == ".py"}
    for family in (LAYERS, LOSSES, OPTIMIZERS):
        missing = {family[name].__name__ for name in family} - linked
        assert not missing, f"docs/backprop.md links no equation to {missing}"


def test_pages_that_code_points_at_exist() -> None:
    pointer = re.compile(r"\b((?:docs|kernels|benchmarks|tests)/[\w/-]+\.md)(?:#([\w-]+)|, section (\d+))?")
    pointers = 0
    for folder in ("fcnn_gpu", "kernels", "tests", "benchmarks", "examples"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix not in (".py", ".cu", ".cuh", ".cpp", ".h"):
                continue
            for document, fragment, number in pointer.findall(file.read_text(encoding="utf-8")):
                pointers += 1
                page = ROOT / document
                assert page.is_file(), f"{page_id(file)} points at {document}, which does not exist"
                assert not fragment or fragment in anchors(page), f"{document} has no heading #{fragment}"
                assert not number or re.search(rf"^## {number}\. ", prose(page), re.MULTILINE), (
                    f"{page_id(file)} points at section {number} of {document}"
                )
    assert pointers


def test_the_sections_of_the_gradients_page_are_numbered_in_order() -> None:
    numbers = [int(number) for number in re.findall(r"^## (\d+)\. ", prose(BACKPROP), re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert "## 4. A layer" in prose(BACKPROP), "layers/dense.py points at section 4 for the Dense layer"


# Tables


def table(page: Path, heading: str, number: int = 1) -> list[list[str]]:
    """The cells of the first, second, ... table under a heading, header and rule left out."""
    section = re.split(rf"^#+ {re.escape(heading)}.*$", page.read_text("utf-8"), maxsplit=1, flags=re.MULTILINE)[1]
    tables = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert len(tables) >= number, f"no table {number} under {heading!r}"
    rows = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in tables[number - 1].splitlines()]
    assert len({len(row) for row in rows}) == 1, f"the rows under {heading!r} differ in their number of cells"
    return [[cell.strip() for cell in row] for row in rows[2:]]


def signature(member: type[Any]) -> str:
    """The class as one would write it with all defaults; what its family shares (keyword-only) is left out."""
    arguments = []
    for field in dataclasses.fields(member):
        if field.init and not field.kw_only:
            default = "" if field.default is dataclasses.MISSING else f"={field.default!r}"
            arguments.append(f"{field.name}{default}")
    return f"{member.__name__}({', '.join(arguments)})"


FAMILIES: dict[str, Registry[Any]] = {
    "Layers": LAYERS,
    "Activations": ACTIVATIONS,
    "Losses": LOSSES,
    "Regularizers": REGULARIZERS,
    "Initializers": INITIALIZERS,
    "Optimizers": OPTIMIZERS,
    "Schedules": SCHEDULES,
    "Metrics": METRICS,
}


@pytest.mark.parametrize("heading", FAMILIES)
def test_readme_table_is_the_registry(heading: str) -> None:
    family = FAMILIES[heading]
    rows = {row[0].strip("`"): row[1].strip("`") for row in table(README, heading)}
    assert rows == {name: signature(family[name]) for name in family}


def test_readme_names_the_default_initializers() -> None:
    for name, _, _, init in table(README, "Activations"):
        assert init.strip("`") == ACTIVATIONS[name.strip("`")]().default_init


def test_readme_names_the_links() -> None:
    for name, _, _, link in table(README, "Losses"):
        assert link == LOSSES[name.strip("`")]().link


def test_readme_names_the_data_sets_and_their_licences() -> None:
    rows = {row[0].strip("`"): row for row in table(README, "Data") if row[0].startswith("`")}
    assert rows.keys() == set(CATALOGUE)
    for name in ("mnist-mini", "digits"):
        data = fcnn.datasets.load(name)
        assert data.licence is not None
        assert data.licence.startswith(rows[name][3])
        counts = [int(n.replace(",", "")) for n in re.findall(r"[\d,]{3,}", rows[name][1])]
        assert sum(counts) == len(data.X_train) + len(data.X_test)


def test_readme_and_install_page_name_the_extras() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(project["optional-dependencies"])
    for page in (README, ROOT / "docs" / "install.md"):
        named = {e for group in re.findall(r"\.\[([\w,-]+)\]", page.read_text("utf-8")) for e in group.split(",")}
        assert named <= extras
        assert {extra for extra in extras if extra.startswith("cuda")} <= named


def test_install_page_explains_every_link_of_the_gpu_set_up() -> None:
    rows = [row[0] for row in table(ROOT / "docs" / "install.md", "For a GPU", number=2)]
    assert rows == [link.name for link in probe_links()]


def test_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest
    assert fcnn.__version__ == project["version"] == newest[1]
    assert f"**Status: {fcnn.__version__}.**" in README.read_text(encoding="utf-8")


def rooms() -> list[str]:
    """The entries right under fcnn_gpu/ in the architecture page, from the top: "cli", "model", "_checks", ..."""
    tree = next(block for block in code_blocks(ARCHITECTURE, "text") if block.startswith("fcnn_gpu/\n"))
    return re.findall(r"^  (\w+)(?:/|\.py)", tree.split("\nkernels/", maxsplit=1)[0], re.MULTILINE)


def test_the_architecture_page_shows_the_package_as_it_is() -> None:
    package = ROOT / "fcnn_gpu"
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    assert sorted(rooms()) == sorted(folders | {path.stem for path in package.glob("*.py")})


def test_the_rooms_stand_in_the_order_of_their_imports() -> None:
    """From the top down, row by row as in test_imports.py, where imports are held to it."""
    listed = [room for room in rooms() if room != "__init__"]
    assert listed == sorted(listed, key=LEVEL.__getitem__)


def test_the_backends_page_lists_its_files() -> None:
    backend = ROOT / "fcnn_gpu" / "backend"
    tree = next(block for block in code_blocks(INTERNALS / "backend.md", "text") if block.startswith("backend/\n"))
    files = {path.name for path in backend.glob("*.py")} - {"__init__.py"}
    folders = {f"{path.parent.name}/" for path in backend.glob("*/__init__.py")}
    assert set(re.findall(r"^  (\S+)", tree, re.MULTILINE)) == files | folders


def test_every_page_of_the_internals_is_in_the_index() -> None:
    index = "\n".join(row[1] for row in table(ARCHITECTURE, "The mechanisms, one by one"))
    linked = {target.removeprefix("internals/") for _, target in _LINK.findall(index)}
    assert linked == {page.name for page in INTERNALS.glob("*.md")}


def test_the_results_page_lists_every_kernel() -> None:
    rows = {row[0].strip("`"): row for row in table(ROOT / "benchmarks" / "results" / "README.md", "Kernels")}
    assert rows.keys() == {f"{stem}.cu" for stem in stems()}
    for stem in stems():
        _, names, instances, *nets = rows[f"{stem}.cu"]
        assert re.findall(r"`(\w+)`", names) == list(kernels(stem))
        assert int(instances) == sum(len(kernel.instances) for kernel in kernels(stem).values())
        assert nets == ["yes", "yes", "not yet"]


def test_the_results_page_lists_the_tests_that_wait_for_a_gpu() -> None:
    # The fixtures of conftest.py that have a case on a GPU, where they are not arguments of a helper.
    fixtures = r"def (?!_)\w+\([^)]*\b(?:ops|other_ops|device_ops): Ops\b|mark\.gpu\b"
    # Those of the kernels have one row; those of CUDA on the CPU speak of the marker, and never have it.
    files = [path for path in ROOT.glob("tests/**/test_*.py") if path.parent.name not in ("kernels", "cuda_on_cpu")]
    waiting = {path.name for path in files if re.search(fixtures, path.read_text("utf-8"))}
    rows = table(ROOT / "benchmarks" / "results" / "README.md", "Tests that wait for a GPU")
    assert {name for row in rows for name in re.findall(r"\[(test_\w+\.py)\]", row[0])} == waiting
    assert {row[1] for row in rows} == {"not yet run"}


# Examples


@pytest.mark.parametrize("number", range(len(code_blocks(README, "python"))))
def test_readme_examples_run(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FCNN_BACKEND", "numpy")
    names: dict[str, Any] = {}
    exec(compile(code_blocks(README, "python")[number], f"README.md, example {number + 1}", "exec"), names)
    output = capsys.readouterr().out
    if number == 0:
        assert "W 128×784" in output
        assert (tmp_path / "digits.safetensors").is_file()
        data = names["data"]
        accuracy = (names["model"].predict_classes(data.X_test) == data.y_test).mean()
        assert accuracy == pytest.approx(promised(number), abs=0.01)
        labels = re.search(r"# \[([\d ]+) \.\.\.\]", code_blocks(README, "python")[0])
        assert labels
        digits = [int(digit) for digit in labels[1].split()]
        assert names["model"].predict_classes(data.X_test[: len(digits)]).tolist() == digits
    elif number == 1:
        assert float(names["value"]) < 1.0  # log 10 ≈ 2.3 is where an untrained network starts
    elif number == 3:
        homes, rent, regressor = (names[name] for name in ("homes", "rent", "regressor"))
        assert "'number', '30." in output
        assert "'category'" in output or "'yes_no'" in output
        assert "'date', '1950-01-01 to 2015-" in output
        assert regressor.score(homes, (rent - rent.mean()) / rent.std()) > 0.99
    elif number == 4:
        homes, rent = names["homes"], names["rent"]
        assert names["regressor"].score(homes, rent) > 0.99
        saved = fcnn.load(tmp_path / "rents.safetensors")
        np.testing.assert_array_equal(saved.predict(homes)[:, 0], names["regressor"].predict(homes))
    else:
        assert float(names["scores"].mean()) == pytest.approx(promised(number), abs=0.01)


def promised(number: int) -> float:
    """The accuracy that a comment of the README's example says it reaches."""
    found = re.search(r"# .*about (0\.\d+)", code_blocks(README, "python")[number])
    assert found
    return float(found[1])


def test_the_main_example_is_short() -> None:
    assert len(code_blocks(README, "python")[0].splitlines()) <= 16


DOCTESTED = [page for page in PAGES if any(">>>" in block for block in code_blocks(page, "python"))]


@pytest.mark.parametrize("page", DOCTESTED, ids=page_id)
def test_worked_examples_give_the_numbers_on_the_page(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FCNN_BACKEND", "numpy")
    monkeypatch.chdir(tmp_path)  # examples may write files
    blocks = [block for block in code_blocks(page, "python") if ">>>" in block]
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page_id(page), str(page), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    report: list[str] = []
    results = runner.run(test, out=report.append)
    assert results.attempted > 0
    assert results.failed == 0, "".join(report)


def test_the_worked_examples_are_found() -> None:
    assert BACKPROP in DOCTESTED
