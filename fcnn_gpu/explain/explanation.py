"""One sample through a network, with all numbers of the real passes: what `model.explain` gives."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._arrays import quietly
from .._checks import check_bool, check_integer
from .._types import HostArray
from ..files import write_atomically
from ..layers import Dropout, GaussianNoise, Layer
from ..losses import Loss
from ..model import Sequential
from ..optimizers import OPTIMIZERS, Optimizer
from ._copy import copy_of
from ._loss import loss_of, targets_of
from ._trace import host, traced

if TYPE_CHECKING:
    from ._document import Section


@dataclass(frozen=True, eq=False)
class LayerPass:
    """A layer's part of the passes. Arrays have a column for the sample: A₀ (n_in, 1), A (n_out, 1).

    Attributes:
        path: the layer's place, "0" or "1.block.0".
        title: the layer as it stands in the network.
        layer: the same of the copy that the passes ran on.
        arrays: "A0", "A", the gradients "dA" and "dA0"; of weighted sums also "Z" and "dZ" (of `BatchEnsemble` "dY"),
            and of dropout in training the mask "M".
        parameters: what the layer has learned, by name ("W", "b"); of a residual layer its projection "P".
        gradients: ∂L/∂ of these.
        share: A ⊙ ∂z_c/∂A (n_out, 1), by which the units have part in output c.
    """

    path: str
    title: str
    layer: Layer
    arrays: Mapping[str, HostArray]
    parameters: Mapping[str, HostArray]
    gradients: Mapping[str, HostArray]
    share: HostArray

    def __getattr__(self, name: str) -> HostArray:
        for arrays in (self.arrays, self.parameters):
            if name in arrays:
                return arrays[name]
        if name.startswith("d") and name[1:] in self.gradients:
            return self.gradients[name[1:]]
        raise AttributeError(f"Layer {self.path} of an explanation has no {name!r}; it has {', '.join(self.names)}.")

    @property
    def names(self) -> list[str]:
        """Everything that there is of the layer."""
        return [*self.arrays, *self.parameters, *(f"d{name}" for name in self.gradients)]


@dataclass(frozen=True, eq=False)
class Updated:
    """A parameter in one update step.

    Attributes:
        before, after: θ before and after the step.
        gradient: g, that of the loss plus penalties, clipped where the optimizer clips.
        state: what the optimizer keeps of the parameter after the step, by name, as it keeps it (`Adam`: m/(1 − β₁)).
    """

    before: HostArray
    after: HostArray
    gradient: HostArray
    state: Mapping[str, HostArray]


@dataclass(frozen=True, eq=False)
class Explanation:
    """One sample's way through a network, from the input to an update of the weights.

    `print` shows it in the terminal, a notebook as a page, and `save("page.html")` writes that page. Its numbers are
    those of the network's own passes.

    Attributes:
        x, y: the sample as the first layer takes it, (n_in,), and its target as the loss takes it.
        outputs, predictions: raw outputs z (n_outputs,), and through the loss's link.
        output: the number c of the output that units are ordered by.
        loss, value: the loss and L.
        dZ: ∂L/∂z (n_outputs,).
        layers: the passes of all layers, those inside others included, in order.
        input_gradient: ∂L/∂x (n_in,).
        optimizer, learning_rate: of the update.
        updates: by parameter ("0.W").
        penalty: what the objective has beside L.
        training: whether units were dropped.
        backend: what it was computed on.
        model: the copy of the network that the passes ran on.
    """

    x: HostArray
    y: HostArray
    outputs: HostArray
    predictions: HostArray
    output: int
    loss: Loss
    value: float
    dZ: HostArray
    layers: tuple[LayerPass, ...]
    input_gradient: HostArray
    optimizer: Optimizer
    learning_rate: float
    updates: Mapping[str, Updated]
    penalty: float
    training: bool
    backend: str
    model: Sequential

    def sections(self, most: int = 8) -> list[Section]:
        """What is shown, at most so many rows of a table."""
        from ._sections import sections_of

        return sections_of(self, check_integer("explanation.sections(most)", most, low=1))

    def show(self, most: int = 8, console: Any = None) -> None:
        """Print it, at most so many rows of a table; `console` is a `rich.console.Console`."""
        from ._terminal import show

        show(self.sections(most), console)

    def html(self, most: int = 8) -> str:
        """The page: one file that loads nothing, formulas in MathML."""
        from ._page import page

        return page(self.sections(most))

    def save(self, path: Any, most: int = 8) -> None:
        """Write the page to `path`."""
        write_atomically(path, self.html(most).encode())

    def _repr_html_(self) -> str:
        from ._page import fragment

        return fragment(self.sections())

    def __str__(self) -> str:
        from ._terminal import text

        return text(self.sections())


@quietly
def explain(
    model: Sequential,
    x: Any,
    y: Any,
    *,
    loss: str | Loss | None = None,
    optimizer: str | Optimizer = "sgd",
    output: int | None = None,
    training: bool = False,
) -> Explanation:
    """One sample's forward pass, loss, backward pass and update, in a copy of the network.

    Args:
        x: the sample: (n_in,), (1, n_in), or a table of one row.
        y: its target, as the loss takes it; or the name of its class.
        loss: a name or an instance; None takes the one that fits what the model was trained with.
        optimizer: what makes the step, the first of a run.
        output: of the outputs the one that units are ordered by; None is the largest.
        training: drop units, as a training pass does. Otherwise the passes are those of inference: nothing is dropped,
            and batch norm takes its running statistics (of a batch of one sample it has none).

    Raises:
        ValueError: more samples than one; an output that there is not; what the network and the loss refuse.

    >>> import numpy as np, fcnn_gpu as fcnn
    >>> layers = [fcnn.Dense(3, activation="tanh"), fcnn.Dense(2)]
    >>> model = fcnn.Sequential(layers, n_in=4, seed=0, dtype="float64", backend="numpy")
    >>> made = model.explain(np.arange(4.0), 1)
    >>> first, last = made.layers
    >>> np.allclose(first.W @ first.A0 + first.b, first.Z), np.allclose(first.A, np.tanh(first.Z))
    (True, True)
    >>> np.allclose(last.W.T @ last.dZ, last.dA0), np.allclose(first.dZ @ first.A0.T, first.dW)
    (True, True)
    """
    check_bool("explain(training)", training)
    if model.awaits_data:
        raise ValueError("explain: initial weights wait for samples. Call model.initialize(X), or train the model.")
    chosen, rule = loss_of(model, loss), copy.copy(OPTIMIZERS.resolve(optimizer))
    own = copy_of(model, training)
    sample, target = _sample(own, x), _target(own, y)
    step = own.ops.copy(own.random_step)
    with traced(own) as traces:
        outputs = own.forward(sample, training=True)
        Z = host(own.ops, outputs)[0]
        c = _output(output, Z)
        unit = np.zeros((1, own.n_out), outputs.dtype)
        unit[0, c] = 1.0
        own.backward(own.ops.asarray(unit), input_gradient=True)
        shares = {path: of.arrays["A"] * of.arrays["dA"] for path, of in traces.items() if "dA" in of.arrays}
        own.ops.assign(own.random_step, step)  # the same units are dropped
        outputs = own.forward(sample, training=True)
        value = float(own.ops.to_numpy(chosen.forward(outputs, target)))
        dZ = host(own.ops, chosen.backward())[0]
        dX = host(own.ops, own.backward(chosen.backward(), input_gradient=True))[0]
    layers = tuple(
        LayerPass(layer.path, repr(given), layer, traces[layer.path].arrays, *_learned(own, layer), shares[layer.path])
        for given, layer in zip(model.walk(), own.walk(), strict=True)
        if layer.path in shares
    )
    predictions = own.ops.asarray(Z.reshape(1, -1).astype(own.dtype))
    own.apply_link(predictions.T, chosen.link)
    penalty, center = own.penalty(), model.output_center
    updates, rate = _update(own, rule)
    return Explanation(
        x=layers[0].A0[:, 0],
        y=np.asarray(target)[0],
        outputs=Z if center is None else Z + center,
        predictions=host(own.ops, predictions)[0] + (0.0 if center is None else center),
        output=c,
        loss=chosen,
        value=value,
        dZ=dZ,
        layers=layers,
        input_gradient=dX,
        optimizer=rule,
        learning_rate=rate,
        updates=updates,
        penalty=penalty,
        training=training and any(isinstance(layer, Dropout | GaussianNoise) for layer in own.walk()),
        backend=model.ops.name,
        model=own,
    )


def _sample(model: Sequential, x: Any) -> Any:
    """The sample as inputs of one row."""
    if hasattr(x, "toarray"):
        x = x.toarray()
    if not hasattr(x, "columns"):
        x = x if hasattr(x, "shape") else np.asarray(x)
        x = x.reshape(1, -1) if len(x.shape) == 1 else x
    if len(x) != 1:
        raise ValueError(f"explain expects one sample, got {len(x):,}. Take one of them, such as X[:1].")
    return x


def _target(model: Sequential, y: Any) -> Any:
    """The target as the loss takes it: one row, less what is added to outputs."""
    target = np.asarray(y)
    return targets_of(model, target[None] if target.ndim == 0 or (target.ndim == 1 and target.size > 1) else target)


def _output(output: int | None, Z: HostArray) -> int:
    if output is None:
        return int(Z.argmax())
    c = check_integer("explain(output)", output, low=0)
    if c >= len(Z):
        raise ValueError(f"explain(output): there is no output {c}; the network has {len(Z)}, from 0 to {len(Z) - 1}.")
    return c


def _learned(model: Sequential, layer: Layer) -> tuple[dict[str, HostArray], dict[str, HostArray]]:
    """The layer's parameters and their gradients, by name."""
    found = [(p.name, p) for p in layer.parameters()]
    projection = getattr(layer, "projection", None)  # a residual layer multiplies by it itself
    if projection is not None:
        found += [("P", p) for p in projection.parameters()]
    values = {name: host(model.ops, p.value) for name, p in found}
    return values, {name: host(model.ops, p.gradient) for name, p in found}


def _update(model: Sequential, optimizer: Optimizer) -> tuple[dict[str, Updated], float]:
    """One step of the network's copy, and its learning rate."""
    ops = model.ops
    optimizer.bind(model)
    before = {name: host(ops, p.value) for name, p in model.named_parameters().items()}
    gradient = ops.to_numpy(model.objective_gradient())
    optimizer.step()
    gradient = gradient * gradient.dtype.type(ops.to_numpy(optimizer.control.clip_scale)[0])
    if optimizer.clip_value is not None:
        gradient = gradient.clip(-optimizer.clip_value, optimizer.clip_value)
    updates = {}
    for name, parameter in model.named_parameters().items():
        place, shape = model.flat.places[name], parameter.value.shape
        state = {of: ops.to_numpy(array) for of, array in optimizer.state_of(name).items()}
        kept = {of: array.reshape(shape, order="F").copy() for of, array in state.items()}
        of_parameter = gradient[place].reshape(shape, order="F").copy()
        updates[name] = Updated(before[name], host(ops, parameter.value), of_parameter, kept)
    return updates, float(ops.to_numpy(optimizer.control.learning_rate)[0])
