"""Fixtures that all tests share: the primitives of every backend that this machine can run."""

from __future__ import annotations

import functools
import gc
import importlib.util
import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from fcnn_gpu.backend._ops import Ops
from tests.cuda_on_cpu import missing_compiler
from tests.software_cuda import option as software_cuda_option
from tests.support import faults as faults_option
from tests.support.cli_cases import Command, Output, save_no_picture
from tests.support.gpu_required import require_gpu
from tests.support.measured_cases import leave_unmeasured
from tests.support.whole_runs import pytest_cmdline_main as pytest_cmdline_main

collect_ignore = [] if importlib.util.find_spec("torch") else ["support/torch_equivalents.py"]
"""What pytest imports in search of doctests and cannot import without PyTorch, which is optional."""


os.environ.setdefault("FCNN_AUTOTUNE", "off")  # which candidate is fastest changes from run to run: tests choose it
hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no fault of a test
hypothesis.settings.load_profile("untimed")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # JAX compiles longer than these nets train


if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell starts what runs in the background so
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or programs that tests send Ctrl-C would never see it


def pytest_addoption(parser: pytest.Parser) -> None:
    software_cuda_option.add_option(parser)
    faults_option.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        compile_kernels()
    software_cuda_option.configure(config)
    require_gpu(config, no_cuda_device)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Said once, where a skip for each of thousands of tests would say it."""
    reason = None if "gpu" in config.option.markexpr else no_cuda_device()
    return f"tests on a GPU are left out: {reason}" if reason else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes gigabytes, and what needs a GPU that is not there, unless the marker is asked for."""
    leave_out(config, items, "large")
    if no_cuda_device() and not all(item.get_closest_marker("gpu") for item in items):
        leave_out(config, items, "gpu")
    leave_unmeasured(config, items)


def pass_over_what_is_there() -> None:
    """Let the garbage collector pass over it from now on: `gc.collect`, which tests call often, looks at the rest."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        pass_over_what_is_there()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """After a file: the libraries that its tests have imported stay."""
    if nextitem is not None and nextitem.path != item.path:
        pass_over_what_is_there()


def leave_out(config: pytest.Config, items: list[pytest.Item], marker: str) -> None:
    if marker in config.option.markexpr:
        return
    left = [item for item in items if item.get_closest_marker(marker)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if not item.get_closest_marker(marker)]


def compile_kernels() -> None:
    """Compile this checkout's kernels before the first test, as an installation does, if it can."""
    from fcnn_gpu.backend._compiled import BuildError, build_in_checkout

    try:
        build_in_checkout()
    except BuildError:
        if os.environ.get("CI"):
            raise


@functools.cache
def numpy_ops() -> Ops:
    return Ops()


@functools.cache
def compiled_ops() -> Ops:
    """The compiled primitives, built from this checkout; skips the test where no C compiler is to be had, but in CI."""
    from fcnn_gpu.backend._compiled import BuildError, build_in_checkout, load_library
    from fcnn_gpu.backend._compiled_ops import CompiledOps

    try:
        build_in_checkout()
    except BuildError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    return CompiledOps(load_library())


@functools.cache
def emulated_ops() -> Ops:
    """`CupyOps` whose kernels run on the CPU; skips the test where no C++ compiler is to be had."""
    reason = missing_compiler()
    if reason:
        pytest.skip(reason)
    from tests.support.emulated import make_emulated_ops

    return make_emulated_ops()


@functools.cache
def no_cuda_device() -> str | None:
    """Which link to CUDA device 0 fails, or None if it can be used."""
    from fcnn_gpu.backend._probe import failing_link, probe_links

    failed = failing_link(probe_links(0))
    return None if failed is None else f"no CUDA device: {failed.sentence()}"


@functools.cache
def cuda_ops() -> Ops:
    """`CupyOps` on CUDA device 0; skips the test, saying which link fails, where there is none."""
    reason = no_cuda_device()
    if reason:
        pytest.skip(reason)
    from fcnn_gpu.backend._cupy import make_cupy_ops

    return make_cupy_ops(0)


BACKENDS = [
    pytest.param(numpy_ops, id="numpy"),
    pytest.param(compiled_ops, id="cpu"),
    pytest.param(emulated_ops, id="emulated"),
    pytest.param(cuda_ops, id="cupy", marks=pytest.mark.gpu),
]
"""The NumPy reference; the compiled primitives; CupyOps with its kernels executed on the CPU; CupyOps on a GPU."""


@pytest.fixture(params=BACKENDS)
def ops(request: pytest.FixtureRequest) -> Ops:
    """The primitives of each backend in turn."""
    make: Any = request.param
    return make()


@pytest.fixture(params=BACKENDS[1:])
def other_ops(request: pytest.FixtureRequest) -> Ops:
    """What is compared with the NumPy reference: the compiled primitives, and `CupyOps`, emulated and on a GPU."""
    make: Any = request.param
    return make()


@pytest.fixture(params=BACKENDS[2:])
def device_ops(request: pytest.FixtureRequest) -> Ops:
    """`CupyOps`, emulated and on a GPU: what is compared with the NumPy reference."""
    make: Any = request.param
    return make()


@pytest.fixture
def drawn() -> None:
    """Of a test whose pictures are drawn: see `command`."""


@pytest.fixture
def command(
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Command:
    """`fcnn-gpu` on the CPU in an empty folder, in this process: (exit code, standard output, standard error).

    Its pictures are files without one, unless the test asks for `drawn`: to draw them takes three times as long as a
    small run.
    """
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", save_no_picture)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FCNN_BACKEND", "numpy")

    from fcnn_gpu.cli import run

    def call(*arguments: object) -> Output:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
