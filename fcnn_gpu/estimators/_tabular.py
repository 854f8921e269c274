"""What the estimators for tables share: the preparation, the recipe, the run and what is kept of it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY
from typing import Any, ClassVar, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from .._arrays import as_array, quietly
from .._checks import check_bool, check_choice, check_integer, check_real
from .._types import HostArray
from ..backend import chosen_threads, default_backend, inherit_backend, inherit_threads, resolve_backend
from ..callbacks import Callback, EarlyStopping, KeepBest, check_callbacks
from ..data import Signature, check_parts, split_validation
from ..losses import EnsembleLoss, Loss, check_sample_weight
from ..metrics import Metric
from ..model import Sequential, rebuild
from ..tables import Table, TablePreparation
from ..tables.preparation import check_size
from ..training import History, Trainer
from ._constructor import shared_parameters
from ._recipes import RECIPES, Recipe

_DEFAULT, _THREADS = "_default_backend", "_threads"
"""Where a pickle says what `backend=None` stood for, and how many threads were chosen."""


@shared_parameters
class TabularParameters:
    """What the estimators for tables are constructed with: kept as given, and checked in `fit`."""

    _task: ClassVar[Literal["classification", "regression"]]

    preset: str = "default"
    _: KW_ONLY
    columns: Mapping[str, str] | None = None
    ignore: Sequence[str | int] = ()
    hidden_layer_sizes: Any = None
    learning_rate: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    dropout: float | None = None
    weight_decay: float | None = None
    validation_fraction: float = 0.2
    callbacks: Sequence[Callback] = ()
    random_state: Any = None
    backend: Any = None
    dtype: Any = "float32"
    verbose: bool = False


class TabularEstimator(TabularParameters, BaseEstimator):
    """What classifier and regressor for tables share."""

    preparation_: TablePreparation
    history_: History
    n_features_in_: int
    fit_seconds_: float
    _model: Any
    """The network; as the arguments of `rebuild` from unpickling on until it is used."""

    @property
    def model_(self) -> Sequential:
        """The fitted `Sequential`, which takes tables as they are: `save(path)`, `summary()`."""
        check_is_fitted(self)
        if isinstance(self._model, tuple):
            config, _, *rest = self._model
            self._model = rebuild(config, resolve_backend(self.backend), *rest)
        elif self.backend is not None and resolve_backend(self.backend) is not self._model.ops:
            self._model = rebuild(self._model.config(), resolve_backend(self.backend), *self._model.__reduce__()[1][2:])
        return self._model

    @property
    def best_epoch_(self) -> int:
        """The epoch whose weights the network has."""
        check_is_fitted(self)
        return self.history_.best_epoch or len(self.history_)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_model")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.non_deterministic = self.random_state is None
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """With arrays of the host in the place of the network, and no data: it opens on any backend."""
        state: dict[str, Any] = super().__getstate__()
        if isinstance(state.get("_model"), Sequential):
            state["_model"] = state["_model"].__reduce__()[1]
        chosen = {_DEFAULT: default_backend(), _THREADS: chosen_threads()}
        return state | {name: value for name, value in chosen.items() if value is not None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        inherit_backend(state.get(_DEFAULT))
        inherit_threads(state.get(_THREADS))
        super().__setstate__({name: value for name, value in state.items() if name not in (_DEFAULT, _THREADS)})

    # Fitting

    @quietly
    def _fit(self, X: Any, y: Any, sample_weight: Any, validation: Any) -> Self:
        before = dict(vars(self))
        try:
            interrupted = self._fit_or_raise(X, y, sample_weight, validation)
        except BaseException:
            self.__dict__ = before
            raise
        if interrupted:  # what called this fit, a search for example, would take the network for a whole run's
            raise KeyboardInterrupt(f"{type(self).__name__}.fit was interrupted; the estimator keeps the best so far.")
        return self

    def _fit_or_raise(self, X: Any, y: Any, sample_weight: Any, validation: Any) -> bool:
        started, who = time.perf_counter(), type(self).__name__
        if y is None:
            raise ValueError(f"{who} requires y to be passed, but the target y is None.")
        recipe = self._recipe()
        observers = check_callbacks(self.callbacks)
        seed = self._seed()
        table = Table.of(X, f"{who}.fit")
        check_size(table)
        targets, n_out = self._check_targets(y, len(table))
        weights = self._weights(sample_weight, targets)
        if validation is None:
            share = check_real(
                self._who("validation_fraction"), self.validation_fraction, low=0.0, high=1.0, high_open=True
            )
            train, held_out = self._split(table, targets, weights, share, seed)
        else:
            if not isinstance(validation, tuple | list) or len(validation) != 2:
                raise TypeError(f"{who}.fit: validation_data is (X, y), got {type(validation).__name__}.")
            train = table, targets, weights
            other = Table.of(validation[0], f"{who}.fit: validation_data")
            held_out = other, self._known_targets(validation[1], len(other), n_out), None
        preparation = TablePreparation(
            columns=self.columns,
            ignore=self.ignore,
            numbers=recipe.numbers,
            categories="codes" if recipe.embeds else "one_hot",
            dtype=self.dtype,
        ).fit(train[0])
        layers = recipe.layers(preparation, n_out)
        inputs = preparation.inputs(train[0])
        model = Sequential(layers, inputs.shape[1], seed=seed, backend=self.backend, dtype=self.dtype)
        scale = self._scale(train[1])
        loss = self._loss(recipe)
        metrics = [metric.for_task(loss.task(n_out)) for metric in self._metrics()]
        loss = loss if recipe.members == 1 else EnsembleLoss(loss, recipe.members)
        optimizer = recipe.optimizer(layers)
        trainer = Trainer(model, loss, optimizer, metrics)
        data = None
        if held_out is not None:
            data = (
                preparation.inputs(held_out[0]),
                scale(held_out[1]),
                *([held_out[2]] if held_out[2] is not None else []),
            )
            monitor, greater = self._monitor()
            observers.append(KeepBest(monitor, ties="last", greater_is_better=greater))
            if recipe.patience is not None:
                observers.append(EarlyStopping(monitor, recipe.patience, restore_best=False, greater_is_better=greater))
        batch_size = min(recipe.batch_size, len(inputs))
        n_steps = recipe.epochs * (len(inputs) // batch_size)
        if n_steps == 1 and not optimizer.schedule(0.0, float(recipe.epochs)):
            raise ValueError(
                f"{self._who('epochs')}=1 is a single step for {len(inputs)} samples in batches of {batch_size}, and "
                "the learning rate of the first step is 0. Take more epochs, or a smaller batch_size."
            )
        history = trainer.fit(
            inputs,
            scale(train[1]),
            epochs=recipe.epochs,
            batch_size=batch_size,
            drop_last=True,
            sample_weight=train[2],
            validation_data=data,
            callbacks=observers,
            progress=check_bool(self._who("verbose"), self.verbose),
        )
        interrupted = history.stopped_by == "interrupt"
        if interrupted and not history.records:
            raise KeyboardInterrupt(f"{who}.fit was interrupted before its first epoch was done.")
        self._finish(model, data)
        names = tuple(map(str, preparation.get_feature_names_out()))
        model.signature = dataclasses.replace(self._signature(train[1]), feature_names=names, preparation=preparation)
        model.link = loss.link
        self._model, self.preparation_, self.history_ = model, preparation, history
        self.n_features_in_ = preparation.n_features_in_
        if hasattr(preparation, "feature_names_in_"):
            self.feature_names_in_ = preparation.feature_names_in_
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self.fit_seconds_ = time.perf_counter() - started
        return interrupted

    def _recipe(self) -> Recipe:
        """The preset with what is given in its place. ValueError or TypeError for what cannot be."""
        recipe = RECIPES[check_choice(self._who("preset"), self.preset, RECIPES)][self._task]
        given: dict[str, Any] = {}
        sizes = self.hidden_layer_sizes
        if sizes is not None:
            sizes = (sizes,) if not isinstance(sizes, Sequence | np.ndarray) or isinstance(sizes, str) else sizes
            who = self._who("hidden_layer_sizes")
            given["hidden_layer_sizes"] = tuple(check_integer(who, size, low=1) for size in sizes)
        for name in ("epochs", "batch_size"):
            if getattr(self, name) is not None:
                given[name] = check_integer(self._who(name), getattr(self, name), low=1)
        for name in ("learning_rate", "weight_decay"):
            if getattr(self, name) is not None:
                given[name] = check_real(
                    self._who(name), getattr(self, name), low=0.0, low_open=name == "learning_rate"
                )
        if self.dropout is not None:
            given["dropout"] = check_real(self._who("dropout"), self.dropout, low=0.0, high=1.0, high_open=True)
        made: Recipe = dataclasses.replace(recipe, **given, **self._own_settings())
        return made

    def _own_settings(self) -> dict[str, Any]:
        """Fields of the recipe that parameters of the subclass give."""
        return {}

    def _split(
        self, table: Table, targets: HostArray, weights: HostArray | None, share: float, seed: int
    ) -> tuple[Any, Any]:
        """(table, targets, weights) to train on and to choose the best epoch by; None for none."""
        if not share:
            return (table, targets, weights), None
        option, else_use = self._who("validation_fraction"), "0"
        rows = split_validation(len(table), share, targets, seed, option, else_use)
        if weights is not None:
            check_parts(weights[rows[0]], weights[rows[1]], share, option, else_use)
        return tuple((table.take(part), targets[part], None if weights is None else weights[part]) for part in rows)  # type: ignore[return-value]

    def _weights(self, sample_weight: Any, targets: HostArray) -> HostArray | None:
        """Sample times class weights, scaled to mean 1."""
        factors = self._class_factors(targets)
        if sample_weight is None and factors is None:
            return None
        weights = np.ones(len(targets)) if factors is None else factors
        if sample_weight is not None:
            given = as_array(sample_weight, f"{type(self).__name__}.fit: sample_weight")
            own = check_sample_weight(_check_sample_weight(given, targets), len(targets), np.float64)
            weights = weights * own
        scale = weights.mean() if weights.any() else 1.0
        return check_sample_weight(weights / scale, len(targets), np.dtype(self.dtype), "sample_weight")

    def _seed(self) -> int:
        state = self.random_state
        if state is None or isinstance(state, np.random.RandomState):
            return int(check_random_state(state).randint(2**31 - 1))
        return check_integer(self._who("random_state"), state, low=0)

    def _who(self, parameter: str) -> str:
        return f"{type(self).__name__}({parameter})"

    # What the subclasses define

    def _check_targets(self, y: Any, n: int) -> tuple[HostArray, int]:
        """(targets, number of outputs) for `y` of so many samples; sets what the estimator remembers of it."""
        raise NotImplementedError(f"{type(self).__name__} must define _check_targets(y, n).")

    def _known_targets(self, y: Any, n: int, n_targets: int) -> HostArray:
        """Targets of other samples, as those of the training samples are."""
        raise NotImplementedError(f"{type(self).__name__} must define _known_targets(y, n, n_targets).")

    def _loss(self, recipe: Recipe) -> Loss:
        raise NotImplementedError(f"{type(self).__name__} must define _loss(recipe).")

    def _metrics(self) -> list[Metric]:
        raise NotImplementedError(f"{type(self).__name__} must define _metrics().")

    def _monitor(self) -> tuple[str, bool]:
        """The column of the history that says which epoch is best, and whether more of it is better."""
        raise NotImplementedError(f"{type(self).__name__} must define _monitor().")

    def _class_factors(self, targets: HostArray) -> HostArray | None:
        """The weight of each sample's class, if classes have weights."""
        return None

    def _scale(self, targets: HostArray) -> Any:
        """A function from targets to what the network is trained on."""
        return lambda values: values

    def _finish(self, model: Sequential, held_out: Any) -> None:
        """What becomes of the trained network before it is used."""

    def _signature(self, targets: HostArray) -> Signature:
        """What the network says of its outputs."""
        raise NotImplementedError(f"{type(self).__name__} must define _signature(targets).")

    # What it is good for

    def _inputs(self, X: Any) -> HostArray:
        check_is_fitted(self)
        return self.preparation_.inputs(X)

    @quietly
    def feature_importances(
        self, X: Any, y: Any, n_repeats: int = 5, random_state: int | None = 0, sample_weight: Any = None
    ) -> Bunch:
        """How much worse `score` is on held-out X, y when one column at a time is shuffled (Breiman 2001, section 10).

        All inputs that are made of a column are shuffled together. Returns a Bunch of `names` (the columns that are
        used), `importances` (n_columns, n_repeats), `importances_mean` and `importances_std`, the score lost. Columns
        that say the same as others look unimportant: each is still there when the other is shuffled. Training data
        would show what the network has learned by heart.
        """
        check_is_fitted(self)
        check_integer("feature_importances(n_repeats)", n_repeats, low=1)
        preparation, rng = self.preparation_, np.random.default_rng(random_state)
        inputs = preparation.inputs(X)
        score = self._score_of(inputs, y, sample_weight)
        lost, start = [], 0
        for n in preparation.n_inputs_.values():
            columns = slice(start, start + n)
            shuffled = inputs.copy()
            row = []
            for _ in range(n_repeats):
                shuffled[:, columns] = inputs[rng.permutation(len(inputs)), columns]
                row.append(score - self._score_of(shuffled, y, sample_weight))
            lost.append(row)
            start += n
        importances = np.array(lost)
        return Bunch(
            names=list(preparation.n_inputs_),
            importances=importances,
            importances_mean=importances.mean(axis=1),
            importances_std=importances.std(axis=1),
        )

    def _score_of(self, inputs: HostArray, y: Any, sample_weight: Any) -> float:
        """`score` of inputs that are made already."""
        raise NotImplementedError(f"{type(self).__name__} must define _score_of(inputs, y, sample_weight).")
