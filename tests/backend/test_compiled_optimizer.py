"""Updates, clipping and the health of a step in C: against the reference, and with the same bits everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend import quiet_arithmetic
from fcnn_gpu.backend._compiled import Library, Program, build_in_checkout
from fcnn_gpu.backend._compiled_ops import CompiledOps
from fcnn_gpu.backend._ops import FlatParameters, Ops, Segment, StepControl, _numpy
from fcnn_gpu.backend._ops._tape import Tape

from ..conftest import compiled_ops
from ..support.compiled import Watched, calls_of
from ..support.tolerances import TRAJECTORY, assert_close

Clipping = dict[str, Any]
"""Of `StepControl`."""


class Run:
    """A flat buffer with these segments, and all else that a step works on."""

    def __init__(
        self, ops: Ops, dtype: Any, segments: tuple[Segment, ...], clipping: Clipping | None = None, seed: int = 0
    ) -> None:
        self.ops, self.dtype, n = ops, dtype, segments[-1].stop
        self.rng = np.random.default_rng(seed)
        signs = self.rng.choice([-1.0, 1.0], size=n)
        values = signs * self.rng.uniform(2.0, 4.0, size=n)  # far from 0, where the pull of an L1 penalty jumps
        self.flat = FlatParameters(ops.asarray(values, dtype), ops.zeros(n, dtype), segments)
        self.control = StepControl(
            step=ops.zeros(1, np.int64),
            learning_rate=ops.zeros(1, np.float64),
            clip_scale=ops.zeros(1, np.float64),
            failed_step=ops.zeros(1, np.int64),
            **(clipping or {}),
        )
        ops.fill(self.control.failed_step, -1)
        ops.fill(self.control.learning_rate, 0.01)
        ops.fill(self.control.clip_scale, 1.0)
        self.state = [ops.zeros(n, dtype) for _ in range(2)]
        self.losses, self.total = ops.zeros(5, dtype), ops.zeros(1, np.float64)
        self.cursor = ops.zeros(1, np.int64)

    def draw(self) -> None:
        """The next gradients, losses and rate."""
        self.flat.gradients[...] = self.rng.normal(size=self.flat.gradients.size)
        self.losses[...] = self.rng.uniform(size=self.losses.size)
        self.control.learning_rate[...] = self.rng.uniform(0.005, 0.015)

    def step(self, update: Update) -> None:
        """Check, update, finish."""
        self.ops.check_finite(self.losses, self.flat, self.control, self.total)
        update(self.ops, self)
        self.ops.finish_step(self.control, [(self.cursor, 3)])

    def found(self) -> dict[str, HostArray]:
        """All that steps change."""
        control = self.control
        return {
            "values": self.flat.values.copy(),
            "first": self.state[0].copy(),
            "second": self.state[1].copy(),
            "clip_scale": control.clip_scale.astype(self.dtype),
            "total": self.total.astype(self.dtype),
            "counts": np.concatenate([control.step, control.failed_step, self.cursor]),
        }


Update = Callable[[Ops, Run], None]

UPDATES: dict[str, Update] = {
    "sgd": lambda ops, r: ops.sgd_update(r.flat, r.control, 0.0, False, None),
    "momentum": lambda ops, r: ops.sgd_update(r.flat, r.control, 0.9, False, r.state[0]),
    "nesterov": lambda ops, r: ops.sgd_update(r.flat, r.control, 0.8, True, r.state[0]),
    "adam": lambda ops, r: ops.adam_update(r.flat, r.control, 0.9, 0.999, 1e-8, 0.0, *r.state),
    "adamw": lambda ops, r: ops.adam_update(r.flat, r.control, 0.8, 0.99, 1e-6, 0.3, *r.state),
    "rmsprop": lambda ops, r: ops.rmsprop_update(r.flat, r.control, 0.99, 1e-8, 0.0, r.state[0], None),
    "rmsprop momentum": lambda ops, r: ops.rmsprop_update(r.flat, r.control, 0.9, 1e-6, 0.9, *r.state),
    "adagrad": lambda ops, r: ops.adagrad_update(r.flat, r.control, 0.01, 1e-10, r.state[0], 0.3),
    "nadam": lambda ops, r: ops.update_by_rule(r.flat, r.control, "nadam", (0.9, 0.99, 1e-8, 0.99), r.state, 0.3),
    "radam": lambda ops, r: ops.update_by_rule(r.flat, r.control, "radam", (0.9, 0.99, 1e-8), r.state),
    "adamax": lambda ops, r: ops.update_by_rule(r.flat, r.control, "adamax", (0.9, 0.99, 1e-8), r.state, 0.3),
    "adadelta": lambda ops, r: ops.update_by_rule(r.flat, r.control, "adadelta", (0.9, 1e-6), r.state),
    "lion": lambda ops, r: ops.update_by_rule(r.flat, r.control, "lion", (0.9, 0.99), r.state[:1], 0.3),
    "centered": lambda ops, r: ops.update_by_rule(r.flat, r.control, "centered", (0.9, 0.01, 0.0), r.state),
}
CLIPPING: list[Clipping] = [{}, {"max_norm": 0.5}, {"max_norm": 1e9}, {"max_value": 0.05}]


def layout(*parts: tuple[int, float, float, bool]) -> tuple[Segment, ...]:
    """Segments of (parameters, λ₁, λ₂, decays)."""
    segments, start = [], 0
    for n, l1, l2, decays in parts:
        segments.append(Segment(start, start + n, l1, l2, decays))
        start += n
    return tuple(segments)


_LENGTH = st.one_of(st.integers(0, 70), st.sampled_from([255, 4095, 4096, 4097, 8200]))
_FACTOR = st.sampled_from([0.0, 0.0, 0.02])
_LAYOUT = st.lists(st.tuples(_LENGTH, _FACTOR, _FACTOR, st.booleans()), min_size=1, max_size=5)


@settings(deadline=None)
@given(
    parts=_LAYOUT,
    update=st.sampled_from(sorted(UPDATES)),
    clipping=st.sampled_from(CLIPPING),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 2**32),
)
def test_twenty_steps_are_the_reference_s(
    parts: list[tuple[int, float, float, bool]], update: str, clipping: Clipping, dtype: Any, seed: int
) -> None:
    """Programs of compiled calls beside the tapes of NumPy's."""
    runs = [Run(ops, dtype, layout(*parts), clipping, seed) for ops in (Ops(), compiled_ops())]
    with quiet_arithmetic():
        for run in runs:
            replay = run.ops.capture(partial(run.step, UPDATES[update]))
            for _ in range(20):
                run.draw()
                replay()
    expected, actual = (run.found() for run in runs)
    for name, value in expected.items():
        assert_close(actual[name], value, "training", name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("l1", [0.0, 0.1])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_weights_that_are_not_finite(dtype: Any, l1: float, l2: float) -> None:
    """They are penalized where there is a penalty, and nowhere else, as by the reference."""
    found = []
    for ops in (Ops(), compiled_ops()):
        run = Run(ops, dtype, layout((5, l1, l2, True), (5, 0.0, 0.0, False)), {"max_norm": 2.0})
        run.draw()
        run.flat.values[...] = [math.inf, -math.inf, math.nan, -0.0, 1e30] * 2
        gradient = ops.zeros(10, dtype)
        with quiet_arithmetic():
            ops.penalized_gradient(run.flat, gradient)
            ops.penalty(run.flat, run.total)
            ops.gradient_clip(run.flat, run.control)
            clip_scale = run.control.clip_scale.copy()
            ops.fill(run.control.clip_scale, 0.5)
            ops.sgd_update(run.flat, run.control, 0.0, False, None)
        found.append({"gradient": gradient, "penalty": run.total, "clip": clip_scale, "values": run.flat.values})
    for name, value in found[0].items():
        assert_close(found[1][name].astype(dtype), value.astype(dtype), "sum", name)


# A failed step


def _bad(dtype: Any) -> dict[str, float]:
    huge = 1.5 * math.sqrt(float(np.finfo(dtype).max))
    return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf, "huge": huge, "-huge": -huge}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("clipping", CLIPPING)
@pytest.mark.parametrize("update", UPDATES)
def test_a_failed_step_changes_nothing(update: str, clipping: Clipping, dtype: Any) -> None:
    """Neither does any after it. A gradient fails it wherever it lies, and so does a loss."""
    segments = layout((4099, 0.01, 0.0, True), (33, 0.0, 0.01, True), (70, 0.0, 0.0, False))
    for number, (what, bad) in enumerate(_bad(dtype).items()):
        for place in (0, 4098, 4099 + number, 4201, None):
            run = Run(compiled_ops(), dtype, segments, clipping)
            for _ in range(2):
                run.draw()
                run.step(UPDATES[update])
            assert run.found()["counts"].tolist() == [2, -1, 6]
            before = run.found()
            run.draw()
            if place is not None:
                run.flat.gradients[place] = bad
            elif "huge" in what:
                continue
            else:
                run.losses[-1] = bad
            run.step(UPDATES[update])
            run.draw()
            run.step(UPDATES[update])
            after = run.found()
            assert after["counts"].tolist() == [2, 2, 6], (what, place)
            for name in ("values", "first", "second"):
                np.testing.assert_array_equal(after[name], before[name], f"{what} at {place}: {name}")


@pytest.mark.parametrize("clipping", [{}, {"max_norm": 1.0}])
@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_gradients_are_checked_where_they_are_computed(clipping: Clipping, bad: float) -> None:
    """A program without clipping goes over them no further time; one with clipping goes over them once, for both."""
    ops, n, batch = compiled_ops(), 9, 12
    run = Run(ops, np.float32, layout((n * n, 0.0, 0.01, True), (n, 0.0, 0.0, False)), clipping)
    dW, db = run.flat.gradients[: n * n].reshape(n, n).T, run.flat.gradients[n * n :].reshape(n, 1)
    W, A0, dZ = (ops.matrix(n, n if i == 0 else batch, np.float32) for i in range(3))
    for x in (W, A0, dZ):
        x[...] = run.rng.normal(size=x.shape)

    def step() -> None:
        ops.dense_backward(dZ, dZ, "identity", 0.0, W, A0, dZ, dW, db)
        run.step(UPDATES["adam"])

    program = Program(calls_of(recorded(step)))
    names = [call.name for shared, serial in program.phases for call in (*shared, *serial)]
    assert "check_gradients" not in names
    assert names.count("squares") == (2 if clipping else 0)
    failed = run.control.failed_step
    for x in (A0, dZ):
        program.run(1, 1)
        assert failed[0] == -1
        kept, x[3, 5] = x[3, 5], bad
        program.run(1, 1)
        assert failed[0] == run.control.step[0]
        x[3, 5], failed[0] = kept, -1


# The same bits


def recorded(step: Callable[[], None]) -> Tape:
    """What a step writes down, which is made once."""
    with _numpy.recorded_calls() as tape:
        step()
    return tape


def compiled_levels() -> list[CompiledOps]:
    """The primitives for every instruction level of this CPU that has fused multiply-add."""
    compiled_ops()
    path = build_in_checkout()
    return [CompiledOps(Library(path, level)) for level in Library(path).levels if level != "v2"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("update", UPDATES)
def test_the_same_bits_by_any_threads_on_any_level(update: str, dtype: Any) -> None:
    segments = layout((30_011, 0.01, 0.02, True), (20_002, 0.0, 0.01, True), (77, 0.0, 0.0, False))
    for clipping in CLIPPING:
        first: dict[str, HostArray] = {}
        for ops in compiled_levels():
            for n_threads in (1, 2, 3):
                run = Run(ops, dtype, segments, clipping)
                penalty = ops.zeros(1, np.float64)

                def step(run: Run = run, penalty: HostArray = penalty) -> None:
                    run.step(UPDATES[update])
                    run.ops.penalty(run.flat, penalty)

                run.draw()
                program = Program(calls_of(recorded(step)))
                run.draw()
                program.run(2, n_threads)
                found = run.found() | {"clip_scale": run.control.clip_scale.copy(), "penalty": penalty}
                first = first or found
                for name, value in first.items():
                    assert found[name].tobytes() == value.tobytes(), (name, clipping, ops.describe(), n_threads)


# Numbers


@pytest.mark.parametrize("beta", [0.1, 0.9, 0.99, 0.999, 0.9999, 0.999999])
def test_bias_correction_is_right_to_its_last_digits(beta: float) -> None:
    """With β₂ = 0, ε = 1 and g = 1 the first step from m = 0 is θ = −½(1 − β)/(1 − βᵗ), whatever t is."""
    for t in (1, 2, 3, 7, 100, 1023, 65_536, 999_999, 10_000_000):
        run = Run(compiled_ops(), np.float64, layout((1, 0.0, 0.0, False)))
        run.flat.values[...], run.flat.gradients[...], run.control.step[...] = 0.0, 1.0, t - 1
        run.ops.fill(run.control.learning_rate, 1.0)
        run.ops.adam_update(run.flat, run.control, beta, 0.0, 1.0, 0.0, *run.state)
        with localcontext() as context:
            context.prec = 60
            correction = 1 - Decimal(beta) ** t
            expected = -(1 - Decimal(beta)) / correction / 2
            assert abs((Decimal(float(run.flat.values[0])) - expected) / expected) < Decimal("2e-15"), t


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_norm_of_many_gradients(dtype: Any) -> None:
    run = Run(compiled_ops(), dtype, layout((70_001, 0.0, 0.0, True), (30_003, 0.0, 0.0, False)), {"max_norm": 1.0})
    run.draw()
    run.ops.gradient_clip(run.flat, run.control)
    norm = math.sqrt(math.fsum(float(g) ** 2 for g in run.flat.gradients))
    assert run.control.clip_scale[0] == pytest.approx(1.0 / (norm + 1e-6), rel=4 * float(np.finfo(dtype).eps))


@pytest.mark.parametrize("update", ["momentum", "adam", "rmsprop momentum"])
def test_moments_fade_to_zero(update: str) -> None:
    """Where gradients stay 0, no moment stays between 0 and the smallest normal number, where CPUs are slow."""
    run = Run(compiled_ops(), np.float32, layout((40, 0.0, 0.0, False)))
    for moment in run.state:
        moment[...] = np.geomspace(1e-36, 1e-34, 40)
    before = run.flat.values.copy()
    replay = run.ops.capture(lambda: UPDATES[update](run.ops, run))
    replay(12_000)
    assert not any(moment.any() for moment in run.state[: 1 if update == "momentum" else 2])
    np.testing.assert_allclose(run.flat.values, before, rtol=1e-6, atol=1e-25)


@pytest.mark.parametrize("update", ["adam", "rmsprop", "adagrad"])
def test_squares_of_tiny_gradients_are_zero(update: str) -> None:
    found = []
    for ops in (Ops(), compiled_ops()):
        run = Run(ops, np.float32, layout((40, 0.0, 0.0, False)))
        run.flat.gradients[...] = np.geomspace(1e-25, 1e-17, 40) * (-1.0) ** np.arange(40)
        run.flat.values[...] = 0.0
        UPDATES[update](ops, run)
        found.append(run)
    squares = found[1].state[1 if update == "adam" else 0]
    assert set(squares[squares < np.finfo(np.float32).tiny].tolist()) == {0.0}
    assert_close(found[1].flat.values, found[0].flat.values, "sum")


def test_learning_rates_after_the_end_of_their_table_are_its_last() -> None:
    ops, table = compiled_ops(), np.array([0.5, 0.25, 0.125])
    position, rate, seen = np.zeros(1, np.int64), np.zeros(1), []
    sources, outs = (np.zeros((2, 1)), np.zeros(2, np.int64), None), (np.zeros((1, 1)), np.zeros(1, np.int64), None)
    order, cursor = np.arange(2), np.zeros(1, np.int64)
    replay = ops.capture(lambda: ops.gather_batch(sources, order, cursor, outs, None, rates=(table, position, rate)))
    for _ in range(5):
        replay()
        seen.append(float(rate[0]))
    assert seen == [0.5, 0.25, 0.125, 0.125, 0.125]


# Programs


def test_what_several_calls_raise_makes_none_of_them_wait() -> None:
    """The two checks go into one phase, and so does no call that reads what they raise."""
    ops, found = compiled_ops(), np.zeros(1, np.int64)
    x, y, out = np.ones(100), np.ones(100), np.zeros(1, np.int64)

    def step() -> None:
        ops.count_nonfinite(x, found)
        ops.count_nonfinite(y, found)
        ops.gather_rows(np.zeros((9, 1)), np.arange(9), found, np.zeros((1, 1)))
        ops.count_nonfinite(x, out)

    program = Program(calls_of(recorded(step)))
    names = [[call.name for call in shared] for shared, _ in program.phases]
    assert names == [["count_nonfinite"] * 3, ["gather_rows"]]
    x[5], y[7:9] = math.nan, math.inf
    program.run(1, 2)
    assert (found.tolist(), out.tolist()) == ([3], [1])


def test_a_call_takes_the_dtypes_that_there_are() -> None:
    with pytest.raises(TypeError, match=r"sum computes in float32 or float64, got float16\."):
        compiled_ops().accumulate_sum(np.zeros(3, np.float16), np.zeros(1))


# Whole runs


SCHEDULE = fcnn.schedules.Cosine(0.01)
OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "sgd": lambda **clip: fcnn.SGD(SCHEDULE, **clip),
    "nesterov": lambda **clip: fcnn.SGD(SCHEDULE, 0.9, True, **clip),
    "adam": lambda **clip: fcnn.Adam(SCHEDULE, **clip),
    "adamw": lambda **clip: fcnn.AdamW(SCHEDULE, **clip),
    "rmsprop": lambda **clip: fcnn.RMSprop(SCHEDULE, momentum=0.5, **clip),
    "adagrad": lambda **clip: fcnn.Adagrad(SCHEDULE, lr_decay=0.01, **clip),
    "muon": lambda **clip: fcnn.Muon(SCHEDULE, SCHEDULE, orthogonalize=["*.W"], **clip),
    "amsgrad": lambda **clip: fcnn.Adam(SCHEDULE, amsgrad=True, weight_decay=SCHEDULE, **clip),
}
X = np.random.default_rng(0).normal(size=(70, 6))
Y = np.argmax(X[:, :3], axis=1)


def trained(ops: Any, optimizer: Any, **options: Any) -> fcnn.Trainer:
    layers = [fcnn.Dense(9, activation="identity", l1=1e-3, l2=1e-2), fcnn.Dense(3, l2=1e-3)]
    model = fcnn.Sequential(layers, n_in=6, seed=0, backend=ops, **options)
    trainer = fcnn.Trainer(model, loss="cross_entropy", optimizer=optimizer, metrics=["accuracy"])
    trainer.fit(X, Y, epochs=4, batch_size=16, sample_weight=np.linspace(0.5, 1.5, 70), progress=False)
    return trainer


@pytest.mark.parametrize("clip", [{}, {"clip_norm": 0.5}, {"clip_value": 0.01}])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_compiled_calls_alone(name: str, clip: dict[str, float]) -> None:
    ops = Watched()
    trainer = trained(ops, OPTIMIZERS[name](**clip), dtype="float64")
    assert len(ops.tapes) >= 2, "steps on whole batches and on the last"
    for tape in ops.tapes:
        calls_of(tape)
    reference = trained(Ops(), OPTIMIZERS[name](**clip), dtype="float64")
    scale = float(np.abs(reference.model.flat.values).max())
    np.testing.assert_allclose(
        trainer.model.flat.values, reference.model.flat.values, rtol=0, atol=TRAJECTORY["float64"] * scale
    )


@pytest.mark.parametrize("clip", [{}, {"clip_norm": 0.5}, {"clip_value": 0.01}])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_that_diverges_stops_with_weights_that_are_finite(name: str, clip: dict[str, float]) -> None:
    layers = [fcnn.Dense(9, activation="identity"), fcnn.Dense(3)]
    model = fcnn.Sequential(layers, n_in=6, seed=0, backend=compiled_ops(), dtype="float32")
    trainer = fcnn.Trainer(model, loss="cross_entropy", optimizer=OPTIMIZERS[name](**clip))
    trainer.optimizer.learning_rate = 1e22
    with pytest.raises(fcnn.DivergenceError):
        trainer.fit(X, Y, epochs=50, batch_size=16, progress=False)
    assert np.isfinite(model.flat.values).all()
