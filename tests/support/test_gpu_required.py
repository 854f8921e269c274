"""`pytest -m gpu` in processes of its own: what it says and how it ends, with and without a device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CONFTEST = """
from tests.support.gpu_required import require_gpu

def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: needs a GPU")
    require_gpu(config, lambda: {fault!r})
"""
TESTS = """
import pytest

needs_gpu = getattr(pytest.mark, "gpu")

@needs_gpu
def test_two_devices():
    pytest.skip("one device alone")

@needs_gpu
def test_one_device():
    pass

def test_no_device():
    pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with tests of its own, on a machine whose device is in order."""
    (tmp_path / "conftest.py").write_text(CONFTEST.format(fault=None), encoding="utf-8")
    (tmp_path / "test_devices.py").write_text(TESTS, encoding="utf-8")
    return tmp_path


def pytest_in(folder: Path, *arguments: str) -> tuple[int, str]:
    """(exit status, what it printed)"""
    variables = os.environ | {
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "",  # no device is visible, whatever this machine has
        "PYTEST_ADDOPTS": "",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=variables)
    return done.returncode, done.stdout + done.stderr


def test_without_a_device_it_fails_with_the_link(project: Path) -> None:
    (project / "conftest.py").write_text(CONFTEST.format(fault="no CUDA device: NVIDIA driver: none."), "utf-8")
    status, said = pytest_in(project, "-m", "gpu")
    assert (status, said.strip()) == (4, "ERROR: -m 'gpu' asks for a GPU: no CUDA device: NVIDIA driver: none.")
    assert pytest_in(project, "-m", "not slow")[0] == 0  # nobody asked for one


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n1")], ids=["one process", "xdist"])
def test_where_everything_is_skipped_it_fails_with_the_reasons(project: Path, options: tuple[str, ...]) -> None:
    status, said = pytest_in(project, "-m", "gpu", "-k", "two_devices", *options)
    assert status == 1
    assert "nothing ran on the GPU" in said
    assert "1 x Skipped: one device alone" in said


def test_where_something_runs_it_passes(project: Path) -> None:
    status, said = pytest_in(project, "-m", "gpu")
    assert (status, "nothing ran" in said) == (0, False)


def test_the_projects_own_tests_fail_with_the_probes_link() -> None:
    status, said = pytest_in(ROOT, "-m", "gpu", "tests/data/test_streaming.py")
    assert status == 4
    assert said.startswith("ERROR: -m 'gpu' asks for a GPU: no CUDA device: ")
    assert ("CuPy package: " in said) or ("NVIDIA driver: " in said) or ("CUDA device: " in said)
