"""Which backend a model gets: names, defaults, the fall-back of "auto"; an explicit choice never falls back."""

from __future__ import annotations

import copy
import logging
import os
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.backend import BackendError, Ops, _select, choose_backend, ops_for, resolve_backend
from fcnn_gpu.backend._compiled import NotCompiledError, load_library

from ..conftest import compiled_ops


@pytest.fixture(autouse=True)
def _no_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """No default from the environment or an earlier test, and no GPU that another test has found."""
    monkeypatch.setenv("FCNN_BACKEND", "")  # which `set_backend` changes, and the end of the test restores
    monkeypatch.setattr(_select, "_default", None)
    monkeypatch.setattr(_select, "_inherited", None)
    monkeypatch.setattr(_select, "_announced", set())
    monkeypatch.setattr(_select, "_cupy", {})


class FakeGPU(Ops):
    name = "cupy:0"


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: int) -> Ops:
        raise BackendError(f"device {device}: no driver. Install one.")

    monkeypatch.setattr("fcnn_gpu.backend._cupy.make_cupy_ops", fail)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pretend that there are GPUs; the devices that were asked for."""
    asked: list[int] = []

    def make(device: int) -> Ops:
        asked.append(device)
        return FakeGPU()

    monkeypatch.setattr("fcnn_gpu.backend._cupy.make_cupy_ops", make)
    return asked


def test_numpy_is_one_shared_instance() -> None:
    assert resolve_backend("numpy") is resolve_backend("numpy")
    assert resolve_backend("numpy").name == "numpy"
    assert "NumPy" in resolve_backend("numpy").describe()
    assert repr(resolve_backend("numpy")) == "<Ops numpy>"


def test_ops_are_taken_as_they_are() -> None:
    ops = Ops()
    assert resolve_backend(ops) is ops
    assert fcnn.Sequential([fcnn.Dense(1)], n_in=1, backend=ops).ops is ops


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernels, which have not been loaded yet."""
    compiled_ops()
    monkeypatch.setattr(_select, "_compiled", None)


@pytest.fixture
def not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise NotCompiledError("there are none", "Run: make")

    monkeypatch.setattr(_select, "_compiled", None)
    monkeypatch.setattr("fcnn_gpu.backend._compiled.load_library", fail)


@pytest.mark.usefixtures("no_gpu", "compiled")
def test_auto_falls_back_and_says_once_why(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fcnn_gpu"):
        assert resolve_backend("auto").name == "cpu"
        assert resolve_backend().name == "cpu"
    assert [record.getMessage() for record in caplog.records] == [
        f"fcnn_gpu computes on the {compiled_ops().describe()}: device 0: no driver. Install one."
    ]


NOT_COMPILED = "fcnn_gpu computes on NumPy, without its compiled kernels: there are none. Run: make"


@pytest.mark.usefixtures("no_gpu", "not_compiled")
def test_without_compiled_kernels_it_is_numpy_and_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fcnn_gpu"):
        assert resolve_backend("cpu") is resolve_backend("auto") is resolve_backend("numpy")
        assert resolve_backend("cpu").name == "numpy"
    assert [record.getMessage() for record in caplog.records] == [
        NOT_COMPILED,
        f"fcnn_gpu computes on the {Ops().describe()}: device 0: no driver. Install one.",
    ]


@pytest.mark.usefixtures("no_gpu", "not_compiled")
def test_a_program_says_itself_what_it_computes_on(caplog: pytest.LogCaptureFixture) -> None:
    missing = "without compiled kernels: there are none. Run: make"
    assert choose_backend("cpu", "--backend")[1] == f"as --backend cpu says; {missing}"
    fault = "no CUDA device can be used: device 0: no driver. Install one"
    assert choose_backend("auto", "--backend")[1] == f"{fault}; {missing}"
    assert not caplog.records


@pytest.mark.usefixtures("not_compiled", "gpu")
def test_what_needs_no_compiled_kernels_says_nothing_of_them(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("numpy", "cupy", "auto"):
        resolve_backend(name)
    assert not caplog.records


@pytest.mark.usefixtures("compiled")
def test_the_level_is_chosen_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = load_library().levels
    try:
        load_library.cache_clear()
        monkeypatch.setenv("FCNN_CPU_LEVEL", levels[-1])
        assert f"compiled kernels for {levels[-1]}" in resolve_backend("cpu").describe()
        load_library.cache_clear()
        monkeypatch.setattr(_select, "_compiled", None)
        monkeypatch.setenv("FCNN_CPU_LEVEL", "avx2")
        expected = f"FCNN_CPU_LEVEL expects an instruction level that this CPU has, {' or '.join(levels)}, got 'avx2'."
        with pytest.raises(ValueError, match=expected):
            resolve_backend("cpu")
        assert resolve_backend("numpy").name == "numpy"
    finally:
        load_library.cache_clear()


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["cupy", "cupy:0", "cupy:1"])
def test_an_explicit_gpu_never_falls_back(name: str) -> None:
    with pytest.raises(BackendError, match="no driver"):
        resolve_backend(name)


def test_auto_and_cupy_take_the_gpu_and_keep_one_instance_per_device(gpu: list[int]) -> None:
    first = resolve_backend("auto")
    assert first is resolve_backend("cupy") is resolve_backend("cupy:0")
    assert resolve_backend("cupy:12") is not first
    assert gpu == [0, 12]


@pytest.mark.usefixtures("gpu")
def test_the_default_is_set_backends_then_the_environments_then_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_backend().name == "cupy:0"
    monkeypatch.setenv("FCNN_BACKEND", "numpy")
    assert resolve_backend().name == "numpy"
    fcnn.set_backend("cupy")
    assert resolve_backend().name == "cupy:0"
    assert os.environ["FCNN_BACKEND"] == "cupy", "which a process that is started now inherits"
    monkeypatch.setattr(_select, "_default", None)
    monkeypatch.setenv("FCNN_BACKEND", "")
    assert resolve_backend().name == "cupy:0"


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("CPU", "cpu"), ("host", "cpu"), ("gpu", "cupy"), ("cuda", "cupy"), ("nunpy", "numpy"), ("cuppy:1", "cupy:1")],
)
def test_an_unknown_name_is_answered_by_what_was_meant(wrong: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"backend does not know {wrong!r}. Did you mean {meant!r}"):
        resolve_backend(wrong)
    with pytest.raises(ValueError, match=f"set_backend does not know {wrong!r}"):
        fcnn.set_backend(wrong)
    assert _select._default is None


@pytest.mark.parametrize("wrong", ["cupy:-1", "cupy:", "cupy:a", "", 0, True])
def test_what_is_no_backend_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="backend does not know"):
        resolve_backend(wrong)


def test_a_wrong_environment_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCNN_BACKEND", "torch")
    with pytest.raises(ValueError, match="The environment variable FCNN_BACKEND does not know 'torch'"):
        resolve_backend()


def test_the_backend_of_an_array() -> None:
    assert ops_for(np.zeros(1)).name == "numpy"
    np.testing.assert_array_equal(fcnn.to_numpy(np.arange(3)), [0, 1, 2])
    with pytest.raises(TypeError, match="Expected a NumPy or a CuPy array, got list"):
        fcnn.to_numpy([1, 2])


@pytest.mark.usefixtures("gpu")
def test_the_backend_of_a_device_array() -> None:
    class Device:
        id = 3

    class DeviceArray:
        device = Device()

    assert ops_for(DeviceArray()) is resolve_backend("cupy:3")


def test_a_copied_model_stays_on_its_backend() -> None:
    model = fcnn.Sequential([fcnn.Dense(1)], n_in=1, backend="numpy")
    assert copy.deepcopy(model).ops is model.ops
