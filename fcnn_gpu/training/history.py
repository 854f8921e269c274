"""What a training run measured, epoch by epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._html import paragraph
from ..callbacks import clock, epochs_table, epochs_text
from ..files import write_atomically
from ..metrics import Metric
from ._plots import plot_history


@dataclass(repr=False)
class History:
    """One record per epoch, with these columns as far as the run has them.

    epoch: from 1. loss: the data loss, the mean over the epoch's samples as they were trained on. penalty: the L1 and
    L2 terms after the epoch (the objective is loss + penalty). One column per metric, over the same outputs as loss
    (dropout active). val_loss and val_<metric>: after the epoch, at inference. learning_rate: of the epoch's last step.
    seconds: training without validation. samples_per_second.

    `history["val_loss"]` is a column, and `print` shows the first epoch and the last ones. `stopped_by` says what ended
    the run: "epochs", "interrupt", a callback's reason, or "error" (`fit` raised one; `trainer.history` has the epochs
    before it).
    """

    records: list[dict[str, float]] = field(default_factory=list)
    stopped_by: str = "epochs"
    best_epoch: int | None = None
    """The epoch whose weights the model holds, if a callback restored an earlier epoch's."""
    micro_batch_size: int | None = None
    """At most so many samples of a batch were computed on at a time at the run's end; None: whole batches."""

    @property
    def columns(self) -> list[str]:
        """The names of all columns, in the order of the first record."""
        return list(self.records[0]) if self.records else []

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[dict[str, float]]:
        return iter(self.records)

    def __getitem__(self, column: str) -> list[float]:
        if self.records and column not in self.records[0]:
            raise KeyError(f"The history has no column {column!r}; it has {', '.join(self.columns)}.")
        return [record[column] for record in self.records]

    def to_dict(self) -> dict[str, list[float]]:
        """Columns by name: `pandas.DataFrame(history.to_dict())` is a table."""
        return {column: self[column] for column in self.columns}

    def to_csv(self, path: Any = None) -> str:
        """The table as CSV text, also written to `path` if one is given: the file is replaced whole or not at all."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.records)
        if path is not None:
            write_atomically(path, text.getvalue().encode())
        return text.getvalue()

    def __repr__(self) -> str:
        return f"{epochs_text(self.records, self.best_epoch)}\n{self._said()}" if self.records else self._said()

    def _repr_html_(self) -> str:
        return paragraph(self._said()) + epochs_table(self.records, self.best_epoch)

    def _said(self) -> str:
        """How many epochs, how long, and why it ended."""
        if not self.records:
            return "No epoch has been trained."
        n, seconds = len(self), clock(sum(record.get("seconds", 0.0) for record in self.records))
        ended = "" if self.stopped_by == "epochs" else f"; ended by: {self.stopped_by}"
        kept = "" if self.best_epoch is None else f". The network has the weights of epoch {self.best_epoch}"
        return f"{n:,} epoch{'s' if n > 1 else ''} in {seconds}, validation aside{ended}{kept}."

    def plot(self, path: Any = None) -> Any:
        """Loss and metrics over the epochs, training and validation together; saved to `path` if one is given.

        Returns the matplotlib figure, which a notebook shows. Needs matplotlib.
        """
        return plot_history(self.to_dict(), self.best_epoch, path)


def column_names(metrics: Sequence[Metric], validates: bool, scales_loss: bool) -> list[str]:
    """The columns of a run's history, in order."""
    labels = ["loss", *(metric.label for metric in metrics)]
    validation = [f"val_{label}" for label in labels] if validates else []
    scaling = ["loss_scale", "skipped_steps"] if scales_loss else []
    speed = ["learning_rate", "seconds", "samples_per_second"]
    return ["epoch", "loss", "penalty", *labels[1:], *validation, *scaling, *speed]
