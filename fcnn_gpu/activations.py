"""Activation functions: what a neuron does with its weighted sum z.

Each stands on the backend's fused primitives, where its formula and derivative are written out
(backend/_ops/_activation.py). All are stable for every finite z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ._checks import check_real
from ._on_demand import own_names
from ._registry import Registry, nowhere
from ._types import Array
from .backend import ELEMENTWISE, Ops

__dir__ = own_names(__name__)


@dataclass(frozen=True)
class Activation:
    """f: out = f(Z + b) and back: dZ = dA ⊙ f′, db = Σ over samples of dZ."""

    name: ClassVar[str]
    default_init: ClassVar[str] = "he_normal"
    """The initializer that keeps the variance of the signal through a layer with this activation."""

    @property
    def slope(self) -> float:
        """The one parameter that a family of functions may have (α)."""
        return 0.0

    @property
    def from_output(self) -> bool:
        """Whether f′ is computed from A = f(Z), so that A may overwrite Z; otherwise Z is kept."""
        return ELEMENTWISE[self.name].from_output

    @property
    def is_primitive(self) -> bool:
        """Whether forward and backward are the backend's own functions of this name and slope, so that a layer may fuse
        them with its products. A class that computes in a way of its own gives False."""
        cls, own = type(self), Activation
        unaltered = cls.forward is own.forward and cls.backward is own.backward and cls.from_output is own.from_output
        return unaltered and self.name in ELEMENTWISE

    def forward(self, ops: Ops, Z: Array, b: Array | None, A: Array) -> None:
        """Z ← Z + b, A = f(Z); shapes (n, batch), b (n, 1) or None."""
        ops.bias_activation(Z, b, self.name, self.slope, A)

    def backward(self, ops: Ops, dA: Array, saved: Array, dZ: Array, db: Array | None) -> None:
        """dZ = dA ⊙ f′(saved), db = dZ·1; saved is A where `from_output`, else Z. dZ may be dA."""
        ops.activation_backward(dA, saved, self.name, self.slope, dZ, db)


_SYNONYMS = {
    "exponential": "exp",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "hard_silu": "hardswish",
    "hard_swish": "hardswish",
    "linear": "identity",
    "logistic": "sigmoid",
    "sine": "sin",
    "swish": "silu",
}
_ELSEWHERE: dict[str, str | None] = {
    "log_softmax": "It belongs to the loss: 'cross_entropy' takes logits, and predictions are probabilities",
    "PReLU": "It is a layer, whose slopes are learned: put fcnn.PReLU() behind a Dense layer without activation",
} | nowhere("""
    celu glu hard_shrink hard_sigmoid hard_tanh log_sigmoid quick_gelu relu6 rrelu soft_shrink softmax2d softmin
    softsign sparsemax sparse_plus sparse_sigmoid squareplus tanh_shrink threshold
""")
ACTIVATIONS: Registry[Activation] = Registry("activation", Activation, _SYNONYMS, _ELSEWHERE)


@ACTIVATIONS.register("identity")
@dataclass(frozen=True)
class Identity(Activation):
    """f(z) = z, f′(z) = 1."""

    default_init = "xavier_uniform"


@ACTIVATIONS.register("sigmoid")
@dataclass(frozen=True)
class Sigmoid(Activation):
    """f(z) = σ(z) = 1/(1 + e^−z), f′ = a(1 − a)."""

    default_init = "xavier_uniform"


@ACTIVATIONS.register("tanh")
@dataclass(frozen=True)
class Tanh(Activation):
    """f(z) = tanh z, f′ = 1 − a²."""

    default_init = "xavier_uniform"


@ACTIVATIONS.register("relu")
@dataclass(frozen=True)
class ReLU(Activation):
    """f(z) = max(z, 0), f′(z) = 1 for z > 0, else 0."""


@ACTIVATIONS.register("leaky_relu")
@dataclass(frozen=True)
class LeakyReLU(Activation):
    """f(z) = max(z, αz) with 0 ≤ α ≤ 1, f′(z) = 1 for z > 0, else α (Maas et al. 2013)."""

    alpha: float = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", check_real("LeakyReLU(alpha)", self.alpha, low=0.0, high=1.0))

    @property
    def slope(self) -> float:
        return self.alpha


@ACTIVATIONS.register("elu")
@dataclass(frozen=True)
class ELU(Activation):
    """f(z) = z for z > 0, else α(e^z − 1); f′(z) = 1 for z > 0, else αe^z (Clevert et al. 2015)."""

    alpha: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", check_real("ELU(alpha)", self.alpha, low=0.0))

    @property
    def slope(self) -> float:
        return self.alpha


@ACTIVATIONS.register("selu")
@dataclass(frozen=True)
class SELU(Activation):
    """f(z) = λ·ELU(z; α) with λ ≈ 1.0507, α ≈ 1.6733 (Klambauer et al. 2017, eq. 2)."""

    default_init = "lecun_normal"


@ACTIVATIONS.register("gelu")
@dataclass(frozen=True)
class GELU(Activation):
    """f(z) = zΦ(z), Φ the normal distribution function; f′(z) = Φ(z) + zφ(z) (Hendrycks & Gimpel 2016)."""


@ACTIVATIONS.register("gelu_tanh")
@dataclass(frozen=True)
class GELUTanh(Activation):
    """f(z) = ½z(1 + tanh(√(2/π)(z + 0.044715z³))), the approximation of GELU by its authors."""


@ACTIVATIONS.register("silu")
@dataclass(frozen=True)
class SiLU(Activation):
    """f(z) = zσ(z), f′(z) = σ(z)(1 + z(1 − σ(z))); also called swish (Elfwing et al. 2017)."""


@ACTIVATIONS.register("softplus")
@dataclass(frozen=True)
class Softplus(Activation):
    """f(z) = log(1 + e^z), f′(z) = σ(z). PyTorch takes f(z) = z above z = 20; here the formula holds throughout."""


@ACTIVATIONS.register("mish")
@dataclass(frozen=True)
class Mish(Activation):
    """f(z) = z·tanh(s), s = log(1 + e^z); f′(z) = tanh s + z(1 − tanh² s)σ(z) (Misra 2019)."""


@ACTIVATIONS.register("hardswish")
@dataclass(frozen=True)
class Hardswish(Activation):
    """f(z) = z·clip(z + 3, 0, 6)/6, SiLU in straight pieces (Howard et al. 2019).

    f′(z) = z/3 + ½ for |z| < 3; 0 for z ≤ −3 and 1 for z ≥ 3, the kinks included.
    """


@ACTIVATIONS.register("sin")
@dataclass(frozen=True)
class Sin(Activation):
    """f(z) = sin z, f′(z) = cos z (Sitzmann et al. 2020); beyond |z| = 2^18 (float64: 2^47) as of z = 0.

    There, neighbouring numbers are more than 2^−6 apart. `he_uniform` is the paper's initializer: it gives z a variance
    of 1. Its first layer, sin(ω₀z), has `init=Uniform(-ω₀/n_in, ω₀/n_in)`.
    """

    default_init = "he_uniform"


@ACTIVATIONS.register("exp")
@dataclass(frozen=True)
class Exp(Activation):
    """f(z) = e^z, f′ = a. For an output that is a rate leave it out: the loss `poisson` applies it itself."""

    default_init = "xavier_uniform"


@ACTIVATIONS.register("softmax")
@dataclass(frozen=True)
class Softmax(Activation):
    """f(z)_i = e^z_i/Σ_k e^z_k over the units of a sample; ∂f_i/∂z_k = f_i(δ_ik − f_k), the full Jacobian.

    For a classifier's output leave it out: the cross-entropy loss takes logits and applies softmax itself, stably.
    """

    default_init = "xavier_uniform"

    @property
    def from_output(self) -> bool:
        return True

    def forward(self, ops: Ops, Z: Array, b: Array | None, A: Array) -> None:
        if b is not None:
            ops.bias_activation(Z, b, "identity", 0.0, Z)
        ops.softmax(Z, A)

    def backward(self, ops: Ops, dA: Array, saved: Array, dZ: Array, db: Array | None) -> None:
        ops.softmax_backward(dA, saved, dZ)
        if db is not None:
            ops.row_sum(dZ, db)
