"""Networks whose layers run in one launch: the same results, and only where that can be and was timed to be faster."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import Array, HostArray
from fcnn_gpu.backend._cupy import CupyOps
from fcnn_gpu.backend._ops import DenseStack, Ops

from ..support.tolerances import assert_close

Layers = list[Any]


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """One launch is always the faster way; gives the widths of each pass that was one."""
    passes: list[tuple[int, ...]] = []
    fused_forward = CupyOps.fused_forward

    def noted(self: CupyOps, stack: DenseStack, A0: Array, out: Array) -> None:
        passes.append(stack.widths)
        fused_forward(self, stack, A0, out)

    monkeypatch.setattr(CupyOps, "fusion_pays", lambda self, stack, A0, out: True)
    monkeypatch.setattr(CupyOps, "fused_forward", noted)
    return passes


def data(n: int = 50) -> tuple[HostArray, HostArray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 7)).astype(np.float32), rng.integers(0, 3, n)


def plain() -> Layers:
    return [fcnn.Dense(9, activation="gelu"), fcnn.Dense(5, activation="relu", bias=False), fcnn.Dense(3)]


def model_of(ops: Ops, layers: Layers, **options: Any) -> fcnn.Sequential:
    return fcnn.Sequential(layers, n_in=7, seed=1, backend=ops, **options)


def trained(ops: Ops, layers: Layers, **options: Any) -> tuple[fcnn.Sequential, HostArray]:
    X, y = data()
    model = model_of(ops, layers, **options)
    # Adam would make a full step of a gradient that is zero but for rounding.
    trainer = fcnn.Trainer(model, loss="cross_entropy", optimizer=fcnn.SGD(0.3))
    history = trainer.fit(X, y, epochs=3, batch_size=16, validation_data=(X, y), progress=False)  # batches of 16 and 2
    return model, np.array(history.to_dict()["loss"])


def test_predictions(device_ops: Ops, fused: list[tuple[int, ...]]) -> None:
    X, _ = data()
    model, reference = model_of(device_ops, plain()), model_of(Ops(), plain())
    for batch_size in (50, 16):
        assert_close(model.predict(X, batch_size), reference.predict(X, batch_size), "training")
    assert set(fused) == {(7, 9, 5, 3)}


def test_gradients(device_ops: Ops, fused: list[tuple[int, ...]]) -> None:
    """Z of GELU, A of ReLU and the inputs of every layer are where the backward pass looks for them."""
    X, _ = data()
    gradients = []
    for ops in (device_ops, Ops()):
        model = model_of(ops, plain())
        for batch in (30, 50, 11):  # smaller, larger, smaller than the buffers
            outputs = model.forward(X[:batch], training=True)
            model.backward(ops.asarray(np.cos(np.arange(outputs.size, dtype=np.float32)).reshape(outputs.shape)))
            gradients.append(ops.to_numpy(model.flat.gradients).copy())
    assert fused == [(7, 9, 5, 3)] * 3
    for found, expected in zip(gradients[:3], gradients[3:], strict=True):
        assert_close(found, expected, "sum")


def test_training(device_ops: Ops, fused: list[tuple[int, ...]]) -> None:
    X, _ = data()
    (model, losses), (reference, expected) = (trained(ops, plain()) for ops in (device_ops, Ops()))
    assert fused
    assert_close(losses.astype(np.float32), expected.astype(np.float32), "training")
    assert_close(model.predict(X), reference.predict(X), "training")


def test_captured_training_is_eager_training(device_ops: Ops, fused: list[tuple[int, ...]]) -> None:
    X, y = data()
    weights = []
    for capture in (True, False):
        model = model_of(device_ops, plain())
        fcnn.Trainer(model).fit(X, y, epochs=3, batch_size=16, progress=False, capture=capture)
        weights.append(device_ops.to_numpy(model.flat.values).copy())
    assert fused
    np.testing.assert_array_equal(weights[0], weights[1])


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "tf32"])
def test_precisions(device_ops: Ops, fused: list[tuple[int, ...]], precision: str) -> None:
    X, _ = data()
    model, _ = trained(device_ops, plain(), precision=precision)
    if precision == "bfloat16" and device_ops.fusion_obstacle((7, 9), model.compute_dtype) is not None:
        pytest.skip(str(device_ops.fusion_obstacle((7, 9), model.compute_dtype)))
    assert fused
    reference, _ = trained(Ops(), plain())
    unit = 2.0 ** (-8 if precision == "bfloat16" else -11)
    np.testing.assert_allclose(model.predict(X), reference.predict(X), atol=30 * unit)


def test_dropout_is_fused_at_inference_alone(device_ops: Ops, fused: list[tuple[int, ...]]) -> None:
    X, _ = data()
    layers = [fcnn.Dense(9, activation="tanh"), fcnn.Dropout(0.5), fcnn.Dense(3), fcnn.Dropout(0.5)]
    model = model_of(device_ops, layers)
    model.forward(X, training=True)
    assert fused == []
    outputs = model(X)
    assert set(fused) == {(7, 9, 3)}
    reference = model_of(Ops(), [fcnn.Dense(9, activation="tanh"), fcnn.Dropout(0.5), fcnn.Dense(3)])
    assert_close(outputs, reference(X), "training")


class Doubled(fcnn.Dense):
    """A layer of the user's."""

    def forward(self, A0: Array, cache: Any, training: bool) -> Array:
        A = super().forward(A0, cache, training)
        self.ops.scale(A, 2.0, A)
        return A


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [fcnn.Dense(9), fcnn.BatchNorm(), fcnn.Dense(3)],
        lambda: [fcnn.Dense(9), fcnn.Activation("relu"), fcnn.Dense(3)],
        lambda: [fcnn.Residual([fcnn.Dense(7)]), fcnn.Dense(3)],
        lambda: [fcnn.Dense(129), fcnn.Dense(3)],
        lambda: [fcnn.Dense(9), fcnn.Dense(3, activation="softmax")],
        lambda: [Doubled(9), fcnn.Dense(3)],
        lambda: [fcnn.Dropout(0.5)],
    ],
)
def test_other_networks_go_layer_by_layer(device_ops: Ops, fused: list[tuple[int, ...]], layers: Any) -> None:
    X, _ = data()
    model, reference = model_of(device_ops, layers()), model_of(Ops(), layers())
    for each in (model, reference):
        each.forward(X, training=True)
    assert_close(model(X), reference(X), "training")
    assert fused == []


def test_float64_goes_layer_by_layer(device_ops: Ops, fused: list[tuple[int, ...]]) -> None:
    trained(device_ops, plain(), dtype="float64")
    assert fused == []


def test_without_autotuning_nothing_is_fused(device_ops: Ops, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any) -> None:
        raise AssertionError("fused_forward was called")

    monkeypatch.setattr(CupyOps, "fused_forward", refused)
    trained(device_ops, plain())


def test_a_changed_setting_counts(device_ops: Ops, fused: list[tuple[int, ...]]) -> None:
    X, _ = data()
    outputs = []
    for ops in (device_ops, Ops()):
        layers = [fcnn.Dense(9, activation=fcnn.activations.LeakyReLU(0.1)), fcnn.Dense(3)]
        model = model_of(ops, layers)
        outputs.append([model(X)])
        model.layers[0].activation = fcnn.activations.LeakyReLU(0.5)
        outputs[-1].append(model(X))
    assert set(fused) == {(7, 9, 3)}
    for found, expected in zip(*outputs, strict=True):
        assert_close(found, expected, "training")
    assert np.abs(outputs[0][0] - outputs[0][1]).max() > 1e-3


def test_a_method_replaced_on_a_layer_is_called(device_ops: Ops, fused: list[tuple[int, ...]]) -> None:
    X, _ = data()
    model = model_of(device_ops, plain())
    model.forward(X, training=True)
    assert len(fused) == 1
    called: list[bool] = []
    layer: Any = model.layers[1]
    forward = layer.forward

    def traced(A0: Array, cache: Any, training: bool) -> Array:
        called.append(training)
        return forward(A0, cache, training)

    layer.forward = traced
    model.forward(X, training=True)
    assert called == [True]
    assert len(fused) == 1


def test_matrices_of_a_pass_lie_in_one_buffer(device_ops: Ops) -> None:
    model = model_of(device_ops, plain())
    arrays = model.batch_arrays(6, training=True)
    assert arrays.kept is not None
    assert arrays.kept.size == 4 * 128  # Z and A of GELU's layer, A of the others, each up to a multiple of 128
    for batch in (4, 6):
        caches = model.batch_arrays(batch, training=True).caches
        starts = [int(device_ops._runtime.address(c.Z)) for c in caches]  # type: ignore[attr-defined]
        assert np.diff(starts).tolist() == [2 * 512, 512]
    assert model.batch_arrays(6, training=False).kept is None
    assert model_of(Ops(), plain()).batch_arrays(6, training=True).kept is None


def test_at_inference_one_launch_writes_the_outputs_alone(device_ops: Ops, fused: list[tuple[int, ...]]) -> None:
    X, _ = data()
    model = model_of(device_ops, plain())
    arrays = model.batch_arrays(50, training=False)
    for cache in arrays.caches[:-1]:
        device_ops.fill(cache.Z, 7.0)
        device_ops.fill(cache.A, 7.0)
    model(X, 50)
    assert fused
    for cache in arrays.caches[:-1]:
        assert (device_ops.to_numpy(cache.Z) == 7).all()
        assert (device_ops.to_numpy(cache.A) == 7).all()


def test_timing_takes_no_scratch_memory(device_ops: Ops, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways leave what they compute where the pass itself would."""
    chosen: list[Any] = []

    def choose(self: Any, problem: Any, question: Any, clock: Any) -> str:
        asked = question()
        if problem[0] == "fused_forward":
            for way in asked.candidates.values():
                way(*asked.trial())
            chosen.append(problem)
        return next(iter(asked.candidates))

    monkeypatch.setattr("fcnn_gpu.backend._autotune.Autotuner.choose", choose)
    tags: list[str] = []
    scratch = CupyOps.scratch

    def noted(self: CupyOps, tag: str, *arguments: Any) -> Array:
        tags.append(tag)
        return scratch(self, tag, *arguments)

    monkeypatch.setattr(CupyOps, "scratch", noted)
    trained(device_ops, plain())
    assert len(chosen) >= 3  # two batch sizes of training, one of evaluation
    assert not [tag for tag in tags if tag.startswith("fused")]
