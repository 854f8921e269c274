"""Gaussian noise, with counter-based draws."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from .._checks import check_real
from .._types import Array
from ..backend import Scheduled, Setting
from ..schedules import Schedule, as_schedule
from ._base import LAYERS, Layer, Plan


@LAYERS.register("gaussian_noise")
@dataclass(eq=False)
class GaussianNoise(Layer):
    """In training A = A₀ + σE with E_ij normal, of mean 0 and variance 1; at inference A = A₀. dA₀ = dA.

    `std` is σ: a number of at least 0 or a schedule, by which `Trainer.fit` gives each step its own. The numbers come
    from Philox4x64-10 by Box and Muller, keyed by the model's seed and the layer's number and counted by training
    passes, so they are the same on every backend, up to rounding; none is beyond 5.8. Source: Bishop (1995), "Training
    with noise is equivalent to Tikhonov regularization"; Keras's `GaussianNoise`.
    """

    std: Any

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "std":
            value = as_schedule(value)
            if isinstance(value, Schedule):
                _setting_of(value).at(0.0, 1.0)
            else:
                value = check_real("GaussianNoise(std)", value, low=0.0)
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"GaussianNoise({self.std})" if isinstance(self.std, Schedule) else f"GaussianNoise({self.std:g})"

    def shapes(self, n_in: int) -> tuple[int, dict[str, tuple[int, int]]]:
        return n_in, {}

    @property
    def draws(self) -> bool:
        return bool(self.std != 0.0)

    def stop_drawing(self) -> None:
        self.std = 0.0

    def settings(self) -> list[Setting]:
        return [_setting_of(self.std)] if isinstance(self.std, Schedule) else []

    @property
    def sigma(self) -> float | Scheduled:
        """σ as the primitive takes it: where it follows a schedule, that of the step under way."""
        if not isinstance(self.std, Schedule):
            return float(self.std)
        assert self._binding is not None
        return self._binding.timetable.scheduled(_setting_of(self.std))

    def allocate(self, plan: Plan, training: bool) -> SimpleNamespace:
        return SimpleNamespace(A=plan.matrix(self.n_out), part=plan.part) if training else SimpleNamespace()

    def forward(self, A0: Array, cache: SimpleNamespace, training: bool) -> Array:
        if not training or not self.draws:
            return A0
        assert self._binding is not None
        key, first_draw = (self._binding.seed, self._index), cache.part.first * self.n_out
        self.ops.gaussian_noise(A0, self.sigma, key, self._binding.random_step, cache.A, first_draw)
        return cache.A

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        return dA


def _setting_of(schedule: Schedule) -> Setting:
    return Setting("GaussianNoise(std)", schedule, float("inf"))
