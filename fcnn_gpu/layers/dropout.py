"""Dropout and alpha dropout, with counter-based masks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from .._checks import check_real
from .._types import Array
from ..backend import Scheduled, Setting, realized_dropout
from ..schedules import Schedule, as_schedule
from ._base import LAYERS, Binding, Layer, Plan


@LAYERS.register("dropout")
@dataclass(eq=False)
class Dropout(Layer):
    """In training A = A₀ ⊙ M/(1 − p) with M_ij = 0 with probability p; at inference A = A₀ (inverted dropout).

    `p` is a number of 0 ≤ p < 1 or a schedule, `Dropout(fcnn.schedules.FlatCos(0.15))`, by which `Trainer.fit` gives
    each step its own; or a list of numbers, one for each member of an ensemble, whose units follow one another.
    ValueError where there are not so many times as many units.

    p is realized as a multiple of 1/65536; the scale uses the realized p. Masks come from Philox4x64-10, keyed by the
    model's seed and the layer's number and counted by training passes, so they are the same bits on every backend
    (Srivastava et al. 2014).
    """

    p: Any = 0.5

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "p":
            value = as_schedule(value)
            if isinstance(value, list | tuple | np.ndarray):
                value = self._of_members(value)
            elif not isinstance(value, Schedule):
                value = check_real(f"{type(self).__name__}(p)", value, low=0.0, high=1.0, high_open=True)
            else:
                self._setting_of(value).at(0.0, 1.0)
        super().__setattr__(name, value)
        if name == "p" and self._binding is not None:
            self._put_rates()

    def _of_members(self, given: Any) -> tuple[float, ...]:
        if len(given) == 0:
            raise ValueError("Dropout(p) expects a number, or one for each member of an ensemble, got an empty list.")
        who = "Dropout(p) of member"
        values = tuple(check_real(f"{who} {g}", p, low=0.0, high=1.0, high_open=True) for g, p in enumerate(given))
        self._check_members(values, self.n_in)
        return values

    @staticmethod
    def _check_members(p: Any, n_in: int) -> None:
        if isinstance(p, tuple) and n_in % len(p):
            raise ValueError(
                f"Dropout(p) has numbers for {len(p)} members, and {n_in} units are not so many times anything. Give "
                "as many as Members(...) has in front of the layer."
            )

    def _build(self, n_in: int, seed: np.random.SeedSequence) -> None:
        self._check_members(self.p, n_in)
        super()._build(n_in, seed)

    def shapes(self, n_in: int) -> tuple[int, dict[str, tuple[int, int]]]:
        return n_in, {}

    def bind(self, binding: Binding, index: Iterator[int]) -> None:
        super().bind(binding, index)
        self._put_rates()

    def _put_rates(self) -> None:
        """The members' p where the device reads them."""
        self._rates: Array = None
        if isinstance(self.p, tuple):
            self._rates = self.ops.asarray(np.array([realized_dropout(p) for p in self.p]))

    def __repr__(self) -> str:
        if isinstance(self.p, tuple):
            return f"Dropout([{', '.join(f'{p:g}' for p in self.p)}])"
        p = str(self.p) if isinstance(self.p, Schedule) else f"{self.p:g}"
        return f"{type(self).__name__}({p})"

    @property
    def draws(self) -> bool:
        return bool(self.p != 0.0)

    def stop_drawing(self) -> None:
        self.p = 0.0

    def settings(self) -> list[Setting]:
        return [self._setting_of(self.p)] if isinstance(self.p, Schedule) else []

    @classmethod
    def _setting_of(cls, schedule: Schedule) -> Setting:
        return Setting(f"{cls.__name__}(p)", schedule, 1.0, realized_dropout)

    @property
    def rate(self) -> float | Scheduled:
        """p as the primitives take it: where it follows a schedule, that of the step under way."""
        if not isinstance(self.p, Schedule):
            return float(self.p)
        assert self._binding is not None
        return self._binding.timetable.scheduled(self._setting_of(self.p))

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
        self.drop(A0, self._binding.random_step, cache.mask, cache.A, first_draw)
        return cache.A

    def drop(self, A0: Array, step: Array, mask: Array, out: Array, first_draw: int = 0) -> None:
        """out = A₀ ⊙ M/(1 − p) with the masks of training pass `step`, which `mask` keeps: see the primitives."""
        if self._rates is None:
            self.ops.dropout_forward(A0, self.rate, self.key, step, mask, out, first_draw)
        else:
            self.ops.dropout_members_forward(A0, self._rates, self.key, step, mask, out, first_draw)

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        if self._rates is not None:
            self.ops.dropout_members_backward(dA, self._rates, cache.mask, dA)
        elif self.p != 0.0:
            self.ops.dropout_backward(dA, self.rate, cache.mask, dA)
        return dA


@LAYERS.register("alpha_dropout")
@dataclass(eq=False, repr=False)
class AlphaDropout(Dropout):
    """Dropout that keeps the mean 0 and the variance 1 which SELU gives: A = a(A₀ ⊙ M + α′(1 − M)) + b.

    M_ij = 0 with probability p. A dropped unit has α′ = −λα ≈ −1.758, the value that SELU tends to for small z; with
    q = 1 − p, a = (q(1 + p α′²))^(−½) and b = −a p α′. Its gradient is dA₀ = a·dA ⊙ M; at inference A = A₀. `p`, its
    masks and their draws are as in `Dropout`, but for a list of numbers, which it does not take. It belongs behind
    `Dense(activation="selu", init="lecun_normal")`. Source: Klambauer et al. (2017), "Self-normalizing neural
    networks", "New dropout technique"; PyTorch's `AlphaDropout`.
    """

    def _of_members(self, given: Any) -> tuple[float, ...]:
        raise TypeError(
            "AlphaDropout(p) expects one number or schedule for all members of an ensemble, got "
            f"{given!r}. Dropout takes a number for each."
        )

    def drop(self, A0: Array, step: Array, mask: Array, out: Array, first_draw: int = 0) -> None:
        """out = a(A₀ ⊙ M + α′(1 − M)) + b with the masks of training pass `step`, which `mask` keeps."""
        self.ops.alpha_dropout_forward(A0, self.rate, self.key, step, mask, out, first_draw)

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        if self.p != 0.0:
            self.ops.alpha_dropout_backward(dA, self.rate, cache.mask, dA)
        return dA
