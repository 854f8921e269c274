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
from .._checks import check_choice, check_integer, check_real, check_seconds
from .._types import HostArray
from ..backend import chosen_threads, default_backend, inherit_backend, inherit_threads, resolve_backend
from ..callbacks import Callback, Deadline, check_callbacks, progress_of_verbose
from ..data import Signature, check_parts, split_validation
from ..explain import scores_lost
from ..losses import check_sample_weight
from ..model import Sequential, rebuild
from ..tables import Table, TablePreparation
from ..tables.preparation import check_size
from ..training import History
from ._bag import check_n_jobs, train_folds, train_one
from ._constructor import shared_parameters
from ._folds import folds_of
from ._recipes import FOLDS, RECIPES, Recipe
from ._run import Run
from ._samples import Samples, to_mean_one
from ._tasks import Task

_DEFAULT, _THREADS = "_default_backend", "_threads"
"""Where a pickle says what `backend=None` stood for, and how many threads were chosen."""


@shared_parameters
class TabularParameters:
    """What the estimators for tables are constructed with: kept as given, and checked in `fit`."""

    _kind: ClassVar[Literal["classification", "regression"]]

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
    cv: Any = None
    time_limit: float | str | None = None
    n_jobs: int | None = None
    callbacks: Sequence[Callback] = ()
    random_state: Any = None
    backend: Any = None
    dtype: Any = "float32"
    verbose: bool | int = False


class TabularEstimator(TabularParameters, BaseEstimator):
    """What classifier and regressor for tables share."""

    preparation_: TablePreparation
    history_: Any
    temperature_: Any
    out_of_fold_: HostArray
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
    def best_epoch_(self) -> Any:
        """The epoch whose weights the network has; of several folds, each network's."""
        check_is_fitted(self)
        if isinstance(self.history_, History):
            return self.history_.best_epoch or len(self.history_)
        return [history.best_epoch or len(history) for history in self.history_]

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
        recipe, cv = self._recipe(), self._cv(validation)
        deadline, n_jobs = self._deadline(started), check_n_jobs(self._who("n_jobs"), self.n_jobs)
        observers, seed = check_callbacks(self.callbacks), self._seed()
        table = Table.of(X, f"{who}.fit")
        check_size(table)
        targets, n_out = self._check_targets(y, len(table))
        task = self._task_of()
        rows = table, targets, self._weights(sample_weight, targets)
        folds = () if cv is None else folds_of(cv, targets, seed, self._who("cv"))
        train, held_out = (rows, None) if cv is not None else self._parts(rows, validation, seed)
        learned_from, known = train[0], train[1]
        if train[2] is not None and not train[2].all():  # what has weight 0 has no part in anything
            counted = np.flatnonzero(train[2])
            learned_from, known = learned_from.take(counted), known[counted]
        preparation = TablePreparation(
            columns=self.columns, ignore=self.ignore, dtype=self.dtype, **recipe.preparation
        ).fit(learned_from)
        samples = Samples(preparation.inputs(train[0]), *train[1:])
        progress = progress_of_verbose(self._who("verbose"), self.verbose)
        recipe = recipe.for_samples(len(samples.inputs))
        run = Run(who, recipe, task, preparation, n_out, self.backend, self.dtype, n_jobs, progress)
        signature = dataclasses.replace(
            self._signature(known),
            feature_names=tuple(map(str, preparation.get_feature_names_out())),
            preparation=preparation,
        )
        if cv is None:
            others = None if held_out is None else Samples(preparation.inputs(held_out[0]), *held_out[1:])
            fitted = train_one(run, samples, others, seed, observers, deadline)
            model, self.history_, interrupted = fitted.model, fitted.history, fitted.interrupted
            temperature: Any = fitted.temperature
            if others is not None:
                self._learn_from(run.predictions(model, others.inputs), others)
            self.__dict__.pop("out_of_fold_", None)
        else:
            may_be_fewer = isinstance(cv, int | np.integer)
            bag = train_folds(run, samples, folds, may_be_fewer, seed, observers, deadline)
            each, interrupted = [member.fitted for member in bag.members], bag.interrupted
            model, self.history_ = Sequential.join_members([one.model for one in each]), [one.history for one in each]
            temperature = np.array([one.temperature for one in each])
            predictions = bag.out_of_fold(len(table))
            predicted = np.flatnonzero(np.isfinite(predictions[:, 0]))
            self._learn_from(predictions[predicted], samples.take(predicted))
            self.out_of_fold_ = self._as_given(signature.clamped(predictions))
        model.signature = self._finished(signature)
        self._model, self.preparation_, self.temperature_ = model, preparation, temperature
        self.n_features_in_ = preparation.n_features_in_
        if hasattr(preparation, "feature_names_in_"):
            self.feature_names_in_ = preparation.feature_names_in_
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self.fit_seconds_ = time.perf_counter() - started
        return interrupted

    def _cv(self, validation: Any) -> Any:
        """What makes the folds; None for one network."""
        cv = FOLDS.get(self.preset) if self.cv is None else self.cv
        if cv is not None and validation is not None:
            raise ValueError(
                f"{type(self).__name__}.fit: each fold of {self._who('cv')} is validated by the samples that it holds "
                "out. Leave out validation_data, or take cv=None and another preset than 'best'."
            )
        return cv

    def _deadline(self, started: float) -> Deadline | None:
        seconds = check_seconds(self._who("time_limit"), self.time_limit)
        return None if seconds is None else Deadline(seconds, started)

    def _parts(self, rows: Any, validation: Any, seed: int) -> tuple[Any, Any]:
        """(table, targets, weights) to train on and to choose the best epoch by; None for none."""
        who, (table, targets, weights) = f"{type(self).__name__}.fit", rows
        if validation is not None:
            if not isinstance(validation, tuple | list) or len(validation) != 2:
                raise TypeError(f"{who}: validation_data is (X, y), got {type(validation).__name__}.")
            other = Table.of(validation[0], f"{who}: validation_data")
            return rows, (other, self._known_targets(validation[1], len(other), targets), None)
        share = check_real(
            self._who("validation_fraction"), self.validation_fraction, low=0.0, high=1.0, high_open=True
        )
        if not share:
            self._check_nothing_is_held_out()
            return rows, None
        option, else_use = self._who("validation_fraction"), "0"
        parts = split_validation(len(table), share, targets, seed, option, else_use)
        if weights is not None:
            check_parts(weights[parts[0]], weights[parts[1]], share, option, else_use)
        return tuple((table.take(part), targets[part], None if weights is None else weights[part]) for part in parts)  # type: ignore[return-value]

    def _recipe(self) -> Recipe:
        """The preset with what is given in its place. ValueError or TypeError for what cannot be."""
        recipe = RECIPES[check_choice(self._who("preset"), self.preset, RECIPES)][self._kind]
        given: dict[str, Any] = {}
        sizes = self.hidden_layer_sizes
        if sizes is not None:
            sizes = (sizes,) if not isinstance(sizes, Sequence | np.ndarray) or isinstance(sizes, str) else sizes
            who = self._who("hidden_layer_sizes")
            given["hidden_layer_sizes"] = tuple(check_integer(who, size, low=1) for size in sizes)
        for name in ("epochs", "batch_size"):
            if getattr(self, name) is not None:
                given[name] = check_integer(self._who(name), getattr(self, name), low=1)
        if "epochs" in given:
            given["most_steps"] = None
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
        return to_mean_one(weights, self.dtype)

    def _seed(self) -> int:
        state = self.random_state
        if state is None or isinstance(state, np.random.RandomState):
            return int(check_random_state(state).randint(2**31 - 1))
        return check_integer(self._who("random_state"), state, low=0)

    def _who(self, parameter: str) -> str:
        return f"{type(self).__name__}({parameter})"

    # What the subclasses define

    def _task_of(self) -> Task:
        """What the network is trained for, once the targets have been looked at."""
        raise NotImplementedError(f"{type(self).__name__} must define _task_of().")

    def _check_targets(self, y: Any, n: int) -> tuple[HostArray, int]:
        """(targets, number of outputs) for `y` of so many samples; sets what the estimator remembers of it."""
        raise NotImplementedError(f"{type(self).__name__} must define _check_targets(y, n).")

    def _known_targets(self, y: Any, n: int, targets: HostArray) -> HostArray:
        """Targets of other samples, as those of the training samples are."""
        raise NotImplementedError(f"{type(self).__name__} must define _known_targets(y, n, targets).")

    def _class_factors(self, targets: HostArray) -> HostArray | None:
        """The weight of each sample's class, if classes have weights."""
        return None

    def _check_nothing_is_held_out(self) -> None:
        """ValueError where something is to be learned from samples that are held out."""

    def _learn_from(self, predictions: HostArray, samples: Samples) -> None:
        """What is learned from the predictions for samples that were held out."""

    def _finished(self, signature: Signature) -> Signature:
        """The signature with what was learned from held-out samples."""
        return signature

    def _as_given(self, predictions: HostArray) -> HostArray:
        """A network's predictions in the shape that this estimator gives them in."""
        return predictions

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
        preparation = self.preparation_
        _, importances = scores_lost(
            lambda inputs: self._score_of(inputs, y, sample_weight),
            preparation.inputs(X),
            list(preparation.places_.values()),
            n_repeats,
            np.random.default_rng(random_state),
        )
        return Bunch(
            names=list(preparation.places_),
            importances=importances,
            importances_mean=importances.mean(axis=1),
            importances_std=importances.std(axis=1),
        )

    def _score_of(self, inputs: HostArray, y: Any, sample_weight: Any) -> float:
        """`score` of inputs that are made already."""
        raise NotImplementedError(f"{type(self).__name__} must define _score_of(inputs, y, sample_weight).")
