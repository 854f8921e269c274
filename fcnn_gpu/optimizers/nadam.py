"""NAdam."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .._checks import check_real
from .._types import Array
from ..backend import FlatParameters, Ops, StepControl
from ._base import OPTIMIZERS, Course
from ._bounds import ROUNDING
from ._moments import TwoMoments
from ._weight_decay import WeightDecay


@OPTIMIZERS.register("nadam")
@dataclass
class NAdam(WeightDecay, TwoMoments):
    """Adam with Nesterov's momentum: θ ← θ − η((1 − μ_t)g/(1 − Π_t) + μ_{t+1}m/(1 − Π_{t+1}))/(√v̂ + ε).

    m and v̂ are Adam's, μ_t = β₁(1 − ½·0.96^{tψ}) is the momentum of step t, which rises from β₁/2 to β₁ the faster the
    larger ψ, `momentum_decay`, is, and Π_t = μ_1 ⋯ μ_t. Source: Dozat (2016), "Incorporating Nesterov momentum into
    Adam", in PyTorch's form.
    """

    learning_rate: Any = 2e-3
    momentum_decay: float = 4e-3

    def _check(self) -> None:
        super()._check()
        self.momentum_decay = check_real("NAdam(momentum_decay)", self.momentum_decay, low=0.0)

    def _reach(self, course: Course) -> float:
        # the first factor of g is at most 1, that of m at most β₁/(1 − β₁); m̂ of `_largest_direction` is at least m
        c, beta1 = course, self.beta1
        largest = self._largest_direction(c)
        if largest == math.inf:
            return math.inf
        longest = ROUNDING / math.sqrt(1.0 - self.beta2) + largest * (1.0 + beta1 / (1.0 - beta1))
        return self._with_moments(c, (c.start + c.n_steps * c.rate * longest) * self._growth(c))

    def _update(self, ops: Ops, flat: FlatParameters, control: StepControl, state: dict[str, Array]) -> None:
        settings = (self.beta1, self.beta2, self.eps, 0.96**self.momentum_decay)
        ops.update_by_rule(flat, control, "nadam", settings, (state["m"], state["v"]), self._decay)
