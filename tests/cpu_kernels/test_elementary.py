"""elementary.h: errors below those that its head promises, special values, the same bits wherever a number stands."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fcnn_gpu._types import HostArray

from .loops import DTYPES, FLAGS, KERNELS, Loops, available_levels, line_of, loops, same_bits
from .minimax import DIGITS, fit, polynomials, written

PI = np.longdouble("3.14159265358979323846264338327950288")


def _normal_cdf(x: HostArray) -> HostArray:
    """Φ(x) = ½ + e^(−x²/2)/√(2π) Σ_n x^(2n+1)/(1·3·5···(2n+1)), in the precision of x: no term cancels another."""
    a = np.minimum(np.abs(x), 10)
    total, term, n = a.copy(), a, 0
    while np.any(term > total * np.finfo(x.dtype).eps / 4):
        n += 1
        term = term * (a * a / (2 * n + 1))
        total += term
    above_half = np.exp(-a * a / 2) / np.sqrt(2 * PI).astype(x.dtype) * total
    value: HostArray = np.maximum(0.5 + np.copysign(above_half, x), 0)
    return value


def _logistic(x: HostArray) -> HostArray:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e / (1 + e), 1 / (1 + e))


def _circular(function: Any) -> Any:
    """sin or cos, of 0 where neighbouring numbers of the narrower type lie more than 2^−6 apart."""

    def of(x: HostArray) -> HostArray:
        most = 2.0**18 if x.dtype == np.float64 else 2.0**47
        value: HostArray = function(np.where(np.abs(x) <= most, x, 0 * x))
        return value

    return of


def _cosine_of_quarters(x: HostArray) -> HostArray:
    """sin π/2(1 − |g|), x = 4n + g: what is subtracted is exact, so that small cosines are right."""
    most = 2.0**22 if x.dtype == np.float64 else 2.0**51
    inside = np.where(np.abs(x) <= most, x, 0 * x)
    g = inside - 4 * np.rint(inside / 4)
    value: HostArray = np.sin(PI.astype(x.dtype) / 2 * (1 - np.abs(g)))
    return value


EXACT: dict[str, Any] = {
    "exponential": np.exp,
    "exponential_minus_one": np.expm1,
    "logarithm": np.log,
    "logarithm_one_plus": np.log1p,
    "hyperbolic_tangent": np.tanh,
    "normal_cdf": _normal_cdf,
    "logistic": _logistic,
    "sine": _circular(np.sin),
    "cosine": _circular(np.cos),
    "cosine_of_quarters": _cosine_of_quarters,
}
"""Each function in the precision of its argument."""

LEAST = {"normal_cdf": 0.5}
"""What smaller values have the unit of."""

WIDER: dict[Any, Any] = {np.float32: np.float64, np.float64: np.longdouble}
"""In what each type is compared: an error in it is far below one rounding of the type."""

INF, NAN = np.inf, np.nan
SPECIAL: dict[str, list[tuple[float, float]]] = {
    "exponential": [(0.0, 1), (-0.0, 1), (INF, INF), (-INF, 0), (NAN, NAN)],
    "exponential_minus_one": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -1), (-800, -1), (NAN, NAN)],
    "logarithm": [(1, 0.0), (0.0, -INF), (-0.0, -INF), (INF, INF), (-INF, NAN), (-1, NAN), (-1e-38, NAN), (NAN, NAN)],
    "logarithm_one_plus": [(0.0, 0.0), (-0.0, -0.0), (-1, -INF), (INF, INF), (-INF, NAN), (-1.5, NAN), (NAN, NAN)],
    "hyperbolic_tangent": [(0.0, 0.0), (-0.0, -0.0), (INF, 1), (-INF, -1), (30, 1), (-30, -1), (NAN, NAN)],
    "normal_cdf": [(0.0, 0.5), (-0.0, 0.5), (INF, 1), (-INF, 0.0), (30, 1), (-30, 0.0), (NAN, NAN)],
    "logistic": [(0.0, 0.5), (-0.0, 0.5), (INF, 1), (-INF, 0.0), (800, 1), (-800, 0.0), (NAN, NAN)],
    "sine": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (1e30, 0.0), (-1e30, -0.0), (NAN, NAN)],
    "cosine": [(0.0, 1), (-0.0, 1), (INF, NAN), (-INF, NAN), (1e30, 1), (-1e30, 1), (NAN, NAN)],
    "cosine_of_quarters": [(0.0, 1), (2, -1), (-2, -1), (1, 0.0), (3, 0.0), (4, 1), (INF, NAN), (1e30, 1), (NAN, NAN)],
}
SPECIAL_OF_TYPE: dict[Any, dict[str, list[tuple[float, float]]]] = {
    np.float32: {
        "exponential": [(89, INF), (-104, 0.0), (88.72283, 3.4027983e38), (-103.97, 1e-45)],
        "exponential_minus_one": [(89, INF), (88.72283, 3.4027983e38)],
    },
    np.float64: {
        "exponential": [(710, INF), (-746, 0.0), (-745.13, 5e-324)],
        "exponential_minus_one": [(710, INF)],
    },
}

every_level = pytest.mark.parametrize("level", FLAGS)
every_function = pytest.mark.parametrize("name", EXACT)


@functools.cache
def promised() -> dict[str, tuple[float, ...]]:
    """The errors that the head of elementary.h promises: float, double, and both without fused multiply-add."""
    head = (KERNELS / "elementary.h").read_text(encoding="utf-8").partition("*/")[0]
    return {
        row[1]: tuple(float(number) for number in row[2].split())
        for row in re.finditer(r"^ +(\w+)  +\S.*?((?: +\d\.\d+){4})$", head, re.MULTILINE)
    }


def bound(name: str, dtype: Any, compiled: Loops) -> float:
    return promised()[name][(dtype == np.float64) + 2 * (not compiled.has_fma)]


def assert_error_below(bound: float, actual: HostArray, x: HostArray, exact: HostArray, least: float = 0) -> None:
    """actual is within so many units in the last place of exact, and infinite or NaN where exact is in that type.

    Values below `least` have its unit.
    """
    info = np.finfo(actual.dtype)
    with np.errstate(all="ignore"):
        rounded = exact.astype(actual.dtype)
        outside = ~(np.isfinite(rounded) & np.isfinite(actual))
        exponents = np.frexp(np.maximum(np.abs(exact), least))[1]
        unit = np.ldexp(np.ones_like(exact), np.maximum(exponents, info.minexp + 1) - 1 - info.nmant)
        wrong = ~(np.abs(actual - exact) <= bound * unit)
    wrong[outside] = ~((actual == rounded) | (np.isnan(actual) & np.isnan(rounded)))[outside]
    wrong |= (np.signbit(actual) != np.signbit(exact)) & ~np.isnan(exact)
    if wrong.any():
        i = int(np.argmax(wrong))
        error = float(abs(actual[i] - exact[i]) / unit[i])
        raise AssertionError(f"{wrong.sum()} errors: {actual[i]!r} of {x[i]!r}, not {exact[i]!r}: {error:.3g} ulp")


@functools.cache
def points(dtype: Any) -> HostArray:
    """Numbers of all binades and both signs at random, all magic places, and a stride through all bits."""
    rng = np.random.default_rng(7)
    info, word = np.finfo(dtype), np.dtype(f"u{np.dtype(dtype).itemsize}")
    each = 32
    top = np.arange(2 ** (info.bits - info.nmant), dtype=word) << word.type(info.nmant)  # sign and exponent
    mantissas = rng.integers(0, 2**info.nmant, (top.size, each), dtype=word)
    mantissas[:, :3] = [0, 1, 2**info.nmant - 1]
    stride = np.arange(0, 2**info.bits, 2**info.bits // 50_021, dtype=word)
    reals = [rng.uniform(-w, w, 20_000) for w in (0.01, 1, 6, 40, 110, 780, 2e5)]
    reals += [1 + rng.uniform(-1, 1, 10_000) * 2.0 ** rng.integers(-info.nmant, 0, 10_000)]
    reals += [-reals[-1], np.arange(-800, 800) / 2, np.log(2) * np.arange(-400, 400) / 4]
    most = 2 ** (17 if info.bits == 32 else 46)
    reals += [np.pi / 2 * np.arange(20_000.0), np.pi / 2 * rng.integers(0, most, 20_000).astype(np.float64)]
    bits = [np.ravel(top[:, None] | mantissas).view(dtype), stride.view(dtype)]
    return np.concatenate([*bits, *(x.astype(dtype) for x in reals)])


@functools.cache
def exact(name: str, dtype: Any) -> HostArray:
    with np.errstate(all="ignore"):
        value: HostArray = EXACT[name](points(dtype).astype(WIDER[dtype]))
    return value


def test_the_head_names_every_function() -> None:
    assert list(promised()) == list(EXACT)


@every_level
@every_function
@pytest.mark.parametrize("dtype", DTYPES)
def test_errors_are_below_the_promised_ones(name: str, dtype: Any, level: str) -> None:
    compiled = loops(level)
    x = points(dtype)
    actual = compiled.compute(name, x)
    assert_error_below(bound(name, dtype, compiled), actual, x, exact(name, dtype), LEAST.get(name, 0))


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_errors_of_any_numbers_are_below_the_promised_ones(dtype: Any, data: st.DataObject) -> None:
    numbers = st.floats(width=32 if dtype == np.float32 else 64) | st.floats(-100, 100).map(dtype)
    x = data.draw(arrays.arrays(dtype, st.integers(1, 40), elements=numbers))
    for name, function in EXACT.items():
        with np.errstate(all="ignore"):
            value = function(x.astype(WIDER[dtype]))
        for level in available_levels():
            compiled = loops(level)
            actual = compiled.compute(name, x)
            assert_error_below(bound(name, dtype, compiled), actual, x, value, LEAST.get(name, 0))


def test_an_error_that_is_too_large_is_seen() -> None:
    x = points(np.float32)
    y = exact("exponential", np.float32)
    with np.errstate(all="ignore"):
        rounded = y.astype(np.float32)
        off = np.where(np.isfinite(rounded), np.nextafter(rounded, np.float32(np.inf)), rounded)
    assert_error_below(0.5, rounded, x, y)
    with pytest.raises(AssertionError, match="ulp"):
        assert_error_below(0.9, off, x, y)
    with pytest.raises(AssertionError, match=r"1 errors: np.float32\(nan\)"):
        assert_error_below(0.5, np.array([1, np.nan], np.float32), np.zeros(2, np.float32), np.ones(2))


@every_level
@every_function
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_values(name: str, dtype: Any, level: str) -> None:
    rows = SPECIAL[name] + SPECIAL_OF_TYPE[dtype].get(name, [])
    x, expected = (np.array(column, dtype) for column in zip(*rows, strict=True))
    actual = loops(level).compute(name, x)
    ends = np.isfinite(expected) & (expected != 0) & (np.abs(expected) != 1)  # rounded, unlike the others
    np.testing.assert_allclose(actual[ends], expected[ends], rtol=1e-6)
    assert same_bits(actual[~ends], expected[~ends]), f"{name} of {x} is {actual}, not {expected}"


@every_level
@pytest.mark.parametrize("name", ["hyperbolic_tangent", "sine"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_odd_functions(name: str, dtype: Any, level: str) -> None:
    x = points(dtype)
    assert same_bits(loops(level).compute(name, -x), -loops(level).compute(name, x))


@every_function
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_levels_with_fused_multiply_add_give_the_same_bits(name: str, dtype: Any) -> None:
    compiled = [loops(level) for level in available_levels()]
    results = [one.compute(name, points(dtype)) for one in compiled if one.has_fma]
    if len(results) < 2:
        pytest.skip("this CPU has one such level at most")
    assert all(same_bits(results[0], other) for other in results[1:])


@every_level
@every_function
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_number_has_the_same_bits_wherever_it_stands(name: str, dtype: Any, level: str) -> None:
    """In the vectors of a loop, in what is left of it, and alone."""
    compiled = loops(level)
    x = np.ascontiguousarray(points(dtype)[::1999][:100])
    whole = compiled.compute(name, x)
    for start in range(17):
        for stop in (start + 1, start + 3, start + 15, start + 16, start + 31, start + 67, len(x)):
            assert same_bits(compiled.compute(name, x[start:stop]), whole[start:stop])


@every_level
@every_function
def test_gcc_vectorizes_each_loop(name: str, level: str) -> None:
    compiled = loops(level)
    if compiled.vectorized is None:
        pytest.skip("only GCC says so which loops it vectorizes")
    widest = {"v2": 16, "v3": 32, "v4": 64}.get(level, 16)
    found = compiled.vectorized.get(line_of(name), [])
    assert found.count(f"{widest} byte vectors") == 2, f"{name}, for float and double: {found}"


def test_the_coefficients_are_those_with_the_least_error() -> None:
    mpmath = pytest.importorskip("mpmath", reason="the fits need mpmath")
    text = (KERNELS / "elementary.h").read_text(encoding="utf-8")
    with mpmath.workdps(DIGITS):
        for polynomial in polynomials(mpmath):
            for coefficient in fit(mpmath, polynomial)[0]:
                number = written(coefficient, polynomial.type)
                assert re.search(rf"(?<![\w.-]){re.escape(number)}\b", text), f"{polynomial.name}: no {number}"
