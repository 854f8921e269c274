"""`fused_forward`: what the layers one by one give, from flat buffers in every dtype, and refusals that say why."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fcnn_gpu._types import Array, HostArray
from fcnn_gpu.backend import set_autotune
from fcnn_gpu.backend._ops import Ops, StackLayer

from ..cuda_on_cpu import missing_compiler
from ..support.emulated import make_emulated_ops
from ..support.tolerances import UNIT

needs_compiler = pytest.mark.skipif(missing_compiler() is not None, reason=str(missing_compiler()))


def make_layers(ops: Ops, widths: tuple[int, ...], dtype: Any) -> tuple[list[StackLayer], Array, Array]:
    """Random ReLU layers with weights in one flat buffer, in `dtype`, and biases behind float32 weights in another."""
    rng = np.random.default_rng(sum(widths))
    shapes = list(itertools.pairwise(widths))
    n_weights = sum(a * b for a, b in shapes)
    values = rng.normal(size=n_weights + sum(widths[1:]))
    values[:n_weights] *= 0.2
    weights, values = ops.asarray(values[:n_weights], dtype), ops.asarray(values, np.float32)
    layers, w, b = [], 0, n_weights
    for n_in, n_out in shapes:
        W = weights[w : w + n_in * n_out].reshape(n_in, n_out).T
        layers.append(StackLayer(W, values[b : b + n_out].reshape(n_out, 1), "relu"))
        w, b = w + W.size, b + n_out
    return layers, weights, values


def samples(ops: Ops, n_in: int, batch: int, dtype: Any) -> Array:
    return ops.asarray(np.random.default_rng(batch).normal(size=(batch, n_in)), dtype).T


@pytest.mark.parametrize("batch", [1, 33, 16 * 264])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_a_stack_on_a_device_in_every_dtype(device_ops: Ops, dtype: Any, batch: int) -> None:
    widths = (20, 65, 30, 4) if batch < 100 else (5, 4, 3)
    obstacle = device_ops.fusion_obstacle(widths, dtype)
    if obstacle is not None and "sm_80" in obstacle:
        pytest.skip(obstacle)
    assert obstacle is None
    layers, weights, values = make_layers(device_ops, widths, dtype)
    A0 = samples(device_ops, widths[0], batch, dtype)
    out = device_ops.matrix(widths[-1], batch, dtype)
    device_ops.fused_forward(device_ops.dense_stack(layers, weights, values), A0, out)
    unit = UNIT[np.dtype(dtype).name]
    A: HostArray = device_ops.to_numpy(A0).astype(np.float64)
    error: Any = 0.0
    for layer in layers:
        W = device_ops.to_numpy(layer.W).astype(np.float64)
        z = W @ A + device_ops.to_numpy(layer.b)
        size = np.abs(W) @ np.abs(A) + np.abs(z)
        error = np.abs(W) @ (error + np.zeros_like(A)) + unit * np.abs(z) + 100 * UNIT["float32"] * size
        A = np.maximum(z, 0).astype(dtype).astype(np.float64)
    assert (np.abs(device_ops.to_numpy(out).astype(np.float64) - A) <= error + unit * np.abs(A)).all()


def test_the_reference_is_one_layer_after_another() -> None:
    ops = Ops()
    layers, weights, values = make_layers(ops, (6, 5, 4), np.float32)
    A0, out = samples(ops, 6, 7, np.float32), ops.matrix(4, 7, np.float32)
    ops.fused_forward(ops.dense_stack(layers, weights, values), A0, out)
    A = A0
    for layer in layers:
        B = ops.matrix(layer.W.shape[0], 7, np.float32)
        ops.dense_forward(layer.W, A, layer.b, "relu", 0.0, B, B)
        A = B
    np.testing.assert_array_equal(out, A)


def test_refusals_of_every_backend(ops: Ops) -> None:
    layers, weights, values = make_layers(ops, (6, 5, 4), np.float32)
    with pytest.raises(ValueError, match="at least one layer"):
        ops.dense_stack([], weights, values)
    with pytest.raises(ValueError, match=r"W of layer 1 has shape \(5, 6\), but layer 0 has 4 units"):
        ops.dense_stack(layers[::-1], weights, values)
    with pytest.raises(ValueError, match=r"no activation 'rely'\. Did you mean 'relu'"):
        ops.dense_stack([replace(layers[0], kind="rely")], weights, values)
    with pytest.raises(ValueError, match="last layer's A goes to"):
        ops.dense_stack([*layers[:1], replace(layers[1], A=ops.matrix(4, 2, np.float32))], weights, values)


@needs_compiler
def test_refusals_of_a_device() -> None:
    ops = make_emulated_ops()
    layers, weights, values = make_layers(ops, (6, 5, 4), np.float32)
    with pytest.raises(ValueError, match=r"W of layer 1 does not lie in weights, the flat buffer of 40 elements"):
        ops.dense_stack(layers, weights[:40], values)
    with pytest.raises(ValueError, match="W of layer 0 does not lie in weights"):
        ops.dense_stack(layers, weights[1:], values)
    with pytest.raises(ValueError, match=r"b of layer 0 must be .* biases, which holds float64; got float32"):
        ops.dense_stack(layers, weights, ops.asarray(np.zeros(99)))
    with pytest.raises(ValueError, match="W of layer 0 must be an F-ordered view of weights"):
        ops.dense_stack([replace(layers[0], W=layers[0].W.T)], weights, values)
    saved = ops.zeros(20, np.float32)
    beyond = replace(layers[0], A=saved[10:20].reshape(2, 5).T)
    with pytest.raises(ValueError, match="A of layer 0 does not lie in saved, the flat buffer of 19 elements"):
        ops.dense_stack([beyond, layers[1]], weights, values, saved[:19])


@needs_compiler
@pytest.mark.parametrize(
    ("widths", "dtype", "message"),
    [
        ((784, 128, 10), np.float32, None),
        ((10_000, 1), np.float16, None),
        ((8, 129, 2), np.float32, "129 units is too wide .* up to 128"),
        ((8,) * 33, np.float32, None),
        ((8,) * 34, np.float32, "33 layers are too many .* up to 32"),
        ((8, 8), np.float64, "float64 are no single kernel; that takes float32, float16, bfloat16"),
    ],
)
def test_obstacles(widths: tuple[int, ...], dtype: Any, message: str | None) -> None:
    ops = make_emulated_ops()
    obstacle = ops.fusion_obstacle(widths, dtype)
    if message is None:
        assert obstacle is None
        return
    with pytest.raises(AssertionError, match=message):
        assert obstacle is None, obstacle
    layers, weights, values = make_layers(ops, widths, dtype)
    with pytest.raises(ValueError, match=message):
        ops.dense_stack(layers, weights, values)


@needs_compiler
def test_a_gpu_that_is_too_old_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    ops = make_emulated_ops()
    monkeypatch.setattr(ops._runtime, "compute_capability", lambda: 75)
    obstacle = ops.fusion_obstacle((8, 8), ml_dtypes.bfloat16)
    assert obstacle == "a single kernel in bfloat16 needs a GPU of architecture sm_80 or later."
    assert ops.fusion_obstacle((8, 8), np.float16) is None


def test_on_numpy_there_is_nothing_to_fuse() -> None:
    assert "NumPy has no launches to save" in str(Ops().fusion_obstacle((8, 8), np.float32))


@needs_compiler
@pytest.mark.parametrize(("fused_seconds", "pays"), [(1.0, True), (3.0, False)])
def test_what_was_timed_to_be_faster_pays(
    monkeypatch: pytest.MonkeyPatch, fused_seconds: float, pays: bool, tmp_path: Path
) -> None:
    ops = make_emulated_ops()
    layers, weights, values = make_layers(ops, (6, 5, 4), np.float32)
    stack = ops.dense_stack(layers, weights, values)
    A0, out = samples(ops, 6, 7, np.float32), ops.matrix(4, 7, np.float32)
    calls: list[str] = []

    def timed(clock: Any, runs: dict[str, Any]) -> dict[str, float]:
        seconds = {}
        for name, run in runs.items():
            calls.clear()
            run()
            seconds[name] = fused_seconds if calls == ["fused_mlp"] else 2.0
        return seconds

    launch = ops._launcher.launch

    def noted(stem: str, *arguments: Any, **options: Any) -> None:
        calls.append(stem)
        launch(stem, *arguments, **options)

    monkeypatch.setattr("fcnn_gpu.backend._autotune._times", timed)
    monkeypatch.setattr("fcnn_gpu.backend._autotune._setting", None)  # put back after the test
    monkeypatch.setattr(ops._launcher, "launch", noted)
    choices = tmp_path / "choices.json"
    for setting in ("on", str(choices), str(choices)):  # the last from the file
        set_autotune(setting)
        assert ops.fusion_pays(stack, A0, out) is pays
        assert ops.fusion_pays(stack, A0[:, :0], out[:, :0]) is False  # nothing to compute
    set_autotune("off")
    assert ops.fusion_pays(stack, A0, out) is False  # not timed


def test_nothing_pays_on_numpy() -> None:
    ops = Ops()
    layers, weights, values = make_layers(ops, (6, 5, 4), np.float32)
    stack = ops.dense_stack(layers, weights, values)
    assert not ops.fusion_pays(stack, samples(ops, 6, 7, np.float32), ops.matrix(4, 7, np.float32))
