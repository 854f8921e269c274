"""The fully-connected layer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from .._checks import check_bool, check_choice, check_integer, check_real
from .._registry import OMITTED_IF_DEFAULT
from .._types import Array, HostArray
from ..activations import ACTIVATIONS, Activation
from ..backend import RowLimits, SparseColumns, called
from ..initializers import Draw, Normal, initial_values, no_biases, resolve_initializer
from ._base import LAYERS, Layer, Parameter, Plan, live

PLACEMENTS = ("auto", "device", "host", "disk")
PARAMETRIZATIONS = ("standard", "ntk")
_DRAWN_AT_ONCE = 2**22
"""Weights up to which they are drawn when the layer is built: more of them may not have room there."""


@LAYERS.register("dense")
@dataclass(eq=False)
class Dense(Layer):
    """A = f(W·A₀ + b): W (n_out, n_in), b (n_out, 1), A₀ (n_in, batch), A (n_out, batch).

    Backward, with dZ = dA ⊙ f′(Z): ∂L/∂W = dZ·A₀ᵀ, ∂L/∂b = dZ·1, ∂L/∂A₀ = Wᵀ·dZ (docs/backprop.md, section 4). As a
    network's first layer it takes A₀ sparse, too; then there is no ∂L/∂A₀.
    `parametrization="ntk"`: W/√n_in stands for W in all of these (Jacot et al. 2018, section 3), so that W itself
    starts from N(0, 1) and steps of one size suit layers of any width.

    `activation`: a name, an `Activation` or None for the identity. `init`: a name, an `Initializer` or the weights
    themselves, (n_out, n_in); None takes the one that fits the activation (Xavier for sigmoid, tanh, softmax and none;
    He for the ReLU family; LeCun for SELU), or N(0, 1) for "ntk".
    `bias_init`: a name, an `Initializer`, which draws b by the layer's fans n_in and n_out, as PyTorch and scikit-learn
    do, or the biases themselves, (n_out,) or (n_out, 1); None starts from b = 0. W is the same either way. ValueError
    for one that makes whole matrices.
    `l1`, `l2`: λ₁Σ|w| + λ₂Σw² over W is added to the objective.
    `max_norm` c: behind every update, the weights into a unit w_i, a row of W, with ‖w_i‖ > c become w_i·c/‖w_i‖
    (Srivastava et al. 2014, section 5.1). `unit_norm`: all rows become w_i/‖w_i‖. `non_negative`: w ← max(w, 0), before
    either. Such weights are on the device. Initial weights are as they are drawn.
    `placement`: where W and its moments lie: on the "device"; on the "host" or on "disk", from where they pass through
    the device in tiles of rows, and `W` and `dW` come into memory as they are read; or "auto", on the device where they
    have room (`Sequential(memory_limit=, storage=)`).
    """

    n_out: int = field()  # without this, the base class's 0 would be the default
    activation: Any = None
    init: Any = None
    bias: bool = True
    l1: float = 0.0
    l2: float = 0.0
    placement: str = field(default="auto", metadata=OMITTED_IF_DEFAULT)
    bias_init: Any = field(default=None, metadata=OMITTED_IF_DEFAULT)
    parametrization: str = field(default="standard", metadata=OMITTED_IF_DEFAULT)
    max_norm: float | None = field(default=None, metadata=OMITTED_IF_DEFAULT)
    unit_norm: bool = field(default=False, metadata=OMITTED_IF_DEFAULT)
    non_negative: bool = field(default=False, metadata=OMITTED_IF_DEFAULT)
    _W: Parameter | None = field(init=False, default=None, repr=False)
    _b: Parameter | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        self.n_out = check_integer("Dense(n_out)", self.n_out, low=1)
        self.activation = ACTIVATIONS.resolve("identity" if self.activation is None else self.activation)
        check_choice("Dense(parametrization)", self.parametrization, PARAMETRIZATIONS)
        fitting = Normal(1.0) if self.parametrization == "ntk" else self.activation.default_init
        self.init = resolve_initializer(fitting if self.init is None else self.init, "init")
        check_bool("Dense(bias)", self.bias)
        self.l1 = check_real("Dense(l1)", self.l1, low=0.0)
        self.l2 = check_real("Dense(l2)", self.l2, low=0.0)
        check_choice("Dense(placement)", self.placement, PLACEMENTS)
        self._check_limits()
        if self.bias_init is not None:
            self.bias_init = resolve_initializer(self.bias_init, "bias_init")
            if not self.bias:
                raise ValueError(
                    f"Dense(bias=False) has no biases for bias_init={self.bias_init!r}. Leave one of them out."
                )
            if not self.bias_init.makes_biases:
                raise ValueError(f"Dense: {no_biases(self.bias_init)}")
        if not self.init.makes_weights:
            raise ValueError(f"Dense: {self.init!r} makes biases, and no weights. Write bias_init={self.init.name!r}.")

    def _check_limits(self) -> None:
        check_bool("Dense(unit_norm)", self.unit_norm)
        check_bool("Dense(non_negative)", self.non_negative)
        if self.max_norm is not None:
            self.max_norm = check_real("Dense(max_norm)", self.max_norm, low=0.0, low_open=True)
            if self.unit_norm:
                raise ValueError("Dense: choose one of max_norm and unit_norm.")
        if self.limits is not None and self.placement in ("host", "disk"):
            raise ValueError(
                f"Dense(placement={self.placement!r}) has weights that no update sees as a whole, so max_norm, "
                "unit_norm and non_negative cannot be kept. Leave them out, or place the weights on the device."
            )

    @property
    def limits(self) -> RowLimits | None:
        """What every update leaves the rows of W within; None: whatever they become."""
        least, most = (1.0, 1.0) if self.unit_norm else (0.0, math.inf if self.max_norm is None else self.max_norm)
        limits = RowLimits(self.non_negative, least, most)
        return None if limits == RowLimits() else limits

    def __repr__(self) -> str:
        activation: Activation = self.activation
        parts = [f"{self.n_in or '?'} → {self.n_out}"]
        if activation.name != "identity":
            parts.append(activation.name)
        if self.placement != "auto":
            parts.append(f"placement={self.placement!r}")
        if self.parametrization != "standard":
            parts.append(self.parametrization)
        return f"Dense({', '.join(parts)})"

    def _build(self, n_in: int, seed: np.random.SeedSequence) -> None:
        draw = Draw(self, self.init, seed, self.n_out, n_in)
        later = self.placement in ("host", "disk") or self.n_out * n_in > _DRAWN_AT_ONCE
        weights = np.broadcast_to(np.float64(0), (self.n_out, n_in)) if later else draw.whole()
        drawn = draw if later else None
        self._W = Parameter("W", weights, self.l1, self.l2, is_weight=True, draw=drawn, limits=self.limits)
        self._b = Parameter("b", self._initial_biases(n_in, seed)) if self.bias else None
        self._data_seeds = seed.spawn(2) if self.looks_at_data else []

    def _initial_biases(self, n_in: int, seed: np.random.SeedSequence) -> HostArray:
        if self.bias_init is None:
            return np.zeros((self.n_out, 1))
        (of_biases,) = seed.spawn(1)  # random numbers of their own: W does not depend on bias_init
        return Draw(self, self.bias_init, of_biases, self.n_out, n_in).biases()

    @property
    def looks_at_data(self) -> bool:
        return self.init.looks_at_data or (self.bias_init is not None and self.bias_init.looks_at_data)

    def initialize(self, A0: Array, cache: SimpleNamespace) -> None:
        if not self.looks_at_data:
            return
        if self.weights.stored is not None:
            raise ValueError(
                f"{self}: init={self.init.name!r} needs the weights on the device, and they are on "
                "the host or on disk. Use another initializer, or placement='device'."
            )
        W = np.asarray(self.ops.to_numpy(self.W), np.float64)
        if self.init.looks_at_data:
            W = self.init.of_data(np.random.default_rng(self._data_seeds[0]), W, self._products(A0))
            self.ops.assign(self.W, initial_values(W, self.W.dtype))
            if self._W_compute is not self.W:
                self.ops.cast(self.W, self._W_compute)
        if self.bias_init is not None and self.bias_init.looks_at_data:
            b = self.bias_init.of_data(np.random.default_rng(self._data_seeds[1]), W, self._products(A0))
            self.ops.assign(self.b, initial_values(b, self.b.dtype))

    def _products(self, A0: Array) -> HostArray:
        """W·A₀ times the gain, on the host in float64."""
        Z = self.ops.matrix(self.n_out, A0.shape[1], self._W_compute.dtype)
        self._multiply(A0, Z)
        return np.asarray(self.ops.to_numpy(Z), np.float64)

    def _multiply(self, A0: Array, Z: Array) -> None:
        """Z = W A₀"""
        if self.weights.stored is not None:
            self.weights.stored.forward(A0, Z)
        elif isinstance(A0, SparseColumns):
            self.ops.sparse_product(self._W_compute, A0, Z, self.gain)
        else:
            self.ops.gemm(self._W_compute, A0, Z, self.gain)

    def shapes(self, n_in: int) -> tuple[int, dict[str, tuple[int, int]]]:
        return self.n_out, {"W": (self.n_out, n_in)} | ({"b": (self.n_out, 1)} if self.bias else {})

    @property
    def gain(self) -> float:
        """What W is multiplied by in every product: 1, or 1/√n_in for "ntk"."""
        return 1.0 if self.parametrization == "standard" else 1.0 / math.sqrt(self.n_in)

    @property
    def weights(self) -> Parameter:
        """W as a parameter of a layer that has been built."""
        assert self._W is not None, f"{self} has not been built"
        return self._W

    @property
    def W(self) -> Array:
        """The weights, (n_out, n_in): a live view, so `layer.W[...] = values` sets them.

        Weights on the host or on disk are a `StoredMatrix`, which reads and writes what is asked for.
        """
        return live(self._W, "value", self)

    @property
    def b(self) -> Array:
        """The biases, (n_out, 1): a live view. AttributeError for bias=False."""
        return live(self._b, "value", self)

    @property
    def dW(self) -> Array:
        """∂L/∂W of the last backward pass, without penalties."""
        return live(self._W, "gradient", self)

    @property
    def db(self) -> Array:
        """∂L/∂b of the last backward pass."""
        return live(self._b, "gradient", self)

    @property
    def _W_compute(self) -> Array:
        """What products read: W, or its 16-bit copy."""
        return live(self._W, "compute", self)

    def parameters(self) -> list[Parameter]:
        return [p for p in (self._W, self._b) if p is not None]

    def accumulated(self) -> list[Parameter]:
        return [] if self._W is None else [self._W]

    def note_frozen(self) -> None:
        self._dropped = ()  # `backward` leaves out what is frozen

    def allocate(self, plan: Plan, training: bool) -> SimpleNamespace:
        Z = plan.matrix(self.n_out)
        A = Z if self.activation.from_output else plan.matrix(self.n_out)
        return SimpleNamespace(A0=None, Z=Z, A=A, dA0=None, part=plan.part)

    def allocate_backward(self, plan: Plan, cache: SimpleNamespace, slot: int) -> int:
        cache.dA0 = plan.scratch(1 - slot, self.n_in)
        if self.weights.stored is not None:  # a factor of ∂L/∂W, of all parts of a batch, which outlasts this pass
            cache.dZ = plan.whole_matrix(self.n_out)
        return 1 - slot

    def forward(self, A0: Array, cache: SimpleNamespace, training: bool) -> Array:
        cache.A0 = A0 if training else None  # the user's array is not to be kept
        activation: Activation = self.activation
        b = self.b if self.bias else None
        by_itself = self.weights.stored is not None or isinstance(A0, SparseColumns)
        if activation.is_primitive and not by_itself:  # Z = W A₀ + b, A = f(Z)
            name, slope = activation.name, activation.slope
            self.ops.dense_forward(self._W_compute, A0, b, name, slope, cache.Z, cache.A, self.gain)
            return cache.A
        self._multiply(A0, cache.Z)  # Z = W A₀
        if activation.is_primitive:  # A = f(Z + b)
            self.ops.bias_activation(cache.Z, b, activation.name, activation.slope, cache.A)
        else:
            called(activation, activation.forward, self.ops, cache.Z, b, cache.A)
        return cache.A

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        activation: Activation = self.activation
        dZ, dA0 = dA, cache.dA0 if needs_input_gradient else None
        saved = cache.A if activation.from_output else cache.Z
        db = None if self._b is None or self._b.frozen else self.db
        frozen = self.weights.frozen  # then there is no ∂L/∂W
        stored, add = self.weights.stored, self.adds_gradients(self._W, cache.part)
        sparse = isinstance(cache.A0, SparseColumns)
        if activation.is_primitive and stored is None and not sparse and not frozen:
            name, slope = activation.name, activation.slope
            given = (dA, saved, name, slope, self._W_compute, cache.A0, dZ, self.dW, db, dA0, add, self.gain)
            self.ops.dense_backward(*given)
            return dA0
        if stored is not None:
            dZ = cache.dZ[:, cache.part.first : cache.part.first + dA.shape[1]]
        if activation.is_primitive:  # dZ = dA ⊙ f′; ∂L/∂b = dZ 1
            self.ops.activation_backward(dA, saved, activation.name, activation.slope, dZ, db)
        else:
            called(activation, activation.backward, self.ops, dA, saved, dZ, db)
        if frozen:
            pass
        elif stored is not None:
            stored.keep_factors(cache.dZ, cache.A0, cache.part)  # ∂L/∂W = dZ A₀ᵀ
        elif sparse:
            self.ops.sparse_gradient(dZ, cache.A0, self.dW, self.gain, add)
        else:
            self.ops.gemm(dZ, cache.A0.T, self.dW, self.gain, 1.0 if add else 0.0)
        if dA0 is not None and stored is not None:
            stored.backward(dZ, dA0)  # ∂L/∂A₀ = Wᵀ dZ
        elif dA0 is not None:
            self.ops.gemm(self._W_compute.T, dZ, dA0, self.gain)
        return dA0
