"""Lion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .._checks import check_real
from .._types import Array
from ..backend import FlatParameters, Ops, StepControl
from ._base import OPTIMIZERS, Course
from ._weight_decay import WeightDecay


@OPTIMIZERS.register("lion")
@dataclass
class Lion(WeightDecay):
    """u = sign(β₁m + (1 − β₁)g), m ← β₂m + (1 − β₂)g, θ ← θ(1 − ηλ) − ηu: each step is as long as η, or 0 where u is.

    The learning rate is 3 to 10 times smaller than Adam's, and the weight decay as many times larger. Source: Chen et
    al. (2023), "Symbolic discovery of optimization algorithms", algorithm 2.
    """

    learning_rate: Any = 1e-4
    beta1: float = 0.9
    beta2: float = 0.99

    def _check(self) -> None:
        self.beta1 = check_real("Lion(beta1)", self.beta1, low=0.0, high=1.0, high_open=True)
        self.beta2 = check_real("Lion(beta2)", self.beta2, low=0.0, high=1.0, high_open=True)

    def _state_names(self) -> tuple[str, ...]:
        return ("m",)

    def _reach(self, course: Course) -> float:
        c = course
        reach = (c.start + c.n_steps * c.rate) * self._growth(c)
        return 2.0 * (reach + c.gradient + c.l1 + 2.0 * c.l2 * reach)

    def _update(self, ops: Ops, flat: FlatParameters, control: StepControl, state: dict[str, Array]) -> None:
        ops.update_by_rule(flat, control, "lion", (self.beta1, self.beta2), (state["m"],), self._decay)
