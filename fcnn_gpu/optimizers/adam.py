"""Adam."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .._checks import check_real
from .._types import Array
from ..backend import FlatParameters, Ops, StepControl
from ._base import OPTIMIZERS, Course, Optimizer
from ._bounds import ROUNDING, lost_in_squares, power


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
        step = c.rate * ROUNDING / math.sqrt((1.0 - self.beta2) * (1.0 - ratio))
        step += c.rate * lost_in_squares(c.dtype) / ((1.0 - self.beta1) * self.eps)
        growth = power(max(1.0, c.rate * weight_decay - 1.0), c.n_steps)
        reach = (c.start + c.n_steps * step) * growth
        return max(reach, (c.gradient + c.l1 + 2.0 * c.l2 * reach) / (1.0 - self.beta1))

    def _update(self, ops: Ops, flat: FlatParameters, control: StepControl, state: dict[str, Array]) -> None:
        ops.adam_update(flat, control, self.beta1, self.beta2, self.eps, 0.0, state["m"], state["v"])
