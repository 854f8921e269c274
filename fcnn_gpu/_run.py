"""One call of `Trainer.fit`: the epoch around the training step, and the watch over its health."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._diagnosis import DivergenceError, find_fault
from ._evaluation import EvaluationData
from ._micro_batches import why_whole
from ._model_shortage import release, release_inference
from ._out_of_memory import forget_frames, is_out_of_memory
from ._scores import Scores
from ._step import REPLAYING, UPDATING, TrainingStep, copies_of_state
from ._stream import StreamedData
from ._types import HostArray
from .callbacks import Callback
from .data import DeviceData, Stretch

if TYPE_CHECKING:
    from .training import Trainer

_TICK_SECONDS = 0.2
_logger = logging.getLogger("fcnn_gpu")


_Key = tuple[int, int, bool, int]
"""What a program is made for: samples of a batch, steps, whether rates are scheduled, and the buffer of the data."""


class Run:
    """One call of `fit`: its steps, what they accumulate, and the epoch's line of the history."""

    def __init__(
        self,
        trainer: Trainer,
        data: DeviceData | StreamedData,
        targets_host: HostArray | None,
        validation: EvaluationData | None,
        shuffle: bool,
        drop_last: bool,
        capture: bool,
        micro_batch_size: int | None = None,
    ) -> None:
        self.trainer, self.data, self.validation = trainer, data, validation
        self._targets_host = targets_host
        self._shuffle = shuffle
        model = trainer.model
        self._n_seen = trainer.steps_per_epoch * data.batch_size if drop_last else data.n_samples
        self._state = copies_of_state(model)
        keep_outputs = bool(trainer.metrics)
        self._step = TrainingStep(model, trainer.loss, trainer.optimizer, data, keep_outputs, capture, micro_batch_size)
        if self._step.micro_batch_size < data.batch_size:
            trainer.history.micro_batch_size = self._step.micro_batch_size
            model.release_training(self._step.micro_batch_size)
        self._programs: dict[_Key, Callable[[], None]] = {}
        self._ready: dict[_Key, Callable[[], None]] = {}
        """Programs that have been called, and need no precautions any more."""
        self._is_reserved = False
        self._said = False
        self._n_done = 0
        self._learning_rate_before = float("nan")
        self._rates = np.full(trainer.steps_per_epoch, np.nan)
        self._learning_rate = float("nan")
        self._seconds = 0.0
        self._order: Any = None
        self._scores = Scores(trainer.metrics, self._n_seen)
        """The metrics of an epoch over data that streams."""

    def epoch(self, epoch: int, observers: Sequence[Callback], interrupted: Callable[[], bool]) -> bool:
        """One pass over the data; False if it was interrupted before its end."""
        trainer, data = self.trainer, self.data
        ops, model = trainer.model.ops, trainer.model
        self._order = data.order_of(trainer.seed, trainer.epochs_trained, self._shuffle)
        model.refresh_low_precision()  # a callback may have set weights
        ops.fill(self._step.total, 0.0)
        self._random_step = int(ops.to_numpy(model.random_step)[0])
        self._first_step = self._n_steps()
        scaling = trainer.optimizer.control.loss_scaling
        self._first_skipped = 0 if scaling is None else int(ops.to_numpy(scaling.skipped)[0])
        self._keep_state()
        n_steps = trainer.steps_per_epoch
        self._n_done = 0
        watched, failed_step = not ops.asynchronous, trainer.optimizer.control.failed_step
        start = tick = time.perf_counter()
        self._learning_rate_before = float(ops.to_numpy(trainer.optimizer.control.learning_rate)[0])
        scheduled = self._set_learning_rates(epoch)
        with data.visit(self._order, self._n_seen) as stretches:
            for key, first, stretch in self._epoch_programs(stretches, scheduled):
                program = self._ready.get(key)
                if program is None:
                    self._take_steps(key, first, epoch)
                else:
                    try:
                        program()
                        self._n_done += key[1]
                    except Exception as error:
                        if not is_out_of_memory(error):
                            raise
                        program = None  # which holds what is about to be let go
                        self._take_steps(key, first, epoch, error)
                if stretch is not None:
                    self._score(stretch)
                if watched and (failed_step[0] >= 0 or self._state):
                    self._check_health(epoch)
                if interrupted():
                    break
                now = time.perf_counter()
                if now - tick >= _TICK_SECONDS:
                    tick = now
                    self._check_health(epoch)
                    n_done = self._n_done
                    loss = float(ops.to_numpy(self._step.total)[0]) / min(n_done * data.batch_size, self._n_seen)
                    for observer in observers:
                        observer.on_tick(trainer, n_done, n_steps, loss)
        self._check_health(epoch)
        ops.synchronize()
        self._seconds = time.perf_counter() - start
        return self._n_done == n_steps

    def _epoch_programs(
        self, stretches: Iterator[Stretch], scheduled: bool
    ) -> Iterator[tuple[_Key, int, Stretch | None]]:
        """The programs of an epoch in order, each with its place in a stretch, and the stretch if it ends that."""
        size = self.data.batch_size
        for stretch in stretches:
            n_parts = -(-size // self._step.micro_batch_size)
            at_once = max(1, min(self.trainer.model.ops.steps_per_capture // n_parts, self.data.window // size))
            n_full, left_over = divmod(stretch.n, size)
            n_calls, n_single = divmod(n_full, at_once)
            sizes = [(size, at_once)] * n_calls + [(size, 1)] * n_single + [(left_over, 1)] * bool(left_over)
            first = 0
            for i, (batch, n) in enumerate(sizes, 1):
                yield (batch, n, scheduled, stretch.part), first, stretch if i == len(sizes) else None
                first += batch * n

    def _program(self, batch: int, n_steps: int, scheduled: bool, part: int = 0) -> Callable[[], None]:
        key = batch, n_steps, scheduled, part
        if key not in self._programs:
            self._programs[key] = self._step.program(*key)
        return self._programs[key]

    # Running out of memory

    def _take_steps(self, key: _Key, first: int, epoch: int, shortage: Exception | None = None) -> None:
        """The steps of a program, whose batches begin at position `first` of the stretch.

        Where memory runs out in a step, that step is made anew, and the others after it, in smaller parts of the batch.
        `shortage`: so it has in a first attempt.
        """
        batch, n_steps, scheduled, part = key
        left, fallen_short = n_steps, False
        while left:
            n = finished = 1 if fallen_short else left
            if shortage is None:
                try:
                    self._call(batch, n, scheduled, part)
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    shortage = error
            if shortage is not None:
                fallen_short = True
                finished = self._undo_step(batch, first, scheduled, epoch)
                self._shrink(shortage)
                shortage = None
            elif fallen_short:
                self._tell_of_shortage(epoch)
            left -= finished
            first += batch * finished
            self._n_done += finished

    def _call(self, batch: int, n_steps: int, scheduled: bool, part: int) -> None:
        """A program, step by step the first time, so that what its steps change beside parameters can be put back."""
        if not self._is_reserved and why_whole(self.trainer.model) is None:
            self._step.reserve_update()
            self._is_reserved = True
        key = batch, n_steps, scheduled, part
        program = self._program(*key)
        if self.trainer.model.ops.asynchronous:  # elsewhere that was done after the step before this one
            self._keep_state()
            self._step.between_steps = self._keep_state
        try:
            program()
        finally:
            self._step.between_steps = None
        if self._step.is_captured or not self._state:
            self._ready[key] = program

    def _undo_step(self, batch: int, first: int, scheduled: bool, epoch: int) -> int:
        """Put back what a step that found no memory has changed; the number of the program's steps before it.

        That is all but the gradients, which the next step computes anew.
        """
        model, control = self.trainer.model, self.trainer.optimizer.control
        if int(model.ops.to_numpy(control.failed_step)[0]) >= 0:
            self._check_health(epoch)
        finished = self._n_steps() - self._first_step - self._n_done
        n_taken = self._n_done + finished
        if self._step.phase != REPLAYING:  # what was kept is from before the step
            self._restore_state()
        model.ops.fill(model.random_step, self._random_step + n_taken)
        model.ops.fill(self.data.cursor, first + finished * batch)
        if scheduled:
            self._step.rewind(n_taken)
            rate = float(self._rates[n_taken - 1]) if n_taken else self._learning_rate_before
            model.ops.fill(control.learning_rate, rate)
        return finished

    def _shrink(self, error: Exception) -> None:
        """Free what can be made anew, and halve the parts of batches; the error itself where that is not possible."""
        step, model = self._step, self.trainer.model
        phase, size = step.phase, step.micro_batch_size
        unknown = phase == UPDATING or (phase == REPLAYING and not model.ops.asynchronous)
        if unknown or size == 1 or why_whole(model) is not None:
            raise error
        forget_frames(error)
        self._programs.clear()
        self._ready.clear()
        self._is_reserved = False
        step.release(-(-size // 2))
        release(model)
        self.trainer.history.micro_batch_size = step.micro_batch_size

    def _tell_of_shortage(self, epoch: int) -> None:
        """Say once in a run that it goes on in smaller parts."""
        size = self._step.micro_batch_size
        if not self._said:
            _logger.warning(
                "Memory ran out in epoch %d, step %d: training goes on in micro-batches of %d. Batches are of %d "
                "samples as before, and results the same up to rounding.",
                epoch,
                self._n_done + 1,
                size,
                self.data.batch_size,
            )
        self._said = True

    def _evaluate(self, validation: EvaluationData) -> dict[str, float]:
        """Loss and metrics of the validation data, in smaller batches where memory runs out."""
        while True:
            try:
                return self.trainer.evaluate_data(validation)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                shortage = error
            if validation.batch == 1:
                raise shortage
            forget_frames(shortage)
            validation.batch = -(-validation.batch // 2)
            release_inference(self.trainer.model)
            self._is_reserved = False
            if not self._said:
                _logger.warning("Memory ran out in evaluation, which goes on in smaller batches.")
            self._said = True

    def _penalty(self) -> float:
        """The model's penalty, for which a few bytes are needed."""
        try:
            return self.trainer.model.penalty()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            forget_frames(error)
        release_inference(self.trainer.model)
        self._is_reserved = False
        return self.trainer.model.penalty()

    def record(self, epoch: int) -> dict[str, float]:
        """The epoch's line of the history."""
        trainer = self.trainer
        model = trainer.model
        loss = float(model.ops.to_numpy(self._step.total)[0]) / self._n_seen
        record: dict[str, float] = {"epoch": epoch, "loss": loss, "penalty": self._penalty()}
        if self._step.outputs is not None and isinstance(self.data, StreamedData):
            record |= self._scores.values()
        elif self._step.outputs is not None and self._targets_host is not None:
            predictions = trainer.metric_inputs(self._step.outputs[: self._n_seen])
            targets = self._targets_host[self._order[: self._n_seen]]
            record |= {metric.label: metric(targets, predictions) for metric in trainer.metrics}
        if self.validation is not None:
            record |= {f"val_{name}": value for name, value in self._evaluate(self.validation).items()}
        scaling = trainer.optimizer.control.loss_scaling
        if scaling is not None:
            to_numpy = model.ops.to_numpy
            record["loss_scale"] = float(to_numpy(scaling.scale)[0])
            record["skipped_steps"] = int(to_numpy(scaling.skipped)[0]) - self._first_skipped
        record |= {
            "learning_rate": self._learning_rate,
            "seconds": self._seconds,
            "samples_per_second": self._n_seen / self._seconds,
        }
        return record

    def _score(self, stretch: Stretch) -> None:
        """Give the metrics what they need of a stretch where the next one takes its place on the device."""
        targets = self.data.targets_of(stretch)
        if self._step.outputs is not None and targets is not None:
            self._scores.add(stretch.first, targets, self.trainer.metric_inputs(self._step.outputs[: stretch.n]))

    def _set_learning_rates(self, epoch: int) -> bool:
        """Put the epoch's learning rates on the device; whether they differ, so that each step must take its own.

        A rate that stays is written once: what a callback sets in its place (`set_learning_rate`) then holds.
        """
        schedule, n_steps, n_epochs = self.trainer.optimizer.schedule, len(self._rates), float(self.trainer.n_epochs)
        self._rates[:] = [schedule(epoch - 1 + i / n_steps, n_epochs) for i in range(n_steps)]
        differ = bool((self._rates != self._rates[0]).any())
        if differ:
            self._step.set_learning_rates(self._rates)
        elif self._rates[0] != self._learning_rate:
            self.trainer.optimizer.set_learning_rate(float(self._rates[0]))
        self._learning_rate = float(self._rates[-1])
        return differ

    def _n_steps(self) -> int:
        """Steps so far, those skipped by loss scaling included; the number stands still from a failed one on."""
        ops, control = self.trainer.model.ops, self.trainer.optimizer.control
        done = int(ops.to_numpy(control.step)[0])
        scaling = control.loss_scaling
        return done if scaling is None else done + int(ops.to_numpy(scaling.skipped)[0])

    def _keep_state(self) -> None:
        """Copy the running statistics: a pass that overflows spoils them before its loss shows it."""
        for live, kept in self._state:
            self.trainer.model.ops.assign(kept, live)

    def _restore_state(self) -> None:
        for live, kept in self._state:
            self.trainer.model.ops.assign(live, kept)

    def _check_health(self, epoch: int) -> None:
        """Raise DivergenceError if a step since the last check failed; the weights are those from before it."""
        trainer, data = self.trainer, self.data
        model, ops, control = trainer.model, trainer.model.ops, trainer.optimizer.control
        if int(ops.to_numpy(control.failed_step)[0]) < 0:
            self._keep_state()
            return
        succeeded = self._n_steps() - self._first_step
        first = succeeded * data.batch_size
        batch = min(data.batch_size, self._n_seen - first)
        self._restore_state()
        ops.fill(model.random_step, self._random_step + succeeded)
        fault = find_fault(self._step, batch, first)
        ops.fill(model.random_step, self._random_step + succeeded)
        self._restore_state()
        ops.fill(control.failed_step, -1)
        raise DivergenceError(epoch, succeeded + 1, fault, float(self._rates[succeeded]))
