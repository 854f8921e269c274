"""What a network is made of: layers with their parameters in one flat buffer, on a device, and their arrays."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from .._arrays import quietly
from .._checks import check_bool, check_bytes, check_in_dtype, check_integer
from .._registry import answers_arguments
from .._types import Array, HostArray
from ..backend import Ops, Timetable, consists_of_primitives, resolve_backend
from ..data import Categories, InputMap, Signature, check_center
from ..initializers import drawing_is_left_out
from ..layers import (
    LAYERS,
    Binding,
    Layer,
    Parameter,
    build_layers,
    category_columns,
    first_learned,
    hidden_weights,
    member_blocks,
    resolve_layers,
)
from ..memory import explains_out_of_memory
from ..placement import (
    LazyMatrix,
    OpenedFolder,
    Placement,
    Storage,
    StoredWeights,
    assign_array,
    copy_array,
    resolve_storage,
)
from ._finite import sound
from ._flat import make_flat
from ._freezing import named_by, set_frozen
from ._out_of_memory import explain_building
from ._precision import resolve_precision
from ._recompute import check_recompute, may_repeat
from ._sparse import why_not_sparse
from ._symmetry import warn_of_symmetry
from ._workspace import BatchArrays, Workspace


class Network:
    """Layers in order on a device, and what they learn. See `Sequential`."""

    @answers_arguments
    @quietly
    @explains_out_of_memory(explain_building)
    def __init__(
        self,
        layers: Any,
        n_in: int,
        *,
        seed: int | None = None,
        backend: str | Ops | None = None,
        dtype: Any = "float32",
        input_scale: float = 1.0,
        input_shift: float = 0.0,
        input_center: Any = None,
        output_center: Any = None,
        precision: str | None = None,
        memory_limit: int | str | None = None,
        storage: str | os.PathLike[str] | Storage | None = None,
        recompute: bool | int = False,
        share_workspace: bool = False,
        _opened: OpenedFolder | None = None,
        _like: StoredWeights | None = None,
    ) -> None:
        self._recompute = check_recompute("Sequential(recompute)", recompute)
        self._shares_workspace = check_bool("Sequential(share_workspace)", share_workspace)
        limit, kept_in = check_bytes("Sequential(memory_limit)", memory_limit), resolve_storage(storage)
        self._memory_limit = limit
        self.layers: list[Layer] = resolve_layers(layers, "Sequential")
        self.n_in = check_integer("Sequential(n_in)", n_in, low=1)
        if seed is not None:
            check_integer("Sequential(seed)", seed, low=0)
        self._precision = resolve_precision(precision, check_dtype(dtype))
        self.input_map = InputMap(self.compute_dtype, input_scale, input_shift)
        """From samples as they are stored to what the first layer takes."""
        check_in_dtype("Sequential(input_scale)", self.input_map.scale, self.dtype)
        check_in_dtype("Sequential(input_shift)", self.input_map.shift, self.dtype)
        self.categories = self._find_categories()
        """Which inputs are numbers of categories, looked up in tables, or None."""
        self._input_center = self._check_input_center(input_center)
        self.ops = resolve_backend(backend).with_precision(self.precision)
        self.seed = int(np.random.SeedSequence().generate_state(1, np.uint32)[0]) if seed is None else int(seed)
        self.link: str | None = None
        self.members = 1
        """How many networks side by side give the outputs; predictions are the mean of theirs. `Trainer` sets it."""
        self._signature = Signature()
        self.awaits_data = False
        """Whether initial values of layers wait for samples: `initialize` makes them, or the first `Trainer.fit`."""
        self.info: dict[str, Any] = {}
        """What else belongs to the model, as plain JSON data (class names, the data set, ...), saved with it."""

        _refuse_reuse(list(self.walk()))
        seeds = np.random.SeedSequence(self.seed).spawn(len(self.layers))
        self.stored: StoredWeights | None = None
        """The weights that are not on the device."""
        try:
            self.n_out = build_layers(self.layers, self.n_in, seeds, "")
            self._output_center = self._check_output_center(output_center)
            warn_of_symmetry(self.layers)
            placement = Placement(list(self.walk()), self.ops, self._precision, limit, kept_in, _opened, _like)
            self.random_step: Array = self.ops.zeros(1, "int64")
            self._binding = Binding(self.ops, self.dtype, self.seed % 2**64, self.random_step, Timetable(self.ops))
            index = itertools.count()
            for layer in self.layers:
                layer.bind(self._binding, index)
            self.stored = placement.store()
            self.awaits_data = any(layer.looks_at_data for layer in self.walk()) and not drawing_is_left_out()
            members, hidden = member_blocks(self.layers), hidden_weights(self.layers)
            self.flat = make_flat(self.named_parameters(), self.ops, self._precision, members, hidden)
            self.refresh_low_precision()
            if self.stored is not None:
                self._keep_stored(self.stored, _opened)
        except BaseException:
            for layer in self.walk():
                layer.unbind()  # a failure (an initializer's, no device memory) must not use the layers up
            if self.stored is not None:
                self.stored.discard()
            raise
        self._workspace = self.make_workspace(self.ops, self.layers)
        self._first_learned = first_learned(self.layers)
        self._trained_arrays: BatchArrays | None = None

    def make_workspace(self, ops: Ops, layers: Sequence[Layer], recompute: bool | int | None = None) -> Workspace:
        """Arrays to compute in for layers like this network's, and its way of recomputation unless another is given."""
        every = self._recompute if recompute is None else recompute
        asks = every is not False or self._shares_workspace
        repeatable = [may_repeat(layer) for layer in self.layers] if asks else ()
        return Workspace(ops, self._precision, layers, self.n_in, every, self._shares_workspace, repeatable)

    @property
    def recompute(self) -> bool | int:
        """Whether training keeps all outputs (False), that of every so many layers, or as few as pays (True)."""
        return self._recompute

    @property
    def share_workspace(self) -> bool:
        """Whether inference in the thread that trains takes the memory of training's activations."""
        return self._shares_workspace

    def _keep_stored(self, stored: StoredWeights, opened: OpenedFolder | None) -> None:
        """Commit stored weights together with what the network has in memory, which an opened folder has as well."""
        stored.belong_to(self)
        if opened is None:
            stored.commit()
            return
        data, targets = opened.record.data, {"flat": self.flat.values}
        targets |= {f"state {name}": array for name, array in self.statistics().items()}
        for name, array in targets.items():
            self.ops.assign(array, opened.array(name, array.shape, np.dtype(array.dtype.name)))
        for name, array in self.named_arrays().items():
            if not isinstance(array, LazyMatrix):  # of those, blocks are read when they are needed
                sound(name, self.ops.to_numpy(array), ValueError)  # `load` names the folder
        self.ops.fill(self.random_step, data["random_step"])
        self.info = data["info"]
        self.signature = Signature.of(data["signature"])
        self.refresh_low_precision()

    def __repr__(self) -> str:
        inner = ", ".join(map(repr, self.layers))
        precision = f", precision={self.precision!r}" if self.precision != self.dtype.name else ""
        options = f"dtype={self.dtype.name!r}{precision}{self.input_map.options()}{self.center_options()}"
        return f"Sequential([{inner}], n_in={self.n_in}, backend={self.ops.name!r}, {options})"

    def center_options(self) -> str:
        """The arguments of the centers that there are, as text."""
        centers = {"input_center": self.input_center, "output_center": self.output_center}
        shown = {
            name: f"{center[0]:g}" if len(center) == 1 else f"<{len(center):,} numbers>"
            for name, center in centers.items()
            if center is not None
        }
        return "".join(f", {name}={text}" for name, text in shown.items())

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of parameters, gradients and results."""
        return self._precision.dtype

    @property
    def precision(self) -> str:
        """What products compute in: "float32", "float64", "tf32", "bfloat16" or "float16"."""
        return self._precision.name

    @property
    def compute_dtype(self) -> np.dtype[Any]:
        """The dtype of activations and of the weights that products read."""
        return self._precision.compute_dtype

    @property
    def input_scale(self) -> float:
        """The network sees input_scale·X + input_shift."""
        return self.input_map.scale

    @property
    def input_shift(self) -> float:
        """The network sees input_scale·X + input_shift."""
        return self.input_map.shift

    @property
    def signature(self) -> Signature:
        """What the network was trained on: names and scale of its inputs, and what its classes are called."""
        return self._signature

    @signature.setter
    def signature(self, signature: Signature) -> None:
        if not isinstance(signature, Signature):
            raise TypeError(f"model.signature is a Signature, got {type(signature).__name__}.")
        signature.check(self.n_in, self.n_predictions)
        self._signature = signature

    @property
    def n_predictions(self) -> int:
        """Columns of `predict`: n_out, or a member's share of it."""
        return int(self.n_out) // self.members

    @property
    def input_center(self) -> HostArray | None:
        """c (n_in,) float64, subtracted from X before anything else, in float64; None: nothing is. May be set."""
        return self._input_center

    @input_center.setter
    def input_center(self, center: Any) -> None:
        self._input_center = self._check_input_center(center)
        self._commit_centers()

    @property
    def output_center(self) -> HostArray | None:
        """c (n_out,) float64, added to outputs on the host, in float64; None: nothing is. May be set."""
        return self._output_center

    @output_center.setter
    def output_center(self, center: Any) -> None:
        self._output_center = self._check_output_center(center)
        self._commit_centers()

    @property
    def prediction_center(self) -> HostArray | None:
        """What of `output_center` belongs to predictions, (n_predictions,): of several members that of each."""
        return None if self._output_center is None else self._output_center[: self.n_predictions]

    @property
    def sparse_obstacle(self) -> str | None:
        """Why the network does not take sparse X, and what to do, as the end of a sentence; None if it does."""
        return why_not_sparse(self.layers, self.input_map, self.input_center is not None)

    def _find_categories(self) -> Categories | None:
        found = category_columns(self.layers, self.n_in)
        if not found:
            return None
        layer = next(iter(found.values()))[1]
        if self.input_map.scale != 1.0 or self.input_map.shift != 0.0:
            raise ValueError(
                f"{layer} looks up what the network's inputs number, and input_scale and input_shift would change the "
                "numbers. Leave them out, and scale the other columns before."
            )
        counts, layers = zip(*found.values(), strict=True)
        return Categories(tuple(found), counts, layers)

    def _check_input_center(self, center: Any) -> HostArray | None:
        checked = check_center("Sequential(input_center)", center, self.n_in, "inputs")
        if self.categories is not None:
            self.categories.check_center(checked)
        return checked

    def _check_output_center(self, center: Any) -> HostArray | None:
        return check_center("Sequential(output_center)", center, self.n_out, "outputs")

    def _commit_centers(self) -> None:
        if self.stored is not None:  # a folder holds the architecture beside the weights
            self.stored.commit()

    # Parameters

    @property
    def parameters(self) -> list[Parameter]:
        """All parameters, in the order of the layers."""
        return [parameter for layer in self.walk() for parameter in layer.parameters()]

    def named_parameters(self) -> dict[str, Parameter]:
        """All parameters by name: "0.W", "0.b", "1.block.0.W", ..."""
        return {f"{layer.path}.{p.name}": p for layer in self.walk() for p in layer.parameters()}

    def freeze(self, *which: str | Layer) -> None:
        """Let parameters stay as they are in training: those whose names match these patterns, or of these layers.

        `model.freeze("0.*", "*.b")`, `model.freeze(*model.layers[:-1])`, where "*" stands for any characters in the
        names of `named_arrays`. Frozen parameters have no updates, weight decay or penalties; their gradients are 0,
        and neither the product ∂L/∂W of a frozen `Dense` is computed nor any gradient below the lowest layer that
        learns. A `BatchNorm` whose γ and β are frozen computes in training as at inference. Optimizers keep their
        moments. Frozen parameters are saved with the model. May be called at any time between steps, also by a
        callback. TypeError or ValueError for what stands for no parameter.
        """
        self._set_frozen("model.freeze", True, which)

    def unfreeze(self, *which: str | Layer) -> None:
        """Let parameters learn again: the inverse of `freeze`."""
        self._set_frozen("model.unfreeze", False, which)

    @property
    def frozen(self) -> list[str]:
        """The names of the parameters that are frozen."""
        return [name for name, parameter in self.named_parameters().items() if parameter.frozen]

    @property
    def n_trainable(self) -> int:
        """How many numbers are learned and not frozen."""
        learning = [parameter.value for parameter in self.parameters if not parameter.frozen]
        return sum(int(value.shape[0]) * int(value.shape[1]) for value in learning)

    def _set_frozen(self, who: str, frozen: bool, which: Sequence[str | Layer], commits: bool = True) -> None:
        parameters, layers = self.named_parameters(), list(self.walk())
        set_frozen(frozen, named_by(who, which, layers, list(parameters)), parameters, layers, self.flat)
        self.ops.fill(self.flat.gradients, 0.0)
        self._first_learned, self._trained_arrays = first_learned(self.layers), None
        self._binding.n_changes += 1
        if commits and self.stored is not None:  # a folder holds it beside the weights
            self.stored.forget_gradients()
            self.stored.commit()

    @property
    def timetable(self) -> Timetable:
        """The settings that follow schedules, those of layers and those of the optimizer."""
        return self._binding.timetable

    @property
    def n_parameters(self) -> int:
        """How many numbers are learned."""
        return int(self.flat.values.size) + (0 if self.stored is None else self.stored.size)

    def walk(self) -> Iterator[Layer]:
        """All layers, those inside residual layers and branches included."""
        for layer in self.layers:
            yield from layer.walk()

    @property
    def n_changes(self) -> int:
        """How often a setting of a layer (`layer.p`, `layer.eps`, ...) has changed since the model was built."""
        return self._binding.n_changes

    @property
    def consists_of_primitives(self) -> bool:
        """Whether all that a pass does are calls of primitives, so that it can be captured and replayed."""
        if self.stored is not None:  # whose tiles come and go in threads of their own
            return False
        layers = list(self.walk())
        return consists_of_primitives(self, self.ops, *layers, *(getattr(x, "activation", None) for x in layers))

    @property
    def can_be_recorded(self) -> bool:
        """Whether a pass can be captured: it consists of primitives, or what else it does can stand between them."""
        if self.consists_of_primitives:
            return True
        return self.stored is None and self.ops.records_python and consists_of_primitives(self, self.ops)

    def named_arrays(self) -> dict[str, Array]:
        """Live views of every parameter and every running statistic: "0.W", "0.b", "2.running_mean", ..."""
        arrays: dict[str, Array] = {}
        for layer in self.walk():
            arrays |= {f"{layer.path}.{p.name}": p.value for p in layer.parameters()}
            arrays |= {f"{layer.path}.{name}": value for name, value in layer.state().items()}
        return arrays

    def statistics(self) -> dict[str, Array]:
        """Live views of the running statistics alone."""
        return {f"{layer.path}.{name}": value for layer in self.walk() for name, value in layer.state().items()}

    def snapshot(self) -> dict[str, Array]:
        """Copies of `named_arrays`, each where the array itself lies."""
        return {name: copy_array(self.ops, array) for name, array in self.named_arrays().items()}

    @quietly
    def restore(self, snapshot: dict[str, Array]) -> None:
        """Put a `snapshot` of this model, or of one of the same architecture, back. ValueError for any other."""
        arrays = self.named_arrays()
        if {name: array.shape for name, array in arrays.items()} != {n: a.shape for n, a in snapshot.items()}:
            raise ValueError("model.restore expects a snapshot of this model; names or shapes of its arrays differ.")
        with nullcontext() if self.stored is None else self.stored.as_one():
            for name, array in arrays.items():
                assign_array(self.ops, array, snapshot[name])
        self.refresh_low_precision()

    def refresh_low_precision(self) -> None:
        """Round the weights into their 16-bit copies, if there are any.

        An optimizer's step does that by itself. What else may have changed the weights (`layer.W[...] = values`,
        `restore`) is unknown, so every pass that the user begins (fit, evaluate, predict, forward) begins with this.
        """
        low = self.flat.low
        if low is not None:
            self.ops.cast(self.flat.values[: low.size], low)

    @property
    def has_penalty(self) -> bool:
        """Whether any weight that learns has λ₁ or λ₂ other than 0."""
        stored = [] if self.stored is None else self.stored.learning
        return any(s.l1 or s.l2 for s in self.flat.segments) or any(w.l1 or w.l2 for w in stored)

    @quietly
    def penalty(self) -> float:
        """Σ over layers that learn of λ₁Σ|w| + λ₂Σw²: what the objective holds beside the data loss."""
        if not self.has_penalty:
            return 0.0
        total = self.ops.zeros(1, "float64")
        self.ops.penalty(self.flat, total)
        resident = float(self.ops.to_numpy(total)[0])
        return resident if self.stored is None else resident + self.stored.penalty()

    @quietly
    def objective_gradient(self) -> Array:
        """The flat gradient of data loss plus penalties after the last `backward`; `flat.gradients` has the data's.

        TypeError where weights are on the host or on disk: there is no such array then; `layer.dW` is read in parts.
        """
        if self.stored is not None:
            raise TypeError(
                f"The gradient of this network is not one array, because {len(self.stored.weights)} of its layers have "
                "their weights on the host or on disk. Read layer.dW[rows], the data's gradient, and add the "
                "penalties' 2·l2·layer.W[rows] + l1·sign(layer.W[rows])."
            )
        gradient = self.ops.empty(self.flat.gradients.size, self.dtype)
        self.ops.penalized_gradient(self.flat, gradient)
        return gradient

    def config(self) -> dict[str, Any]:
        """The architecture as plain data, the inverse of `from_config`."""
        centers = {"input_center": self.input_center, "output_center": self.output_center}
        return {
            "n_in": self.n_in,
            "layers": [LAYERS.config(layer) for layer in self.layers],
            "dtype": self.dtype.name,
            "precision": None if self.precision == self.dtype.name else self.precision,
            "input_scale": self.input_scale,
            "input_shift": self.input_shift,
            "seed": self.seed,
            "link": self.link,
            **({} if self.members == 1 else {"members": self.members}),
            **({"frozen": self.frozen} if self.frozen else {}),
            "recompute": self.recompute,
            "share_workspace": self.share_workspace,
            **{name: center.tolist() for name, center in centers.items() if center is not None},
            **({"awaits_data": True} if self.awaits_data else {}),
        }


def _refuse_reuse(layers: list[Layer]) -> None:
    """A ValueError if one of `layers` belongs to a model already, or stands in two places."""
    seen: set[int] = set()
    for layer in layers:
        if layer.n_in:
            raise ValueError(
                f"{layer} already belongs to a model (as layer {layer.path}). Make a new layer for each place."
            )
        if id(layer) in seen:
            raise ValueError(f"{layer} stands twice among the layers. Make a new layer for each place.")
        seen.add(id(layer))


def check_dtype(dtype: Any) -> np.dtype[Any]:
    message = f"Sequential(dtype) is 'float32' or 'float64', got {dtype!r}."
    try:
        resolved = None if dtype is None else np.dtype(dtype)  # np.dtype(None) would be float64
    except (TypeError, ValueError):
        raise ValueError(message) from None
    if resolved is None or resolved not in (np.float32, np.float64):
        raise ValueError(message)
    return resolved
