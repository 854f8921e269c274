"""Updates that overflow though every gradient is finite: found before they count, wherever the weights lie."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu.backend import FlatParameters, Segment, StepControl, Timetable, WeightMatrix
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.callbacks import Callback
from fcnn_gpu.optimizers import Adam, Course, Optimizer
from fcnn_gpu.schedules import Schedule
from fcnn_gpu.training import _run

from ..support import placement_cases
from ..support.registry_cases import OPTIMIZER_CASES
from ..support.small_runs import Y, assert_same, fit, trainer, values


class Jump(Schedule):
    """0.01, and from a time on far too much."""

    def __init__(self, at: float) -> None:
        self.at = at

    def __call__(self, epoch: float, n_epochs: float) -> float:
        return 1e300 if epoch >= self.at else 0.01


OVERFLOWING = {
    "sgd": fcnn.SGD(Jump(0)),
    "momentum": fcnn.SGD(Jump(0), momentum=0.9),
    "adam": fcnn.Adam(Jump(0)),
    "adamw": fcnn.AdamW(1e30, weight_decay=1e10),
    "rmsprop": fcnn.RMSprop(1e38, momentum=0.9),
    "adagrad": fcnn.Adagrad(Jump(0)),
    "lion": fcnn.Lion(Jump(0), weight_decay=0.1),
    "nadam": fcnn.NAdam(Jump(0)),
    "centered": fcnn.RMSprop(Jump(0), centered=True),
}
"""Rates at which the first update of float32 weights is infinite or NaN."""


class Sudden(Optimizer):
    """An update of a user's own, which overflows in one step."""

    learning_rate: Any = 0.01
    at = 2

    def _update(self, ops: Any, flat: FlatParameters, control: StepControl, state: dict[str, Any]) -> None:
        if control.failed_step[0] < 0:
            flat.values -= np.float32(np.inf) if control.step[0] == self.at else 0.01 * flat.gradients


@pytest.mark.parametrize("optimizer", OVERFLOWING.values(), ids=OVERFLOWING)
@pytest.mark.parametrize("batch_size", [16, 50], ids=["four steps", "the run's only step"])
def test_the_first_update(optimizer: Optimizer, batch_size: int) -> None:
    t = trainer(optimizer=copy.copy(optimizer))
    before = values(t) | {"random_step": 0}
    with pytest.raises(fcnn.DivergenceError, match=r"epoch 1, step 1: the update makes .* in layer 0, Dense.*infinite"):
        fit(t, batch_size=batch_size, epochs=1)
    assert_same(values(t), before)


@pytest.mark.parametrize("capture", [True, False])
@pytest.mark.parametrize(("step", "epochs"), [(0, 1), (2, 1), (3, 1), (5, 2), (7, 2)])
def test_a_later_update_and_the_last(step: int, epochs: int, capture: bool) -> None:
    """What is kept is what a run has left that ends one step earlier: here one whose later rates are 0."""

    class Still(Jump):
        def __call__(self, epoch: float, n_epochs: float) -> float:
            return min(super().__call__(epoch, n_epochs), 0.01) if epoch < self.at else 0.0

    t = trainer(optimizer=fcnn.SGD(Jump(step / 4)))
    with pytest.raises(fcnn.DivergenceError) as caught:
        fit(t, epochs=epochs, capture=capture)
    assert (caught.value.epoch, caught.value.step) == (step // 4 + 1, step % 4 + 1)
    assert "it was 1e+300" in str(caught.value)
    if step:
        still = trainer(optimizer=fcnn.SGD(Still(step / 4)))
        fit(still, epochs=epochs)
        kept, expected = t.model.snapshot(), still.model.snapshot()
        for name in (name for name in kept if "running" not in name):
            np.testing.assert_array_equal(kept[name], expected[name], err_msg=name)
    if step > 3:  # a schedule begins anew with each run: its first epoch is sound
        fit(t, epochs=1)
    assert all(np.isfinite(array).all() for array in t.model.snapshot().values())


def test_a_rate_that_a_callback_sets_within_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_run, "_TICK_SECONDS", 0.0)

    class Set(Callback):
        def on_tick(self, trainer: fcnn.Trainer, step: int, n_steps: int, loss: float) -> None:
            if step == 2:
                trainer.optimizer.set_learning_rate(1e300)

    t = trainer(optimizer=fcnn.SGD(0.01))
    with pytest.raises(fcnn.DivergenceError, match=r"epoch 1, step 3: the update makes"):
        fit(t, callbacks=[Set()])
    assert all(np.isfinite(array).all() for array in t.model.snapshot().values())


def test_an_update_that_a_user_has_written() -> None:
    t = trainer(optimizer=Sudden(0.01))
    with pytest.raises(fcnn.DivergenceError, match=r"epoch 1, step 3: the update makes W in layer 0"):
        fit(t)
    assert int(t.optimizer.control.step[0]) == 2
    assert all(np.isfinite(array).all() for array in t.model.snapshot().values())


def test_an_update_that_a_penalty_makes_grow() -> None:
    """(1 − 2ηλ₂)ᵗ·w overflows where the inputs of the weights are 0, and so no loss and no gradient ever shows it."""
    model = fcnn.Sequential([fcnn.Dense(2, l2=1.0)], n_in=3, seed=0, backend="numpy")
    t = fcnn.Trainer(model, optimizer=fcnn.SGD(1e4))
    with pytest.raises(fcnn.DivergenceError, match="the update makes W in layer 0"):
        t.fit(np.zeros((16, 3), "f"), [0, 1] * 8, epochs=1, batch_size=1, progress=False, shuffle=False)
    assert np.isfinite(model.flat.values).all()


@pytest.mark.parametrize("name", OVERFLOWING)
@pytest.mark.parametrize("place", placement_cases.PLACES)
def test_weights_elsewhere(place: str, name: str) -> None:
    model = placement_cases.stored_network(place, 7)
    optimizer = copy.copy(OVERFLOWING[name])
    before = model.snapshot()
    with pytest.raises(fcnn.DivergenceError, match=r"epoch 1, step 1: the update makes 0.W, infinite"):
        placement_cases.fit(model, optimizer)
    after = model.snapshot()
    for key, array in before.items():
        np.testing.assert_array_equal(np.asarray(after[key]), np.asarray(array), err_msg=key)
    for key, array in optimizer.whole_state.items():
        assert not np.asarray(array).any(), key


def test_a_folder_keeps_the_step_before(tmp_path: Path) -> None:
    """The run ends in its third step, which a reopened folder knows nothing of."""
    layers = [fcnn.Dense(8, placement="disk"), fcnn.Dense(3)]
    model = fcnn.Sequential(layers, n_in=20, seed=0, backend="numpy", storage=tmp_path / "folder")
    with pytest.raises(fcnn.DivergenceError, match=r"epoch 1, step 3: the update makes 0.W"):
        placement_cases.fit(model, fcnn.SGD(Jump(0.5)), epochs=1)
    kept = {name: np.array(array) for name, array in model.named_arrays().items()}
    model.close()
    again = fcnn.load(tmp_path / "folder", backend="numpy")
    optimizer = fcnn.SGD(0.01).bind(again)
    assert int(optimizer.control.step[0]) == 2
    for name, array in again.named_arrays().items():
        np.testing.assert_array_equal(np.asarray(array), kept[name], err_msg=name)
        assert np.isfinite(kept[name]).all()
    again.close()


def test_estimators_keep_what_they_had() -> None:
    pytest.importorskip("sklearn")
    from fcnn_gpu.estimators import FCNNClassifier

    X = np.random.default_rng(0).normal(size=(50, 5))
    classifier = FCNNClassifier((4,), optimizer="sgd", random_state=0, backend="numpy")
    classifier.partial_fit(X, Y, classes=[0, 1, 2])
    before = classifier.predict_proba(X)
    classifier.learning_rate = 1e300
    with pytest.raises(fcnn.DivergenceError, match="the update makes W in layer 0"):
        classifier.partial_fit(X, Y)
    np.testing.assert_array_equal(classifier.predict_proba(X), before)


def test_updates_of_use_are_not_looked_at() -> None:
    """Whatever the optimizer, at a rate that trains, every step is known to be sound before it is taken."""
    for name, cases in OPTIMIZER_CASES.items():
        for make in cases:
            for l2 in (0.0, 1e-2):
                course = Course(1.0, 100, 1e19, 1e19, 1e-3, l2, np.dtype("float32"))
                assert make().stays_finite(course), (name, make())


def test_an_update_of_ones_own_is_known_by_nobody() -> None:
    class Mine(Adam):
        def _update(self, *args: Any) -> None:
            super()._update(*args)

    class Own(Optimizer):
        learning_rate: Any = 0.1

    course = Course(1e-3, 100, 1.0, 1.0, 0.0, 0.0, np.dtype("float32"))
    assert [optimizer.has_bound for optimizer in (Adam(), Mine(), Own(0.1))] == [True, False, False]
    assert Adam().stays_finite(course)
    assert not Mine().stays_finite(course)


_EXPONENTS = st.integers(-45, 19)


@given(
    case=st.sampled_from([(name, i) for name, cases in OPTIMIZER_CASES.items() for i in range(len(cases))]),
    gradients=st.lists(st.tuples(_EXPONENTS, st.sampled_from([-1.8, 0.0, 1.0, 1.8])), min_size=1, max_size=25),
    rate=st.sampled_from([1e-3, 1.0, 1e6, 1e15]),
    l2=st.sampled_from([0.0, 1e-3, 10.0]),
    start=st.sampled_from([0.0, 1.0, -1e19]),
)
@example(case=("adam", 0), gradients=[(-30, 1.0), (-12, 1.0), (-45, 1.0)], rate=1e15, l2=0.0, start=0.0)
def test_the_bound_of_where_updates_lead(
    case: tuple[str, int], gradients: list[tuple[int, float]], rate: float, l2: float, start: float
) -> None:
    """No sequence of gradients takes a parameter beyond it."""
    optimizer = OPTIMIZER_CASES[case[0]][case[1]](clip_value=None)
    ops = Ops()
    named: dict[str, Any] = {"places": {"0.W": slice(0, 1)}, "matrices": {"0.W": WeightMatrix(1, 1, hidden=True)}}
    flat = FlatParameters(np.full(1, start, "f"), np.zeros(1, "f"), (Segment(0, 1, 0.0, l2, decay=1.0),), **named)
    optimizer.bind(Bare(ops, flat))
    optimizer.set_learning_rate(rate)
    bound = float(np.sqrt(np.finfo("f").max))
    course = Course(rate, len(gradients), bound, bound, 0.0, l2, np.dtype("f"))
    sound = optimizer.stays_finite(course)
    with np.errstate(all="ignore"):
        for exponent, factor in gradients:
            flat.gradients[...] = np.float32(factor * 10.0**exponent)
            optimizer.apply()
            if sound:
                assert abs(float(flat.values[0])) <= optimizer._reach(course)


class Bare:
    """Parameters without a network."""

    stored = None

    def __init__(self, primitives: Ops, flat: FlatParameters) -> None:
        self.ops, self.flat, self.timetable = primitives, flat, Timetable(primitives)
