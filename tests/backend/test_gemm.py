"""Planning of BLAS calls: all orders and sizes, against a column-major BLAS that sees addresses only."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._cublas import CublasError, CublasProducts
from fcnn_gpu.backend._cublas._plan import GemmPlan, plan_gemm

from ..cublas_on_cpu import NumpyHost, cublas_on_cpu
from ..cuda_on_cpu import missing_compiler
from ..support.tolerances import UNIT

ml_dtypes = pytest.importorskip("ml_dtypes")

LAYOUTS = ("C", "F", "C-rows", "C-columns", "F-rows", "F-columns")
"""Contiguous, and slices of rows or of columns of a larger matrix."""

HALVES = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
DTYPES = [(np.dtype(t), np.dtype(t)) for t in (np.float32, np.float64)]
DTYPES += [(t, t) for t in HALVES] + [(t, np.dtype(np.float32)) for t in HALVES]
"""(of the factors, of the result)"""


def laid_out(x: HostArray, layout: str) -> HostArray:
    """x in the named layout, with NaN around a slice: reading beyond it shows."""
    rows, columns = x.shape
    order: Any = layout[0]
    if layout.endswith("rows"):
        whole = np.full((rows + 3, columns), np.nan, x.dtype, order=order)
        view = whole[1 : rows + 1]
    elif layout.endswith("columns"):
        whole = np.full((rows, columns + 3), np.nan, x.dtype, order=order)
        view = whole[:, 2 : columns + 2]
    else:
        whole = view = np.empty((rows, columns), x.dtype, order=order)
    view[...] = x
    return view


def products(tf32: bool = False, stream: list[int] | None = None) -> CublasProducts:
    """Products of NumPy arrays through the binding; skips the test where no C++ compiler is to be had."""
    reason = missing_compiler()
    if reason:
        pytest.skip(reason)
    found = CublasProducts(cublas_on_cpu(), NumpyHost(stream or [0]))
    return found.with_precision("tf32") if tf32 else found


def reference(A: HostArray, B: HostArray) -> HostArray:
    return A.astype(np.float64) @ B.astype(np.float64)


def assert_rounded(actual: HostArray, expected: HostArray) -> None:
    """Equal up to some roundings of the result: the emulated library adds up in float64.

    Of float64 the reference has roundings of its own, in an order that depends on NumPy's BLAS, and terms that cancel.
    """
    assert actual.shape == expected.shape
    tolerance = (
        (64 if actual.dtype == np.float64 else 4)
        * UNIT[actual.dtype.name]
        * max(1.0, float(np.abs(expected).max(initial=0.0)))
    )
    np.testing.assert_allclose(actual.astype(np.float64), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("dtype", "out_dtype"), DTYPES)
@pytest.mark.parametrize("out_order", ["C", "F"])
@pytest.mark.parametrize(("order_a", "order_b"), list(itertools.product(LAYOUTS, LAYOUTS)))
def test_every_layout(order_a: str, order_b: str, out_order: str, dtype: Any, out_dtype: Any) -> None:
    gemm, rng = products().gemm, np.random.default_rng(0)
    for m, k, n in [(3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 5), (1, 4, 1), (3, 1, 1), (1, 1, 1)]:
        A, B = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
        out = laid_out(np.full((m, n), np.nan, out_dtype), out_order)
        gemm(laid_out(A, order_a), laid_out(B, order_b), out)
        assert_rounded(out, reference(A, B))
        gemm(laid_out(A, order_a), laid_out(B, order_b), out, beta=1.0)
        assert_rounded(out, 2 * reference(A, B))


@given(
    m=st.integers(1, 7),
    k=st.integers(1, 7),
    n=st.integers(1, 7),
    layouts=st.lists(st.sampled_from(LAYOUTS), min_size=3, max_size=3),
    alpha=st.sampled_from([1.0, -1.0, 0.5, 3.0]),
    beta=st.sampled_from([0.0, 1.0, -2.0, 0.25]),
    dtypes=st.sampled_from(DTYPES),
)
@settings(deadline=None, max_examples=300)
def test_any_product(
    m: int, k: int, n: int, layouts: list[str], alpha: float, beta: float, dtypes: tuple[Any, Any]
) -> None:
    rng = np.random.default_rng(m + 10 * k + 100 * n)
    dtype, out_dtype = dtypes
    A, B = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
    before = np.full((m, n), np.nan) if beta == 0 else rng.normal(size=(m, n))
    out = laid_out(before.astype(out_dtype), layouts[2])
    expected = alpha * reference(A, B) + (beta * out.astype(np.float64) if beta else 0)
    around = out.base.copy() if out.base is not None else None
    products().gemm(laid_out(A, layouts[0]), laid_out(B, layouts[1]), out, alpha, beta)
    assert_rounded(out, expected)
    if around is not None and out.base is not None:  # nothing beside a slice was written
        np.testing.assert_array_equal(np.isnan(out.base).sum(), np.isnan(around).sum() - np.isnan(before).sum())


def test_an_empty_product_is_the_callers() -> None:
    for A, B in ((np.ones((2, 0)), np.ones((0, 3))), (np.ones((0, 2)), np.ones((2, 3)))):
        with pytest.raises(ValueError, match="the caller writes an empty result"):
            products().gemm(A, B, np.ones((A.shape[0], B.shape[1])))


def test_only_tf32_rounds_the_factors_of_float32() -> None:
    x = np.float32(1 + 2.0**-12)  # 12 bits of mantissa: one more than TF32 rounds to
    A, B, out = np.full((1, 1), x), np.ones((1, 1), np.float32), np.empty((1, 1), np.float32)
    plain = products()
    rough = plain.with_precision("tf32")
    plain.gemm(A, B, out)
    assert out[0, 0] == x
    rough.gemm(A, B, out)
    assert out[0, 0] == 1.0
    rough.matmul(A, B, out)
    assert out[0, 0] == 1.0
    rough.with_precision("bfloat16").gemm(A, B, out)  # says what the matrices are, and is no TF32
    assert out[0, 0] == x
    assert rough.with_precision("tf32") is rough
    assert rough.with_precision(None) is plain


def test_sums_of_16_bit_products_are_kept_in_32_bits() -> None:
    A, B = np.full((1, 4096), 1.0, np.float16), np.full((4096, 1), 1.0, np.float16)
    A[0, 0] = 4096.0  # where float16 counts by 4
    out, wide = np.empty((1, 1), np.float16), np.empty((1, 1), np.float32)
    products().gemm(A, B, out)
    products().gemm(A, B, wide)
    assert (out[0, 0], wide[0, 0]) == (np.float16(8191), np.float32(8191))


def test_an_output_that_is_an_operand_is_refused() -> None:
    A = np.ones((3, 3))
    with pytest.raises(CublasError, match=r"cublasGemmEx: CUBLAS_STATUS_INVALID_VALUE. float64 \(3, 3\) by .* report"):
        products().gemm(A, np.ones((3, 3)), A)


def test_tf32_is_left_to_float32() -> None:
    out = np.empty((2, 2))
    products(tf32=True).gemm(np.ones((2, 2)), np.ones((2, 2)), out)  # float64
    np.testing.assert_array_equal(out, np.full((2, 2), 2.0))


def test_dense_layers_products_need_no_transposed_copy() -> None:
    W, A0, dZ = np.empty((50, 100)), np.empty((32, 100)).T, np.empty((32, 50)).T
    assert plan_gemm(W, A0, dZ) == GemmPlan(False, True, False, 50, 32, 100, 100, 100, 50)
    assert plan_gemm(dZ, A0.T, W) == GemmPlan(True, False, True, 100, 50, 32, 100, 50, 100)
    assert plan_gemm(W.T, dZ, A0) == GemmPlan(False, False, False, 100, 32, 50, 100, 50, 100)


@pytest.mark.parametrize(
    ("A", "B", "out"),
    [
        (np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 3))),
        (np.ones((2, 3)), np.ones((3, 4)), np.ones((4, 2))),
        (np.ones(3), np.ones((3, 4)), np.ones((1, 4))),
    ],
)
def test_shapes_that_do_not_fit(A: HostArray, B: HostArray, out: HostArray) -> None:
    with pytest.raises(ValueError, match=r"gemm expects A \(m, k\), B \(k, n\) and out \(m, n\), got"):
        plan_gemm(A, B, out)


@pytest.mark.parametrize(
    "strided", [np.ones((6, 8))[::2, ::2], np.ones((3, 4))[:, ::-1], np.broadcast_to(np.ones((3, 1)), (3, 4))]
)
def test_layouts_that_blas_cannot_read(strided: HostArray) -> None:
    with pytest.raises(ValueError, match=r"gemm expects A in C or F order .* got shape \(3, 4\) with strides"):
        plan_gemm(strided, np.ones((4, 2)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="gemm expects out in C or F order"):
        plan_gemm(np.ones((3, 2)), np.ones((2, 4)), strided)


def test_dtypes() -> None:
    with pytest.raises(TypeError, match=r"one dtype .* got A float32, B float64"):
        plan_gemm(np.ones((2, 2), np.float32), np.ones((2, 2)), np.ones((2, 2)))
    half, wide = np.ones((2, 2), np.float16), np.ones((2, 2))
    with pytest.raises(TypeError, match=r"one dtype .* A float16, B float16 and out float64"):
        plan_gemm(half, half, wide)
    with pytest.raises(TypeError, match=r"one dtype .* A float64, B float64 and out float32"):
        plan_gemm(wide, wide, np.ones((2, 2), np.float32))
    whole = np.ones((2, 2), np.int64)
    with pytest.raises(TypeError, match="float32, float64, float16, bfloat16 matrices, got int64"):
        products().gemm(whole, whole, whole.copy())


def test_more_elements_than_a_blas_index_counts() -> None:
    long = np.lib.stride_tricks.as_strided(np.ones(1, np.float32), (2**31, 1), (4, 4))
    with pytest.raises(ValueError, match="too large for one product"):
        plan_gemm(long, np.ones((1, 1), np.float32), long)
