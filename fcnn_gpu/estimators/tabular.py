"""scikit-learn estimators for tables as they are: the best known MLPs for them, with nothing to tune."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from .._arrays import as_array, as_labels, column_names, quietly, refuse_masked, several
from .._checks import check_choice, check_real
from .._types import HostArray
from ..data import Signature, class_weights_to_sample_weights
from ..layers import Dense, DenseEnsemble
from ..losses import MSE, CrossEntropy, Loss
from ..metrics import Accuracy, Metric, RootMeanSquaredError
from ..model import Sequential, Standardization, fold_targets
from ._constructor import constructor_of
from ._recipes import Recipe
from ._tabular import TabularEstimator, TabularParameters

_SHARED = """
    Takes tables as they are, as DataFrames of pandas, Polars or Arrow, `fcnn_gpu.tables.read(path)` or matrices: with
    categories, missing values, dates and any scales (see `fcnn_gpu.tables.TablePreparation`). Nothing need be scaled or
    encoded, and columns are matched by name.

    The network is RealMLP-TD, which on many tables is ahead of boosted trees at their default settings: numbers
    embedded by periodic functions, categories by tables, three layers of 256, a learned scale for each input, learned
    activations, dropout and weight decay that fade out, and a learning rate in four waves. Of 256 epochs it keeps the
    one that is best on a fifth of the samples, which are held out.

    Parameters:
        preset: "default" is RealMLP-TD; "fast" its short form, RealMLP-TD-S, without embeddings, dropout, weight decay
            and learned activations. "tabm" is TabM: 32 networks that share their weights, three layers of 512, trained
            until 16 epochs were no better; ahead on some tables, and many times slower.
        columns, ignore: what columns are, where that is to be said, {name: kind}, and which to leave out; as in
            `TablePreparation`.
        hidden_layer_sizes, learning_rate, epochs, batch_size, dropout, weight_decay: others than the preset's.
            None keeps its own.
        validation_fraction: the share of the samples that choose the best epoch, drawn by the seed. 0 keeps the last.
"""


@constructor_of("TabularClassifier", before="callbacks")
class ClassifierParameters(TabularParameters):
    """What a classifier takes beside the shared parameters."""

    metric: str = "accuracy"
    label_smoothing: float | None = None
    class_weight: Mapping[Any, float] | str | None = None
    calibrate: bool = True


class TabularClassifier(ClassifierMixin, ClassifierParameters, TabularEstimator):
    __doc__ = f"""A network for tables as a scikit-learn classifier.
{_SHARED}
        metric: what the best epoch is chosen by, "accuracy" or "log_loss"; for the latter labels are not smoothed.
        label_smoothing: s in (1 − s)y + s/n_classes. None keeps the preset's, 0.1.
        class_weight: {{label: weight}} or "balanced"; multiplies `sample_weight`.
        calibrate: divide the last layer's outputs by the temperature T for which the held-out samples' log loss is
            smallest (Guo et al. 2017), of which one more is taken to be of each class equally: better probabilities,
            the same labels.
        callbacks, random_state, backend, dtype, verbose: as in `FCNNClassifier`.

    Attributes:
        classes_: the labels, in the order of the outputs. temperature_: T, 1 without calibration.
        model_: the fitted `Sequential`, which takes the same tables and can be saved.
        preparation_: how inputs are made of them.
        history_: `History` of the run. best_epoch_: the epoch that was kept. fit_seconds_: how long `fit` took.
        n_features_in_, feature_names_in_: as in scikit-learn.

    `fit` raises TableError, a ValueError, for tables that cannot be read, and ValueError or TypeError for parameters;
    the estimator is then what it was. Ctrl-C ends it with the best epoch so far, and KeyboardInterrupt is raised.
    Source: Holzmüller, Grinsztajn & Steinwart (2024), "Better by default: strong pre-tuned MLPs and boosted trees on
    tabular data".

    >>> table = {{"sepal": [5.1, 7.0, 4.9, 6.4] * 10, "soil": ["wet", "dry", "wet", None] * 10}}
    >>> labels = ["setosa", "versicolor", "setosa", "versicolor"] * 10
    >>> model = TabularClassifier(epochs=8, random_state=0, backend="numpy").fit(table, labels)
    >>> model.predict({{"soil": ["dry"], "sepal": [6.9]}}).tolist()
    ['versicolor']
    """

    _task = "classification"
    classes_: HostArray
    temperature_: float

    def fit(self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None) -> Self:
        """Train on a table X and its labels y (n_samples,).

        `sample_weight` (n_samples,), times class weights, is scaled to mean 1. `validation_data`, (X, y), chooses the
        best epoch; then nothing is held out of X.
        """
        return self._fit(X, y, sample_weight, validation_data)

    @quietly
    def predict(self, X: Any) -> HostArray:
        """Labels (n_samples,): the class with the largest output."""
        scores = self._scores(self._inputs(X))
        return self.classes_[scores.argmax(axis=1)]

    @quietly
    def predict_proba(self, X: Any) -> HostArray:
        """Probabilities (n_samples, n_classes), rows summing to 1."""
        return softmax(self._scores(self._inputs(X)), axis=1)

    @quietly
    def predict_log_proba(self, X: Any) -> HostArray:
        """log of `predict_proba`, from the raw outputs."""
        return log_softmax(self._scores(self._inputs(X)), axis=1)

    @quietly
    def decision_function(self, X: Any) -> HostArray:
        """Raw outputs (n_samples, n_classes); for two classes z₁ − z₀, the log-odds, (n_samples,).

        Of an ensemble ("tabm"): the logarithms of its probabilities.
        """
        scores = self._scores(self._inputs(X))
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def _scores(self, inputs: HostArray) -> HostArray:
        """(n_samples, n_classes) whose softmax are the probabilities: of several members, the mean of theirs."""
        Z, k = self.model_.infer(inputs, None, None, f"{type(self).__name__}.predict", True), self.model_.members
        if k == 1:
            return Z
        of_members = log_softmax(Z.reshape(len(Z), k, -1), axis=2)
        scores: HostArray = logsumexp(of_members, axis=1) - np.log(Z.dtype.type(k))
        return scores

    def _score_of(self, inputs: HostArray, y: Any, sample_weight: Any) -> float:
        labels = self.classes_[self._scores(inputs).argmax(axis=1)]
        return float(accuracy_score(as_labels(y, "y"), labels, sample_weight=sample_weight))

    def _own_settings(self) -> dict[str, Any]:
        check_choice(self._who("metric"), self.metric, ("accuracy", "log_loss"))
        if self.label_smoothing is not None:
            s = check_real(self._who("label_smoothing"), self.label_smoothing, low=0.0, high=1.0)
            return {"label_smoothing": s}
        return {"label_smoothing": 0.0} if self.metric == "log_loss" else {}

    def _check_targets(self, y: Any, n: int) -> tuple[HostArray, int]:
        who = type(self).__name__
        refuse_masked(y, f"{who}.fit: y")
        labels = as_labels(y, f"{who}.fit: y")
        check_classification_targets(labels)
        labels = column_or_1d(labels, warn=True)
        _check_length(who, labels, n)
        self.classes_, targets = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"{who} needs at least two classes in y, got one class: {self.classes_.tolist()}.")
        return targets.astype(np.int64), len(self.classes_)

    def _known_targets(self, y: Any, n: int, n_targets: int) -> HostArray:
        who = f"{type(self).__name__}.fit: validation_data"
        labels = column_or_1d(as_labels(y, who))
        _check_length(who, labels, n)
        codes = {label: i for i, label in enumerate(self.classes_.tolist())}
        unknown = [label for label in np.unique(labels).tolist() if label not in codes]
        if unknown:
            raise ValueError(f"{who} has labels that y has not: {unknown[:5]}.")
        return np.array([codes[label] for label in labels.tolist()], np.int64)

    def _class_factors(self, targets: HostArray) -> HostArray | None:
        weight = self.class_weight
        if weight is None:
            return None
        if isinstance(weight, Mapping):
            codes = {label: i for i, label in enumerate(self.classes_.tolist())}
            unknown = [label for label in weight if label not in codes]
            if unknown:
                raise ValueError(f"{self._who('class_weight')} names {unknown}; the classes are {self.classes_}.")
            weight = {codes[c]: check_real(self._who(f"class_weight[{c!r}]"), v, low=0.0) for c, v in weight.items()}
        elif weight != "balanced":
            raise ValueError(f"{self._who('class_weight')} is 'balanced' or {{label: weight}}, got {weight!r}.")
        return class_weights_to_sample_weights(weight, targets, len(self.classes_))

    def _loss(self, recipe: Recipe) -> Loss:
        return CrossEntropy(label_smoothing=recipe.label_smoothing)

    def _metrics(self) -> list[Metric]:
        return [Accuracy()]

    def _monitor(self) -> tuple[str, bool]:
        return ("val_accuracy", True) if self.metric == "accuracy" else ("val_loss", False)

    def _finish(self, model: Sequential, held_out: Any) -> None:
        self.temperature_ = 1.0
        if not self.calibrate or held_out is None:
            return
        Z = model.infer(held_out[0], None, None, "calibration").astype(np.float64)
        Z = Z.reshape(len(Z), model.members, -1)
        self.temperature_ = best_temperature(Z, held_out[1], held_out[2] if len(held_out) > 2 else None)
        last = model.layers[-1]
        assert isinstance(last, Dense | DenseEnsemble)
        for array in (last.W, last.b):
            model.ops.scale(array, 1.0 / self.temperature_, array)
        model.refresh_low_precision()

    def _signature(self, targets: HostArray) -> Signature:
        plain = [x if isinstance(x, str | int | float) else str(x) for x in self.classes_.tolist()]
        return Signature(class_names=tuple(plain))


@constructor_of("TabularRegressor", before="callbacks")
class RegressorParameters(TabularParameters):
    """What a regressor takes: the shared parameters."""


class TabularRegressor(RegressorMixin, RegressorParameters, TabularEstimator):
    __doc__ = f"""A network for tables as a scikit-learn regressor, for y (n_samples,) or (n_samples, n_targets).
{_SHARED}
        callbacks, random_state, backend, dtype, verbose: as in `FCNNRegressor`.

    Targets are standardized in training, the best epoch is the one with the smallest mean squared error, and
    predictions stay within the range of the training targets, as published.

    Attributes:
        model_: the fitted `Sequential`, which takes the same tables and can be saved.
        preparation_: how inputs are made of them.
        history_: `History` of the run. best_epoch_: the epoch that was kept. fit_seconds_: how long `fit` took.
        n_features_in_, feature_names_in_: as in scikit-learn.

    `fit` raises TableError, a ValueError, for tables that cannot be read, and ValueError or TypeError for parameters;
    the estimator is then what it was. Ctrl-C ends it with the best epoch so far, and KeyboardInterrupt is raised.
    Source: Holzmüller, Grinsztajn & Steinwart (2024), "Better by default: strong pre-tuned MLPs and boosted trees on
    tabular data".

    >>> table = {{"area": [50.0, 120.0, 80.0, 65.0] * 10, "town": ["Bonn", "Oslo", "Oslo", "Bonn"] * 10}}
    >>> prices = [100.0, 360.0, 240.0, 130.0] * 10
    >>> model = TabularRegressor(epochs=64, random_state=0, backend="numpy").fit(table, prices)
    >>> model.score(table, prices) > 0.9
    True
    """

    _task = "regression"

    def fit(self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None) -> Self:
        """Train on a table X and its values y, (n_samples,) or (n_samples, n_targets).

        `sample_weight` (n_samples,) is scaled to mean 1. `validation_data`, (X, y), chooses the best epoch; then
        nothing is held out of X.
        """
        return self._fit(X, y, sample_weight, validation_data)

    @quietly
    def predict(self, X: Any) -> HostArray:
        """Values in the shape of y, within the range that they had in training."""
        return self._values(self._inputs(X))

    def _values(self, inputs: HostArray) -> HostArray:
        values = self.model_.infer(inputs, "identity", None, f"{type(self).__name__}.predict", True)
        return values[:, 0] if self._flat else values

    def _score_of(self, inputs: HostArray, y: Any, sample_weight: Any) -> float:
        return float(r2_score(as_array(y, "y"), self._values(inputs), sample_weight=sample_weight))

    def _check_targets(self, y: Any, n: int) -> tuple[HostArray, int]:
        who = f"{type(self).__name__}.fit"
        names = several(column_names(y, who, "y"))
        values = self._as_values(y, n, who)
        self._flat, self._target_names = values.ndim == 1, names
        columns = values.reshape(len(values), -1)
        return columns, columns.shape[1]

    def _as_values(self, y: Any, n: int, who: str) -> HostArray:
        values = as_array(y, f"{who}: y")
        if values.dtype.kind not in "biuf":
            raise TypeError(f"{who} expects y to be numbers, got {values.dtype}.")
        if values.ndim == 2 and values.shape[1] == 1:
            values = column_or_1d(values, warn=True)
        if values.ndim not in (1, 2):
            raise ValueError(f"{who} expects y of shape (n_samples,) or (n_samples, n_targets), got {values.shape}.")
        _check_length(who, values, n)
        values = values.astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError(f"{who}: y contains NaN or infinity. Remove these samples or fill the gaps.")
        return values

    def _known_targets(self, y: Any, n: int, n_targets: int) -> HostArray:
        who = f"{type(self).__name__}.fit: validation_data"
        values = self._as_values(y, n, who)
        columns = values.reshape(len(values), -1)
        if columns.shape[1] != n_targets:
            expected = f"(n_samples, {n_targets})" if n_targets > 1 else "(n_samples,)"
            raise ValueError(f"{who} expects y of shape {expected}, as in training, got {values.shape}.")
        return columns

    def _scale(self, targets: HostArray) -> Any:
        self._standardization = Standardization.of(targets)
        self._standardization.check_units(np.dtype(self.dtype).name, "targets", self._target_names)
        return lambda values: self._standardization.apply(values, self.dtype)

    def _loss(self, recipe: Recipe) -> Loss:
        return MSE()

    def _metrics(self) -> list[Metric]:
        return [RootMeanSquaredError()]

    def _monitor(self) -> tuple[str, bool]:
        return "val_loss", False

    def _finish(self, model: Sequential, held_out: Any) -> None:
        fold_targets(model, self._standardization)
        del self._standardization

    def _signature(self, targets: HostArray) -> Signature:
        ranges = np.stack([targets.min(axis=0), targets.max(axis=0)], axis=1).tolist()
        return Signature(target_names=self._target_names, target_range=ranges)


def best_temperature(Z: HostArray, labels: HostArray, weights: HostArray | None = None) -> float:
    """T for which the log loss of softmax(Z/T), Z (n_samples, n_classes), is smallest, between 1/30 and 30.

    Of the outputs of several members, Z (n_samples, members, n_classes): of the mean over members of softmax(Z/T).
    Labels are y + s(1/n_classes − y) with s = 1/(n + 1), as if one more sample were of each class equally: where all of
    a few samples are right, the smallest loss is that of T → 0, which is as sure of the first mistake to come. Of
    weighted samples, n = (Σ w)²/Σ w².

    >>> Z = np.log([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1]])
    >>> T = best_temperature(3 * Z, np.array([0, 0, 0, 1]))  # right 3.5 times of 5: log(3.5/1.5) = 3 log 9/T
    >>> round(T, 2), round(float(3 * np.log(9) / np.log(3.5 / 1.5)), 2)
    (7.78, 7.78)
    """
    of_members = Z if Z.ndim == 3 else Z[:, np.newaxis]
    w = np.ones(len(Z)) if weights is None else weights.astype(np.float64)
    s = 1.0 / (w.sum() ** 2 / (w**2).sum() + 1.0)
    targets = np.full((len(Z), Z.shape[-1]), s / Z.shape[-1])
    targets[np.arange(len(Z)), labels] += 1.0 - s

    def log_loss(log_temperature: float) -> float:
        each = log_softmax(of_members * np.exp(-log_temperature), axis=2)
        of_mean = logsumexp(each, axis=1) - np.log(of_members.shape[1])
        return float(np.average(-(targets * of_mean).sum(axis=1), weights=w))

    found = minimize_scalar(log_loss, bounds=(-np.log(30.0), np.log(30.0)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def _check_length(who: str, y: HostArray, n: int) -> None:
    if len(y) != n:
        raise ValueError(f"{who}: X has {n} rows, and y {len(y)}.")
