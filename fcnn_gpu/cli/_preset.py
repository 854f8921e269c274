"""The presets of the command line: the recipes of the estimators for tables, and their training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .._console import counted
from .._types import HostArray
from ..backend import Ops
from ..callbacks import Callback, Deadline, ProgressBar
from ..data import check_parts, class_weights_to_sample_weights, split_validation
from ..datasets import Dataset
from ..estimators import (
    RECIPES,
    Classification,
    Recipe,
    Regression,
    Run,
    Samples,
    to_mean_one,
    train_one,
)
from ..losses import BinaryCrossEntropy, CrossEntropy, Loss
from ..metrics import Metric
from ..model import Standardization
from ..training import units_of
from ._options import TrainOptions
from ._plain import PlainTraining
from ._progress import EpochLog, Summary, watching
from ._table import PreparedTable, TablePlan
from ._trained import Trained, threshold_of

NAMES = {"default": "RealMLP-TD", "best": "RealMLP-TD", "fast": "RealMLP-TD-S", "tabm": "TabM"}


def plan_of(options: TrainOptions, task: str) -> TablePlan:
    """How a table with this task is prepared for what the options train."""
    recipe = None if options.is_plain else _recipe_of(options, task)
    preparation = {} if recipe is None else recipe.preparation
    if options.scaling is not None:
        preparation = preparation | {"numbers": options.scaling}
    return TablePlan(preparation, recipe, options.share_held_out)


def _recipe_of(options: TrainOptions, task: str) -> Recipe:
    """The preset's recipe, with what the options say in its place."""
    given = {
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "learning_rate": options.lr,
        "dropout": options.dropout,
        "weight_decay": options.weight_decay,
        "label_smoothing": options.label_smoothing,
        "patience": options.early_stopping,
    }
    said: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if "epochs" in said:
        said["most_steps"] = None
    recipe: Recipe = dataclasses.replace(RECIPES[options.network][task], **said)
    return recipe


@dataclass(frozen=True)
class _Classes(Classification):
    """One class per sample, with the metrics that were asked for."""

    measured: Sequence[Metric] = ()

    def metrics(self, targets: HostArray) -> list[Metric]:
        return list(self.measured)


@dataclass(frozen=True)
class _Values(Regression):
    """The same of values."""

    measured: Sequence[Metric] = ()

    def metrics(self, targets: HostArray) -> list[Metric]:
        within_range = super().metrics(targets)
        return [*(metric for metric in self.measured if metric.label != within_range[0].label), *within_range]


@dataclass(frozen=True)
class _Labels(_Classes):
    """Several labels per sample: binary cross-entropy, the best epoch by the loss, which needs no calibration."""

    metric: str = "log_loss"
    calibrate: bool = False

    def loss(self, recipe: Recipe) -> Loss:
        return BinaryCrossEntropy()


class PresetTraining:
    """The network and the training of a preset, for a table. Attributes as in `PlainTraining`."""

    features = None
    extrapolates = False
    without_test = PlainTraining.without_test

    def __init__(self, options: TrainOptions, table: PreparedTable, ops: Ops) -> None:
        data, recipe = table.data, table.plan.recipe
        assert recipe is not None
        self.options, self._target = options.for_data(data), data.target_name
        options = self.options
        options.check_classes(data)
        self.measured = options.make_loss(data)
        self.metrics = options.make_metrics(data, self.measured)
        if isinstance(self.measured, CrossEntropy):
            self.measured = CrossEntropy()  # of calibrated probabilities, and not of smoothed labels
        self._train, self._held_out = _samples(options, data)
        self.n_train = len(self._train.inputs)
        self.n_held_out = 0 if self._held_out is None else len(self._held_out.inputs)
        self.targets: Standardization | None = None
        if data.task == "regression":
            self._task: Classification | Regression = _Values(measured=self.metrics)
            self.targets = self._task.scaling(self._train.targets, options.precision or options.dtype)
        else:
            self._task = (_Labels if data.multilabel else _Classes)(measured=self.metrics)
        self._recipe = recipe = recipe.for_samples(self.n_train)
        self._run = Run(
            "train",
            recipe,
            self._task,
            table.preparation,
            data.n_outputs,
            ops,
            options.dtype,
            precision=options.precision,
            memory_limit=options.byte_limit,
        )
        self.batch_size = self._run.batch_size(self.n_train)
        self._temperature = 1.0

    def announce(self) -> list[str]:
        """What there is to say of it before it begins."""
        recipe, name, n = self._recipe, self.options.network, self.n_train // self.batch_size
        members = f", {recipe.members} networks in one" if recipe.members > 1 else ""
        said = [f"Network: {NAMES[name]} (--preset {name}){members}"]
        steps = f"{counted(n, 'step')} of {counted(self.batch_size, 'sample')}"
        said.append(f"Training: {counted(self.n_train, 'sample')}, {counted(recipe.epochs, 'epoch')} of {steps}")
        if self.n_held_out:
            said.append(
                f"Validation: {counted(self.n_held_out, 'sample')}; the epoch with {self._best()} on them is kept"
            )
            if recipe.patience is not None:
                said[-1] += f",\n  and {counted(recipe.patience, 'epoch')} no better than it end the run"
        return said

    def _best(self) -> str:
        """What the best epoch has."""
        monitor, _ = self._task.monitor()
        return {"val_accuracy": "the highest accuracy", "val_rmse": "the smallest error"}.get(
            monitor, "the smallest loss"
        )

    def train(self) -> Trained:
        """The network of the best epoch, in the data's own units or with calibrated probabilities."""
        shorter = "--epochs" if self.options.network == "fast" else "--preset fast, --epochs"
        shown: list[Callback] = []
        if self.options.progress:
            shown = [Summary(self.batch_size), EpochLog(shorter), ProgressBar()]
        shown += watching(self.options)
        fitted = train_one(self._run, self._train, self._held_out, self.options.seed, shown, self._deadline())
        self._temperature = fitted.temperature
        held_out = self._held_out or self._train
        threshold = threshold_of(
            self.options,
            lambda: self._run.predictions(fitted.model, held_out.inputs),
            held_out.targets,
            held_out.weights,
        )
        return Trained(fitted.model, [fitted.history], threshold=threshold, units=self._units())

    def _units(self) -> dict[str, str]:
        """What the history is measured in."""
        return {} if self.targets is None else units_of(self._target, self.measured, len(self.targets.scale))

    def _deadline(self) -> Deadline | None:
        """When --time-limit is over, from now on."""
        return None if self.options.seconds is None else Deadline(self.options.seconds)

    def report(self) -> list[str]:
        """What there is to say of it when it is trained."""
        T = self._temperature
        return [f"Calibrated: outputs divided by {T:.3g}, by the validation samples"] if T != 1 else []

    def plain(self) -> dict[str, Any]:
        """What run.json says of it beside the options."""
        return {"recipe": dataclasses.asdict(self._recipe), "temperature": self._temperature}  # type: ignore[call-overload]


def _samples(options: TrainOptions, data: Dataset) -> tuple[Samples, Samples | None]:
    """What is trained on and what is held out, with the weights of their classes, which are 1 in the mean."""
    X, y, weights = data.X_train, data.y_train, None
    by_class, share = options.weights_of_classes(data, y), options.share_held_out
    if by_class is not None:
        weights = to_mean_one(class_weights_to_sample_weights(by_class, y, data.n_outputs), options.dtype)
    if not share:
        return Samples(X, y, weights), None
    parts = split_validation(len(X), share, y, options.seed, else_use="0")
    train, held_out = (Samples(X, y, weights).take(rows) for rows in parts)
    check_parts(train.weights, held_out.weights, share, "validation_split", "another seed")
    return train, held_out
