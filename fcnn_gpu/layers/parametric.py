"""Layers with one learned factor per unit: a scale, and activations whose shape is learned."""

from __future__ import annotations

import numbers
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from .._checks import check_real
from .._types import Array, HostArray
from ..activations import ACTIVATIONS
from ..backend import ELEMENTWISE
from ..initializers import INITIALIZERS, Draw
from ._base import LAYERS, Layer, Parameter, Plan, live


@dataclass(eq=False)
class _Parametric(Layer):
    """A = g(A₀) + p ⊙ h(A₀) with p (n, 1), which the subclass names: what the three layers share."""

    _parameter_name: ClassVar[str]
    _p: Parameter | None = field(init=False, default=None, repr=False)

    @property
    def _kind(self) -> tuple[str, float]:
        """g and h by the name that the primitives know them by, and the slope of f."""
        raise NotImplementedError(f"{type(self).__name__} must define _kind.")

    def _initial(self, n: int, seed: np.random.SeedSequence) -> HostArray:
        """p to start from, (n, 1)."""
        raise NotImplementedError(f"{type(self).__name__} must define _initial(n, seed).")

    def _build(self, n_in: int, seed: np.random.SeedSequence) -> None:
        self.n_out = n_in
        self._p = Parameter(self._parameter_name, self._initial(n_in, seed))

    def shapes(self, n_in: int) -> tuple[int, dict[str, tuple[int, int]]]:
        return n_in, {self._parameter_name: (n_in, 1)}

    def parameters(self) -> list[Parameter]:
        return [] if self._p is None else [self._p]

    def allocate(self, plan: Plan, training: bool) -> SimpleNamespace:
        return SimpleNamespace(A0=None, A=plan.matrix(self.n_out))

    def forward(self, A0: Array, cache: SimpleNamespace, training: bool) -> Array:
        cache.A0 = A0 if training else None  # the user's array is not to be kept
        self.ops.parametric_activation(A0, live(self._p, "value", self), *self._kind, cache.A)
        return cache.A

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        p, dp = live(self._p, "value", self), live(self._p, "gradient", self)
        self.ops.parametric_activation_backward(dA, cache.A0, p, *self._kind, dA, dp)
        return dA


@LAYERS.register("scale")
@dataclass(eq=False)
class Scale(_Parametric):
    """A = s ⊙ A₀ with a learned factor s_i for each unit: s (n, 1).

    Gradients: dA₀ = s ⊙ dA, ds_i = Σ_j dA_ij A₀_ij. `init`: what every s_i starts from, or the name of an initializer
    or an `Initializer`, which draws s like the weights of a layer with one input. As the first layer of a network it
    weighs the features (Holzmüller et al. 2024, "Better by default", section 3).
    """

    init: Any = 1.0
    _parameter_name = "s"

    def __post_init__(self) -> None:
        if isinstance(self.init, numbers.Real):
            self.init = check_real("Scale(init)", self.init)
        else:
            self.init = INITIALIZERS.resolve(self.init)

    def __repr__(self) -> str:
        return "Scale()"

    @property
    def _kind(self) -> tuple[str, float]:
        return "scale", 0.0

    def _initial(self, n: int, seed: np.random.SeedSequence) -> HostArray:
        if isinstance(self.init, float):
            return np.full((n, 1), self.init)
        return Draw(self, self.init, seed, n, 1).whole()

    @property
    def s(self) -> Array:
        """The factors s, (n, 1): a live view."""
        return live(self._p, "value", self)

    @property
    def ds(self) -> Array:
        """∂L/∂s of the last backward pass."""
        return live(self._p, "gradient", self)


@dataclass(eq=False)
class _LearnedShape(_Parametric):
    """The parameter α (n, 1), which starts at the field `alpha`."""

    _parameter_name = "alpha"

    def _initial(self, n: int, seed: np.random.SeedSequence) -> HostArray:
        return np.full((n, 1), self.alpha)  # type: ignore[attr-defined]

    @property
    def alphas(self) -> Array:
        """α of each unit, (n, 1): a live view."""
        return live(self._p, "value", self)

    @property
    def dalphas(self) -> Array:
        """∂L/∂α of the last backward pass."""
        return live(self._p, "gradient", self)


@LAYERS.register("parametric_activation")
@dataclass(eq=False)
class ParametricActivation(_LearnedShape):
    """A = A₀ + α ⊙ (f(A₀) − A₀) with a learned α_i for each unit, which starts at `alpha`: from A₀ itself, 0, to f, 1.

    Gradients: dA₀ = dA ⊙ (1 + α(f′(A₀) − 1)), dα_i = Σ_j dA_ij (f(A₀_ij) − A₀_ij). `activation`: the name or an
    `Activation` of an elementwise function; ValueError for softmax and for classes that compute in a way of their own.
    Source: Holzmüller et al. (2024), "Better by default: strong pre-tuned MLPs and boosted trees on tabular data",
    section 3.
    """

    activation: Any = "selu"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        self.activation = ACTIVATIONS.resolve(self.activation)
        if not self.activation.is_primitive:
            raise ValueError(
                f"ParametricActivation expects an elementwise activation, got {self.activation!r}. "
                f"Take one of {', '.join(sorted(ELEMENTWISE))}."
            )
        self.alpha = check_real("ParametricActivation(alpha)", self.alpha)

    def __repr__(self) -> str:
        return f"ParametricActivation({self.activation.name})"

    @property
    def _kind(self) -> tuple[str, float]:
        return self.activation.name, self.activation.slope


@LAYERS.register("prelu")
@dataclass(eq=False)
class PReLU(_LearnedShape):
    """A = max(A₀, 0) + α ⊙ min(A₀, 0) with a learned slope α_i for each unit, which starts at `alpha`.

    Gradients: dA₀ = dA where A₀ > 0, else α dA; dα_i = Σ_j dA_ij min(A₀_ij, 0). `torch.nn.PReLU(num_parameters=n)`.
    Source: He et al. (2015), "Delving deep into rectifiers", section 2.1.
    """

    alpha: float = 0.25

    def __post_init__(self) -> None:
        self.alpha = check_real("PReLU(alpha)", self.alpha)

    def __repr__(self) -> str:
        return "PReLU()"

    @property
    def _kind(self) -> tuple[str, float]:
        return "prelu", 0.0
