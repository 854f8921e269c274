"""What all optimizers have in common: settings, binding to a model, and the way of an update."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from .._arrays import quietly
from .._checks import check_real, check_settings
from .._registry import OMITTED_IF_DEFAULT, Registry, nowhere
from .._types import Array, DType
from ..backend import FlatParameters, Ops, Segment, Setting, StepControl, Timetable, joined
from ..schedules import Constant, Schedule, as_schedule, rate_at
from ._factors import Factor, check_factors, check_patterns, factor_of, largest_factor


class HasParameters(Protocol):
    """What an optimizer works on: a model's flat parameters and the primitives of their device."""

    @property
    def ops(self) -> Ops: ...
    @property
    def flat(self) -> FlatParameters: ...
    @property
    def stored(self) -> StoredUpdates | None: ...
    @property
    def timetable(self) -> Timetable: ...


class StoredUpdates(Protocol):
    """The parameters that lie on the host or on disk, not in `flat` (placement.StoredWeights)."""

    @property
    def names(self) -> Sequence[str]:
        """Theirs, as in `model.named_arrays()`."""

    def bind(self, optimizer: Any) -> None:
        """Make moments for them."""

    def state_of(self, optimizer: Any) -> dict[str, Any]:
        """These moments, by name."""

    def clip(self, flat: FlatParameters, control: StepControl) -> None:
        """`ops.gradient_clip` over all parameters."""

    def apply(self, optimizer: Any, flat: FlatParameters, counters: Sequence[tuple[Array, int]]) -> None:
        """Update all parameters, and `ops.finish_step`."""


@dataclass(frozen=True)
class Course:
    """What is known of the updates to come.

    Attributes:
        rate: no learning rate is larger.
        n_steps: how many updates.
        start: no |θ| is larger before them, and no velocity or first moment.
        gradient: no element of the loss's gradient is larger.
        l1, l2: no penalty is larger.
        dtype: of the parameters.
    """

    rate: float
    n_steps: int
    start: float
    gradient: float
    l1: float
    l2: float
    dtype: DType


_CHANGING = ("_bound", "_treated", "_schedule", "learning_rate")
"""What may change in an optimizer that is bound."""


@dataclass
class Optimizer:
    """θ ← θ − η·(something of g); subclasses define it."""

    name: ClassVar[str]
    learning_rate: Any
    clip_norm: float | None = field(default=None, kw_only=True)
    clip_value: float | None = field(default=None, kw_only=True)
    rate_factors: Mapping[str, Any] | None = field(default=None, kw_only=True, metadata=OMITTED_IF_DEFAULT)
    _bound: tuple[HasParameters, FlatParameters, StepControl, dict[str, Array]] | None = field(
        init=False, default=None, repr=False, compare=False
    )
    _treated: tuple[tuple[Segment, ...], FlatParameters] | None = field(
        init=False, default=None, repr=False, compare=False
    )
    """The segments of the bound model's parameters, and these parameters in segments with this optimizer's factors."""
    _schedule: Schedule | None = field(init=False, default=None, repr=False, compare=False)
    """The learning rate as a schedule, once that has been asked for: every epoch asks several times."""

    def __post_init__(self) -> None:
        self.learning_rate = as_schedule(self.learning_rate)
        if isinstance(self.learning_rate, str | type):
            raise TypeError(
                f"{type(self).__name__}(learning_rate) expects a number or a Schedule with its rate, such as "
                f"fcnn.schedules.Cosine(0.1), got {self.learning_rate!r}."
            )
        if not isinstance(self.learning_rate, Schedule):
            check_real(f"{type(self).__name__}(learning_rate)", self.learning_rate, low=0.0)
        for name in ("clip_norm", "clip_value"):
            if getattr(self, name) is not None:
                value = check_real(f"{type(self).__name__}({name})", getattr(self, name), low=0.0, low_open=True)
                setattr(self, name, value)
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError(f"{type(self).__name__}: choose one of clip_norm and clip_value.")
        self.rate_factors = check_factors(f"{type(self).__name__}(rate_factors)", self.rate_factors)
        self._check()

    @property
    def schedule(self) -> Schedule:
        """The learning rate as a function of time."""
        if self._schedule is None:
            rate = as_schedule(self.learning_rate)
            self._schedule = rate if isinstance(rate, Schedule) else Constant(float(rate))
        return self._schedule

    def bind(self, model: HasParameters) -> Self:
        """Make the state (step 0, zero moments) for this model's parameters. Binding again to the same keeps it.

        Raises ValueError if another model is bound: its training would silently go on with this model's parameters; and
        where a setting is 0 or infinite in the dtype of the parameters.
        """
        if self._bound is not None:
            if self._bound[1] is model.flat:
                return self
            raise ValueError(
                f"This {type(self).__name__} already belongs to another model, whose moments it keeps. Make a new "
                "optimizer for each model, or a copy: copy.copy(optimizer) is not bound."
            )
        ops, flat, first_rate = model.ops, model.flat, rate_at(self.schedule, 0.0, 1.0)
        check_settings(self, flat.values.dtype)
        stored = () if model.stored is None else model.stored.names
        for setting, factors in self._factors().items():
            check_patterns(f"{type(self).__name__}({setting})", factors, [*flat.places, *stored], flat.members)
        control = StepControl(
            step=ops.zeros(1, "int64"),
            learning_rate=ops.zeros(1, "float64"),
            clip_scale=ops.zeros(1, "float64"),
            failed_step=ops.zeros(1, "int64"),
            max_value=self.clip_value,
            max_norm=self.clip_norm,
        )
        ops.fill(control.learning_rate, first_rate)
        ops.fill(control.clip_scale, 1.0)
        ops.fill(control.failed_step, -1)
        state = self._new_state(ops, flat)
        self._bound = (model, flat, control, state)
        self._treated = flat.segments, self._treat(flat)
        if model.stored is not None:
            try:
                model.stored.bind(self)
            except BaseException:
                self._bound = self._treated = None
                raise
        return self

    def _treat(self, flat: FlatParameters) -> FlatParameters:
        """`flat` in segments with the factors of this optimizer; itself where they are the model's own."""
        segments = []
        for name, place in flat.places.items():
            segment = next(s for s in flat.segments if s.start <= place.start and place.stop <= s.stop)
            rate, decay = self.factors_of(name, segment.decay)
            n = max(len(x) if isinstance(x, list) else 1 for x in (rate, decay))
            rates, decays = (x if isinstance(x, list) else [x] * n for x in (rate, decay))
            size = (place.stop - place.start) // n  # a part for each member, where the factors are theirs
            for g in range(n):
                start = place.start + g * size
                segments.append(replace(segment, start=start, stop=start + size, rate=rates[g], decay=decays[g]))
        treated = joined(segments)
        return flat if treated == flat.segments or not flat.places else replace(flat, segments=treated)

    def factors_of(self, name: str, decay: float) -> tuple[Factor, Factor]:
        """What learning rate and weight decay are multiplied by for the parameter of this name, or each member's part.

        `decay` is the network's own factor: 1 for weights, 0 for biases and normalization parameters.
        """
        return factor_of(name, self.rate_factors, 1.0), decay

    def _factors(self) -> dict[str, Mapping[str, Factor] | None]:
        """The settings that speak of parameters by their names."""
        return {"rate_factors": self.rate_factors}

    def settings(self) -> list[Setting]:
        """The settings beside the learning rate that follow schedules."""
        return []

    def __getstate__(self) -> dict[str, Any]:
        """What is copied and pickled: the fields, and no binding, because moments belong to one model's parameters.

        The schedule is copied with them: one that has lowered its rate must not lower the other's.
        """
        own = {"_bound": None, "_treated": None, "_schedule": None}
        return vars(self) | own | {"learning_rate": copy.deepcopy(self.learning_rate)}

    def __setattr__(self, name: str, value: Any) -> None:
        if getattr(self, "_bound", None) is not None and name not in _CHANGING:
            raise AttributeError(
                f"{type(self).__name__}.{name} cannot change once the optimizer is bound to a model: its state "
                "was made for the old setting. Make a new optimizer; the rate alone may change (set_learning_rate)."
            )
        if name == "learning_rate":
            self.__dict__["_schedule"] = None
        super().__setattr__(name, value)

    @quietly
    def step(self) -> None:
        """Change the bound model's parameters once, by the gradients that its last `backward` left."""
        ops, flat, control, _ = self._require()
        stored = self._stored
        if stored is None:
            ops.gradient_clip(flat, control)
        else:
            stored.clip(flat, control)
        self.apply()

    def apply(self, counters: Sequence[tuple[Array, int]] = ()) -> None:
        """`step` after `ops.check_finite`, which has clipped already; and counter[0] += by for each (counter, by)."""
        ops, flat, control, _ = self._require()
        if self._stored is not None:
            self._stored.apply(self, flat, counters)
            return
        self.change(flat)
        ops.finish_step(control, counters)

    def change(self, flat: FlatParameters) -> None:
        """The update of the parameters in `flat`, and what brings weights back within their limits."""
        ops, _, control, state = self._require()
        self._update(ops, flat, control, state)
        for rows in flat.limited:
            ops.constrain(flat, control, rows)

    @property
    def has_own_step(self) -> bool:
        """Whether `step` is not this package's: then training calls it, instead of its faster half `apply`."""
        return type(self).step is not Optimizer.step or "step" in vars(self)

    @property
    def control(self) -> StepControl:
        """Step number, learning rate, clip scale and failure flag, in arrays of the device."""
        return self._require()[2]

    @property
    def state(self) -> dict[str, Array]:
        """The moments and velocities, flat, in the order of the model's parameters."""
        return self._require()[3]

    def state_of(self, name: str) -> dict[str, Array]:
        """What of `state` belongs to the parameter of this name, flat."""
        _, flat, _, state = self._require()
        return {of: array[flat.places[name]] for of, array in state.items()}

    @property
    def whole_state(self) -> dict[str, Array]:
        """`state`, and the moments of weights on the host or on disk by name: "0.W.m", as matrices like the weights."""
        state = self._require()[3]
        return state if self._stored is None else state | self._stored.state_of(self)

    def set_learning_rate(self, value: float) -> None:
        """Put η into the device's array, where the next step reads it: a finite number of at least 0."""
        ops, _, control, _ = self._require()
        ops.fill(control.learning_rate, check_real(f"{type(self).__name__}.set_learning_rate", value, low=0.0))

    def _require(self) -> tuple[Ops, FlatParameters, StepControl, dict[str, Array]]:
        if self._bound is None:
            raise RuntimeError(f"{type(self).__name__} is not bound to a model: call optimizer.bind(model) first.")
        model, flat, control, state = self._bound
        if self._treated is None or self._treated[0] is not flat.segments:  # frozen, or set free, in the meantime
            self._treated = flat.segments, self._treat(flat)
        return model.ops, self._treated[1], control, state

    @property
    def _stored(self) -> StoredUpdates | None:
        """The bound model's parameters that are not in `flat`."""
        return None if self._bound is None else self._bound[0].stored

    def _check(self) -> None:
        """Check the fields of the subclass."""

    def _state_names(self) -> tuple[str, ...]:
        """The flat arrays that this optimizer keeps."""
        return ()

    def _new_state(self, ops: Ops, flat: FlatParameters) -> dict[str, Array]:
        """These arrays, zeros, for the parameters of a model."""
        return {name: ops.zeros(flat.values.size, flat.values.dtype) for name in self._state_names()}

    @property
    def has_bound(self) -> bool:
        """Whether `_reach` speaks of the update that is made, and not of one that a user has put in its place."""
        cls = type(self)
        if self.has_own_step or cls.apply is not Optimizer.apply or {"apply", "_update"} & {*vars(self)}:
            return False
        owner = next(c for c in cls.__mro__ if {"_update", "_reach"} & {*vars(c)})
        return "_reach" in vars(owner) and owner is not Optimizer

    def stays_finite(self, course: Course) -> bool:
        """Whether all parameters are known to stay finite."""
        if not self.has_bound:
            return False
        course = replace(course, rate=course.rate * largest_factor(self.rate_factors))
        reach = self._reach(course)
        largest = reach + course.gradient + course.l1 + 2.0 * course.l2 * reach
        return largest < float(np.finfo(course.dtype).max) / 8.0

    def _reach(self, course: Course) -> float:
        """An upper bound of |θ| after these updates, and of what they compute on the way; ∞ where none is known."""
        return math.inf

    def _update(self, ops: Ops, flat: FlatParameters, control: StepControl, state: dict[str, Array]) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define _update(...).")


_ELSEWHERE: dict[str, str | None] = {
    "LBFGS": "Trainer and estimators take it, as optimizer='lbfgs' or fcnn.LBFGS(): it is no update of a single step",
    "momentum": "'sgd', with a momentum: fcnn.SGD(0.01, momentum=0.9)",
    "nesterov": "'sgd', with momentum and nesterov: fcnn.SGD(0.01, momentum=0.9, nesterov=True)",
} | nowhere("""
    Adafactor ASGD Ftrl Lamb LARS Rprop Shampoo SparseAdam
""")
OPTIMIZERS: Registry[Optimizer] = Registry("optimizer", Optimizer, elsewhere=_ELSEWHERE)
