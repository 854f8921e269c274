"""The training of one network for tables: from a recipe and prepared samples to a network that is ready for use."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from .._types import HostArray
from ..callbacks import Callback, EarlyStopping, KeepBest, TimeLimit, progress_display
from ..losses import EnsembleLoss
from ..model import Sequential
from ..tables import TablePreparation
from ..training import History, OwnUnits, Trainer
from ._recipes import Recipe
from ._samples import Samples
from ._tasks import Task


class Fitted(NamedTuple):
    """A network, its run, and the temperature that its outputs were divided by."""

    model: Sequential
    history: History
    temperature: float

    @property
    def interrupted(self) -> bool:
        return self.history.stopped_by == "interrupt"


@dataclass(frozen=True)
class Run:
    """How a network is trained: `recipe`, behind `preparation`, for `task`, with `n_out` outputs.

    `who` is the estimator, for messages, `threads` those of the CPU (None: `fcnn_gpu.threads()`); precision and memory
    limit are those of `Sequential`.
    """

    who: str
    recipe: Recipe
    task: Task
    preparation: TablePreparation
    n_out: int
    backend: Any
    dtype: Any
    threads: int | None = None
    progress: bool | str = False
    precision: str | None = None
    memory_limit: int | None = None

    def batch_size(self, n: int) -> int:
        """That of n samples."""
        return min(self.recipe.batch_size, n)

    def network(self, n_in: int, seed: int) -> Sequential:
        """The network before its training."""
        return Sequential(
            self.recipe.layers(self.preparation, self.n_out),
            n_in,
            seed=seed,
            backend=self.backend,
            dtype=self.dtype,
            precision=self.precision,
            memory_limit=self.memory_limit,
        )

    def train(
        self,
        samples: Samples,
        held_out: Samples | None,
        seed: int,
        callbacks: Iterable[Callback] = (),
        seconds: float | None = None,
        fold: int | None = None,
    ) -> Fitted:
        """The network of the epoch that is best on the held-out samples, or of the last without such.

        Samples of weight 0 have no part in it. A run that would last longer than `seconds` ends after an epoch, the
        second or a later one. KeyboardInterrupt where it ends in the first. `fold`: its number, from 1, among several.
        """
        samples, held_out = samples.that_count(), None if held_out is None else held_out.that_count()
        recipe, n = self.recipe, len(samples.inputs)
        model = self.network(samples.inputs.shape[1], seed)
        loss = self.task.loss(recipe)
        scaling = self.task.scaling(samples.targets, model.precision)

        def scaled(part: Samples) -> HostArray:
            return part.targets if scaling is None else scaling.apply(part.targets, self.dtype)

        targets = scaled(samples)
        metrics = [metric.for_task(loss.task(self.n_out)) for metric in self.task.metrics(targets)]
        optimizer = recipe.optimizer(list(model.layers))
        trained_by = loss if recipe.members == 1 else EnsembleLoss(loss, recipe.members)
        trainer = Trainer(model, trained_by, optimizer, metrics)
        trainer.fold = fold
        batch_size = self.batch_size(n)
        if recipe.epochs * (n // batch_size) == 1 and not optimizer.schedule(0.0, float(recipe.epochs)):
            raise ValueError(
                f"{self.who}(epochs)=1 is a single step for {n} samples in batches of {batch_size}, and the learning "
                "rate of the first step is 0. Take more epochs, or a smaller batch_size."
            )
        validation = None
        observers: list[Callback] = []
        if held_out is not None:
            validation = (held_out.inputs, scaled(held_out), *([] if held_out.weights is None else [held_out.weights]))
            monitor, greater = self.task.monitor()
            observers.append(KeepBest(monitor, ties=recipe.ties, greater_is_better=greater))
            if recipe.patience is not None:
                observers.append(EarlyStopping(monitor, recipe.patience, restore_best=False, greater_is_better=greater))
        if seconds is not None:
            observers.append(TimeLimit(seconds, min_epochs=2))  # the first may be a single step, of rate 0
        shown = [*callbacks, *progress_display("fit(progress)", self.progress)]
        observers.append(OwnUnits(scaling, loss, shown))
        history = trainer.fit(
            samples.inputs,
            targets,
            epochs=recipe.epochs,
            batch_size=batch_size,
            drop_last=recipe.drop_last,
            sample_weight=samples.weights,
            validation_data=validation,
            callbacks=observers,
            progress=False,
            threads=self.threads,
        )
        if history.stopped_by == "interrupt" and not history.records:
            raise KeyboardInterrupt(f"{self.who}.fit was interrupted before its first epoch was done.")
        temperature = self.task.finish(model, held_out, scaling)
        model.link = loss.link
        return Fitted(model, history, temperature)

    def predictions(self, model: Sequential, inputs: HostArray) -> HostArray:
        """(n, n_predictions): probabilities, or values, the mean of the members' where there are several."""
        return model.infer(inputs, model.link, None, f"{self.who}.fit", True)

    def of_epochs(self, epochs: int) -> Run:
        """The same with another number of epochs."""
        return dataclasses.replace(self, recipe=dataclasses.replace(self.recipe, epochs=epochs))  # type: ignore[type-var]

    def seconds_per_epoch(self, samples: Samples, held_out: Samples | None, seed: int) -> float:
        """How long an epoch takes here, validation included: two are run, and the second is timed."""
        clock = _Clock()
        trial = dataclasses.replace(self.of_epochs(2), progress=False)
        if trial.train(samples, held_out, seed, [clock]).interrupted:
            raise KeyboardInterrupt(f"{self.who}.fit was interrupted while it measured how long an epoch takes.")
        return clock.ends[1] - clock.ends[0]


class _Clock(Callback):
    """When epochs end."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_epoch_end(self, trainer: Any, record: dict[str, float]) -> None:
        self.ends.append(time.perf_counter())
