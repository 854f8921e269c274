"""One epoch under way: how far it has come, and the way back to the end of a step that was sound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..schedules import rates_of_epoch
from ._diagnosis import DivergenceError, find_fault
from ._step import REPLAYING, TrainingStep, copies_of_state

if TYPE_CHECKING:
    from .trainer import Trainer


class Epoch:
    """Counts the steps of an epoch of `n_samples`, and can put back what one that fails has changed.

    That is the position in the data and its order of draws, the learning rate, and the running statistics, of which
    there are copies: a pass that overflows spoils them before its loss shows it. One object serves all epochs of a run.
    """

    def __init__(self, trainer: Trainer, step: TrainingStep, n_samples: int) -> None:
        self._trainer, self._step = trainer, step
        self.n_samples = n_samples
        self.number = 0
        self.n_done = 0
        """Steps that have been taken, as far as the host knows."""
        self.scheduled = False
        """Whether the learning rate changes within the epoch, so that each step takes its own."""
        self.learning_rate = float("nan")
        """That of the epoch's last step."""
        self.guarded = False
        """Whether each update must be looked at, because parameters may overflow in it."""
        self._safe_until, self._safe_rate = 0, 0.0
        """As many of the epoch's steps are known to leave all parameters finite."""
        self._rates = np.full(trainer.steps_per_epoch, np.nan)
        self._statistics = copies_of_state(trainer.model)

    @property
    def has_statistics(self) -> bool:
        """Whether there are running statistics to keep."""
        return bool(self._statistics)

    def begin(self, number: int) -> None:
        """Epoch `number` of the run, from 1 on: no step is taken, and the step's sum of losses is 0."""
        ops, model = self._trainer.model.ops, self._trainer.model
        self.number, self.n_done = number, 0
        ops.fill(self._step.total, 0.0)
        self._random_step = int(ops.to_numpy(model.random_step)[0])
        self._first_step = self._n_steps()
        self._first_skipped = self._n_skipped()
        self.keep()
        self._rate_before = self._rate_on_device()
        self.scheduled = self._set_learning_rates()
        model.timetable.begin_epoch(number, len(self._rates), self._trainer.n_epochs)
        self.look_ahead()

    def look_ahead(self) -> None:
        """Find out how many of the steps to come need no look at what they have written, at the rates known now."""
        self._safe_rate = max(float(self._rates.max()), self._rate_on_device())
        left = len(self._rates) - self.n_done
        n_safe = self._step.guard.safe_steps(self._safe_rate, left)
        self.guarded = left > 0 and n_safe == 0
        self._safe_until = self.n_done + (n_safe or left)

    def is_safe(self, n_steps: int) -> bool:
        """Whether so many steps more are known to leave all parameters finite."""
        return self.n_done + n_steps <= self._safe_until

    def look_again(self, n_steps: int = 0) -> None:
        """`look_ahead` where so many steps more, or the rate of now, are too much for what was found out last."""
        if self.n_done + n_steps > self._safe_until or (not n_steps and self._rate_on_device() > self._safe_rate):
            self.look_ahead()

    def _rate_on_device(self) -> float:
        return float(self._trainer.model.ops.to_numpy(self._trainer.optimizer.control.learning_rate)[0])

    def _set_learning_rates(self) -> bool:
        """Put the epoch's learning rates on the device; whether they differ, so that each step must take its own.

        A rate that stays is written once: what a callback sets in its place (`set_learning_rate`) then holds.
        """
        optimizer, n_steps = self._trainer.optimizer, len(self._rates)
        rates = rates_of_epoch(optimizer.schedule, self.number, n_steps, self._trainer.n_epochs)
        differ = rates.count(rates[0]) < n_steps
        self._rates[:] = rates
        if differ:
            self._step.set_learning_rates(self._rates)
        elif self._rates[0] != self.learning_rate:
            optimizer.set_learning_rate(float(self._rates[0]))
        self.learning_rate = float(self._rates[-1])
        return differ

    def _n_steps(self) -> int:
        """Steps so far, those skipped by loss scaling included; the number stands still from a failed one on."""
        control = self._trainer.optimizer.control
        return int(self._trainer.model.ops.to_numpy(control.step)[0]) + self._n_skipped()

    def _n_skipped(self) -> int:
        scaling = self._trainer.optimizer.control.loss_scaling
        return 0 if scaling is None else int(self._trainer.model.ops.to_numpy(scaling.skipped)[0])

    @property
    def skipped(self) -> int:
        """Steps of this epoch that loss scaling has skipped."""
        return self._n_skipped() - self._first_skipped

    @property
    def loss(self) -> float:
        """The mean of the losses of the samples that were visited."""
        ops, size = self._trainer.model.ops, self._step.data.batch_size
        return float(ops.to_numpy(self._step.total)[0]) / min(self.n_done * size, self.n_samples)

    def keep(self) -> None:
        """Copy the running statistics, which are sound."""
        for live, kept in self._statistics:
            self._trainer.model.ops.assign(kept, live)

    def _put_back(self, n_taken: int) -> None:
        """Running statistics as they were kept, and the next draws those of step number `n_taken`."""
        model = self._trainer.model
        for live, kept in self._statistics:
            model.ops.assign(live, kept)
        self._put_counters(n_taken)

    def _put_counters(self, n_taken: int) -> None:
        model = self._trainer.model
        model.ops.fill(model.random_step, self._random_step + n_taken)
        model.timetable.rewind(n_taken)

    def undo_step(self, batch: int, first: int) -> int:
        """Put back what a step that found no memory has changed, in a program of batches that begin at `first`.

        That is all but the gradients, which the next step computes anew. Returns the number of the program's steps
        before it.
        """
        model, control = self._trainer.model, self._trainer.optimizer.control
        if int(model.ops.to_numpy(control.failed_step)[0]) >= 0:
            self.check_health()
        finished = self._n_steps() - self._first_step - self.n_done
        n_taken = self.n_done + finished
        if self._step.phase != REPLAYING:  # what was kept is from before the step
            self._put_back(n_taken)
        else:
            self._put_counters(n_taken)
        model.ops.fill(self._step.data.cursor, first + finished * batch)
        if self.scheduled:
            self._step.rewind(n_taken)
            rate = float(self._rates[n_taken - 1]) if n_taken else self._rate_before
            model.ops.fill(control.learning_rate, rate)
        return finished

    def check_health(self) -> None:
        """Raise DivergenceError if a step since the last check failed; the weights are those from before it."""
        ops, control = self._trainer.model.ops, self._trainer.optimizer.control
        if int(ops.to_numpy(control.failed_step)[0]) < 0:
            self.keep()
            return
        succeeded = self._n_steps() - self._first_step
        size = self._step.data.batch_size
        first = succeeded * size
        self._put_back(succeeded)
        overflow = self._step.guard.fault
        if overflow is None:
            fault = find_fault(self._step, min(size, self.n_samples - first), first)
            self._put_back(succeeded)
        else:
            fault = f"the update makes {overflow}, infinite or NaN, though every gradient is finite"
            self._step.guard.forget_fault()
        ops.fill(control.failed_step, -1)
        raise DivergenceError(self.number, succeeded + 1, fault, float(self._rates[succeeded]))
