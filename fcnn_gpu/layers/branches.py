"""Stacks of layers side by side, over one input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from .._types import Array
from ..backend import called
from ._base import LAYERS, Binding, Layer, Plan
from ._stack import backward_layers, build_layers, check_nesting, first_learned, resolve_layers


@LAYERS.register("branches")
@dataclass(eq=False)
class Branches(Layer):
    """A = (F_1(A₀); F_2(A₀); ...; F_k(A₀)): what each branch, a list of layers, makes of A₀, one below the other.

    A₀ (n_in, batch), A (Σ_i n_i, batch), n_i units those of branch i. Backward, with dA_i branch i's rows of dA:
    dA₀ = Σ_i (∂F_i)ᵀ dA_i, from the last branch to the first. Branches may differ in width and depth, and be nested as
    deep as `Residual`. `Sequential.join_members` makes one of trained networks.
    """

    branches: Sequence[Any]

    def __post_init__(self) -> None:
        if isinstance(self.branches, str | Layer) or not isinstance(self.branches, Sequence):
            raise TypeError(f"Branches expects a list of branches, each a list of layers, got {self.branches!r}.")
        if not self.branches:
            raise ValueError("Branches expects at least one branch, got an empty list.")
        self.branches = [resolve_layers(branch, f"Branches, branch {i},") for i, branch in enumerate(self.branches)]
        self._depth = check_nesting("Branches", [layer for branch in self.branches for layer in branch])

    def __repr__(self) -> str:
        return f"Branches({self.branches!r})"

    def _build(self, n_in: int, seed: np.random.SeedSequence) -> None:
        self._first: list[int] = []
        """Of each branch the first unit of the output that is its own."""
        self.n_out = 0
        for i, (branch, own) in enumerate(zip(self.branches, seed.spawn(len(self.branches)), strict=True)):
            self._first.append(self.n_out)
            self.n_out += build_layers(branch, n_in, own.spawn(len(branch)), f"{self._path}.branches.{i}.")
        self.note_frozen()

    def note_frozen(self) -> None:
        self._first_learned = [first_learned(branch) for branch in self.branches]

    def bind(self, binding: Binding, index: Iterator[int]) -> None:
        super().bind(binding, index)
        for layer in self.sublayers():
            layer.bind(binding, index)

    def sublayers(self) -> list[Layer]:
        return [layer for branch in self.branches for layer in branch]

    def allocate(self, plan: Plan, training: bool) -> SimpleNamespace:
        caches = [[layer.allocate(plan, training) for layer in branch] for branch in self.branches]
        return SimpleNamespace(A=plan.matrix(self.n_out), caches=caches, dA=None, sum=None)

    def allocate_backward(self, plan: Plan, cache: SimpleNamespace, slot: int) -> int:
        cache.dA = [plan.matrix(branch[-1].n_out) for branch in self.branches]
        cache.sum = plan.matrix(self.n_in) if len(self.branches) > 1 else None
        for branch, caches in zip(reversed(self.branches), reversed(cache.caches), strict=True):
            for layer, inner in zip(reversed(branch), reversed(caches), strict=True):
                slot = layer.allocate_backward(plan, inner, slot)
        return slot

    def forward(self, A0: Array, cache: SimpleNamespace, training: bool) -> Array:
        for branch, caches, first in zip(self.branches, cache.caches, self._first, strict=True):
            A = A0
            for layer, inner in zip(branch, caches, strict=True):
                A = called(layer, layer.forward, A, inner, training)
            self.ops.put_units(A, cache.A, first)  # A_i = F_i(A₀)
        return cache.A

    def initialize(self, A0: Array, cache: SimpleNamespace) -> None:
        for branch, caches in zip(self.branches, cache.caches, strict=True):
            A = A0
            for layer, inner in zip(branch, caches, strict=True):
                layer.initialize(A, inner)
                A = called(layer, layer.forward, A, inner, True)

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        for part, first in zip(cache.dA, self._first, strict=True):  # what follows may overwrite dA
            self.ops.take_units(dA, first, part)
        dA0: Array | None = None
        for i in reversed(range(len(self.branches))):
            start = 0 if needs_input_gradient else self._first_learned[i]
            dA0 = backward_layers(self.branches[i], cache.caches[i], cache.dA[i], start, needs_input_gradient)
            if dA0 is None or cache.sum is None:
                continue
            if i == len(self.branches) - 1:
                self.ops.assign(cache.sum, dA0)
            else:  # dA₀ = Σ_i (∂F_i)ᵀ dA_i
                self.ops.add(cache.sum, dA0, out=cache.sum if i > 0 else dA0)
        return dA0


def last_layers(layers: Sequence[Layer]) -> list[Layer]:
    """The layers whose outputs are those of the stack: its last one, or those of its last one's branches."""
    last = layers[-1]
    return [end for branch in last.branches for end in last_layers(branch)] if isinstance(last, Branches) else [last]
