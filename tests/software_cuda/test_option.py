"""`pytest --software-cuda`: a kernel that breaks the device fails the test that launched it, and no other."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from .environment import environment
from .option import KERNELS, FewerOfKernels
from .required import skip_unless_buildable

ROOT = Path(__file__).parents[2]
CONFTEST = """
from tests.software_cuda import option

pytest_addoption, pytest_configure = option.add_option, option.configure
"""
TESTS = """
import cupy
import pytest

LEAVES = 'extern "C" __global__ void leaves(float* x) { x[10000000] = 1; }'


def launch():
    cupy.RawKernel(LEAVES, "leaves")((1,), (1,), (cupy.zeros(8, "float32"),))


@pytest.fixture
def broken():
    launch()
    cupy.cuda.get_current_stream().synchronize()


@pytest.fixture
def breaks_at_its_end():
    yield
    launch()


def test_bad_and_waits_for_nothing():
    launch()


def test_good_after_it():
    assert float(cupy.ones(3).sum()) == 3


def test_bad_fixture(broken):
    pass


def test_good_after_the_fixture():
    assert float(cupy.ones(3).sum()) == 3


def test_bad_end(breaks_at_its_end):
    pass


def test_good_after_the_end():
    assert float(cupy.ones(3).sum()) == 3


def test_bad_and_last():
    launch()
"""


def test_a_fault_fails_the_test_that_has_queued_it(tmp_path: Path) -> None:
    skip_unless_buildable()
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_kernels.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "--software-cuda", "-p", "no:cacheprovider", "-rA", "--color=no", "-q"]
    made = environment(execution="late")
    made["PYTHONPATH"] = os.pathsep.join([made["PYTHONPATH"], str(ROOT)])
    done = subprocess.run([*command, tmp_path], env=made, cwd=tmp_path, capture_output=True, text=True, check=False)
    outcomes = {
        tuple(line.split(" - ")[0].replace("test_kernels.py::test_", "").split(" ", 1))
        for line in done.stdout.splitlines()
        if "test_kernels.py::test_" in line
    }
    assert outcomes == {
        ("FAILED", "bad_and_waits_for_nothing"),
        ("PASSED", "good_after_it"),
        ("ERROR", "bad_fixture"),
        ("PASSED", "good_after_the_fixture"),
        ("PASSED", "bad_end"),  # its teardown
        ("ERROR", "bad_end"),
        ("PASSED", "good_after_the_end"),
        ("FAILED", "bad_and_last"),
    }, done.stdout + done.stderr


def test_a_process_under_software_cuda_builds_the_same() -> None:
    """Two drivers in one process would each know half of what goes on."""
    skip_unless_buildable()
    made = environment()
    code = "from tests.software_cuda import install\nprint(*install().libraries, sep=':')"
    done = subprocess.run([sys.executable, "-c", code], env=made, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == made["SOFTWARE_CUDA_LIBRARIES"]


class Case:
    """What is asked of a collected test."""

    def __init__(self, path: Path, block: int, dtype: str) -> None:
        self.path, self.nodeid = path, f"{path}::test[{block}-{dtype}]"
        self.callspec = SimpleNamespace(params={"block": block, "dtype": dtype})

    def get_closest_marker(self, name: str) -> str | None:
        return name if name == "gpu" else None


@pytest.mark.parametrize(("path", "stays"), [(KERNELS / "test_add.py", [1, 1, 1, 0, 1, 0]), (Path(__file__), [1] * 6)])
def test_of_the_kernels_own_tests_those_with_something_new_are_left(path: Path, stays: list[int]) -> None:
    cases: Any = [Case(path, block, dtype) for block, dtype in itertools.product((32, 64, 256), ("single", "double"))]
    items, told = list(cases), []
    config: Any = SimpleNamespace(hook=SimpleNamespace(pytest_deselected=lambda items: told.extend(items)))
    FewerOfKernels().pytest_collection_modifyitems(config, items)
    assert items == [case for case, new in zip(cases, stays, strict=True) if new]
    assert {*items, *told} == set(cases)
