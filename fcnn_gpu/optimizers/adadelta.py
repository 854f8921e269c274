"""Adadelta."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .._checks import check_real
from .._types import Array
from ..backend import LARGEST_SQUARE, FlatParameters, Ops, StepControl
from ._base import OPTIMIZERS, Course
from ._bounds import ROUNDING, lost_in_squares
from ._weight_decay import WeightDecay


@OPTIMIZERS.register("adadelta")
@dataclass
class Adadelta(WeightDecay):
    """v ← ρv + (1 − ρ)g², u = √(d + ε)/√(v + ε)·g, d ← ρd + (1 − ρ)u², θ ← θ − ηu.

    d is at most 2⁵⁰, far beyond all use: nothing overflows. Source: Zeiler (2012), "ADADELTA: an adaptive learning rate
    method", algorithm 1, with PyTorch's η, which is 1 in the paper.
    """

    learning_rate: Any = 1.0
    rho: float = 0.9
    eps: float = 1e-6

    def _check(self) -> None:
        self.rho = check_real("Adadelta(rho)", self.rho, low=0.0, high=1.0, high_open=True)
        self.eps = check_real("Adadelta(eps)", self.eps, low=0.0, low_open=True)

    def _state_names(self) -> tuple[str, ...]:
        return ("v", "d")

    def _reach(self, course: Course) -> float:
        # |g| ≤ √(v/(1 − ρ)), but for gradients whose squares are too small for v, and d is bounded
        c = course
        if not self.rho or not c.dtype.type(self.eps) or c.dtype.type(self.rho) == 1.0:
            return math.inf
        longest = ROUNDING / math.sqrt(1.0 - self.rho) + lost_in_squares(c.dtype) / math.sqrt(self.eps)
        longest *= math.sqrt(LARGEST_SQUARE + self.eps)
        return max((c.start + c.n_steps * c.rate * longest) * self._growth(c), longest * longest)

    def _update(self, ops: Ops, flat: FlatParameters, control: StepControl, state: dict[str, Array]) -> None:
        settings = (self.rho, self.eps)
        ops.update_by_rule(flat, control, "adadelta", settings, (state["v"], state["d"]), self._decay)
