"""Dynamic loss scaling: a run with it is the run without it over the steps that it does not skip, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fcnn_gpu._types import Array, HostArray
from fcnn_gpu.backend._ops import FlatParameters, LossScaling, Ops, Segment, StepControl

N = 17_003  # several parts of a sum, and no whole number of vectors
N_WEIGHTS = 15_998
SEGMENTS = (
    Segment(0, 1999, l1=0.01, l2=0.02, decay=1.0),
    Segment(1999, N_WEIGHTS, decay=1.0),
    Segment(N_WEIGHTS, N),
)
BATCH = 7

Update = Callable[[Ops, FlatParameters, StepControl, list[Array]], None]
UPDATES: dict[str, Update] = {
    "sgd": lambda o, f, c, s: o.sgd_update(f, c, 0.0, False, None),
    "nesterov": lambda o, f, c, s: o.sgd_update(f, c, 0.9, True, s[0]),
    "adam": lambda o, f, c, s: o.adam_update(f, c, 0.9, 0.999, 1e-8, 0.0, *s),
    "adamw": lambda o, f, c, s: o.adam_update(f, c, 0.9, 0.999, 1e-8, 0.1, *s),
    "rmsprop": lambda o, f, c, s: o.rmsprop_update(f, c, 0.99, 1e-8, 0.9, *s),
    "adagrad": lambda o, f, c, s: o.adagrad_update(f, c, 0.1, 1e-10, s[0]),
    "nadam": lambda o, f, c, s: o.update_by_rule(f, c, "nadam", (0.9, 0.999, 1e-8, 0.999), s, 0.1),
}
CLIPS: dict[str, dict[str, Any]] = {"": {}, "norm": {"max_norm": 0.5}, "value": {"max_value": 0.3}}


@dataclass
class Run:
    """Steps on given gradients and losses, which a step takes from a table as it takes batches from a data set.

    gradients (n_steps, N) are those of the loss, and infinite in a step that overflows; `scales` is what the loss is
    multiplied by in each step, None without loss scaling.
    """

    ops: Ops
    update: Update
    gradients: HostArray
    scales: list[float] | None = None
    losses: HostArray | None = None
    low: Any = None
    interval: int = 3
    captured: bool = False
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ops, rng = self.ops, np.random.default_rng(3)
        self.scaling = None
        if self.scales is not None:
            self.scaling = LossScaling.start(ops, self.interval)
            ops.fill(self.scaling.scale, self.scales[0])
        self.flat = FlatParameters(
            ops.asarray(rng.normal(size=N), np.float32),
            ops.zeros(N, np.float32),
            SEGMENTS,
            None if self.low is None else ops.zeros(N_WEIGHTS, self.low),
        )
        self.control = StepControl(
            step=ops.zeros(1, np.int64),
            learning_rate=ops.asarray(np.array([0.01])),
            clip_scale=ops.asarray(np.array([1.0])),
            failed_step=ops.asarray(np.array([-1])),
            loss_scaling=self.scaling,
            **self.settings,
        )
        self.state = [ops.asarray(rng.uniform(0.1, 1, size=N), np.float32) for _ in range(2)]
        self.cursor, self.total = ops.zeros(1, np.int64), ops.zeros(1, np.float64)

    def arrays(self) -> dict[str, HostArray]:
        """Copies of everything that a step may change."""
        live: dict[str, Array] = {"values": self.flat.values, "first": self.state[0], "second": self.state[1]}
        live |= {"step": self.control.step, "failed_step": self.control.failed_step, "clip": self.control.clip_scale}
        if self.scaling is not None:
            live |= {name: getattr(self.scaling, name) for name in ("scale", "good_steps", "skipped", "skip")}
        if self.flat.low is not None:
            live["low"] = self.flat.low
        return {name: self.ops.to_numpy(array).copy() for name, array in live.items()}

    def steps(self) -> Iterator[dict[str, HostArray]]:
        """What there is after each step."""
        ops, flat, control = self.ops, self.flat, self.control
        n_steps = len(self.gradients)
        scale = np.ones(n_steps) if self.scales is None else np.array(self.scales)
        table = ops.asarray(self.gradients * scale[:, None], np.float32)
        losses = np.ones((n_steps, BATCH)) if self.losses is None else self.losses
        loss_table, losses_now = ops.asarray(losses, np.float32), ops.empty(BATCH, np.float32)
        order = ops.asarray(np.arange(n_steps))

        def step() -> None:
            ops.gather_rows(table, order, self.cursor, flat.gradients.reshape(1, -1))
            ops.gather_rows(loss_table, order, self.cursor, losses_now.reshape(1, -1))
            ops.check_finite(losses_now, flat, control, self.total)
            self.update(ops, flat, control, self.state)
            ops.finish_step(control, [(self.cursor, 1)])

        program = ops.capture(step) if self.captured else step
        for _ in range(n_steps):
            program()
            yield self.arrays()


def gradients(n_steps: int, overflows: set[int]) -> HostArray:
    g = np.random.default_rng(8).normal(size=(n_steps, N)).astype(np.float32)
    for step in overflows:
        g[step, (step * 977) % N] = (np.inf, -np.inf, np.nan)[step % 3]
    return g


def assert_same(actual: dict[str, HostArray], expected: dict[str, HostArray], names: tuple[str, ...]) -> None:
    for name in names:
        assert actual[name].tobytes() == expected[name].tobytes(), name


OVERFLOWS = {0, 3, 4, 9}
SCALES = [2.0**16, 2**15, 2**15, 2**15, 2**14, 2**13, 2**13, 2**13, 2**14, 2**14, 2**13, 2**13]
"""In each of twelve steps: halved after an overflow, doubled after three others in a row."""


@pytest.mark.parametrize(
    ("clip", "captured"), [("", True), ("norm", False), ("value", True)], ids=["captured", "norm", "value-captured"]
)
@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.filterwarnings("ignore:invalid value|overflow:RuntimeWarning")
def test_a_scaled_run_is_the_run_over_its_sound_steps(ops: Ops, update: str, clip: str, captured: bool) -> None:
    g = gradients(len(SCALES), OVERFLOWS)
    sound = [k for k in range(len(SCALES)) if k not in OVERFLOWS]
    scaled = Run(ops, UPDATES[update], g, SCALES, captured=captured, settings=CLIPS[clip])
    plain = Run(ops, UPDATES[update], g[sound], settings=CLIPS[clip])
    before, expected = scaled.arrays(), plain.steps()
    for k, after in enumerate(scaled.steps()):
        skipped = k in OVERFLOWS
        reference = {**before, "clip": after["clip"]} if skipped else next(expected)
        assert_same(after, reference, ("values", "first", "second", "step", "failed_step", "clip"))
        assert (int(after["skip"][0]) >= 0) == skipped
        if k + 1 < len(SCALES):
            assert float(after["scale"][0]) == SCALES[k + 1]
        before = after
    assert (int(before["skipped"][0]), int(before["step"][0])) == (len(OVERFLOWS), len(sound))
    assert float(ops.to_numpy(scaled.total)[0]) == BATCH * len(SCALES)
    assert int(ops.to_numpy(scaled.cursor)[0]) == len(SCALES)


@pytest.mark.parametrize("captured", [False, True], ids=["eager", "captured"])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_the_scale_halves_down_to_one_and_then_an_overflow_is_a_failure(ops: Ops, captured: bool) -> None:
    g = gradients(7, {1, 2, 4, 6})
    run = Run(ops, UPDATES["adam"], g, [4.0, 4.0, 2.0, 1.0, 1.0, 1.0, 1.0], captured=captured, interval=100)
    seen = list(run.steps())
    assert [float(s["scale"][0]) for s in seen] == [4, 2, 1, 1, 1, 1, 1]
    assert [int(s["failed_step"][0]) for s in seen] == [-1, -1, -1, -1, 2, 2, 2]
    assert [int(s["step"][0]) for s in seen] == [1, 1, 1, 2, 2, 2, 2]
    assert int(seen[-1]["skipped"][0]) == 2
    assert_same(seen[-1], seen[3], ("values", "first", "second", "good_steps", "skipped", "scale"))


@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_loss_that_is_not_finite_fails_at_any_scale(ops: Ops, bad: float) -> None:
    losses = np.ones((3, BATCH))
    losses[1, 2] = bad
    run = Run(ops, UPDATES["sgd"], gradients(3, {1}), [8.0] * 3, losses)
    seen = list(run.steps())
    assert [int(s["failed_step"][0]) for s in seen] == [-1, 1, 1]
    assert_same(seen[-1], seen[0], ("values", "step", "scale", "skipped"))


@pytest.mark.parametrize("clip", ["", "norm"])
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_squares_are_those_of_the_gradient_of_the_loss_itself(ops: Ops, clip: str) -> None:
    """A scaled gradient may be larger than the root of the largest number; times 1/scale it may not."""
    g = gradients(2, set())
    g[:, 11] = 2.0 * np.sqrt(np.finfo(np.float32).max) * np.array([1 / 8, 1])
    run = Run(ops, UPDATES["sgd"], g, [2.0**8, 2.0**8], settings=CLIPS[clip])
    assert [int(s["skip"][0]) for s in run.steps()] == [-1, 1]


def test_the_scale_grows_to_its_largest(ops: Ops) -> None:
    scales = [2.0**22, 2.0**23, 2.0**24, 2.0**24]
    run = Run(ops, UPDATES["sgd"], gradients(4, set()), scales, interval=1)
    assert [float(s["scale"][0]) for s in run.steps()] == [*scales[1:], 2.0**24]


@pytest.mark.parametrize("low", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("captured", [False, True], ids=["eager", "captured"])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_the_copy_of_the_weights_follows_them(ops: Ops, low: Any, captured: bool) -> None:
    run = Run(ops, UPDATES["adamw"], gradients(4, {1}), [8.0, 8.0, 4.0, 4.0], low=low, captured=captured)
    plain = Run(ops, UPDATES["adamw"], gradients(4, {1}), [8.0, 8.0, 4.0, 4.0])
    for k, (with_copy, without) in enumerate(zip(run.steps(), plain.steps(), strict=True)):
        assert_same(with_copy, without, ("values", "first", "second"))
        np.testing.assert_array_equal(with_copy["low"], with_copy["values"][:N_WEIGHTS].astype(low), f"step {k}")


def test_a_new_scaling_starts_at_its_first_scale(ops: Ops) -> None:
    scaling = LossScaling.start(ops)
    found = {name: ops.to_numpy(getattr(scaling, name)).tolist() for name in ("scale", "good_steps", "skipped", "skip")}
    assert found == {"scale": [65536.0], "good_steps": [0], "skipped": [0], "skip": [-1]}
    assert scaling.growth_interval == 2000


@pytest.mark.parametrize(
    ("dtype", "low", "size"), [("float32", "float32", 3), ("float64", "float16", 3), ("float32", "float16", 6)]
)
def test_a_copy_that_no_update_can_write_is_refused(dtype: str, low: str, size: int) -> None:
    with pytest.raises(ValueError, match=f"copy in 16 bits .* got {size} elements of {low} for 5 of {dtype}"):
        FlatParameters(np.zeros(5, dtype), np.zeros(5, dtype), (), np.zeros(size, low))
