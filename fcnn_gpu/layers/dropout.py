"""Dropout with counter-based masks."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from .._checks import check_real
from .._types import Array
from ..backend import Scheduled, Setting, realized_dropout
from ..schedules import SCHEDULES, Schedule
from ._base import LAYERS, Layer, Plan


@LAYERS.register("dropout")
@dataclass(eq=False)
class Dropout(Layer):
    """In training A = A₀ ⊙ M/(1 − p) with M_ij = 0 with probability p; at inference A = A₀ (inverted dropout).

    `p` is a number of 0 ≤ p < 1 or a schedule, `Dropout(fcnn.schedules.FlatCos(0.15))`, by which `Trainer.fit` gives
    each step its own.

    p is realized as a multiple of 1/65536; the scale uses the realized p. Masks come from Philox4x64-10, keyed by the
    model's seed and the layer's number and counted by training passes, so they are the same bits on every backend
    (Srivastava et al. 2014).
    """

    p: Any = 0.5

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "p":
            if isinstance(value, dict):
                value = SCHEDULES.build(value)
            if not isinstance(value, Schedule):
                value = check_real("Dropout(p)", value, low=0.0, high=1.0, high_open=True)
            else:
                _setting_of(value).at(0.0, 1.0)
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"Dropout({self.p})" if isinstance(self.p, Schedule) else f"Dropout({self.p:g})"

    def settings(self) -> list[Setting]:
        return [_setting_of(self.p)] if isinstance(self.p, Schedule) else []

    @property
    def rate(self) -> float | Scheduled:
        """p as the primitives take it: where it follows a schedule, that of the step under way."""
        if not isinstance(self.p, Schedule):
            return float(self.p)
        assert self._binding is not None
        return self._binding.timetable.scheduled(_setting_of(self.p))

    @property
    def key(self) -> tuple[int, int]:
        """Philox's key: (the model's seed, the layer's number in the model)."""
        assert self._binding is not None
        return self._binding.seed, self._index

    def allocate(self, plan: Plan, training: bool) -> SimpleNamespace:
        if not training:
            return SimpleNamespace()
        return SimpleNamespace(mask=plan.matrix(self.n_out, np.uint8), A=plan.matrix(self.n_out), part=plan.part)

    def forward(self, A0: Array, cache: SimpleNamespace, training: bool) -> Array:
        if not training or self.p == 0.0:
            return A0
        assert self._binding is not None
        first_draw = cache.part.first * self.n_out  # a sample's mask does not depend on the parts of the batch
        step = self._binding.random_step
        self.ops.dropout_forward(A0, self.rate, self.key, step, cache.mask, cache.A, first_draw)
        return cache.A

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        if self.p != 0.0:
            self.ops.dropout_backward(dA, self.rate, cache.mask, dA)
        return dA


def _setting_of(schedule: Schedule) -> Setting:
    return Setting("Dropout(p)", schedule, 1.0, realized_dropout)
