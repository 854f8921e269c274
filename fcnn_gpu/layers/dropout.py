"""Dropout with counter-based masks."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from .._checks import check_real
from .._types import Array
from ._base import LAYERS, Layer, Plan


@LAYERS.register("dropout")
@dataclass(eq=False)
class Dropout(Layer):
    """In training A = A₀ ⊙ M/(1 − p) with M_ij = 0 with probability p; at inference A = A₀ (inverted dropout).

    p is realized as a multiple of 1/65536; the scale uses the realized p. Masks come from Philox4x64-10, keyed by the
    model's seed and the layer's number and counted by training passes, so they are the same bits on every backend
    (Srivastava et al. 2014).
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        self.p = check_real("Dropout(p)", self.p, low=0.0, high=1.0, high_open=True)

    def __repr__(self) -> str:
        return f"Dropout({self.p:g})"

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
        self.ops.dropout_forward(A0, self.p, self.key, step, cache.mask, cache.A, first_draw)
        return cache.A

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        if self.p != 0.0:
            self.ops.dropout_backward(dA, self.p, cache.mask, dA)
        return dA
