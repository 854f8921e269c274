"""activation.h against the NumPy reference: f and f′ of numbers of any size, NaN, and the order of the activations."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import ndtr

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops._activation import ELEMENTWISE
from tests.support.tolerances import ROUNDINGS, UNIT

from .loops import DTYPES, FLAGS, KERNELS, available_levels, line_of, loops, same_bits

ALPHA = 0.3
PARTS = [f"{name}{part}" for name in ELEMENTWISE for part in ("", "_derivative")]
every_level = pytest.mark.parametrize("level", FLAGS)
every_part = pytest.mark.parametrize("part", PARTS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def reference(part: str, x: HostArray) -> HostArray:
    """f or f′ of `part` by the reference: in the next wider type, but where SciPy's erf is needed, which has none."""
    name, derivative, _ = part.partition("_derivative")
    wide = x.astype(np.longdouble if x.dtype == np.float64 and name != "gelu" else np.float64)
    out, t, u = (np.empty_like(wide) for _ in range(3))
    activation = ELEMENTWISE[name]
    if name == "sin":  # whose range is that of the type
        wide = np.where(np.abs(wide) <= (2.0**18 if x.dtype == np.float32 else 2.0**47), wide, 0 * wide)
    with np.errstate(all="ignore"):
        (activation.derivative if derivative else activation.forward)(wide, out, t, u, ALPHA)
    return out


def assert_agrees(part: str, actual: HostArray, x: HostArray) -> None:
    """To the roundings of two elementwise formulas, relative to 1 or to the value; beyond the type's range infinite."""
    expected = reference(part, x)
    tolerance = ROUNDINGS["elementwise"] * UNIT[actual.dtype.name]
    with np.errstate(over="ignore"):
        rounded = expected.astype(actual.dtype)
    outside = ~np.isfinite(rounded)
    assert same_bits(actual[outside], rounded[outside])
    np.testing.assert_allclose(
        actual[~outside].astype(expected.dtype), expected[~outside], rtol=tolerance, atol=tolerance, err_msg=part
    )


@functools.cache
def points(dtype: Any) -> HostArray:
    """Finite numbers, no more than the reference takes at once: of every binade, of ordinary sizes, the extremes."""
    rng, info = np.random.default_rng(3), np.finfo(dtype)
    exponents = np.repeat(np.arange(info.minexp - info.nmant, info.maxexp), 2)
    sizes = np.ldexp(rng.uniform(1, 2, exponents.size).astype(dtype), exponents)
    ends = [0.0, info.max, info.tiny, info.smallest_subnormal, 1.0]
    x = np.concatenate([sizes, ends, *(rng.uniform(0, w, 2500) for w in (1, 10, 100, 1000))]).astype(dtype)
    return np.concatenate([x, -x])


def inputs(part: str, dtype: Any) -> HostArray:
    """What f or f′ is given: z, or a = f(z) where f′ is computed from that."""
    name, derivative, _ = part.partition("_derivative")
    if derivative and ELEMENTWISE[name].from_output:
        with np.errstate(over="ignore"):
            return reference(name, points(dtype)).astype(dtype)
    return points(dtype)


@every_level
@every_part
@every_dtype
def test_agrees_with_the_reference(part: str, dtype: Any, level: str) -> None:
    x = inputs(part, dtype)
    actual = loops(level).compute(part, x, ALPHA)
    assert not np.isnan(actual).any()
    assert_agrees(part, actual, x)


@every_dtype
@given(data=st.data())
def test_any_finite_numbers_agree_with_the_reference(dtype: Any, data: st.DataObject) -> None:
    finite = st.floats(width=32 if dtype == np.float32 else 64, allow_nan=False, allow_infinity=False)
    z = data.draw(arrays.arrays(dtype, st.integers(1, 40), elements=finite | st.floats(-30, 30).map(dtype)))
    for name, activation in ELEMENTWISE.items():
        for level in available_levels():
            a = loops(level).compute(name, z, ALPHA)
            assert_agrees(name, a, z)
            saved = a if activation.from_output else z
            if np.isfinite(saved).all():
                assert_agrees(f"{name}_derivative", loops(level).compute(f"{name}_derivative", saved, ALPHA), saved)


@every_level
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gelu_keeps_its_digits_on_the_left(dtype: Any, level: str) -> None:
    """Where ½(1 + erf) would cancel: −3 is 0.0013 of itself."""
    x = -np.random.default_rng(5).uniform(1e-3, 3, 20_000).astype(dtype)
    wide = x.astype(np.float64)
    expected = wide * ndtr(wide)
    np.testing.assert_allclose(loops(level).compute("gelu", x), expected, rtol=2**8 * UNIT[np.dtype(dtype).name])


@every_level
@every_part
@every_dtype
def test_nan_stays_nan_where_it_does_in_the_reference(part: str, dtype: Any, level: str) -> None:
    x = np.array([1, np.nan, -1, -np.nan] * 20, dtype)
    nan = np.isnan(reference(part, x))
    assert nan.any() == (part not in {f"{name}_derivative" for name in ("identity", "relu", "leaky_relu")})
    np.testing.assert_array_equal(np.isnan(loops(level).compute(part, x, ALPHA)), nan)


@every_part
@every_dtype
def test_levels_with_fused_multiply_add_give_the_same_bits(part: str, dtype: Any) -> None:
    compiled = [loops(level) for level in available_levels()]
    results = [one.compute(part, inputs(part, dtype), ALPHA) for one in compiled if one.has_fma]
    if len(results) < 2:
        pytest.skip("this CPU has one such level at most")
    assert all(same_bits(results[0], other) for other in results[1:])


@every_level
@every_part
@every_dtype
def test_a_number_has_the_same_bits_wherever_it_stands(part: str, dtype: Any, level: str) -> None:
    x = np.ascontiguousarray(inputs(part, dtype)[-6000::70])
    whole = loops(level).compute(part, x, ALPHA)
    for start, stop in [(i, i + n) for i in range(17) for n in (1, 3, 15, 16, 31, len(x) - 17)]:
        assert same_bits(loops(level).compute(part, x[start:stop], ALPHA), whole[start:stop])


SAME_AS = {
    "sigmoid": "logistic",
    "tanh": "hyperbolic_tangent",
    "softplus_derivative": "logistic",
    "sin": "sine",
    "sin_derivative": "cosine",
    "exp": "exponential",
}
"""What the compiler finds to be another function, whose code it takes."""


@every_level
@pytest.mark.parametrize("part", [part for part in PARTS if not part.startswith(("identity", "exp_"))])  # copies
def test_gcc_vectorizes_each_loop(part: str, level: str) -> None:
    compiled = loops(level)
    if compiled.vectorized is None:
        pytest.skip("only GCC says so which loops it vectorizes")
    widest = {"v2": 16, "v3": 32, "v4": 64}.get(level, 16)
    found = compiled.vectorized.get(line_of(part), []) or compiled.vectorized.get(line_of(SAME_AS.get(part, part)), [])
    assert found.count(f"{widest} byte vectors") == 2, f"{part}, for float and double: {found}"


def test_the_order_is_that_of_the_reference() -> None:
    text = (KERNELS / "activation.h").read_text(encoding="utf-8")
    listed = re.search(r"#define ACTIVATIONS\(X\)((?:[^\n]*\\\n)*[^\n]*)", text)
    assert listed is not None
    assert re.findall(r"X\((\w+)\)", listed[1]) == list(ELEMENTWISE)
