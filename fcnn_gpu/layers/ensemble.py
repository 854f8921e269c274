"""Layers of several networks, the members of an ensemble, which compute side by side.

k members' activations are one matrix (k·n, batch): a sample holds member 1's n units, then member 2's, and so on. Read
as (n, k·batch), which is the same memory, it is one batch of k times as many samples: so a weight matrix that the
members share is one product. See docs/internals/ensembles.md.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from .._checks import check_bool, check_choice, check_integer, check_real
from .._types import Array, HostArray
from ..activations import ACTIVATIONS
from ..backend import ELEMENTWISE
from ..initializers import INITIALIZERS, Draw, Initializer, Normal, no_biases
from ._base import LAYERS, Layer, Parameter, Plan, live
from .dense import PARAMETRIZATIONS

BIASES = ("member", "shared", "none")


def as_one_batch(X: Array, members: int) -> Array:
    """X (k·n, batch) F-ordered as (n, k·batch), a view: each member's samples as samples of one network."""
    return X.T.reshape(X.shape[1] * members, X.shape[0] // members).T


def _activation(who: str, activation: Any) -> Any:
    resolved = ACTIVATIONS.resolve("identity" if activation is None else activation)
    if not resolved.is_primitive:
        raise ValueError(
            f"{who} expects an elementwise activation, got {resolved!r}. Take one of {', '.join(sorted(ELEMENTWISE))}."
        )
    return resolved


def _initializer(who: str, init: Any, activation: Any, parametrization: str) -> Initializer:
    check_choice(f"{who}(parametrization)", parametrization, PARAMETRIZATIONS)
    fitting = Normal(1.0) if parametrization == "ntk" else activation.default_init
    return INITIALIZERS.resolve(fitting if init is None else init)


def _gain(parametrization: str, n_in: int) -> float:
    return 1.0 if parametrization == "standard" else 1.0 / math.sqrt(n_in)


def _inputs_of_a_member(layer: Any, n_in: int) -> int:
    """ValueError where the width cannot be that of all members."""
    if n_in % layer.members:
        raise ValueError(
            f"{layer} expects the outputs of {layer.members} members, one behind the other, and {n_in} are not so many "
            f"times anything. Put Members({layer.members}) in front of the first layer of an ensemble."
        )
    return n_in // int(layer.members)


@LAYERS.register("members")
@dataclass(eq=False)
class Members(Layer):
    """A = A₀, A₀, ..., A₀, one below the other: A₀ (n, batch) for each of k members, A (k·n, batch).

    dA₀_ij = Σ_g dA_(g·n+i)j, in the order of the members g. What stands in front of it is shared by all members;
    `DenseEnsemble`, `BatchEnsemble` and all layers that work unit by unit may follow. `EnsembleView` of TabM.
    """

    members: int

    def __post_init__(self) -> None:
        self.members = check_integer("Members(members)", self.members, low=1)

    def _build(self, n_in: int, seed: np.random.SeedSequence) -> None:
        self.n_out = n_in * self.members

    def shapes(self, n_in: int) -> tuple[int, dict[str, tuple[int, int]]]:
        return n_in * self.members, {}

    def allocate(self, plan: Plan, training: bool) -> SimpleNamespace:
        return SimpleNamespace(A=plan.matrix(self.n_out), dA0=None)

    def allocate_backward(self, plan: Plan, cache: SimpleNamespace, slot: int) -> int:
        cache.dA0 = plan.scratch(1 - slot, self.n_in)
        return 1 - slot

    def forward(self, A0: Array, cache: SimpleNamespace, training: bool) -> Array:
        self.ops.repeat_units(A0, cache.A)
        return cache.A

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        if not needs_input_gradient:
            return None
        self.ops.sum_repeats(dA, cache.dA0)
        return cache.dA0


@LAYERS.register("dense_ensemble")
@dataclass(eq=False)
class DenseEnsemble(Layer):
    """A_g = f(W_g·A₀_g + b_g) for each member g of an ensemble, with weights of its own.

    A₀ (k·n_in, batch), A (k·n_out, batch); W = (W_1, W_2, ..., W_k) side by side, (n_out, k·n_in), each W_g (n_out,
    n_in) in one piece of memory; b (k·n_out, 1). Backward, with dZ = dA ⊙ f′(Z): ∂L/∂W_g = dZ_g·A₀_gᵀ, ∂L/∂b = dZ·1,
    ∂L/∂A₀_g = W_gᵀ·dZ_g. All members' products are one operation.

    `units`: n_out, those of each member. `members`: k. The other arguments are those of `Dense`. Each member's W_g and
    b_g are drawn from random numbers of its own, as a `Dense` layer draws them. ValueError for an activation that is
    not elementwise, and where the width in front is no multiple of k.
    """

    units: int
    members: int
    activation: Any = None
    init: Any = None
    bias: bool = True
    l1: float = 0.0
    l2: float = 0.0
    bias_init: Any = None
    parametrization: str = "standard"
    _W: Parameter | None = field(init=False, default=None, repr=False)
    _b: Parameter | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        self.units = check_integer("DenseEnsemble(units)", self.units, low=1)
        self.members = check_integer("DenseEnsemble(members)", self.members, low=1)
        self.activation = _activation("DenseEnsemble", self.activation)
        self.init = _initializer("DenseEnsemble", self.init, self.activation, self.parametrization)
        check_bool("DenseEnsemble(bias)", self.bias)
        self.l1 = check_real("DenseEnsemble(l1)", self.l1, low=0.0)
        self.l2 = check_real("DenseEnsemble(l2)", self.l2, low=0.0)
        if self.bias_init is not None:
            self.bias_init = INITIALIZERS.resolve(self.bias_init)
            if not self.bias:
                raise ValueError(
                    f"DenseEnsemble(bias=False) has no biases for bias_init={self.bias_init!r}. Leave one of them out."
                )
            if not self.bias_init.makes_biases:
                raise ValueError(f"DenseEnsemble: {no_biases(self.bias_init)}")

    def __repr__(self) -> str:
        n_in = self.n_in // self.members or "?"
        parts = [f"{n_in} → {self.units}", f"members={self.members}"]
        if self.activation.name != "identity":
            parts.append(self.activation.name)
        if self.parametrization != "standard":
            parts.append(self.parametrization)
        return f"DenseEnsemble({', '.join(parts)})"

    def _build(self, n_in: int, seed: np.random.SeedSequence) -> None:
        n_out, n_each = self.units, _inputs_of_a_member(self, n_in)
        self.n_out = n_out * self.members
        seeds = seed.spawn(self.members)
        weights = [Draw(self, self.init, of_member, n_out, n_each).whole() for of_member in seeds]
        self._W = Parameter("W", np.concatenate(weights, axis=1), self.l1, self.l2, is_weight=True)
        self._b = Parameter("b", self._initial_biases(n_each, seeds)) if self.bias else None

    def _initial_biases(self, n_each: int, seeds: list[np.random.SeedSequence]) -> HostArray:
        if self.bias_init is None:
            return np.zeros((self.n_out, 1))
        of_biases = [of_member.spawn(1)[0] for of_member in seeds]  # as Dense does
        return np.concatenate(
            [Draw(self, self.bias_init, of_member, self.units, n_each).biases() for of_member in of_biases]
        )

    def shapes(self, n_in: int) -> tuple[int, dict[str, tuple[int, int]]]:
        n_out = self.units * self.members
        return n_out, {"W": (self.units, n_in)} | ({"b": (n_out, 1)} if self.bias else {})

    @property
    def gain(self) -> float:
        """What W is multiplied by in every product: 1, or 1/√n_in of a member for "ntk"."""
        return _gain(self.parametrization, self.n_in // self.members)

    @property
    def W(self) -> Array:
        """The weights of all members side by side, (n_out, k·n_in): a live view."""
        return live(self._W, "value", self)

    @property
    def b(self) -> Array:
        """The biases, (k·n_out, 1): a live view. AttributeError for bias=False."""
        return live(self._b, "value", self)

    @property
    def dW(self) -> Array:
        """∂L/∂W of the last backward pass, without penalties."""
        return live(self._W, "gradient", self)

    @property
    def db(self) -> Array:
        """∂L/∂b of the last backward pass."""
        return live(self._b, "gradient", self)

    def parameters(self) -> list[Parameter]:
        return [p for p in (self._W, self._b) if p is not None]

    def accumulated(self) -> list[Parameter]:
        return [] if self._W is None else [self._W]

    def allocate(self, plan: Plan, training: bool) -> SimpleNamespace:
        Z = plan.matrix(self.n_out)
        A = Z if self.activation.from_output else plan.matrix(self.n_out)
        return SimpleNamespace(A0=None, Z=Z, A=A, dA0=None, part=plan.part)

    def allocate_backward(self, plan: Plan, cache: SimpleNamespace, slot: int) -> int:
        cache.dA0 = plan.scratch(1 - slot, self.n_in)
        return 1 - slot

    def forward(self, A0: Array, cache: SimpleNamespace, training: bool) -> Array:
        cache.A0 = A0 if training else None  # the user's array is not to be kept
        W, b = live(self._W, "compute", self), self.b if self.bias else None
        name, slope = self.activation.name, self.activation.slope
        self.ops.grouped_dense_forward(W, A0, b, name, slope, cache.Z, cache.A, self.members, self.gain)
        return cache.A

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        saved = cache.A if self.activation.from_output else cache.Z
        W, db = live(self._W, "compute", self), self.db if self.bias else None
        dA0 = cache.dA0 if needs_input_gradient else None
        add = self.adds_gradients(self._W, cache.part)
        given = dA, saved, self.activation.name, self.activation.slope, W, cache.A0, dA, self.dW
        self.ops.grouped_dense_backward(*given, self.members, db, dA0, add, self.gain)
        return dA0


@LAYERS.register("batch_ensemble")
@dataclass(eq=False)
class BatchEnsemble(Layer):
    """A_g = f(s_g ⊙ (W·(r_g ⊙ A₀_g)) + b_g) for each member g of an ensemble: only W (n_out, n_in) is shared.

    A₀ (k·n_in, batch), A (k·n_out, batch), r (k·n_in, 1), s (k·n_out, 1), b (k·n_out, 1). Backward, with dZ = dA ⊙ f′:
    ∂L/∂b = dZ·1, ∂L/∂s = Σ_j dZ ⊙ Y and dY = s ⊙ dZ for Y = W·R and R = r ⊙ A₀; ∂L/∂W = Σ_g dY_g·R_gᵀ, dR_g = Wᵀ·dY_g;
    ∂L/∂r = Σ_j dR ⊙ A₀, ∂L/∂A₀ = r ⊙ dR. The products are single ones over k·batch samples.

    `units`: n_out, those of each member. `members`: k. `scale_in`, `scale_out`: what r and s start from, a number or an
    initializer, which draws each member's from random numbers of its own; None leaves them out. `bias`: one b_g for
    each "member", one "shared" by all, or "none". Members start from the same biases, drawn by `bias_init` or 0. The
    other arguments are those of `Dense`. ValueError for an activation that is not elementwise, and where the width in
    front is no multiple of k.

    Sources: Wen, Tran & Ba (2020), "BatchEnsemble", eq. 5. As TabM (Gorishniy et al. 2024) starts: scale_in is
    "random_signs" in the first layer and 1 in the others. TabM-mini: `Scale("random_signs")` behind `Members`, then
    layers without scales, with a shared bias.
    """

    units: int
    members: int
    activation: Any = None
    init: Any = None
    scale_in: Any = 1.0
    scale_out: Any = 1.0
    bias: str = "member"
    bias_init: Any = None
    l1: float = 0.0
    l2: float = 0.0
    parametrization: str = "standard"
    _W: Parameter | None = field(init=False, default=None, repr=False)
    _r: Parameter | None = field(init=False, default=None, repr=False)
    _s: Parameter | None = field(init=False, default=None, repr=False)
    _b: Parameter | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        self.units = check_integer("BatchEnsemble(units)", self.units, low=1)
        self.members = check_integer("BatchEnsemble(members)", self.members, low=1)
        self.activation = _activation("BatchEnsemble", self.activation)
        self.init = _initializer("BatchEnsemble", self.init, self.activation, self.parametrization)
        self.scale_in = _start("BatchEnsemble(scale_in)", self.scale_in)
        self.scale_out = _start("BatchEnsemble(scale_out)", self.scale_out)
        check_choice("BatchEnsemble(bias)", self.bias, BIASES)
        self.l1 = check_real("BatchEnsemble(l1)", self.l1, low=0.0)
        self.l2 = check_real("BatchEnsemble(l2)", self.l2, low=0.0)
        if self.bias_init is not None:
            self.bias_init = INITIALIZERS.resolve(self.bias_init)
            if self.bias == "none":
                raise ValueError(
                    f"BatchEnsemble(bias='none') has no biases for bias_init={self.bias_init!r}. Leave one of them out."
                )
            if not self.bias_init.makes_biases:
                raise ValueError(f"BatchEnsemble: {no_biases(self.bias_init)}")

    def __repr__(self) -> str:
        n_in = self.n_in // self.members or "?"
        parts = [f"{n_in} → {self.units}", f"members={self.members}"]
        if self.activation.name != "identity":
            parts.append(self.activation.name)
        if self.parametrization != "standard":
            parts.append(self.parametrization)
        return f"BatchEnsemble({', '.join(parts)})"

    def _build(self, n_in: int, seed: np.random.SeedSequence) -> None:
        n_out, n_each, k = self.units, _inputs_of_a_member(self, n_in), self.members
        self.n_out = n_out * k
        self._W = Parameter("W", Draw(self, self.init, seed, n_out, n_each).whole(), self.l1, self.l2, is_weight=True)
        of_biases, *seeds = seed.spawn(1 + 2 * k)
        self._r = self._scale("r", self.scale_in, n_each, seeds[:k])
        self._s = self._scale("s", self.scale_out, n_out, seeds[k:])
        self._b = None
        if self.bias != "none":
            b = np.zeros((n_out, 1))
            if self.bias_init is not None:
                b = Draw(self, self.bias_init, of_biases, n_out, n_each).biases()
            self._b = Parameter("b", np.tile(b, (self._groups_of_b, 1)))

    def _scale(self, name: str, start: Any, n: int, seeds: list[np.random.SeedSequence]) -> Parameter | None:
        if start is None:
            return None
        if isinstance(start, float):
            return Parameter(name, np.full((n * self.members, 1), start))
        return Parameter(name, np.concatenate([Draw(self, start, seed, n, 1).whole() for seed in seeds]))

    @property
    def _groups_of_b(self) -> int:
        return self.members if self.bias == "member" else 1

    def shapes(self, n_in: int) -> tuple[int, dict[str, tuple[int, int]]]:
        n_out, n_each = self.units, n_in // self.members
        found = {"W": (n_out, n_each)}
        if self.scale_in is not None:
            found["r"] = (n_each * self.members, 1)
        if self.scale_out is not None:
            found["s"] = (n_out * self.members, 1)
        if self.bias != "none":
            found["b"] = (n_out * self._groups_of_b, 1)
        return n_out * self.members, found

    @property
    def gain(self) -> float:
        """What W is multiplied by in every product: 1, or 1/√n_in of a member for "ntk"."""
        return _gain(self.parametrization, self.n_in // self.members)

    @property
    def W(self) -> Array:
        """The weights that the members share, (n_out, n_in): a live view."""
        return live(self._W, "value", self)

    @property
    def dW(self) -> Array:
        """∂L/∂W of the last backward pass, without penalties."""
        return live(self._W, "gradient", self)

    @property
    def r(self) -> Array:
        """What the inputs are multiplied by, (k·n_in, 1): a live view. AttributeError for scale_in=None."""
        return self._live("r", "value", "scale_in=None")

    @property
    def s(self) -> Array:
        """What the products are multiplied by, (k·n_out, 1): a live view. AttributeError for scale_out=None."""
        return self._live("s", "value", "scale_out=None")

    @property
    def b(self) -> Array:
        """The biases, (k·n_out, 1), or (n_out, 1) if shared: a live view. AttributeError for bias="none"."""
        return self._live("b", "value", "bias='none'")

    @property
    def dr(self) -> Array:
        """∂L/∂r of the last backward pass."""
        return self._live("r", "gradient", "scale_in=None")

    @property
    def ds(self) -> Array:
        """∂L/∂s of the last backward pass."""
        return self._live("s", "gradient", "scale_out=None")

    @property
    def db(self) -> Array:
        """∂L/∂b of the last backward pass."""
        return self._live("b", "gradient", "bias='none'")

    def _live(self, name: str, what: str, without: str) -> Array:
        parameter: Parameter | None = getattr(self, f"_{name}")
        if parameter is None and self.n_in:
            raise AttributeError(f"{self} has no {name}: it was made with {without}.")
        return live(parameter, what, self)

    def parameters(self) -> list[Parameter]:
        return [p for p in (self._W, self._r, self._s, self._b) if p is not None]

    def accumulated(self) -> list[Parameter]:
        return [] if self._W is None else [self._W]

    def allocate(self, plan: Plan, training: bool) -> SimpleNamespace:
        R = None if self._r is None else plan.matrix(self.n_in)
        Y = None if self._s is None else plan.matrix(self.n_out)
        Z = plan.matrix(self.n_out)
        A = Z if self.activation.from_output else plan.matrix(self.n_out)
        return SimpleNamespace(A0=None, R=R, Y=Y, Z=Z, A=A, dA0=None, part=plan.part)

    def allocate_backward(self, plan: Plan, cache: SimpleNamespace, slot: int) -> int:
        cache.dA0 = plan.scratch(1 - slot, self.n_in)
        return 1 - slot

    def forward(self, A0: Array, cache: SimpleNamespace, training: bool) -> Array:
        cache.A0 = A0 if training else None  # the user's array is not to be kept
        ops, k, name, slope = self.ops, self.members, self.activation.name, self.activation.slope
        R, Z, A = A0, cache.Z, cache.A
        if self._r is not None:
            R = cache.R
            ops.parametric_activation(A0, self._r.value, "scale", 0.0, R)  # R = r ⊙ A₀
        cache.inputs = R if training else None
        Y = Z if self._s is None else cache.Y
        W, Rk, Yk = live(self._W, "compute", self), as_one_batch(R, k), as_one_batch(Y, k)
        b = None if self._b is None else self._b.value
        if self._s is None and self.bias != "member":  # A = f(W R + b)
            ops.dense_forward(W, Rk, b, name, slope, Yk, Yk if A is Z else as_one_batch(A, k), self.gain)
            return A
        ops.dense_forward(W, Rk, None, "identity", 0.0, Yk, Yk, self.gain)  # Y = W R
        if self._s is not None:
            ops.parametric_activation(Y, self._s.value, "scale", 0.0, Z)  # Z = s ⊙ Y
        if self.bias == "shared":
            Zk = as_one_batch(Z, k)
            ops.bias_activation(Zk, b, name, slope, Zk if A is Z else as_one_batch(A, k))
        else:
            ops.bias_activation(Z, b, name, slope, A)  # A = f(Z + b)
        return A

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        ops, k, name, slope = self.ops, self.members, self.activation.name, self.activation.slope
        saved, R = cache.A if self.activation.from_output else cache.Z, cache.inputs
        db = None if self._b is None else self._b.gradient
        if self.bias == "shared":  # dZ = dA ⊙ f′, ∂L/∂b = dZ 1
            dAk = as_one_batch(dA, k)
            ops.activation_backward(dAk, as_one_batch(saved, k), name, slope, dAk, db)
        else:
            ops.activation_backward(dA, saved, name, slope, dA, db)
        if self._s is not None:  # dY = s ⊙ dZ, ∂L/∂s = Σ dZ ⊙ Y
            ops.parametric_activation_backward(dA, cache.Y, self._s.value, "scale", 0.0, dA, self._s.gradient)
        needed = needs_input_gradient or self._r is not None
        dA0 = cache.dA0 if needed else None
        W, add = live(self._W, "compute", self), self.adds_gradients(self._W, cache.part)
        dY, Rk = as_one_batch(dA, k), as_one_batch(R, k)
        dR = None if dA0 is None else as_one_batch(dA0, k)
        ops.dense_backward(dY, dY, "identity", 0.0, W, Rk, dY, self.dW, None, dR, add, self.gain)
        if self._r is not None:  # ∂L/∂A₀ = r ⊙ dR, ∂L/∂r = Σ dR ⊙ A₀
            ops.parametric_activation_backward(dA0, cache.A0, self._r.value, "scale", 0.0, dA0, self._r.gradient)
        return dA0 if needs_input_gradient else None


def _start(who: str, start: Any) -> Any:
    """What a scale starts from: None, a number or an initializer."""
    if start is None:
        return None
    return check_real(who, start) if isinstance(start, numbers.Real) else INITIALIZERS.resolve(start)
