"""Every activation: its definition, its derivative, inputs of ±10⁴, and that it never hides a NaN."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.activations import ACTIVATIONS, ELU, Activation, LeakyReLU
from fcnn_gpu.backend._ops import ELEMENTWISE, Ops

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805

DEFINITIONS: dict[str, Any] = {
    "identity": lambda z: z,
    "sigmoid": special.expit,
    "tanh": np.tanh,
    "relu": lambda z: np.where(z > 0, z, 0.0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "selu": lambda z: SELU_SCALE * np.where(z > 0, z, SELU_ALPHA * np.expm1(np.minimum(z, 0))),
    "gelu": lambda z: z * special.ndtr(z.astype(np.float64)),
    "gelu_tanh": lambda z: 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
    "silu": lambda z: z * special.expit(z),
    "softplus": lambda z: np.logaddexp(0, z),
    "mish": lambda z: z * np.tanh(np.logaddexp(0, z)),
    "hardswish": lambda z: z * (np.clip(z + 3, 0, 6) / 6),
    "sin": np.sin,
    "exp": np.exp,
    "softmax": lambda z: special.softmax(z, axis=0),
}
"""f(z) for Z (n, batch), by SciPy where it has the function: independent of the code under test."""

UNITS = 2 * 16_384 + 7
"""More than one tile."""


def run(name: str | Activation, Z: HostArray, dA: HostArray | None = None) -> tuple[HostArray, HostArray]:
    """(A, dZ) of an activation for Z (n, batch), through the primitives, as a layer calls them."""
    activation = ACTIVATIONS.resolve(name)
    ops = Ops()
    A = ops.matrix(Z.shape[0], Z.shape[1], Z.dtype)
    z = ops.matrix(Z.shape[0], Z.shape[1], Z.dtype)
    dZ = ops.matrix(Z.shape[0], Z.shape[1], Z.dtype)
    ops.assign(z, Z)
    activation.forward(ops, z, None, A)
    np.testing.assert_array_equal(z, Z)  # without a bias, the input stays
    ops.assign(dZ, np.ones_like(Z) if dA is None else dA)
    activation.backward(ops, dZ, A if activation.from_output else z, dZ, None)
    return A, dZ


def test_every_activation_has_a_definition() -> None:
    assert set(DEFINITIONS) == set(ACTIVATIONS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", list(DEFINITIONS))
def test_definition(name: str, dtype: Any) -> None:
    Z = np.random.default_rng(0).normal(scale=3, size=(UNITS, 2)).astype(dtype)
    A, _ = run(name, Z)
    tolerance = 20 * np.finfo(dtype).eps
    np.testing.assert_allclose(A, DEFINITIONS[name](Z.astype(np.float64)), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", list(DEFINITIONS))
def test_derivative(name: str) -> None:
    """Against central differences of the definition, away from the kink at 0."""
    rng = np.random.default_rng(1)
    Z = rng.normal(scale=3, size=(40, 50))
    Z += np.where(Z > 0, 0.1, -0.1)
    dA = rng.normal(size=Z.shape)
    _, dZ = run(name, Z, dA)
    h = 1e-6
    direction = rng.normal(size=Z.shape)
    change = (DEFINITIONS[name](Z + h * direction) - DEFINITIONS[name](Z - h * direction)) / (2 * h)
    np.testing.assert_allclose((dA * change).sum(axis=0), (dZ * direction).sum(axis=0), rtol=1e-6, atol=1e-7)


EXTREMES = np.array([-1e4, -1e3, -89, -30, -1e-30, 0, 1e-30, 30, 89, 1e3, 1e4])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", list(DEFINITIONS))
def test_inputs_of_ten_thousand(name: str, dtype: Any) -> None:
    """Forward and derivative are exact to rounding, and no floating-point exception is hidden on the way."""
    Z = EXTREMES.astype(dtype).reshape(1, -1)
    if name == "exp":  # which overflows where e^z does
        Z = np.minimum(Z, 80)
    if name == "softmax":
        Z = np.vstack([Z, np.zeros_like(Z), -Z])
    with warnings.catch_warnings(), np.errstate(over="raise", invalid="raise", divide="raise"):
        warnings.simplefilter("error")
        A, dZ = run(name, Z)
    wide = Z.astype(np.float64)
    tolerance = 20 * np.finfo(dtype).eps
    np.testing.assert_allclose(A, DEFINITIONS[name](wide), rtol=tolerance, atol=tolerance)
    assert np.isfinite(dZ).all()
    if name not in ("softmax", "sin", "exp"):
        far = np.abs(EXTREMES) >= 89
        slope = {"leaky_relu": 0.01, "identity": 1.0}.get(name, 0.0)
        right = 0.0 if name in ("sigmoid", "tanh") else SELU_SCALE if name == "selu" else 1.0
        expected = np.where(EXTREMES > 0, right, slope)[far]
        np.testing.assert_allclose(dZ[0, far], expected, atol=1e-7)


def _gelu_tanh_slope(z: Any) -> Any:
    h = np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))
    return 0.5 * (1 + h) + 0.5 * z * (1 - h**2) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * z**2)


def _mish_slope(z: Any) -> Any:
    h = np.tanh(np.logaddexp(0, z))
    return h + np.where(np.abs(z) < 100, z, 0.0) / np.cosh(np.minimum(np.logaddexp(0, z), 100)) ** 2 * special.expit(z)


SLOPES: dict[str, Any] = {
    "identity": np.ones_like,
    "sigmoid": lambda z: special.expit(z) * special.expit(-z),
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "relu": lambda z: z > 0,
    "leaky_relu": lambda z: np.where(z > 0, 1.0, 0.01),
    "elu": lambda z: np.exp(np.minimum(z, 0)),
    "selu": lambda z: SELU_SCALE * np.where(z > 0, 1.0, SELU_ALPHA * np.exp(np.minimum(z, 0))),
    "gelu": lambda z: special.ndtr(z.astype(np.float64)) + z * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi),
    "gelu_tanh": _gelu_tanh_slope,
    "silu": lambda z: special.expit(z) * (1 + z * special.expit(-z)),
    "softplus": special.expit,
    "mish": _mish_slope,
    "hardswish": lambda z: np.clip(z + 3, 0, 6) / 6 + np.where(np.abs(z) < 3, z / 6, 0.0),
    "sin": np.cos,
    "exp": np.exp,
}
"""f′(z) in long double, in whose range z³ is still a number."""


@pytest.mark.skipif(np.finfo(np.longdouble).maxexp < 4 * 1024, reason="long double has the range of double here")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SLOPES)
@given(data=st.data())
def test_any_finite_input(name: str, dtype: Any, data: st.DataObject) -> None:
    limits = np.finfo(dtype)
    finite = st.floats(width=32 if limits.bits == 32 else 64, allow_nan=False, allow_infinity=False)
    z = data.draw(arrays.arrays(dtype, (1, data.draw(st.integers(1, 20))), elements=finite))
    ends = np.array([[-limits.max, limits.max, limits.tiny, limits.smallest_subnormal]], dtype)
    Z = np.hstack([z, ends])
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        A, dZ = run(name, Z)
        wide = Z.astype(np.longdouble)
        if name == "sin":
            wide[np.abs(wide) > (2.0**18 if dtype == np.float32 else 2.0**47)] = 0
        expected, slope = DEFINITIONS[name](wide), SLOPES[name](wide)
    inside = np.abs(expected) <= limits.max
    assert inside.all() or name in ("selu", "exp")  # which stretches by 1.05, and which grows
    tolerance = 20 * limits.eps
    np.testing.assert_allclose(A[inside], expected[inside].astype(np.float64), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(dZ[inside], slope[inside].astype(np.float64), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("alpha", [1e-6, 0.3, 1.0, 7.7, 1e30])
def test_the_slope_of_elu_is_1_above_0_whatever_its_scale(alpha: float) -> None:
    Z = np.array([[1e-3, 2.0, 1e30]], np.float32)
    _, dZ = run(ELU(alpha), Z)
    np.testing.assert_array_equal(dZ, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", list(DEFINITIONS))
def test_nan_passes_through(name: str, dtype: Any) -> None:
    """An activation that maps NaN to a number hides a divergence; a NaN gradient passes backward too."""
    Z = np.linspace(-1, 1, 12).astype(dtype).reshape(3, 4)
    Z[1, 2] = np.nan
    A, _ = run(name, Z)
    assert np.isnan(A[1, 2])
    others = np.delete(A, 2, axis=1) if name == "softmax" else np.delete(A, 1, axis=0)
    assert np.isfinite(others).all()
    dA = np.ones((3, 4), dtype)
    dA[0, 1] = np.nan
    _, dZ = run(name, np.abs(np.nan_to_num(Z)), dA)
    assert np.isnan(dZ[0, 1])


@pytest.mark.parametrize("name", list(DEFINITIONS))
def test_bias_is_added_and_its_gradient_summed(name: str) -> None:
    rng = np.random.default_rng(2)
    ops = Ops()
    activation = ACTIVATIONS.resolve(name)
    Z, b, dA = rng.normal(size=(300, 120)), rng.normal(size=(300, 1)), rng.normal(size=(300, 120))
    z, d = ops.matrix(300, 120, np.float64), ops.matrix(300, 120, np.float64)
    ops.assign(z, Z)
    ops.assign(d, dA)
    A = z if activation.from_output else ops.matrix(300, 120, np.float64)
    db = np.empty((300, 1))
    activation.forward(ops, z, b, A)
    np.testing.assert_allclose(A, DEFINITIONS[name](Z + b), rtol=1e-9, atol=1e-12)
    if not activation.from_output:
        np.testing.assert_array_equal(z, Z + b)
    activation.backward(ops, d, A if activation.from_output else z, d, db)
    _, expected = run(name, Z + b, dA)
    np.testing.assert_allclose(d, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(db, expected.sum(axis=1, keepdims=True), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(ELEMENTWISE))
def test_in_place(name: str) -> None:
    """As products of large matrices and of inference have it."""
    rng = np.random.default_rng(3)
    Z, b = np.asfortranarray(rng.normal(0, 3, (5, 700))), rng.normal(size=(5, 1))
    apart, there = np.empty_like(Z), Z.copy(order="F")
    Ops().bias_activation(Z.copy(order="F"), b, name, 0.3, apart)
    Ops().bias_activation(there, b, name, 0.3, there)
    np.testing.assert_array_equal(there, apart)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_leaky_relu_of_any_slope(alpha: float) -> None:
    Z = np.array([[-2.0, -0.5, 0.5, 2.0]])
    A, dZ = run(LeakyReLU(alpha), Z)
    np.testing.assert_allclose(A, np.where(Z > 0, Z, alpha * Z))
    np.testing.assert_allclose(dZ, np.where(Z > 0, 1.0, alpha))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.5])
def test_elu_of_any_scale(alpha: float) -> None:
    Z = np.array([[-2.0, -0.5, 0.5, 2.0]])
    A, dZ = run(ELU(alpha), Z)
    np.testing.assert_allclose(A, np.where(Z > 0, Z, alpha * np.expm1(Z)))
    np.testing.assert_allclose(dZ, np.where(Z > 0, 1.0, alpha * np.exp(Z)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LeakyReLU(-0.1), r"LeakyReLU\(alpha\) expects a finite number in \[0, 1\], got -0.1"),
        (lambda: LeakyReLU(1.5), r"LeakyReLU\(alpha\)"),
        (lambda: ELU(-1.0), r"ELU\(alpha\) expects a finite number of at least 0"),
    ],
)
def test_slopes_out_of_range(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_softmax_columns_sum_to_one() -> None:
    Z = np.random.default_rng(3).normal(scale=100, size=(50, 40)).astype(np.float32)
    A, dZ = run("softmax", Z)
    np.testing.assert_allclose(A.sum(axis=0), 1.0, rtol=1e-5)
    np.testing.assert_allclose(dZ, 0.0, atol=1e-6)  # the outputs' sum is constant: a gradient of ones has no effect


def test_each_activation_has_the_initializer_that_fits_it() -> None:
    expected = {
        **dict.fromkeys(["identity", "sigmoid", "tanh", "softmax"], "xavier_uniform"),
        **dict.fromkeys(["relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "softplus"], "he_normal"),
        **dict.fromkeys(["mish", "hardswish"], "he_normal"),
        "sin": "he_uniform",
        "exp": "xavier_uniform",
        "selu": "lecun_normal",
    }
    assert {name: fcnn.Dense(2, activation=name).init.name for name in ACTIVATIONS} == expected
