"""A replayed tape does what its calls would do now, for every primitive: nothing of the first step is baked in."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.backend._ops import FlatParameters, Ops, StepControl

from .op_cases import CASES, Case

SHAPES = [(1, 1), (3, 2), (10, 33), (33, 129), (40, 7), (300, 70)]

RETURN = {"empty", "zeros", "matrix", "asarray", "to_numpy", "copy", "fill", "describe", "synchronize", "capture"}
RETURN |= {"stopwatch", "scratch", "ones"}
"""Primitives that make or move arrays outside of a step, or hand out memory."""


def _arrays(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, np.ndarray) and value.flags.writeable:
        yield value
    elif isinstance(value, FlatParameters):
        yield from (value.values, value.gradients)
    elif isinstance(value, StepControl):
        yield from (value.step, value.learning_rate, value.clip_scale)


def _disturb(array: np.ndarray) -> None:
    """Other contents of the same kind: what a recording must not depend on."""
    if array.size > 1:
        array[...] = array.ravel()[::-1].reshape(array.shape).copy()
    elif array.dtype.kind == "f":
        array *= 0.5


class ReplayingOps(Ops):
    """Ops whose every primitive is recorded on disturbed arrays and then replayed on the real ones."""

    busy = False


def _replaying(name: str) -> Callable[..., Any]:
    def call(self: ReplayingOps, *args: Any, **kwargs: Any) -> Any:
        primitive = getattr(Ops, name)
        if self.busy:
            return primitive(self, *args, **kwargs)
        self.busy = True
        try:
            arrays = [array for value in [*args, *kwargs.values()] for array in _arrays(value)]
            before = [array.copy() for array in arrays]
            replay = self.capture(lambda: primitive(self, *args, **kwargs))
            for array in arrays:
                _disturb(array)
            replay()
            for array, kept in zip(arrays, before, strict=True):
                array[...] = kept
            replay()
        finally:
            self.busy = False

    return call


for _name in set(CASES) - RETURN:
    setattr(ReplayingOps, _name, _replaying(_name))


def _results(ops: Ops, case: Case, dtype: Any, n: int, batch: int) -> dict[str, Any]:
    rng = np.random.default_rng(zlib.crc32(f"{case.id} {n} {batch}".encode()))
    with np.errstate(all="ignore"):
        return case.run(ops, rng, dtype, n, batch)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for cases in CASES.values() for case in cases])
def test_a_replay_is_the_call(case: Case, dtype: Any) -> None:
    for n, batch in SHAPES:
        expected = _results(Ops(), case, dtype, n, batch)
        actual = _results(ReplayingOps(), case, dtype, n, batch)
        for name, value in expected.items():
            np.testing.assert_array_equal(actual[name], value, f"{case.id}: {name} at n={n}, batch={batch}")
