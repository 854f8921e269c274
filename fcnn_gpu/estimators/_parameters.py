"""The constructor parameters that all estimators share: declared, and checked."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY
from typing import Any, ClassVar, Literal

import numpy as np
from sklearn.utils import check_random_state

from .._checks import check_bool, check_integer, check_real
from ..activations import ACTIVATIONS
from ..backend import resolve_backend
from ..callbacks import Callback, EarlyStopping, check_callbacks, progress_of_verbose
from ..initializers import INITIALIZERS, Initializer, no_biases
from ..losses import Loss
from ..metrics import METRICS, Metric
from ..schedules import Schedule, as_schedule
from ..training import LBFGS, resolve_optimizer, with_tolerance
from ._constructor import shared_parameters
from ._convergence import NoMoreFall
from ._network import Design, with_rate

_DEFAULT_VALIDATION_FRACTION = 0.1
_DEFAULT_EPOCHS, _FEWEST_STEPS = 160, 300
"""Without a number of epochs: so many, and at least as many as make so many steps."""
_AUTO_BATCH = 200
"""At most so many samples make a batch of size "auto", as in scikit-learn."""


@shared_parameters
class Parameters:
    """What every estimator is constructed with: kept as given, and checked in `fit`, as scikit-learn asks."""

    _task: ClassVar[Literal["classification", "regression"]]

    hidden_layer_sizes: Any = (100,)
    activation: Any = "relu"
    _: KW_ONLY
    optimizer: Any = "adam"
    learning_rate: float | Schedule | Callable[..., float] | None = None
    epochs: int | None = None
    batch_size: int | str = 128
    shuffle: bool = True
    dropout: Any = 0.0
    batch_norm: bool = False
    l1: float = 0.0
    l2: float = 0.0
    init: Any = "fan_in_uniform"
    bias_init: Any = "fan_in_uniform"
    tol: float | None = None
    n_iter_no_change: float = 10
    early_stopping: bool = False
    patience: int = 10
    validation_fraction: float | None = None
    metrics: Sequence[str | Metric | Callable[..., float]] = ()
    callbacks: Sequence[Callback] = ()
    warm_start: bool = False
    random_state: Any = None
    backend: Any = None
    dtype: Any = "float32"
    verbose: bool | int = False

    def _who(self, parameter: str) -> str:
        return f"{type(self).__name__}({parameter})"

    def _check_parameters(self, partial: bool) -> tuple[Design, list[Metric], list[Callback]]:
        """All constructor parameters checked, as what they stand for; the design's loss is not the final one yet."""
        who = self._who
        for name in ("shuffle", "batch_norm", "early_stopping", "warm_start"):
            check_bool(who(name), getattr(self, name))
        progress_of_verbose(who("verbose"), self.verbose)
        for name in ("batch_size", "patience", "epochs", "n_iter_no_change"):
            value = getattr(self, name)
            if (name, value) not in (("epochs", None), ("batch_size", "auto"), ("n_iter_no_change", math.inf)):
                check_integer(who(name), value, low=1)
        if partial and self.early_stopping:
            raise ValueError(
                f"{type(self).__name__}.partial_fit does not support early_stopping=True, because it trains one epoch "
                "a call."
            )
        if self._validation_share() == 0.0 and self.early_stopping:
            raise ValueError(f"{who('early_stopping=True')} needs a validation_fraction greater than 0.")
        self._check_random_state()
        resolve_backend(self.backend)
        sizes = self._hidden_layer_sizes()
        tol = None if self.tol is None else check_real(who("tol"), self.tol, low=0.0)
        optimizer = resolve_optimizer(self.optimizer)
        if isinstance(optimizer, LBFGS):
            self._check_whole_batch()
            optimizer = optimizer if tol is None else with_tolerance(optimizer, tol)
        rate = optimizer.learning_rate if self.learning_rate is None else as_schedule(self.learning_rate)
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
            bias_init=self._bias_init(),
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
            if metric.task not in (None, self._task):
                raise ValueError(f"{who('metrics')}: {metric.label!r} is a metric of {metric.task}, not {self._task}.")
        observers = check_callbacks(self.callbacks)
        if self.early_stopping:
            observers.append(EarlyStopping(monitor="val_loss", patience=self.patience))
        if tol is not None and not (partial or isinstance(optimizer, LBFGS)):
            rule = ("val_loss", self.patience) if self.early_stopping else ("loss", self.n_iter_no_change)
            observers.append(NoMoreFall(tol, *rule))
        return design, metrics, observers

    def _check_whole_batch(self) -> None:
        """ValueError for what L-BFGS cannot do, in the words of this constructor."""
        who = self._who("optimizer='lbfgs'")
        if self.learning_rate is not None:
            raise ValueError(
                f"{who} has no learning_rate, a line search finds it: got {self.learning_rate!r}. Leave it out."
            )
        if np.any([p != 0.0 for p in np.ravel(self.dropout)]):
            raise ValueError(
                f"{who} needs an objective that is the same in each pass, and dropout={self.dropout!r} draws new "
                "masks. Leave dropout out, or take 'adam'."
            )

    def _check_loss(self) -> Loss:
        """The loss, as far as it is known without data."""
        raise NotImplementedError(f"{type(self).__name__} must define _check_loss().")

    def _validation_share(self) -> float:
        if self.validation_fraction is None:
            return _DEFAULT_VALIDATION_FRACTION if self.early_stopping else 0.0
        return check_real(self._who("validation_fraction"), self.validation_fraction, low=0.0, high=1.0, high_open=True)

    def _batch_size(self, n_samples: int) -> int:
        return self.batch_size if isinstance(self.batch_size, int) else min(_AUTO_BATCH, n_samples)

    def _n_epochs(self, n_samples: int) -> int:
        """How many epochs a call of `fit` takes that trains on so many samples."""
        if self.epochs is not None:
            return self.epochs
        steps_per_epoch = -(-n_samples // self._batch_size(n_samples))
        return max(_DEFAULT_EPOCHS, -(-_FEWEST_STEPS // steps_per_epoch))

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

    def _bias_init(self) -> Initializer | None:
        if self.bias_init is None:
            return None
        initializer = INITIALIZERS.resolve(self.bias_init)
        if not initializer.makes_biases:
            raise ValueError(f"{type(self).__name__}: {no_biases(initializer)}")
        return initializer

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
