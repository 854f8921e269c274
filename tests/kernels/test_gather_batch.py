"""gather_batch.cu: what a training step takes from the data set, and what counts steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher

from .conftest import ExpectFault
from .helpers import BFLOAT16, BLOCKS, FLOATS, HALVES, accumulator, poisoned

N, CURSOR = 30, 4
SOURCES = [np.dtype(np.uint8), np.dtype(np.int64), *FLOATS, *HALVES]


class Step:
    """The arguments of one launch."""

    def __init__(self, S: np.dtype[Any], T: np.dtype[Any], n_features: int, batch: int, weighted: bool = True) -> None:
        rng = np.random.default_rng(n_features + batch)
        self.S, self.T, self.batch = S, T, batch
        self.X: HostArray = rng.integers(0, 100, (N, n_features)).astype(S)
        self.targets = rng.integers(-(2**62), 2**62, N)
        self.weights: HostArray | None = rng.random((N, 1), np.float32) if weighted else None
        self.order, self.cursor = rng.permutation(N), np.array([CURSOR])
        self.rates, self.position, self.rate = rng.random(3), np.array([1]), np.array([np.nan])
        self.counter = np.array([41])
        self.out = poisoned((batch, n_features), T, "C")
        self.out_targets = poisoned((batch, 2), np.dtype(np.uint32), "C")
        self.out_weights = poisoned((batch, 1), np.dtype(np.uint32), "C") if weighted else None

    def launch(self, launcher: Launcher, scale: float = 1.0, shift: float = 0.0, scheduled: bool = True) -> None:
        words = None if self.weights is None else self.weights.view(np.uint32)
        table = [self.rates, self.position, self.rate] if scheduled else [None, None, None]
        sizes = [N, self.X.shape[1], 2, 0 if words is None else 1, N, 3 if scheduled else 0, self.batch]
        inputs = [self.X, self.targets.reshape(N, 1).view(np.uint32), words, self.order, self.cursor, table[0]]
        outputs = [self.out, self.out_targets, self.out_weights, self.counter, *table[1:]]
        arguments = [*sizes, scale, shift, *inputs, *outputs]
        launcher.launch("gather_batch", "gather_batch", (self.S, self.T), arguments, threads=max(1, self.out.size))

    @property
    def rows(self) -> HostArray:
        return self.order[CURSOR : CURSOR + self.batch]

    def check(self, expected: HostArray) -> None:
        np.testing.assert_array_equal(self.out.view(np.uint8), expected.view(np.uint8))
        np.testing.assert_array_equal(self.out_targets.view(np.int64)[:, 0], self.targets[self.rows])
        if self.weights is not None and self.out_weights is not None:
            np.testing.assert_array_equal(self.out_weights.view(np.float32), self.weights[self.rows])
        assert self.counter[0] == 42


@pytest.mark.parametrize("T", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("S", SOURCES, ids=str)
def test_scaled(launcher: Launcher, S: np.dtype[Any], T: np.dtype[Any]) -> None:
    wide = accumulator(T)
    for n_features, batch in [(1, 1), (5, 3), (33, 7), (64, 26)]:
        step = Step(S, T, n_features, batch)
        step.launch(launcher, wide.type(1 / 255), wide.type(-0.5))
        with np.errstate(over="ignore"):
            picked = step.X[step.rows].astype(wide)
            step.check((picked * wide.type(1 / 255) + wide.type(-0.5)).astype(T))
        assert (step.rate[0], step.position[0]) == (step.rates[1], 2)


@pytest.mark.parametrize("T", FLOATS + HALVES, ids=str)
def test_unscaled_copies_are_exact(launcher: Launcher, T: np.dtype[Any]) -> None:
    step = Step(T, T, 9, 20, weighted=False)
    step.X[:, 0], step.X[:, 1] = -0.0, -np.inf
    step.launch(launcher, scheduled=False)
    step.check(step.X[step.rows])
    assert np.isnan(step.rate[0])
    assert step.position[0] == 1


@pytest.mark.parametrize("block", BLOCKS)
def test_any_grid(make_launcher: Any, block: int) -> None:
    for max_blocks in (1, 3, 1000):
        step = Step(np.dtype(np.float32), BFLOAT16, 12, 25)
        step.launch(make_launcher(block=block, max_blocks=max_blocks))
        step.check(step.X[step.rows].astype(BFLOAT16))


def test_counters_move_in_an_empty_batch(launcher: Launcher) -> None:
    step = Step(np.dtype(np.float32), np.dtype(np.float32), 4, 0)
    step.launch(launcher)
    assert (step.counter[0], step.position[0]) == (42, 2)


def test_the_last_rate_stays(launcher: Launcher) -> None:
    step = Step(np.dtype(np.float32), np.dtype(np.float32), 4, 2)
    step.position[0] = 17
    step.launch(launcher)
    assert (step.rate[0], step.position[0]) == (step.rates[2], 18)


@pytest.mark.parametrize("cursor", [-1, N - 1])
def test_a_place_outside_of_the_order_stops_the_launch(expect_fault: ExpectFault, cursor: int) -> None:
    step = Step(np.dtype(np.float32), np.dtype(np.float32), 4, 5)
    step.cursor[0] = cursor
    with expect_fault("__trap") as launcher:
        step.launch(launcher)
