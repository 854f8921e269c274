"""Adagrad."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .._checks import check_real
from .._types import Array
from ..backend import FlatParameters, Ops, StepControl
from ._base import OPTIMIZERS, Course
from ._bounds import ROUNDING, lost_in_squares
from ._weight_decay import WeightDecay


@OPTIMIZERS.register("adagrad")
@dataclass
class Adagrad(WeightDecay):
    """s ← s + g², θ ← θ − η_t g/(√s + ε), η_t = η/(1 + (t − 1)·lr_decay) (Duchi et al. 2011, in PyTorch's form).

    With weight decay λ: θ ← θ(1 − η_t λ) − η_t g/(√s + ε).
    """

    learning_rate: Any = 0.01
    lr_decay: float = 0.0
    eps: float = 1e-10

    def _check(self) -> None:
        self.lr_decay = check_real("Adagrad(lr_decay)", self.lr_decay, low=0.0)
        self.eps = check_real("Adagrad(eps)", self.eps, low=0.0, low_open=True)

    def _state_names(self) -> tuple[str, ...]:
        return ("s",)

    def _reach(self, course: Course) -> float:
        c = course
        if not c.dtype.type(self.eps):
            return math.inf
        return (c.start + c.n_steps * c.rate * (ROUNDING + lost_in_squares(c.dtype) / self.eps)) * self._growth(c)

    def _update(self, ops: Ops, flat: FlatParameters, control: StepControl, state: dict[str, Array]) -> None:
        ops.adagrad_update(flat, control, self.lr_decay, self.eps, state["s"], self._decay)
