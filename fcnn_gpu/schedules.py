"""Learning rates, and other settings, over a training run.

A schedule is a function of time in epochs: `schedule(epoch, n_epochs)` is the learning rate after `epoch` epochs
(fractions count: 2.5 is the middle of the third) of a run of `n_epochs`. `Trainer` evaluates it before every step.
`AdamW(weight_decay=)` and `Dropout(p=)` take schedules as well: `learning_rate` is then their number. Where a schedule
may stand, a function of the time may: `Adam(lambda epoch: 0.1 / (1 + epoch))`, or one of epoch and n_epochs.
"""

from __future__ import annotations

import bisect
import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar

from ._checks import check_bool, check_integer, check_real
from ._console import counted
from ._on_demand import own_names
from ._registry import Registry

__dir__ = own_names(__name__)


@dataclass
class Schedule:
    """A learning rate η(t), t in epochs. `str` leaves out of `repr` what is as by default.

    >>> str(Warmup(FlatCos(0.15), epochs=2))
    'Warmup(FlatCos(0.15), epochs=2)'
    """

    name: ClassVar[str]

    def __str__(self) -> str:
        said = []
        for setting in fields(self):
            value = getattr(self, setting.name)
            if setting.init and value != setting.default:
                shown = str(value) if isinstance(value, Schedule) else repr(value)
                said.append(shown if setting.default is MISSING else f"{setting.name}={shown}")
        return f"{type(self).__name__}({', '.join(said)})"

    def __call__(self, epoch: float, n_epochs: float) -> float:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(epoch, n_epochs).")

    def observe(self, record: Mapping[str, float]) -> None:
        """What `Trainer` tells at the end of each epoch: the epoch's line of the history."""

    @property
    def monitor(self) -> str | None:
        """The history column that `observe` needs, if any."""
        return None


_SYNONYMS = {
    "cosine_annealing": "cosine",
    "cosine_decay": "cosine",
    "exponential_decay": "exponential",
    "inverse_scaling": "invscaling",
    "linear_decay": "linear",
    "polynomial_decay": "polynomial",
    "sgdr": "cosine_restarts",
    "step_decay": "step",
}
_FUNCTION = "It is a function of the time in epochs: learning_rate=lambda epoch: 0.1 * 0.9**epoch"
_PIECES = "'piecewise_constant', with boundaries= in epochs and factor="
_RESTARTS = "'cosine_restarts', with epochs= for T_0, multiplier= for T_mult and final= for eta_min"
_THEN = "'warmup', whose `then` follows it"
_ELSEWHERE: dict[str, str | None] = {
    "ChainedScheduler": _THEN,
    "ConstantLR": "'warmup', with start=1/3; a rate that stays is the number itself",
    "CosineAnnealingLR": "'cosine', with epochs= for T_max and final= for eta_min",
    "CyclicLR": None,
    "ExponentialLR": "'exponential', with factor= for gamma",
    "CosineAnnealingWarmRestarts": _RESTARTS,
    "CosineDecayRestarts": _RESTARTS,
    "InverseTimeDecay": "'invscaling', with power=1 and per_epoch= for decay_rate, in epochs",
    "LambdaLR": _FUNCTION,
    "LinearLR": "'warmup', with start= for start_factor, or 'linear' from one rate to another",
    "LinearWarmup": "'warmup'",
    "MultiplicativeLR": _FUNCTION,
    "MultiStepLR": _PIECES,
    "OneCycleLR": "'one_cycle'",
    "PiecewiseConstantDecay": _PIECES,
    "PolynomialLR": "'polynomial', with epochs= for total_iters",
    "ReduceLROnPlateau": "'reduce_on_plateau'",
    "SequentialLR": _THEN,
    "StepLR": "'step', with every= for step_size and factor= for gamma",
}
SCHEDULES: Registry[Schedule] = Registry("schedule", Schedule, _SYNONYMS, _ELSEWHERE)


@dataclass
class FunctionSchedule(Schedule):
    """η(t) = f(t), t in epochs, or f(t, T), T the length of the run, of a function f of ones own."""

    function: Callable[..., float]
    _of_length: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        needed = [
            parameter
            for parameter in inspect.signature(self.function).parameters.values()
            if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        ]
        if len(needed) not in (1, 2):
            raise TypeError(
                f"A function is a schedule if it takes the time in epochs, f(epoch), or f(epoch, n_epochs); "
                f"{self.function!r} takes {len(needed)} arguments."
            )
        self._of_length = len(needed) == 2

    def __call__(self, epoch: float, n_epochs: float) -> float:
        try:
            return self.function(epoch, n_epochs) if self._of_length else self.function(epoch)
        except Exception as error:
            name = getattr(self.function, "__qualname__", repr(self.function))
            error.add_note(f"(It was raised by the schedule {name}, asked for the value at epoch {epoch:g}.)")
            raise


def as_schedule(value: Any) -> Any:
    """A schedule from its configuration or from a function of the time; whatever is neither, as it is."""
    if isinstance(value, dict):
        return SCHEDULES.build(value)
    is_function = callable(value) and not isinstance(value, Schedule | type)
    return FunctionSchedule(value) if is_function else value


def _check_rate(who: str, value: float) -> float:
    return check_real(who, value, low=0.0)


def rate_at(schedule: Schedule, epoch: float, n_epochs: float) -> float:
    """η(epoch), checked: a ValueError or TypeError where the schedule gives no finite number of at least 0."""
    value = schedule(epoch, n_epochs)
    if type(value) is float and 0.0 <= value < math.inf:
        return value
    when = f"after {epoch:g} of {n_epochs:g} epochs"
    try:
        return _check_rate(f"The learning rate of {schedule!r} {when}", getattr(value, "item", lambda: value)())
    except ValueError as error:
        raise ValueError(f"{error} Check the schedule's settings.") from None


def rates_of_epoch(schedule: Schedule, number: int, n_steps: int, n_epochs: int) -> list[float]:
    """The rates, checked, of the n_steps steps of epoch `number`, from 1 on."""
    begin, n = number - 1, float(n_epochs)
    rates = [schedule(begin + i / n_steps, n) for i in range(n_steps)]
    if {*map(type, rates)} == {float} and min(rates) >= 0.0 and sum(rates) < math.inf:  # which no NaN is
        return rates
    return [rate_at(schedule, begin + i / n_steps, n) for i in range(n_steps)]


def values_of_epoch(
    schedule: Schedule, epochs: Iterable[float], n_epochs: float, what: str, below: float
) -> list[float]:
    """Another setting's values at these times. A ValueError or TypeError where one is not in 0 ≤ value < below."""
    times = list(epochs)
    values = [schedule(epoch, n_epochs) for epoch in times]
    if {*map(type, values)} == {float} and min(values) >= 0.0 and max(values) < below and sum(values) < math.inf:
        return values  # among which there is no NaN
    checked = []
    for epoch, value in zip(times, values, strict=True):
        if not (type(value) is float and 0.0 <= value < below):
            who = f"{what}, {schedule!r} after {epoch:g} of {n_epochs:g} epochs,"
            value = check_real(who, getattr(value, "item", lambda v=value: v)(), low=0.0, high=below, high_open=True)
        checked.append(value)
    return checked


def check_run(schedule: Schedule, n_steps: int, n_epochs: int) -> None:
    """ValueError where a run of n_epochs of n_steps each cannot have this schedule, as far as is known before it.

    That is a rate at the beginning of an epoch, or in the run's last step, that is not a finite number of at least 0;
    or a rate that is 0 in every step. A constant rate of 0 is one that somebody has asked for.
    """
    times = [*range(n_epochs), n_epochs - 1 / n_steps]
    rates = [rate_at(schedule, float(t), float(n_epochs)) for t in times]
    if any(rates) or isinstance(schedule, Constant):
        return
    if not any(any(rates_of_epoch(schedule, number, n_steps, n_epochs)) for number in range(1, n_epochs + 1)):
        raise ValueError(
            f"{schedule!r} gives a learning rate of 0 in every step of this run ({counted(n_epochs, 'epoch')} of "
            f"{counted(n_steps, 'step')}): nothing would be trained. Give it a rate greater than 0 to begin or end "
            "with, such as Warmup(start=0.1) or Cosine(final=1e-5), or a longer time."
        )


@SCHEDULES.register("constant")
@dataclass
class Constant(Schedule):
    """η(t) = η₀."""

    learning_rate: float

    def __post_init__(self) -> None:
        _check_rate("Constant(learning_rate)", self.learning_rate)

    def __call__(self, epoch: float, n_epochs: float) -> float:
        return self.learning_rate


@SCHEDULES.register("step")
@dataclass
class StepDecay(Schedule):
    """η(t) = η₀ · factor^⌊t/every⌋: PyTorch's `StepLR`, stepped once an epoch.

    >>> [StepDecay(0.1, every=10, factor=0.5)(t, 30) for t in (0, 9.9, 10, 20)]
    [0.1, 0.1, 0.05, 0.025]
    """

    learning_rate: float
    every: float
    factor: float = 0.1

    def __post_init__(self) -> None:
        _check_rate("StepDecay(learning_rate)", self.learning_rate)
        check_real("StepDecay(every), in epochs,", self.every, low=0.0, low_open=True)
        check_real("StepDecay(factor)", self.factor, low=0.0)

    def __call__(self, epoch: float, n_epochs: float) -> float:
        # a step that falls on a boundary up to rounding (0.1·10 epochs) belongs to the new rate
        return self.learning_rate * self.factor ** math.floor(epoch / self.every + 1e-9)


@SCHEDULES.register("exponential")
@dataclass
class Exponential(Schedule):
    """η(t) = η₀ · factor^t, continuously: PyTorch's `ExponentialLR` at whole epochs."""

    learning_rate: float
    factor: float = 0.95

    def __post_init__(self) -> None:
        _check_rate("Exponential(learning_rate)", self.learning_rate)
        check_real("Exponential(factor)", self.factor, low=0.0, low_open=True)

    def __call__(self, epoch: float, n_epochs: float) -> float:
        return self.learning_rate * self.factor**epoch


@SCHEDULES.register("cosine")
@dataclass
class Cosine(Schedule):
    """η(t) = η_f + ½(η₀ − η_f)(1 + cos(πt/T)), then η_f (Loshchilov & Hutter 2017, eq. 5, without restarts).

    T is `epochs`, or the length of the run where that is None.
    """

    learning_rate: float
    final: float = 0.0
    epochs: float | None = None

    def __post_init__(self) -> None:
        _check_rate("Cosine(learning_rate)", self.learning_rate)
        _check_rate("Cosine(final)", self.final)
        if self.epochs is not None:
            check_real("Cosine(epochs)", self.epochs, low=0.0, low_open=True)

    def __call__(self, epoch: float, n_epochs: float) -> float:
        share = _share(epoch, self.epochs, n_epochs)
        return self.final + 0.5 * (self.learning_rate - self.final) * (1.0 + math.cos(math.pi * share))


@SCHEDULES.register("linear")
@dataclass
class Linear(Schedule):
    """η(t) = η₀ + (η_f − η₀)t/T, then η_f. T is `epochs`, or the length of the run where that is None."""

    learning_rate: float
    final: float = 0.0
    epochs: float | None = None

    def __post_init__(self) -> None:
        _check_rate("Linear(learning_rate)", self.learning_rate)
        _check_rate("Linear(final)", self.final)
        if self.epochs is not None:
            check_real("Linear(epochs)", self.epochs, low=0.0, low_open=True)

    def __call__(self, epoch: float, n_epochs: float) -> float:
        share = _share(epoch, self.epochs, n_epochs)
        return self.learning_rate + (self.final - self.learning_rate) * share


@SCHEDULES.register("polynomial")
@dataclass
class Polynomial(Schedule):
    """η(t) = η_f + (η₀ − η_f)(1 − t/T)^power, then η_f: PyTorch's `PolynomialLR` at whole epochs.

    T is `epochs`, or the length of the run where that is None.
    """

    learning_rate: float
    power: float = 1.0
    final: float = 0.0
    epochs: float | None = None

    def __post_init__(self) -> None:
        _check_rate("Polynomial(learning_rate)", self.learning_rate)
        check_real("Polynomial(power)", self.power, low=0.0, low_open=True)
        _check_rate("Polynomial(final)", self.final)
        if self.epochs is not None:
            check_real("Polynomial(epochs)", self.epochs, low=0.0, low_open=True)

    def __call__(self, epoch: float, n_epochs: float) -> float:
        left = 1.0 - _share(epoch, self.epochs, n_epochs)
        return self.final + (self.learning_rate - self.final) * left**self.power


@SCHEDULES.register("invscaling")
@dataclass
class InverseScaling(Schedule):
    """η(t) = η₀/(1 + t·per_epoch)^power, however long the run is.

    scikit-learn's "invscaling" counts time in samples, and changes the rate after each epoch: `per_epoch` = n_samples
    has its rates at whole epochs. `power` = 1 is Keras's `InverseTimeDecay`, `per_epoch` its decay_rate an epoch.
    """

    learning_rate: float
    power: float = 0.5
    per_epoch: float = 1.0

    def __post_init__(self) -> None:
        _check_rate("InverseScaling(learning_rate)", self.learning_rate)
        check_real("InverseScaling(power)", self.power, low=0.0)
        check_real("InverseScaling(per_epoch)", self.per_epoch, low=0.0, low_open=True)

    def __call__(self, epoch: float, n_epochs: float) -> float:
        return self.learning_rate / (1.0 + epoch * self.per_epoch) ** self.power


@SCHEDULES.register("piecewise_constant")
@dataclass
class PiecewiseConstant(Schedule):
    """η(t) = η₀ before the first of the `boundaries`, in epochs; from the i-th on η₀·factor^i: PyTorch's `MultiStepLR`.

    With a list, from the i-th boundary on η₀·factor[i − 1].

    >>> [PiecewiseConstant(1.0, [2, 4], factor=[0.5, 0.2])(t, 6) for t in (0, 1.9, 2, 4, 5)]
    [1.0, 1.0, 0.5, 0.2, 0.2]
    """

    learning_rate: float
    boundaries: Sequence[float]
    factor: float | Sequence[float] = 0.1

    def __post_init__(self) -> None:
        _check_rate("PiecewiseConstant(learning_rate)", self.learning_rate)
        who = "PiecewiseConstant(boundaries)"
        if isinstance(self.boundaries, str) or not isinstance(self.boundaries, Iterable):
            raise TypeError(f"{who} expects a list of times in epochs, got {self.boundaries!r}.")
        self.boundaries = [check_real(f"{who}, in epochs, each", b, low=0.0, low_open=True) for b in self.boundaries]
        if not self.boundaries or any(a >= b for a, b in itertools.pairwise(self.boundaries)):
            raise ValueError(f"{who} expects at least one time, each later than the one before; got {self.boundaries}.")
        if isinstance(self.factor, Iterable):
            self.factor = [check_real("PiecewiseConstant(factor), each", f, low=0.0) for f in self.factor]
            if len(self.factor) != len(self.boundaries):
                raise ValueError(
                    f"PiecewiseConstant(factor) has {len(self.factor)} numbers for {len(self.boundaries)} boundaries; "
                    "expected one for each, or one number for all."
                )
        else:
            check_real("PiecewiseConstant(factor)", self.factor, low=0.0)

    def __call__(self, epoch: float, n_epochs: float) -> float:
        # a step that falls on a boundary up to rounding belongs to the new rate
        passed = bisect.bisect_right(self.boundaries, epoch + 1e-9)
        if isinstance(self.factor, Sequence):
            return self.learning_rate * self.factor[passed - 1] if passed else self.learning_rate
        return self.learning_rate * self.factor**passed


@SCHEDULES.register("cosine_restarts")
@dataclass
class CosineRestarts(Schedule):
    """η = η_f + ½(η₀ − η_f)(1 + cos(πs/T_i)), s since the last restart: cosines of T_0, T_0·m, T_0·m², ... epochs.

    T_0 is `epochs`, m `multiplier`. Source: Loshchilov & Hutter (2017), "SGDR", eq. 5; PyTorch's
    `CosineAnnealingWarmRestarts`. A run ends with a small rate where it is as long as some of them together.

    >>> [round(CosineRestarts(1.0, epochs=2, multiplier=2)(t, 6), 3) for t in (0, 1, 2, 4, 5.9)]
    [1.0, 0.5, 1.0, 0.5, 0.002]
    """

    learning_rate: float
    epochs: float = 10.0
    multiplier: float = 1.0
    final: float = 0.0

    def __post_init__(self) -> None:
        _check_rate("CosineRestarts(learning_rate)", self.learning_rate)
        check_real("CosineRestarts(epochs)", self.epochs, low=0.0, low_open=True)
        check_real("CosineRestarts(multiplier)", self.multiplier, low=1.0)
        _check_rate("CosineRestarts(final)", self.final)

    def __call__(self, epoch: float, n_epochs: float) -> float:
        start, length = 0.0, self.epochs
        if self.multiplier == 1.0:
            start = math.floor(epoch / length + 1e-9) * length
        else:
            while epoch + 1e-9 >= start + length:
                start, length = start + length, length * self.multiplier
        return _half_cosine(self.learning_rate, self.final, min(max((epoch - start) / length, 0.0), 1.0))


@SCHEDULES.register("warmup")
@dataclass
class Warmup(Schedule):
    """η rises linearly from start·η₀ to η₀ = then(0) over `epochs`, and goes on as `then`, its time counted from there.

    A run that is not longer than `epochs` ends while the rate rises, η₀ being the rate that `then` begins with.

    >>> Warmup(Constant(0.1), epochs=2)(0.5, 10)
    0.025
    """

    then: Schedule
    epochs: float = 1.0
    start: float = 0.0

    def __post_init__(self) -> None:
        self.then = SCHEDULES.resolve(as_schedule(self.then))
        check_real("Warmup(epochs)", self.epochs, low=0.0, low_open=True)
        check_real("Warmup(start)", self.start, low=0.0, high=1.0)

    def __call__(self, epoch: float, n_epochs: float) -> float:
        rest = max(n_epochs - self.epochs, 0.0)
        if epoch >= self.epochs:
            return self.then(epoch - self.epochs, rest)
        return self.then(0.0, rest) * (self.start + (1.0 - self.start) * epoch / self.epochs)

    def observe(self, record: Mapping[str, float]) -> None:
        self.then.observe(record)

    @property
    def monitor(self) -> str | None:
        return self.then.monitor


@SCHEDULES.register("one_cycle")
@dataclass
class OneCycle(Schedule):
    """Up from max/initial_div to max over the first `rise` share of the run, then down to max/(initial_div·final_div).

    Both legs are half cosines (Smith & Topin 2018, as PyTorch's `OneCycleLR` with its defaults anneals).
    """

    max_learning_rate: float
    rise: float = 0.3
    initial_div: float = 25.0
    final_div: float = 1e4

    def __post_init__(self) -> None:
        _check_rate("OneCycle(max_learning_rate)", self.max_learning_rate)
        check_real("OneCycle(rise)", self.rise, low=0.0, high=1.0, low_open=True, high_open=True)
        check_real("OneCycle(initial_div)", self.initial_div, low=1.0)
        check_real("OneCycle(final_div)", self.final_div, low=1.0)

    def __call__(self, epoch: float, n_epochs: float) -> float:
        share = _share(epoch, None, n_epochs)
        start = self.max_learning_rate / self.initial_div
        if share <= self.rise:
            return _half_cosine(start, self.max_learning_rate, share / self.rise)
        return _half_cosine(self.max_learning_rate, start / self.final_div, (share - self.rise) / (1.0 - self.rise))


@SCHEDULES.register("flat_cos")
@dataclass
class FlatCos(Schedule):
    """η(t) = η₀ for the first share `flat` of the run, then half a cosine from η₀ to `final`.

    Source: Wright (2019), "flat and anneal"; with its defaults what RealMLP has dropout and weight decay follow
    (Holzmüller et al. 2024).

    >>> [round(FlatCos(1.0)(t, 8), 3) for t in (0, 4, 6, 8)]
    [1.0, 1.0, 0.5, 0.0]
    """

    learning_rate: float
    flat: float = 0.5
    final: float = 0.0

    def __post_init__(self) -> None:
        _check_rate("FlatCos(learning_rate)", self.learning_rate)
        check_real("FlatCos(flat)", self.flat, low=0.0, high=1.0)
        _check_rate("FlatCos(final)", self.final)

    def __call__(self, epoch: float, n_epochs: float) -> float:
        share = _share(epoch, None, n_epochs)
        if share <= self.flat:
            return self.learning_rate
        return _half_cosine(self.learning_rate, self.final, (share - self.flat) / (1.0 - self.flat))


@SCHEDULES.register("coslog4")
@dataclass
class CosLog4(Schedule):
    """η(t) = ½η₀(1 − cos(2π log₂(1 + 15t/T))): four waves from 0 to η₀ and back, each twice as long as the last.

    Short waves at first and long ones later find good networks at any time of a run, the longest at its end, where the
    rate falls to 0. `cycles` n makes 2ⁿ − 1 of the 15. Source: Holzmüller et al. (2024), "Better by default".

    >>> [round(CosLog4(1.0)(t, 30), 3) for t in (0, 1, 2, 4, 6, 9, 14, 30)]
    [0.0, 0.93, 0.0, 0.93, 0.0, 0.984, 0.0, 0.0]
    """

    learning_rate: float
    cycles: int = 4

    def __post_init__(self) -> None:
        _check_rate("CosLog4(learning_rate)", self.learning_rate)
        check_integer("CosLog4(cycles)", self.cycles, low=1)

    def __call__(self, epoch: float, n_epochs: float) -> float:
        wave = math.log2(1.0 + (2.0**self.cycles - 1.0) * _share(epoch, None, n_epochs))
        return 0.5 * self.learning_rate * (1.0 - math.cos(2.0 * math.pi * wave))


@SCHEDULES.register("reduce_on_plateau")
@dataclass
class ReduceOnPlateau(Schedule):
    """η ← max(factor·η, minimum) when the monitored column has not improved for more than `patience` epochs.

    An improvement is a relative change of more than `threshold` in the better direction: downwards, unless
    `greater_is_better`; NaN is none. For positive columns this is PyTorch's `ReduceLROnPlateau`, threshold_mode "rel".
    A second `fit` goes on with the rate and the best value of the first.
    """

    learning_rate: float
    factor: float = 0.1
    patience: int = 10
    minimum: float = 0.0
    column: str = "val_loss"
    threshold: float = 1e-4
    greater_is_better: bool = False
    _rate: float = field(init=False, repr=False)
    _best: float | None = field(init=False, default=None, repr=False)
    _waited: int = field(init=False, default=0, repr=False)

    def __post_init__(self) -> None:
        self._rate = _check_rate("ReduceOnPlateau(learning_rate)", self.learning_rate)
        check_real("ReduceOnPlateau(factor)", self.factor, low=0.0, high=1.0, low_open=True, high_open=True)
        check_integer("ReduceOnPlateau(patience)", self.patience, low=0)
        _check_rate("ReduceOnPlateau(minimum)", self.minimum)
        check_real("ReduceOnPlateau(threshold)", self.threshold, low=0.0)
        check_bool("ReduceOnPlateau(greater_is_better)", self.greater_is_better)

    @property
    def monitor(self) -> str | None:
        return self.column

    def __call__(self, epoch: float, n_epochs: float) -> float:
        return self._rate

    def observe(self, record: Mapping[str, float]) -> None:
        value = record[self.column]
        if not math.isnan(value) and (self._best is None or self._improves(value, self._best)):
            self._best, self._waited = value, 0
            return
        self._waited += 1
        if self._waited > self.patience:
            self._rate = max(self._rate * self.factor, self.minimum)
            self._waited = 0

    def _improves(self, value: float, best: float) -> bool:
        margin = self.threshold * abs(best)
        return value > best + margin if self.greater_is_better else value < best - margin


@SCHEDULES.register("adaptive")
@dataclass
class Adaptive(Schedule):
    """η ← factor·η when the monitored column has not fallen below its best by `tolerance` for over `patience` epochs.

    scikit-learn's "adaptive": the best is the smallest value so far, however little it is below the one before, and
    `tolerance` is a difference, not a share of it. Not below `minimum`, at which scikit-learn's networks stop. See
    `ReduceOnPlateau` for validation data and for columns of which more is better.
    """

    learning_rate: float
    factor: float = 0.2
    patience: int = 10
    tolerance: float = 1e-4
    minimum: float = 1e-6
    column: str = "loss"
    _rate: float = field(init=False, repr=False)
    _best: float | None = field(init=False, default=None, repr=False)
    _waited: int = field(init=False, default=0, repr=False)

    def __post_init__(self) -> None:
        self._rate = _check_rate("Adaptive(learning_rate)", self.learning_rate)
        check_real("Adaptive(factor)", self.factor, low=0.0, high=1.0, low_open=True, high_open=True)
        check_integer("Adaptive(patience)", self.patience, low=0)
        check_real("Adaptive(tolerance)", self.tolerance, low=0.0)
        _check_rate("Adaptive(minimum)", self.minimum)

    @property
    def monitor(self) -> str | None:
        return self.column

    def __call__(self, epoch: float, n_epochs: float) -> float:
        return self._rate

    def observe(self, record: Mapping[str, float]) -> None:
        value = record[self.column]
        best = math.inf if self._best is None else self._best
        self._waited = 0 if value <= best - self.tolerance else self._waited + 1
        if value < best:
            self._best = value
        if self._waited > self.patience:
            if self._rate > self.minimum:
                self._rate = max(self._rate * self.factor, self.minimum)
            self._waited = 0


def _share(epoch: float, epochs: float | None, n_epochs: float) -> float:
    """How much of the span has passed, in [0, 1]: none at its beginning, even where it has no length."""
    span = n_epochs if epochs is None else epochs
    if epoch <= 0.0:
        return 0.0
    return min(epoch / span, 1.0) if span > 0 else 1.0


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))
