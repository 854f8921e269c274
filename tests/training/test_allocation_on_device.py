"""On a device a training step in its steady state allocates nothing, eager or captured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.data._device_data import DeviceData, epoch_order
from fcnn_gpu.losses import LOSSES
from fcnn_gpu.optimizers import OPTIMIZERS
from fcnn_gpu.training._step import TrainingStep
from tests.conftest import cuda_ops
from tests.cuda_on_cpu import missing_compiler
from tests.support.counted import fresh_emulated_ops

BATCH = 24
N_SAMPLES = 3 * BATCH + 10  # the last batch is a smaller one

Count = Callable[[Callable[[], None]], int]
"""How many allocations a call makes."""


def emulated() -> tuple[Ops, Count]:
    reason = missing_compiler()
    if reason:
        pytest.skip(reason)
    ops, counter = fresh_emulated_ops()

    def count(fn: Callable[[], None]) -> int:
        before = counter.n_allocations
        fn()
        return counter.n_allocations - before

    return ops, count


def on_a_gpu() -> tuple[Ops, Count]:
    ops = cuda_ops()
    import cupy

    class Counting(cupy.cuda.MemoryHook):
        """Counts what is asked of CuPy's memory pool."""

        name = "allocations of a training step"

        def __init__(self) -> None:
            super().__init__()
            self.n = 0

        def malloc_preprocess(self, device_id: int, size: int, mem_size: int) -> None:
            self.n += 1

    def count(fn: Callable[[], None]) -> int:
        with Counting() as hook:
            fn()
        return int(hook.n)

    return ops, count


@pytest.fixture(params=[emulated, pytest.param(on_a_gpu, marks=pytest.mark.gpu)], ids=["emulated", "cupy"])
def counted(request: pytest.FixtureRequest) -> tuple[Ops, Count]:
    """A device's primitives, and how many allocations a call makes on it."""
    make: Any = request.param
    return make()


def allocations(
    counted: tuple[Ops, Count],
    *,
    optimizer: Any = "adam",
    loss: Any = "cross_entropy",
    dtype: str = "float32",
    precision: str | None = None,
    capture: bool,
    X_dtype: Any = None,
) -> int:
    """Allocations in two epochs of training after two."""
    ops, count = counted
    layers = [
        fcnn.Dense(20, activation="gelu", l1=1e-4, l2=1e-4),
        fcnn.Dropout(0.3),
        fcnn.BatchNorm(),
        fcnn.Residual([fcnn.LayerNorm(), fcnn.Dense(15, activation="relu")]),
        fcnn.Activation("silu"),
        fcnn.Dense(6),
    ]
    model = fcnn.Sequential(layers, n_in=11, seed=0, dtype=dtype, precision=precision, backend=ops)
    trainer = fcnn.Trainer(model, loss, optimizer)
    rng = np.random.default_rng(0)
    X = (10 * rng.random((N_SAMPLES, 11))).astype(model.dtype if X_dtype is None else X_dtype)
    y: Any = rng.integers(0, 6, N_SAMPLES) if trainer.loss.link == "softmax" else rng.random((N_SAMPLES, 6))
    y = np.round(y) if loss == "hinge" else y
    targets = trainer.loss.prepare_targets(y, 6, model.dtype)
    data = DeviceData(ops, X, targets, np.ones(N_SAMPLES, model.dtype), BATCH, model.input_map)
    step = TrainingStep(model, trainer.loss, trainer.optimizer, data, keep_outputs=True, capture=capture)
    step.set_learning_rates(np.full(4, 1e-3))
    programs = [step.program(BATCH, 2, True), step.program(BATCH, 1, True), step.program(N_SAMPLES % BATCH, 1, True)]
    data.start_epoch(epoch_order(N_SAMPLES, 0, 0, True))

    def epoch() -> None:
        ops.fill(data.cursor, 0)
        ops.fill(step._next_rate, 0)
        for program in programs:
            program()

    model.refresh_low_precision()

    def two_epochs() -> None:
        epoch()
        epoch()

    two_epochs()
    n = count(two_epochs)
    control = trainer.optimizer.control
    assert int(ops.to_numpy(control.failed_step)[0]) == -1
    skipped = 0 if control.loss_scaling is None else int(ops.to_numpy(control.loss_scaling.skipped)[0])
    assert int(ops.to_numpy(control.step)[0]) + skipped == 4 * 4  # the steps did their work
    return n


@pytest.mark.parametrize("capture", [False, True], ids=["eager", "captured"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_layer(counted: tuple[Ops, Count], dtype: str, capture: bool) -> None:
    assert allocations(counted, dtype=dtype, capture=capture) == 0


@pytest.mark.parametrize("capture", [False, True], ids=["eager", "captured"])
@pytest.mark.parametrize("clip", [{}, {"clip_norm": 1e-3}, {"clip_value": 1e-4}], ids=["free", "norm", "value"])
@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_optimizer(counted: tuple[Ops, Count], name: str, clip: dict[str, float], capture: bool) -> None:
    assert allocations(counted, optimizer=OPTIMIZERS.build({"name": name, **clip}), capture=capture) == 0


@pytest.mark.parametrize("capture", [False, True], ids=["eager", "captured"])
@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
def test_every_precision(counted: tuple[Ops, Count], precision: str, capture: bool) -> None:
    assert allocations(counted, precision=precision, capture=capture) == 0


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_loss(counted: tuple[Ops, Count], name: str) -> None:
    assert allocations(counted, loss=name, capture=False) == 0


def test_samples_stored_as_bytes(counted: tuple[Ops, Count]) -> None:
    assert allocations(counted, X_dtype=np.uint8, capture=False) == 0


def test_the_count_sees_an_allocation(counted: tuple[Ops, Count]) -> None:
    ops, count = counted
    assert count(lambda: ops.fill(ops.empty(1000, np.float32), 1.0)) == 1
    x = ops.zeros(1000, np.float32)
    assert count(lambda: ops.fill(ops.copy(x), 1.0)) == 1
    assert count(lambda: ops.fill(x, 1.0)) == 0
