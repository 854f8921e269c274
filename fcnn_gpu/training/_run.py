"""One call of `Trainer.fit`: its epochs, what observers are told of them, and their lines of the history."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from .._blas_threads import OneBlasThread
from .._types import HostArray
from ..callbacks import Callback, has_step_hook
from ..data import DeviceData, StreamedData, Stretch, restored
from ..memory import forget_frames, is_out_of_memory
from ..metrics import measure
from ..model import release_inference
from ._epoch import Epoch
from ._evaluation import EvaluationData, Evaluator
from ._programs import Programs
from ._scores import Scores
from ._step import TrainingStep

if TYPE_CHECKING:
    from .trainer import Trainer

_TICK_SECONDS = 0.2
_logger = logging.getLogger("fcnn_gpu")


class Run:
    """One call of `fit`: its steps, what they accumulate, and the epoch's line of the history."""

    def __init__(
        self,
        trainer: Trainer,
        data: DeviceData | StreamedData,
        targets_host: HostArray | None,
        validation: EvaluationData | None,
        evaluator: Evaluator,
        shuffle: bool,
        drop_last: bool,
        capture: bool,
        micro_batch_size: int | None = None,
        weights_host: HostArray | None = None,
    ) -> None:
        self.trainer, self.data, self.validation = trainer, data, validation
        self._targets_host, self._weights_host, self._evaluator = targets_host, weights_host, evaluator
        self._shuffle = shuffle
        model = trainer.model
        n_seen = trainer.steps_per_epoch * data.batch_size if drop_last else data.n_samples
        keep_outputs = bool(trainer.metrics)
        self._step = TrainingStep(model, trainer.loss, trainer.optimizer, data, keep_outputs, capture, micro_batch_size)
        if self._step.micro_batch_size < data.batch_size:
            trainer.history.micro_batch_size = self._step.micro_batch_size
            model.release_training(self._step.micro_batch_size)
        self._epoch = Epoch(trainer, self._step, n_seen)
        self._programs = Programs(self._step, self._epoch, trainer.history)
        self._watchers: list[Callback] = []
        """Those that are told of steps."""
        self._seconds = 0.0
        self.losses: list[float] = []
        """The epochs' mean data losses as they were trained on: a callback may tell the history's in other units."""
        self._order: Any = None
        self._scores = Scores(trainer.metrics, n_seen, model.prediction_center)
        """The metrics of an epoch over data that streams."""

    def train(self, observers: Sequence[Callback], interrupted: Callable[[], bool]) -> None:
        """All epochs, each told to the observers and written into the history, which says why if it ends early."""
        trainer = self.trainer
        self._watchers = [observer for observer in observers if has_step_hook(observer)]
        self._programs.until_pause = self._until_pause if self._watchers else None
        if trainer.model.awaits_data:
            self._initialize()
        for number in range(1, trainer.n_epochs + 1):
            for observer in observers:
                observer.on_epoch_begin(trainer, number)
            if not self.epoch(number, observers, interrupted):
                trainer.history.stopped_by = "interrupt"
                return
            trainer.epochs_trained += 1
            penalty = self._penalty()
            with ExitStack() as weights:
                for observer in observers:
                    weights.enter_context(observer.validating(trainer))
                record = self.record(number, penalty)
                trainer.history.records.append(record)
                trainer.optimizer.schedule.observe(record)
                trainer.model.timetable.observe(record)
                for observer in observers:
                    observer.on_epoch_end(trainer, record)
            if interrupted():
                trainer.history.stopped_by = "interrupt"
                return
            if trainer.stop_reason is not None:
                trainer.history.stopped_by = trainer.stop_reason
                return

    def _initialize(self) -> None:
        """Make the initial values that wait for samples, on the first batch of the run."""
        trainer, data = self.trainer, self.data
        n = min(self._step.micro_batch_size, data.batch_size)
        order = data.order_of(trainer.seed, trainer.epochs_trained, self._shuffle)
        views = data.views(n)
        with data.visit(order, self._epoch.n_samples) as stretches:
            data.begin_step(views, next(stretches).part, None, None)
            trainer.model.initialize_on(views.X.T)

    def epoch(self, number: int, observers: Sequence[Callback], interrupted: Callable[[], bool]) -> bool:
        """One pass over the data; False if it was interrupted before its end."""
        trainer, data, epoch = self.trainer, self.data, self._epoch
        ops, model = trainer.model.ops, trainer.model
        self._order = data.order_of(trainer.seed, trainer.epochs_trained, self._shuffle)
        model.refresh_low_precision()  # a callback may have set weights
        epoch.begin(number)
        watched, failed_step = not ops.asynchronous, trainer.optimizer.control.failed_step
        start = tick = time.perf_counter()
        # Not of the run alone: a limit of threadpoolctl's that has ended in another thread has raised the number again.
        with OneBlasThread(), data.visit(self._order, epoch.n_samples) as stretches:
            for key, n_times, first, stretch in self._programs.of(stretches):
                self._programs.take_steps(key, n_times, first)
                if stretch is not None:
                    self._score(stretch)
                if key.guarded or (watched and (failed_step[0] >= 0 or epoch.has_statistics)):
                    epoch.check_health()
                if self._watchers:
                    self._tell_of_step(key.batch)
                if interrupted():
                    break
                now = time.perf_counter()
                if now - tick >= _TICK_SECONDS:
                    tick = now
                    epoch.check_health()
                    for observer in observers:
                        observer.on_tick(trainer, epoch.n_done, trainer.steps_per_epoch, epoch.loss)
                    epoch.look_again()  # one may have changed the rate
        epoch.check_health()
        ops.synchronize()
        self._seconds = time.perf_counter() - start
        return epoch.n_done == trainer.steps_per_epoch

    @property
    def _n_steps(self) -> int:
        """Steps of the run that are done."""
        return (self._epoch.number - 1) * self.trainer.steps_per_epoch + self._epoch.n_done

    def _until_pause(self) -> int:
        """Steps until the next one that somebody is told of."""
        return min(watcher.every_steps - self._n_steps % watcher.every_steps for watcher in self._watchers)

    def _tell_of_step(self, batch: int) -> None:
        """Tell those who wait for it of the last step, which was one over so many samples."""
        step, told = self._n_steps, False

        def read_loss() -> float:
            self._epoch.check_health()
            return float(self.trainer.model.ops.to_numpy(self._step.losses[:batch]).mean(dtype="float64"))

        for watcher in self._watchers:
            if step % watcher.every_steps == 0:
                watcher.on_step(self.trainer, step, read_loss)
                told = True
        if told:
            self._epoch.look_again()  # one may have changed the rate

    def _score(self, stretch: Stretch) -> None:
        """Give the metrics what they need of a stretch where the next one takes its place on the device."""
        samples = self.data.samples_of(stretch)
        if self._step.outputs is not None and samples is not None:
            outputs = self._evaluator.metric_inputs(self._step.outputs[: stretch.n])
            self._scores.add(stretch.first, samples.targets, outputs, samples.sample_weight)

    def record(self, number: int, penalty: float) -> dict[str, float]:
        """The epoch's line of the history."""
        trainer, epoch = self.trainer, self._epoch
        self.losses.append(epoch.loss)
        record: dict[str, float] = {"epoch": number, "loss": self.losses[-1], "penalty": penalty}
        if self._step.outputs is not None and isinstance(self.data, StreamedData):
            record |= self._scores.values()
        elif self._step.outputs is not None and self._targets_host is not None:
            predictions = self._evaluator.metric_inputs(self._step.outputs[: epoch.n_samples])
            rows = self._order[: epoch.n_samples]
            targets = restored(self._targets_host[rows], trainer.model.prediction_center)
            weights = None if self._weights_host is None else self._weights_host[rows]
            record |= {metric.label: measure(metric, targets, predictions, weights) for metric in trainer.metrics}
        if self.validation is not None:
            record |= {f"val_{name}": value for name, value in self._evaluate(self.validation).items()}
        scaling = trainer.optimizer.control.loss_scaling
        if scaling is not None:
            record["loss_scale"] = float(trainer.model.ops.to_numpy(scaling.scale)[0])
            record["skipped_steps"] = epoch.skipped
        record |= {
            "learning_rate": epoch.learning_rate,
            "seconds": self._seconds,
            "samples_per_second": epoch.n_samples / self._seconds,
        }
        return record

    def _evaluate(self, validation: EvaluationData) -> dict[str, float]:
        """Loss and metrics of the validation data, in smaller batches where memory runs out."""
        while True:
            try:
                return self._evaluator.measure(validation)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                shortage = error
            if validation.batch == 1:
                raise shortage
            validation.batch = -(-validation.batch // 2)
            self._make_room(shortage)
            if not self._programs.has_told:
                _logger.warning("Memory ran out in evaluation, which goes on in smaller batches.")
            self._programs.has_told = True

    def _penalty(self) -> float:
        """The model's penalty, for which a few bytes are needed."""
        try:
            return self.trainer.model.penalty()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            shortage = error
        self._make_room(shortage)
        return self.trainer.model.penalty()

    def _make_room(self, shortage: Exception) -> None:
        """Let go of what was made on the way to a shortage between epochs, and of what inference computes in."""
        forget_frames(shortage)
        release_inference(self.trainer.model)
        self._programs.is_reserved = False
