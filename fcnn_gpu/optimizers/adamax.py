"""Adamax."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .._types import Array
from ..backend import FlatParameters, Ops, StepControl
from ._base import OPTIMIZERS, Course
from ._bounds import ROUNDING, lost_in_squares
from ._moments import TwoMoments
from ._weight_decay import WeightDecay


@OPTIMIZERS.register("adamax")
@dataclass
class Adamax(WeightDecay, TwoMoments):
    """Adam by the largest gradient: m ← β₁m + (1 − β₁)g, s ← max(β₂s, |g| + ε), θ ← θ − η m/((1 − β₁ᵗ)s).

    Source: Kingma & Ba (2015), algorithm 2, in PyTorch's form, whose ε it is.
    """

    learning_rate: Any = 2e-3

    def _state_names(self) -> tuple[str, ...]:
        return ("m", "s")

    def _reach(self, course: Course) -> float:
        # s ≥ β₂ⁱ|g| of i steps ago, of which m holds (1 − β₁)β₁ⁱ|g|
        c, ratio = course, 0.0 if not self.beta1 else self.beta1 / self.beta2 if self.beta2 else 1.0
        if ratio >= 1.0 or not c.dtype.type(self.eps) or c.dtype.type(self.beta1) == 1.0:
            return math.inf
        longest = ROUNDING / (1.0 - ratio) + lost_in_squares(c.dtype) / ((1.0 - self.beta1) * self.eps)
        return self._with_moments(c, (c.start + c.n_steps * c.rate * longest) * self._growth(c))

    def _update(self, ops: Ops, flat: FlatParameters, control: StepControl, state: dict[str, Array]) -> None:
        settings = (self.beta1, self.beta2, self.eps)
        ops.update_by_rule(flat, control, "adamax", settings, (state["m"], state["s"]), self._decay)
