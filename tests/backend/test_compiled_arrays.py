"""Passes over arrays in C: the reference's bits for any shape, order and dtype, compiled or not."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcnn_gpu.backend._ops import Ops

from ..support.compiled import at_level, best_level, program_of

REALS = ["float32", "float64"]
SOURCES = ["uint8", "float16", ml_dtypes.bfloat16, "float32", "float64"]
SHAPES = st.one_of(
    st.tuples(st.integers(0, 300)),
    st.tuples(st.integers(0, 40), st.integers(0, 40)),
    st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
)


class Passes:
    """What the passes read, the same numbers each time, and what they write."""

    def __init__(self, shape: tuple[int, ...], dtypes: tuple[Any, str], orders: tuple[Any, Any]) -> None:
        rng = np.random.default_rng([len(shape), *shape])
        x, y = 100 * abs(rng.standard_normal(shape)), rng.standard_normal(shape)
        self.x, self.y = np.asarray(x, order=orders[0]).astype(dtypes[0]), np.array(y, dtypes[1], order=orders[0])
        self.outs = [np.full(shape, 7, dtypes[1], orders[1]) for _ in range(4)]

    def compute(self, primitives: Ops, scale: float, shift: float) -> None:
        cast, assigned, added, scaled = self.outs
        primitives.cast(self.x, cast, scale, shift)
        primitives.assign(assigned, self.x)
        primitives.add(assigned, self.y, added)
        primitives.scale(self.y, 0.3, scaled)
        primitives.scale(scaled, -1.7, scaled)
        primitives.add(scaled, self.y, scaled)
        primitives.add(self.y, scaled, scaled)


@settings(deadline=None, max_examples=80)
@given(
    shape=SHAPES,
    dtypes=st.tuples(st.sampled_from([*SOURCES, "int32"]), st.sampled_from(REALS)),
    orders=st.tuples(st.sampled_from("CF"), st.sampled_from("CF")),
    mapped=st.sampled_from([(1.0, 0.0), (1 / 255, 0.0), (1.0, -0.5), (1 / 255, -0.1307)]),
    n_parts=st.integers(1, 3),
)
def test_bits_are_those_of_the_reference(
    shape: tuple[int, ...], dtypes: tuple[Any, str], orders: tuple[str, str], mapped: Any, n_parts: int
) -> None:
    ops, expected, actual = best_level(), Passes(shape, dtypes, orders), Passes(shape, dtypes, orders)
    expected.compute(Ops(), *mapped)
    if orders[0] == orders[1] and dtypes[0] != "int32" and expected.x.size:
        program = program_of(lambda: actual.compute(ops, *mapped), n_parts)
        for out in actual.outs:
            out.fill(7)
        program.run(1, n_parts)
    else:
        actual.compute(ops, *mapped)
    for out, other in zip(actual.outs, expected.outs, strict=True):
        assert out.tobytes("A") == other.tobytes("A")


@pytest.mark.parametrize("level", ["v2", "v3", "v4"])
@pytest.mark.parametrize("out_dtype", REALS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, ml_dtypes.bfloat16])
def test_every_number_of_few_bits_is_cast_exactly(dtype: Any, out_dtype: str, level: str) -> None:
    """NaN, infinities and subnormal numbers too."""
    whole = np.arange(256 ** np.dtype(dtype).itemsize, dtype=f"uint{8 * np.dtype(dtype).itemsize}").view(dtype)
    x, out = whole.reshape(16, -1), np.zeros((16, whole.size // 16), out_dtype)
    program_of(lambda: at_level(level).cast(x, out), 1)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(out, x.astype(out_dtype))


def test_what_is_cast_to_fewer_digits_overflows_as_in_the_reference() -> None:
    x = np.array([[1e300, -1e300, np.nan, np.inf, 1e-60, -0.0, 3.1]])
    out, expected = np.zeros((1, 7), np.float32), np.zeros((1, 7), np.float32)
    program_of(lambda: best_level().cast(x, out, 2.0, 0.5), 1)
    with np.errstate(all="ignore"):
        Ops().cast(x, expected, 2.0, 0.5)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("op", ["cast", "assign", "add", "scale"])
def test_what_is_not_laid_out_alike_is_not_taken_for_it(op: str) -> None:
    ops, base = best_level(), np.arange(1.0, 49.0).reshape(6, 8)
    unaligned = np.frombuffer(b"\0" + base.tobytes(), np.uint8)[1:].view(np.float64).reshape(6, 8)
    for x in (base.T.copy().T, base[:, ::2].repeat(2, axis=1)[:, ::1], np.repeat(base, 2, 1)[:, ::2], unaligned):
        for y in (x, x.astype(">f8")):
            whole = np.zeros((6, 16))
            for out in (np.zeros((6, 8)), whole[:, 4:12]):
                if op == "cast":
                    ops.cast(y, out, 2.0, 1.0)
                    np.testing.assert_array_equal(out, 2.0 * x + 1.0)
                elif op == "assign":
                    ops.assign(out, y)
                    np.testing.assert_array_equal(out, x)
                elif op == "add":
                    ops.add(y, y, out)
                    np.testing.assert_array_equal(out, x + x)
                else:
                    ops.scale(y, 3.0, out)
                    np.testing.assert_array_equal(out, 3.0 * x)
            assert not whole[:, :4].any()
            assert not whole[:, 12:].any()


def test_a_number_or_a_row_is_assigned_to_all() -> None:
    out = np.zeros((3, 4), np.float32)
    best_level().assign(out, 0.5)
    assert (out == 0.5).all()
    best_level().assign(out, np.arange(4.0))
    np.testing.assert_array_equal(out, np.broadcast_to(np.arange(4.0), (3, 4)))
