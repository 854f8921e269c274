"""What a training of the command line has come to: a network, and the run of each network that it was made of."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._console import counted
from .._types import HostArray
from ..files import write_atomically
from ..model import Sequential
from ..training import History, plot_histories, plot_history
from ._options import TrainOptions


@dataclass(frozen=True)
class Trained:
    """A network ready for use, and the history of its run; `runs` are several where it bags the networks of folds.

    `cut_short`: it was interrupted before all folds had a network, or one of them is not trained to its end.
    `threshold`: of two classes, the probability beyond which the second is predicted; None is ½. `units`: what columns
    of the histories are measured in, by name.
    """

    model: Sequential
    runs: Sequence[History]
    cut_short: bool = False
    threshold: float | None = None
    units: Mapping[str, str] = field(default_factory=dict)

    @property
    def interrupted(self) -> bool:
        return self.cut_short or any(run.stopped_by == "interrupt" for run in self.runs)

    @property
    def is_empty(self) -> bool:
        """Whether not one epoch was done."""
        return not any(len(run) for run in self.runs)

    def plain(self) -> dict[str, Any]:
        """What run.json says of it: of several runs, lists."""
        each = [(len(run), run.stopped_by, run.best_epoch) for run in self.runs]
        names = "epochs", "stopped_by", "best_epoch"
        several: tuple[Any, ...] = each[0] if len(each) == 1 else tuple(map(list, zip(*each, strict=True)))
        said = dict(zip(names, several, strict=True)) | {"threshold": self.threshold, "units": dict(self.units)}
        return said if len(each) == 1 else {"networks": len(each)} | said

    def said(self, seconds: float) -> str:
        """The line on how it ended."""
        if len(self.runs) > 1:
            return self._of_several(seconds)
        [run] = self.runs
        line = f"Trained {counted(len(run), 'epoch')} in {seconds:.1f} s"
        if run.stopped_by != "epochs":
            line += f"; {'interrupted' if run.stopped_by == 'interrupt' else run.stopped_by}"
        if run.best_epoch is not None:
            line += f"; the weights are those of epoch {run.best_epoch}"
        return line

    def _of_several(self, seconds: float) -> str:
        low, high = min(map(len, self.runs)), max(map(len, self.runs))
        epochs = counted(high, "epoch") if low == high else f"{low} to {high} epochs"
        line = f"Trained {len(self.runs)} networks, {epochs} each"
        line += f", in {seconds:.1f} s"
        reasons = {run.stopped_by for run in self.runs} - {"epochs", "interrupt"}
        line += "; interrupted" if self.interrupted else "".join(f"; {reason}" for reason in sorted(reasons))
        best = [run.best_epoch for run in self.runs if run.best_epoch is not None]
        return line + (f"; the weights are those of epochs {', '.join(map(str, best))}" if best else "")

    def write_csv(self, path: Path) -> None:
        """The history as CSV; of several networks one below the other, with the network's number in front."""
        if len(self.runs) == 1:
            self.runs[0].to_csv(path)
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, ["network", *self.runs[0].columns], lineterminator="\n")
        writer.writeheader()
        for i, run in enumerate(self.runs, 1):
            writer.writerows({"network": i, **record} for record in run)
        write_atomically(path, text.getvalue().encode())

    def plot(self, path: Path) -> None:
        """Loss and metrics over the epochs, those of several networks in one picture."""
        if len(self.runs) == 1:
            plot_history(self.runs[0].to_dict(), self.runs[0].best_epoch, path, self.units)
            return
        plot_histories([run.to_dict() for run in self.runs if len(run)], path, self.units)


def threshold_of(
    options: TrainOptions, predictions: Callable[[], HostArray], y: HostArray, weights: HostArray | None
) -> float | None:
    """What --threshold says: a number, or the best for a metric on these predictions for samples that were held out."""
    if options.best_for is None:
        return options.threshold_given
    from ..estimators import best_threshold  # with scikit-learn

    return best_threshold(predictions()[:, -1], y, weights, options.best_for)
