"""Attributions: how much each input has part in an output, or in the loss, of each sample.

With f the output (or loss) of a sample x, b the baseline and ∂_i f its gradient:

- "gradient": ∂_i f(x) (Simonyan et al. 2014, with its sign)
- "gradient_x_input": x_i ∂_i f(x) (Shrikumar et al. 2016)
- "integrated_gradients": (x_i − b_i) ∫₀¹ ∂_i f(b + α(x − b)) dα, whose sum is f(x) − f(b): completeness
  (Sundararajan, Taly & Yan 2017, eq. 1), by the Gauss–Legendre rule of `steps` points
- "occlusion": f(x) − f(x with b_i in the place of x_i) (Zeiler & Fergus 2014)

Gradients are those of inference: nothing is dropped, and batch norm takes its running statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._arrays import quietly
from .._checks import check_choice, check_integer
from .._html import ShownAsText
from .._types import Array, HostArray
from ..data import Signature, features_of
from ..losses import Loss
from ..model import Sequential
from ..pages import number
from ._bars import draw_bars, draw_picture, largest_bars, save_shown
from ._copy import copy_of
from ._document import Note, Picture, Section
from ._loss import loss_of, targets_of
from ._names import image_shape, input_names, output_names

METHODS = ("gradient", "gradient_x_input", "integrated_gradients", "occlusion")
_MEANING = {
    "gradient": "∂f/∂x: how fast f grows with each input.",
    "gradient_x_input": "x ∂f/∂x: how fast f grows with each input, times the input.",
    "integrated_gradients": "What each input adds to f on the way from the baseline to the sample: f(x) − f(baseline).",
    "occlusion": "What f loses where the baseline stands in the place of an input.",
}


@dataclass(frozen=True, eq=False)
class Attributions(ShownAsText):
    """What each input has part in.

    Attributes:
        values: (n_samples, n_features).
        method: one of `METHODS`.
        names: of the features.
        targets: the number of the output that each sample's values are of, (n_samples,); None for the loss.
        outputs: f(x), (n_samples,): raw outputs, or each sample's loss.
        baseline_outputs: f(b), where the method has a baseline.
        target_names: what outputs are called.
        shape: (height, width) of images, else ().
    """

    values: HostArray
    method: str
    names: Sequence[str]
    targets: HostArray | None
    outputs: HostArray
    baseline_outputs: HostArray | None
    target_names: Sequence[str]
    shape: tuple[int, ...]

    @property
    def completeness_error(self) -> HostArray | None:
        """Σ_i values_i − (f(x) − f(b)), (n_samples,), of integrated gradients: 0 for enough steps; else None."""
        if self.method != "integrated_gradients" or self.baseline_outputs is None:
            return None
        return self.values.sum(axis=1) - (self.outputs - self.baseline_outputs)

    @property
    def mean_absolute(self) -> HostArray:
        """Mean |values| over the samples, (n_features,)."""
        return np.abs(self.values).mean(axis=0)

    def __str__(self) -> str:
        what = "the loss" if self.targets is None else "outputs"
        lines = [f"{self.method} of {what}, {len(self.values):,} samples; mean |value|, the largest:"]
        order = np.argsort(-self.mean_absolute, kind="stable")[:10]
        width = max((len(self.names[i]) for i in order), default=0)
        lines += [f"  {self.names[i]:<{width}}  {self.mean_absolute[i]:.4g}" for i in order]
        error = self.completeness_error
        if error is not None:
            lines.append(f"completeness: off by at most {np.abs(error).max(initial=0.0):.2g}")
        return "\n".join(lines)

    def plot(self, sample: int | None = None, path: Any = None, most: int = 15) -> Any:
        """A matplotlib figure of one sample's values, or of all samples' mean |value|; saved to `path` if one is given.

        Of images a picture, of everything else bars with the names of the `most` largest.
        """
        label, values = self._shown(sample, "plot")
        if self.shape:
            return draw_picture(values.reshape(self.shape), label, path)
        return draw_bars(self.names, values, label, most, path)

    def _shown(self, sample: int | None, asked: str) -> tuple[str, HostArray]:
        """(what is shown, the numbers) of one sample, or of all."""
        if sample is None:
            return f"mean |{self.method}|", self.mean_absolute
        row = check_integer(f"attributions.{asked}(sample)", sample, low=0)
        if row >= len(self.values):
            raise ValueError(f"attributions.{asked}(sample): there is no sample {row}; there are {len(self.values)}.")
        return f"{self.method}, {self.target_of(row)}", self.values[row]

    def target_of(self, sample: int) -> str:
        """What a sample's values are of: an output's name, or "loss"."""
        return "loss" if self.targets is None else self.target_names[int(self.targets[sample])]

    def sections(self, sample: int | None = None, most: int = 15) -> list[Section]:
        """What `show` and `html` show of one sample, or of all samples' mean |value|: a picture of images, and bars."""
        label, values = self._shown(sample, "sections")
        most = check_integer("attributions.sections(most)", most, low=1)
        said = f"{_MEANING[self.method]} f is each sample's largest raw output, or the one that was named."
        if sample is not None:
            kind = "loss" if self.targets is None else f"raw output {self.target_of(sample)}"
            said = f"{_MEANING[self.method]} f is the {kind}, {number(self.outputs[sample])} of this sample"
            given = self.baseline_outputs
            said += "." if given is None else f" and {number(given[sample])} of the baseline."
        picture = [Picture(values.reshape(self.shape), label, signed=True)] if self.shape else []
        bars = largest_bars(self.names, values, label, most)
        return [Section("What inputs have part in", [Note(said), *picture, bars], 0)]

    def show(self, sample: int | None = None, most: int = 15, console: Any = None) -> None:
        """Print what `plot` draws; `console` is a `rich.console.Console`."""
        from ._terminal import show

        show(self.sections(sample, most), console)

    def html(self, sample: int | None = None, most: int = 15) -> str:
        """The same as a page: one file that loads nothing."""
        from ._page import page

        return page(self.sections(sample, most))

    def save(self, path: Any, sample: int | None = None, most: int = 15) -> None:
        """Write the page of `html` to a `path` that ends in .html, to others the picture of `plot` (.png, .pdf)."""
        save_shown(path, lambda: self.html(sample, most), lambda: self.plot(sample, path, most))


@quietly
def attribute(
    model: Sequential,
    X: Any,
    y: Any = None,
    *,
    method: str = "integrated_gradients",
    target: Any = None,
    baseline: Any = None,
    steps: int = 50,
    groups: Any = None,
    loss: str | Loss | None = None,
    batch_size: int = 1024,
) -> Attributions:
    """How much each input has part in an output of each sample, on the network's own backend, in batches.

    Args:
        X: the samples, as `model.predict` takes them.
        y: targets, for `target="loss"`.
        method: one of `METHODS`.
        target: the number of an output, the name of a class, one for each sample, or "loss"; None is each sample's
            largest output. Outputs are raw: those before softmax or sigmoid. Of an ensemble they are the members' mean.
        baseline: b: a number for all features, one for each (n_in,), or one sample; None is 0.
        steps: points of the integral; where f is not smooth (ReLU), more of them make it more exact.
        groups: for occlusion, the number of the group that each feature belongs to, (n_in,): features of a group are
            replaced together, and each gets what all of them change. None: each by itself.
        loss: for `target="loss"`; None takes the loss that fits what the model was trained with.

    Raises:
        ValueError: an unknown method or target, a baseline or groups of another shape; integrated gradients and
            gradients times inputs of a network that looks up categories, between which there is nothing.

    >>> import numpy as np, fcnn_gpu as fcnn
    >>> model = fcnn.Sequential([fcnn.Dense(8, activation="tanh"), fcnn.Dense(3)], n_in=4, seed=0, backend="numpy")
    >>> found = fcnn.explain.attribute(model, np.ones((5, 4)), target=2)
    >>> found.values.shape, bool(np.abs(found.completeness_error).max() < 1e-5)
    ((5, 4), True)
    """
    check_choice("attribute(method)", method, METHODS)
    steps = check_integer("attribute(steps)", steps, low=1)
    size = check_integer("attribute(batch_size)", batch_size, low=1)
    if model.categories is not None and method != "occlusion":
        raise ValueError(
            f"attribute: this network looks up categories, and {method} needs numbers. Use method='occlusion' with "
            "categories as its baseline."
        )
    if groups is not None and method != "occlusion":
        raise ValueError(f"attribute(groups) is for method='occlusion', not for {method!r}.")
    if hasattr(X, "toarray"):
        X = X.toarray()
    samples = features_of(model, X, "attribute")
    own = _Differentiable(model, size)
    own.choose(target, y, len(samples), loss)
    b, members = _baseline(model, baseline), _groups(groups, model.n_in)
    values = np.empty((len(samples), model.n_in))
    outputs, at_baseline = np.empty(len(samples)), np.empty(len(samples))
    with closing(samples.batches(size)) as batches:
        for start, batch in batches:
            x = own.to_host(batch)
            rows = slice(start, start + len(x))
            outputs[rows] = own.fix_targets(x, rows)
            if method == "occlusion":
                for columns in members:
                    without = x.copy()
                    without[:, columns] = b[columns]
                    values[rows, columns] = (outputs[rows] - own.values(without, rows))[:, None]
            elif method == "integrated_gradients":
                values[rows] = _integral(own, x, b, steps, rows)
            else:
                values[rows] = own.gradients(x, rows)
            if method == "gradient_x_input":
                values[rows] *= x if model.input_center is None else x + model.input_center
            if method in ("integrated_gradients", "occlusion"):
                at_baseline[rows] = own.values(np.broadcast_to(b, x.shape), rows)
    has_baseline = method in ("integrated_gradients", "occlusion")
    return Attributions(
        values=values,
        method=method,
        names=input_names(model),
        targets=own.targets,
        outputs=outputs,
        baseline_outputs=at_baseline if has_baseline else None,
        target_names=output_names(model),
        shape=image_shape(model),
    )


def _integral(own: _Differentiable, x: HostArray, b: HostArray, steps: int, rows: slice) -> HostArray:
    """(x − b) ⊙ Σ_k w_k ∂f(b + α_k(x − b)), α_k and w_k those of Gauss and Legendre on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    total = np.zeros(x.shape)
    for node, weight in zip(nodes, weights, strict=True):
        total += weight / 2 * own.gradients(b + (node + 1) / 2 * (x - b), rows)
    result: HostArray = (x - b) * total
    return result


class _Differentiable:
    """f and its gradient with respect to the inputs, on a copy of the network at inference."""

    def __init__(self, model: Sequential, size: int) -> None:
        self._model = copy_of(model, training=False)
        self._model.signature = Signature()  # X has been checked, and what lies between X and the baseline is not X
        self._model.input_center = None  # which has been subtracted
        self.targets: HostArray | None = None
        self._given = model
        self._loss: Loss | None = None
        self._y: HostArray | None = None
        self._largest = False

    def choose(self, target: Any, y: Any, n: int, loss: str | Loss | None) -> None:
        """What f is: outputs, or the loss; ValueError for what there is not."""
        if isinstance(target, str) and target == "loss":
            if y is None:
                raise ValueError("attribute: target='loss' needs y, the targets of the samples.")
            self._loss = loss_of(self._given, loss)
            y = targets_of(self._given, y)
            self._y = self._loss.prepare_targets(y, self._model.n_out, self._model.dtype)
            if len(self._y) != n:
                raise ValueError(f"attribute: there are {n:,} samples and {len(self._y):,} targets.")
            return
        self._largest = target is None
        self.targets = np.zeros(n, np.int64) if target is None else _targets(self._given, target, n)

    def to_host(self, batch: Array) -> HostArray:
        """Samples as numbers that can be computed with."""
        found: HostArray = np.asarray(self._model.ops.to_numpy(batch), np.float64)
        return found

    def fix_targets(self, x: HostArray, rows: slice) -> HostArray:
        """f(x), for the output that is the largest at x where none is named."""
        if self._largest and self.targets is not None:
            self.targets[rows] = self._outputs(x).argmax(axis=1)
        return self.values(x, rows)

    def values(self, x: HostArray, rows: slice) -> HostArray:
        """f of each sample, (n,)."""
        if self._loss is not None:
            found: HostArray = self._losses(self._forward(x, False), rows)[0]
            return found
        assert self.targets is not None
        return np.take_along_axis(self._outputs(x), self.targets[rows, None], axis=1)[:, 0]

    def gradients(self, x: HostArray, rows: slice) -> HostArray:
        """∂f/∂x of each sample, (n, n_in)."""
        outputs, ops = self._forward(x, True), self._model.ops
        if self._loss is not None:
            seed = self._losses(outputs, rows)[1]
        else:
            assert self.targets is not None
            k = self._given.members
            ones = np.zeros((len(x), k, self._given.n_predictions), self._model.compute_dtype)
            ones[np.arange(len(x)), :, self.targets[rows]] = 1.0 / k
            seed = ops.asarray(ones.reshape(len(x), -1))
        found: HostArray = ops.to_numpy(self._model.backward(seed, input_gradient=True)).astype(np.float64)
        return found

    def _forward(self, x: HostArray, training: bool) -> Array:
        return self._model.forward(np.ascontiguousarray(x, self._model.dtype), training=training)

    def _outputs(self, x: HostArray) -> HostArray:
        """Raw outputs (n, n_predictions), the mean over members, with what is added to outputs."""
        raw = self._model.ops.to_numpy(self._forward(x, False)).astype(np.float64)
        raw = raw if self._given.output_center is None else raw + self._given.output_center
        found: HostArray = raw.reshape(len(x), self._given.members, -1).mean(axis=1)
        return found

    def _losses(self, outputs: Array, rows: slice) -> tuple[HostArray, Array]:
        """(each sample's loss, the gradient of their sum with respect to the outputs)."""
        assert self._loss is not None
        assert self._y is not None
        ops, (n, n_outputs) = self._model.ops, outputs.shape
        losses, dZ = ops.empty(n, self._model.dtype), ops.matrix(n_outputs, n, outputs.dtype)
        Z = ops.asarray(outputs).T
        self._loss.compute(ops, Z, ops.asarray(self._y[rows]), None, losses, dZ)
        ops.scale(dZ, float(n), dZ)  # the loss is the mean over the batch
        return ops.to_numpy(losses).astype(np.float64), dZ.T


def _targets(model: Sequential, target: Any, n: int) -> HostArray:
    """The number of an output for each sample."""
    names = output_names(model)
    given = np.asarray(target)
    if given.dtype.kind in "UO" and given.size:
        unknown = [str(name) for name in given.ravel() if str(name) not in names]
        if unknown:
            raise ValueError(f"attribute(target): there is no output {unknown[0]!r}. Known: loss, {', '.join(names)}.")
        given = np.array([names.index(str(name)) for name in given.ravel()]).reshape(given.shape)
    if given.dtype.kind not in "iu" or given.shape not in ((), (n,)):
        raise ValueError(
            f"attribute(target) expects the number or name of an output, one for each of the {n:,} samples, or "
            f"'loss', got {target!r}."
        )
    most = model.n_predictions
    if given.size and not (given.min() >= 0 and given.max() < most):
        wrong = given.max() if given.max() >= most else given.min()
        raise ValueError(
            f"attribute(target): there is no output {wrong}; the network has {most}, from 0 to {most - 1}."
        )
    return np.broadcast_to(given, n).astype(np.int64)


def _baseline(model: Sequential, baseline: Any) -> HostArray:
    """b (n_in,), as the samples are: less the input center."""
    given = np.asarray(0.0 if baseline is None else baseline, np.float64)
    given = given[0] if given.ndim == 2 and len(given) == 1 else given
    if given.shape not in ((), (model.n_in,)) or not np.isfinite(given).all():
        raise ValueError(
            f"attribute(baseline) expects a finite number, or one for each of the {model.n_in} features, got "
            f"{'numbers that are not finite' if given.shape in ((), (model.n_in,)) else f'shape {given.shape}'}."
        )
    b = np.broadcast_to(given, model.n_in).astype(np.float64)
    return b if model.input_center is None else b - model.input_center


def _groups(groups: Any, n_in: int) -> list[HostArray]:
    """The columns that are replaced together."""
    given = np.arange(n_in) if groups is None else np.asarray(groups)
    if given.shape != (n_in,) or given.dtype.kind not in "iu":
        raise ValueError(f"attribute(groups) expects a whole number for each of the {n_in} features, got {groups!r}.")
    return [np.flatnonzero(given == group) for group in np.unique(given)]
