"""Every way of computing a Dense layer's products and passes gives what the reference does, whichever is chosen."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._cublas import CublasError
from fcnn_gpu.backend._kernel_ops._dense import _SEPARATE
from fcnn_gpu.backend._kernel_ops._matrix import LT_NAMES
from fcnn_gpu.backend._ops import ELEMENTWISE, Ops

from ..support.op_cases import matrix
from ..support.tolerances import assert_close

ml_dtypes = pytest.importorskip("ml_dtypes")

DTYPES = [np.dtype(t) for t in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)]
SHAPES = [(8, 5, 3), (16, 7, 33), (1, 1, 1), (24, 70, 130)]
"""n_out, n_in, batch"""
FUSED = ("identity", "relu", "gelu_tanh")
"""What cuBLASLt has an epilogue for."""


def wide(dtype: Any) -> Any:
    """The dtype of biases and gradients of parameters, and of the reference."""
    return np.dtype(np.float64) if dtype == np.float64 else np.dtype(np.float32)


def draw(rng: np.random.Generator, *shape: int) -> HostArray:
    return np.round(rng.normal(size=shape) * 16) / 16  # exact in 16 bits


def attempt(work: Any, way: str) -> bool:
    """Whether the device can compute this so: the first way always, an epilogue or a mix of types perhaps not."""
    try:
        work()
    except CublasError as error:
        if way in (_SEPARATE, "cublas") or not error.unsupported:
            raise
        return False
    return True


FORWARD = [(kind, way) for kind in FUSED for way in (_SEPARATE, *LT_NAMES[:2])]
FORWARD += [(kind, "tiled") for kind, f in ELEMENTWISE.items() if f.from_output and kind != "exp"]  # beyond float16


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("kind", "way"), FORWARD)
def test_forward(device_ops: Ops, kind: str, way: str, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    ops: Any = device_ops
    reference: Any = Ops()
    for n_out, n_in, batch in SHAPES:
        if kind == "gelu_tanh" and n_out % 8 and way != _SEPARATE:
            continue
        W, A0, bias = draw(rng, n_out, n_in), draw(rng, n_in, batch), draw(rng, n_out, 1)
        for b in (bias, None):
            if kind == "identity" and b is None and way in LT_NAMES:
                continue
            results = []
            for backend, t in ((reference, wide(dtype)), (ops, dtype)):
                Z = backend.matrix(n_out, batch, t)
                out = Z if ELEMENTWISE[kind].from_output else backend.matrix(n_out, batch, t)
                shift = None if b is None else backend.asarray(b, wide(dtype))
                gain = 1.0 if way == "tiled" else 0.25  # exact in 16 bits
                given = (matrix(backend, W, t), matrix(backend, A0, t), shift, kind, 0.25, Z, out, gain)
                if backend is reference:
                    backend.dense_forward(*given)
                elif not attempt(partial(ops._forward, way, *given), way):
                    pytest.skip(f"{way} does not have {kind} in {dtype} on this device")
                results.append((backend.to_numpy(Z), backend.to_numpy(out)))
            for expected, actual in zip(*results, strict=True):
                assert_close(actual, expected, "elementwise", f"{kind} by {way} at {n_out}, {n_in}, {batch}")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("way", [_SEPARATE, *LT_NAMES[:2]])
@pytest.mark.parametrize("kind", ["identity", "relu", "gelu_tanh", "tanh"])
@pytest.mark.parametrize("in_place", [False, True])
def test_backward(device_ops: Ops, kind: str, way: str, dtype: Any, in_place: bool) -> None:
    rng = np.random.default_rng(0)
    ops: Any = device_ops
    reference: Any = Ops()
    for n_out, n_in, batch in SHAPES:
        dA, A0 = draw(rng, n_out, batch), draw(rng, n_in, batch)
        saved = np.maximum(draw(rng, n_out, batch), 0) / 4
        results = []
        for backend, t in ((reference, wide(dtype)), (ops, dtype)):
            gradient = matrix(backend, dA, t)
            dZ = gradient if in_place else backend.matrix(n_out, batch, t)
            dW, db = backend.matrix(n_out, n_in, wide(dtype)), backend.empty((n_out, 1), wide(dtype))
            kept, of_layer = matrix(backend, saved, t), matrix(backend, A0, t)
            if backend is reference:
                W = matrix(backend, np.zeros((n_out, n_in)), t)
                backend.dense_backward(gradient, kept, kind, 0.0, W, of_layer, dZ, dW, db)
            else:
                given = (gradient, kept, kind, 0.0, of_layer, dZ, dW, db)
                if not attempt(partial(ops._backward, way, *given), way):
                    pytest.skip(f"{way} does not have bias gradients in {dtype} on this device")
            results.append([backend.to_numpy(x) for x in (dZ, dW, db)])
        expected, actual = results
        assert_close(actual[0], expected[0], "elementwise", f"dZ of {kind} by {way}")
        # dZ has been rounded to 16 bits before the sums, which are kept in float32.
        for name, x, y in zip(("dW", "db"), actual[1:], expected[1:], strict=True):
            scale = np.abs(y).max() + 1
            unit = {2: 2.0**-8, 4: 2.0**-20, 8: 2.0**-48}[dtype.itemsize]
            np.testing.assert_allclose(x, y, rtol=0, atol=8 * unit * scale, err_msg=f"{name} of {kind} by {way}")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("way", ["cublas", *LT_NAMES[:2], "tiled"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_gemm(device_ops: Ops, way: str, dtype: Any, order: str) -> None:
    rng = np.random.default_rng(0)
    for m, k, n in SHAPES:
        A, B = draw(rng, m, k), draw(rng, k, n)
        for out_dtype in {dtype, wide(dtype)}:
            out = device_ops.matrix(m, n, out_dtype) if order == "F" else device_ops.empty((m, n), out_dtype)
            ops: Any = device_ops
            of_device = matrix(ops, A, dtype), ops.asarray(B, dtype)
            if not attempt(partial(ops._run_gemm, way, *of_device, out), way):
                pytest.skip(f"{way} does not multiply {dtype} into {out_dtype} on this device")
            assert_close(device_ops.to_numpy(out), A @ B, "elementwise", f"{way} at {m}, {k}, {n} into {out_dtype}")
