"""Weights by layer, and the gradients that the samples have at them."""

from __future__ import annotations

import copy

import numpy as np

from .._types import HostArray
from ..losses import EnsembleLoss, Loss
from ..model import Sequential
from ._chart import strip
from ._number import number
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
        said = text(f"gradient: the root mean square of ∂L/∂θ, L the mean loss of {n:,} samples, without dropout.")
    return grid(head, rows) + said


def gradients_of(model: Sequential, loss: Loss, measured: Measured) -> dict[str, HostArray]:
    """∂L/∂θ of each parameter by its name, L the mean loss of some samples, without dropout. The model stays as it is.

    Of several members L is the mean of their losses, as in training.
    """
    twin = copy.deepcopy(model)
    for layer in twin.walk():
        if layer.name == "dropout":
            layer.p = 0.0
    n = min(len(measured.X), _MOST_SAMPLES)
    outputs = twin.forward(measured.X[:n], training=True)
    targets = measured.y[:n] if model.output_center is None else measured.y[:n] - model.prediction_center
    loss = copy.deepcopy(loss) if model.members == 1 else EnsembleLoss(loss, model.members)
    loss.forward(outputs, targets)
    twin.backward(loss.backward())
    found = twin.named_parameters()
    return {name: np.asarray(twin.ops.to_numpy(p.gradient), np.float64) for name, p in found.items()}
