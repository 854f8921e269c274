"""Batch and layer normalization in C: the reference's numbers for any shape, the same bits whatever computes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fcnn_gpu.backend import quiet_arithmetic
from fcnn_gpu.backend._compiled_ops import CompiledOps
from fcnn_gpu.backend._ops import Ops

from ..support.compiled import at_level, best_level, program_of
from ..support.tolerances import assert_close

DTYPES = ["float32", "float64"]
EPS = 1e-2
"""Large enough that a batch of one sample, whose variance is 0, does not magnify rounding."""


class Arrays:
    """What the primitives read, the same numbers each time, and what they write."""

    def __init__(self, n: int, batch: int, dtype: str) -> None:
        rng = np.random.default_rng([n, batch])

        def matrix() -> np.ndarray:
            return (1.0 + rng.standard_normal((batch, n))).astype(dtype).T

        self.X, self.dY = matrix(), matrix()
        self.x_hat, self.out, self.dX = (np.full((batch, n), np.nan, dtype).T for _ in range(3))
        self.gamma, self.beta = (rng.standard_normal((n, 1)).astype(dtype) for _ in range(2))
        self.inv_std, self.dgamma, self.dbeta = (np.full((n, 1), np.nan, dtype) for _ in range(3))
        self.mean, self.var = (rng.uniform(0.5, 2.0, (n, 1)).astype(dtype) for _ in range(2))
        self.inv_std_of_samples = np.full((1, batch), np.nan, dtype)

    def batch_norm(self, primitives: Ops, momentum: float = 0.1, eps: float = EPS) -> None:
        """Forward, backward and inference."""
        given, running = (self.gamma, self.beta, eps), (self.mean, self.var)
        primitives.batch_norm_forward(self.X, *given, momentum, *running, self.x_hat, self.inv_std, self.out)
        primitives.batch_norm_backward(self.dY, self.gamma, self.x_hat, self.inv_std, self.dgamma, self.dbeta, self.dX)
        primitives.batch_norm_inference(self.X, *given, *running, self.X)

    def layer_norm(self, primitives: Ops, eps: float = EPS) -> None:
        """Forward and backward."""
        inv_std = self.inv_std_of_samples
        primitives.layer_norm_forward(self.X, self.gamma, self.beta, eps, self.x_hat, inv_std, self.out)
        primitives.layer_norm_backward(self.dY, self.gamma, self.x_hat, inv_std, self.dgamma, self.dbeta, self.dX)

    def sizes_of_terms(self, inv_std: np.ndarray) -> dict[str, float]:
        """Of what each array is a sum or difference of: with few units, or samples, next to nothing may be left."""
        X, dY, gamma, most = 4.0, abs(self.dY), float(abs(self.gamma).max()), float(inv_std.max())
        sums = {"dgamma": float((dY * abs(self.x_hat)).sum(1).max()), "dbeta": float(dY.sum(1).max())}
        rows = {"x_hat": X * most, "out": X * most * gamma, "dX": float(dY.max()) * most * gamma, "X": X * gamma}
        return {"mean": X, **sums, **rows}

    def bits(self) -> list[bytes]:
        return [x.tobytes() for x in vars(self).values()]


def _in_parts(ops: CompiledOps, primitive: str, n: int, batch: int, dtype: str, n_parts: int) -> Arrays:
    """The arrays after a program in so many parts, whatever recording it has left in them."""
    arrays = Arrays(n, batch, dtype)
    program = program_of(lambda: getattr(arrays, primitive)(ops), n_parts)
    for x, fresh in zip(vars(arrays).values(), vars(Arrays(n, batch, dtype)).values(), strict=True):
        x[...] = fresh
    program.run(1, n_parts)
    return arrays


@settings(deadline=None, max_examples=60)
@given(
    primitive=st.sampled_from(["batch_norm", "layer_norm"]),
    n=st.one_of(st.integers(1, 150), st.sampled_from([511, 512, 513, 1100])),
    batch=st.integers(1, 70),
    dtype=st.sampled_from(DTYPES),
    n_parts=st.integers(1, 3),
)
@example(primitive="batch_norm", n=512, batch=256, dtype="float32", n_parts=2)
@example(primitive="layer_norm", n=2, batch=1, dtype="float64", n_parts=1)
@example(primitive="layer_norm", n=512, batch=256, dtype="float32", n_parts=2)
def test_any_shape_agrees_with_the_reference(primitive: str, n: int, batch: int, dtype: str, n_parts: int) -> None:
    expected = Arrays(n, batch, dtype)
    getattr(expected, primitive)(Ops())
    actual = _in_parts(best_level(), primitive, n, batch, dtype, n_parts)
    sizes = expected.sizes_of_terms(expected.inv_std if primitive == "batch_norm" else expected.inv_std_of_samples)
    for name, value in vars(expected).items():
        one, other = (np.append(x, np.asarray(sizes.get(name, 0.0), dtype)) for x in (getattr(actual, name), value))
        assert_close(one, other, "sum", f"{name} of {primitive} at n={n}, batch={batch}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("primitive", ["batch_norm", "layer_norm"])
@pytest.mark.parametrize(("n", "batch"), [(1, 2), (33, 7), (64, 32), (130, 70), (513, 40)])
def test_bits_depend_on_neither_threads_nor_vectors(primitive: str, n: int, batch: int, dtype: str) -> None:
    alone = _in_parts(best_level(), primitive, n, batch, dtype, 1).bits()
    for n_parts in (2, 3):
        assert _in_parts(best_level(), primitive, n, batch, dtype, n_parts).bits() == alone
    v3, v4 = (_in_parts(at_level(level), primitive, n, batch, dtype, 1).bits() for level in ("v3", "v4"))
    assert v3 == v4


@pytest.mark.parametrize("dtype", DTYPES)
def test_units_that_never_change_are_normalized_to_zero(dtype: str) -> None:
    arrays = Arrays(70, 8, dtype)
    arrays.X[...] = 3.0
    before = arrays.var.copy()
    arrays.batch_norm(best_level(), momentum=0.25, eps=2.0**-12)
    assert not arrays.x_hat.any()
    np.testing.assert_array_equal(arrays.out, np.broadcast_to(arrays.beta, (70, 8)))
    np.testing.assert_allclose(arrays.inv_std, 64.0, rtol=1e-6)
    np.testing.assert_allclose(arrays.var, 0.75 * before, rtol=1e-6)
    constant = Arrays(64, 5, dtype)
    constant.X[...] = [[1.0, -2.0, 0.0, 0.5, 4.0]]
    constant.layer_norm(best_level())
    assert not constant.x_hat.any()


@pytest.mark.parametrize("make", [best_level, Ops])
@pytest.mark.parametrize(("primitive", "axis"), [("batch_norm", 1), ("layer_norm", 0)])
def test_a_variance_that_overflows_gives_nan(make: Any, primitive: str, axis: int) -> None:
    """And only where it does: 1/√∞ = 0 would hide it behind outputs that are finite."""
    arrays = Arrays(40, 40, "float32")
    arrays.X[(7, slice(None)) if axis == 1 else (slice(None), 7)] *= np.float32(1e30)
    with quiet_arithmetic():
        getattr(arrays, primitive)(make())
    expected = np.zeros((40, 40), bool)
    expected[(7, slice(None)) if axis == 1 else (slice(None), 7)] = True
    np.testing.assert_array_equal(np.isnan(arrays.out), expected)
    if primitive == "batch_norm":
        assert arrays.var[7] == np.inf
        assert np.isfinite(np.delete(arrays.var, 7)).all()


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_running_statistics_move_towards_mean_and_unbiased_variance(batch: int) -> None:
    arrays = Arrays(20, batch, "float64")
    X, mean, var = arrays.X.copy(), arrays.mean.copy(), arrays.var.copy()
    arrays.batch_norm(best_level(), momentum=0.3)
    unbiased = X.var(axis=1, keepdims=True, ddof=1) if batch > 1 else 0.0
    np.testing.assert_allclose(arrays.mean, 0.7 * mean + 0.3 * X.mean(axis=1, keepdims=True), rtol=1e-13)
    np.testing.assert_allclose(arrays.var, 0.7 * var + 0.3 * unbiased, rtol=1e-13)


def test_without_momentum_running_statistics_stay() -> None:
    """As in the second forward pass over a batch whose layers are recomputed."""
    arrays = Arrays(20, 6, "float32")
    mean, var = arrays.mean.copy(), arrays.var.copy()
    arrays.batch_norm(best_level(), momentum=0.0)
    np.testing.assert_array_equal(arrays.mean, mean)
    np.testing.assert_array_equal(arrays.var, var)


@pytest.mark.parametrize("dtype", DTYPES)
def test_inference_takes_a_single_sample(dtype: str) -> None:
    arrays, out = Arrays(600, 1, dtype), np.full((600, 1), np.nan, dtype)
    given = arrays.gamma, arrays.beta, EPS, arrays.mean, arrays.var
    best_level().batch_norm_inference(arrays.X, *given, out)
    exact = arrays.gamma * (arrays.X - arrays.mean) / np.sqrt(arrays.var + EPS) + arrays.beta
    assert_close(out, exact.astype(dtype), "elementwise")


@pytest.mark.parametrize("primitive", ["batch_norm", "layer_norm"])
@pytest.mark.parametrize("n_parts", [1, 3])
def test_gradients_in_place_have_the_same_bits(primitive: str, n_parts: int) -> None:
    apart = _in_parts(best_level(), primitive, 70, 30, "float32", 1)
    arrays = Arrays(70, 30, "float32")
    arrays.dX = arrays.dY
    program = program_of(lambda: getattr(arrays, primitive)(best_level()), n_parts)
    for x, fresh in zip(vars(arrays).values(), vars(Arrays(70, 30, "float32")).values(), strict=True):
        if x is not arrays.dX:
            x[...] = fresh
    arrays.dX[...] = Arrays(70, 30, "float32").dY
    program.run(1, n_parts)
    for name in ("dX", "dgamma", "dbeta"):
        assert getattr(arrays, name).tobytes() == getattr(apart, name).tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e19])
@pytest.mark.parametrize("unit", [0, 16, 63, 64, 69])
def test_a_gradient_that_is_not_finite_is_noticed_where_it_is_summed(value: float, unit: int) -> None:
    ops, arrays = best_level(), Arrays(70, 1, "float32")
    arrays.layer_norm(ops)
    gradients, unsound = np.zeros(140, np.float32), np.zeros(1, np.int64)
    dgamma, dbeta = gradients[:70].reshape(70, 1), gradients[70:].reshape(70, 1)

    def compute() -> None:
        given = arrays.gamma, arrays.x_hat, arrays.inv_std_of_samples
        ops.layer_norm_backward(arrays.dY, *given, dgamma, dbeta, arrays.dX)
        ops._issue("check_gradients", gradients.dtype, n=140, gradients=gradients, unsound=unsound)

    program = program_of(compute, 2)
    assert "check_gradients" not in [call.name for shared, _ in program.phases for call in shared]
    program.run(1, 2)
    assert unsound[0] == 0
    arrays.dY[unit] = value
    program.run(1, 2)
    assert unsound[0] == 1
