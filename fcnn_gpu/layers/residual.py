"""A block of layers with a connection around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from .._types import Array
from ..backend import called
from ..initializers import resolve_initializer
from ._base import LAYERS, Binding, Layer, Plan
from ._stack import backward_layers, build_layers, check_nesting, first_learned, resolve_layers
from .dense import Dense


@LAYERS.register("residual")
@dataclass(eq=False)
class Residual(Layer):
    """A = F(A₀) + A₀, F the block of layers; where F changes the width, A = F(A₀) + P·A₀ with a learned P.

    Backward: dA₀ = (∂F)ᵀ dA + dA, or + Pᵀ dA, and ∂L/∂P = dA·A₀ᵀ (He et al. 2016, eqs. 1 and 2). Any number may stand
    one after another, and up to 64 inside each other (ValueError).
    """

    block: Sequence[Any]
    init: Any = None
    projection: Dense | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        self.block = resolve_layers(self.block, "Residual")
        self._depth = check_nesting("Residual", self.block)
        if self.init is not None:
            self.init = resolve_initializer(self.init, "init")

    def __repr__(self) -> str:
        inner = ", ".join(map(repr, self.block))
        return f"Residual([{inner}]{', projection' if self.projection else ''})"

    def _build(self, n_in: int, seed: np.random.SeedSequence) -> None:
        *seeds, last = seed.spawn(len(self.block) + 1)
        self.projection = None
        n_out = build_layers(self.block, n_in, seeds, f"{self._path}.block.")
        self.n_out = n_out
        self.note_frozen()
        if n_out != n_in:
            self.projection = Dense(n_out, init=self.init, bias=False, placement="device")
            self.projection.build(n_in, last, f"{self._path}.projection")

    def bind(self, binding: Binding, index: Iterator[int]) -> None:
        super().bind(binding, index)
        for layer in self.sublayers():
            layer.bind(binding, index)

    def note_frozen(self) -> None:
        self._first_learned = first_learned(self.block)

    def sublayers(self) -> list[Layer]:
        return [*self.block, *([self.projection] if self.projection else [])]

    def allocate(self, plan: Plan, training: bool) -> SimpleNamespace:
        caches = [layer.allocate(plan, training) for layer in self.block]
        return SimpleNamespace(A0=None, A=plan.matrix(self.n_out), caches=caches, skip=None, part=plan.part)

    def allocate_backward(self, plan: Plan, cache: SimpleNamespace, slot: int) -> int:
        cache.skip = plan.matrix(self.n_out)
        for layer, inner in zip(reversed(self.block), reversed(cache.caches), strict=True):
            slot = layer.allocate_backward(plan, inner, slot)
        return slot

    def forward(self, A0: Array, cache: SimpleNamespace, training: bool) -> Array:
        cache.A0 = A0 if training else None
        A = A0
        for layer, inner in zip(self.block, cache.caches, strict=True):
            A = called(layer, layer.forward, A, inner, training)
        if self.projection is None:
            self.ops.add(A, A0, out=cache.A)  # A = F(A₀) + A₀
        else:
            self.ops.gemm(self.projection._W_compute, A0, out=cache.A)
            self.ops.add(A, cache.A, out=cache.A)  # A = F(A₀) + P A₀
        return cache.A

    def initialize(self, A0: Array, cache: SimpleNamespace) -> None:
        A = A0
        for layer, inner in zip(self.block, cache.caches, strict=True):
            layer.initialize(A, inner)
            A = called(layer, layer.forward, A, inner, True)
        if self.projection is not None:
            self.projection.initialize(A0, cache)

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        self.ops.assign(cache.skip, dA)
        if self.projection is not None and not self.projection.weights.frozen:
            add = self.adds_gradients(self.projection._W, cache.part)
            P_gradient = self.projection.dW  # ∂L/∂P = dA A₀ᵀ
            self.ops.gemm(cache.skip, cache.A0.T, out=P_gradient, beta=1.0 if add else 0.0)
        first = 0 if needs_input_gradient else self._first_learned
        dA0 = backward_layers(self.block, cache.caches, dA, first, needs_input_gradient)
        if dA0 is None:
            return None
        if self.projection is None:
            self.ops.add(dA0, cache.skip, out=dA0)
        else:
            self.ops.gemm(self.projection._W_compute.T, cache.skip, out=dA0, beta=1.0)
        return dA0
