"""RMSprop."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from .._checks import check_bool, check_real
from .._registry import ADDED_LATER, OMITTED_IF_DEFAULT
from .._types import Array
from ..backend import LEAST_SHARE, FlatParameters, Ops, StepControl
from ._base import OPTIMIZERS, Course
from ._bounds import ROUNDING, lost_in_squares
from ._weight_decay import WeightDecay


@OPTIMIZERS.register("rmsprop")
@dataclass
class RMSprop(WeightDecay):
    """v ← αv + (1 − α)g², u = g/(√v + ε), θ ← θ − ηu; with momentum μ: b ← μb + u, θ ← θ − ηb.

    With `centered` the variance of g takes the place of its mean square: w ← αw + (1 − α)g, u = g/(√(v − w²) + ε).
    It counts as at least 2⁻²⁴v, which float32 cannot tell from 0: where gradients stay the same, u is no g/ε.

    Sources: Tieleman & Hinton (2012), lecture 6.5, in PyTorch's form (ε outside the root); Graves (2013), "Generating
    sequences with recurrent neural networks", equations 38 to 40.
    """

    learning_rate: Any = 0.01
    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = field(default=False, kw_only=True, metadata=OMITTED_IF_DEFAULT | ADDED_LATER)

    def _check(self) -> None:
        self.alpha = check_real("RMSprop(alpha)", self.alpha, low=0.0, high=1.0, high_open=True)
        self.eps = check_real("RMSprop(eps)", self.eps, low=0.0, low_open=True)
        self.momentum = check_real("RMSprop(momentum)", self.momentum, low=0.0, high=1.0, high_open=True)
        check_bool("RMSprop(centered)", self.centered)

    def _state_names(self) -> tuple[str, ...]:
        names = ("v", "mean") if self.centered else ("v",)
        return (*names, "velocity") if self.momentum else names

    def _reach(self, course: Course) -> float:
        # v ≥ (1 − α)g², but for gradients whose squares are too small for v
        c, rest, momentum = course, 1.0 - self.alpha, float(course.dtype.type(self.momentum))
        if not self.alpha or momentum >= 1.0 or not c.dtype.type(self.eps):
            return math.inf
        step = (ROUNDING + lost_in_squares(c.dtype) / self.eps) / math.sqrt(
            rest * (LEAST_SHARE if self.centered else 1.0)
        )
        return (c.start + c.n_steps * c.rate * (step + c.start) * 2.0 / (1.0 - momentum)) * self._growth(c)

    def _update(self, ops: Ops, flat: FlatParameters, control: StepControl, state: dict[str, Array]) -> None:
        if self.centered:
            settings, moments = (self.alpha, self.eps, self.momentum), [state[name] for name in self._state_names()]
            ops.update_by_rule(flat, control, "centered", settings, moments, self._decay)
        else:
            v, velocity = state["v"], state.get("velocity")
            ops.rmsprop_update(flat, control, self.alpha, self.eps, self.momentum, v, velocity, self._decay)
