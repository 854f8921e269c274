"""What every layer has: sizes, parameters, a place in its model, and the arrays of one batch size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, Protocol

import numpy as np

from .._checks import check_settings
from .._registry import Registry, nowhere
from .._types import Array, HostArray
from ..backend import Ops, RowLimits, Setting, Timetable
from ..initializers import Draw


@dataclass
class Parameter:
    """One learned array: its name within the layer, its initial values, and, once bound, its live views."""

    name: str
    initial: HostArray
    l1: float = 0.0
    l2: float = 0.0
    is_weight: bool = False
    """Weights may carry penalties and weight decay; biases and normalization parameters do not."""
    value: Array = None
    gradient: Array = None
    compute: Array = None
    """What passes read: `value`, or for a weight in 16-bit precision its 16-bit copy."""
    accumulates: bool = False
    """Whether backward passes over later parts of a batch add to `gradient`; otherwise each overwrites it."""
    draw: Draw | None = None
    """Initial values that have yet to be drawn; `initial` is then zeros without memory, for their shape."""
    limits: RowLimits | None = None
    """Of a weight's rows, what every update leaves them within."""
    frozen: bool = False
    """Whether no update changes it (`Sequential.freeze`). Where a layer leaves it out, `gradient` stays 0."""
    stored: StoredProducts | None = None
    """For a weight on the host or on disk what computes with it. It is not in the flat buffers; `value` and `gradient`
    are matrices that come into memory as they are read, and there is no `compute`."""


class StoredProducts(Protocol):
    """The products of a weight W that is not on the device (placement.StoredWeight)."""

    frozen: bool
    """That of its parameter."""

    def forward(self, A0: Array, Z: Array) -> None:
        """Z = gain·W·A₀, gain that of the layer."""

    def backward(self, dZ: Array, dA0: Array) -> None:
        """dA₀ = gain·Wᵀ·dZ"""

    def keep_factors(self, dZ: Array, A0: Array, part: BatchPart) -> None:
        """∂L/∂W = gain·dZ·A₀ᵀ, computed when it is needed, over all parts of a batch.

        dZ (n_out, part.whole) is that of all parts so far, A0 (n_in, batch) the input of this part. Both must stay as
        they are until the step is over, but A0 where `part` is not the whole batch: then it is copied.
        """


@dataclass
class BatchPart:
    """Which samples of the effective batch a training pass is over: those from number `first` on.

    A step may go through its batch in several parts (micro-batches), one pass forward and backward each; `whole` is the
    size of the whole batch. One object belongs to the arrays of a batch size, and `first` changes from pass to pass.
    """

    whole: int
    first: int = 0
    again: bool = False
    """Whether the pass repeats one over the same samples, whose running statistics have moved already."""


@dataclass
class Binding:
    """What a model gives its layers: the device's primitives, the parameters' dtype and the source of random masks."""

    ops: Ops
    dtype: np.dtype[Any]
    seed: int
    random_step: Array
    """int64 (1,): which draw of random masks comes next; every training forward pass advances it."""
    timetable: Timetable
    """Settings that follow schedules."""
    n_changes: int = 0
    """How often a setting of a layer has changed: what was captured before holds the old one."""


class Plan(Protocol):
    """Where a layer's arrays for one batch size come from (model.Workspace)."""

    batch: int
    part: BatchPart
    """Of which effective batch the samples are a part, and which. Layers that need to know keep it in their cache."""
    statistics_dtype: np.dtype[Any]
    """What sums and statistics are kept in: the parameters' dtype. Activations may have a shorter one."""

    def matrix(self, n: int, dtype: Any = None) -> Array:
        """An (n, batch) F-ordered array of the layer's own, by default in the dtype of activations."""
        ...

    def whole_matrix(self, n: int, dtype: Any = None) -> Array:
        """An (n, part.whole) F-ordered array of the layer's own, for what it keeps of all parts of a batch."""
        ...

    def column(self, n: int) -> Array:
        """An (n, 1) array of the layer's own, in the dtype of statistics."""
        ...

    def scratch(self, slot: int, n: int) -> Array:
        """An (n, batch) F-ordered view of gradient scratch 0 or 1, shared by all layers."""
        ...


_READ_ONCE = {"n_in", "n_out", "members", "init", "bias", "bias_init", "placement"}
_READ_ONCE |= {"l1", "l2", "max_norm", "unit_norm", "non_negative"}
"""Settings that a network's parameters were made by, and their update. Others (Dropout's p) may be set at any time."""


class Layer:
    """Base of all layers.

    A layer is built by one model: `build` fixes its sizes and draws its initial values, `bind` ties it to a device.
    """

    name: ClassVar[str]
    mixes_samples: ClassVar[bool] = False
    """Whether in training a sample's output depends on the others of its batch, so that no batch can be split."""
    n_in: int = 0
    n_out: int = 0
    _path: str = ""
    _depth: int = 0
    """How deep layers are nested inside this one."""
    _binding: Binding | None = None
    _dropped: tuple[Parameter, ...] = ()
    """Frozen parameters whose gradients `backward` writes all the same: they are set to 0 behind it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if self._binding is not None and name in _READ_ONCE:
            raise AttributeError(
                f"{type(self).__name__}.{name} was read when the network was built, and cannot be set any more. Make a "
                f"network with it: {type(self).__name__}(..., {name}={value!r}).",
                name=name,
                obj=self,
            )
        super().__setattr__(name, value)
        if self._binding is not None and not name.startswith("_"):
            self._binding.n_changes += 1

    def build(self, n_in: int, seed: np.random.SeedSequence, path: str) -> None:
        """Fix n_in and n_out and draw the initial values; `path` ("2", "1.block.0") is the layer's place."""
        if self.n_in:
            raise ValueError(
                f"{self} already belongs to a model (as layer {self._path}). Make a new layer for each place."
            )
        self.n_in, self._path = n_in, path
        self._build(n_in, seed)

    def _build(self, n_in: int, seed: np.random.SeedSequence) -> None:
        self.n_out = n_in

    def shapes(self, n_in: int) -> tuple[int, dict[str, tuple[int, int]]]:
        """n_out, and the shapes of `parameters` and `state` by name, of the layer once it is built for this width.

        Nothing is allocated: by this a file is compared with its architecture before there are any arrays.
        """
        return n_in, {}

    def shape_in_file(self, name: str, shape: tuple[int, int]) -> tuple[int, ...]:
        """The shape that an array of the layer has in a model file, as `torch.nn` has it."""
        return shape if name == "W" else shape[:1]

    def bind(self, binding: Binding, index: Iterator[int]) -> None:
        """Take the device's primitives; `index` numbers the layers of the whole model.

        ValueError where a setting of the layer is 0 or infinite in the model's dtype.
        """
        check_settings(self, binding.dtype)
        self._binding = binding
        self._index = next(index)

    def unbind(self) -> None:
        """Belong to no model again: one that could not be built."""
        self._binding, self.n_in = None, 0

    @property
    def ops(self) -> Ops:
        if self._binding is None:
            raise RuntimeError(f"{self} has no arrays yet: put it into a Sequential.")
        return self._binding.ops

    @property
    def path(self) -> str:
        """The layer's place in its model: "0", "1", ..., and "1.block.0" inside a residual layer,
        "1.branches.0.2" in a branch."""
        return self._path

    def parameters(self) -> list[Parameter]:
        """The layer's own learned arrays."""
        return []

    def accumulated(self) -> list[Parameter]:
        """Those of `parameters` whose gradients `backward` adds to where `adds_gradients` says so.

        A step over parts of a batch keeps the sums of all other gradients itself: each pass may overwrite them.
        """
        return []

    @staticmethod
    def adds_gradients(parameter: Parameter | None, part: BatchPart) -> bool:
        """Whether a backward pass over this part adds to the parameter's gradient what it would write otherwise."""
        return parameter is not None and parameter.accumulates and part.first > 0

    def note_frozen(self) -> None:
        """Parameters of the layer, or inside it, have been frozen or set free."""
        self._dropped = tuple(parameter for parameter in self.parameters() if parameter.frozen)

    def state(self) -> dict[str, Array]:
        """Arrays that are not learned by gradient but belong to the trained layer."""
        return {}

    @property
    def looks_at_data(self) -> bool:
        """Whether the layer's own initial values wait for samples."""
        return False

    def initialize(self, A0: Array, cache: SimpleNamespace) -> None:
        """Make the initial values that wait for samples, from the layer's input A0 (n_in, batch) for some."""

    def settings(self) -> list[Setting]:
        """The layer's own settings that follow schedules."""
        return []

    def sublayers(self) -> list[Layer]:
        """The layers inside this one."""
        return []

    def walk(self) -> Iterator[Layer]:
        """This layer and all inside it."""
        yield self
        for layer in self.sublayers():
            yield from layer.walk()

    def allocate(self, plan: Plan, training: bool) -> SimpleNamespace:
        """The arrays that this layer keeps for one batch size."""
        return SimpleNamespace()

    def allocate_backward(self, plan: Plan, cache: SimpleNamespace, slot: int) -> int:
        """Make the arrays of `backward`, whose gradient arrives in scratch `slot`; says in which slot it leaves."""
        return slot

    @property
    def draws(self) -> bool:
        """Whether training passes draw random numbers: each computes something else, and inference does not."""
        return False

    def stop_drawing(self) -> None:
        """From now on training passes draw none."""

    def forward(self, A0: Array, cache: SimpleNamespace, training: bool) -> Array:
        """The layer's output (n_out, batch) for its input A0 (n_in, batch)."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(A0, cache, training).")

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        """The gradient with respect to A0, after the layer's parameters have got theirs."""
        raise NotImplementedError(f"{type(self).__name__} must define backward(dA, cache, needs_input_gradient).")


_DENSE = "'dense', with the number of its units: fcnn.Dense(n_out)"
_N_IN = "It is no layer: Sequential(layers, n_in=...) says how many features X has"
_RESHAPED = "It needs no layer: give X as (n_samples, n_features)"
_SCALED = "It is no layer: Sequential has input_scale and input_shift"
_ELSEWHERE: dict[str, str | None] = {
    "BatchNorm1d": "'batch_norm'",
    "BatchNormalization": "'batch_norm'",
    "Flatten": _RESHAPED,
    "GroupNormalization": "'group_norm', with the number of groups: fcnn.GroupNorm(n_groups)",
    "Input": _N_IN,
    "InputLayer": _N_IN,
    "LayerNormalization": "'layer_norm'",
    "LazyBatchNorm1d": "'batch_norm'",
    "LazyLinear": _DENSE,
    "Linear": _DENSE,
    "Normalization": _SCALED,
    "Rescaling": _SCALED,
    "RMSNormalization": "'rms_norm'",
    "Unflatten": _RESHAPED,
} | nowhere("""
    BatchNorm2d BatchNorm3d Bilinear Conv1d Conv2d Conv3d EmbeddingBag FeatureAlphaDropout
    GaussianDropout GRU InstanceNorm1d LSTM MaxPool2d MaxPooling2D
    MultiheadAttention RNN SimpleRNN SpectralNormalization SyncBatchNorm Transformer
    TransformerEncoder
""")
LAYERS: Registry[Layer] = Registry("layer", Layer, elsewhere=_ELSEWHERE)


def live(parameter: Parameter | None, what: str, layer: Layer) -> Array:
    """The `value` or `gradient` of a parameter; an AttributeError says why there is none."""
    if parameter is None and layer.n_in:
        raise AttributeError(f"{layer} has no bias: it was made with bias=False.")
    if parameter is None or parameter.value is None:
        raise AttributeError(f"{layer} has no arrays yet: put it into a Sequential, which creates them.")
    return getattr(parameter, what)
