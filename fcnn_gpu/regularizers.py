"""Penalties on weights: R(W) = λ₁ Σ|w| + λ₂ Σ w², added to the data loss.

The gradient is λ₁ sign(w) + 2λ₂w, so a gradient step of rate η under L2 alone multiplies each weight by 1 − 2ηλ₂.
PyTorch's `weight_decay` is 2λ₂. Layers take λ₁ and λ₂ as `l1=` and `l2=`; biases and normalization parameters have
neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ._arrays import quietly
from ._checks import check_real
from ._on_demand import own_names
from ._registry import Registry
from ._types import Array
from .backend import FlatParameters, Segment, ops_for

__dir__ = own_names(__name__)


@dataclass(frozen=True)
class Regularizer:
    """λ₁ Σ|w| + λ₂ Σ w², by itself: what a layer's l1 and l2 mean, for any array.

    >>> import numpy as np
    >>> L1L2(l1=0.1, l2=0.5).value(np.array([[1.0, -2.0]]))
    2.8
    """

    name: ClassVar[str]

    @property
    def factors(self) -> tuple[float, float]:
        """(λ₁, λ₂)"""
        raise NotImplementedError(f"{type(self).__name__} must define factors.")

    @quietly
    def value(self, W: Array) -> float:
        """R(W)."""
        ops = ops_for(W)
        total = ops.zeros(1, "float64")
        ops.penalty(self._flat(W, ops.zeros(W.size, W.dtype)), total)
        return float(ops.to_numpy(total)[0])

    @quietly
    def gradient(self, W: Array) -> Array:
        """∂R/∂W, of W's shape."""
        ops = ops_for(W)
        gradient = ops.zeros(W.size, W.dtype)
        ops.penalized_gradient(self._flat(W, gradient), gradient)
        return gradient.reshape(W.shape)

    def _flat(self, W: Array, gradients: Array) -> FlatParameters:
        l1, l2 = self.factors
        return FlatParameters(W.reshape(-1), gradients, (Segment(0, W.size, l1=l1, l2=l2),))


_ELSEWHERE: dict[str, str | None] = {
    "elastic_net": "'l1_l2'",
    "lasso": "'l1'",
    "ridge": "'l2'",
    "weight_decay": "It belongs to the optimizer: fcnn.AdamW(weight_decay=0.01)",
}
REGULARIZERS: Registry[Regularizer] = Registry("regularizer", Regularizer, elsewhere=_ELSEWHERE)


@REGULARIZERS.register("l1")
@dataclass(frozen=True)
class L1(Regularizer):
    """R(W) = λ Σ|w|, ∂R/∂w = λ sign(w), 0 at w = 0."""

    l1: float = 0.01

    def __post_init__(self) -> None:
        check_real("L1(l1)", self.l1, low=0.0)

    @property
    def factors(self) -> tuple[float, float]:
        return self.l1, 0.0


@REGULARIZERS.register("l2")
@dataclass(frozen=True)
class L2(Regularizer):
    """R(W) = λ Σ w², ∂R/∂w = 2λw. No factor ½."""

    l2: float = 0.01

    def __post_init__(self) -> None:
        check_real("L2(l2)", self.l2, low=0.0)

    @property
    def factors(self) -> tuple[float, float]:
        return 0.0, self.l2


@REGULARIZERS.register("l1_l2")
@dataclass(frozen=True)
class L1L2(Regularizer):
    """R(W) = λ₁ Σ|w| + λ₂ Σ w²."""

    l1: float = 0.01
    l2: float = 0.01

    def __post_init__(self) -> None:
        check_real("L1L2(l1)", self.l1, low=0.0)
        check_real("L1L2(l2)", self.l2, low=0.0)

    @property
    def factors(self) -> tuple[float, float]:
        return self.l1, self.l2
