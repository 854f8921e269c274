"""Gradient descent, with momentum or without."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .._checks import check_bool, check_real
from .._types import Array
from ..backend import FlatParameters, Ops, StepControl
from ._base import OPTIMIZERS, Course
from ._bounds import power
from ._weight_decay import WeightDecay


@OPTIMIZERS.register("sgd")
@dataclass
class SGD(WeightDecay):
    """θ ← θ − ηg. With momentum μ: v ← μv + g, θ ← θ − ηv; with Nesterov's: θ ← θ − η(g + μv).

    Source: Sutskever et al. (2013), in PyTorch's form (no damping). The default rate is 0.01, PyTorch's 0.001.
    """

    learning_rate: Any = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    def _check(self) -> None:
        self.momentum = check_real("SGD(momentum)", self.momentum, low=0.0, high=1.0, high_open=True)
        check_bool("SGD(nesterov)", self.nesterov)
        if self.nesterov and not self.momentum:
            raise ValueError("SGD(nesterov=True) needs a momentum greater than 0, for example momentum=0.9.")

    def _state_names(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def _reach(self, course: Course) -> float:
        # |v| ≤ (|g| + λ₁ + 2λ₂|θ|)/(1 − μ), and as much again of the first velocity
        c, momentum = course, float(course.dtype.type(self.momentum))
        drive, pull = c.rate * (c.gradient + c.l1), 2.0 * c.rate * c.l2
        if not momentum:
            return (c.start + c.n_steps * drive) * power(max(1.0, pull + self._pull(c) - 1.0), c.n_steps)
        if momentum >= 1.0:
            return math.inf
        longest = 2.0 / (1.0 - momentum)
        reach = (c.start + c.n_steps * longest * drive) * power(1.0 + longest * pull, c.n_steps)
        reach *= self._growth(c)
        return max(reach, longest * (c.gradient + c.l1 + 2.0 * c.l2 * reach))

    def _update(self, ops: Ops, flat: FlatParameters, control: StepControl, state: dict[str, Array]) -> None:
        ops.sgd_update(flat, control, self.momentum, self.nesterov, state.get("velocity"), self._decay)
