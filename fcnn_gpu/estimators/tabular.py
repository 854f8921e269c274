"""scikit-learn estimators for tables as they are: the best known MLPs for them, with nothing to tune."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from .._arrays import as_array, as_labels, column_names, quietly, refuse_masked, several
from .._checks import check_bool, check_choice, check_real
from .._types import HostArray
from ..data import Signature, class_weights_to_sample_weights
from ._constructor import constructor_of
from ._samples import Samples
from ._tabular import TabularEstimator, TabularParameters
from ._tasks import Classification, Regression
from ._threshold import THRESHOLD_METRICS, best_threshold

_SHARED = """
    Takes tables as they are, as DataFrames of pandas, Polars or Arrow, `fcnn_gpu.tables.read(path)` or matrices: with
    categories, missing values, dates and any scales (see `fcnn_gpu.tables.TablePreparation`). Nothing need be scaled or
    encoded, and columns are matched by name.

    The network is RealMLP-TD, which on many tables is ahead of boosted trees at their default settings: numbers
    embedded by periodic functions, categories by tables, three layers of 256, a learned scale for each input, learned
    activations, dropout and weight decay that fade out, and a learning rate in four waves. Of 256 epochs it keeps the
    one that is best on a fifth of the samples, which are held out.

    Parameters:
        preset: "default" is RealMLP-TD; "best" is eight of them, each validated by an eighth of the samples, which it
            does not see (see `cv`). "fast" is its short form, RealMLP-TD-S, without embeddings, dropout, weight decay
            and learned activations, in 56 epochs, or 1,200 steps and 8 epochs at least where those are fewer (as
            published: epochs=256). "tabm" is TabM: 32 networks that share their weights, three layers of 512, trained
            until more than 16 epochs were no better; ahead on some tables, and many times slower.
        columns, ignore: what columns are, where that is to be said, {name: kind}, and which to leave out; as in
            `TablePreparation`.
        hidden_layer_sizes, learning_rate, epochs, batch_size, dropout, weight_decay: others than the preset's.
            None keeps its own.
        validation_fraction: the share of the samples that choose the best epoch, drawn by the seed. 0 keeps the last.
        cv: a number of folds, a splitter of scikit-learn's, or pairs (rows to train on, rows to hold out): train a
            network for each fold, validated by what it holds out, and predict the mean of theirs (bagging, Breiman
            1996). With a number every sample trains some of the networks, and is predicted by one that did not see it
            (`out_of_fold_`). The preparation is fitted on all samples. None: one network, and eight for "best".
        time_limit: seconds, or text like "10min", that `fit` may take, within an epoch. Two epochs are run to see how
            long they last; then fewer folds are made of it (two at least), or shorter runs. What comes out depends on
            the machine's speed.
        n_jobs: with folds, so many networks are trained at the same time on a CPU, each in a process of its own;
            otherwise the threads of one. −1 takes all cores. None: one network after the other, with as many threads as
            `fcnn_gpu.threads()` says. The results are the same.
"""


@constructor_of("TabularClassifier", before="callbacks")
class ClassifierParameters(TabularParameters):
    """What a classifier takes beside the shared parameters."""

    metric: str = "accuracy"
    label_smoothing: float | None = None
    class_weight: Mapping[Any, float] | str | None = None
    calibrate: bool = True
    threshold: float | str = 0.5


class TabularClassifier(ClassifierMixin, ClassifierParameters, TabularEstimator):
    __doc__ = f"""A network for tables as a scikit-learn classifier.
{_SHARED}
        metric: what the best epoch is chosen by, "accuracy" or "log_loss"; for the latter labels are not smoothed.
        label_smoothing: s in (1 − s)y + s/n_classes. None keeps the preset's, 0.1.
        class_weight: {{label: weight}} or "balanced"; multiplies `sample_weight`.
        calibrate: divide the last layer's outputs by the temperature T for which the held-out samples' log loss is
            smallest (Guo et al. 2017), of which one more is taken to be of each class equally: better probabilities,
            the same labels.
        threshold: of two classes, the probability beyond which the second is predicted; or "accuracy",
            "balanced_accuracy", "f1" or "mcc", for which that number is best on the held-out samples.
        callbacks, random_state, backend, dtype, verbose: as in `FCNNClassifier`.

    Attributes:
        classes_: the labels, in the order of the outputs. temperature_: T, 1 without calibration; of each fold's
            network, where there are several. threshold_: as a number.
        model_: the fitted `Sequential`, which takes the same tables and can be saved.
        preparation_: how inputs are made of them.
        history_: `History` of the run. best_epoch_: the epoch that was kept. Lists of them, with folds.
        out_of_fold_: with folds, each sample's probabilities, by networks that did not see it; NaN where all did.
        fit_seconds_: how long `fit` took.
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

    _kind = "classification"
    classes_: HostArray
    threshold_: float

    def fit(self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None) -> Self:
        """Train on a table X and its labels y (n_samples,).

        `sample_weight` (n_samples,), times class weights, is scaled to mean 1. `validation_data`, (X, y), chooses the
        best epoch; then nothing is held out of X.
        """
        return self._fit(X, y, sample_weight, validation_data)

    @quietly
    def predict(self, X: Any) -> HostArray:
        """Labels (n_samples,): the most probable class, or of two the second beyond `threshold_`."""
        return self._labels(self._scores(self._inputs(X)))

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

    def _labels(self, scores: HostArray) -> HostArray:
        if len(self.classes_) > 2:
            return self.classes_[scores.argmax(axis=1)]
        log_odds = np.log(self.threshold_) - np.log1p(-self.threshold_)
        return self.classes_[(scores[:, 1] - scores[:, 0] > log_odds).astype(np.int64)]

    def _score_of(self, inputs: HostArray, y: Any, sample_weight: Any) -> float:
        labels = self._labels(self._scores(inputs))
        return float(accuracy_score(as_labels(y, "y"), labels, sample_weight=sample_weight))

    def _task_of(self) -> Classification:
        metric = check_choice(self._who("metric"), self.metric, ("accuracy", "log_loss"))
        return Classification(metric, check_bool(self._who("calibrate"), self.calibrate))

    def _own_settings(self) -> dict[str, Any]:
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
        self.threshold_ = self._given_threshold()
        return targets.astype(np.int64), len(self.classes_)

    def _known_targets(self, y: Any, n: int, targets: HostArray) -> HostArray:
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

    def _given_threshold(self) -> float:
        """The number, or ½ for one that is to be found."""
        who, threshold = self._who("threshold"), self.threshold
        if threshold != 0.5 and len(self.classes_) > 2:
            raise ValueError(f"{who} is of two classes, and y has {len(self.classes_)}. Leave it at 0.5.")
        if isinstance(threshold, str):
            check_choice(who, threshold, THRESHOLD_METRICS)
            return 0.5
        return check_real(who, threshold, low=0.0, high=1.0, low_open=True, high_open=True)

    def _check_nothing_is_held_out(self) -> None:
        if isinstance(self.threshold, str):
            raise ValueError(
                f"{self._who('threshold')}={self.threshold!r} is found on held-out samples, and "
                f"{self._who('validation_fraction')}=0 holds none out. Hold some out, or give a number."
            )

    def _learn_from(self, predictions: HostArray, samples: Samples) -> None:
        if isinstance(self.threshold, str):
            self.threshold_ = best_threshold(predictions[:, 1], samples.targets, samples.weights, self.threshold)

    def _signature(self, targets: HostArray) -> Signature:
        plain = [x if isinstance(x, str | int | float) else str(x) for x in self.classes_.tolist()]
        return Signature(class_names=tuple(plain))

    def _finished(self, signature: Signature) -> Signature:
        return signature if self.threshold_ == 0.5 else dataclasses.replace(signature, threshold=self.threshold_)


@constructor_of("TabularRegressor", before="callbacks")
class RegressorParameters(TabularParameters):
    """What a regressor takes beside the shared parameters."""

    quantiles: Sequence[float] | None = None


class TabularRegressor(RegressorMixin, RegressorParameters, TabularEstimator):
    __doc__ = f"""A network for tables as a scikit-learn regressor, for y (n_samples,) or (n_samples, n_targets).
{_SHARED}
        quantiles: learn these quantiles of y (n_samples,), each in (0, 1), and the median, by their pinball losses:
            `predict` is the median, and `predict_quantiles` are they.
        callbacks, random_state, backend, dtype, verbose: as in `FCNNRegressor`.

    Targets are standardized in training, the best epoch is the one with the smallest squared error, and predictions
    stay within the range of the training targets, as published.

    Attributes:
        model_: the fitted `Sequential`, which takes the same tables and can be saved.
        preparation_: how inputs are made of them.
        history_: `History` of the run. best_epoch_: the epoch that was kept. Lists of them, with folds.
        out_of_fold_: with folds, each sample's prediction, by networks that did not see it; NaN where all did.
        quantiles_: those that `predict_quantiles` gives, where any were asked for.
        fit_seconds_: how long `fit` took.
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

    _kind = "regression"

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

    @quietly
    def predict_quantiles(self, X: Any) -> HostArray:
        """The quantiles that were asked for, (n_samples, n_quantiles), in their order; none crosses another."""
        check_is_fitted(self)
        if self._quantiles is None:
            raise AttributeError(
                f"{type(self).__name__} has learned no quantiles. Fit it with quantiles=[0.05, 0.95], for example."
            )
        ordered = np.sort(self._outputs(self._inputs(X)), axis=1)
        return ordered[:, np.searchsorted(self._quantiles, self.quantiles_)]

    def _outputs(self, inputs: HostArray) -> HostArray:
        return self.model_.infer(inputs, "identity", None, f"{type(self).__name__}.predict", True)

    def _values(self, inputs: HostArray) -> HostArray:
        return self._as_given(self._outputs(inputs))

    def _as_given(self, predictions: HostArray) -> HostArray:
        if self._quantiles is not None:
            return np.sort(predictions, axis=1)[:, self._quantiles.index(0.5)]
        return predictions[:, 0] if self._flat else predictions

    def _score_of(self, inputs: HostArray, y: Any, sample_weight: Any) -> float:
        return float(r2_score(as_array(y, "y"), self._values(inputs), sample_weight=sample_weight))

    def _task_of(self) -> Regression:
        return Regression(self._quantiles, None if self._quantiles is not None else self._target_names)

    def _asked_quantiles(self) -> list[float] | None:
        """In ascending order, the median among them."""
        if self.quantiles is None:
            return None
        who, given = self._who("quantiles"), self.quantiles
        if isinstance(given, str) or np.ndim(given) != 1 or not len(given):
            raise TypeError(f"{who} expects numbers such as [0.05, 0.95], got {given!r}.")
        each = [check_real(who, q, low=0.0, high=1.0, low_open=True, high_open=True) for q in given]
        return sorted({*each, 0.5})

    def _check_targets(self, y: Any, n: int) -> tuple[HostArray, int]:
        who = f"{type(self).__name__}.fit"
        names = several(column_names(y, who, "y"))
        values = self._as_values(y, n, who)
        self._flat, self._target_names, self._quantiles = values.ndim == 1, names, self._asked_quantiles()
        self.__dict__.pop("quantiles_", None)
        if self.quantiles is not None:
            self.quantiles_ = np.array(self.quantiles, np.float64)
        if self._quantiles is not None and not self._flat:
            raise ValueError(
                f"{who}: {self._who('quantiles')} are of one target, y (n_samples,), got {values.shape}. Fit one "
                "regressor for each target."
            )
        columns = self._columns(values)
        return columns, columns.shape[1]

    def _columns(self, values: HostArray) -> HostArray:
        """(n_samples, n_outputs): a target for each output, the same one for all quantiles."""
        columns = values.reshape(len(values), -1)
        return columns if self._quantiles is None else np.repeat(columns, len(self._quantiles), axis=1)

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

    def _known_targets(self, y: Any, n: int, targets: HostArray) -> HostArray:
        who = f"{type(self).__name__}.fit: validation_data"
        values = self._as_values(y, n, who)
        columns = self._columns(values)
        if columns.shape[1] != targets.shape[1]:
            expected = "(n_samples,)" if self._flat else f"(n_samples, {targets.shape[1]})"
            raise ValueError(f"{who} expects y of shape {expected}, as in training, got {values.shape}.")
        return columns

    def _signature(self, targets: HostArray) -> Signature:
        ranges = np.stack([targets.min(axis=0), targets.max(axis=0)], axis=1).tolist()
        names = self._target_names
        if self._quantiles is not None:
            names = tuple(f"quantile {q:g}" for q in self._quantiles)
        return Signature(target_names=names, target_range=ranges)


def _check_length(who: str, y: HostArray, n: int) -> None:
    if len(y) != n:
        raise ValueError(f"{who}: X has {n} rows, and y {len(y)}.")
