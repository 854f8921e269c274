"""What a report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from .._types import HostArray
from ..model import Sequential

Columns: TypeAlias = Mapping[str, Sequence[float]]
"""A history: a value per epoch each, by name."""


@dataclass(frozen=True)
class Measured:
    """The samples that a network is measured on, and what was found.

    Attributes:
        what: which samples they are, in words.
        X: inputs (n, n_in), as the network takes them.
        y: class numbers (n,), labels (n, n_labels) of 0 and 1, or values (n, n_targets) or (n,).
        predictions: probabilities (n, n_classes) or (n, n_labels), or values (n, n_targets).
        results: loss and metrics by name.
        rows: the samples' numbers in their file, or None for their own order.
        values: the samples as people know them, where that is not X: the cells of each column by its name.
    """

    what: str
    X: HostArray
    y: HostArray
    predictions: HostArray
    results: Mapping[str, float]
    rows: HostArray | None = None
    values: Mapping[str, Sequence[str]] | None = None

    @property
    def names_of_rows(self) -> HostArray:
        """The number by which each sample is found again, from 0."""
        return np.arange(len(self.X)) if self.rows is None else self.rows


@dataclass(frozen=True)
class ReportedRun:
    """A training run, for its report.

    Attributes:
        title: what the page is called.
        model: the trained network.
        histories: of each of its networks, if several were joined to one.
        facts: what is known beside, in words, in the order in which it is shown: ("Data", "..."), ...
        options: the settings of the run, by name.
        best_epoch: whose weights the model has, if that is not the last.
        units: what columns of the histories are measured in, by name.
        class_names: of a classification.
        multilabel: whether a sample may have several labels.
        target_names: of values, if they are known.
        measured: the samples of the report, or None where there are none.
        path: the model's file.
    """

    title: str
    model: Sequential
    histories: Sequence[Columns]
    facts: Sequence[tuple[str, str]] = ()
    options: Mapping[str, Any] | None = None
    best_epoch: int | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    class_names: Sequence[str] | None = None
    multilabel: bool = False
    target_names: Sequence[str] | None = None
    measured: Measured | None = None
    path: str | None = None
