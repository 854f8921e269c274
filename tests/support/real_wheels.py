"""Python environments with the real CuPy and NVIDIA's libraries, as the README recommends them, and broken copies.

Much of the way to a GPU can be walked without one: installing, importing, finding libraries and headers. The
interpreters are this one, where CuPy and NVIDIA's wheels are installed beside it, and those that the variable
FCNN_CUDA_PYTHONS names.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
VARIABLE = "FCNN_CUDA_PYTHONS"
HOW_TO = (
    "No environment has CuPy's real wheels. Make some: python -m venv cuda12 && cuda12/bin/pip install '.[cuda12]', "
    f"the same with 13, and name their interpreters: export {VARIABLE}=cuda12/bin/python{os.pathsep}cuda13/bin/python"
)


def _installed(*packages: str) -> bool:
    try:
        return all(importlib.metadata.version(package) for package in packages)
    except importlib.metadata.PackageNotFoundError:
        return False


def _interpreters() -> list[str]:
    named = [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    here = _installed("cupy-cuda12x", "nvidia-cublas-cu12") or _installed("cupy-cuda13x", "nvidia-cublas")
    return [*named, sys.executable] if here else named


INTERPRETERS = _interpreters()

ENVIRONMENTS = [pytest.param(name, id=Path(name).absolute().parents[1].name) for name in INTERPRETERS]
"""For `pytest.mark.parametrize`; where there are none, one that `check` refuses."""
if not ENVIRONMENTS:
    ENVIRONMENTS = [pytest.param("", id="none")]


def check(python: str) -> None:
    """Skip the test where there is no environment; in CI (which sets the variable CI) that is a failure."""
    if not python and os.environ.get("CI"):
        pytest.fail(HOW_TO)
    if not python:
        pytest.skip(HOW_TO)


def run_in(python: str | Path, program: str, variables: Mapping[str, str] | None = None) -> Any:
    """What `program` assigns to `result`, as JSON; it runs on this repository's files, with warnings as errors.

    No device is visible to it, whatever this machine has.
    """
    code = f"import json\n{program}\nprint('\\n' + json.dumps(result))"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("CUPY_", "FCNN_", "PYTHON"))
    }
    environment |= {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""} | dict(variables or {})
    command = [str(python), "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT / "docs", env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@functools.cache
def site_packages(python: str) -> Path:
    """Where an interpreter's environment has its packages."""
    return Path(run_in(python, "import sysconfig; result = sysconfig.get_path('purelib')"))


def broken_copy(python: str, folder: Path, without: Sequence[str] = (), beside: Sequence[Path] = ()) -> Path:
    """The interpreter of a copy of an environment, by links: real files in their real layout, but for some.

    Args:
        python: the environment's interpreter.
        folder: where the copy is made.
        without: patterns of what to leave out, such as "nvidia/*/lib/libcublas.so*".
        beside: files and folders to add to NVIDIA's, such as another environment's nvidia/cu13.
    """
    subprocess.run([python, "-m", "venv", "--without-pip", "--symlinks", str(folder)], check=True)
    copy = folder / "bin" / "python"
    source, target = site_packages(python), site_packages(str(copy))
    for path in source.iterdir():
        _link(path, target / path.name, source, without)
    for path in beside:
        (target / "nvidia" / path.name).symlink_to(path)
    return copy


def _link(path: Path, to: Path, root: Path, without: Sequence[str]) -> None:
    name = path.relative_to(root).as_posix()
    if any(fnmatch(name, pattern) for pattern in without):
        return
    inside = name.count("/") + 1
    if path.is_dir() and any(fnmatch(name, "/".join(pattern.split("/")[:inside])) for pattern in without):
        to.mkdir()
        for inner in path.iterdir():
            _link(inner, to / inner.name, root, without)
    else:
        to.symlink_to(path)
