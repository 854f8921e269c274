"""One network, or one for each fold, within the time that there is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np

from .._checks import check_integer
from .._types import HostArray
from ..backend import resolve_backend
from ..callbacks import Callback, Deadline
from ..training import interruptible
from ._deadline import affordable
from ._folds import Fold, folds_of
from ._run import Fitted, Run
from ._samples import Samples


@dataclass(frozen=True)
class Member:
    """The network of a fold, and what it predicts for the `rows` that the fold holds out."""

    fitted: Fitted
    rows: HostArray
    predictions: HostArray


@dataclass(frozen=True)
class Bag:
    """The networks of the folds; `interrupted`: not of all, or one of them has not been trained to its end."""

    members: list[Member]
    interrupted: bool

    def out_of_fold(self, n_samples: int) -> HostArray:
        """Predictions (n_samples, n_predictions): means over the networks that held a sample out, NaN without one."""
        first = self.members[0].predictions
        count, sums = np.zeros((n_samples, 1), first.dtype), np.zeros((n_samples, first.shape[1]), first.dtype)
        for member in self.members:
            sums[member.rows] += member.predictions
            count[member.rows] += 1
        return np.divide(sums, count, out=np.full_like(sums, np.nan), where=count > 0)


def check_n_jobs(who: str, n_jobs: Any) -> int | None:
    """How many processes or threads; −1 are all cores, −2 all but one, as in scikit-learn, None is None."""
    if n_jobs is None:
        return None
    if check_integer(who, n_jobs) == 0:
        raise ValueError(f"{who} expects at least 1, or -1 for all cores, got 0.")
    return int(joblib.effective_n_jobs(n_jobs))


def train_one(
    run: Run,
    samples: Samples,
    held_out: Samples | None,
    seed: int,
    callbacks: Sequence[Callback],
    until: Deadline | None,
) -> Fitted:
    """One network, with fewer epochs where a time limit asks for it."""
    if until is None:
        return run.train(samples, held_out, seed, callbacks)
    per_epoch = run.seconds_per_epoch(samples, held_out, seed)
    _, epochs = affordable(until.left, per_epoch, run.recipe.epochs, n_folds=1, fewest=1)
    return run.of_epochs(epochs).train(samples, held_out, seed, callbacks, until.left)


def train_folds(
    run: Run,
    samples: Samples,
    folds: Sequence[Fold],
    may_be_fewer: bool,
    seed: int,
    callbacks: Sequence[Callback],
    until: Deadline | None,
    tell: Callable[[int, int, Member], None] | None = None,
) -> Bag:
    """A network for each fold, `run.threads` of them at a time, each in a process of its own where they are several.

    `may_be_fewer`: where time is short, fewer folds may be dealt. `tell` is called with each network that is there: its
    number from 0, and how many there will be.
    """
    _check_weights(run.who, samples.weights, folds)
    ops, at_once = resolve_backend(run.backend), min(run.threads or 1, len(folds))
    if ops.asynchronous:
        at_once = 1  # a GPU serves one network at a time
    workers = None
    if at_once > 1:
        if callbacks:
            raise ValueError(
                f"{run.who}(callbacks) watch runs in this process, and n_jobs={run.threads} trains folds in others. "
                "Leave out one of them."
            )
        workers = joblib.Parallel(at_once, verbose=10 if run.progress else 0, batch_size=1)
        threads = max(1, (run.threads or 1) // at_once)
        run = dataclasses.replace(run, backend=ops.name, threads=threads, progress=False)
    if until is not None:
        if workers is not None:
            workers(joblib.delayed(_begin)(run.backend) for _ in range(at_once))  # that takes seconds
        train, held_out = folds[0]
        per_epoch = run.seconds_per_epoch(samples.take(train), samples.take(held_out), seed)
        fewest = 2 if may_be_fewer else len(folds)
        n_folds, epochs = affordable(until.left, per_epoch, run.recipe.epochs, len(folds), fewest, at_once)
        run = run.of_epochs(epochs)
        if n_folds < len(folds):
            folds = folds_of(n_folds, samples.targets, seed, f"{run.who}(cv)")
            _check_weights(run.who, samples.weights, folds)
    seeds = np.random.SeedSequence(seed).generate_state(len(folds)).tolist()
    members: list[Member] = []
    interrupted = False
    with interruptible() as pressed:  # a terminal's Ctrl-C reaches the other processes as well: they end their epoch
        try:
            for round_ in in_rounds(len(folds), at_once):
                seconds = None if until is None else until.left / -(-(len(folds) - round_.start) // at_once)
                if workers is None:
                    i = round_.start
                    members.append(_train_fold(run, samples, folds[i], seeds[i], seconds, callbacks, i + 1))
                else:
                    jobs = (joblib.delayed(_train_fold)(run, samples, folds[i], seeds[i], seconds) for i in round_)
                    members += workers(jobs)
                if tell is not None:
                    for i in round_:
                        tell(i, len(folds), members[i])
                interrupted = pressed() or any(member.fitted.interrupted for member in members)
                if interrupted:
                    break
        except BaseException as error:
            # before the first epoch of a fold was done; or another process was interrupted where it trains nothing
            if not isinstance(error, KeyboardInterrupt) and (workers is None or not pressed()):
                raise
            if not members:
                raise KeyboardInterrupt(f"{run.who}.fit was interrupted before a fold was done.") from None
            interrupted = True
    whole = [member for member in members if not member.fitted.interrupted]
    return Bag(whole or members, interrupted)  # half a run is not worth the mean with whole ones


def in_rounds(n: int, at_once: int) -> Iterator[range]:
    """0, 1, ..., n − 1, so many at a time.

    >>> list(in_rounds(5, 2))
    [range(0, 2), range(2, 4), range(4, 5)]
    """
    return (range(first, min(first + at_once, n)) for first in range(0, n, at_once))


def _begin(backend: str) -> None:
    """In a process of its own, load what training needs."""
    resolve_backend(backend)


def _check_weights(who: str, weights: HostArray | None, folds: Sequence[Fold]) -> None:
    if weights is None:
        return
    for fold in folds:
        for rows, does in zip(fold, ("trains on", "holds out"), strict=True):
            if not weights[rows].any():
                raise ValueError(
                    f"{who}(cv): a fold {does} {len(rows)} samples, and the weight of each of them is 0. Take fewer "
                    "folds, or give more samples a weight."
                )


def _train_fold(
    run: Run,
    samples: Samples,
    fold: Fold,
    seed: int,
    seconds: float | None,
    callbacks: Sequence[Callback] = (),
    number: int | None = None,
) -> Member:
    train, held_out = (samples.take(rows) for rows in fold)
    fitted = run.train(train, held_out, seed, callbacks, seconds, number)
    return Member(fitted, fold[1], run.predictions(fitted.model, held_out.inputs))
