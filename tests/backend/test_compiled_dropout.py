"""Dropout in C: the reference's masks and products bit for bit, whatever computes them."""

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

DTYPES = ["float32", "float64"]
KEY, STEP = (2**63 + 5, 17), np.array([9])


def _forward(primitives: Ops, A: np.ndarray, p: float, key: tuple[int, int], step: int, first_draw: int) -> Any:
    n, batch = A.shape
    mask, out = primitives.matrix(n, batch, np.uint8), primitives.matrix(n, batch, A.dtype)
    primitives.dropout_forward(A, p, key, np.array([step]), mask, out, first_draw)
    return mask, out


def _activations(n: int, batch: int, dtype: str) -> np.ndarray:
    return np.random.default_rng([n, batch]).standard_normal((batch, n)).astype(dtype).T


WORD = st.integers(0, 2**64 - 1)


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(0, 90),
    batch=st.integers(0, 40),
    p=st.one_of(st.sampled_from([0.0, 0.5, 1e-6]), st.floats(0.0, 0.999999)),
    key=st.tuples(WORD, WORD),
    step=st.integers(0, 2**62),
    first_draw=st.one_of(st.integers(0, 600), st.integers(0, 2**60)),
    dtype=st.sampled_from(DTYPES),
    n_parts=st.integers(1, 3),
)
@example(n=512, batch=256, p=0.5, key=KEY, step=1, first_draw=0, dtype="float32", n_parts=2)
@example(n=17, batch=129, p=0.3, key=(2**64 - 1, 2**64 - 1), step=0, first_draw=13, dtype="float32", n_parts=3)
def test_masks_and_outputs_are_those_of_the_reference(
    n: int, batch: int, p: float, key: tuple[int, int], step: int, first_draw: int, dtype: str, n_parts: int
) -> None:
    A, ops = _activations(n, batch, dtype), best_level()
    mask, out = _forward(Ops(), A, p, key, step, first_draw)
    mine, product, back = ops.matrix(n, batch, np.uint8), ops.matrix(n, batch, dtype), ops.matrix(n, batch, dtype)
    x, dA = A.copy(order="K"), A.copy(order="K")

    def compute() -> None:
        ops.dropout_forward(A, p, key, np.array([step]), mine, product, first_draw)
        ops.dropout_forward(x, p, key, np.array([step]), mine, x, first_draw)
        ops.dropout_backward(A, p, mine, back)
        ops.dropout_backward(dA, p, mine, dA)

    program = program_of(compute, n_parts)
    x[...] = dA[...] = A
    for array in (mine, product, back):
        array.fill(7)
    program.run(1, n_parts)
    np.testing.assert_array_equal(mine, mask)
    for result in (product, x, back, dA):
        np.testing.assert_array_equal(result, out)


@pytest.mark.parametrize("level", ["v2", "v3", "v4"])
@pytest.mark.parametrize("first_draw", [0, 1, 15, 16, 4099])
def test_masks_are_the_same_bits_at_every_level(level: str, first_draw: int) -> None:
    A = _activations(101, 37, "float32")
    mask, out = _forward(Ops(), A, 0.4, KEY, 3, first_draw)
    mine, product = _forward(at_level(level), A, 0.4, KEY, 3, first_draw)
    np.testing.assert_array_equal(mine, mask)
    np.testing.assert_array_equal(product, out)


def test_parts_of_a_batch_have_the_masks_that_they_have_in_it() -> None:
    ops, A = best_level(), _activations(33, 20, "float32")
    whole, _ = _forward(ops, A, 0.5, KEY, 3, 0)
    for start, stop in [(0, 7), (7, 8), (8, 20)]:
        part, _ = _forward(ops, A[:, start:stop], 0.5, KEY, 3, 33 * start)
        np.testing.assert_array_equal(part, whole[:, start:stop])


def test_a_replayed_step_draws_anew() -> None:
    ops, A, step = best_level(), _activations(64, 8, "float32"), np.array([5])
    mask, out = ops.matrix(64, 8, np.uint8), ops.matrix(64, 8, "float32")
    program = program_of(lambda: ops.dropout_forward(A, 0.5, KEY, step, mask, out), 1)
    for number in (5, 6, 2**40):
        step[0] = number
        program.run(1, 1)
        np.testing.assert_array_equal(mask, _forward(Ops(), A, 0.5, KEY, number, 0)[0])


@pytest.mark.parametrize("make", [best_level, Ops])
def test_what_is_dropped_still_shows_divergence(make: Any) -> None:
    ops: CompiledOps | Ops = make()
    A = np.full((64, 4), np.nan, np.float32, "F")
    A[:, 2:] = np.inf
    with quiet_arithmetic():
        mask, out = _forward(ops, A, 0.5, KEY, 3, 0)
    assert np.isnan(out[:, :2]).all()
    assert (np.isnan(out[:, 2:]) == (mask[:, 2:] == 0)).all()
