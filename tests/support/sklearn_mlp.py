"""scikit-learn's MLPClassifier and MLPRegressor by name and parameters, which train with the estimators here."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from sklearn import neural_network
from sklearn.utils.metaestimators import available_if

import fcnn_gpu as fcnn
from fcnn_gpu.callbacks import Callback
from fcnn_gpu.schedules import Adaptive, InverseScaling, Schedule

_LOWEST_RATE = 1e-6
"""scikit-learn's "adaptive" ends a run that has no use for a higher one."""


class EndsAtLowestRate(Callback):
    """Ends a run when "adaptive" has lowered the rate as far as it does."""

    def on_epoch_end(self, trainer: Any, record: dict[str, float]) -> None:
        if trainer.optimizer.schedule(0.0, 1.0) <= _LOWEST_RATE:
            trainer.stop_reason = "the rate is at its lowest"


class _MLP:
    """scikit-learn's parameters, as they are given, and the estimator that they stand for."""

    theirs: ClassVar[Any]
    ours: ClassVar[Any]

    def __init__(self, *args: Any, **given: Any) -> None:
        vars(self).update(self.theirs(*args, **given).get_params())

    def set_params(self, **given: Any) -> _MLP:
        vars(self).update(given)
        return self

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> _MLP:
        before = self._network.n_iter_ if self.warm_start and "_network" in vars(self) else 0
        self._prepared(X, y, anew=not self.warm_start).fit(X, y, sample_weight)
        self.n_iter_ = self._network.n_iter_ - before  # of this call alone, as theirs
        return self

    @available_if(lambda self: self.solver != "lbfgs")
    def partial_fit(self, X: Any, y: Any, **given: Any) -> _MLP:
        self._prepared(X, y).partial_fit(X, y, **given)
        return self

    @property
    def _optimizer(self) -> Any:
        """The rate of the next epoch, which their tests look at."""
        rate = self._network._network._rate
        epoch = float(self._network.n_iter_)
        after = rate(epoch, epoch) if isinstance(rate, Schedule) else rate
        return SimpleNamespace(learning_rate=after * self._c if self.solver == "sgd" else after)

    @property
    def _no_improvement_count(self) -> int:
        """For how many epochs the loss has not fallen by tol, counted from the history."""
        history, lowest, count = self._network.history_, math.inf, 0
        for loss in np.add(history["loss"], history["penalty"]):
            count = 0 if loss <= lowest - self.tol else count + 1
            lowest = min(lowest, loss)
        return count

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "_network" not in vars(self):
            raise AttributeError(name)
        return getattr(self._network, name)

    def _prepared(self, X: Any, y: Any, anew: bool = False) -> Any:
        if anew or "_network" not in vars(self):
            self._network = self.ours()
        is_single = getattr(X, "dtype", None) == np.float32
        dtype = "float32" if is_single else "float64"
        mapped = self._mapped(X, y)
        if hasattr(self._network, "model_") and not anew:
            del mapped["l2"]  # of the first call, as that of a network that goes on has to be
        self._network.set_params(dtype=dtype, backend="numpy", **mapped)
        return self._network

    def _mapped(self, X: Any, y: Any) -> dict[str, Any]:
        """The parameters as ours. `c`: our objective is c times theirs, so rates and tolerances differ by it."""
        c, n = self._objective(np.shape(y)), np.shape(X)[0]
        n_trained = n - round(self.validation_fraction * n) if self.early_stopping else n
        batch = n_trained if self.solver == "lbfgs" else min(200, n) if self.batch_size == "auto" else self.batch_size
        tol, callbacks = c * self.tol, []
        self._c = c
        rate: Any = self.learning_rate_init / c if self.solver == "sgd" else self.learning_rate_init
        if self.solver == "sgd" and self.learning_rate == "invscaling":
            rate = InverseScaling(rate, self.power_t, n_trained)
        elif self.solver == "sgd" and self.learning_rate == "adaptive":
            rate = Adaptive(rate, patience=self.n_iter_no_change, tolerance=tol, minimum=0.0)
            tol, callbacks = None, [EndsAtLowestRate()]
        if self.solver == "lbfgs":
            optimizer: Any = fcnn.LBFGS(max_evaluations=self.max_fun)
        elif self.solver == "adam":
            optimizer = fcnn.Adam(rate, self.beta_1, self.beta_2, self.epsilon)
        else:
            optimizer = fcnn.SGD(rate, self.momentum, self.nesterovs_momentum and self.momentum > 0)
        return {
            "hidden_layer_sizes": self.hidden_layer_sizes,
            "activation": {"logistic": "sigmoid"}.get(self.activation, self.activation),
            "optimizer": optimizer,
            "l2": c * self.alpha / (2 * batch),
            "batch_size": self.batch_size,
            "epochs": self.max_iter,
            "shuffle": self.shuffle,
            "init": "xavier_uniform",
            "bias_init": "fan_in_uniform",
            "tol": tol,
            "n_iter_no_change": self.n_iter_no_change,
            "early_stopping": self.early_stopping,
            "patience": self.n_iter_no_change if self.early_stopping else 10,
            "validation_fraction": self.validation_fraction if self.early_stopping else None,
            "warm_start": self.warm_start,
            "random_state": self.random_state,
            "callbacks": callbacks,
            "verbose": bool(self.verbose),
        }

    def _objective(self, shape: tuple[int, ...]) -> float:
        raise NotImplementedError


class MLPClassifier(_MLP):
    """`FCNNClassifier`; the loss is the mean over the labels of a 0/1 matrix, theirs the sum."""

    theirs, ours = neural_network.MLPClassifier, fcnn.FCNNClassifier

    def _objective(self, shape: tuple[int, ...]) -> float:
        return 1.0 / shape[1] if len(shape) == 2 else 1.0


class MLPRegressor(_MLP):
    """`FCNNRegressor`; the loss is the mean over the outputs, theirs half of the sum."""

    theirs, ours = neural_network.MLPRegressor, fcnn.FCNNRegressor

    def _objective(self, shape: tuple[int, ...]) -> float:
        if self.loss == "poisson":
            return 1.0
        return 2.0 / (shape[1] if len(shape) == 2 else 1)

    def _mapped(self, X: Any, y: Any) -> dict[str, Any]:
        return super()._mapped(X, y) | {"loss": {"squared_error": "mse"}.get(self.loss, self.loss)}
