"""RAdam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .._types import Array
from ..backend import FlatParameters, Ops, StepControl
from ._base import OPTIMIZERS, Course
from ._bounds import power
from ._moments import TwoMoments
from ._weight_decay import WeightDecay

_MOST_STEPS = 10_000
"""After which the rectification has begun, or none of it is known."""


@OPTIMIZERS.register("radam")
@dataclass
class RAdam(WeightDecay, TwoMoments):
    """Adam with a rectified step: θ ← θ − η r_t m̂√(1 − β₂ᵗ)/(√v + ε) where ρ_t > 5, else θ ← θ − η m̂.

    ρ_∞ = 2/(1 − β₂) − 1, ρ_t = ρ_∞ − 2tβ₂ᵗ/(1 − β₂ᵗ), and
    r_t = √((ρ_t − 4)(ρ_t − 2)ρ_∞/((ρ_∞ − 4)(ρ_∞ − 2)ρ_t)): a warm-up while v has seen few gradients. ε is added to
    √v, as by PyTorch. Source: Liu et al. (2020), "On the variance of the adaptive learning rate and beyond",
    algorithm 2.
    """

    learning_rate: Any = 1e-3

    def _reach(self, course: Course) -> float:
        # some steps, the first of all, are η m̂, |m̂| ≤ |g|; the rest are shorter than Adam's
        c, longest, plain = course, 2.0 / (1.0 - self.beta2) - 1.0, self._plain_steps()
        drive, pull = 2.0 * c.rate * (c.gradient + c.l1), 4.0 * c.rate * c.l2
        reach = (c.start + min(plain, c.n_steps) * drive) * power(1.0 + pull, min(plain, c.n_steps))
        if longest > 5.0:
            reach += c.n_steps * c.rate * self._largest_direction(c)
        return self._with_moments(c, reach * self._growth(c))

    def _plain_steps(self) -> int:
        """How many steps are not rectified."""
        longest, beta2 = 2.0 / (1.0 - self.beta2) - 1.0, self.beta2
        if longest > 5.0:
            for t in range(1, _MOST_STEPS):
                if longest - 2.0 * t * beta2**t / (1.0 - beta2**t) > 5.0 + 1e-6:
                    return t - 1
        return 2**62

    def _update(self, ops: Ops, flat: FlatParameters, control: StepControl, state: dict[str, Array]) -> None:
        settings = (self.beta1, self.beta2, self.eps)
        ops.update_by_rule(flat, control, "radam", settings, (state["m"], state["v"]), self._decay)
