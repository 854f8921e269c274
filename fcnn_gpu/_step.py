"""The training step as a fixed program over arrays that exist: what `Trainer` repeats and the benchmarks time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._stream import StreamedData
from ._types import Array, HostArray
from .data import DeviceData
from .losses import Loss
from .model import Sequential, consists_of_primitives
from .optimizers import Optimizer


def copies_of_state(model: Sequential) -> list[tuple[Array, Array]]:
    """Each array of running statistics beside a copy of it: what a run goes back to from a step that diverged."""
    return [(array, model.ops.copy(array)) for layer in model.walk() for array in layer.state().values()]


class TrainingStep:
    """gather → forward → loss → backward → check → update, over one data set, and what the steps accumulate.

    `losses` (batch_size,) holds the last batch's, `total` float64 (1,) their sum since it was last set to zero, and
    `outputs` (data.window, n_outputs), with `keep_outputs`, the raw outputs of the samples that are on the device, in
    the order they were visited.
    Without `capture` every call of a program makes its steps' calls anew, with the same results.
    """

    def __init__(
        self,
        model: Sequential,
        loss: Loss,
        optimizer: Optimizer,
        data: DeviceData | StreamedData,
        keep_outputs: bool = False,
        capture: bool = True,
    ) -> None:
        ops = model.ops
        self.model, self.loss, self.optimizer, self.data = model, loss, optimizer, data
        self.losses = ops.empty(data.batch_size, model.dtype)
        self.total = ops.zeros(1, np.float64)
        self.outputs = ops.empty((data.window, model.n_out), model.dtype) if keep_outputs else None
        self._capture = capture
        self._rates: Array | None = None
        self._next_rate = ops.zeros(1, np.int64)

    def set_learning_rates(self, rates: HostArray) -> None:
        """The learning rates, float64 (n_steps,), of the next steps of `scheduled` programs; always as many of them."""
        ops = self.model.ops
        if self._rates is None:
            self._rates = ops.empty(len(rates), np.float64)
        ops.assign(self._rates, rates)
        ops.fill(self._next_rate, 0)

    def program(self, batch: int, n_steps: int = 1, scheduled: bool = False, part: int = 0) -> Callable[[], None]:
        """Steps over the next `n_steps` batches: a function without arguments that may be called any number of times.

        Where it reads from lives in `data.cursor`, which it advances, in the buffer `part` of the data; the data set's
        order is `data.start_epoch`'s.
        A `scheduled` program gives each step the next of the rates of `set_learning_rates`.
        It is captured, and anew after a layer or the loss has been given another setting (`layer.p = 0.2`).
        """
        rates = self._rates
        if scheduled and rates is None:
            raise RuntimeError("A scheduled program needs set_learning_rates(...) before it.")
        model, loss, optimizer, data = self.model, self.loss, self.optimizer, self.data
        ops, control = model.ops, optimizer.control
        arrays = model.batch_arrays(batch, training=True)
        views = data.views(batch)
        A0 = views.X.T
        losses, total, outputs = self.losses[:batch], self.total, self.outputs
        table = (rates, self._next_rate, control.learning_rate) if scheduled else None
        scaling = {} if control.loss_scale is None else {"loss_scale": control.loss_scale}

        def step() -> None:
            data.begin_step(views, part, model.random_step, table)
            Z = model.forward_pass(A0, arrays, training=True, counted=True)
            loss.compute(ops, Z, views.targets, views.sample_weight, losses, arrays.output_gradient, **scaling)
            if outputs is not None:
                ops.store_rows(Z.T, data.cursor, outputs)
            model.backward_pass(arrays)
            ops.check_finite(losses, model.flat, control, total)
            if optimizer.has_own_step:
                optimizer.step()
                ops.advance(data.cursor, batch)
            else:
                optimizer.apply([(data.cursor, batch)])

        def steps() -> None:
            for _ in range(n_steps):
                step()

        replay, n_changes = steps, -1

        def run() -> None:
            nonlocal replay, n_changes
            n_now = model.n_changes + loss.n_changes
            if n_now != n_changes:
                known = self._capture and model.consists_of_primitives and consists_of_primitives(loss, optimizer)
                replay, n_changes = ops.capture(steps) if known else steps, n_now
            model.forget_forward()
            replay()

        return run
