"""Adam with decoupled weight decay."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .._checks import check_bool, check_real
from .._registry import OMITTED_IF_DEFAULT
from .._types import Array
from ..backend import FlatParameters, Ops, Scheduled, Setting, StepControl
from ..schedules import Schedule, as_schedule
from ._base import OPTIMIZERS, Course
from ._factors import Factor, check_factors, factor_of, largest_factor
from .adam import Adam


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
        return self._reach_of_adam(course, largest * largest_factor(self.decay_factors))

    def _update(self, ops: Ops, flat: FlatParameters, control: StepControl, state: dict[str, Array]) -> None:
        decay: float | Scheduled = self.weight_decay
        for setting in self.settings():
            assert self._bound is not None
            decay = self._bound[0].timetable.scheduled(setting)
        ops.adam_update(flat, control, self.beta1, self.beta2, self.eps, decay, state["m"], state["v"])
