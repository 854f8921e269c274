"""Weights by layer, and the gradients that the samples have at them."""

from __future__ import annotations

import numpy as np

from .._types import HostArray
from ..explain import copy_of, loss_of, targets_of
from ..losses import Loss
from ..model import Sequential
from ..pages import number
from ._chart import strip
from ._page import Html, grid, text
from ._reported import Measured

_MOST_SAMPLES = 1024


def layers(model: Sequential) -> str:
    """The layers from the first to the last."""
    rows = []
    for layer in model.walk():
        n = sum(parameter.value.size for parameter in layer.parameters())
        name = type(layer).__name__ if layer.sublayers() else repr(layer)
        rows.append((f"{layer.path}  {name}", f"{layer.n_out:,}", f"{n:,}"))
    return grid(("layer", "outputs", "parameters"), rows)


def parameters(model: Sequential, loss: Loss | None, measured: Measured | None) -> str:
    """A line per parameter: how its numbers are spread, and the norm of its gradient on samples of the report."""
    if model.stored is not None:
        return text("The weights are on the host or on disk, in parts: they are not drawn.")
    gradients = {} if loss is None or measured is None else gradients_of(model, loss, measured)
    rows = []
    for name, parameter in model.named_parameters().items():
        values = np.asarray(model.ops.to_numpy(parameter.value), np.float64)
        norm = float(np.sqrt(np.mean(values**2)))
        row = [
            name,
            "×".join(map(str, values.shape)),
            Html(strip(values)),
            number(float(values.mean()), 3),
            number(norm, 3),
        ]
        if gradients:
            row.append(number(float(np.sqrt(np.mean(gradients[name] ** 2))), 3))
        rows.append(row)
    head = ["parameter", "shape", "spread about 0", "mean", "root mean square"]
    said = ""
    if gradients and measured is not None:
        head.append("gradient")
        n = min(len(measured.X), _MOST_SAMPLES)
        said = text(f"gradient: the root mean square of ∂L/∂θ, L the mean loss of {n:,} samples at inference.")
    return grid(head, rows) + said


def gradients_of(model: Sequential, loss: Loss, measured: Measured) -> dict[str, HostArray]:
    """∂L/∂θ of each parameter by its name, L the mean loss of some samples at inference. The model stays as it is.

    Nothing is dropped, and batch norm takes its running statistics. Of several members L is the mean of their losses,
    as in training.
    """
    own, chosen = copy_of(model, training=False), loss_of(model, loss)
    chosen.forward(
        own.forward(measured.X[:_MOST_SAMPLES], training=True), targets_of(model, measured.y[:_MOST_SAMPLES])
    )
    own.backward(chosen.backward())
    found = own.named_parameters()
    return {name: np.asarray(own.ops.to_numpy(p.gradient), np.float64) for name, p in found.items()}
