"""The forward pass of a small network in one kernel, and layer by layer.

On a GPU both are recorded into a CUDA graph, as in training, so that what is timed is the device's work.
`forward_passes` gives the two to any other way of timing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.backend._ops import Ops, StackLayer
from fcnn_gpu.bench.operations._time import Unsupported, numpy_dtype

FUSED, SEPARATE = "one kernel", "layer by layer"
WIDTHS = ((64, 64, 64, 10), (784, 128, 10), (32, 128, 128, 128, 128, 1))
BATCHES = (32, 256, 2048, 16_384)
_LARGEST_DEVIATION = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 2e-1}
"""Of the two from each other, relative to the largest output: layers round in between, and may round apart."""


def forward_passes(
    ops: Ops, dtype: str, widths: tuple[int, ...], batch: int, keep: bool = False, seed: int = 0
) -> dict[str, Callable[[], None]]:
    """Both ways to compute the outputs of the same ReLU layers for the same samples, each ready to be repeated.

    `keep`: hidden activations are kept for a backward pass, as in training. Raises Unsupported where layers of these
    widths are no single kernel in this dtype, RuntimeError if the two do not agree.
    """
    element = numpy_dtype(dtype)
    obstacle = ops.fusion_obstacle(widths, element)
    if obstacle is not None:
        raise Unsupported(obstacle)
    rng = np.random.default_rng(seed)
    shapes = list(itertools.pairwise(widths))
    drawn = [rng.normal(size=(n_in, n_out)) / np.sqrt(n_in) for n_in, n_out in shapes]
    weights = ops.asarray(np.concatenate([W.ravel() for W in drawn]), element)
    biases = ops.asarray(0.1 * rng.normal(size=sum(widths[1:])), np.float64 if element == np.float64 else np.float32)
    hidden = ops.empty(sum(widths[1:-1]) * batch, element)
    one_by_one, w, b, h = [], 0, 0, 0
    for n_in, n_out in shapes:
        W, bias = weights[w : w + n_in * n_out].reshape(n_in, n_out).T, biases[b : b + n_out].reshape(n_out, 1)
        is_last = b + n_out == biases.size
        A = None if is_last else hidden[h : h + n_out * batch].reshape(batch, n_out).T
        one_by_one.append(StackLayer(W, bias, "identity" if is_last else "relu", A=A))
        w, b, h = w + n_in * n_out, b + n_out, h + n_out * batch
    kept = one_by_one if keep else [StackLayer(x.W, x.b, x.kind) for x in one_by_one]
    stack = ops.dense_stack(kept, weights, biases, hidden if keep else None)
    A0 = ops.asarray(rng.normal(size=(batch, widths[0])), element).T
    outputs = {way: ops.matrix(widths[-1], batch, element) for way in (FUSED, SEPARATE)}

    def separate() -> None:
        A = A0
        for layer in one_by_one:
            B = outputs[SEPARATE] if layer.A is None else layer.A
            ops.dense_forward(layer.W, A, layer.b, layer.kind, layer.alpha, B, B)
            A = B

    passes = {FUSED: lambda: ops.fused_forward(stack, A0, outputs[FUSED]), SEPARATE: separate}
    for run in passes.values():
        run()
    found, expected = (ops.to_numpy(outputs[way]).astype(np.float64) for way in (FUSED, SEPARATE))
    deviation = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not deviation <= _LARGEST_DEVIATION.get(dtype, 1e-4):
        raise RuntimeError(f"{widths} at {batch} in {dtype}: the two passes differ by {deviation:.1e} of the outputs.")
    return passes


@pytest.mark.parametrize("way", [FUSED, SEPARATE])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("widths", WIDTHS, ids=lambda w: "-".join(map(str, w)))
def test_fused_mlp(benchmark: Any, ops: Ops, dtype: str, widths: tuple[int, ...], batch: int, way: str) -> None:
    try:
        run = ops.capture(forward_passes(ops, dtype, widths, batch, keep=True)[way])
    except Unsupported as reason:
        pytest.skip(f"{'-'.join(map(str, widths))} in {dtype}: {reason}")
    run()  # the second call records the graph
    run()
    benchmark.group = f"{'-'.join(map(str, widths))}, batch {batch}"
    flops = 2.0 * batch * sum(n_in * n_out for n_in, n_out in itertools.pairwise(widths))
    benchmark.extra_info.update(device=ops.describe(), dtype=dtype, flops=flops)

    def run_and_wait() -> None:
        run()
        ops.synchronize()

    benchmark(run_and_wait)
