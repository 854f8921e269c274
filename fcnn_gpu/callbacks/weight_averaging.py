"""EMA and SWA: means of the weights over the steps and over the epochs of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from .._checks import check_bool, check_integer, check_real
from .._types import Array
from ..layers import BatchNorm
from ..model import Sequential
from ._base import Callback, History, Trainer, answering


@dataclass
class _WeightAveraging(Callback):
    """A mean of all parameters, in a buffer beside theirs on the device, which the model has in the end.

    While the run lasts, with `validate`, the model has the mean for the validation data and for what callbacks do at
    the end of the epoch: what they save or keep is the mean too. An epoch's weights that another callback restores in
    the end stay. So do the last weights where the run ends in an error. Weights that `Dense` keeps within limits
    (`max_norm`, `unit_norm`, `non_negative`) are brought back within them: a mean of rows of norm 1 is shorter.
    """

    validate: bool = field(default=True, kw_only=True)
    n_averaged: int = field(init=False, default=0)
    """How many weights the mean has been made of."""

    def __post_init__(self) -> None:
        check_bool(f"{type(self).__name__}(validate)", self.validate)

    def on_train_begin(self, trainer: Trainer) -> None:
        model = trainer.model
        if model.stored is not None:
            raise ValueError(
                f"{type(self).__name__} keeps a mean of the weights on the device, and this network has weights on the "
                "host or on disk. Train without it, or keep the whole network on the device."
            )
        self.n_averaged = 0
        self._mean: Array = model.ops.copy(model.flat.values)
        self._spare: Array = model.ops.copy(model.flat.values)

    def validating(self, trainer: Trainer) -> AbstractContextManager[None]:
        return self._averaged(trainer, self.validate and self.n_averaged > 0)

    def on_train_end(self, trainer: Trainer, history: History) -> None:
        if self.n_averaged and history.stopped_by != "error" and history.best_epoch is None:
            self._give_mean(trainer)
        del self._mean, self._spare

    def _add(self, model: Sequential, share: float) -> None:
        """mean ← mean + share·(weights − mean): of weights that never change, such as frozen ones, the same bits."""
        ops = model.ops
        if share == 1.0:
            ops.assign(self._mean, model.flat.values)
        else:
            ops.scale(self._mean, -1.0, self._spare)
            ops.add(model.flat.values, self._spare, self._spare)
            ops.scale(self._spare, share, self._spare)
            ops.add(self._mean, self._spare, self._mean)
        self.n_averaged += 1

    def _give_mean(self, trainer: Trainer) -> None:
        """The mean to the model, within the limits of its rows."""
        model = trainer.model
        model.ops.assign(model.flat.values, self._mean)
        control = dataclasses.replace(trainer.optimizer.control, loss_scaling=None)  # also where a step was skipped
        for rows in model.flat.limited:
            model.ops.constrain(model.flat, control, rows)
        self._finish(model)

    def _finish(self, model: Sequential) -> None:
        """What else follows from the mean that the model has now."""
        model.refresh_low_precision()

    @contextmanager
    def _averaged(self, trainer: Trainer, averaged: bool) -> Iterator[None]:
        """Within, the model has the mean, if so."""
        if not averaged:
            yield
            return
        before = trainer.model.snapshot()
        self._give_mean(trainer)
        try:
            yield
        finally:
            trainer.model.restore(before)


@answering
@dataclass
class EMA(_WeightAveraging):
    """Exponential moving average: mean ← d·mean + (1 − d)·weights after every `every_steps` steps; the first is a copy.

    d is `decay`, with `warm_up` min(decay, (1 + n)/(10 + n)) for the n-th update, so that a short run forgets where it
    began. Running statistics (BatchNorm) are the last ones, moving averages by themselves. Source: Polyak & Juditsky
    (1992); the warm-up is TensorFlow's `ExponentialMovingAverage(num_updates=)`.
    """

    decay: float = 0.999
    warm_up: bool = False
    every_steps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_real("EMA(decay)", self.decay, low=0.0, high=1.0, high_open=True)
        check_bool("EMA(warm_up)", self.warm_up)
        check_integer("EMA(every_steps)", self.every_steps, low=1)

    def on_step(self, trainer: Trainer, step: int, read_loss: Callable[[], float]) -> None:
        n = self.n_averaged
        decay = min(self.decay, (1.0 + n) / (10.0 + n)) if self.warm_up else self.decay
        self._add(trainer.model, 1.0 if n == 0 else 1.0 - decay)


@answering
@dataclass
class SWA(_WeightAveraging):
    """Stochastic weight averaging: the equal mean of the weights after each epoch from `start` on.

    mean ← mean + (weights − mean)/(n + 1). The running statistics of BatchNorm are those of no such weights: they are
    made anew by a pass in training over `statistics_from`, an array X as `fit` takes it, in batches of `batch_size`
    (`update_batch_norm`); a network that has some is refused without it. Source: Izmailov et al. (2018).
    """

    start: int = 1
    statistics_from: Any = field(default=None, repr=False)
    batch_size: int = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("SWA(start)", self.start, low=1)
        check_integer("SWA(batch_size)", self.batch_size, low=2)

    def on_train_begin(self, trainer: Trainer) -> None:
        model = trainer.model
        if self.start > trainer.n_epochs:
            raise ValueError(f"SWA(start) is epoch {self.start}, but this run has {trainer.n_epochs}. Start earlier.")
        if self.statistics_from is None and _moving(model):
            raise ValueError(
                "SWA needs samples for the running statistics of BatchNorm, which belong to other weights than the "
                "mean. Give it those that are trained on: SWA(..., statistics_from=X)."
            )
        if self.statistics_from is not None and _moving(model) and not model.awaits_data:
            model.forward(self.statistics_from[:2])  # an array that does not fit is an error now
        self.every_steps = trainer.steps_per_epoch
        super().on_train_begin(trainer)

    def on_step(self, trainer: Trainer, step: int, read_loss: Callable[[], float]) -> None:
        if step // self.every_steps >= self.start:
            self._add(trainer.model, 1.0 / (self.n_averaged + 1))

    def _finish(self, model: Sequential) -> None:
        super()._finish(model)
        if _moving(model):
            update_batch_norm(model, self.statistics_from, self.batch_size)


def update_batch_norm(model: Sequential, X: Any, batch_size: int = 1024) -> None:
    """Make the running statistics anew for the weights that the model has: their mean over the batches of X.

    Those of a `BatchNorm` that is frozen stay. A last batch of a single sample, which has no variance, is left out.
    Random draws go on as if nothing had been computed. Source: `torch.optim.swa_utils.update_bn`.
    """
    ops, n_draws, n = model.ops, model.ops.copy(model.random_step), len(X)
    live = [(array, layer.momentum) for layer in _moving(model) for array in layer.state().values()]
    sums = [ops.zeros(array.shape, array.dtype) for array, _ in live]
    starts = [start for start in range(0, n, batch_size) if start == 0 or n - start > 1]
    for start in starts:
        for array, _ in live:
            ops.fill(array, 0.0)  # a pass makes of it momentum times the batch's
        model.forward(X[start : start + batch_size], training=True)
        for (array, momentum), total in zip(live, sums, strict=True):
            ops.scale(array, 1.0 / (momentum * len(starts)), array)
            ops.add(total, array, total)
    for (array, _), total in zip(live, sums, strict=True):
        ops.assign(array, total)
    ops.assign(model.random_step, n_draws)


def _moving(model: Sequential) -> list[BatchNorm]:
    """The layers whose running statistics move in training."""
    layers = [layer for layer in model.walk() if isinstance(layer, BatchNorm)]
    return [layer for layer in layers if layer.momentum > 0.0 and not layer.is_frozen]
