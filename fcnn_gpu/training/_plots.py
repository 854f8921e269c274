"""Pictures of a training run and of a classifier's mistakes, drawn by matplotlib (the plot extra).

Colours are told apart by colour-blind readers and lines also by their style, so that the pictures survive a
black-and-white printer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .._arrays import as_array
from .._figures import make_figure, saved
from .._types import HostArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TRAINING, _VALIDATION, _PENALTY, _MARK = "#0072b2", "#d55e00", "#009e73", "#666666"  # Okabe & Ito's palette
_OTHER_COLUMNS = {"epoch", "loss", "penalty", "learning_rate", "loss_scale", "skipped_steps"}
_OTHER_COLUMNS |= {"seconds", "samples_per_second"}
_NAMES = {"mae": "mean absolute error", "mse": "mean squared error", "rmse": "root mean squared error", "r2": "R²"}
_MOST_COUNTS = 30  # classes; in a larger matrix the counts would be too small to read
_PLAIN: dict[str, Any] = {"parse_math": False, "usetex": False}
"""For text that a user has chosen: "$^$" and "_" are names, and no formulas."""

_Columns: TypeAlias = Mapping[str, Sequence[float]]
"""Of a history: a value per epoch each, by name."""


def plot_history(
    columns: _Columns, best_epoch: int | None = None, path: Any = None, units: Mapping[str, str] | None = None
) -> Figure:
    """Data loss (with the penalty, where there is one) and each metric over the epochs, training beside validation.

    `columns` are a history's; `best_epoch` is marked as the one whose weights were taken. Saved to `path` (.png, .pdf,
    .svg, ...) if one is given. `units`: what columns are measured in, by name. Raises ImportError without matplotlib,
    and ValueError for a history without epochs.
    """
    return _plot_runs([columns], best_epoch, path, units or {})


def plot_histories(runs: Sequence[_Columns], path: Any = None, units: Mapping[str, str] | None = None) -> Figure:
    """The same of several runs with the same columns, those of the networks of an ensemble, one over the other."""
    return _plot_runs(runs, None, path, units or {})


def _plot_runs(runs: Sequence[_Columns], best_epoch: int | None, path: Any, units: Mapping[str, str]) -> Figure:
    if not any(runs):
        raise ValueError("This history has no epochs: there is nothing to draw.")
    metrics = [c for c in runs[0] if c not in _OTHER_COLUMNS and not c.startswith("val_")]
    n_panels = 1 + len(metrics)
    figure = make_figure(4.4 * n_panels + 0.4, 3.5)
    panels = np.atleast_1d(figure.subplots(1, n_panels))
    for axes, column in zip(panels, ["loss", *metrics], strict=True):
        for i, columns in enumerate(runs):
            _plot_column(axes, columns, column, is_first=i == 0, is_only=len(runs) == 1)
        if column in units:
            axes.set_ylabel(_drawable(units[column]), **_PLAIN)
    _plot_penalty(panels[0], runs[0])
    for axes in panels:
        _finish(axes, best_epoch)
    return saved(figure, path)


def plot_confusion_matrix(matrix: HostArray, class_names: Sequence[str] | None = None, path: Any = None) -> Figure:
    """Counts C[i, j] of samples of class i that were predicted as class j (`metrics.confusion_matrix`).

    Shades are shares of the true class, so that a rare class shows as clearly as a common one. Saved to `path` if one
    is given. Raises ImportError without matplotlib, and ValueError for a matrix that is not square or names that do not
    fit.
    """
    counts = as_array(matrix, "plot_confusion_matrix: the matrix")
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        raise ValueError(f"plot_confusion_matrix expects a square matrix of counts, got shape {counts.shape}.")
    n = len(counts)
    names = [str(i) for i in range(n)] if class_names is None else [_drawable(name) for name in class_names]
    if len(names) != n:
        raise ValueError(f"plot_confusion_matrix expects {n} class names, got {len(names)}.")
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)

    side = float(np.clip(0.5 * n, 3.2, 12.0))
    figure = make_figure(side + 1.8, side + 0.9)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    if n <= _MOST_COUNTS:
        _write_counts(axes, counts, shares)
    step = -(-n // 50)
    longest = max(map(len, names))
    axes.set_xticks(range(0, n, step), names[::step], rotation=0 if longest <= 3 else 60, ha=_align(longest), **_PLAIN)
    axes.set_yticks(range(0, n, step), names[::step], **_PLAIN)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    accuracy = np.trace(counts) / max(counts.sum(), 1)
    axes.set_title(f"{np.trace(counts):,} of {counts.sum():,} right ({accuracy:.1%})")
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.02, format=lambda share, _: f"{share:.0%}")
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    return saved(figure, path)


def _plot_column(axes: Axes, columns: _Columns, column: str, is_first: bool, is_only: bool) -> None:
    """A column and that of the validation; of several runs thinner, and the first has the names."""
    epochs = columns["epoch"]
    marker = "o" if len(epochs) <= 30 and is_only else None
    style: dict[str, Any] = {"markersize": 3} if is_only else {"linewidth": 0.9, "alpha": 0.7}
    training, validation = ("training", "validation") if is_first else (None, None)
    axes.plot(epochs, columns[column], color=_TRAINING, marker=marker, label=training, **style)
    if f"val_{column}" in columns:
        style |= {"linestyle": "--", "marker": "s" if marker else None, "label": validation}
        axes.plot(epochs, columns[f"val_{column}"], color=_VALIDATION, **style)
    title = _NAMES.get(column, _drawable(column.replace("_", " "))) if column != "loss" else "data loss"
    axes.set_title(title, **_PLAIN)


def _plot_penalty(axes: Axes, columns: _Columns) -> None:
    penalty = columns.get("penalty", [])
    if any(penalty):
        axes.plot(columns["epoch"], penalty, color=_PENALTY, linestyle=":", label="L1 + L2 penalty (not in the loss)")


def _finish(axes: Axes, best_epoch: int | None) -> None:
    from matplotlib.ticker import MaxNLocator

    if best_epoch is not None:
        axes.axvline(best_epoch, color=_MARK, linewidth=0.8, linestyle="-.", label="weights taken")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(facecolor="white", framealpha=0.85, edgecolor="none")


def _write_counts(axes: Axes, counts: HostArray, shares: HostArray) -> None:
    for i, j in np.ndindex(counts.shape):
        if counts[i, j]:
            color = "white" if shares[i, j] > 0.55 else "black"
            axes.text(j, i, f"{counts[i, j]}", ha="center", va="center", color=color, fontsize=8)


def _drawable(name: object) -> str:
    """A name as fonts take it: half of a surrogate pair, which is no character, becomes its number."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def _align(longest: int) -> Any:
    return "center" if longest <= 3 else "right"
