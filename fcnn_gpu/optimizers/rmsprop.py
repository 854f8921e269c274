"""RMSprop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .._checks import check_real
from .._types import Array
from ..backend import FlatParameters, Ops, StepControl
from ._base import OPTIMIZERS, Course, Optimizer
from ._bounds import ROUNDING, lost_in_squares


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
        step = (ROUNDING + lost_in_squares(c.dtype) / self.eps) / math.sqrt(rest)
        return c.start + c.n_steps * c.rate * (step + c.start) * 2.0 / (1.0 - momentum)

    def _update(self, ops: Ops, flat: FlatParameters, control: StepControl, state: dict[str, Array]) -> None:
        ops.rmsprop_update(flat, control, self.alpha, self.eps, self.momentum, state["v"], state.get("velocity"))
