"""The scikit-learn classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets

from .._arrays import as_labels, quietly, refuse_masked
from .._checks import check_real
from .._types import HostArray
from ..data import class_weights_to_sample_weights
from ..losses import BinaryCrossEntropy, CrossEntropy, Loss
from ._array_api import follows_input
from ._base import FCNNEstimator, has_partial_fit
from ._constructor import constructor_of
from ._parameters import Parameters


@constructor_of("FCNNClassifier", before="init")
class ClassifierParameters(Parameters):
    """What a classifier takes beside the shared parameters."""

    label_smoothing: float = 0.0
    class_weight: Mapping[Any, float] | str | None = None


class FCNNClassifier(ClassifierMixin, ClassifierParameters, FCNNEstimator):
    """A fully-connected network as a scikit-learn classifier.

    For labels of any type (n_samples,): softmax and cross-entropy over one output per class. For a 0/1 matrix
    (n_samples, n_labels): independent labels, sigmoid and binary cross-entropy, one output per label.

    Inputs are taken as they are: scale them, for example with `StandardScaler` in a pipeline.

    Parameters:
        hidden_layer_sizes: units of each hidden layer; () makes a linear model.
        activation: of the hidden layers, a name or an `Activation`, or a list with one per hidden layer.
        optimizer: a name or an `Optimizer` (which is copied, never changed). "lbfgs", or `LBFGS()`, takes all samples
            in each of its iterations, the epochs, and ends where it has converged: for small data, without dropout.
        learning_rate: a number, a `Schedule` or a function of the epoch; None keeps the optimizer's own.
        epochs: passes over the data in each call of `fit` (scikit-learn's max_iter). None takes 160, and on few samples
            as many more as make 300 steps. They are all taken: to end earlier, use `tol` or `early_stopping`.
        batch_size: samples per step, at most all; "auto" is 200. With `batch_norm` a last batch of one sample is left
            out.
        shuffle: visit the samples in a new order each epoch.
        dropout: probability of dropping a hidden unit, or a list with one per hidden layer.
        batch_norm: normalize each hidden layer's sums over the batch, before the activation.
        l1, l2: λ₁Σ|w| + λ₂Σw² over all weights is added to the objective. scikit-learn's alpha is 2·batch_size·λ₂ for
            SGD and Adam (for a 0/1 matrix n_labels times that: our loss is the mean over the labels, theirs the sum).
        label_smoothing: s in (1 − s)y + s/n_classes; for labels (n_samples,) alone.
        class_weight: {label: weight} or "balanced"; multiplies `sample_weight`. For labels (n_samples,) alone.
        init, bias_init: initializers of all weights and of all biases. "fan_in_uniform" for both, as in PyTorch, has
            the highest scores on tables: the first outputs are small, and a layer's units bend at different places.
            init=None takes the one that fits each layer's activation, bias_init=None starts from biases of 0.
        tol, n_iter_no_change: end when loss + penalty has not come `tol` below its lowest for more than
            `n_iter_no_change` epochs in a row, as scikit-learn's MLPs do with tol=1e-4; None is no such end. With
            `early_stopping` it is val_loss, for `patience` epochs; of "lbfgs" it is `LBFGS(tol)`.
        early_stopping: end when val_loss has not improved for `patience` epochs, and keep the best epoch's weights.
        patience: see `early_stopping`.
        validation_fraction: share of the samples held out to record val_loss, drawn by the seed, class by class for
            labels. None: 0.1 with `early_stopping`, else 0.
        metrics: names, instances or functions f(y_true, y_pred), recorded in `history_` after each epoch.
        callbacks: `Callback` instances, called as they are given.
        warm_start: `fit` goes on with the network, optimizer state, schedule time and random streams of the last
            `fit`: two calls do what one of twice the epochs does, to the bit for a constant learning rate, as long
            as nothing restores earlier weights. What defines the network must not change in between; epochs,
            batch_size, learning_rate, class_weight, validation, metrics, callbacks and backend may.
        random_state: an int fixes initial weights, sample orders, dropout masks and the validation samples, on every
            backend alike; it is the `seed` of `Sequential`. A RandomState draws such a seed; None draws a fresh one.
        backend: "auto", "cpu", "numpy", "cupy" or "cupy:<device>"; None takes the default. Changed after `fit`
            (`set_params`), it moves the network. Estimators pickle to host arrays and open on any backend; in worker
            processes (joblib's, multiprocessing's) None takes the default of the process that they work for. How many
            threads compute on the CPU is no parameter: `fcnn.set_threads` sets it, for workers too, which take fewer
            where joblib allows them fewer.
        dtype: what the network computes in, and probabilities come in, "float32" or "float64".
        verbose: show how far `fit` is: a bar on a terminal, a table in a notebook, else lines on standard error. 0 is
            False and 1 True; 2 writes lines everywhere.

    Attributes:
        classes_: the labels in the order of the outputs; 0 ... n_labels − 1 for a 0/1 matrix.
        model_: the fitted `Sequential`.
        history_: `History` of all epochs since the network was made. loss_curve_, loss_, best_loss_: its data losses,
            the last and the smallest. validation_scores_, best_validation_score_: −val_loss, and the greatest.
        n_iter_: epochs trained. t_: samples that they took, one after the other.
        coefs_, intercepts_: copies of weights and biases, layer by layer.
        n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_: as in scikit-learn.

    `fit` warns with `UnfinishedFitWarning`, a ConvergenceWarning of scikit-learn's, where the training loss still falls
    markedly at its end: say more epochs, or a higher learning rate.

    `fit` raises ValueError or TypeError for unusable parameters or data, and `DivergenceError` when training diverges;
    the estimator's attributes are then what they were before the call. Where the call was to go on with a trained
    network (warm_start, partial_fit), divergence leaves that network with the weights from before the step that failed.

    X and y may be arrays of other libraries (PyTorch, CuPy, JAX, tables, ...), also on a GPU. What comes back is
    NumPy's, or, with `sklearn.set_config(array_api_dispatch=True)`, of X's library and on its device.

    Ctrl-C ends `fit` after the step under way: the estimator keeps what it has learned by then, and `KeyboardInterrupt`
    is raised, so that a search or a cross-validation ends too and scores no half-trained network.

    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = FCNNClassifier((16,), learning_rate=0.01, random_state=0, backend="numpy")
    >>> make_pipeline(StandardScaler(), classifier).fit(X, y).score(X, y) > 0.95
    True
    """

    _loss_parameter = "label_smoothing"
    _task = "classification"
    _multilabel: bool
    classes_: HostArray

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on X (n_samples, n_features) and y, labels (n_samples,) or a 0/1 matrix (n_samples, n_labels).

        `sample_weight` (n_samples,), times class weights, is scaled to mean 1: a weight of 2 is a sample that is there
        twice, and learning rate and penalties keep their meaning whatever the weights sum to.
        """
        return self._fit(X, y, sample_weight)

    @available_if(has_partial_fit)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train one more epoch, on these samples.

        The first call of all needs `classes`, every label that will ever come; a 0/1 matrix says its own. Nothing is
        held out for validation. `sample_weight` is used as it is, so that it compares between calls; class_weight
        "balanced", which would not, is refused.
        """
        classes = None if classes is None else as_labels(classes, "FCNNClassifier.partial_fit: classes")
        return self._fit(X, y, sample_weight, classes, partial=True)

    @follows_input
    @quietly
    def predict(self, X: Any) -> HostArray:
        """Labels (n_samples,): the class with the largest output; or 0/1 (n_samples, n_labels): probability over ½."""
        Z = self._outputs(X)
        if self._multilabel:
            return (Z > 0).astype(np.int64)
        return self.classes_[Z.argmax(axis=1)]

    @quietly
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The accuracy on X and y; for a 0/1 matrix, the share of samples of which every label is right."""
        refuse_masked(y, "FCNNClassifier.score: y")
        refuse_masked(sample_weight, "FCNNClassifier.score: sample_weight")
        return super().score(X, y, sample_weight)

    @follows_input
    @quietly
    def predict_proba(self, X: Any) -> HostArray:
        """Probabilities (n_samples, n_classes), rows summing to 1; or of each label, (n_samples, n_labels)."""
        Z = self._outputs(X)
        return expit(Z) if self._multilabel else softmax(Z, axis=1)

    @follows_input
    @quietly
    def predict_log_proba(self, X: Any) -> HostArray:
        """log of `predict_proba`, from the raw outputs, so that it stays finite where a probability rounds to 0."""
        Z = self._outputs(X)
        return log_expit(Z) if self._multilabel else log_softmax(Z, axis=1)

    @follows_input
    @quietly
    def decision_function(self, X: Any) -> HostArray:
        """Raw outputs (n_samples, n_classes or n_labels); for two classes z₁ − z₀, the log-odds, (n_samples,)."""
        Z = self._outputs(X)
        return Z[:, 1] - Z[:, 0] if not self._multilabel and Z.shape[1] == 2 else Z

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _check_loss(self) -> Loss:
        smoothing = check_real(self._who("label_smoothing"), self.label_smoothing, low=0.0, high=1.0)
        weight = self.class_weight
        if not (weight is None or weight == "balanced" or isinstance(weight, Mapping)):
            raise ValueError(f"{self._who('class_weight')} is 'balanced' or {{label: weight}}, got {weight!r}.")
        return CrossEntropy(label_smoothing=smoothing)

    def _loss_on_targets(self, loss: Loss) -> Loss:
        return BinaryCrossEntropy() if self._multilabel else loss

    def _check_targets(self, y: Any, classes: Any, continues: bool, partial: bool) -> tuple[HostArray, int]:
        y = y.toarray() if hasattr(y, "toarray") else y
        check_classification_targets(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        multilabel = y.ndim == 2
        who = type(self).__name__
        if partial and self.class_weight == "balanced":
            raise ValueError(
                f"{who}(class_weight='balanced') needs all samples at once and cannot go with partial_fit. "
                "Give {label: weight}, for example from sklearn.utils.class_weight.compute_class_weight."
            )
        if continues and multilabel != self._multilabel:
            kinds = ("one label per sample", "a 0/1 matrix of labels")
            raise ValueError(f"{who} began with {kinds[self._multilabel]} and cannot go on with {kinds[multilabel]}.")
        self._multilabel = multilabel
        if multilabel:
            return self._check_label_matrix(y, classes, continues)
        known, index = np.unique(y, return_inverse=True)
        given = None if classes is None else np.unique(column_or_1d(classes))
        if continues:
            if given is not None and not np.array_equal(given, self.classes_):
                raise ValueError(f"classes={given} differs from the {who}'s classes so far, {self.classes_}.")
        else:
            self.classes_ = known if given is None else given
        if partial and not continues and given is None:
            raise ValueError(f"The first call of {who}.partial_fit needs classes: all labels that will ever come.")
        if len(self.classes_) < 2:
            raise ValueError(f"{who} needs at least two classes in y, got one class: {self.classes_.tolist()}.")
        codes = self._codes()
        unknown = [label for label in known.tolist() if label not in codes]
        if unknown:
            raise ValueError(f"y holds labels that are not among the {who}'s classes {self.classes_}: {unknown}.")
        targets = np.array([codes[label] for label in known.tolist()], np.int64)[index]
        return targets, len(self.classes_)

    def _check_label_matrix(self, y: HostArray, classes: Any, continues: bool) -> tuple[HostArray, int]:
        who, n_labels = type(self).__name__, y.shape[1]
        if y.dtype.kind not in "biuf" or not np.isin(y, (0, 1)).all():
            raise ValueError(
                f"{who} expects y to be labels (n_samples,) or a matrix of 0 and 1, one column per label. For several "
                f"columns of classes take sklearn.multioutput.MultiOutputClassifier({who}(...)), a network for each."
            )
        if self.label_smoothing or self.class_weight is not None:
            raise ValueError(f"{who}: label_smoothing and class_weight are for one label per sample, not a 0/1 matrix.")
        if continues and n_labels != self.n_outputs_:
            raise ValueError(f"{who} began with {self.n_outputs_} labels per sample, but y has {n_labels} columns.")
        if classes is not None and not np.array_equal(np.unique(column_or_1d(classes)), np.arange(n_labels)):
            raise ValueError(f"For a y with {n_labels} columns, classes is 0 ... {n_labels - 1} or left out.")
        self.classes_ = np.arange(n_labels)
        return y, n_labels

    def _codes(self) -> dict[Any, int]:
        return {label: code for code, label in enumerate(self.classes_.tolist())}

    def _class_factors(self, targets: HostArray) -> HostArray | None:
        weight = self.class_weight
        if isinstance(weight, Mapping):
            codes = self._codes()
            unknown = [label for label in weight if label not in codes]
            if unknown:
                raise ValueError(f"{self._who('class_weight')} names {unknown}; the classes are {self.classes_}.")
            weight = {codes[c]: check_real(self._who(f"class_weight[{c!r}]"), v, low=0.0) for c, v in weight.items()}
        return None if weight is None else class_weights_to_sample_weights(weight, targets, len(self.classes_))
