"""Optimizers with the moments of Adam."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .._checks import check_real
from ._base import Course, Optimizer
from ._bounds import ROUNDING, lost_in_squares


@dataclass
class TwoMoments(Optimizer):
    """m, a fading mean of g by β₁, and v, of something like g² by β₂."""

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

    def _largest_direction(self, course: Course) -> float:
        """No |m̂|/(√v̂ + ε) is larger; ∞ where none is known.

        m² ≤ v/(1 − β₁²/β₂) by Cauchy and Schwarz, but for gradients whose squares are too small for v.
        """
        ratio = 0.0 if not self.beta1 else self.beta1**2 / self.beta2 if self.beta2 else 1.0
        dtype = course.dtype
        if ratio >= 1.0 or not self.beta2 or not dtype.type(self.eps) or dtype.type(self.beta1) == 1.0:
            return math.inf
        lost = lost_in_squares(dtype) / ((1.0 - self.beta1) * self.eps)
        return ROUNDING / math.sqrt((1.0 - self.beta2) * (1.0 - ratio)) + lost

    def _with_moments(self, course: Course, reach: float) -> float:
        """`reach`, and what moments of the gradients of such parameters can be."""
        c = course
        return max(reach, (c.gradient + c.l1 + 2.0 * c.l2 * reach) / (1.0 - self.beta1))
