"""Planning of BLAS calls: all orders and sizes, against a column-major BLAS that sees addresses only."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._gemm import GemmPlan, plan_gemm

from .emulated import emulated_gemm
from .tolerances import assert_close

LAYOUTS = ("C", "F", "C-rows", "C-columns", "F-rows", "F-columns")
"""Contiguous, and slices of rows or of columns of a larger matrix."""


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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("out_order", ["C", "F"])
@pytest.mark.parametrize(("order_a", "order_b"), list(itertools.product(LAYOUTS, LAYOUTS)))
def test_every_layout(order_a: str, order_b: str, out_order: str, dtype: Any) -> None:
    gemm, rng = emulated_gemm(), np.random.default_rng(0)
    for m, k, n in [(3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 5), (1, 4, 1), (3, 1, 1), (1, 1, 1)]:
        A, B = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
        out = laid_out(np.full((m, n), np.nan, dtype), out_order)
        gemm(laid_out(A, order_a), laid_out(B, order_b), out)
        assert_close(out, A @ B, "sum")
        gemm(laid_out(A, order_a), laid_out(B, order_b), out, beta=1.0)
        assert_close(out, 2 * (A @ B), "sum")


@given(
    m=st.integers(0, 5),
    k=st.integers(1, 5),
    n=st.integers(0, 5),
    orders=st.lists(st.sampled_from("CF"), min_size=3, max_size=3),
)
@settings(deadline=None)
def test_any_size_even_empty(m: int, k: int, n: int, orders: list[str]) -> None:
    A, B = laid_out(np.ones((m, k)), orders[0]), laid_out(np.full((k, n), 2.0), orders[1])
    out = laid_out(np.full((m, n), np.nan), orders[2])
    gemm = emulated_gemm()
    gemm(A, B, out)
    np.testing.assert_array_equal(out, np.full((m, n), 2.0 * k))
    gemm(A, B, out, beta=1.0)
    np.testing.assert_array_equal(out, np.full((m, n), 4.0 * k))


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
    with pytest.raises(TypeError, match="one dtype, got A float32, B float64"):
        plan_gemm(np.ones((2, 2), np.float32), np.ones((2, 2)), np.ones((2, 2)))
    half = np.ones((2, 2), np.float16)
    with pytest.raises(TypeError, match="float32 and float64 matrices, got float16"):
        emulated_gemm()(half, half, half.copy())


def test_more_elements_than_a_blas_index_counts() -> None:
    long = np.lib.stride_tricks.as_strided(np.ones(1, np.float32), (2**31, 1), (4, 4))
    with pytest.raises(ValueError, match="too large for one product"):
        plan_gemm(long, np.ones((1, 1), np.float32), long)
