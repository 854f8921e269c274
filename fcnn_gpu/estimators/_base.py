"""What the estimators share: their parameters, checked; fitting; and the network's outputs."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .._checks import check_bool, check_integer, check_real
from .._inputs import check_features
from .._types import HostArray
from ..activations import ACTIVATIONS
from ..backend import resolve_backend
from ..callbacks import Callback, EarlyStopping, check_callbacks
from ..data import split_validation
from ..history import History
from ..initializers import INITIALIZERS
from ..losses import Loss, check_sample_weight
from ..metrics import METRICS, Metric
from ..model import Sequential
from ..optimizers import OPTIMIZERS
from ..schedules import Schedule
from ._network import Design, Network, with_rate

_DEFAULT_VALIDATION_FRACTION = 0.1
_FLOATS = [np.float64, np.float32]
"""What scikit-learn's checks may return X in; the cast to the network's dtype comes with a check of its range."""


class FCNNEstimator(BaseEstimator):
    """What classifier and regressor share: parameters, fitting, and the network's outputs."""

    _task: Literal["classification", "regression"]
    _loss_parameter: str
    """Which constructor parameter decides the loss, beside y."""
    _network: Network
    n_outputs_: int
    n_iter_: int
    history_: History

    def __init__(
        self,
        hidden_layer_sizes: Any,
        activation: Any,
        *,
        optimizer: Any,
        learning_rate: float | Schedule | None,
        epochs: int,
        batch_size: int,
        shuffle: bool,
        dropout: Any,
        batch_norm: bool,
        l1: float,
        l2: float,
        init: Any,
        early_stopping: bool,
        patience: int,
        validation_fraction: float | None,
        metrics: Sequence[str | Metric],
        callbacks: Sequence[Callback],
        warm_start: bool,
        random_state: Any,
        backend: Any,
        dtype: Any,
        verbose: bool,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.l1 = l1
        self.l2 = l2
        self.init = init
        self.early_stopping = early_stopping
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.metrics = metrics
        self.callbacks = callbacks
        self.warm_start = warm_start
        self.random_state = random_state
        self.backend = backend
        self.dtype = dtype
        self.verbose = verbose

    @property
    def model_(self) -> Sequential:
        """The fitted `Sequential`: its layers, `summary()` and `save(path)`."""
        check_is_fitted(self)
        return self._network.trainer(self.backend).model

    @property
    def loss_curve_(self) -> list[float]:
        """The data loss of each epoch: `history_["loss"]`."""
        check_is_fitted(self)
        return self.history_["loss"]

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_network")

    # Fitting

    def _fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None, partial: bool = False) -> Self:
        with self._unchanged_on_error():
            design, metrics, observers = self._check_parameters(partial)
            continues = hasattr(self, "_network") and (partial or self.warm_start)
            X, y = validate_data(
                self,
                X,
                y,
                reset=not continues,
                dtype=_FLOATS,
                multi_output=True,
                y_numeric=self._task == "regression",
            )
            X = check_features(X, None, design.dtype, f"{type(self).__name__}.fit")
            targets, n_out = self._check_targets(y, classes, continues, partial)
            design.loss = self._loss_on_targets(design.loss)
            weights = self._check_weights(sample_weight, X, targets, partial)
            if continues:
                network = self._network
                self._refuse_changes(network.design, design)
            else:
                network = Network(design, X.shape[1], n_out, self._seed(), self.backend)
            share = 0.0 if partial else self._validation_share()
            parts = split_validation(len(X), share, targets, network.seed) if share else (slice(None),)
            data = [(X[part], targets[part], None if weights is None else weights[part]) for part in parts]
            previous = self.history_ if continues else History()
            history = network.train(
                data[0],
                data[1] if share else None,
                design=design,
                backend=self.backend,
                metrics=[_for_targets(metric, targets) for metric in metrics],
                epochs=1 if partial else self.epochs,
                batch_size=self.batch_size,
                shuffle=self.shuffle,
                callbacks=observers,
                progress=self.verbose,
            )
            self._network = network
            self.n_outputs_ = n_out
            self.history_ = _joined(previous, history)
            self.n_iter_ = len(self.history_)
        return self

    def _check_targets(self, y: Any, classes: Any, continues: bool, partial: bool) -> tuple[HostArray, int]:
        """(targets, number of outputs) for `y`; sets what the estimator remembers of it."""
        raise NotImplementedError(f"{type(self).__name__} must define _check_targets(...).")

    def _loss_on_targets(self, loss: Loss) -> Loss:
        """The loss that the checked targets ask for, where the parameters alone give `loss`."""
        return loss

    def _class_factors(self, targets: HostArray) -> HostArray | None:
        """The weight of each sample's class, if classes have weights."""
        return None

    def _check_weights(self, sample_weight: Any, X: HostArray, targets: HostArray, partial: bool) -> HostArray | None:
        """Sample times class weights. Scaled to mean 1, unless more samples are to come whose weights they must fit."""
        factors = self._class_factors(targets)
        if sample_weight is None and factors is None:
            return None
        weights = np.ones(len(X)) if factors is None else factors
        if sample_weight is not None:
            weights = weights * check_sample_weight(_check_sample_weight(sample_weight, X), len(X), np.float64)
        scale = 1.0 if partial or not weights.any() else weights.mean()
        return check_sample_weight(weights / scale, len(X), X.dtype)

    @contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        """An error within leaves the estimator's attributes as they were before."""
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:
            self.__dict__ = before
            raise

    def _outputs(self, X: Any) -> HostArray:
        """Raw outputs (n_samples, n_outputs)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=_FLOATS)
        return self._network.outputs(X, self.backend)

    # Checking

    def _who(self, parameter: str) -> str:
        return f"{type(self).__name__}({parameter})"

    def _check_parameters(self, partial: bool) -> tuple[Design, list[Metric], list[Callback]]:
        """All constructor parameters checked, as what they stand for; the design's loss is not the final one yet."""
        who = self._who
        for name in ("shuffle", "batch_norm", "early_stopping", "warm_start", "verbose"):
            check_bool(who(name), getattr(self, name))
        for name in ("epochs", "batch_size", "patience"):
            check_integer(who(name), getattr(self, name), low=1)
        if partial and self.early_stopping:
            raise ValueError(f"{who('early_stopping=True')} cannot go with partial_fit, which trains one epoch a call.")
        if self._validation_share() == 0.0 and self.early_stopping:
            raise ValueError(f"{who('early_stopping=True')} needs a validation_fraction greater than 0.")
        self._check_random_state()
        resolve_backend(self.backend)
        sizes = self._hidden_layer_sizes()
        optimizer = OPTIMIZERS.resolve(self.optimizer)
        rate = optimizer.learning_rate if self.learning_rate is None else self.learning_rate
        if not isinstance(rate, Schedule):
            rate = check_real(who("learning_rate"), rate, low=0.0)
        activations = self._per_layer("activation", len(sizes))
        dropouts = self._per_layer("dropout", len(sizes))
        design = Design(
            hidden_layer_sizes=sizes,
            activation=tuple(ACTIVATIONS.resolve(value) for value in activations),
            dropout=tuple(check_real(who("dropout"), p, low=0.0, high=1.0, high_open=True) for p in dropouts),
            batch_norm=self.batch_norm,
            init=None if self.init is None else INITIALIZERS.resolve(self.init),
            l1=check_real(who("l1"), self.l1, low=0.0),
            l2=check_real(who("l2"), self.l2, low=0.0),
            optimizer=with_rate(optimizer, copy.deepcopy(rate)),
            dtype=self._check_dtype(),
            loss=self._check_loss(),
        )
        if isinstance(self.metrics, str):
            raise TypeError(f"{who('metrics')} expects a list, got {self.metrics!r}. Write metrics=[{self.metrics!r}].")
        metrics = [METRICS.resolve(metric) for metric in self.metrics]
        for metric in metrics:
            if metric.task != self._task:
                raise ValueError(f"{who('metrics')}: {metric.label!r} is a metric of {metric.task}, not {self._task}.")
        observers = check_callbacks(self.callbacks)
        if self.early_stopping:
            observers.append(EarlyStopping(monitor="val_loss", patience=self.patience))
        return design, metrics, observers

    def _check_loss(self) -> Loss:
        """The loss, as far as it is known without data."""
        raise NotImplementedError(f"{type(self).__name__} must define _check_loss().")

    def _validation_share(self) -> float:
        if self.validation_fraction is None:
            return _DEFAULT_VALIDATION_FRACTION if self.early_stopping else 0.0
        return check_real(self._who("validation_fraction"), self.validation_fraction, low=0.0, high=1.0, high_open=True)

    def _hidden_layer_sizes(self) -> tuple[int, ...]:
        who, sizes = self._who("hidden_layer_sizes"), self.hidden_layer_sizes
        if isinstance(sizes, str | Mapping) or not isinstance(sizes, Sequence | np.ndarray):
            sizes = (sizes,)
        return tuple(check_integer(who, size, low=1) for size in sizes)

    def _per_layer(self, name: str, n_layers: int) -> Sequence[Any]:
        """One value per hidden layer, from a list of them or one for all."""
        value = getattr(self, name)
        if not isinstance(value, list | tuple | np.ndarray):
            return [value] * n_layers
        if len(value) != n_layers:
            raise ValueError(
                f"{self._who(name)} has {len(value)} values for {n_layers} hidden layers; give one for each, or one."
            )
        return list(value)

    def _check_dtype(self) -> np.dtype[Any]:
        message = f"{self._who('dtype')} is 'float32' or 'float64', got {self.dtype!r}."
        try:
            resolved = np.dtype(self.dtype)
        except TypeError:
            raise ValueError(message) from None
        if self.dtype is None or resolved not in (np.float32, np.float64):
            raise ValueError(message)
        return resolved

    def _check_random_state(self) -> None:
        state = self.random_state
        if state is None or isinstance(state, np.random.RandomState):
            return
        check_integer(self._who("random_state"), state, low=0)

    def _seed(self) -> int | None:
        if isinstance(self.random_state, np.random.RandomState):
            return int(check_random_state(self.random_state).randint(2**31 - 1))
        return None if self.random_state is None else int(self.random_state)

    def _refuse_changes(self, built: Design, asked: Design) -> None:
        changed = [self._loss_parameter if name == "loss" else name for name in built.changes(asked)]
        if changed:
            raise ValueError(
                f"{type(self).__name__} cannot go on training after a change of {', '.join(changed)}: the network was "
                "built with other values. Set them back, or fit anew with warm_start=False."
            )


def _for_targets(metric: Metric, targets: HostArray) -> Metric:
    """The metric, told that a matrix of classes means several labels per sample, unless it was told already."""
    if targets.ndim == 2 and getattr(metric, "multilabel", True) is None and dataclasses.is_dataclass(metric):
        return dataclasses.replace(metric, multilabel=True)
    return metric


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
