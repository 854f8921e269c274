"""Batch normalization, layer normalization, group normalization and RMS normalization."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

from .._checks import check_integer, check_real
from .._types import Array
from ._base import LAYERS, Binding, Layer, Parameter, Plan, live


class _Scaling(Layer):
    """ε and γ, which all normalizations have: out = γ x̂."""

    eps: float
    _gamma: Parameter | None = None

    def __post_init__(self) -> None:
        self.eps = check_real(f"{type(self).__name__}(eps)", self.eps, low=0.0, low_open=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def _check_units(self, n: int) -> None:
        """A ValueError where it cannot normalize so many units."""

    def _build(self, n_in: int, seed: np.random.SeedSequence) -> None:
        self._check_units(n_in)
        self.n_out = n_in
        self._gamma = Parameter("gamma", np.ones((n_in, 1)))

    def shapes(self, n_in: int) -> tuple[int, dict[str, tuple[int, int]]]:
        return n_in, {"gamma": (n_in, 1)}

    @property
    def gamma(self) -> Array:
        """The scale γ, (n, 1): a live view."""
        return live(self._gamma, "value", self)

    @property
    def dgamma(self) -> Array:
        """∂L/∂γ of the last backward pass."""
        return live(self._gamma, "gradient", self)

    def parameters(self) -> list[Parameter]:
        return [] if self._gamma is None else [self._gamma]


class _Normalization(_Scaling):
    """And β, which all but RMS normalization have: out = γ x̂ + β."""

    _beta: Parameter | None = None

    def _build(self, n_in: int, seed: np.random.SeedSequence) -> None:
        super()._build(n_in, seed)
        self._beta = Parameter("beta", np.zeros((n_in, 1)))

    def shapes(self, n_in: int) -> tuple[int, dict[str, tuple[int, int]]]:
        n_out, learned = super().shapes(n_in)
        return n_out, learned | {"beta": (n_in, 1)}

    @property
    def beta(self) -> Array:
        """The shift β, (n, 1): a live view."""
        return live(self._beta, "value", self)

    @property
    def dbeta(self) -> Array:
        """∂L/∂β of the last backward pass."""
        return live(self._beta, "gradient", self)

    def parameters(self) -> list[Parameter]:
        return super().parameters() + ([] if self._beta is None else [self._beta])


@LAYERS.register("batch_norm")
@dataclass(eq=False, repr=False)
class BatchNorm(_Normalization):
    """out = γ x̂ + β with x̂ = (x − μ)/√(σ² + ε): in training μ, σ² of the batch, at inference the running ones.

    running ← (1 − momentum)·running + momentum·batch statistic; the running variance takes the unbiased one (divided by
    batch − 1). Gradients: dβ = Σ dy, dγ = Σ dy x̂, dx = γ/√(σ² + ε) (dy − (dβ + x̂ dγ)/batch). A training batch needs at
    least two samples. Where γ and β are frozen, training takes the running statistics and leaves them as they are.
    Source: Ioffe & Szegedy (2015), algorithms 1 and 2, with PyTorch's momentum.
    """

    mixes_samples = True
    eps: float = 1e-5
    momentum: float = 0.1
    running_mean: Array = field(init=False, default=None, repr=False)
    running_var: Array = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.momentum = check_real("BatchNorm(momentum)", self.momentum, low=0.0, high=1.0)

    def shapes(self, n_in: int) -> tuple[int, dict[str, tuple[int, int]]]:
        n_out, learned = super().shapes(n_in)
        return n_out, learned | {"running_mean": (n_in, 1), "running_var": (n_in, 1)}

    def bind(self, binding: Binding, index: Iterator[int]) -> None:
        super().bind(binding, index)
        self.running_mean = binding.ops.zeros((self.n_in, 1), binding.dtype)
        self.running_var = binding.ops.zeros((self.n_in, 1), binding.dtype)
        binding.ops.fill(self.running_var, 1.0)

    def state(self) -> dict[str, Array]:
        return {"running_mean": self.running_mean, "running_var": self.running_var}

    @property
    def is_frozen(self) -> bool:
        """Whether γ and β are frozen: then training passes compute as inference does (as in Keras)."""
        return all(parameter.frozen for parameter in self.parameters())

    def note_frozen(self) -> None:
        super().note_frozen()
        if self.is_frozen:
            self._dropped = ()  # `backward` leaves both out

    def allocate(self, plan: Plan, training: bool) -> SimpleNamespace:
        cache = SimpleNamespace(Y=plan.matrix(self.n_out))
        if training:
            cache.x_hat, cache.inv_std, cache.part = plan.matrix(self.n_out), plan.column(self.n_out), plan.part
        return cache

    def forward(self, A0: Array, cache: SimpleNamespace, training: bool) -> Array:
        running = self.running_mean, self.running_var
        if not training or self.is_frozen:
            self.ops.batch_norm_inference(A0, self.gamma, self.beta, self.eps, *running, cache.Y)
            return cache.Y
        momentum = 0.0 if cache.part.again else self.momentum
        self.ops.batch_norm_forward(
            A0, self.gamma, self.beta, self.eps, momentum, *running, cache.x_hat, cache.inv_std, cache.Y
        )
        return cache.Y

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        if self.is_frozen:  # dA₀ = γ dA/√(running_var + ε)
            zeros = self.ops.scratch("frozen shift", self.n_in, self.gamma.dtype).reshape(-1, 1)
            self.ops.fill(zeros, 0.0)
            self.ops.batch_norm_inference(dA, self.gamma, zeros, self.eps, zeros, self.running_var, dA)
            return dA
        self.ops.batch_norm_backward(dA, self.gamma, cache.x_hat, cache.inv_std, self.dgamma, self.dbeta, dA)
        return dA


class _SampleNormalization(_Normalization):
    """out = γ x̂ + β with x̂ = (x − μ)/√(σ² + ε), μ and σ² over the units of each of a sample's groups."""

    @property
    def _groups(self) -> int:
        raise NotImplementedError

    def allocate(self, plan: Plan, training: bool) -> SimpleNamespace:
        inv_std = plan.matrix(self._groups, plan.statistics_dtype)
        return SimpleNamespace(Y=plan.matrix(self.n_out), x_hat=plan.matrix(self.n_out), inv_std=inv_std)

    def forward(self, A0: Array, cache: SimpleNamespace, training: bool) -> Array:
        given = self.gamma, self.beta, self.eps, self._groups
        self.ops.group_norm_forward(A0, *given, cache.x_hat, cache.inv_std, cache.Y)
        return cache.Y

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        kept = self.gamma, self._groups, cache.x_hat, cache.inv_std
        self.ops.group_norm_backward(dA, *kept, self.dgamma, self.dbeta, dA)
        return dA


@LAYERS.register("layer_norm")
@dataclass(eq=False, repr=False)
class LayerNorm(_SampleNormalization):
    """out = γ x̂ + β with x̂ = (x − μ)/√(σ² + ε), μ and σ² over the units of each sample; the same at inference.

    Gradients: dβ = Σ_j dy_j, dγ = Σ_j dy_j x̂_j, dx = (dx̂ − mean(dx̂) − x̂ mean(dx̂ x̂))/√(σ² + ε), dx̂ = γ dy.
    Source: Ba, Kiros & Hinton (2016), eq. 3.
    """

    eps: float = 1e-5

    @property
    def _groups(self) -> int:
        return 1


@LAYERS.register("group_norm")
@dataclass(eq=False, repr=False)
class GroupNorm(_SampleNormalization):
    """out = γ x̂ + β with x̂ = (x − μ)/√(σ² + ε), μ and σ² over the units of each group of a sample.

    The n units are `n_groups` groups of n/n_groups neighbours; γ and β belong to each unit. One group is `LayerNorm`.
    Gradients: those of `LayerNorm`, with the means over a group. Source: Wu & He (2018), "Group normalization",
    eq. 1 and 7.

    Args:
        n_groups: how many; it divides the number of units, of which a group has two at least (one unit less its own
            mean is 0).
        eps: ε.
    """

    n_groups: int
    eps: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.n_groups = check_integer("GroupNorm(n_groups)", self.n_groups, low=1)

    def __repr__(self) -> str:
        return f"GroupNorm({self.n_groups})"

    def _check_units(self, n: int) -> None:
        if n % self.n_groups == 0 and n > self.n_groups:
            return
        possible = [str(groups) for groups in range(1, n // 2 + 1) if n % groups == 0]
        others = f", which {', '.join(possible)} groups can share." if possible else "."
        raise ValueError(
            f"{self} expects a number of units that is a multiple of {self.n_groups}, and two in each group at least, "
            f"got {n} units{others}"
        )

    @property
    def _groups(self) -> int:
        return self.n_groups


@LAYERS.register("rms_norm")
@dataclass(eq=False, repr=False)
class RMSNorm(_Scaling):
    """out = γ x̂ with x̂ = x/√(mean(x²) + ε), the mean over the units of each sample; the same at inference.

    A `LayerNorm` without μ and β. Gradients: dγ = Σ_j dy_j x̂_j, dx = (dx̂ − x̂ mean(dx̂ x̂))/√(mean(x²) + ε), dx̂ = γ dy.
    Source: Zhang & Sennrich (2019), "Root mean square layer normalization", eq. 4, with ε as in PyTorch.
    """

    eps: float = 1e-5

    def allocate(self, plan: Plan, training: bool) -> SimpleNamespace:
        inv_rms = plan.matrix(1, plan.statistics_dtype)
        return SimpleNamespace(Y=plan.matrix(self.n_out), x_hat=plan.matrix(self.n_out), inv_rms=inv_rms)

    def forward(self, A0: Array, cache: SimpleNamespace, training: bool) -> Array:
        self.ops.rms_norm_forward(A0, self.gamma, self.eps, cache.x_hat, cache.inv_rms, cache.Y)
        return cache.Y

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        self.ops.rms_norm_backward(dA, self.gamma, cache.x_hat, cache.inv_rms, self.dgamma, dA)
        return dA
