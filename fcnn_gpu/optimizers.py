"""Optimizers: rules that turn the gradient g of the objective (data loss + penalties) into a change of the parameters.

Each is one pass over the network's flat parameter buffer (backend/_ops/_optimizer.py). Definitions and defaults are
those of PyTorch where the two share a name. `learning_rate` is a number or a `Schedule`. `clip_norm` c scales g by
min(1, c/(‖g‖ + 10⁻⁶)), over all parameters together; `clip_value` c clips each element of g to [−c, c].

`rate_factors` multiply the learning rate of some parameters, by their names: `{"*.b": 0.1, "0.*": 6}` gives biases a
tenth of it and the first layer, its biases included, six times as much; 0 freezes. The names are those of
`model.named_arrays()`, "0.W", "1.block.0.b"; * stands for any characters, and of several patterns that match, the last
one counts. In PyTorch these are parameter groups. Of a parameter in which each member of an ensemble has a part of its
own (`DenseEnsemble`'s W and b, `BatchEnsemble`'s r, s and b, and what works unit by unit behind `Members`), a list of
factors gives each member its own: `{"*": [0.5, 1, 2]}` trains three networks with three learning rates as one.

In the explicit training loop::

    optimizer = fcnn.Adam(1e-3).bind(model)
    ...
    optimizer.step()

There the rate stays what the schedule says at time 0 until `optimizer.set_learning_rate(value)` changes it: only
`Trainer` knows how long the run is. Once bound, an optimizer's other settings are fixed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Protocol, Self, TypeAlias

import numpy as np

from ._arrays import quietly
from ._checks import check_bool, check_real, check_settings
from ._registry import OMITTED_IF_DEFAULT, Registry, nowhere
from ._types import Array, DType
from .backend import FlatParameters, Ops, Scheduled, Setting, StepControl, Timetable, joined
from .schedules import Constant, Schedule, as_schedule, rate_at

Factor: TypeAlias = float | list[float]
"""Of a parameter, or of each member's part of it."""


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
    _treated: FlatParameters | None = field(init=False, default=None, repr=False, compare=False)
    """The bound model's parameters, in segments with the factors that this optimizer gives them."""

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
        rate = as_schedule(self.learning_rate)
        return rate if isinstance(rate, Schedule) else Constant(float(rate))

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
        state = {name: ops.zeros(flat.values.size, flat.values.dtype) for name in self._state_names()}
        self._bound = (model, flat, control, state)
        self._treated = self._treat(flat)
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
        return vars(self) | {"_bound": None, "_treated": None, "learning_rate": copy.deepcopy(self.learning_rate)}

    def __setattr__(self, name: str, value: Any) -> None:
        if getattr(self, "_bound", None) is not None and name not in ("_bound", "_treated", "learning_rate"):
            raise AttributeError(
                f"{type(self).__name__}.{name} cannot change once the optimizer is bound to a model: its state "
                "was made for the old setting. Make a new optimizer; the rate alone may change (set_learning_rate)."
            )
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
        ops, flat, control, state = self._require()
        if self._stored is not None:
            self._stored.apply(self, flat, counters)
            return
        self._update(ops, flat, control, state)
        ops.finish_step(control, counters)

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
        return model.ops, flat if self._treated is None else self._treated, control, state

    @property
    def _stored(self) -> StoredUpdates | None:
        """The bound model's parameters that are not in `flat`."""
        return None if self._bound is None else self._bound[0].stored

    def _check(self) -> None:
        """Check the fields of the subclass."""

    def _state_names(self) -> tuple[str, ...]:
        """The flat arrays that this optimizer keeps."""
        return ()

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
        course = replace(course, rate=course.rate * _largest(self.rate_factors))
        reach = self._reach(course)
        largest = reach + course.gradient + course.l1 + 2.0 * course.l2 * reach
        return largest < float(np.finfo(course.dtype).max) / 8.0

    def _reach(self, course: Course) -> float:
        """An upper bound of |θ| after these updates, and of what they compute on the way; ∞ where none is known."""
        return math.inf

    def _update(self, ops: Ops, flat: FlatParameters, control: StepControl, state: dict[str, Array]) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define _update(...).")


_ELSEWHERE: dict[str, str | None] = {
    "momentum": "'sgd', with a momentum: fcnn.SGD(0.01, momentum=0.9)",
    "nesterov": "'sgd', with momentum and nesterov: fcnn.SGD(0.01, momentum=0.9, nesterov=True)",
} | nowhere("""
    Adadelta Adafactor Adamax ASGD Ftrl Lamb LARS LBFGS Lion Muon NAdam RAdam Rprop Shampoo SparseAdam
""")
OPTIMIZERS: Registry[Optimizer] = Registry("optimizer", Optimizer, elsewhere=_ELSEWHERE)


@OPTIMIZERS.register("sgd")
@dataclass
class SGD(Optimizer):
    """θ ← θ − ηg. With momentum μ: v ← μv + g, θ ← θ − ηv; with Nesterov's: θ ← θ − η(g + μv).

    Source: Sutskever et al. (2013), in PyTorch's form (no damping). The default rate is 0.01, PyTorch's 0.001.
    """

    learning_rate: Any = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    def _check(self) -> None:
        self.momentum = check_real("SGD(momentum)", self.momentum, low=0.0, high=1.0, high_open=True)
        check_bool("SGD(nesterov)", self.nesterov)
        if self.nesterov and not self.momentum:
            raise ValueError("SGD(nesterov=True) needs a momentum greater than 0, for example momentum=0.9.")

    def _state_names(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def _reach(self, course: Course) -> float:
        # |v| ≤ (|g| + λ₁ + 2λ₂|θ|)/(1 − μ), and as much again of the first velocity
        c, momentum = course, float(course.dtype.type(self.momentum))
        drive, pull = c.rate * (c.gradient + c.l1), 2.0 * c.rate * c.l2
        if not momentum:
            return (c.start + c.n_steps * drive) * _power(max(1.0, pull - 1.0), c.n_steps)
        if momentum >= 1.0:
            return math.inf
        longest = 2.0 / (1.0 - momentum)
        reach = (c.start + c.n_steps * longest * drive) * _power(1.0 + longest * pull, c.n_steps)
        return max(reach, longest * (c.gradient + c.l1 + 2.0 * c.l2 * reach))

    def _update(self, ops: Ops, flat: FlatParameters, control: StepControl, state: dict[str, Array]) -> None:
        ops.sgd_update(flat, control, self.momentum, self.nesterov, state.get("velocity"))


@OPTIMIZERS.register("adam")
@dataclass
class Adam(Optimizer):
    """m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ), θ ← θ − η m̂/(√v̂ + ε).

    Source: Kingma & Ba (2015), algorithm 1. The state keeps m/(1 − β₁) and v/(1 − β₂).
    """

    learning_rate: Any = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def _check(self) -> None:
        who = type(self).__name__
        self.beta1 = check_real(f"{who}(beta1)", self.beta1, low=0.0, high=1.0, high_open=True)
        self.beta2 = check_real(f"{who}(beta2)", self.beta2, low=0.0, high=1.0, high_open=True)
        self.eps = check_real(f"{who}(eps)", self.eps, low=0.0, low_open=True)

    def _state_names(self) -> tuple[str, ...]:
        return ("m", "v")

    def _reach(self, course: Course) -> float:
        return self._reach_of_adam(course, 0.0)

    def _reach_of_adam(self, course: Course, weight_decay: float) -> float:
        # m² ≤ v/(1 − β₁²/β₂) by Cauchy and Schwarz, but for gradients whose squares are too small for v
        c, ratio = course, 0.0 if not self.beta1 else self.beta1**2 / self.beta2 if self.beta2 else 1.0
        if ratio >= 1.0 or not self.beta2 or not c.dtype.type(self.eps) or c.dtype.type(self.beta1) == 1.0:
            return math.inf
        step = c.rate * _ROUNDING / math.sqrt((1.0 - self.beta2) * (1.0 - ratio))
        step += c.rate * _lost_in_squares(c.dtype) / ((1.0 - self.beta1) * self.eps)
        growth = _power(max(1.0, c.rate * weight_decay - 1.0), c.n_steps)
        reach = (c.start + c.n_steps * step) * growth
        return max(reach, (c.gradient + c.l1 + 2.0 * c.l2 * reach) / (1.0 - self.beta1))

    def _update(self, ops: Ops, flat: FlatParameters, control: StepControl, state: dict[str, Array]) -> None:
        ops.adam_update(flat, control, self.beta1, self.beta2, self.eps, 0.0, state["m"], state["v"])


@OPTIMIZERS.register("adamw")
@dataclass
class AdamW(Adam):
    """Adam with decoupled weight decay: θ ← θ(1 − ηλ) − η m̂/(√v̂ + ε) (Loshchilov & Hutter 2019, algorithm 2).

    λ, `weight_decay`, is a number or a schedule, by which `Trainer.fit` gives each step its own.
    Weights decay; biases and normalization parameters do not, unless `decay_all` (PyTorch's `AdamW` decays all that it
    is given, as `decay_all` does). `decay_factors` multiply λ for some parameters, by their names as `rate_factors` do
    η: `{"*.b": 1, "0.W": 0.5}` lets biases decay as well, and the first layer's weights half as fast; lists of them are
    those of members. A parameter with
    a rate factor r and a decay factor d decays by 1 − rη·dλ in a step.
    """

    weight_decay: Any = 0.01
    decay_all: bool = False
    decay_factors: Mapping[str, Any] | None = field(default=None, kw_only=True, metadata=OMITTED_IF_DEFAULT)

    def _check(self) -> None:
        super()._check()
        self.weight_decay = as_schedule(self.weight_decay)
        for setting in self.settings():
            setting.at(0.0, 1.0)
        if not isinstance(self.weight_decay, Schedule):
            self.weight_decay = check_real("AdamW(weight_decay)", self.weight_decay, low=0.0)
        check_bool("AdamW(decay_all)", self.decay_all)
        self.decay_factors = check_factors("AdamW(decay_factors)", self.decay_factors)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"weight_decay": copy.deepcopy(self.weight_decay)}

    def factors_of(self, name: str, decay: float) -> tuple[Factor, Factor]:
        rate, _ = super().factors_of(name, decay)
        return rate, factor_of(name, self.decay_factors, 1.0 if self.decay_all else decay)

    def _factors(self) -> dict[str, Mapping[str, Factor] | None]:
        return super()._factors() | {"decay_factors": self.decay_factors}

    def settings(self) -> list[Setting]:
        decay = self.weight_decay
        return [Setting("AdamW(weight_decay)", decay, math.inf)] if isinstance(decay, Schedule) else []

    def _reach(self, course: Course) -> float:
        largest = self.weight_decay
        for setting in self.settings():
            assert self._bound is not None
            largest = self._bound[0].timetable.largest(setting)
        return self._reach_of_adam(course, largest * _largest(self.decay_factors))

    def _update(self, ops: Ops, flat: FlatParameters, control: StepControl, state: dict[str, Array]) -> None:
        decay: float | Scheduled = self.weight_decay
        for setting in self.settings():
            assert self._bound is not None
            decay = self._bound[0].timetable.scheduled(setting)
        ops.adam_update(flat, control, self.beta1, self.beta2, self.eps, decay, state["m"], state["v"])


@OPTIMIZERS.register("rmsprop")
@dataclass
class RMSprop(Optimizer):
    """v ← αv + (1 − α)g², u = g/(√v + ε), θ ← θ − ηu; with momentum μ: b ← μb + u, θ ← θ − ηb.

    Source: Tieleman & Hinton (2012), lecture 6.5, in PyTorch's form (ε outside the root).
    """

    learning_rate: Any = 0.01
    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0

    def _check(self) -> None:
        self.alpha = check_real("RMSprop(alpha)", self.alpha, low=0.0, high=1.0, high_open=True)
        self.eps = check_real("RMSprop(eps)", self.eps, low=0.0, low_open=True)
        self.momentum = check_real("RMSprop(momentum)", self.momentum, low=0.0, high=1.0, high_open=True)

    def _state_names(self) -> tuple[str, ...]:
        return ("v", "velocity") if self.momentum else ("v",)

    def _reach(self, course: Course) -> float:
        # v ≥ (1 − α)g², but for gradients whose squares are too small for v
        c, rest, momentum = course, 1.0 - self.alpha, float(course.dtype.type(self.momentum))
        if not self.alpha or momentum >= 1.0 or not c.dtype.type(self.eps):
            return math.inf
        step = (_ROUNDING + _lost_in_squares(c.dtype) / self.eps) / math.sqrt(rest)
        return c.start + c.n_steps * c.rate * (step + c.start) * 2.0 / (1.0 - momentum)

    def _update(self, ops: Ops, flat: FlatParameters, control: StepControl, state: dict[str, Array]) -> None:
        ops.rmsprop_update(flat, control, self.alpha, self.eps, self.momentum, state["v"], state.get("velocity"))


@OPTIMIZERS.register("adagrad")
@dataclass
class Adagrad(Optimizer):
    """s ← s + g², θ ← θ − η/(1 + (t − 1)·decay) · g/(√s + ε) (Duchi et al. 2011, in PyTorch's form)."""

    learning_rate: Any = 0.01
    lr_decay: float = 0.0
    eps: float = 1e-10

    def _check(self) -> None:
        self.lr_decay = check_real("Adagrad(lr_decay)", self.lr_decay, low=0.0)
        self.eps = check_real("Adagrad(eps)", self.eps, low=0.0, low_open=True)

    def _state_names(self) -> tuple[str, ...]:
        return ("s",)

    def _reach(self, course: Course) -> float:
        c = course
        if not c.dtype.type(self.eps):
            return math.inf
        return c.start + c.n_steps * c.rate * (_ROUNDING + _lost_in_squares(c.dtype) / self.eps)

    def _update(self, ops: Ops, flat: FlatParameters, control: StepControl, state: dict[str, Array]) -> None:
        ops.adagrad_update(flat, control, self.lr_decay, self.eps, state["s"])


def check_factors(who: str, factors: Any) -> dict[str, Factor] | None:
    """Patterns of names with numbers of at least 0, or lists of them; None for none.

    TypeError or ValueError for anything else.
    """
    if factors is None:
        return None
    if not isinstance(factors, Mapping) or not all(isinstance(pattern, str) for pattern in factors):
        raise TypeError(
            f'{who} expects patterns of parameter names with factors, such as {{"*.b": 0.1}}, got {factors!r}.'
        )
    return {pattern: _factor(f"{who}: {pattern!r}", value) for pattern, value in factors.items()}


def _factor(who: str, value: Any) -> Factor:
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
        return check_real(who, value, low=0.0)
    if len(value) == 0:
        raise ValueError(f"{who} expects a number, or one for each member of an ensemble, got an empty list.")
    return [check_real(f"{who} of member {g}", x, low=0.0) for g, x in enumerate(value)]


def check_patterns(
    who: str, factors: Mapping[str, Factor] | None, names: Sequence[str], members: Mapping[str, int]
) -> None:
    """ValueError where a pattern matches none of the names, or has numbers for other members than a parameter has."""
    for pattern in factors or {}:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"{who}: {pattern!r} matches no parameter of the model. Its parameters: {', '.join(names)}. "
                '"*" stands for any characters: "*.b" are all biases, "0.*" is the first layer.'
            )
    for name in names:
        factor, k = factor_of(name, factors, 1.0), members.get(name, 0)
        if isinstance(factor, list) and len(factor) != k:
            has = f"parts of {k} members" if k else "no part for each of several members"
            theirs = ", ".join(f"{known} ({n})" for known, n in members.items()) or "none"
            raise ValueError(
                f"{who}: there are factors for {len(factor)} members, and {name} has {has}. Parameters that have: "
                f"{theirs}. Give {name} a single number, under a pattern of its own behind the others."
            )


def factor_of(name: str, factors: Mapping[str, Factor] | None, otherwise: float) -> Factor:
    """Of the patterns that match a name, the last one's number, or its numbers of each member."""
    found = [value for pattern, value in (factors or {}).items() if fnmatchcase(name, pattern)]
    return found[-1] if found else otherwise


def _largest(factors: Mapping[str, Factor] | None) -> float:
    """No parameter has a larger factor."""
    values = [x for value in (factors or {}).values() for x in (value if isinstance(value, list) else [value])]
    return max([1.0, *values])


_ROUNDING = 4.0
"""What a bound of |m|/√v allows for, of which every sum is rounded."""


def _lost_in_squares(dtype: DType) -> float:
    """Gradients below this have squares of which v may keep nothing, or few digits."""
    return math.sqrt(float(np.finfo(dtype).tiny)) * 2.0**12


def _power(factor: float, n: int) -> float:
    """factorⁿ for a factor of at least 1, ∞ beyond the range of float."""
    exponent = n * math.log(factor) if factor < math.inf else math.inf
    return math.exp(exponent) if exponent < 700.0 else math.inf
