"""The wheel works by itself, with the compiled kernels and without: built, and installed where nothing else is."""

from __future__ import annotations

import email
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from fcnn_gpu._extras import PACKAGES
from fcnn_gpu.backend._compiled._build import LIBRARY, wheel_platform

from .support.compiled import missing_c_compiler

ROOT = Path(__file__).parent.parent


COMPILED = missing_c_compiler() is None
"""Whether the wheel of this machine holds the compiled kernels."""


def run(command: list[str | Path], folder: Path, variables: Mapping[str, str] | None = None) -> str:
    """Standard output of a command that must succeed, with nothing of this process's Python paths or settings."""
    result = attempt(command, folder, variables)
    assert result.returncode == 0, f"{command} failed in {folder}:\n{result.stdout}\n{result.stderr}"
    return result.stdout


def attempt(
    command: list[str | Path], folder: Path, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "FCNN_", "COV_", "COVERAGE_"))}
    own = {"PYTHONUTF8": "1", "FCNN_BACKEND": "cpu", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=kept | own | dict(variables or {}),
        capture_output=True,
        encoding="utf-8",
    )


def test_messages_name_packages_that_the_extras_name() -> None:
    """By themselves: `pip install 'fcnn_gpu[plot]'` works where the package is on an index alone."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for extra, package in PACKAGES.items():
        assert package in extras[extra]
    for path in [*(ROOT / "fcnn_gpu").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]:
        found = [line for line in path.read_text(encoding="utf-8").splitlines() if "install 'fcnn_gpu[" in line]
        assert path.name == "_extras.py" or not found, path


@dataclass(frozen=True)
class Archives:
    wheel: Path
    sdist: Path

    def wheel_names(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())

    def sdist_names(self) -> set[str]:
        with tarfile.open(self.sdist) as archive:
            return {name.partition("/")[2] for name in archive.getnames()}


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Archives:
    """The source archive of the checkout, and the wheel built from that archive alone.

    It is no wheel if the compiler has anything to remark on the kernels, at any level.
    """
    folder = tmp_path_factory.mktemp("dist")
    build: list[str | Path] = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    run(build, folder, {"FCNN_COMPILED": str(int(COMPILED)), "CFLAGS": "-Werror"})
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    return Archives(wheel, sdist)


@pytest.fixture(scope="module")
def plain_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built where there is no C compiler."""
    folder = tmp_path_factory.mktemp("plain")
    build: list[str | Path] = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder, ROOT]
    run(build, folder, {"CC": "no-such-compiler"})
    (wheel,) = folder.glob("*.whl")
    return wheel


@dataclass(frozen=True)
class Environment:
    """A virtual environment with fcnn_gpu's wheel in it; its dependencies are this environment's."""

    folder: Path
    python: Path
    command: Path
    away: Path


@pytest.fixture(scope="module")
def environment(archives: Archives, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return environment_with(archives.wheel, tmp_path_factory)


@pytest.fixture(scope="module")
def plain_environment(plain_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return environment_with(plain_wheel, tmp_path_factory)


def environment_with(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("env").resolve()
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / ("python.exe" if os.name == "nt" else "python")
    away = tmp_path_factory.mktemp("away")
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", python]
    run([*pip, "install", "--no-deps", "--no-index", "--quiet", wheel], away)
    # Appended to the path behind the environment's own packages: what the wheel installed is found first.
    own = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], away).strip()
    # They may lie in several folders, where a .pth file of the tests' environment says so.
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    borrowed |= {path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")}
    (Path(own) / "borrowed.pth").write_text("\n".join(sorted(borrowed)) + "\n", encoding="utf-8")
    return Environment(folder, python, scripts / ("fcnn-gpu.exe" if os.name == "nt" else "fcnn-gpu"), away)


def test_the_wheel_holds_all_that_the_package_reads(archives: Archives) -> None:
    names = archives.wheel_names()
    package = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("**/*.py", "py.typed", "datasets/mnist_mini/*")
        for path in (ROOT / "fcnn_gpu").glob(pattern)
    }
    kernels = {f"fcnn_gpu/kernels/{p.name}" for p in (ROOT / "kernels").iterdir() if p.suffix in (".cu", ".cuh")}
    assert len(kernels) > 10
    assert package | kernels <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_wheel_holds_nothing_else(archives: Archives) -> None:
    tops = {name.split("/")[0] for name in archives.wheel_names()}
    assert tops == {"fcnn_gpu", next(top for top in tops if top.endswith(".dist-info"))}
    assert not [name for name in archives.wheel_names() if name.endswith((".pyc", ".part"))]
    libraries = {name for name in archives.wheel_names() if name.endswith((".so", ".dll", ".dylib"))}
    assert libraries == ({f"fcnn_gpu/{LIBRARY}"} if COMPILED else set())
    assert archives.wheel.stat().st_size < 4e6


def test_a_wheel_with_the_kernels_is_for_any_python_on_one_platform(archives: Archives) -> None:
    assert archives.wheel.name.endswith(f"-py3-none-{wheel_platform() if COMPILED else 'any'}.whl")


@pytest.mark.skipif(sys.platform != "linux", reason="auditwheel looks at wheels for Linux")
@pytest.mark.skipif(not COMPILED, reason="there is no C compiler")
def test_a_wheel_for_linux_needs_the_c_library_alone(archives: Archives) -> None:
    """Of the version with which it was compiled, glibc's 2.34 at most: then it is a manylinux or musllinux wheel."""
    pytest.importorskip("auditwheel", reason="auditwheel is not installed")
    found = run([sys.executable, "-m", "auditwheel", "show", archives.wheel], ROOT)
    tag = re.search(r'platform tag:\s+"(many|musl)linux_(\d+)_(\d+)_\w+"', found)
    assert tag, found
    assert tag[1] == "musl" or (int(tag[2]), int(tag[3])) <= (2, 34), found
    assert set(re.findall(r"\blib[\w-]+\.so[.\d]*", found)) <= {"libc.so.6"}, found


@pytest.mark.parametrize(
    ("platform", "built"),
    [
        ("linux", "manylinux_x86_64 manylinux_aarch64 musllinux_x86_64 musllinux_aarch64"),
        ("macos", "macosx_x86_64 macosx_arm64"),
        ("windows", "win_amd64"),
    ],
)
def test_cibuildwheel_knows_what_to_build(platform: str, built: str) -> None:
    """One wheel for each platform and C library, by one Python: it serves all."""
    pytest.importorskip("cibuildwheel", reason="cibuildwheel is not installed")
    asked: list[str | Path] = ["--platform", platform, "--print-build-identifiers", ROOT]
    assert run([sys.executable, "-m", "cibuildwheel", *asked], ROOT).split() == [
        f"cp311-{name}" for name in built.split()
    ]


def test_a_wheel_without_them_is_for_any_platform_and_says_why(plain_wheel: Path) -> None:
    assert plain_wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(plain_wheel) as archive:
        assert not [name for name in archive.namelist() if name.endswith((".so", ".dll", ".dylib"))]
        reason = archive.read("fcnn_gpu/fcnn_cpu.txt").decode()
    assert reason == "there is no C compiler: no-such-compiler was not found\n"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"FCNN_COMPILED": "1", "CC": "no-such-compiler"},
            "FCNN_COMPILED=1 asks for the compiled kernels, and there is no C",
        ),
        (
            {"FCNN_COMPILED": "yes"},
            "FCNN_COMPILED expects 0 (without compiled kernels) or 1 (never without), got 'yes'.",
        ),
    ],
)
def test_a_build_that_must_not_go_on(variables: dict[str, str], words: str, tmp_path: Path) -> None:
    command: list[str | Path] = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, ROOT]
    failed = attempt(command, tmp_path, variables)
    assert failed.returncode == 1
    assert words in failed.stdout + failed.stderr
    assert not list(tmp_path.iterdir())


def test_the_compiled_kernels_can_be_left_out(tmp_path: Path) -> None:
    command: list[str | Path] = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, ROOT]
    run(command, tmp_path, {"FCNN_COMPILED": "0"})
    (wheel,) = tmp_path.iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("fcnn_gpu/fcnn_cpu.txt") == b"FCNN_COMPILED=0 left them out\n"


def test_the_metadata_says_what_people_look_for(archives: Archives) -> None:
    with zipfile.ZipFile(archives.wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = email.message_from_string(archive.read(name).decode("utf-8"))
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert {"cuda12", "cuda12-local", "cuda13", "cuda13-local", "plot", "test", "dev"} <= set(
        metadata.get_all("Provides-Extra", [])
    )
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert not [line for line in required if "cupy" in line or "matplotlib" in line or "torch" in line]
    assert all("<" in line and ">" in line for line in required), "each dependency has a lower and an upper bound"


def test_the_source_archive_can_be_tested(archives: Archives) -> None:
    names = archives.sdist_names()
    wanted = ["pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "docs/backprop.md"]
    wanted += ["kernels/README.md", "tests/test_packaging.py", "tests/cuda_on_cpu/cuda_on_cpu.hpp", "hatch_build.py"]
    wanted += [f"kernels/cpu/{path.name}" for path in (ROOT / "kernels" / "cpu").iterdir()]
    assert set(wanted) <= names


def test_it_is_the_installed_package_that_runs(environment: Environment) -> None:
    code = "import fcnn_gpu; print(fcnn_gpu.__file__)"
    location = Path(run([environment.python, "-c", code], environment.away).strip()).resolve()
    assert location.is_relative_to(environment.folder)


def test_installed_kernels_are_found(environment: Environment) -> None:
    code = "from fcnn_gpu.backend._kernel_source import kernel_folder, source; print(kernel_folder()); source('adam')"
    assert str(environment.folder) in run([environment.python, "-c", code], environment.away)


def test_it_trains_through_the_api(environment: Environment) -> None:
    code = """
import fcnn_gpu as fcnn
data = fcnn.datasets.load("mnist-mini")
model = fcnn.Sequential([fcnn.Dense(32, activation="relu"), fcnn.Dense(10)], n_in=784, seed=0)
trainer = fcnn.Trainer(model, metrics=["accuracy"])
trainer.fit(data.X_train, data.y_train, epochs=2, batch_size=32)
print(trainer.evaluate(data.X_test, data.y_test)["accuracy"])
model.save("model.safetensors")
assert (fcnn.load("model.safetensors").predict(data.X_test) == model.predict(data.X_test)).all()
"""
    assert float(run([environment.python, "-c", code], environment.away)) > 0.8


def test_it_computes_with_the_kernels_that_came_with_it(environment: Environment) -> None:
    code = "from fcnn_gpu.backend import resolve_backend; ops = resolve_backend(); print(ops.name, ops._library.path)"
    if not COMPILED:
        pytest.skip("there is no C compiler")
    name, path = run([environment.python, "-c", code], environment.away).split()
    assert name == "cpu"
    assert Path(path).resolve().is_relative_to(environment.folder)
    looking_at_no_source = """
from fcnn_gpu.backend import resolve_backend
from fcnn_gpu.backend._compiled import _build
_build.fingerprint = None
assert resolve_backend().name == "cpu"
"""
    run([environment.python, "-c", looking_at_no_source], environment.away)


def test_without_the_kernels_it_computes_on_numpy_and_says_what_to_do(plain_environment: Environment) -> None:
    command: list[str | Path] = [plain_environment.command, "train", "--epochs", "1", "--out", "trained"]
    first = run(command, plain_environment.away, {"CC": "no-such-compiler"}).splitlines()[0]
    assert first.startswith("Backend: CPU (NumPy ")
    reason = "the package was installed without them (there is no C compiler: no-such-compiler was not found)"
    assert f"; without compiled kernels: {reason}. Install a C compiler (" in first
    assert "then run: pip install --force-reinstall --no-deps --no-cache-dir " in first
    doctor = run([plain_environment.command, "doctor", "--json"], plain_environment.away)
    (link,) = (link for link in json.loads(doctor)["cpu"] if link["name"] == "compiled kernels")
    assert link["ok"]
    assert link["detail"] == f"none: {reason}. Networks are trained on NumPy."
    assert "pip install --force-reinstall" in link["fix"]


def test_it_trains_through_the_command(environment: Environment) -> None:
    run([environment.command, "train", "--epochs", "1", "--out", "trained"], environment.away)
    files = {path.name for path in (environment.away / "trained").iterdir()}
    assert "history.csv" in files
    assert any(name.endswith(".safetensors") for name in files)


def test_the_command_says_what_it_can_do(environment: Environment) -> None:
    output = run([environment.command, "--help"], environment.away)
    assert all(command in output for command in ("train", "evaluate", "predict", "doctor"))


def test_importing_loads_no_gpu_or_plotting_library(environment: Environment) -> None:
    code = "import sys; from fcnn_gpu import *; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = set(run([environment.python, "-c", code], environment.away).split())
    assert not loaded & {"cupy", "matplotlib", "scipy", "sklearn", "torch", "pandas", "typer", "rich"}
