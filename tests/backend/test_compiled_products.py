"""The compiled products: any shape and order against NumPy in float64, and the same bits whatever computes them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fcnn_gpu.backend._compiled import Call, Program
from fcnn_gpu.backend._compiled_ops import CompiledOps
from fcnn_gpu.backend._ops import _numpy

from ..cpu_kernels.loops import FLAGS
from ..support.compiled import at_level, best_level

SIZES = st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 97, 128, 255, 256, 257, 300, 513]))


def _matrix(rng: np.random.Generator, shape: tuple[int, int], order: Any, dtype: str) -> np.ndarray:
    return np.asarray(rng.standard_normal(shape), dtype, order)


@pytest.mark.parametrize("level", FLAGS)
@settings(deadline=None, max_examples=40)
@given(
    m=SIZES,
    n=SIZES,
    k=st.one_of(st.just(0), SIZES),
    orders=st.tuples(*[st.sampled_from("CF")] * 3),
    dtype=st.sampled_from(["float32", "float64"]),
    scaled=st.sampled_from([(1.0, 0.0), (1.0, 1.0), (0.5, 0.0), (2.0, 0.25)]),
)
@example(130, 130, 300, ("F", "C", "C"), "float64", (1.0, 0.0))
@example(97, 513, 300, ("C", "C", "C"), "float32", (1.0, 1.0))  # panels of B are packed ahead: rows,
@example(97, 513, 300, ("C", "F", "C"), "float32", (0.5, 0.0))  # columns,
@example(513, 97, 300, ("F", "F", "F"), "float64", (1.0, 0.0))
def test_any_product(level: str, m: int, n: int, k: int, orders: Any, dtype: str, scaled: Any) -> None:
    rng = np.random.default_rng([m, n, k])
    A, B, out = (_matrix(rng, s, o, dtype) for s, o in zip([(m, k), (k, n), (m, n)], orders, strict=True))
    alpha, beta = scaled
    exact = alpha * (A.astype(np.float64) @ B.astype(np.float64)) + beta * out.astype(np.float64)
    size = alpha * (abs(A).astype(np.float64) @ abs(B).astype(np.float64)) + beta * abs(out.astype(np.float64))
    at_level(level).gemm(A, B, out, alpha, beta)
    assert (abs(out - exact) <= (k + 3) * np.finfo(dtype).eps * size).all()


def test_a_view_with_gaps_is_multiplied_and_nothing_beside_it_is_written() -> None:
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((40, 60))[::2, 5:50], rng.standard_normal((80, 70))[3:48, 1:60:2]
    whole = np.zeros((20, 34), order="F")
    best_level().gemm(A, B, whole[:, 2:32])
    np.testing.assert_allclose(whole[:, 2:32], A @ B, rtol=1e-12, atol=1e-12)
    assert not whole[:, :2].any()
    assert not whole[:, 32:].any()


@pytest.mark.parametrize("kind", ["identity", "relu", "leaky_relu", "tanh"])
def test_nan_and_infinity_pass_the_activation(kind: str) -> None:
    ops = best_level()
    W, A0 = np.asfortranarray(np.eye(3)), np.asfortranarray([[np.nan], [np.inf], [-np.inf]])
    Z = np.zeros((3, 1), order="F")
    ops.dense_forward(W[:1, :1].copy(order="F"), A0[:1], np.zeros((1, 1)), kind, 0.1, Z[:1], Z[:1])
    assert np.isnan(Z[0, 0])


def _all_products(ops: CompiledOps, dtype: str, n_threads: int) -> list[bytes]:
    """The bits of a layer's three products at several sizes, computed in so many parts."""
    results = []
    wide = [(64, 64, 32), (784, 128, 33), (10, 300, 7), (600, 513, 70), (101, 530, 270)]
    narrow = [(128, 10, 128), (64, 3, 200), (700, 1, 1100), (3, 2, 5)]  # computed transposed where vectors are wide
    for (n_in, n_out, batch), kind in itertools.product(wide + narrow, ("relu", "identity")):
        rng = np.random.default_rng([n_in, n_out])
        W, A0, dZ = (_matrix(rng, s, "F", dtype) for s in [(n_out, n_in), (n_in, batch), (n_out, batch)])
        Z, dW, dA0 = np.empty_like(dZ), np.empty_like(W), np.empty_like(A0)
        b = rng.standard_normal((n_out, 1)).astype(dtype)
        with _numpy.recorded_calls() as tape:
            ops.dense_forward(W, A0, b, kind, 0.0, Z, Z)
            ops.gemm(dZ, A0.T, dW)
            ops.gemm(W.T, dZ, dA0)
        program = Program(tape.calls)  # type: ignore[arg-type]
        program._table[:, 3] = program._most_parts = n_threads
        for x in (Z, dW, dA0):
            x.fill(np.nan)
        program.run(1, n_threads)
        results += [x.tobytes() for x in (Z, dW, dA0)]
    return results


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_threads", [2, 3, 5])
def test_bits_do_not_depend_on_the_threads(dtype: str, n_threads: int) -> None:
    assert _all_products(best_level(), dtype, n_threads) == _all_products(best_level(), dtype, 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_do_not_depend_on_the_vectors(dtype: str) -> None:
    assert _all_products(at_level("v3"), dtype, 1) == _all_products(at_level("v4"), dtype, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e19])
@pytest.mark.parametrize("place", [(0, 65), (40, 65), (64, 65), (0, 1), (2, 3)])
def test_a_gradient_that_is_not_finite_is_noticed_in_its_product(value: float, place: tuple[int, int]) -> None:
    ops, (unit, n_out) = best_level(), place
    dZ, A0 = np.ones((n_out, 8), np.float32, "F"), np.ones((64, 8), np.float32, "F")
    dZ[unit] = value
    dW, unsound = np.zeros((n_out, 64), np.float32, "F"), np.zeros(1, np.int64)
    with _numpy.recorded_calls() as tape:
        ops.gemm(dZ, A0.T, dW)
        ops._issue("check_gradients", dW.dtype, n=dW.size, gradients=dW.T.reshape(-1), unsound=unsound)
    program = Program(tape.calls)  # type: ignore[arg-type]
    (name,) = [call.name for shared, _ in program.phases for call in shared]
    assert name.startswith("product")
    unsound[0] = 0
    program.run(1, 1)
    assert unsound[0] == 1


@pytest.mark.parametrize("n_out", [1, 5, 20, 40])
def test_what_a_product_leaves_behind_is_not_found_by_the_next(n_out: int) -> None:
    ops, unsound = best_level(), np.zeros(1, np.int64)
    dZ, A0, dW = (
        np.ones((n_out, 1100), np.float32, "F"),
        np.ones((7, 1100), np.float32, "F"),
        np.zeros((n_out, 7), np.float32, "F"),
    )
    with _numpy.recorded_calls() as tape:
        ops.gemm(dZ, A0.T, dW)
        ops._issue("check_gradients", dW.dtype, n=dW.size, gradients=dW.T.reshape(-1), unsound=unsound)
    program = Program(tape.calls)  # type: ignore[arg-type]
    for value, found in ((np.nan, 1), (1.0, 0)):
        dZ.fill(value)
        unsound[0] = 0
        program.run(1, 1)
        assert unsound[0] == found


MANY = st.sampled_from([2048, 2049, 2500, 8193])
"""Samples whose gradients are summed by blocks, where weights are few."""


def _backward(
    ops: CompiledOps, n_in: int, n_out: int, batch: int, groups: int, dtype: str, biases: bool, gain: float, adds: bool
) -> tuple[Any, Any, Any, list[Call]]:
    """(A0, dZ), what dW and db were and are, and the calls that computed them."""
    rng = np.random.default_rng([n_in, n_out, batch])
    A0, dZ = (_matrix(rng, (n * groups, batch), "F", dtype) for n in (n_in, n_out))
    W, dW = (_matrix(rng, (n_out, n_in * groups), "F", dtype) for _ in range(2))
    before, db = dW.copy(order="F"), np.full((n_out * groups, 1), np.nan, dtype) if biases else None
    given = dZ, dZ, "identity", 0.0, W, A0, dZ, dW
    with _numpy.recorded_calls() as tape:
        if groups == 1:
            ops.dense_backward(*given, db, None, adds, gain)
        else:
            ops.grouped_dense_backward(*given, groups, db, None, adds, gain)
    return (A0, dZ), before, (dW, db), [call for call in tape.calls if isinstance(call, Call)]


@settings(max_examples=30)
@given(
    n_in=st.integers(1, 70),
    n_out=st.integers(1, 70),
    batch=MANY,
    groups=st.integers(1, 3),
    dtype=st.sampled_from(["float32", "float64"]),
    biases=st.booleans(),
    gain=st.sampled_from([1.0, 0.25]),
    adds=st.booleans(),
)
def test_gradients_of_many_samples_are_sums_over_blocks(
    n_in: int, n_out: int, batch: int, groups: int, dtype: str, biases: bool, gain: float, adds: bool
) -> None:
    (A0, dZ), before, (dW, db), calls = _backward(best_level(), n_in, n_out, batch, groups, dtype, biases, gain, adds)
    assert [call.name for call in calls] == ["gradient_of_blocks", "sum_of_blocks", "sum_of_blocks"][: 2 + biases]
    a, z = (x.reshape(groups, -1, batch, order="C").astype(np.float64) for x in (A0, dZ))
    for expected, size, actual in (
        (np.concatenate(z @ a.transpose(0, 2, 1), 1) * gain, np.concatenate(abs(z) @ abs(a.transpose(0, 2, 1)), 1), dW),
        (dZ.astype(np.float64).sum(1, keepdims=True), abs(dZ.astype(np.float64)).sum(1, keepdims=True), db),
    ):
        if actual is not None:
            old = before * adds if actual is dW else 0
            assert (abs(actual - (expected + old)) <= 600 * np.finfo(dtype).eps * (size + abs(old))).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_over_blocks_have_the_same_bits_whatever_computes_them(dtype: str) -> None:
    """Any number of threads, any width of vectors, and in an ensemble those of each member alone."""
    sizes = 20, 9, 4100
    *_, (alone, alone_b), calls = _backward(at_level("v3"), *sizes, 1, dtype, True, 1.0, False)
    for n_threads in (1, 2, 3, 16, 40):
        program = Program(calls)
        bits = alone.tobytes() + alone_b.tobytes()
        alone.fill(np.nan)
        alone_b.fill(np.nan)
        program.run(1, n_threads)
        assert alone.tobytes() + alone_b.tobytes() == bits
    *_, (dW, db), _ = _backward(at_level("v4"), *sizes, 1, dtype, True, 1.0, False)
    assert dW.tobytes() + db.tobytes() == alone.tobytes() + alone_b.tobytes()
    (A0, dZ), _, (grouped, grouped_b), _ = _backward(best_level(), *sizes, 3, dtype, True, 1.0, False)
    for member in range(3):
        of_A, of_Z = slice(20 * member, 20 * (member + 1)), slice(9 * member, 9 * (member + 1))
        dZ_of, A0_of = np.asfortranarray(dZ[of_Z]), np.asfortranarray(A0[of_A])
        best_level().dense_backward(dZ_of, dZ_of, "identity", 0.0, dW, A0_of, dZ_of, dW, db)
        assert np.array_equal(dW, grouped[:, of_A])
        assert np.array_equal(db, grouped_b[of_Z])


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e19])
@pytest.mark.parametrize("sample", [0, 1000, 2047])
@pytest.mark.parametrize("in_A0", [False, True])
def test_a_gradient_that_is_not_finite_is_noticed_in_its_sum(value: float, sample: int, in_A0: bool) -> None:
    """dW's, and where A₀ is 0, db's."""
    ops, n_in, n_out = best_level(), 5, 3
    dZ, A0 = np.zeros((n_out, 2048), np.float32, "F"), np.zeros((n_in, 2048), np.float32, "F")
    flat, unsound = np.zeros(n_out * n_in + n_out, np.float32), np.zeros(1, np.int64)
    dW, db = flat[: n_out * n_in].reshape(n_in, n_out).T, flat[n_out * n_in :].reshape(n_out, 1)
    with _numpy.recorded_calls() as tape:
        ops.dense_backward(dZ, dZ, "identity", 0.0, dW, A0, dZ, dW, db)
        ops._issue("check_gradients", dW.dtype, n=flat.size, gradients=flat, unsound=unsound)
    program = Program(tape.calls)  # type: ignore[arg-type]
    assert "check_gradients" not in [call.name for shared, _ in program.phases for call in shared]
    program.run()
    assert unsound[0] == 0
    dZ[2, sample] = value
    A0[4, sample] = in_A0
    program.run()
    assert unsound[0] == 1
