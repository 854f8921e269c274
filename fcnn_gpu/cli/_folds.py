"""A preset's network for each of several folds, bagged: what --preset best and --folds train."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from .._console import counted
from .._types import HostArray
from ..backend import Ops, threads
from ..estimators import FOLDS, Member, folds_of, train_folds
from ..model import Sequential
from ._evaluation import Evaluation, evaluate_predictions, headline
from ._options import TrainOptions
from ._preset import NAMES, PresetTraining
from ._progress import NetworkLog
from ._table import PreparedTable
from ._trained import Trained, threshold_of


class FoldsTraining(PresetTraining):
    """As `PresetTraining`, of several networks, each validated by the samples of a fold, which it does not see.

    On a CPU as many are trained at a time as there are threads to compute with, each in a process of its own.
    """

    without_test = ": the out-of-fold numbers say how good the networks are on samples they have not seen"

    def __init__(self, options: TrainOptions, table: PreparedTable, ops: Ops) -> None:
        super().__init__(options, table, ops)
        n_folds = FOLDS[options.network] if options.folds is None else options.folds
        self._folds = folds_of(n_folds, self._train.targets, options.seed, "train(cv)")
        self._run = dataclasses.replace(self._run, threads=threads())
        self.batch_size = self._run.batch_size(self.n_train - self.n_train // n_folds)
        self._class_names = None if table.data.class_names is None else list(table.data.class_names)
        self._temperatures: list[float] = []
        self._out_of_fold: Evaluation | None = None

    def announce(self) -> list[str]:
        """What there is to say of it before it begins."""
        recipe, name, k = self._recipe, self.options.network, len(self._folds)
        members = f", each of {recipe.members} in one" if recipe.members > 1 else ""
        n = (self.n_train - -(-self.n_train // k)) // self.batch_size
        steps = f"{counted(n, 'step')} of {counted(self.batch_size, 'sample')}"
        said = [
            f"Network: {k} of {NAMES[name]} (--preset {name}){members}, bagged",
            f"Training: {self.n_train:,} samples; each network on {k - 1} of {k} folds, "
            f"{counted(recipe.epochs, 'epoch')} of about {steps}",
            f"Validation: each network by the fold that it does not see; its epoch with {self._best()} there is kept",
        ]
        if recipe.patience is not None:
            said[-1] += f",\n  and {counted(recipe.patience, 'epoch')} no better than it end a run"
        return said

    def train(self) -> Trained:
        """The networks as one, and what they predict for the samples that each did not see."""
        options = self.options
        tell: Callable[[int, int, Member], None] | None = None
        if options.progress:
            self._run.network(self._train.inputs.shape[1], options.seed).summary(self.batch_size)
            log = NetworkLog("--folds, --epochs" if options.network == "fast" else "--preset fast, --folds")

            def tell(number: int, n_networks: int, member: Member) -> None:
                if number == 0 and n_networks < len(self._folds):
                    trained = "one is trained" if n_networks == 1 else f"{n_networks} are trained"
                    print(f"For {len(self._folds)} networks --time-limit is too short: {trained}")
                log(number, n_networks, member.fitted.history)

        until = self._deadline()
        bag = train_folds(self._run, self._train, self._folds, True, options.seed, (), until, tell)
        each = [member.fitted for member in bag.members]
        self._temperatures = [fitted.temperature for fitted in each]
        model = Sequential.join_members([fitted.model for fitted in each])
        threshold = self._measure(bag.out_of_fold(self.n_train))
        return Trained(model, [fitted.history for fitted in each], bag.interrupted, threshold, self._units())

    def _measure(self, predictions: HostArray) -> float | None:
        """Measure the out-of-fold predictions, and find the threshold by them."""
        predicted = np.flatnonzero(np.isfinite(predictions[:, 0]))
        _, y, weights = self._train.take(predicted)
        if self._class_names is None:
            every = self._train.targets
            predictions = predictions.clip(every.min(axis=0), every.max(axis=0)).astype(predictions.dtype)
        predictions = predictions[predicted]
        threshold = threshold_of(self.options, lambda: predictions, y, weights)
        self._out_of_fold = evaluate_predictions(
            predictions, self.measured, y, self._class_names, self.metrics, threshold=threshold
        )
        return threshold

    def report(self) -> list[str]:
        """What there is to say of it when it is trained."""
        low, high = min(self._temperatures), max(self._temperatures)
        said = []
        if low != 1 or high != 1:
            said.append(f"Calibrated: outputs divided by {low:.3g} to {high:.3g}, by the folds that were held out")
        if self._out_of_fold is not None:
            said.append(headline(self._out_of_fold, "Out of fold") + " (each by a network that did not see it)")
        return said

    def plain(self) -> dict[str, Any]:
        """What run.json says of it beside the options."""
        out_of_fold = None if self._out_of_fold is None else self._out_of_fold.plain()
        return super().plain() | {"temperature": self._temperatures, "out_of_fold": out_of_fold}
