"""A run of L-BFGS: SciPy chooses the points, the network's passes say what the objective and its gradient are there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from .._types import HostArray
from ..callbacks import Callback, has_step_hook
from ..data import DataSupply, SourceSupply
from ..model import Sequential
from ._run import Run
from .lbfgs import LBFGS


class _Interrupted(Exception):
    """Ctrl-C was pressed in the middle of a pass."""


def check_whole_batch(model: Sequential, train: DataSupply, has_schedules: bool) -> None:
    """ValueError where the objective is not the same function at each point, or not all samples' at once."""
    refused = None
    drawing = [layer for layer in model.walk() if layer.draws]
    if drawing:
        refused = f"layer {drawing[0].path}, {drawing[0]}, which draws other numbers in each pass. Leave it out"
    elif has_schedules:
        refused = "settings that follow schedules. Give them numbers"
    elif isinstance(train, SourceSupply):
        refused = "a source that is read block by block. Give X and y as arrays"
    elif model.stored is not None:
        refused = "weights on the host or on disk. Keep them on the device"
    elif model.flat.limited:
        refused = "weights within limits. Leave max_norm, unit_norm and non_negative out"
    elif model.precision == "float16":
        refused = 'float16, whose gradients are scaled. Take precision="bfloat16", or none'
    if refused is not None:
        raise ValueError(
            "LBFGS needs one objective, of all samples at once, that is the same in each pass, and cannot train with "
            f"{refused}, or train with another optimizer, such as Adam."
        )


def check_stays(window: int | None) -> None:
    """ValueError where X is to stream in chunks of `window` samples."""
    if window is not None:
        raise ValueError(
            f"LBFGS needs all samples on the device, and memory suffices for {window:,} at a time. Raise memory_limit, "
            "give X as an array instead of a memory map, or train with another optimizer, such as Adam."
        )


class LBFGSRun(Run):
    """One call of `fit` with `LBFGS`: an epoch is an iteration, after which the network is at its end point."""

    def train(self, observers: Sequence[Callback], interrupted: Callable[[], bool]) -> None:
        from scipy.optimize import minimize

        trainer, model = self.trainer, self.trainer.model
        optimizer = trainer.optimizer
        assert isinstance(optimizer, LBFGS)
        if model.awaits_data:
            self._initialize()
        self._observers, self._interrupted = observers, interrupted
        self._begun, self._spent = 0, 0.0
        self._evaluated: HostArray | None = None
        self._largest = math.inf
        self._best: HostArray = model.ops.to_numpy(model.flat.values).astype(np.float64)
        options = {
            "maxiter": trainer.n_epochs,
            "maxfun": optimizer.max_evaluations,
            "maxcor": optimizer.history_size,
            "gtol": optimizer.tol,
        }
        try:
            result = minimize(
                self._objective, self._best, jac=True, method="L-BFGS-B", callback=self._iterated, options=options
            )
            if not trainer.history.records:  # the first weights are as good as any
                self._end_iteration(self._best)
        except _Interrupted:
            trainer.history.stopped_by = "interrupt"
        else:
            if trainer.history.stopped_by == "epochs":
                trainer.history.stopped_by = self._reason(result, optimizer)
        finally:
            self._put(self._best)

    def _objective(self, x: HostArray) -> tuple[float, HostArray]:
        """Loss plus penalties with the parameters x, and the gradient of that."""
        trainer, model = self.trainer, self.trainer.model
        number = min(len(trainer.history) + 1, trainer.n_epochs)
        if number > self._begun:
            self._begun = number
            for observer in self._observers:
                observer.on_epoch_begin(trainer, number)
        self._put(x)
        if not self.epoch(number, self._observers, self._interrupted):
            raise _Interrupted
        self._spent += self._seconds
        gradient = model.ops.to_numpy(model.objective_gradient()).astype(np.float64)
        self._evaluated, self._largest = x.copy(), float(np.abs(gradient).max(initial=0.0))
        return self._epoch.loss + self._penalty(), gradient

    def _iterated(self, intermediate_result: Any) -> None:
        """SciPy has ended an iteration; StopIteration ends the run. (The argument's name is SciPy's.)"""
        self._end_iteration(intermediate_result.x)
        trainer = self.trainer
        if self._interrupted():
            trainer.history.stopped_by = "interrupt"
        elif trainer.stop_reason is not None:
            trainer.history.stopped_by = trainer.stop_reason
        else:
            return
        raise StopIteration

    def _end_iteration(self, x: HostArray) -> None:
        trainer = self.trainer
        if self._evaluated is None or not np.array_equal(x, self._evaluated):
            self._objective(x)
        self._best = x.copy()
        self._seconds, self._spent = self._spent, 0.0
        trainer.epochs_trained += 1
        number, penalty = len(trainer.history) + 1, self._penalty()
        for observer in self._observers:
            if has_step_hook(observer) and number % observer.every_steps == 0:  # an iteration is a step
                observer.on_step(trainer, number, lambda: self._epoch.loss)
        with ExitStack() as weights:
            for observer in self._observers:
                weights.enter_context(observer.validating(trainer))
            record = self.record(number, penalty)
            trainer.history.records.append(record)
            for observer in self._observers:
                observer.on_epoch_end(trainer, record)

    def _put(self, x: HostArray) -> None:
        """The parameters become x, rounded to their dtype."""
        model = self.trainer.model
        model.ops.assign(model.flat.values, x.astype(model.dtype))
        model.refresh_low_precision()

    def _reason(self, result: Any, optimizer: LBFGS) -> str:
        """Why the run ended, for the history."""
        if result.status == 0:
            if self._largest <= optimizer.tol:
                return f"converged: no element of the gradient is larger than tol={optimizer.tol:g}"
            return "converged: the objective falls by less than 2.2e-09 of itself"
        if result.status == 1:
            return "epochs" if result.nit >= self.trainer.n_epochs else "evaluations"
        return f"the line search finds no lower objective in {self.trainer.model.dtype}"
