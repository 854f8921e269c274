"""Decoupled weight decay."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .._checks import check_bool, check_real
from .._registry import ADDED_LATER, OMITTED_IF_DEFAULT
from ..backend import Scheduled, Setting
from ..schedules import Schedule, as_schedule
from ._base import Course, Optimizer
from ._bounds import power
from ._factors import Factor, check_factors, factor_of, largest_factor

_ADDED = OMITTED_IF_DEFAULT | ADDED_LATER


@dataclass
class WeightDecay(Optimizer):
    """θ ← θ(1 − ηλ) beside an optimizer's step, whatever that is: decay that g knows nothing of.

    λ, `weight_decay`, is a number or a schedule, by which `Trainer.fit` gives each step its own.
    Weights decay; biases and normalization parameters do not, unless `decay_all`. `decay_factors` multiply λ for some
    parameters, by their names as `rate_factors` do η: `{"*.b": 1, "0.W": 0.5}` lets biases decay as well, and the first
    layer's weights half as fast; lists of them are those of members. A parameter with a rate factor r and a decay
    factor d decays by 1 − rη·dλ in a step.

    A penalty on the weights (`Dense(l2=)`) is the other kind: part of the objective, and of g. The two are the same for
    SGD without momentum alone. Source: Loshchilov & Hutter (2019), "Decoupled weight decay regularization".
    """

    weight_decay: Any = field(default=0.0, kw_only=True, metadata=_ADDED)
    decay_all: bool = field(default=False, kw_only=True, metadata=_ADDED)
    decay_factors: Mapping[str, Any] | None = field(default=None, kw_only=True, metadata=_ADDED)

    def __post_init__(self) -> None:
        super().__post_init__()
        who = type(self).__name__
        self.weight_decay = as_schedule(self.weight_decay)
        for setting in self.settings():
            setting.at(0.0, 1.0)
        if not isinstance(self.weight_decay, Schedule):
            self.weight_decay = check_real(f"{who}(weight_decay)", self.weight_decay, low=0.0)
        check_bool(f"{who}(decay_all)", self.decay_all)
        self.decay_factors = check_factors(f"{who}(decay_factors)", self.decay_factors)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"weight_decay": copy.deepcopy(self.weight_decay)}

    def factors_of(self, name: str, decay: float) -> tuple[Factor, Factor]:
        rate, _ = super().factors_of(name, decay)
        return rate, factor_of(name, self.decay_factors, 1.0 if self.decay_all else decay)

    def _factors(self) -> dict[str, Mapping[str, Factor] | None]:
        return super()._factors() | {"decay_factors": self.decay_factors}

    def settings(self) -> list[Setting]:
        decay = self.weight_decay
        return [Setting(f"{type(self).__name__}(weight_decay)", decay, math.inf)] if isinstance(decay, Schedule) else []

    @property
    def _decay(self) -> float | Scheduled:
        """λ as primitives take it."""
        for setting in self.settings():
            assert self._bound is not None
            return self._bound[0].timetable.scheduled(setting)
        decay: float = self.weight_decay
        return decay

    def _pull(self, course: Course) -> float:
        """No parameter decays by more than this share of itself in a step."""
        largest = self.weight_decay
        for setting in self.settings():
            assert self._bound is not None
            largest = self._bound[0].timetable.largest(setting)
        return course.rate * largest * largest_factor(self.decay_factors)

    def _growth(self, course: Course) -> float:
        """What decay that goes beyond 0 can make of a parameter, at most: |1 − ηλ| to the number of steps, or 1."""
        return power(max(1.0, self._pull(course) - 1.0), course.n_steps)
