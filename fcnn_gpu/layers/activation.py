"""An activation function as a layer of its own."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from .._types import Array
from ..activations import ACTIVATIONS
from ..backend import called
from ._base import LAYERS, Layer, Plan


@LAYERS.register("activation")
@dataclass(eq=False)
class Activation(Layer):
    """A = f(A₀), elementwise (softmax: over the units of each sample); dA₀ = dA ⊙ f′."""

    activation: Any

    def __post_init__(self) -> None:
        self.activation = ACTIVATIONS.resolve(self.activation)

    def __repr__(self) -> str:
        return f"Activation({self.activation.name})"

    def allocate(self, plan: Plan, training: bool) -> SimpleNamespace:
        return SimpleNamespace(A0=None, A=plan.matrix(self.n_out))

    def forward(self, A0: Array, cache: SimpleNamespace, training: bool) -> Array:
        cache.A0 = A0 if training else None  # the user's array is not to be kept
        called(self.activation, self.activation.forward, self.ops, A0, None, cache.A)
        return cache.A

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        saved = cache.A if self.activation.from_output else cache.A0
        called(self.activation, self.activation.backward, self.ops, dA, saved, dA, None)
        return dA
