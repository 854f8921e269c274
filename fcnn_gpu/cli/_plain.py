"""The plain network of the command line, and its training: what --layers, --activation, --optimizer and so on say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backend import Ops
from ..callbacks import Callback, EarlyStopping, ProgressBar, TimeLimit
from ..data import leaves_single_sample, split_validation
from ..datasets import Dataset
from ..losses import Loss
from ..model import Sequential, Standardization, fold_features, fold_targets
from ..training import OwnUnits, Trainer, units_of
from ._data import holds_images
from ._options import TrainOptions
from ._progress import EpochLog, Summary, watching
from ._trained import Trained, threshold_of


@dataclass
class _Prepared:
    """The samples that the run trains and validates on, standardized where it should be, and how."""

    X: Any
    y: Any
    validation: tuple[Any, Any] | None
    features: Standardization | None
    targets: Standardization | None


class PlainTraining:
    """The network and the training that the options define, for this data.

    Attributes:
        options: with the defaults of this data.
        metrics: what is measured beside the loss.
        features, targets: how they are standardized in training; None: they are not.
        n_train, n_held_out: how many samples are trained on, and measured after each epoch.
        extrapolates: whether values may leave the range of training; a linear network may as well.
        batch_size: of its steps.
        measured: the loss that the test is to be measured by, of standardized targets.
        without_test: what there is to add where the data has no test part.
    """

    without_test = ", so nothing says how good the model is on samples it has not seen"

    def __init__(self, options: TrainOptions, data: Dataset, why: str | None, ops: Ops) -> None:
        """`why`, of a table: why it has a plain network."""
        self._why, self._target = why, data.target_name
        self.options = options = options.for_data(data)
        options.check_classes(data)
        assert options.batch_size is not None
        loss = options.make_loss(data)
        self.metrics = options.make_metrics(data, loss)
        optimizer = options.make_optimizer(self.metrics)
        samples = self._samples = _prepare(data, options, why is not None, loss)
        self._class_weight = options.weights_of_classes(data, samples.y)
        self._model = Sequential(
            options.layers_of(options.n_outputs(data, loss), standardized=samples.features is not None),
            n_in=data.n_features,
            seed=options.seed,
            backend=ops,
            dtype=options.dtype,
            precision=options.precision,
            memory_limit=options.byte_limit,
        )
        self._trainer = Trainer(self._model, loss, optimizer, self.metrics)
        self.features, self.targets, self.measured = samples.features, samples.targets, loss
        self.n_train = len(samples.X)
        self.n_held_out = 0 if samples.validation is None else len(samples.validation[0])
        self.batch_size = min(options.batch_size, self.n_train)
        self.extrapolates = not options.widths

    def announce(self) -> list[str]:
        """What there is to say of it before it begins: of a table, which has presets, why it is not one of them."""
        return [] if self._why is None else [f"Network: plain, {self._why}"]

    def train(self) -> Trained:
        """The trained network, in the data's own units."""
        options, samples, model = self.options, self._samples, self._model
        assert options.epochs is not None
        shown = [Summary(self.batch_size), EpochLog(), ProgressBar()] if options.progress else []
        callbacks: list[Callback] = [] if options.seconds is None else [TimeLimit(options.seconds)]
        if options.early_stopping is not None:
            callbacks.append(EarlyStopping(patience=options.early_stopping))
        callbacks.append(OwnUnits(samples.targets, self.measured, [*shown, *watching(options)]))
        history = self._trainer.fit(
            samples.X,
            samples.y,
            epochs=options.epochs,
            batch_size=self.batch_size,
            validation_data=samples.validation,
            class_weight=self._class_weight,
            drop_last=options.batch_norm and leaves_single_sample(self.n_train, self.batch_size),
            progress=False,
            callbacks=callbacks,
        )
        X, y = (samples.X, samples.y) if samples.validation is None else samples.validation
        threshold = threshold_of(options, lambda: model.infer(X, self.measured.link), y, None)
        if samples.features is not None:
            fold_features(model, samples.features)
        if samples.targets is not None:
            fold_targets(model, samples.targets)
        units = units_of(self._target, self.measured, len(samples.targets.scale)) if samples.targets is not None else {}
        return Trained(model, [history], threshold=threshold, units=units)

    def report(self) -> list[str]:
        """What there is to say of it when it is trained."""
        return []

    def plain(self) -> dict[str, Any]:
        """What run.json says of it beside the options."""
        return {}


def _prepare(data: Dataset, options: TrainOptions, of_table: bool, loss: Loss) -> _Prepared:
    """Split off the validation part, then standardize by the mean and spread of the training part alone.

    The inputs that are made of a table are scaled already, and counts stay what they are.
    """
    X, y, validation = data.X_train, data.y_train, None
    if options.share_held_out:
        train, held_out = split_validation(len(X), options.share_held_out, y, options.seed, else_use="0")
        X, y, validation = X[train], y[train], (X[held_out], y[held_out])
    scales_features = not holds_images(data) if options.standardize is None else options.standardize
    scales_features = scales_features and not of_table
    scales_targets = data.task == "regression" and options.standardize is not False and loss.link == "identity"
    features = Standardization.of(X) if scales_features else None
    targets = Standardization.of(y) if scales_targets else None
    precision = options.dtype if options.precision is None else options.precision
    if features is not None:
        features.check_units(precision, "features", data.feature_names)
    if targets is not None:
        targets.check_units(precision, "targets")

    def scaled(X: Any, y: Any) -> tuple[Any, Any]:
        return (
            X if features is None else features.apply(X, options.dtype),
            y if targets is None else targets.apply(y, options.dtype),
        )

    return _Prepared(*scaled(X, y), None if validation is None else scaled(*validation), features, targets)
