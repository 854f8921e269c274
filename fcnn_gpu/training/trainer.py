"""Trainer: the training step as a fixed program, the epoch around it, and the run around that."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import numpy as np

from .._arrays import quietly
from .._checks import check_bool, check_bytes, check_integer
from .._html import paragraph
from .._registry import answers_arguments
from .._types import HostArray
from ..backend import LossScaling, Setting, computing_with, quiet_arithmetic
from ..callbacks import Callback, check_callbacks, check_last_word, progress_display
from ..data import ArraySupply, Intake, check_output_center, measured_part
from ..layers import Activation, BatchEnsemble, Dense, DenseEnsemble, last_layers
from ..losses import LOSSES, Loss
from ..memory import explains_out_of_memory
from ..metrics import METRICS, Metric
from ..model import NonFiniteOutputError, Sequential
from ..optimizers import Optimizer
from ..schedules import check_run
from ._baseline import warn_if_diverged
from ._copies import arrays_of, attributes, on_host, restore
from ._evaluation import EVALUATION_BATCH, Evaluator
from ._feed import Feed
from ._interrupt import interruptible
from ._lbfgs_run import LBFGSRun, check_stays, check_whole_batch
from ._micro_batches import check_split
from ._out_of_memory import explain_evaluation, explain_training, what_a_step_changes
from ._run import Run
from ._scores import check_predictions_per_target, try_metrics
from ._step import settings_of
from .history import History, column_names
from .lbfgs import LBFGS, resolve_optimizer


class Trainer:
    """Trains a model: gather a batch, forward, loss, backward, clip, update, over and over.

    The step runs over arrays made before the first one; what changes between steps lives in arrays too, so that a GPU
    can replay it. `loss`, `optimizer` and each metric are names or instances; a metric may also be a function f(y_true,
    y_pred), or f(y_true, y_pred, sample_weight), whose name its column has. Metrics count samples by their weights, as
    the loss does: in training those of classes, too. `seed` fixes the order of the samples
    (None: the model's seed); together with the model's own seed the run is determined. On the CPU as many threads
    compute as `fcnn.threads()` says and `fcnn.set_threads` sets; they change no bit of it.

    >>> import numpy as np, fcnn_gpu as fcnn
    >>> X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "float32")
    >>> model = fcnn.Sequential([fcnn.Dense(8, activation="tanh"), fcnn.Dense(2)], n_in=2, seed=0, backend="numpy")
    >>> trainer = fcnn.Trainer(model, loss="cross_entropy", optimizer=fcnn.Adam(0.05))
    >>> history = trainer.fit(X, [0, 1, 1, 0], epochs=200, batch_size=4)
    >>> model.predict_classes(X)
    array([0, 1, 1, 0])
    """

    @answers_arguments
    def __init__(
        self,
        model: Sequential,
        loss: str | Loss = "cross_entropy",
        optimizer: str | Optimizer = "adam",
        metrics: Sequence[str | Metric | Callable[..., float]] = (),
        seed: int | None = None,
    ) -> None:
        if not isinstance(model, Sequential):
            raise TypeError(f"Trainer expects a Sequential, got {type(model).__name__}.")
        self.model = model
        self.loss = LOSSES.resolve(loss)
        self.optimizer = resolve_optimizer(optimizer)
        self.metrics = metrics
        self.seed = model.seed if seed is None else check_integer("Trainer(seed)", seed, low=0)
        self.loss.check_outputs(model.n_out)
        _refuse_other_members(model, self.loss)
        _refuse_double_link(model, self.loss)
        check_output_center(self.loss, model.output_center)
        self.optimizer.bind(model)
        model.link, model.members = self.loss.link, self.loss.members
        self._loss_scaling: LossScaling | None = None
        if model.precision == "float16":
            self.loss.check_loss_scale()
            self._loss_scaling = LossScaling.start(model.ops)

        self.held_out_by = "validation_data or validation_split"
        """What gives a run its validation samples, for messages."""
        self.history = History()
        self.columns: list[str] = []
        self.n_epochs = 0
        self.steps_per_epoch = 0
        self.fold: int | None = None
        """The number, from 1, of this run among those of several networks; None where there is one network."""
        self.epochs_trained = 0
        """Epochs over all calls of `fit`: a second call goes on with new sample orders, not the first's again."""
        self.stop_reason: str | None = None

    def __repr__(self) -> str:
        metrics = f", metrics={self.metrics!r}" if self.metrics else ""
        return f"Trainer({self.model!r}, loss={self.loss!r}, optimizer={self.optimizer!r}{metrics}, seed={self.seed})"

    def _repr_html_(self) -> str:
        """What is trained and how, and the last run, in a notebook."""
        parts = {"loss": self.loss, "optimizer": self.optimizer, "metrics": self.metrics or None}
        said = ", ".join(f"{name} {part!r}" for name, part in parts.items() if part is not None)
        last_run = self.history._repr_html_() if len(self.history) else ""
        return paragraph(f"Trainer: {said}") + self.model._repr_html_() + last_run

    @property
    def metrics(self) -> list[Metric]:
        """What is measured beside the loss. Set, names and instances are told what the loss's targets mean."""
        return self._metrics

    @metrics.setter
    def metrics(self, metrics: Sequence[str | Metric | Callable[..., float]]) -> None:
        if isinstance(metrics, str | Metric) or callable(metrics):
            raise TypeError(f"Trainer(metrics) expects a list, got {metrics!r}. Write metrics=[{metrics!r}].")
        task = self.loss.task(self.model.n_out)
        told = [METRICS.resolve(metric).for_task(task) for metric in metrics]
        for metric in told:
            check_predictions_per_target(metric, self.loss)
        self._metrics = told

    @answers_arguments
    @quietly
    @explains_out_of_memory(explain_training, undo=what_a_step_changes)
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        epochs: int = 10,
        batch_size: int = 128,
        micro_batch_size: int | None = None,
        validation_data: Any = None,
        validation_split: float = 0.0,
        sample_weight: Any = None,
        class_weight: Any = None,
        shuffle: bool = True,
        drop_last: bool = False,
        progress: bool | str = True,
        callbacks: Sequence[Callback] = (),
        capture: bool = True,
        memory_limit: int | str | None = None,
        shuffle_buffer: int | None = None,
        threads: int | None = None,
    ) -> History:
        """Train for `epochs` passes over X (n_samples, n_in) and y; returns the `History` (also `trainer.history`).

        Args:
            X: an array, or a `datasets.BlockSource`, which is read block by block and usually has its own targets; or a
                data set (`datasets.load`), of which the training part is trained on.
            micro_batch_size: compute on at most so many samples at a time, which takes less memory. Gradients are
                summed over the parts of each batch and update the weights once: the result is that of whole batches up
                to rounding, dropout masks included. Batch normalization needs whole batches. None: whole batches.
            validation_data: (X, y) or (X, y, sample_weight) or a source, evaluated after each epoch.
            validation_split: instead, this share of the samples, drawn by the seed (class by class for integer labels).
            sample_weight: (n_samples,) weights w_j of the samples' losses; with `EnsembleLoss` also (n_samples,
                members) w_jg, those of each member, such as `fold_weights` gives.
            class_weight: for integer labels, {label: weight} or "balanced"; multiplies `sample_weight` in training, and
                has no part in validation.
            shuffle: visit the samples in an order drawn anew each epoch from the seed.
            drop_last: leave out the last batch of an epoch if it is smaller than the others.
            progress: how far the run is: "bar" on a terminal, a table in a "notebook", or "lines" on standard error,
                one per epoch (of more than 25, one per n), which "bar" is where there is no terminal. True takes what
                fits where it runs, False shows nothing.
            capture: record the training step once (as a CUDA graph on a GPU, as a program of compiled calls or a list
                of NumPy's on a CPU) and replay it. False makes every call anew, with the same results, more slowly: for
                debugging.

            memory_limit: bytes, or text like "4 GiB", that model and data may take on the device. Data that does not
                fit stays on the host, or in its memory-mapped file, and streams through the device in chunks, with the
                same results, bit by bit. None: what is free on a GPU; on a CPU nothing streams but memory maps of more
                than half of the memory that is free. For a source it also bounds what reading takes on the host.
            shuffle_buffer: for a source, samples that are held to be visited in random order. (default: 64 MiB of X)
            threads: on a CPU, compute with so many in this run; the results are the same bits. None: as many as
                `fcnn_gpu.threads()` says.

        Ctrl-C ends the run after the step under way, with the weights as they are and `history.stopped_by` "interrupt";
        pressed twice it raises KeyboardInterrupt. Where the program has a handler of its own for SIGINT, that is called
        instead (of `asyncio.run`'s: as well): set `trainer.stop_reason` in it, or raise, to end the run.

        Raises ValueError or TypeError for unusable arguments before anything changes, `OutOfMemoryError` where memory
        does not suffice (in the first step, the network is then as it was before), and `DivergenceError` when a loss, a
        gradient or an update is not finite, with the weights from before that step. Warns with `DivergenceWarning`
        where the loss is finite at the end, and far above that of a network whose outputs are all 0.
        """
        epochs = check_integer("fit(epochs)", epochs, low=1)
        batch_size = check_integer("fit(batch_size)", batch_size, low=1)
        if micro_batch_size is not None:
            micro_batch_size = check_integer("fit(micro_batch_size)", micro_batch_size, low=1)
        flags = {"shuffle": shuffle, "drop_last": drop_last, "capture": capture}
        for name, flag in flags.items():
            check_bool(f"fit({name})", flag)
        limit = check_bytes("fit(memory_limit)", memory_limit)
        if threads is not None:
            threads = check_integer("fit(threads)", threads, low=1)
        observers = [*check_callbacks(callbacks), *progress_display("fit(progress)", progress)]
        check_last_word(observers)
        train, validation, signature = self._intake.for_training(
            X, y, sample_weight, class_weight, validation_data, validation_split, shuffle_buffer, self._try_metrics
        )
        n_samples, whole = len(train), isinstance(self.optimizer, LBFGS)
        if whole:
            check_whole_batch(self.model, train, bool(self._settings))
            batch_size, shuffle, drop_last = n_samples, False, False
        batch_size = min(batch_size, n_samples)
        self._check_batches(n_samples, batch_size, drop_last)
        if drop_last and not shuffle:
            self._intake.check_what_is_visited(train, n_samples // batch_size * batch_size)
        check_split(self.model, batch_size, micro_batch_size, "fit")

        if self.model.frozen and not self.model.n_trainable:
            raise ValueError(
                "fit: all parameters of the network are frozen, so nothing would learn. Set some free, for example "
                "model.unfreeze(model.layers[-1])."
            )
        if self.model.stored is not None:
            self.model.stored.check_trainable()
        self.model.refresh_low_precision()
        feed = self._feed
        window, val_window = feed.windows(train, validation, batch_size, limit, shuffle, micro_batch_size)
        if whole:
            check_stays(window)
        data = feed.training(train, batch_size, window)
        held_out = None if validation is None else feed.evaluation(validation, val_window)
        with ExitStack() as ends, interruptible() as interrupted, quiet_arithmetic(), self._scaled_loss():
            ends.enter_context(computing_with(threads))
            if data.is_sparse:
                ends.callback(self.model.release_training, 0)  # where a first layer keeps its samples, and so all of X
            with self._unchanged_on_error():  # a callback may refuse to begin
                self.n_epochs = epochs
                self.steps_per_epoch = n_samples // batch_size if drop_last else -(-n_samples // batch_size)
                self.columns = column_names(self.metrics, held_out is not None, self._loss_scaling is not None)
                self._check_monitors()
                check_run(self.optimizer.schedule, self.steps_per_epoch, epochs)
                self.model.timetable.begin_run(self._settings, self.steps_per_epoch, epochs)
                self.stop_reason = None
                self.history = history = History()
                on_host = (train.targets, train.sample_weight) if isinstance(train, ArraySupply) else (None, None)
                options = shuffle, drop_last, capture, micro_batch_size
                kind = LBFGSRun if whole else Run
                run = kind(self, data, on_host[0], held_out, self._evaluator, *options, on_host[1])
                for observer in observers:
                    observer.on_train_begin(self)
                    ends.callback(observer.on_train_end, self, history)
                self.model.signature = signature
            try:
                run.train(observers, interrupted)
            except BaseException as error:
                history.stopped_by = "interrupt" if isinstance(error, KeyboardInterrupt) else "error"
                raise
        warn_if_diverged(history, run.losses, self.loss, train, self.model.n_out, self.model.dtype)
        return history

    @contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        """An error within leaves the trainer's attributes as they were before."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            vars(self).update(before)
            raise

    @contextmanager
    def _scaled_loss(self) -> Iterator[None]:
        """Within, the optimizer takes gradients for scaled ones; in the explicit loop they are the loss's own."""
        control = self.optimizer.control
        control.loss_scaling = self._loss_scaling
        try:
            yield
        finally:
            control.loss_scaling = None

    @quietly
    @explains_out_of_memory(explain_evaluation)
    def evaluate(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, memory_limit: int | str | None = None
    ) -> dict[str, float]:
        """Data loss and metrics on X, y at inference (dropout off, running statistics): {"loss": ..., metric: ...}.

        X may be a `datasets.BlockSource`, which has its own targets and streams, or a data set (`datasets.load`), of
        which the test part is measured.
        Raises `NonFiniteOutputError`, an ArithmeticError, where the loss is NaN or infinite.
        With `memory_limit`, as in `fit`, data that does not fit streams through the device.
        """
        limit = check_bytes("evaluate(memory_limit)", memory_limit)
        X, y = measured_part(X, y, "evaluate")
        samples, feed = self._intake.prepare(X, y, sample_weight, "evaluate"), self._feed
        _, window = feed.windows(None, samples, EVALUATION_BATCH, limit)
        result = self._evaluator.measure(feed.evaluation(samples, window))
        if not math.isfinite(result["loss"]):
            raise NonFiniteOutputError(
                f"evaluate: the loss is {result['loss']}, though X and y are finite. Ask model.predict, which names "
                "the first sample whose outputs are not, and why."
            )
        return result

    def predict(self, X: Any, batch_size: int | None = None) -> HostArray:
        """The model's outputs through this trainer's loss's link, (n_samples, n_outputs)."""
        return self.model.infer(X, self.loss.link, batch_size, "predict")

    def predict_proba(self, X: Any, batch_size: int | None = None) -> HostArray:
        """Class probabilities (n_samples, n_classes); for one output with binary cross-entropy, both classes' columns.

        Raises TypeError where the loss has no probabilities.
        """
        if not self.loss.predicts_probabilities:
            what = "values" if self.loss.predicts_values else "scores"
            raise TypeError(f"The loss {self.loss.name!r} predicts {what}, not probabilities: use predict.")
        P = self.predict(X, batch_size)
        if self.loss.link == "sigmoid" and P.shape[1] == 1:
            return np.hstack([1.0 - P, P])
        return P

    def __copy__(self) -> Self:
        """A trainer of the same network, with the same optimizer. `copy.deepcopy` and pickling copy both."""
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A trainer with a network and an optimizer of its own, which goes on as this one would, bit for bit."""
        twin = object.__new__(type(self))
        memo[id(self)] = twin
        restore(twin, copy.deepcopy(attributes(self), memo), arrays_of(self))
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled. TypeError where the network's weights lie on disk."""
        return {"attributes": attributes(self), "arrays": on_host(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        restore(self, state["attributes"], state["arrays"])

    @property
    def _intake(self) -> Intake:
        return Intake(self.model, self.loss, self.seed)

    @property
    def _feed(self) -> Feed:
        return Feed(self.model, self.loss, self.optimizer, self.metrics)

    @property
    def _evaluator(self) -> Evaluator:
        return Evaluator(self.model, self.loss, self.metrics)

    def _try_metrics(self, targets: HostArray) -> None:
        try_metrics(self.metrics, targets, self.model.n_predictions, self.loss.link)

    def _check_batches(self, n_samples: int, batch_size: int, drop_last: bool) -> None:
        left_over = n_samples % batch_size
        sizes = [batch_size, *([left_over] if left_over and not drop_last else [])]
        for size in sorted(sizes):
            self.model.check_batch(size)

    def _check_monitors(self) -> None:
        schedules = {"The learning rate's schedule": self.optimizer.schedule}
        schedules |= {f"The schedule of {setting.what}": setting.schedule for setting in self._settings}
        for who, schedule in schedules.items():
            if schedule.monitor is not None and schedule.monitor not in self.columns:
                raise ValueError(
                    f"{who} monitors {schedule.monitor!r}, which this run does not record. "
                    f"Its columns: {', '.join(self.columns)}."
                )

    @property
    def _settings(self) -> list[Setting]:
        """What follows schedules beside the learning rate."""
        return settings_of(self.model, self.optimizer)


def _refuse_other_members(model: Sequential, loss: Loss) -> None:
    """The outputs of several members are no outputs of one network, though there may be enough of them."""
    if model.members > 1 and loss.members != model.members:
        raise ValueError(
            f"The network's outputs are those of {model.members} members, and {loss.name} takes those of "
            f"{loss.members}. Train with EnsembleLoss(..., members={model.members}), or set model.members = 1 to make "
            "each output one of its own."
        )


def _refuse_double_link(model: Sequential, loss: Loss) -> None:
    """A loss that takes logits behind an output activation that already made probabilities would apply it twice."""
    with_one = Dense | Activation | DenseEnsemble | BatchEnsemble
    for last in last_layers(model.layers):
        activation = last.activation.name if isinstance(last, with_one) else None
        if activation == loss.link and activation in ("softmax", "sigmoid", "exp"):
            raise ValueError(
                f"{loss.name} takes raw outputs and applies {activation} itself, but the last layer {last} applies it "
                "already. Leave the last layer's activation out; model.predict applies it all the same."
            )
