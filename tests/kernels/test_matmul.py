"""matmul.cu: the tiled product in every order, with its epilogue, in one piece and in chunks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf, expit

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.backend._tiled_matmul import tiled_matmul

from .helpers import FLOATS, HALVES, accumulator, assert_rounded, poisoned

SHAPES = [(1, 1, 1), (2, 1, 5), (50, 32, 100), (10, 128, 784), (65, 63, 17), (64, 128, 16), (129, 130, 33), (200, 3, 1)]
"""m, n, k."""

F32 = np.dtype(np.float32)


def matrix(rows: int, columns: int, dtype: np.dtype[Any], order: str, seed: int) -> HostArray:
    values = np.random.default_rng(seed).normal(size=(rows, columns)).astype(dtype)
    return np.asarray(values, order="C" if order == "C" else "F")


def summed_in(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type of a bias: what products are added up in."""
    return F32 if dtype.itemsize == 2 else dtype


def assert_product(
    out: HostArray, A: HostArray, B: HostArray, extra: HostArray | float = 0.0, *, relu: bool = False
) -> None:
    a, b = A.astype(np.float64), B.astype(np.float64)
    exact = a @ b + extra
    size = np.abs(a) @ np.abs(b) + np.abs(extra)
    exact = np.maximum(exact, 0) if relu else exact
    assert_rounded(out, exact, roundings=A.shape[1] + 2, scale=size)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("order_a", "CF")
@pytest.mark.parametrize("order_b", "CF")
@pytest.mark.parametrize("order_out", "CF")
@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_every_order(
    launcher: Launcher, dtype: np.dtype[Any], order_a: str, order_b: str, order_out: str, m: int, n: int, k: int
) -> None:
    A, B = matrix(m, k, dtype, order_a, 1), matrix(k, n, dtype, order_b, 2)
    out = poisoned((m, n), dtype, order_out)
    tiled_matmul(launcher, A, B, out)
    assert_product(out, A, B)


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize(("m", "n", "k"), [*SHAPES, (7, 9, 0)])
def test_bias_and_relu(launcher: Launcher, dtype: np.dtype[Any], m: int, n: int, k: int) -> None:
    A, B, bias = matrix(m, k, dtype, "C", 3), matrix(k, n, dtype, "F", 4), matrix(m, 1, summed_in(dtype), "C", 5)
    out = poisoned((m, n), dtype)
    tiled_matmul(launcher, A, B, out, bias=bias, activation="RELU")
    assert_product(out, A, B, bias.astype(np.float64), relu=True)


@pytest.mark.parametrize(("m", "n"), [(0, 5), (5, 0), (0, 0)])
def test_empty(launcher: Launcher, m: int, n: int) -> None:
    tiled_matmul(launcher, np.ones((m, 4), F32), np.ones((4, n), F32), poisoned((m, n), F32))


ACTIVATIONS: dict[str, Callable[[HostArray, float], HostArray]] = {
    "IDENTITY": lambda z, a: z,
    "SIGMOID": lambda z, a: expit(z),
    "TANH": lambda z, a: np.tanh(z),
    "RELU": lambda z, a: np.maximum(z, 0),
    "LEAKY_RELU": lambda z, a: np.where(z > 0, z, a * z),
    "ELU": lambda z, a: np.where(z > 0, z, a * np.expm1(z)),
    "SELU": lambda z, a: 1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * np.expm1(z)),
    "GELU": lambda z, a: 0.5 * z * (1 + erf(z / math.sqrt(2))),
    "GELU_TANH": lambda z, a: 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
    "SILU": lambda z, a: z * expit(z),
    "SOFTPLUS": lambda z, a: np.logaddexp(z, 0),
    "MISH": lambda z, a: z * np.tanh(np.logaddexp(z, 0)),
    "HARDSWISH": lambda z, a: z * np.clip(z + 3, 0, 6) / 6,
    "SIN": lambda z, a: np.sin(z),
    "EXP": lambda z, a: np.exp(z),
}


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(launcher: Launcher, name: str, dtype: np.dtype[Any]) -> None:
    A, B, bias = matrix(20, 9, dtype, "C", 6), matrix(9, 30, dtype, "F", 7), matrix(20, 1, summed_in(dtype), "C", 8)
    if name == "EXP":  # which multiplies errors by its value
        A, bias = (A / 32).astype(A.dtype), bias / 32
    out = poisoned((20, 30), dtype)
    tiled_matmul(launcher, A, B, out, bias=bias, activation=name, alpha=0.25)
    z = A.astype(np.float64) @ B.astype(np.float64) + bias.astype(np.float64)
    size = np.abs(A.astype(np.float64)) @ np.abs(B.astype(np.float64)) + np.abs(bias.astype(np.float64))
    # Every slope and every function's ratio to |z| + 1 is below 1.8; 32 roundings leave room for exp and erf.
    assert_rounded(out, ACTIVATIONS[name](z, 0.25), roundings=32, scale=size + 1)


def test_every_activation_of_the_enum_is_tested(launcher: Launcher) -> None:
    assert [launcher.constant("matmul", name) for name in ACTIVATIONS] == list(range(len(ACTIVATIONS)))
    with pytest.raises(ValueError, match=r"knows no constant 'reul'. Did you mean|Known names"):
        launcher.constant("matmul", "reul")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_goes_through(launcher: Launcher, name: str) -> None:
    A, B, out = np.full((2, 1), np.nan, F32), np.ones((1, 3), F32), poisoned((2, 3), F32)
    out[:] = 1
    tiled_matmul(launcher, A, np.asfortranarray(B), out, activation=name)
    assert np.isnan(out).all()


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("bounds", [(0, 100), (0, 16, 100), (0, 1, 33, 34, 100)])
def test_chunks_of_the_inner_dimension(launcher: Launcher, dtype: np.dtype[Any], bounds: tuple[int, ...]) -> None:
    """Chunks of a C-ordered A are views with a leading dimension; the sum between calls is not rounded to a half."""
    m, n, k = 70, 33, 100
    A, B, bias = matrix(m, k, dtype, "C", 9), matrix(k, n, dtype, "F", 10), matrix(m, 1, summed_in(dtype), "C", 11)
    out, sum_so_far = poisoned((m, n), dtype), poisoned((m, n), accumulator(dtype))
    for i, (begin, end) in enumerate(itertools.pairwise(bounds)):
        last, addend = end == k, sum_so_far if i else None
        tiled_matmul(
            launcher,
            A[:, begin:end],
            B[begin:end],
            out if last else sum_so_far,
            bias=bias if last else None,
            activation="RELU" if last else "IDENTITY",
            addend=addend,
        )
    assert_product(out, A, B, bias.astype(np.float64), relu=True)


def test_adds_to_out_in_place(launcher: Launcher) -> None:
    A, B, out = matrix(30, 5, F32, "F", 12), matrix(5, 40, F32, "C", 13), matrix(30, 40, F32, "C", 14)
    before = out.astype(np.float64)
    tiled_matmul(launcher, A, B, out, addend=out)
    assert_product(out, A, B, before)


@pytest.mark.parametrize("max_blocks", [1, 2, 7])
def test_any_grid_gives_the_same_bits(make_launcher: Callable[..., Launcher], max_blocks: int) -> None:
    A, B = matrix(150, 40, F32, "C", 15), matrix(40, 200, F32, "F", 16)
    full, limited = poisoned((150, 200), F32), poisoned((150, 200), F32)
    tiled_matmul(make_launcher(), A, B, full)
    tiled_matmul(make_launcher(max_blocks=max_blocks), A, B, limited)
    np.testing.assert_array_equal(full, limited)


@pytest.mark.parametrize("order_a", "CF")
@pytest.mark.parametrize("order_b", "CF")
def test_large_tiles(launcher: Launcher, order_a: str, order_b: str) -> None:
    """128 large tiles and more: the float32 kernel with 8×8 sums a thread."""
    A, B = matrix(1100, 20, F32, order_a, 17), matrix(20, 1900, F32, order_b, 18)
    out = poisoned((1100, 1900), F32)
    tiled_matmul(launcher, A, B, out)
    assert_product(out, A, B)


def test_views_with_leading_dimensions_leave_the_rest_alone(launcher: Launcher) -> None:
    whole = poisoned((60, 50), F32)
    A, B = matrix(80, 90, F32, "C", 19)[5:25, 3:40], matrix(90, 80, F32, "F", 20)[7:44, 9:39]
    tiled_matmul(launcher, A, B, whole[10:30, 4:34])
    assert_product(whole[10:30, 4:34], A, B)
    outside = np.ones(whole.shape, bool)
    outside[10:30, 4:34] = False
    assert np.isnan(whole[outside]).all()


@given(
    m=st.integers(1, 140),
    n=st.integers(1, 140),
    k=st.integers(0, 70),
    orders=st.text("CF", min_size=3, max_size=3),
    dtype=st.sampled_from(FLOATS + HALVES),
)
@settings(max_examples=60, deadline=None)
def test_any_shape(launcher: Launcher, m: int, n: int, k: int, orders: str, dtype: np.dtype[Any]) -> None:
    A, B = matrix(m, k, dtype, orders[0], m), matrix(k, n, dtype, orders[1], n)
    out = poisoned((m, n), dtype, orders[2])
    tiled_matmul(launcher, A, B, out)
    assert_product(out, A, B)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_agrees_with_the_reference(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    """The three products of a Dense layer, as Ops.gemm and Ops.tiled_matmul define them."""
    W, A, b = matrix(30, 41, dtype, "C", 21), matrix(41, 22, dtype, "F", 22), matrix(30, 1, dtype, "C", 23)
    dZ = matrix(30, 22, dtype, "F", 24)
    Z, expected = poisoned((30, 22), dtype), poisoned((30, 22), dtype)
    tiled_matmul(launcher, W, A, Z, bias=b, activation="TANH")
    Ops().tiled_matmul(W, A, expected, b, "tanh")
    bound = 2 * 43
    size = np.abs(W.astype(np.float64)) @ np.abs(A.astype(np.float64)) + 2
    assert_rounded(Z, expected.astype(np.float64), roundings=bound, scale=size)
    for left, right, order in ((dZ, A.T, "C"), (W.T, dZ, "F")):
        shape = (left.shape[0], right.shape[1])
        out, expected = poisoned(shape, dtype, order), poisoned(shape, dtype, order)
        tiled_matmul(launcher, left, right, out)
        Ops().gemm(left, right, expected)
        size = np.abs(left.astype(np.float64)) @ np.abs(right.astype(np.float64))
        assert_rounded(out, expected.astype(np.float64), roundings=bound, scale=size)


def test_half_sums_run_in_float(launcher: Launcher) -> None:
    """4096 ones: a float16 sum would stop at 2048, a bfloat16 one at 256."""
    for dtype in (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)):
        out = poisoned((1, 1), dtype)
        tiled_matmul(launcher, np.ones((1, 4096), dtype), np.ones((4096, 1), dtype), out)
        assert float(out[0, 0]) == 4096


@pytest.mark.parametrize(
    ("A", "B", "out", "options", "error", "message"),
    [
        (np.ones((2, 3), F32), np.ones((4, 5), F32), np.ones((2, 5), F32), {}, ValueError, r"got \(2, 3\), \(4, 5\)"),
        (np.ones(3, F32), np.ones((3, 5), F32), np.ones((1, 5), F32), {}, ValueError, "A to be a matrix"),
        (np.ones((2, 3), F32), np.ones((3, 5), F32), np.ones((2, 5)), {}, ValueError, "no instance <float, double"),
        (
            np.ones((2, 3), F32),
            np.ones((3, 5)),
            np.ones((2, 5), F32),
            {},
            TypeError,
            "one dtype, got float32 and float64",
        ),
        (np.ones((2, 6), F32)[:, ::2], np.ones((3, 5), F32), np.ones((2, 5), F32), {}, ValueError, "contiguous rows"),
        (
            np.ones((2, 3), F32),
            np.ones((3, 5), F32),
            np.ones((2, 5), F32),
            {"bias": np.ones(2, F32)},
            ValueError,
            "bias",
        ),
    ],
)
def test_misuse(
    launcher: Launcher,
    A: HostArray,
    B: HostArray,
    out: HostArray,
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        tiled_matmul(launcher, A, B, out, **options)
