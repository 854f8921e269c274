"""Adam."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .._checks import check_bool
from .._registry import ADDED_LATER, OMITTED_IF_DEFAULT
from .._types import Array
from ..backend import FlatParameters, Ops, StepControl
from ._base import OPTIMIZERS, Course
from ._moments import TwoMoments
from ._weight_decay import WeightDecay


@OPTIMIZERS.register("adam")
@dataclass
class Adam(WeightDecay, TwoMoments):
    """m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ), θ ← θ − η m̂/(√v̂ + ε).

    With `amsgrad` the largest v so far takes the place of v: steps never grow because old gradients are forgotten.
    Sources: Kingma & Ba (2015), algorithm 1; Reddi et al. (2018), "On the convergence of Adam and beyond", in PyTorch's
    form. The state keeps m/(1 − β₁) and v/(1 − β₂).
    """

    learning_rate: Any = 1e-3
    amsgrad: bool = field(default=False, kw_only=True, metadata=OMITTED_IF_DEFAULT | ADDED_LATER)

    def _check(self) -> None:
        super()._check()
        check_bool(f"{type(self).__name__}(amsgrad)", self.amsgrad)

    def _state_names(self) -> tuple[str, ...]:
        return ("m", "v", "largest_v") if self.amsgrad else ("m", "v")

    def _reach(self, course: Course) -> float:
        reach = course.start + course.n_steps * course.rate * self._largest_direction(course)
        return self._with_moments(course, reach * self._growth(course))

    def _update(self, ops: Ops, flat: FlatParameters, control: StepControl, state: dict[str, Array]) -> None:
        m, v = state["m"], state["v"]
        if self.amsgrad:
            settings, moments = (self.beta1, self.beta2, self.eps), (m, v, state["largest_v"])
            ops.update_by_rule(flat, control, "amsgrad", settings, moments, self._decay)
        else:
            ops.adam_update(flat, control, self.beta1, self.beta2, self.eps, self._decay, m, v)
