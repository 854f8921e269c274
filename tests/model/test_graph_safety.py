"""A training step is the same program every time: the same calls on the same memory with the same numbers.

What makes a step replayable is compared directly. One step is written down early in a run and again after others with
another step number, learning rate, place in the data and random counter. If a host value were baked into a call, or an
array made anew, the two would differ.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend import quiet_arithmetic
from fcnn_gpu.backend._compiled import Call
from fcnn_gpu.backend._cublas import CublasProducts
from fcnn_gpu.backend._kernels import Argument
from fcnn_gpu.backend._ops import Ops, _numpy
from fcnn_gpu.data._device_data import DeviceData, epoch_order
from fcnn_gpu.training._step import TrainingStep

from ..conftest import compiled_ops, emulated_ops, numpy_ops
from ..support.emulated import on_host, recorded
from ..support.registry_cases import LAYER_CASES, LOSS_CASES, LayerCase

BATCH, N = 6, 60
_FUNCTION: Any = type(ctypes.CFUNCTYPE(None)()).__mro__[1]


def _described(x: Any) -> Any:
    """A value as something to compare: memory by its place, numbers by their value, other objects by identity."""
    if isinstance(x, np.ndarray):
        array = on_host(x)
        if array.size == 1 and array.base is None:  # a number that a tape froze: the primitives' arrays are views
            return ("number", array.dtype.name, array.tobytes())
        return ("memory", array.ctypes.data, array.shape, array.strides, array.dtype.name)
    if isinstance(x, Call):
        return (x.name, *x.words)
    if isinstance(x, Argument):
        return (x.parameter.name, _described(x.value))
    if isinstance(x, list | tuple):
        return tuple(_described(item) for item in x)
    if isinstance(x, dict):
        return tuple((key, _described(value)) for key, value in x.items())
    if isinstance(x, partial) and isinstance(x.func, _FUNCTION):
        return "product"  # known by a number here; what it multiplies is written down beside
    if isinstance(x, partial):
        return ("call", _described(x.func), _described(x.args), _described(x.keywords))
    if isinstance(x, int | float | str | bool | np.generic | None):
        return repr(x)
    if callable(x):
        owner = getattr(x, "__self__", None)
        name = getattr(x, "__qualname__", repr(x))
        return (name, _described(owner)) if isinstance(owner, np.ndarray) else name
    return (type(x).__name__, id(x))


def _written_down(backend: Ops, step: Callable[[], None]) -> list[Any]:
    if backend.records_python:
        with _numpy.recorded_calls() as tape:
            step()
        return [_described(call) for call in tape._calls]
    products: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("gemm", "matmul"):
            patch.setattr(CublasProducts, name, _spied(getattr(CublasProducts, name), products))
        graph = recorded(step)
    for work in graph:
        work()
    return [*products, *(_described(work) for work in graph)]


def _spied(product: Callable[..., None], calls: list[Any]) -> Callable[..., None]:
    """`product`, which writes down its arguments."""

    def call(*args: Any, **kwargs: Any) -> None:
        calls.append((product.__name__, _described(args), _described(kwargs)))
        product(*args, **kwargs)

    return call


def _assert_fixed(
    backend: Ops,
    layers: list[Any],
    n_in: int,
    loss: Any,
    targets: Any,
    optimizer: Any,
    micro_batch_size: int | None = None,
    recompute: int = False,
    X: HostArray | None = None,
) -> None:
    ops = backend
    model = fcnn.Sequential(layers, n_in=n_in, seed=0, backend=ops, recompute=recompute)
    optimizer = optimizer.bind(model)
    rng = np.random.default_rng(1)
    drawn = rng.normal(size=(N, n_in))
    X = (drawn if X is None else X).astype(np.float32)
    prepared = loss.prepare_targets(targets, model.n_out, model.dtype)
    weights = rng.uniform(0.5, 2.0, N).astype(np.float32)
    data = DeviceData(ops, X, prepared, weights, BATCH)
    training = TrainingStep(model, loss, optimizer, data, True, False, micro_batch_size)
    training.set_learning_rates(np.linspace(1e-3, 1e-4, N // BATCH))
    step = training.program(BATCH, scheduled=True)
    data.start_epoch(epoch_order(N, 0, 0, True))
    with quiet_arithmetic():
        step()  # scratch memory is made
        early = _written_down(ops, step)
        for _ in range(3):
            step()
        late = _written_down(ops, step)
    assert len(early) > 5
    for i, (a, b) in enumerate(zip(early, late, strict=True)):
        assert a == b, f"call {i} of the step changed"
    counters = optimizer.control.step, model.random_step, data.cursor
    assert [int(ops.to_numpy(counter)[0]) for counter in counters] == [6, 6, 36]  # and yet it went on


@pytest.fixture(params=[numpy_ops, compiled_ops, emulated_ops], ids=["numpy", "cpu", "emulated"])
def written_ops(request: pytest.FixtureRequest) -> Ops:
    """The backends whose calls can be written down."""
    make: Callable[[], Ops] = request.param
    return make()


def _labels(n_classes: int) -> Any:
    return np.arange(N) % n_classes


@pytest.mark.parametrize(
    "layer_case", [pytest.param(c, id=f"{name}-{c.label}") for name, cases in LAYER_CASES.items() for c in cases]
)
def test_every_layer(written_ops: Ops, layer_case: LayerCase) -> None:
    layers = [*layer_case.before(), layer_case.make(), fcnn.Dense(3)]
    X = layer_case.inputs(np.random.default_rng(0), N, 5)
    _assert_fixed(written_ops, layers, X.shape[1], fcnn.losses.CrossEntropy(), _labels(3), fcnn.Adam(), X=X)


@pytest.mark.parametrize("activation", sorted(fcnn.activations.ACTIVATIONS))
def test_every_activation(written_ops: Ops, activation: str) -> None:
    first = fcnn.Dense(7, activation=activation, init="normal")  # e to the power of e^z is soon too large
    layers = [first, fcnn.Activation(activation), fcnn.Dense(3)]
    _assert_fixed(written_ops, layers, 5, fcnn.losses.CrossEntropy(), _labels(3), fcnn.SGD())


@pytest.mark.parametrize("loss_case", [pytest.param(c, id=f"{k}-{c.label}") for k, v in LOSS_CASES.items() for c in v])
def test_every_loss(written_ops: Ops, loss_case: Any) -> None:
    targets = loss_case.targets(np.random.default_rng(2), N)
    _assert_fixed(written_ops, [fcnn.Dense(loss_case.n_outputs)], 5, loss_case.loss, targets, fcnn.SGD())


@pytest.mark.parametrize("clip", [{}, {"clip_norm": 0.01}, {"clip_value": 0.001}], ids=["free", "norm", "value"])
@pytest.mark.parametrize("name", list(fcnn.optimizers.OPTIMIZERS))
def test_every_optimizer(written_ops: Ops, name: str, clip: dict[str, Any]) -> None:
    layers = [fcnn.Dense(9, l1=1e-4), fcnn.Dropout(0.3), fcnn.Dense(3, l2=1e-3)]
    optimizer = fcnn.optimizers.OPTIMIZERS[name](**clip)
    _assert_fixed(written_ops, layers, 5, fcnn.losses.CrossEntropy(), _labels(3), optimizer)


@pytest.mark.parametrize("micro_batch_size", [1, 4])
@pytest.mark.parametrize("recompute", [False, 2])
def test_batches_in_parts(written_ops: Ops, micro_batch_size: int, recompute: int) -> None:
    residual = fcnn.Residual([fcnn.Dense(4, activation="gelu"), fcnn.Dense(6)])
    layers = [fcnn.Dense(7, activation="tanh"), fcnn.Dropout(0.3), fcnn.LayerNorm(), residual, fcnn.Dense(3, l2=1e-3)]
    loss, optimizer = fcnn.losses.CrossEntropy(), fcnn.Adam(clip_norm=0.1)
    _assert_fixed(written_ops, layers, 5, loss, _labels(3), optimizer, micro_batch_size, recompute)


@pytest.mark.parametrize("recompute", [1, 2])
def test_running_statistics_beside_recomputation(written_ops: Ops, recompute: int) -> None:
    layers = [fcnn.Dense(7), fcnn.BatchNorm(), fcnn.Activation("relu"), fcnn.Dropout(0.1), fcnn.Dense(3)]
    _assert_fixed(written_ops, layers, 5, fcnn.losses.CrossEntropy(), _labels(3), fcnn.SGD(), None, recompute)


def test_a_host_value_baked_into_a_call_is_found() -> None:
    """The comparison itself: a step that takes its number from Python is no fixed program."""

    class Counting(fcnn.SGD):
        __module__ = "fcnn_gpu"  # of another module it would be called as a whole
        n = 0

        def _update(self, ops: Any, flat: Any, control: Any, state: Any) -> None:
            self.__dict__["n"] = self.n + 1
            ops.scale(flat.gradients, 1.0 / self.n, flat.gradients)
            super()._update(ops, flat, control, state)

    with pytest.raises(AssertionError, match="of the step changed"):
        _assert_fixed(Ops(), [fcnn.Dense(3)], 5, fcnn.losses.CrossEntropy(), _labels(3), Counting())


def test_an_array_made_anew_in_every_step_is_found() -> None:
    class Allocating(fcnn.SGD):
        __module__ = "fcnn_gpu"
        made: Any = ()

        def _update(self, ops: Any, flat: Any, control: Any, state: Any) -> None:
            fresh = ops.copy(flat.gradients)
            self.__dict__["made"] = (*self.made, fresh)  # kept, or the next would get its place
            ops.add(fresh, fresh, flat.gradients)
            super()._update(ops, flat, control, state)

    with pytest.raises(AssertionError, match="of the step changed"):
        _assert_fixed(Ops(), [fcnn.Dense(3)], 5, fcnn.losses.CrossEntropy(), _labels(3), Allocating())
