"""The network behind a scikit-learn estimator: built from a design, trained call by call, pickled as host arrays."""

from __future__ import annotations

import copy
import dataclasses
import functools
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._types import HostArray
from ..activations import Activation
from ..callbacks import Callback
from ..data import Signature, leaves_single_sample
from ..initializers import Initializer, SymmetryWarning
from ..layers import Activation as ActivationLayer
from ..layers import BatchNorm, Dense, Dropout, Layer
from ..losses import Loss
from ..metrics import Metric
from ..model import Sequential
from ..optimizers import Optimizer
from ..placement import assign_array
from ..schedules import Schedule
from ..training import LBFGS, History, Trainer


@dataclass
class Design:
    """What is fixed for the life of a network. Fields have the names of the estimators' constructor parameters."""

    hidden_layer_sizes: tuple[int, ...]
    activation: tuple[Activation, ...]
    dropout: tuple[float, ...]
    batch_norm: bool
    init: Initializer | None
    l1: float
    l2: float
    optimizer: Optimizer
    """Never bound. Its learning rate alone may change while the network lives: see `changes`."""
    dtype: np.dtype[Any]
    loss: Loss
    bias_init: Initializer | None = None

    def layers(self, n_out: int) -> list[Layer]:
        """Per hidden layer Dense with its activation, or Dense, BatchNorm, activation; then Dropout. At last Dense."""
        dense = functools.partial(Dense, l1=self.l1, l2=self.l2)
        layers: list[Layer] = []
        for n, activation, p in zip(self.hidden_layer_sizes, self.activation, self.dropout, strict=True):
            init = activation.default_init if self.init is None else self.init
            if self.batch_norm:  # its shift β makes a bias before it redundant
                layers += [dense(n, init=init, bias=False), BatchNorm(), ActivationLayer(activation)]
            else:
                layers.append(dense(n, activation=activation, init=init, bias_init=self.bias_init))
            if p:
                layers.append(Dropout(p))
        return [*layers, dense(n_out, init=self.init, bias_init=self.bias_init)]

    def changes(self, other: Design) -> list[str]:
        """The names of the fields in which another design differs, learning rates aside."""
        mine, others = (dataclasses.replace(d, optimizer=with_rate(d.optimizer, 0.0)) for d in (self, other))
        return [f.name for f in dataclasses.fields(self) if getattr(mine, f.name) != getattr(others, f.name)]


def with_rate(optimizer: Optimizer, rate: float | Schedule) -> Optimizer:
    """An unbound copy of an optimizer with another learning rate, where it has one."""
    if isinstance(optimizer, LBFGS):
        return copy.copy(optimizer)
    return dataclasses.replace(optimizer, learning_rate=rate)


@dataclass(repr=False)
class Continued(Schedule):
    """η(t) = then(t + elapsed): a run that goes on where an earlier one of `elapsed` epochs ended."""

    then: Schedule
    elapsed: int

    def __repr__(self) -> str:  # for messages to users, who know `then` alone
        return f"{self.then!r}, {self.elapsed} epochs on,"

    def __call__(self, epoch: float, n_epochs: float) -> float:
        return self.then(epoch + self.elapsed, n_epochs + self.elapsed)

    def observe(self, record: Mapping[str, float]) -> None:
        self.then.observe(record)

    @property
    def monitor(self) -> str | None:
        return self.then.monitor


@dataclass
class _HostState:
    """Everything that training has changed, as NumPy arrays and numbers."""

    arrays: dict[str, HostArray]
    optimizer: dict[str, HostArray]
    step: int
    random_step: int
    epochs_trained: int


class Network:
    """A network and its trainer on a backend.

    Pickling and changing the backend go through host arrays. An unpickled network is built when it is first used, so
    that a file written on a machine with a GPU opens on one without. Passes hold a lock: the arrays that they compute
    in are shared by all threads that use the network.
    """

    def __init__(
        self, design: Design, n_in: int, n_out: int, seed: int | None, backend: Any, signature: Signature
    ) -> None:
        self.design, self.n_in, self.n_out = design, n_in, n_out
        self._signature = signature
        self._rate = copy.deepcopy(design.optimizer.learning_rate)
        self._rate_since = 0
        self._backend = backend
        self._lock = threading.RLock()
        self._state: _HostState | None = None
        self._trainer: Trainer | None = self._build(seed, backend)
        self.seed = self._trainer.seed

    def trainer(self, backend: Any) -> Trainer:
        """The trainer; a network that is on another backend moves to this one."""
        with self._lock:
            if self._trainer is not None and backend == self._backend:
                return self._trainer
            state = self._host_state()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SymmetryWarning)  # the weights are about to be replaced
                trainer = self._build(self.seed, backend)
            _load(trainer, state)
            self._trainer, self._backend, self._state = trainer, backend, None
            return trainer

    def train(
        self,
        train: tuple[Any, HostArray, HostArray | None],
        validation: tuple[Any, HostArray, HostArray | None] | None,
        *,
        design: Design,
        backend: Any,
        metrics: Sequence[Metric],
        epochs: int,
        batch_size: int,
        shuffle: bool,
        callbacks: Sequence[Callback],
        progress: bool | str,
    ) -> History:
        """Go on training for `epochs`; time in schedules, sample orders and dropout masks go on as in one long run."""
        X, targets, weights = train
        with self._lock:
            trainer = self.trainer(backend)
            trainer.metrics = list(metrics)
            trainer.held_out_by = "validation_fraction"
            if design.optimizer.learning_rate != self.design.optimizer.learning_rate:
                self._rate, self._rate_since = copy.deepcopy(design.optimizer.learning_rate), trainer.epochs_trained
                self.design = design
            elapsed = trainer.epochs_trained - self._rate_since
            continues = elapsed > 0 and isinstance(self._rate, Schedule)
            trainer.optimizer.learning_rate = Continued(self._rate, elapsed) if continues else self._rate
            history = trainer.fit(
                X,
                targets,
                sample_weight=weights,
                validation_data=validation,
                epochs=epochs,
                batch_size=batch_size,
                shuffle=shuffle,
                drop_last=design.batch_norm and leaves_single_sample(X.shape[0], batch_size),
                callbacks=callbacks,
                progress=progress,
            )
            self._signature = trainer.model.signature
            return history

    def outputs(self, X: Any, backend: Any) -> HostArray:
        """Raw outputs (n_samples, n_outputs)."""
        with self._lock:
            return self.trainer(backend).model(X)

    def _build(self, seed: int | None, backend: Any) -> Trainer:
        design = self.design
        model = Sequential(design.layers(self.n_out), self.n_in, seed=seed, backend=backend, dtype=design.dtype)
        model.signature = self._signature
        return Trainer(model, dataclasses.replace(design.loss), with_rate(design.optimizer, self._rate))

    def _host_state(self) -> _HostState:
        if self._trainer is None:
            assert self._state is not None
            return self._state
        trainer = self._trainer
        model, optimizer = trainer.model, trainer.optimizer
        to_numpy = model.ops.to_numpy
        return _HostState(
            arrays={name: to_numpy(array).copy() for name, array in model.named_arrays().items()},
            optimizer={name: to_numpy(array).copy() for name, array in optimizer.whole_state.items()},
            step=int(to_numpy(optimizer.control.step)[0]),
            random_step=int(to_numpy(model.random_step)[0]),
            epochs_trained=trainer.epochs_trained,
        )

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            live = ("_trainer", "_lock", "_backend")
            kept = {name: value for name, value in vars(self).items() if name not in live}
            return kept | {"_state": self._host_state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._trainer, self._backend, self._lock = None, None, threading.RLock()


def _load(trainer: Trainer, state: _HostState) -> None:
    model, optimizer = trainer.model, trainer.optimizer
    ops = model.ops
    for name, array in model.named_arrays().items():
        assign_array(ops, array, state.arrays[name])
    for name, array in optimizer.whole_state.items():
        assign_array(ops, array, state.optimizer[name])
    ops.fill(optimizer.control.step, state.step)
    ops.fill(model.random_step, state.random_step)
    trainer.epochs_trained = state.epochs_trained
