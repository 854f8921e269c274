"""GradientFlow: how far gradients, updates and signals of each layer are from fading or exploding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._checks import check_integer
from .._figures import make_figure, saved
from .._types import HostArray
from .._warnings import warn
from ..model import Sequential
from ._base import Callback, Trainer, answering

_FADED, _EXPLODED = 1e-4, 1e4
"""The root mean square of the first layer's gradient over the last's, outside of which gradients vanish or explode."""
_MOST = 0.5
"""Of a layer's units, or of their outputs, that may be dead or saturated."""
_FLAT = {"tanh": (-0.97, 0.97), "sigmoid": (0.015, 0.985)}
"""Outputs outside of these have a derivative of less than 6 % of the largest one."""
_RECTIFIERS = ("relu",)
_REMEDIES = {
    "vanishing": "Try ReLU, GELU or SELU in the place of sigmoid and tanh, the initializer that fits the activation "
    "(init=None), BatchNorm or LayerNorm between the layers, or Residual ones.",
    "exploding": "Try a smaller learning rate, clipping (Adam(clip_norm=1.0)), the initializer that fits the "
    "activation (init=None), or BatchNorm or LayerNorm between the layers.",
    "dead": "Try a smaller learning rate, leaky_relu or GELU, He's initializer, or BatchNorm before it.",
    "saturated": "Try a smaller learning rate, scaled inputs, Xavier's initializer, or BatchNorm or LayerNorm before "
    "the activation.",
}


class GradientFlowWarning(UserWarning):
    """Gradients vanish or explode, or a layer's units are dead or saturated."""


@answering
@dataclass
class GradientFlow(Callback):
    """Records of each layer's weights, at every `steps`-th step (None: the last of each epoch), what moves them.

    ‖W‖, ‖dW‖ and ‖ΔW‖ are Frobenius norms, over all members of an ensemble: of the weights before the step, of the
    gradient of the data loss, and of what the step added. `ratio` is ‖ΔW‖/‖W‖, of the order of 1e-3 where training goes
    well. With `samples`, an array X, also the share of `dead` units, ReLU's that are 0 for every sample, and of
    `saturated` outputs of tanh and sigmoid, whose derivative is below 6 % of its largest; NaN for other layers and
    without samples. Layers within Residual and Branches have no such shares.

    Each trouble is told once a run, as a `GradientFlowWarning` with the usual remedies: a gradient that is 10⁴ times
    smaller, or larger, in the first layer that learns than in the last, by the root mean square of its numbers; updates
    larger than the weights; more than half of a layer dead or saturated. The run comes back after every step, and
    copies weights to the host around those that are recorded.
    """

    steps: int | None = None
    samples: Any = field(default=None, repr=False)
    records: list[dict[str, Any]] = field(init=False, default_factory=list, repr=False)
    """A row per layer and recorded step: step, layer, weight, gradient, update, ratio, dead, saturated."""

    def __post_init__(self) -> None:
        if self.steps is not None:
            check_integer("GradientFlow(steps)", self.steps, low=1)

    def on_train_begin(self, trainer: Trainer) -> None:
        model = trainer.model
        if model.stored is not None:
            raise ValueError(
                "GradientFlow looks at weights on the device, and this network has weights on the host or on disk. "
                "Train without it, or keep the whole network on the device."
            )
        if self.samples is not None and not model.awaits_data:
            model.forward(self.samples)  # an array that does not fit is an error now
        self.records.clear()
        self._every = trainer.steps_per_epoch if self.steps is None else self.steps
        self._told: set[str] = set()
        self._before: HostArray | None = None
        self._scale = 1.0
        if self._every == 1 and not model.awaits_data:
            self._remember(trainer)

    def on_step(self, trainer: Trainer, step: int, read_loss: Callable[[], float]) -> None:
        if step % self._every == 0 and self._before is not None:
            self._record(trainer, step)
        if (step + 1) % self._every == 0:
            self._remember(trainer)

    def to_dict(self) -> dict[str, list[Any]]:
        """Columns by name: `pandas.DataFrame(flow.to_dict())` is a table."""
        return {name: [record[name] for record in self.records] for name in (self.records[0] if self.records else ())}

    def plot(self, path: Any = None) -> Any:
        """‖dW‖ and ‖ΔW‖/‖W‖ of each layer over the steps; saved to `path` if one is given. Returns the figure.

        Needs matplotlib. ValueError where nothing was recorded.
        """
        if not self.records:
            raise ValueError("GradientFlow has recorded no step: there is nothing to draw.")
        figure = make_figure(9.2, 3.5)
        for axes, column, title in zip(figure.subplots(1, 2), ("gradient", "ratio"), ("‖dW‖", "‖ΔW‖/‖W‖"), strict=True):
            for layer in dict.fromkeys(record["layer"] for record in self.records):
                rows = [record for record in self.records if record["layer"] == layer]
                axes.plot([row["step"] for row in rows], [row[column] for row in rows], marker=".", label=layer)
            axes.set_yscale("log")
            axes.set_title(title)
            axes.set_xlabel("step")
            axes.grid(alpha=0.3, linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
        axes.legend(facecolor="white", framealpha=0.85, edgecolor="none")
        return saved(figure, path)

    def _remember(self, trainer: Trainer) -> None:
        model, scale = trainer.model, trainer.optimizer.control.loss_scale
        self._before = np.array(model.ops.to_numpy(model.flat.values))
        self._scale = 1.0 if scale is None else float(model.ops.to_numpy(scale)[0])

    def _record(self, trainer: Trainer, step: int) -> None:
        model, before = trainer.model, self._before
        assert before is not None
        to_numpy = model.ops.to_numpy
        after, gradients = to_numpy(model.flat.values), to_numpy(model.flat.gradients)
        units = dict(_shares(model, self.samples)) if self.samples is not None else {}
        rows: list[dict[str, Any]] = []
        means: list[tuple[str, float]] = []
        for layer in model.walk():
            for parameter in layer.parameters():
                name = f"{layer.path}.{parameter.name}"
                if not parameter.is_weight or name not in model.flat.places:
                    continue
                place = model.flat.places[name]
                W, dW = before[place].astype(float), gradients[place].astype(float) / self._scale
                weight, gradient = float(np.linalg.norm(W)), float(np.linalg.norm(dW))
                update = float(np.linalg.norm(after[place] - W))
                dead, saturated = units.get(layer.path, (math.nan, math.nan))
                row = {"step": step, "layer": name, "weight": weight, "gradient": gradient, "update": update}
                ratio = update / weight if weight else math.nan
                rows.append(row | {"ratio": ratio, "dead": dead, "saturated": saturated})
                if not parameter.frozen:
                    means.append((name, gradient / math.sqrt(W.size)))
        self.records += rows
        self._look(rows, means)

    def _look(self, rows: list[dict[str, Any]], means: list[tuple[str, float]]) -> None:
        """Tell of what is wrong, each kind once; `means`: of the gradients, of layers that learn."""
        if len(means) > 1 and means[-1][1] > 0.0 and all(row["weight"] for row in rows):  # zeros let nothing through
            (first, mean), (last, mean_of_last) = means[0], means[-1]
            ratio = mean / mean_of_last
            compared = f"the gradient of {first} is {ratio:.1e} times that of {last}, by root mean squares"
            if ratio < _FADED:
                self._tell("vanishing", rows[0], f"gradients vanish: {compared}")
            elif ratio > _EXPLODED:
                self._tell("exploding", rows[0], f"gradients explode: {compared}")
        for row in rows:
            if row["ratio"] > 1.0:
                self._tell("exploding", row, f"the update of {row['layer']} is {row['ratio']:.2g} times its weights")
            if row["dead"] > _MOST:
                self._tell("dead", row, f"{row['dead']:.0%} of the units of {row['layer']} are 0 for every sample")
            if row["saturated"] > _MOST:
                self._tell("saturated", row, f"{row['saturated']:.0%} of the outputs of {row['layer']} are saturated")

    def _tell(self, kind: str, row: dict[str, Any], what: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            warn(f"Step {row['step']}: {what}. {_REMEDIES[kind]}", GradientFlowWarning)


def _shares(model: Sequential, samples: Any) -> Iterator[tuple[str, tuple[float, float]]]:
    """(path, (dead, saturated)) of the network's layers that have weights, by the outputs of their activation."""
    weights_of = ""
    for layer, A in model.layer_outputs(samples):
        weights_of = layer.path if any(p.is_weight for p in layer.parameters()) else weights_of
        name = getattr(getattr(layer, "activation", None), "name", None)
        if name in _RECTIFIERS:
            yield weights_of, (float((A <= 0.0).all(axis=0).mean()), math.nan)
        elif name in _FLAT:
            low, high = _FLAT[name]
            yield weights_of, (math.nan, float((np.abs(A - (low + high) / 2) > (high - low) / 2).mean()))
