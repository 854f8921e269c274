"""`Trainer.fit` over full MNIST, with metrics, validation and progress, against the bare steps of the same epoch."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

import numpy as np

from .._types import HostArray
from ..backend import Ops, quiet_arithmetic, resolve_backend
from ..callbacks import Callback, ProgressBar
from ..data import DeviceData, epoch_order
from ..datasets import DataFileError, Dataset, load
from ..optimizers import Adam
from ..training import EvaluationData, Evaluator, History, Trainer, TrainingStep
from .nets import Case, Net
from .results import EpochResult

CASES = (Case(Net((784, 128, 10)), 128), Case(Net((64, 64, 64, 10)), 32))
"""A net that is mostly products and one that is mostly calls. The second takes MNIST at 8×8 pixels."""

_SETTLE_SECONDS = 0.05
"""Untimed steps before the bare epoch, as `fit` has its own before its first: checking the data touches all of it."""


def run(
    *,
    backend: str = "numpy",
    cases: Sequence[Case] = CASES,
    rounds: int = 7,
    seed: int = 0,
    data: Dataset | None = None,
) -> Iterator[EpochResult | str]:
    """Time each case's epochs; a str says what was not measured and why.

    Args:
        backend: "numpy", "cpu", "cupy" or "cupy:<device>".
        cases: nets whose input is MNIST's 784 pixels, or 64 for the same digits at 8×8.
        rounds: epochs of `fit` and of bare steps, in turn.
        seed: of the weights and the order of the samples.
        data: instead of MNIST, another set of 28×28 pixels.
    """
    ops = resolve_backend(backend)
    if data is None:
        try:
            data = load("mnist", download=False)
        except (FileNotFoundError, DataFileError) as error:
            yield (
                f"Trainer.fit was not measured: {error} The folder with MNIST's four files goes into the variable "
                f"FCNN_DATA_DIR (now {os.environ.get('FCNN_DATA_DIR', 'not set')}), or fcnn-gpu train --data mnist "
                "downloads them."
            )
            return
    for case in cases:
        yield time_epochs(case, data, ops, rounds=rounds, seed=seed)


def time_epochs(case: Case, data: Dataset, ops: Ops, *, rounds: int = 7, seed: int = 0) -> EpochResult:
    """One case's epochs by `fit` and by bare steps, in turn; the first of each is a rehearsal and not counted.

    Raises KeyboardInterrupt if `fit` was interrupted.
    """
    X, X_val = (_images(part, case.net.n_in) for part in (data.X_train, data.X_test))
    fitted = _Fit(case, ops, seed, X, data.y_train, (X_val, data.y_test))
    bare = _Bare(case, ops, seed, X, data.y_train)
    fitted.epoch()
    bare.epoch()
    fits: list[tuple[float, float, float]] = []
    bares: list[float] = []
    for r in range(rounds):
        if r % 2 == 0:
            fits.append(fitted.epoch())
        bares.append(bare.epoch())
        if r % 2:
            fits.append(fitted.epoch())
    return EpochResult(
        net=case.net.name,
        batch=case.batch,
        device=ops.describe(),
        n_samples=len(X),
        fit_seconds=[seconds for seconds, _, _ in fits],
        bare_seconds=bares,
        validation_seconds=[validation for _, validation, _ in fits],
        preparation_seconds=[preparation for _, _, preparation in fits],
    )


def _images(X: HostArray, n_in: int) -> HostArray:
    """Images of 28×28 pixels (n, 784) as they are, or for 64 inputs as 8×8: means over 3×3 of the middle 24×24."""
    if X.shape[1] != 784 or n_in not in (784, 64):
        raise ValueError(
            f"The epoch benchmark expects images of 784 pixels and a net of 784 or 64 inputs, got {X.shape[1]} pixels "
            f"and {n_in} inputs."
        )
    if n_in == 784:
        return X
    middle = X.reshape(-1, 28, 28)[:, 2:26, 2:26]
    return np.ascontiguousarray(middle.reshape(-1, 8, 3, 8, 3).mean(axis=(2, 4), dtype=np.float32).reshape(-1, 64))


class _TimedTrainer(Trainer):
    """A trainer that adds up what its validation passes take."""

    validation_seconds = 0.0

    @property
    def _evaluator(self) -> Evaluator:
        return _TimedEvaluator(self)


class _TimedEvaluator(Evaluator):
    def __init__(self, trainer: _TimedTrainer) -> None:
        super().__init__(trainer.model, trainer.loss, trainer.metrics)
        self._trainer = trainer

    def measure(self, data: EvaluationData) -> dict[str, float]:
        start = time.perf_counter()
        try:
            return super().measure(data)
        finally:
            self._trainer.validation_seconds += time.perf_counter() - start


class _Begin(Callback):
    """The first callback: an epoch begins when it is told so."""

    at = 0.0

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        self.at = time.perf_counter()


class _End(Callback):
    """The last callback, behind the progress bar: an epoch has ended when it is told so."""

    at = 0.0

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        self.at = time.perf_counter()


class _Fit:
    """Epochs as a user runs them: `Trainer.fit` with accuracy, validation after the epoch and a progress bar."""

    def __init__(
        self, case: Case, ops: Ops, seed: int, X: HostArray, y: HostArray, validation: tuple[HostArray, HostArray]
    ) -> None:
        self._trainer = _TimedTrainer(case.net.model(ops, seed), optimizer=Adam(1e-3), metrics=["accuracy"], seed=seed)
        self._X, self._y, self._validation, self._batch = X, y, validation, case.batch

    def epoch(self) -> tuple[float, float, float]:
        """Seconds of one epoch, of the validation in it, and of what the call of `fit` did before and after it."""
        from rich.console import Console

        trainer, begin, end = self._trainer, _Begin(), _End()
        trainer.validation_seconds = 0.0
        # A terminal that is not looked at: the bar is drawn and its thread runs, wherever our own output goes.
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            console = Console(file=nowhere, force_terminal=True, width=100)
            start = time.perf_counter()
            history: History = trainer.fit(
                self._X,
                self._y,
                epochs=1,
                batch_size=self._batch,
                validation_data=self._validation,
                progress=False,  # it would look for a terminal of its own
                callbacks=[begin, ProgressBar(console), end],
            )
            whole = time.perf_counter() - start
        if history.stopped_by == "interrupt":
            raise KeyboardInterrupt
        seconds = end.at - begin.at
        return seconds, trainer.validation_seconds, whole - seconds


class _Bare:
    """The same steps with nothing around them: no order drawn, no metric, no look at the clock or the loss."""

    def __init__(self, case: Case, ops: Ops, seed: int, X: HostArray, y: HostArray) -> None:
        self.model = model = case.net.model(ops, seed)
        trainer = Trainer(model, optimizer=Adam(1e-3), seed=seed)
        trainer.optimizer.set_learning_rate(1e-3)
        self._ops, self._seed, self._n_epochs = ops, seed, 0
        self._data = DeviceData(ops, X, trainer.loss.prepare_targets(y, model.n_out, model.dtype), None, case.batch)
        step = TrainingStep(model, trainer.loss, trainer.optimizer, self._data)
        self._n_full, left_over = divmod(len(X), self._data.batch_size)
        self._full = step.program(self._data.batch_size)
        self._last = step.program(left_over) if left_over else None

    def epoch(self) -> float:
        """Seconds of one epoch's steps."""
        order = epoch_order(self._data.n_samples, self._seed, self._n_epochs, True)
        self._n_epochs += 1
        with quiet_arithmetic():
            self._settle(order)
            self._data.start_epoch(order)
            self._ops.synchronize()
            start = time.perf_counter()
            self._full(self._n_full)
            if self._last is not None:
                self._last()
            self._ops.synchronize()
            return time.perf_counter() - start

    def _settle(self, order: HostArray) -> None:
        end = time.perf_counter() + _SETTLE_SECONDS
        while time.perf_counter() < end:
            self._data.start_epoch(order)
            self._full()
            self._ops.synchronize()
