"""Permutation importance: how much worse predictions become when a column is shuffled (Breiman 2001, section 10)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._arrays import quietly
from .._checks import check_integer
from .._console import counted
from .._html import ShownAsText
from .._types import HostArray
from ..data import features_of
from ..losses import Loss
from ..model import Sequential
from ..pages import number
from ._bars import draw_bars, largest_bars, save_shown
from ._copy import copy_of
from ._document import Note, Section
from ._loss import loss_of, targets_of
from ._names import input_names

_LOST = "score lost when shuffled"


@dataclass(frozen=True, eq=False)
class Importances(ShownAsText):
    """What was found of each column.

    Attributes:
        names: the columns.
        values: the score lost (n_columns, n_repeats).
        score: that of the samples as they are.
    """

    names: Sequence[str]
    values: HostArray
    score: float

    @property
    def mean(self) -> HostArray:
        """Over the repeats, (n_columns,)."""
        return self.values.mean(axis=1)

    @property
    def std(self) -> HostArray:
        """Over the repeats, (n_columns,)."""
        return self.values.std(axis=1)

    def __str__(self) -> str:
        width = max(map(len, self.names), default=0)
        order = np.argsort(-self.mean, kind="stable")
        lines = [f"  {self.names[i]:<{width}}  {self.mean[i]:.4g} ± {self.std[i]:.2g}" for i in order]
        return "\n".join([f"score lost when a column is shuffled, of {self.score:.4g}:", *lines])

    def plot(self, path: Any = None, most: int = 15) -> Any:
        """Bars of the columns with the largest means, a matplotlib figure; saved to `path` if one is given."""
        return draw_bars(self.names, self.mean, _LOST, most, path, self.std)

    def sections(self, most: int = 15) -> list[Section]:
        """What `show` and `html` show: bars of the columns with the largest means."""
        most = check_integer("importances.sections(most)", most, low=1)
        repeats = counted(self.values.shape[1], "shuffle")
        said = f"The score is {number(self.score)}; of each column the mean over {repeats} ± the spread."
        bars = largest_bars(self.names, self.mean, _LOST, most, self.std)
        return [Section("What columns have part in", [Note(said), bars], 0)]

    def show(self, most: int = 15, console: Any = None) -> None:
        """Print what `plot` draws; `console` is a `rich.console.Console`."""
        from ._terminal import show

        show(self.sections(most), console)

    def html(self, most: int = 15) -> str:
        """The same as a page: one file that loads nothing."""
        from ._page import page

        return page(self.sections(most))

    def save(self, path: Any, most: int = 15) -> None:
        """Write the page of `html` to a `path` that ends in .html, to others the picture of `plot` (.png, .pdf)."""
        save_shown(path, lambda: self.html(most), lambda: self.plot(path, most))


def scores_lost(
    score: Callable[[HostArray], float], X: HostArray, groups: Sequence[Any], n_repeats: int, rng: np.random.Generator
) -> tuple[float, HostArray]:
    """(score of X, score lost (n_groups, n_repeats)) where each group's columns of X are shuffled together."""
    whole = score(X)
    lost = np.empty((len(groups), n_repeats))
    for i, columns in enumerate(groups):
        shuffled = X.copy()
        for j in range(n_repeats):
            shuffled[:, columns] = X[:, columns][rng.permutation(len(X))]
            lost[i, j] = whole - score(shuffled)
    return whole, lost


@quietly
def permutation_importance(
    model: Sequential,
    X: Any,
    y: Any,
    *,
    score: Callable[[HostArray, Any], float] | None = None,
    loss: str | Loss | None = None,
    n_repeats: int = 5,
    random_state: int | None = 0,
) -> Importances:
    """How much of the score on X, y is lost when one column at a time is shuffled; X, y best are held out.

    Args:
        score: of predictions (n_samples, n_outputs) and y, larger is better; None takes −L, so that what is lost is
            what the loss grows by.
        loss: L; None takes the loss that fits what the model was trained with.
        n_repeats: how often each column is shuffled.

    Of a network with a preparation all inputs that are made of a column are shuffled together. Columns that say the
    same as others look unimportant: each is still there when the other is shuffled.
    """
    check_integer("permutation_importance(n_repeats)", n_repeats, low=1)
    if hasattr(X, "toarray"):
        X = X.toarray()
    samples = features_of(model, X, "permutation_importance")
    if len(samples) < 2:
        raise ValueError(f"permutation_importance expects at least 2 samples to shuffle, got {len(samples)}.")
    inputs, own = np.asarray(model.ops.to_numpy(samples.on_model())), copy_of(model, training=False)
    own.input_center = None  # which has been subtracted, as columns have been found by their names
    blank = {"feature_names": None, "preparation": None, "input_range": None, "byte_scale": None}
    own.signature = dataclasses.replace(model.signature, **blank)
    names, groups = input_names(model), [slice(i, i + 1) for i in range(model.n_in)]
    if model.preparation is not None:
        names, groups = list(model.preparation.places_), list(model.preparation.places_.values())
    rule, center = loss_of(model, loss), 0.0 if model.output_center is None else model.output_center
    targets = None if score is not None else targets_of(model, y)

    def scored(inputs: HostArray) -> float:
        if score is None:
            return -float(rule.forward((own(inputs) - center).astype(model.dtype), targets))
        return float(score(own.predict(inputs), y))

    whole, lost = scores_lost(scored, inputs, groups, n_repeats, np.random.default_rng(random_state))
    return Importances(names, lost, whole)
