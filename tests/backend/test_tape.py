"""A replayed tape does what its calls would do now, for every primitive: nothing of the first step is baked in."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.backend._ops import DenseStack, FlatParameters, Ops, StepControl, _numpy
from fcnn_gpu.backend._ops._tape import every_step, stop_unless_negative
from fcnn_gpu.layers import Layer

from ..support.op_cases import CASES, Case, scaling_arrays

SHAPES = [(1, 1), (3, 2), (10, 33), (33, 129), (40, 7), (300, 70)]

RETURN = {"empty", "zeros", "matrix", "asarray", "to_numpy", "copy", "fill", "describe", "synchronize", "capture"}
RETURN |= {"stopwatch", "scratch", "ones", "dense_stack"}
"""Primitives that make or move arrays outside of a step, or hand out memory."""


def _arrays(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, np.ndarray) and value.flags.writeable:
        yield value
    elif isinstance(value, FlatParameters):
        yield from (value.values, value.gradients, *([] if value.low is None else [value.low]))
    elif isinstance(value, StepControl):
        yield from (value.step, value.learning_rate, value.clip_scale)
        if value.loss_scaling is not None:
            yield from scaling_arrays(value.loss_scaling).values()
    elif isinstance(value, DenseStack):
        yield from (value.weights, *([] if value.saved is None else [value.saved]))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _arrays(part)


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


def _results(backend: Ops, case: Case, dtype: Any, n: int, batch: int) -> dict[str, Any]:
    rng = np.random.default_rng(zlib.crc32(f"{case.id} {n} {batch}".encode()))
    with np.errstate(all="ignore"):
        return case.run(backend, rng, dtype, n, batch)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for cases in CASES.values() for case in cases])
def test_a_replay_is_the_call(case: Case, dtype: Any) -> None:
    for n, batch in SHAPES:
        expected = _results(Ops(), case, dtype, n, batch)
        actual = _results(ReplayingOps(), case, dtype, n, batch)
        for name, value in expected.items():
            np.testing.assert_array_equal(actual[name], value, f"{case.id}: {name} at n={n}, batch={batch}")


def test_what_stands_around_the_primitives_runs_once() -> None:
    backend, counter, calls = Ops(), np.zeros(1, np.int64), list[int]()

    def step() -> None:
        calls.append(1)
        backend.advance(counter, 2)

    replay = backend.capture(step)
    for _ in range(3):
        replay()
    assert (calls, counter.tolist()) == ([1], [6])


def test_other_threads_are_not_recorded() -> None:
    backend = Ops()
    mine, theirs = np.zeros(1, np.int64), np.zeros(1, np.int64)

    def step() -> None:
        backend.advance(mine, 1)
        thread = threading.Thread(target=lambda: backend.advance(theirs, 1))
        thread.start()
        thread.join()

    replay = backend.capture(step)
    replay()
    replay()
    assert (mine.tolist(), theirs.tolist()) == ([2], [1])


def test_recording_ends_with_an_error_in_the_step() -> None:
    backend, counter = Ops(), np.zeros(1, np.int64)

    def step() -> None:
        backend.advance(counter, 1)
        if counter[0] == 1:
            raise KeyError("first")

    replay = backend.capture(step)
    with pytest.raises(KeyError, match="first"):
        replay()
    assert _numpy.add is np.add
    replay()  # recorded now
    replay()
    assert counter.tolist() == [3]


class InterruptedLock:
    """A lock at whose n-th use, on entering or on leaving, Ctrl-C comes."""

    def __init__(self, n: int) -> None:
        self.n = n

    def _count(self) -> None:
        self.n -= 1
        if self.n == 0:
            raise KeyboardInterrupt

    def __enter__(self) -> None:
        self._count()

    def __exit__(self, *error: object) -> None:
        self._count()


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_recording_ends_with_an_interrupt_at_any_point(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, counter = Ops(), np.zeros(1, np.int64)
    replay = backend.capture(lambda: backend.advance(counter, 1))
    with monkeypatch.context() as patch:
        patch.setattr(_numpy, "_switch", InterruptedLock(n))
        with pytest.raises(KeyboardInterrupt):
            replay()
    counter[0] = 0
    replay()
    assert _numpy.add is np.add
    replay()
    assert counter.tolist() == [2]


class Failing(Ops):
    """Ops with a primitive that fails, or stops failing, at a certain count."""

    @every_step
    def look(self, counter: Any, failed: Any, at: tuple[int, ...]) -> None:
        failed[0] = 0 if int(counter[0]) in at else -1


def test_a_step_that_ended_early_is_not_kept_and_one_that_fails_ends_there() -> None:
    backend = Failing()
    counter, after, failed = (np.zeros(1, np.int64) for _ in range(3))

    def step() -> None:
        backend.advance(counter, 1)
        backend.look(counter, failed, (1, 4))
        if not stop_unless_negative(failed):
            backend.advance(after, 1)
        if not stop_unless_negative(failed):
            backend.advance(after, 10)

    replay = backend.capture(step)
    seen = []
    for _ in range(5):
        replay()
        seen.append((int(counter[0]), int(after[0])))
    assert seen == [(1, 0), (2, 11), (3, 22), (4, 22), (5, 33)]


def test_what_python_may_have_changed_is_asked_again() -> None:
    backend = Failing()
    counter, after, failed = np.zeros(1, np.int64), np.zeros(1, np.int64), np.full(1, -1)

    def step() -> None:
        backend.advance(counter, 1)
        if not stop_unless_negative(failed):
            backend.look(counter, failed, (2,))
        if not stop_unless_negative(failed):
            backend.advance(after, 1)

    replay = backend.capture(step)
    for _ in range(3):
        replay()
    assert (counter.tolist(), after.tolist()) == ([3], [1])  # failed in the second step, and stayed so


def test_a_captured_step_may_not_capture_another() -> None:
    backend = Ops()
    outer = backend.capture(lambda: backend.capture(lambda: None)())
    with pytest.raises(RuntimeError, match="may not capture another"):
        outer()


def test_a_call_that_would_allocate_is_not_recorded() -> None:
    with pytest.raises(AssertionError, match="add is being recorded, but names no array for its result"):
        Ops().capture(lambda: print(_numpy.add(np.ones(2), 1.0)))()


class Doubling(Layer):
    """A layer of the user's own that computes without primitives."""

    def _build(self, n_in: int, seed: Any) -> None:
        self.n_out = n_in

    def allocate(self, plan: Any, training: bool) -> SimpleNamespace:
        return SimpleNamespace(A=plan.matrix(self.n_out))

    def forward(self, A0: Any, cache: SimpleNamespace, training: bool) -> Any:
        cache.A[...] = A0 * 2.0
        return cache.A

    def backward(self, dA: Any, cache: SimpleNamespace, needs_input_gradient: bool) -> Any:
        dA *= 2.0
        return dA


def test_classes_of_ones_own_are_called_in_every_step() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 5)).astype(np.float32), rng.integers(0, 2, 40)

    inner, outer = fcnn.Dense(2), fcnn.Dense(2)
    own = fcnn.Sequential([Doubling(), inner], n_in=5, seed=0)
    reference = fcnn.Sequential([outer], n_in=5, seed=0)
    outer.W[...] = inner.W
    for model, inputs in ((own, X), (reference, 2 * X)):
        fcnn.Trainer(model).fit(inputs, y, epochs=2, batch_size=10, shuffle=False, progress=False)
    np.testing.assert_array_equal(inner.W, outer.W)
