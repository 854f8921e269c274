"""Schedules: the rate at any time of a run, warm-up before any of them, and the reduction on a plateau."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.schedules import (
    SCHEDULES,
    Adaptive,
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    InverseScaling,
    Linear,
    OneCycle,
    PiecewiseConstant,
    Polynomial,
    ReduceOnPlateau,
    Schedule,
    StepDecay,
    Warmup,
)


def rates(schedule: Schedule, times: list[float], n_epochs: float = 10) -> list[float]:
    return [schedule(t, n_epochs) for t in times]


@pytest.mark.parametrize(
    ("schedule", "times", "expected"),
    [
        (Constant(0.5), [0, 3.7, 10], [0.5, 0.5, 0.5]),
        (StepDecay(1.0, every=3, factor=0.5), [0, 2.99, 3, 6, 9], [1, 1, 0.5, 0.25, 0.125]),
        (StepDecay(1.0, every=0.1, factor=0.5), [0.1 + 0.1 + 0.1], [0.125]),
        (Exponential(1.0, factor=0.25), [0, 0.5, 1, 2], [1, 0.5, 0.25, 0.0625]),
        (Cosine(1.0), [0, 5, 10, 12], [1, 0.5, 0, 0]),
        (Cosine(1.0, final=0.2, epochs=4), [0, 2, 4, 9], [1, 0.6, 0.2, 0.2]),
        (Linear(1.0), [0, 2.5, 10, 11], [1, 0.75, 0, 0]),
        (Linear(1.0, final=2.0, epochs=2), [0, 1, 2, 5], [1, 1.5, 2, 2]),
        (OneCycle(1.0), [0, 3, 10], [1 / 25, 1, 1 / 25e4]),
        (OneCycle(1.0, rise=0.5, initial_div=2, final_div=5), [0, 2.5, 5, 7.5, 10], [0.5, 0.75, 1, 0.55, 0.1]),
        (Warmup(Constant(1.0), epochs=2), [0, 1, 2, 9], [0, 0.5, 1, 1]),
        (Warmup(Constant(1.0), epochs=2, start=0.5), [0, 1, 2], [0.5, 0.75, 1]),
        (Warmup(Cosine(1.0), epochs=2), [0, 1, 2, 6, 10], [0, 0.5, 1, 0.5, 0]),
        (Warmup(Warmup(Constant(1.0), epochs=2, start=0.5), epochs=2), [0, 2, 3, 4], [0, 0.5, 0.75, 1]),
        (ReduceOnPlateau(0.5), [0, 5], [0.5, 0.5]),
    ],
    ids=repr,
)
def test_rates(schedule: Schedule, times: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(rates(schedule, times), expected, atol=1e-12)


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_every_schedule_is_a_nonnegative_number_at_any_time_of_any_run(name: str) -> None:
    needed: dict[str, list[Any]] = {"warmup": [Linear(0.1)], "step": [0.1, 2], "piecewise_constant": [0.1, [2, 5.5]]}
    schedule: Any = SCHEDULES[name](*needed.get(name, [0.1]))
    for n_epochs in (1.0, 7.0, 100.0):
        for t in np.linspace(0, n_epochs, 31):
            assert 0 <= schedule(float(t), n_epochs) <= 0.1 + 1e-12


def observe(schedule: Schedule, values: list[float]) -> list[float]:
    found = []
    for value in values:
        schedule.observe({"val_loss": value, "val_r2": value})
        found.append(schedule(1.0, 10.0))
    return found


def test_a_plateau_reduces_after_patience_is_spent() -> None:
    schedule = ReduceOnPlateau(1.0, factor=0.5, patience=1)
    assert observe(schedule, [3.0, 2.0, 2.0, 2.0, 2.0, 2.0]) == [1, 1, 1, 0.5, 0.5, 0.25]


def test_an_improvement_below_the_threshold_is_none() -> None:
    schedule = ReduceOnPlateau(1.0, factor=0.5, patience=0, threshold=0.1)
    assert observe(schedule, [1.0, 0.95, 0.85, 0.8]) == [1, 0.5, 0.5, 0.25]


def test_there_is_a_smallest_rate() -> None:
    schedule = ReduceOnPlateau(1.0, factor=0.1, patience=0, minimum=0.05)
    assert observe(schedule, [1.0] * 4) == [1, 0.1, 0.05, 0.05]


@pytest.mark.parametrize("start", [-3.0, 0.5], ids=["negative", "positive"])
def test_where_more_is_better_standing_still_is_no_improvement(start: float) -> None:
    schedule = ReduceOnPlateau(1.0, factor=0.5, patience=0, column="val_r2", greater_is_better=True)
    assert observe(schedule, [start, start, start + 1, start + 1]) == [1, 0.5, 0.5, 0.25]
    assert schedule.monitor == "val_r2"


def test_nan_is_never_the_best() -> None:
    schedule = ReduceOnPlateau(1.0, factor=0.5, patience=1)
    assert observe(schedule, [math.nan, 2.0, math.nan, 1.0, math.nan, math.nan]) == [1, 1, 1, 1, 1, 0.5]


def test_a_warmup_passes_observations_on() -> None:
    schedule = Warmup(ReduceOnPlateau(1.0, factor=0.5, patience=0), epochs=1)
    assert schedule.monitor == "val_loss"
    assert observe(schedule, [1.0, 1.0]) == [1, 0.5]
    assert Warmup(Constant(1.0)).monitor is None
    assert Warmup({"name": "constant", "learning_rate": 0.5}).then == Constant(0.5)  # type: ignore[arg-type]


def test_the_rate_changes_within_an_epoch_and_the_history_has_the_last() -> None:
    X, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    model = fcnn.Sequential([fcnn.Dense(2)], n_in=3, seed=0, backend="numpy")
    seen: list[float] = []

    class Spy(fcnn.SGD):
        def step(self) -> None:
            seen.append(float(self.control.learning_rate[0]))
            super().step()

    trainer = fcnn.Trainer(model, optimizer=Spy(Linear(1.0)))
    history = trainer.fit(X, y, epochs=2, batch_size=10, progress=False, capture=False)
    np.testing.assert_allclose(seen, [1 - i / 8 for i in range(8)])
    np.testing.assert_allclose(history["learning_rate"], [1 - 3 / 8, 1 - 7 / 8])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(-1), r"Constant\(learning_rate\) expects a finite number of at least 0, got -1"),
        (lambda: StepDecay(0.1, every=0), r"StepDecay\(every\), in epochs, expects a finite number greater than 0"),
        (lambda: StepDecay(0.1, every=1, factor=-1), r"StepDecay\(factor\)"),
        (lambda: Exponential(0.1, factor=0), r"Exponential\(factor\)"),
        (lambda: Cosine(-0.1), r"Cosine\(learning_rate\)"),
        (lambda: Cosine(0.1, final=-1), r"Cosine\(final\)"),
        (lambda: Cosine(0.1, epochs=0), r"Cosine\(epochs\)"),
        (lambda: Linear(0.1, final=math.inf), r"Linear\(final\)"),
        (lambda: Linear(0.1, epochs=-2), r"Linear\(epochs\)"),
        (lambda: Warmup(Constant(0.1), epochs=0), r"Warmup\(epochs\)"),
        (lambda: Warmup(Constant(0.1), start=1.5), r"Warmup\(start\)"),
        (lambda: OneCycle(0.1, rise=1.0), r"OneCycle\(rise\) expects a finite number in \(0, 1\)"),
        (lambda: OneCycle(0.1, initial_div=0.5), r"OneCycle\(initial_div\)"),
        (lambda: OneCycle(0.1, final_div=0.0), r"OneCycle\(final_div\)"),
        (lambda: ReduceOnPlateau(0.1, factor=1.0), r"ReduceOnPlateau\(factor\)"),
        (lambda: ReduceOnPlateau(0.1, patience=-1), r"ReduceOnPlateau\(patience\)"),
        (lambda: ReduceOnPlateau(0.1, minimum=-1), r"ReduceOnPlateau\(minimum\)"),
        (lambda: ReduceOnPlateau(0.1, threshold=-1), r"ReduceOnPlateau\(threshold\)"),
    ],
)
def test_fields_that_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_the_base_says_what_to_define() -> None:
    with pytest.raises(NotImplementedError, match="Schedule must define __call__"):
        Schedule()(0.0, 1.0)
    assert Schedule().monitor is None


# Rates that are no rates, and runs of which nothing comes


class Given(Schedule):
    """The rates of a list, one per epoch."""

    def __init__(self, *rates: Any) -> None:
        self.rates = rates

    def __call__(self, epoch: float, n_epochs: float) -> Any:
        return self.rates[min(int(epoch), len(self.rates) - 1)]


def small_trainer(rate: Any) -> fcnn.Trainer:
    model = fcnn.Sequential([fcnn.Dense(2)], n_in=3, seed=0, backend="numpy")
    return fcnn.Trainer(model, optimizer=fcnn.SGD(rate))


def train(trainer: fcnn.Trainer, epochs: int, batch_size: int = 4) -> None:
    X = np.random.default_rng(0).normal(size=(16, 3)).astype("f")
    trainer.fit(X, [0, 1] * 8, epochs=epochs, batch_size=batch_size, progress=False)


NO_RATES = [math.nan, math.inf, -math.inf, -1e-9, np.float32("nan"), "0.1", None]


@pytest.mark.parametrize("bad", NO_RATES, ids=repr)
def test_a_rate_that_is_no_finite_number_changes_nothing(bad: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"learning rate of .* after 0 of 1 epochs expects a"):
        small_trainer(Given(bad))
    trainer = small_trainer(Given(0.1, bad))
    before = trainer.model.snapshot()
    with pytest.raises((ValueError, TypeError), match="after 1 of 3 epochs expects a"):
        train(trainer, 3)
    for name, array in trainer.model.snapshot().items():
        np.testing.assert_array_equal(array, before[name])
    assert trainer.epochs_trained == 0
    assert trainer.history.records == []
    rate = float(trainer.optimizer.control.learning_rate[0])
    with pytest.raises((ValueError, TypeError), match=r"SGD.set_learning_rate expects a"):
        trainer.optimizer.set_learning_rate(bad)
    assert float(trainer.optimizer.control.learning_rate[0]) == rate


def test_a_rate_within_an_epoch_is_refused_before_that_epoch() -> None:
    class Late(Given):
        def __call__(self, epoch: float, n_epochs: float) -> Any:
            return math.nan if epoch == 1.5 else 0.1

    trainer, two = small_trainer(Late()), small_trainer(0.1)
    with pytest.raises(ValueError, match=r"after 1\.5 of 2 epochs"):
        train(trainer, 2)
    train(two, 1)
    for name, array in trainer.model.snapshot().items():
        np.testing.assert_array_equal(array, two.model.snapshot()[name])


@pytest.mark.parametrize("then", [Constant(0.1), Cosine(0.1), Linear(0.1), OneCycle(2.5), StepDecay(0.1, 1)], ids=repr)
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_run_that_is_not_longer_than_its_warm_up_rises(then: Schedule, epochs: int) -> None:
    schedule = Warmup(then, epochs=3)
    np.testing.assert_allclose(rates(schedule, [0, 0.5, epochs - 0.25], epochs), np.array([0, 0.5, epochs - 0.25]) / 30)
    trainer = small_trainer(schedule)
    before = trainer.model.snapshot()["0.W"].copy()
    train(trainer, epochs)
    assert (trainer.model.snapshot()["0.W"] != before).all()


@pytest.mark.parametrize(
    ("schedule", "epochs"),
    [
        (Warmup(Constant(0.1), epochs=2), 1),
        (Cosine(0.0), 2),
        (OneCycle(0.0), 3),
        (StepDecay(0.0, 1), 2),
        (Given(0.0), 4),
    ],
    ids=repr,
)
def test_a_run_in_which_every_rate_is_0_is_refused(schedule: Schedule, epochs: int) -> None:
    trainer = small_trainer(schedule)
    with pytest.raises(ValueError, match=rf"rate of 0 in every step of this run \({epochs} epochs? of 1 step\)"):
        train(trainer, epochs, batch_size=16)


def test_a_constant_rate_of_0_is_as_somebody_has_asked() -> None:
    train(small_trainer(0.0), 1)


def of_torch(make: Any, n_epochs: int = 12) -> list[float]:
    """The rates of a scheduler of PyTorch's, stepped once an epoch, that begins with 0.5."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    found = []
    for _ in range(n_epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (CosineRestarts(0.5, epochs=3), lambda kinds, o: kinds.CosineAnnealingWarmRestarts(o, 3)),
        (
            CosineRestarts(0.5, epochs=1, multiplier=2, final=0.1),
            lambda kinds, o: kinds.CosineAnnealingWarmRestarts(o, 1, 2, eta_min=0.1),
        ),
        (CosineRestarts(0.5, epochs=2, multiplier=3), lambda kinds, o: kinds.CosineAnnealingWarmRestarts(o, 2, 3)),
        (PiecewiseConstant(0.5, [2, 3, 9], factor=0.3), lambda kinds, o: kinds.MultiStepLR(o, [2, 3, 9], 0.3)),
        (
            PiecewiseConstant(0.5, [2, 9], factor=[0.7, 0.1]),
            lambda kinds, o: kinds.LambdaLR(o, lambda t: 1.0 if t < 2 else 0.7 if t < 9 else 0.1),
        ),
        (Polynomial(0.5, power=2.5, epochs=8), lambda kinds, o: kinds.PolynomialLR(o, 8, 2.5)),
        (Polynomial(0.5), lambda kinds, o: kinds.PolynomialLR(o, 12)),
    ],
    ids=lambda x: str(x) if isinstance(x, Schedule) else "",
)
def test_rates_of_pytorch(ours: Schedule, theirs: Any) -> None:
    np.testing.assert_allclose(rates(ours, list(range(12)), 12), of_torch(theirs), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("multiplier", [1.0, 1.5, 2.0])
def test_restarts_within_epochs_are_those_of_pytorch(multiplier: float) -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 2, int(multiplier))
    schedule = CosineRestarts(0.5, epochs=2, multiplier=int(multiplier))
    for t in np.linspace(0, 13, 57):
        scheduler.step(float(t))
        assert schedule(float(t), 13) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
    falling = CosineRestarts(0.5, epochs=2, multiplier=multiplier)
    lengths = [2 * multiplier**i for i in range(4)]
    for start, length in zip(np.cumsum([0, *lengths]), lengths, strict=False):
        assert falling(float(start), 99) == pytest.approx(0.5)
        assert falling(float(start + 0.5 * length), 99) == pytest.approx(0.25)


def test_inverse_scaling_is_scikit_learns() -> None:
    from sklearn.neural_network._stochastic_optimizers import SGDOptimizer

    n_samples = 30
    theirs = SGDOptimizer([], 0.5, "invscaling", power_t=0.4)
    ours = InverseScaling(0.5, power=0.4, per_epoch=n_samples)
    for epoch in range(1, 6):
        theirs.iteration_ends(epoch * n_samples)
        assert ours(epoch, 5) == pytest.approx(theirs.learning_rate)


@pytest.mark.parametrize(("patience", "tolerance", "n_epochs"), [(1, 0.01, 12), (2, 0.05, 30), (1, 0.001, 25)])
def test_adaptive_is_scikit_learns(patience: int, tolerance: float, n_epochs: int) -> None:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor

    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    network = MLPRegressor(
        hidden_layer_sizes=(4,),
        solver="sgd",
        learning_rate="adaptive",
        learning_rate_init=0.2,
        n_iter_no_change=patience,
        tol=tolerance,
        max_iter=n_epochs,
        random_state=0,
        batch_size=10,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(X, X[:, 0] + 0.3 * rng.normal(size=40))
    ours = Adaptive(0.2, patience=patience, tolerance=tolerance)
    for loss in network.loss_curve_:
        ours.observe({"loss": loss})
    theirs = network._optimizer.learning_rate
    assert theirs < 0.2
    assert ours(0, 1) == pytest.approx(max(theirs, 1e-6))  # at which scikit-learn's network stops


def test_adaptive_stays_above_its_minimum_and_takes_no_nan_for_better() -> None:
    schedule = Adaptive(1.0, patience=0, minimum=0.1)
    found = []
    for loss in (1.0, 1.0, math.nan, 1.0, 0.5):
        schedule.observe({"loss": loss})
        found.append(schedule(0, 1))
    assert found == pytest.approx([1.0, 0.2, 0.1, 0.1, 0.1])


def a_function(epoch: float) -> float:
    return 0.1 / (1 + epoch)


def test_a_function_of_the_time_is_a_schedule() -> None:
    X, y = np.random.default_rng(0).normal(size=(8, 2)), np.arange(8) % 2
    columns = []
    for rate in (a_function, InverseScaling(0.1, power=1.0), lambda epoch, n_epochs: 0.1 / (1 + epoch)):
        model = fcnn.Sequential([fcnn.Dropout(lambda epoch: 0.2), fcnn.Dense(2)], n_in=2, seed=0, backend="numpy")
        optimizer = fcnn.AdamW(rate, weight_decay=lambda epoch: 0.01 * epoch)
        history = fcnn.Trainer(model, optimizer=optimizer).fit(X, y, epochs=3, batch_size=4, progress=False)
        columns.append((history["learning_rate"], history["loss"]))
    assert columns[0] == columns[1] == columns[2]
    assert columns[0][0] == pytest.approx([0.1 / 1.5, 0.1 / 2.5, 0.1 / 3.5])
    then = Warmup(a_function, epochs=2)  # type: ignore[arg-type]
    assert rates(then, [0, 1, 2, 3]) == pytest.approx([0, 0.05, 0.1, 0.05])
    assert repr(fcnn.Adam(a_function)).startswith("Adam(learning_rate=FunctionSchedule(function=<function a_function")
    estimator = fcnn.FCNNClassifier((3,), epochs=2, learning_rate=a_function, backend="numpy", random_state=0)
    assert estimator.fit(X, y).history_["learning_rate"] == pytest.approx([0.1, 0.05])


def test_an_error_in_a_function_says_which_schedule_it_was() -> None:
    def broken(epoch: float) -> float:
        return 1 / 0 if epoch >= 0.5 else 0.1

    model = fcnn.Sequential([fcnn.Dense(2)], n_in=2, seed=0, backend="numpy")
    with pytest.raises(ZeroDivisionError) as raised:
        fcnn.Trainer(model, optimizer=fcnn.SGD(broken)).fit(np.eye(2), [0, 1], epochs=2, batch_size=1, progress=False)
    [note] = raised.value.__notes__
    assert re.fullmatch(r"\(It was raised by the schedule .*broken, asked for the value at epoch 1\.\)", note)


def test_functions_that_are_no_schedules() -> None:
    with pytest.raises(TypeError, match=r"takes the time in epochs, f\(epoch\).* takes 3 arguments"):
        fcnn.Adam(lambda a, b, c: 0.1)
    with pytest.raises(TypeError, match=r"takes 0 arguments"):
        fcnn.SGD(lambda: 0.1)
    model = fcnn.Sequential([fcnn.Dense(2)], n_in=2, seed=0, backend="numpy")
    trainer = fcnn.Trainer(model, optimizer=fcnn.SGD(lambda epoch: 0.1 - epoch))
    with pytest.raises(ValueError, match=r"learning rate of FunctionSchedule.* after 1 of 2 epochs expects a finite"):
        trainer.fit(np.ones((4, 2)), [0, 1, 0, 1], epochs=2, progress=False)
    with pytest.raises(TypeError, match="is not registered"):
        SCHEDULES.config(fcnn.SGD(a_function).learning_rate)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PiecewiseConstant(0.1, []), "at least one time, each"),
        (lambda: PiecewiseConstant(0.1, [3, 2]), "each later than the one before"),
        (lambda: PiecewiseConstant(0.1, [1, 2], factor=[0.1]), "has 1 numbers for 2 boundaries"),
        (lambda: PiecewiseConstant(0.1, 3), "expects a list of times in epochs, got 3"),  # type: ignore[arg-type]
        (lambda: CosineRestarts(0.1, multiplier=0.5), r"CosineRestarts\(multiplier\)"),
        (lambda: Polynomial(0.1, power=0), r"Polynomial\(power\)"),
        (lambda: InverseScaling(0.1, per_epoch=0), r"InverseScaling\(per_epoch\)"),
        (lambda: Adaptive(0.1, factor=1.0), r"Adaptive\(factor\)"),
    ],
)
def test_settings_that_are_refused(make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()
