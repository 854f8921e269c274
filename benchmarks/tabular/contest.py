"""The contest on one table: splits by seed, fits in turn, scores on what nobody was trained on."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend import chosen_threads

from .datasets import Table
from .models import Job, Model, Rules

TEST_SHARE = 0.2


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    n_seeds: int = 5
    first_seed: int = 0
    """The defaults of ours were chosen by seeds 0 to 4."""
    epochs: int = 100
    """Where all settings are equal."""
    n_threads: int = 1
    """Of every library."""
    least_seconds: float = 0.5
    """Shorter fits are repeated for about so long, in turn, and their median counts."""
    most_fits: int = 15
    """Of one model with one seed."""


@dataclass
class Outcome:
    """What one model did on one table under one set of rules: a number for each seed."""

    table: str
    rules: Rules
    model: str
    task: str
    n_samples: int
    n_features: int
    scores: list[float] = field(default_factory=list)
    """Accuracy or R² on the test part."""
    seconds: list[float] = field(default_factory=list)
    """Of a fit, the median of its repetitions."""
    epochs: list[int] = field(default_factory=list)
    """Passes over the data, 0 for models that have none."""
    unfinished: int = 0
    """Fits that warned that they had not converged."""


@dataclass(frozen=True)
class Split:
    """A table in two parts, standardized by the first: the features, and a regression's values too."""

    X_train: HostArray
    y_train: HostArray
    X_test: HostArray
    y_test: HostArray


def split(table: Table, seed: int) -> Split:
    """80 % to train on and 20 % to test, drawn by the seed, class by class."""
    labels = table.y if table.task == "classification" else None
    X, X_test, y, y_test = train_test_split(table.X, table.y, test_size=TEST_SHARE, random_state=seed, stratify=labels)
    scaler = StandardScaler().fit(X)
    X, X_test = scaler.transform(X), scaler.transform(X_test)
    if labels is None:
        mean, std = y.mean(), y.std()
        y, y_test = (y - mean) / std, (y_test - mean) / std
    return Split(X, y, X_test, y_test)


def contest(table: Table, models: Sequence[Model], rules: Sequence[Rules], plan: Plan) -> list[Outcome]:
    """All models on one table. Whose turn is first changes with every seed and repetition."""
    outcomes = []
    before = chosen_threads()
    fcnn.set_threads(plan.n_threads)
    try:
        with threadpool_limits(plan.n_threads), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # they are counted
            for rule in rules:
                outcomes += _under(rule, table, models, plan)
    finally:
        fcnn.set_threads(before)
    return outcomes


def _under(rules: Rules, table: Table, models: Sequence[Model], plan: Plan) -> list[Outcome]:
    outcomes: dict[str, Outcome] = {}
    for seed in range(plan.first_seed, plan.first_seed + plan.n_seeds):
        part = split(table, seed)
        job = Job(rules, table.task, len(part.X_train), plan.epochs, seed)
        taking_part = [model for model in models if model.make(job) is not None]
        seconds: dict[str, list[float]] = {model.name: [] for model in taking_part}
        if seed == plan.first_seed:
            for model in taking_part:
                outcomes[model.name] = Outcome(table.name, rules, model.name, table.task, *table.X.shape)
                _warm_up(model, job, part)
        for round_ in range(plan.most_fits):
            left = [model for model in taking_part if round_ == 0 or sum(seconds[model.name]) < plan.least_seconds]
            for model in _rotated(left, seed + round_):
                estimator: Any = model.make(job)
                with warnings.catch_warnings(record=True) as told:
                    warnings.simplefilter("always", ConvergenceWarning)
                    start = time.perf_counter()
                    estimator.fit(part.X_train, part.y_train)
                    seconds[model.name].append(time.perf_counter() - start)
                if round_ == 0:  # the others are the same, with the same seed
                    outcome = outcomes[model.name]
                    outcome.scores.append(float(estimator.score(part.X_test, part.y_test)))
                    outcome.epochs.append(int(getattr(estimator, "n_iter_", 0)))
                    outcome.unfinished += any(issubclass(w.category, ConvergenceWarning) for w in told)
        for name, times in seconds.items():
            outcomes[name].seconds.append(float(np.median(times)))
    return list(outcomes.values())


def _warm_up(model: Model, job: Job, part: Split) -> None:
    """What a process does once, such as to load kernels, is in no time."""
    estimator: Any = model.make(job)
    few = np.random.default_rng(0).permutation(len(part.X_train))[: 10 * job.batch_size]
    y = part.y_train[few]
    if job.task == "regression" or len(np.unique(y)) > 1:
        estimator.fit(part.X_train[few], y)


def _rotated(models: Sequence[Model], by: int) -> Iterator[Model]:
    return (models[(i + by) % len(models)] for i in range(len(models)))
