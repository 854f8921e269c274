"""Running out of memory: the error says what is the matter and what helps, and nothing stays behind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.backend import _cpu
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.backend._ops import _numpy as primitives
from fcnn_gpu.memory._out_of_memory import is_out_of_memory
from tests.cuda_on_cpu import missing_compiler
from tests.support.counted import Counter, fresh_emulated_ops

KIB = 1024


class PoolIsEmpty(MemoryError):
    """As CuPy's, which is a MemoryError with this text."""

    def __init__(self, size: int) -> None:
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: 1 bytes).")


PoolIsEmpty.__module__ = "cupy.cuda.memory"


class Device:
    """An emulated device with so many bytes of memory (and cuBLAS's workspaces beside them)."""

    def __init__(self, limit: int) -> None:
        reason = missing_compiler()
        if reason:
            pytest.skip(reason)
        made: tuple[Any, Counter] = fresh_emulated_ops()
        self.ops, counter = made
        self.counter = counter
        self.limit = limit + counter.nbytes
        self.runtime = self.ops._runtime
        library = self.ops.xp
        for name in ("empty", "zeros"):
            vars(library)[name] = self._limited(getattr(library, name))
        self.runtime.free_memory = lambda: self.limit - counter.nbytes

    def _limited(self, function: Any) -> Any:
        def call(shape: Any, dtype: Any) -> Any:
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            if self.counter.held + size > self.limit and self.counter.nbytes + size > self.limit:
                raise PoolIsEmpty(size)
            return function(shape, dtype)

        return call


def network(ops: Any, **options: Any) -> fcnn.Sequential:
    layers = [fcnn.Dense(40, activation="relu"), fcnn.BatchNorm(), fcnn.Dropout(0.2), fcnn.Dense(3)]
    return fcnn.Sequential(layers, n_in=10, seed=0, backend=ops, **options)


X = np.random.default_rng(0).normal(size=(600, 10)).astype(np.float32)
Y = np.arange(600) % 3


def state(model: fcnn.Sequential) -> dict[str, Any]:
    arrays = {**model.named_arrays(), "random_step": model.random_step}
    return {name: model.ops.to_numpy(array).copy() for name, array in arrays.items()}


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array, name)


def caught(fn: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(fcnn.OutOfMemoryError) as info:
        fn(*args, **options)
    assert isinstance(info.value.__cause__, MemoryError)
    message = str(info.value)
    assert "\n" not in message
    return message


def test_a_model_that_does_not_fit() -> None:
    device = Device(4 * KIB)
    layers = [fcnn.Dense(100), fcnn.Dense(3)]
    message = caught(fcnn.Sequential, layers, n_in=10, seed=0, backend=device.ops)
    assert message.startswith(
        "Sequential ran out of memory on CUDA kernels executed on the CPU: 5.5 KiB were asked for, "
    )
    assert " are free now. Its 1,403 parameters take 5.5 KiB, their gradients as much and" in message
    assert device.runtime.released >= 1
    device.limit += 100 * KIB
    fcnn.Sequential(layers, n_in=10, seed=0, backend=device.ops)  # the layers are free again


def test_a_batch_that_does_not_fit() -> None:
    device = Device(150 * KIB)
    model = network(device.ops)
    trainer = fcnn.Trainer(model)
    before, used = state(model), device.counter.nbytes
    with pytest.raises(fcnn.OutOfMemoryError) as info:
        trainer.fit(X, Y, epochs=1, batch_size=512, progress=False)
    assert device.counter.nbytes == used  # while the error is still held
    assert_same(before, state(model))
    assert int(device.ops.to_numpy(trainer.optimizer.control.step)[0]) == 0
    assert trainer.history.stopped_by in ("error", "epochs")
    message = str(info.value)
    assert re.match(
        r"Trainer\.fit ran out of memory on CUDA .*: [\d.]+ KiB were asked for, [\d.]+ KiB are free", message
    )
    assert "Training in batches of 512 takes " in message
    assert re.search(r": parameters [\d.]+ KiB, gradients [\d.]+ KiB, optimizer [\d.]+ KiB, activations ", message)
    assert "fit(memory_limit=), which streams the data from the host" in message
    assert "precision='bfloat16'" in message
    size = re.search(r"Use batch_size=(\d+), which has room", message)
    assert size is not None
    trainer.fit(X, Y, epochs=2, batch_size=int(size[1]), progress=False)
    assert trainer.history.stopped_by == "epochs"


def test_memory_that_runs_out_in_the_first_step() -> None:
    """After the passes have advanced the count of draws and the running statistics."""
    device = Device(4000 * KIB)
    model = network(device.ops)
    trainer = fcnn.Trainer(model)
    before = state(model)
    update = trainer.optimizer._update

    def fails(*args: Any) -> None:
        raise PoolIsEmpty(3)

    vars(trainer.optimizer)["_update"] = fails
    message = caught(trainer.fit, X, Y, epochs=1, batch_size=50, progress=False)
    assert "3 B were asked for" in message
    assert_same(before, state(model))
    vars(trainer.optimizer)["_update"] = update
    trainer.fit(X, Y, epochs=1, batch_size=50, progress=False)
    fresh = fcnn.Trainer(network(device.ops))
    fresh.fit(X, Y, epochs=1, batch_size=50, progress=False)
    assert_same(state(fresh.model), state(model))


def test_memory_that_runs_out_later_keeps_what_was_learned() -> None:
    device = Device(4000 * KIB)
    model = network(device.ops)
    trainer = fcnn.Trainer(model)

    class Grow(fcnn.Callback):
        def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
            self.learned = state(trainer.model)
            raise PoolIsEmpty(5)

    grow = Grow()
    caught(trainer.fit, X, Y, epochs=3, batch_size=50, progress=False, callbacks=[grow])
    assert_same(grow.learned, state(model))
    assert int(device.ops.to_numpy(trainer.optimizer.control.step)[0]) == 12


def test_inference_and_evaluation() -> None:
    device = Device(100 * KIB)
    model = network(device.ops)
    trainer = fcnn.Trainer(model)
    used = device.counter.nbytes
    for call, who in (
        (lambda: model.predict(X), "Inference"),
        (lambda: trainer.predict(X), "Inference"),
        (lambda: model.forward(X), "model.forward"),
        (lambda: model.forward(X, training=True), "model.forward"),
        (lambda: trainer.evaluate(X, Y), "Trainer.evaluate"),
    ):
        message = caught(call)
        assert message.startswith(f"{who} ran out of memory on CUDA kernels")
        assert device.counter.nbytes == used
    assert "evaluate(memory_limit=)" in message
    size = re.search(r"Inference in batches of 600 .* Use batch_size=(\d+), which has room", caught(model.predict, X))
    assert size is not None
    assert model.predict(X, batch_size=int(size[1])).shape == (600, 3)
    model._workspace.release()
    device.limit = device.counter.nbytes
    assert "Use a smaller batch_size" in caught(model.predict, X)


def test_an_error_that_is_none_passes() -> None:
    device = Device(4000 * KIB)
    trainer = fcnn.Trainer(network(device.ops))
    with pytest.raises(ValueError, match="expects X of shape"):
        trainer.fit(X[:, :3], Y)
    with pytest.raises(ValueError, match="expects X of shape"):
        trainer.model.forward(X[:, :3])


def test_a_layer_that_cannot_be_predicted() -> None:
    class Odd(fcnn.Layer):
        def forward(self, A0: Any, cache: Any, training: bool) -> Any:
            np.sort(A0)  # memory_report cannot follow this
            raise MemoryError

    model = fcnn.Sequential([Odd(), fcnn.Dense(2)], n_in=10, seed=0, backend=Ops())
    message = caught(model.forward, X)
    assert message.startswith("model.forward ran out of memory on the host")
    assert message.endswith("Use a smaller batch_size.")


def test_weights_beyond_the_host() -> None:
    with pytest.raises(fcnn.OutOfMemoryError) as info:
        fcnn.Sequential([fcnn.Dense(10**7, placement="device")], n_in=10**7, backend="numpy")
    assert str(info.value).startswith("Sequential ran out of memory on the host: 727.6 TiB were asked for, ")
    assert "on the host they are drawn in float64" in str(info.value)


class SmallHost(Ops):
    """NumPy with no room for arrays of more than so many bytes."""

    class Library:
        def __init__(self, limit: int) -> None:
            self.limit = limit

        def empty(self, shape: Any, dtype: Any) -> Any:
            if int(np.prod(shape)) * np.dtype(dtype).itemsize > self.limit:
                np.empty(2**55, dtype)  # NumPy's own error
            return primitives.empty(shape, dtype)

        def __getattr__(self, name: str) -> Any:
            return getattr(primitives, name)

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.xp = self.Library(limit)


def test_a_batch_beyond_the_host() -> None:
    model = network(SmallHost(263_000), dtype="float64")
    before = state(model)
    trainer = fcnn.Trainer(model)
    many = np.tile(X, (3, 1)), np.tile(Y, 3)
    message = caught(trainer.fit, *many, batch_size=1000, progress=False)
    assert message.startswith("Trainer.fit ran out of memory on the host: ")
    assert "Training in batches of 1,000 takes" in message
    assert "Sequential(dtype='float32')" in message
    assert "memory_limit" not in message
    assert_same(before, state(model))
    assert model._workspace.nbytes == 0
    trainer.fit(X, Y, epochs=1, batch_size=100, progress=False)


def test_buffers_of_a_batch_that_failed_are_not_in_the_way() -> None:
    model = network(SmallHost(70_000))
    with pytest.raises(MemoryError):
        model.batch_arrays(500, training=True)
    assert model._workspace.nbytes == 0
    model.batch_arrays(100, training=True)
    assert model._workspace._held[True].arrays.capacity == 100


def error_named(name: str, text: str) -> Exception:
    return type(name, (RuntimeError,), {})(text)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (error_named("CUDARuntimeError", "cudaErrorMemoryAllocation: out of memory"), True),
        (error_named("CUDADriverError", "CUDA_ERROR_OUT_OF_MEMORY: out of memory"), True),
        (error_named("CublasError", "cublasCreate_v2: CUBLAS_STATUS_ALLOC_FAILED"), True),
        (error_named("CUDARuntimeError", "cudaErrorIllegalAddress: an illegal memory access"), False),
        (error_named("OtherError", "cudaErrorMemoryAllocation"), False),
        (ValueError("OUT_OF_MEMORY"), False),
    ],
    ids=str,
)
def test_what_counts_as_running_out(error: Exception, is_one: bool) -> None:
    assert is_out_of_memory(error) == is_one


def test_available_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "meminfo"
    monkeypatch.setattr(_cpu, "_MEMORY_INFO", info)
    assert _cpu.available_memory() is None
    info.write_text("MemTotal:  2000 kB\nMemAvailable:    1234 kB\n")
    assert _cpu.available_memory() == 1234 * 1024
    info.write_text("MemTotal:  2000 kB\n")
    assert _cpu.available_memory() is None
