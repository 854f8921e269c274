"""What the estimators share: fitting, going on, and the network's outputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import _check_sample_weight, check_array, check_is_fitted, check_X_y, validate_data

from .._arrays import ENCODE, as_array, as_labels, column_names, quietly, several
from .._types import HostArray
from .._warnings import warn
from ..backend import chosen_threads, default_backend, inherit_backend, inherit_threads
from ..callbacks import progress_of_verbose
from ..data import Signature, check_features, check_parts, is_sparse, split_validation
from ..losses import Loss, check_sample_weight
from ..memory import OutOfMemoryError
from ..training import LBFGS, History
from ._array_api import to_host
from ._convergence import UnfinishedFitWarning, still_falls, unconverged, unfinished
from ._fitted import FittedAttributes
from ._network import Design, Network
from ._parameters import Parameters

_FLOATS = [np.float64, np.float32]
"""What scikit-learn's checks may return X in; the cast to the network's dtype comes with a check of its range."""

_DEFAULT, _THREADS = "_default_backend", "_threads"
"""Where a pickle says what `backend=None` stood for, and how many threads were chosen. They are no attributes, and read
in worker processes alone."""


def has_partial_fit(estimator: Parameters) -> bool:
    """Whether the optimizer trains on some samples at a time; an AttributeError says why not."""
    if estimator.optimizer == LBFGS.name or estimator.optimizer is LBFGS or isinstance(estimator.optimizer, LBFGS):
        raise AttributeError(
            f"{type(estimator).__name__}(optimizer={estimator.optimizer!r}) has no partial_fit, because it takes all "
            "samples at once. Call fit, or take another optimizer, such as 'adam'."
        )
    return True


class FCNNEstimator(FittedAttributes, Parameters, BaseEstimator):
    """What classifier and regressor share: parameters, fitting, and the network's outputs."""

    _loss_parameter: str
    """Which constructor parameter decides the loss, beside y."""
    n_outputs_: int
    n_iter_: int
    t_: int

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_network")

    def __getstate__(self) -> dict[str, Any]:
        """With the default backend and the threads of this process, which a worker of joblib's takes over."""
        state: dict[str, Any] = super().__getstate__()
        chosen = {_DEFAULT: default_backend(), _THREADS: chosen_threads()}
        return state | {name: value for name, value in chosen.items() if value is not None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        inherit_backend(state.get(_DEFAULT))
        inherit_threads(state.get(_THREADS))
        super().__setstate__({name: value for name, value in state.items() if name not in (_DEFAULT, _THREADS)})

    # Fitting

    @quietly
    def _fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None, partial: bool = False) -> Self:
        with self._unchanged_on_error(), self._explaining_shortage():
            design, metrics, observers = self._check_parameters(partial)
            continues = hasattr(self, "_network") and (partial or self.warm_start)
            validate_data(self, X, y, reset=not continues, skip_check_array=True)
            target_names = several(column_names(y, f"{type(self).__name__}.fit", "y"))
            X, y = check_X_y(
                self._numbers(X, "fit"),
                self._given_targets(y),
                accept_sparse="csr",
                dtype=_FLOATS,
                multi_output=True,
                y_numeric=self._task == "regression",
                estimator=self,
            )
            if not is_sparse(X):  # whose numbers the network's own fit checks
                X = check_features(X, None, design.dtype, f"{type(self).__name__}.fit")
            targets, n_out = self._check_targets(y, classes, continues, partial)
            design.loss = self._loss_on_targets(design.loss)
            weights = self._check_weights(sample_weight, X, design, targets, partial)
            if continues:
                network = self._network
                self._refuse_changes(network.design, design)
            else:
                network = Network(design, X.shape[1], n_out, self._seed(), self.backend, self._signature(target_names))
            share = 0.0 if partial else self._validation_share()
            data = self._parts(X, targets, weights, share, network.seed)
            n_trained = data[0][0].shape[0]
            self._check_batches(design, n_trained)
            previous, seen = (self.history_, self.t_) if continues else (History(), 0)
            history = network.train(
                data[0],
                data[1] if share else None,
                design=design,
                backend=self.backend,
                metrics=[metric.for_task(design.loss.task(n_out)) for metric in metrics],
                epochs=1 if partial else self._n_epochs(n_trained),
                batch_size=self._batch_size(n_trained),
                shuffle=self.shuffle,
                callbacks=observers,
                progress=progress_of_verbose(self._who("verbose"), self.verbose),
            )
            interrupted = history.stopped_by == "interrupt"
            message = f"{type(self).__name__}.fit was interrupted"
            if interrupted and not continues and not history.records:
                raise KeyboardInterrupt(f"{message} before its first epoch was done; the estimator is as it was.")
            self._network = network
            self.n_outputs_ = n_out
            self.history_ = _joined(previous, history)
            self.n_iter_ = len(self.history_)
            self.t_ = seen + len(history) * n_trained
        if interrupted:  # what called this fit, a search for example, would take the network for a whole run's
            raise KeyboardInterrupt(f"{message}; the estimator keeps what it had learned by then.")
        advice = None if partial else self._advice(network.design, history, *data[0][1:])
        if advice is not None:
            warn(*advice)
        return self

    def _advice(
        self, design: Design, history: History, targets: HostArray, sample_weight: HostArray | None
    ) -> tuple[str, type[Warning]] | None:
        """What a warning says of the network that `fit` has trained on these targets, if there is anything to say."""
        message = self._unfinished(design, history)
        return None if message is None else (message, UnfinishedFitWarning)

    def _unfinished(self, design: Design, history: History) -> str | None:
        """What is to be said of a run that took all its epochs, or passes, though more would lower the loss."""
        who, ended = type(self).__name__, history.stopped_by
        has_rule = self.tol is not None or isinstance(design.optimizer, LBFGS)
        if has_rule and ended in ("epochs", "evaluations"):
            return unconverged(who, history)
        by_itself = not (self.warm_start or self.early_stopping)
        return unfinished(who, history) if by_itself and ended == "epochs" and still_falls(history) else None

    def _parts(
        self, X: Any, targets: HostArray, weights: HostArray | None, share: float, seed: int
    ) -> list[tuple[Any, HostArray, HostArray | None]]:
        """(X, targets, weights) to train on, and with a share those held out."""
        if not share:
            return [(X, targets, weights)]
        option, else_use = self._who("validation_fraction"), "none at all"
        rows = split_validation(X.shape[0], share, targets, seed, option, else_use)
        if weights is not None:
            check_parts(weights[rows[0]], weights[rows[1]], share, option, else_use)
        return [(X[part], targets[part], None if weights is None else weights[part]) for part in rows]

    def _check_batches(self, design: Design, n_samples: int) -> None:
        """ValueError where batches would have one sample, whose variance is 0."""
        if design.batch_norm and min(self._batch_size(n_samples), n_samples) == 1:
            raise ValueError(
                f"{self._who('batch_norm=True')} cannot train on a batch of one sample, whose variance is 0: got "
                f"batch_size={self.batch_size!r}, with {n_samples} samples to train on. Use larger batches."
            )

    def _check_targets(self, y: Any, classes: Any, continues: bool, partial: bool) -> tuple[HostArray, int]:
        """(targets, number of outputs) for `y`; sets what the estimator remembers of it."""
        raise NotImplementedError(f"{type(self).__name__} must define _check_targets(...).")

    def _signature(self, target_names: tuple[str, ...] | None) -> Signature:
        """What a saved `model_` says of its inputs and outputs; several labels are called as their columns in y."""
        names = getattr(self, "feature_names_in_", None)
        classes = getattr(self, "classes_", None)
        if classes is not None:
            classes = target_names or tuple(_plain(label) for label in classes.tolist())
        return Signature(
            None if names is None else tuple(map(str, names)),
            classes,
            target_names,
        )

    def _loss_on_targets(self, loss: Loss) -> Loss:
        """The loss that the checked targets ask for, where the parameters alone give `loss`."""
        return loss

    def _class_factors(self, targets: HostArray) -> HostArray | None:
        """The weight of each sample's class, if classes have weights."""
        return None

    def _check_weights(
        self, sample_weight: Any, X: Any, design: Design, targets: HostArray, partial: bool
    ) -> HostArray | None:
        """Sample times class weights. Scaled to mean 1, unless more samples are to come whose weights they must fit."""
        factors = self._class_factors(targets)
        if sample_weight is None and factors is None:
            return None
        n = X.shape[0]
        weights = np.ones(n) if factors is None else factors
        if sample_weight is not None:
            given = as_array(to_host(sample_weight), f"{type(self).__name__}.fit: sample_weight")
            weights = weights * check_sample_weight(_check_sample_weight(given, X), n, np.float64)
        scale = 1.0 if partial or not weights.any() else weights.mean()
        names = [] if sample_weight is None else ["sample_weight"]
        names += [] if factors is None else ["class_weight"]
        return check_sample_weight(weights / scale, n, design.dtype, " times ".join(names))

    @contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        """An error within leaves the estimator's attributes as they were before."""
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:
            self.__dict__ = before
            raise

    @contextmanager
    def _explaining_shortage(self) -> Iterator[None]:
        """What is said where memory runs out names this estimator's parameters, and not those of what it is made of."""
        try:
            yield
        except OutOfMemoryError as error:
            shortage = str(error.__cause__ or error)
            raise OutOfMemoryError(
                f"{type(self).__name__} ran out of memory ({shortage}). Use a smaller batch_size or smaller "
                "hidden_layer_sizes, fit fewer samples, or end what else takes memory; fcnn_gpu.Trainer trains "
                "networks and data that do not fit."
            ) from error

    @quietly
    def _outputs(self, X: Any) -> HostArray:
        """Raw outputs (n_samples, n_outputs)."""
        check_is_fitted(self)
        array = check_array(self._numbers(X, "predict"), accept_sparse="csr", dtype=_FLOATS, estimator=self)
        validate_data(self, X, reset=False, skip_check_array=True)
        with self._explaining_shortage():
            return self._network.outputs(array, self.backend)

    def _numbers(self, X: Any, method: str) -> Any:
        """X as an array, or sparse as it is.

        scikit-learn's own checks, which come behind, would lose a mask and make numbers of text.
        """
        if is_sparse(X):
            return X
        who = f"{type(self).__name__}.{method}"
        array = as_array(to_host(X), f"{who}: X")
        if array.dtype.kind in "SUmM":
            raise TypeError(f"{who} expects X to hold real numbers, got {array.dtype} values. {ENCODE}")
        return array

    def _given_targets(self, y: Any) -> Any:
        """y before scikit-learn's checks: numbers for regression and in matrices, labels of any type as they are."""
        what, y = f"{type(self).__name__}.fit: y", to_host(y)
        shape: tuple[int, ...] = getattr(y, "shape", ())
        is_matrix = not hasattr(y, "tocsr") and len(shape) == 2 and shape[1] != 1
        if self._task == "classification" and is_matrix and np.asarray(y).dtype.kind in "OUS":
            return as_labels(y, what)
        return as_array(y, what) if self._task == "regression" or is_matrix else as_labels(y, what)

    def _refuse_changes(self, built: Design, asked: Design) -> None:
        changed = [self._loss_parameter if name == "loss" else name for name in built.changes(asked)]
        if changed:
            raise ValueError(
                f"{type(self).__name__} cannot go on training after a change of {', '.join(changed)}: the network was "
                "built with other values. Set them back, or fit anew with warm_start=False."
            )


def _plain(label: Any) -> str | int | float | bool:
    return label if isinstance(label, str | int | float) else str(label)


def _joined(previous: History, new: History) -> History:
    """One history of all epochs, counted through; a column that one part lacks is NaN there."""
    done = len(previous)
    records = [record | {"epoch": done + record["epoch"]} for record in new.records]
    if done and previous.columns != new.columns:
        columns = dict.fromkeys([*previous.columns, *new.columns])
        filled = [{c: record.get(c, float("nan")) for c in columns} for record in [*previous.records, *records]]
        previous, records = History(filled[:done]), filled[done:]
    previous.records.extend(records)
    previous.stopped_by = new.stopped_by
    previous.best_epoch = None if new.best_epoch is None else done + new.best_epoch
    return previous
