"""The training step as a fixed program over arrays that exist: what `Trainer` repeats and the benchmarks time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .._types import Array, HostArray
from ..backend import Replay, Setting, called, consists_of_primitives, outside
from ..data import BatchViews, DeviceData, StreamedData
from ..losses import Loss
from ..model import BatchArrays, Sequential
from ..optimizers import Optimizer
from ._guard import UpdateGuard
from ._micro_batches import GradientSums, parts_of


def copies_of_state(model: Sequential) -> list[tuple[Array, Array]]:
    """Each array of running statistics beside a copy of it: what a run goes back to from a step that diverged."""
    return [(array, model.ops.copy(array)) for layer in model.walk() for array in layer.state().values()]


def settings_of(model: Sequential, optimizer: Optimizer) -> list[Setting]:
    """What follows schedules beside the learning rate: settings of the optimizer and of layers."""
    return [*optimizer.settings(), *(setting for layer in model.walk() for setting in layer.settings())]


BETWEEN_STEPS, COMPUTING, UPDATING, REPLAYING = range(4)
"""Phases of a program: no step is under way; one that has changed nothing but counters and what can be computed anew;
one that may have changed parameters; and a replay, of which it is not known."""


@dataclass(frozen=True)
class Pass:
    """One pass of a step, forward and backward: over the samples of its batch from `first` on, those of `views`."""

    first: int
    views: BatchViews
    arrays: BatchArrays
    losses: Array
    share: float
    """Of the batch's samples: what the gradient of the mean over the part counts in that over the batch."""

    @property
    def ends(self) -> bool:
        """Whether it is the batch's last."""
        return self.first + len(self.losses) == self.arrays.part.whole


class TrainingStep:
    """gather → forward → loss → backward → check → update, over one data set, and what the steps accumulate.

    With `micro_batch_size`, a step goes through its batch in parts of at most so many samples, forward and backward
    each; then it checks and updates once, with the gradient of the whole batch.

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
        micro_batch_size: int | None = None,
    ) -> None:
        ops = model.ops
        self.micro_batch_size = data.batch_size if micro_batch_size is None else min(micro_batch_size, data.batch_size)
        self.phase = BETWEEN_STEPS
        """Where an error has come from, if one has."""
        self.between_steps: Callable[[], None] | None = None
        """Called between the steps of a program that makes them one by one, and not by a replay."""
        self._sums: GradientSums | None = None
        self._scales: dict[float, Array] = {}
        self._scalable = loss.takes_loss_scale
        self.model, self.loss, self.optimizer, self.data = model, loss, optimizer, data
        self.losses = ops.empty(data.batch_size, model.dtype)
        self.total = ops.zeros(1, np.float64)
        self.outputs = ops.empty((data.window, model.n_out), model.dtype) if keep_outputs else None
        self._capture = capture
        self._rates: Array | None = None
        self._next_rate = ops.zeros(1, np.int64)

    @functools.cached_property
    def guard(self) -> UpdateGuard:
        """What takes back updates that overflow."""
        return UpdateGuard(self.model, self.optimizer)

    def set_learning_rates(self, rates: HostArray) -> None:
        """The learning rates, float64 (n_steps,), of the next steps of `scheduled` programs; always as many of them."""
        ops = self.model.ops
        if self._rates is None:
            self._rates = ops.empty(len(rates), np.float64)
        ops.assign(self._rates, rates)
        ops.fill(self._next_rate, 0)

    def program(
        self, batch: int, n_steps: int = 1, scheduled: bool = False, part: int = 0, guarded: bool = False
    ) -> Replay:
        """Steps over the next `n_steps` batches: a function that may be called any number of times.

        It takes how many times that is to be done in one call, 1 unless it is said.

        Where it reads from lives in `data.cursor`, which it advances, in the buffer `part` of the data; the data set's
        order is `data.start_epoch`'s.
        A `scheduled` program gives each step the next of the rates of `set_learning_rates`. A `guarded` one takes back
        an update that leaves parameters that are not finite, and is not captured. Any other is captured, and anew after
        a layer or the loss has been given another setting (`layer.p = 0.2`).
        """
        rates = self._rates
        if scheduled and rates is None:
            raise RuntimeError("A scheduled program needs set_learning_rates(...) before it.")
        model, loss, optimizer, data = self.model, self.loss, self.optimizer, self.data
        ops, control = model.ops, optimizer.control
        losses, total, outputs = self.losses[:batch], self.total, self.outputs
        table = (rates, self._next_rate, control.learning_rate) if scheduled else None
        passes = self.passes(batch)
        counters = [(data.cursor, batch), *([(model.timetable.position, 1)] if model.timetable else [])]

        def update() -> None:
            if optimizer.has_own_step:
                called(optimizer, optimizer.step)
                if model.stored is not None:
                    model.stored.check_applied(optimizer)
                for counter, by in counters:
                    ops.advance(counter, by)
            else:
                called(optimizer, optimizer.apply, counters)

        enter = self._enter if self._consists_of_primitives else functools.partial(outside, self._enter)

        def step() -> None:
            enter(COMPUTING)
            self.begin(passes)
            for one in passes:
                if one.first == 0:
                    data.begin_step(one.views, part, model.random_step, table)
                else:
                    data.begin_step(one.views, part, None, None, one.first)
                one.arrays.part.first = one.first
                Z = model.forward_pass(one.views.X.T, one.arrays, training=True, counted=True)
                self.compute_loss(one, Z)
                if outputs is not None:
                    ops.store_rows(Z.T, data.cursor, outputs[one.first :])
                self.backward(one)
            enter(UPDATING)
            model.check_finite(losses, control, total)
            if guarded:
                self.guard.take(update)
            else:
                update()
            enter(BETWEEN_STEPS)

        def steps() -> None:
            for i in range(n_steps):
                if guarded and self.guard.fault is not None:
                    return
                if i and self.between_steps is not None:
                    self.between_steps()
                step()

        def one_by_one(n_times: int = 1) -> None:
            for _ in range(n_times):
                steps()

        replay: Replay = one_by_one
        n_changes = -1

        def run(n_times: int = 1) -> None:
            nonlocal replay, n_changes
            n_now = model.n_changes + loss.n_changes
            if n_now != n_changes:
                self._sums = GradientSums(model) if len(passes) > 1 else self._sums
                replay = ops.capture(steps) if self.is_captured and not guarded else one_by_one
                n_changes = n_now
            model.forget_forward()
            self.phase = REPLAYING
            replay(n_times)
            self.phase = BETWEEN_STEPS

        return run

    def _enter(self, phase: int) -> None:
        """A step goes on to another phase. A replay tells where parts of the user's own are called within it."""
        self.phase = phase

    @property
    def _consists_of_primitives(self) -> bool:
        return self.model.consists_of_primitives and consists_of_primitives(self.loss, self.optimizer)

    @property
    def is_captured(self) -> bool:
        """Whether a program's later calls replay its steps."""
        if not (self._capture and self.model.can_be_recorded):
            return False
        return self.model.ops.records_python or self._consists_of_primitives

    def rewind(self, n_taken: int) -> None:
        """The next step takes number `n_taken` of the rates of `set_learning_rates`."""
        self.model.ops.fill(self._next_rate, n_taken)

    def reserve_update(self) -> None:
        """Make what checking and updating need beside the parameters, and change nothing.

        From then on a step that finds no memory has failed before it has changed parameters or sums. Optimizers that a
        user has written are left alone, and so are weights that are not on the device.
        """
        optimizer, ops = self.optimizer, self.model.ops
        if optimizer.has_own_step or not consists_of_primitives(optimizer) or self.model.stored is not None:
            return
        control = optimizer.control
        before = ops.copy(control.failed_step)
        ops.fill(control.failed_step, 0)  # a failed step changes nothing
        try:
            ops.check_finite(self.losses, self.model.flat, control)
            optimizer.apply()
        finally:
            ops.assign(control.failed_step, before)

    def release(self, micro_batch_size: int) -> None:
        """Let go of what passes over larger parts were made of; programs made from now on take parts of this size."""
        self.micro_batch_size = micro_batch_size
        self._sums, self._scales, self.phase = None, {}, BETWEEN_STEPS
        self.data.release_batch()

    def passes(self, batch: int) -> list[Pass]:
        """The passes of a step over a batch of this size, in order."""
        made = []
        for first, n in parts_of(batch, self.micro_batch_size):
            arrays = self.model.batch_arrays(n, True, batch, self.data.is_sparse)
            made.append(Pass(first, self.data.views(n), arrays, self.losses[first : first + n], n / batch))
        return made

    def begin(self, passes: list[Pass]) -> None:
        """What comes before the passes of a step: the factors of their losses' gradients."""
        if len(passes) == 1:
            return
        ops, loss_scale = self.model.ops, self.optimizer.control.loss_scale
        for share in sorted({one.share for one in passes}):
            if share not in self._scales:
                self._scales[share] = ops.empty(1, np.float64)
                ops.fill(self._scales[share], share)
            if loss_scale is not None:
                ops.scale(loss_scale, share, self._scales[share])

    def compute_loss(self, one: Pass, Z: Array) -> None:
        """The losses of the part's samples, and ∂L/∂Z of the mean over the whole batch, for its outputs Z."""
        loss, ops, arrays, views = self.loss, self.model.ops, one.arrays, one.views
        scale = self.optimizer.control.loss_scale if one.share == 1.0 else self._scales[one.share]
        given = {} if scale is None or not self._scalable else {"loss_scale": scale}
        compute = functools.partial(loss.compute, **given)
        called(loss, compute, ops, Z, views.targets, views.sample_weight, one.losses, arrays.output_gradient)
        if one.share != 1.0 and not given:
            ops.scale(arrays.output_gradient, one.share, arrays.output_gradient)

    def backward(self, one: Pass) -> None:
        """The backward pass over a part, whose gradients are added to those of the parts before it."""
        self.model.backward_pass(one.arrays)
        if one.share != 1.0 and self._sums is not None:
            self._sums.add(one.first == 0, one.ends)
