"""What keeps an update that overflows by itself from being kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from .._types import Array
from ..backend import FlatParameters, StepControl
from ..model import Sequential
from ..optimizers import Course, Optimizer

_FEWEST = 64
"""Steps of which it must be known that they overflow nowhere: a look at all parameters pays for no fewer."""
_MOST_FOUND = 64
"""Rates for which it is kept in mind: a schedule may give each epoch another."""


class UpdateGuard:
    """Says how many updates are known to leave all parameters finite, and takes those back that do not.

    For the updates of this package a bound follows from the learning rate, the settings and the size of the parameters
    (`Optimizer.stays_finite`), so that a step need not look at what it wrote. Where nothing follows, because the rate
    is beyond all use or a user has written the update, `take` looks, with a copy of what the step before had left.
    """

    def __init__(self, model: Sequential, optimizer: Optimizer) -> None:
        self._model, self._optimizer = model, optimizer
        ops, flat = model.ops, model.flat
        self._number = ops.empty(1, np.int64)
        self._losses = ops.zeros(1, flat.values.dtype)
        self._values = FlatParameters(flat.values, flat.values, ())
        control = optimizer.control
        self._control = StepControl(control.step, control.learning_rate, control.clip_scale, self._number)
        check = partial(ops.check_finite, self._losses, self._values, self._control)
        # on a CPU a tape or a program spares the call's checks, once an epoch; to capture a graph is work itself
        self._check_values = check if ops.asynchronous else ops.capture(check)
        self._bound = float(np.sqrt(np.finfo(model.dtype).max))
        self._found: dict[tuple[float, int, int], int] = {}
        """What has been found of a rate and a number of steps, all else being fixed."""
        self._copies: list[tuple[Array, Array]] = []
        self._has_sound_state: bool | None = None
        self._fault: str | None = None

    @property
    def fault(self) -> str | None:
        """What the last update that was taken back would have made infinite or NaN; None: there was none."""
        stored = self._model.stored
        return self._fault if stored is None or stored.overflow is None else stored.overflow

    def forget_fault(self) -> None:
        """A new run begins, or the fault has been told."""
        self._fault = None
        if self._model.stored is not None:
            self._model.stored.overflow = None

    def safe_steps(self, rate: float, n_steps: int) -> int:
        """How many of the next n_steps are known to keep all parameters finite at rates up to `rate`; 0: none is."""
        model = self._model
        if model.stored is not None and model.stored.checks_updates:
            return n_steps
        if self._has_sound_state is None:
            self._has_sound_state = all(
                self._is_bounded(FlatParameters(array, array, ())) for array in self._optimizer.state.values()
            )
        if not self._has_sound_state or not self._is_bounded(self._values):
            return 0
        if model.stored is not None and not model.stored.is_bounded():
            return 0
        key = rate, n_steps, model.n_changes
        if key not in self._found:
            if len(self._found) == _MOST_FOUND:  # of rates that never come again
                self._found.clear()
            self._found[key] = self._provable_steps(rate, n_steps)
        return self._found[key]

    def _provable_steps(self, rate: float, n_steps: int) -> int:
        """`safe_steps` of parameters and moments that are bounded."""
        model, bound = self._model, self._bound
        weights = [(s.l1, s.l2) for s in model.flat.segments]
        weights += [] if model.stored is None else [(w.l1, w.l2) for w in model.stored.weights]
        while n_steps:
            course = Course(
                rate=rate,
                n_steps=n_steps,
                start=bound,
                gradient=bound,
                l1=max((l1 for l1, _ in weights), default=0.0),
                l2=max((l2 for _, l2 in weights), default=0.0),
                dtype=model.dtype,
            )
            if self._optimizer.stays_finite(course):
                return n_steps
            n_steps = n_steps // 2 if n_steps >= 2 * _FEWEST else 0
        return 0

    def _is_bounded(self, x: FlatParameters) -> bool:
        """Whether Σx² is finite, x in the place of gradients: then no |x| exceeds the root of the largest number."""
        ops = self._model.ops
        if not x.values.size:
            return True
        ops.fill(self._number, -1)
        if x is self._values:
            self._check_values()
        else:
            ops.check_finite(self._losses, x, self._control)
        return int(ops.to_numpy(self._number)[0]) < 0

    def take(self, update: Callable[[], None]) -> None:
        """The update of a step, which has been checked; taken back, and failed_step set, if parameters overflow."""
        model, control = self._model, self._optimizer.control
        ops = model.ops
        if model.stored is not None:
            model.stored.guarded = True
            try:
                update()
            finally:
                model.stored.guarded = False
            return
        if int(ops.to_numpy(control.failed_step)[0]) >= 0:
            update()
            return
        self._copy()
        step, before = int(ops.to_numpy(control.step)[0]), self._n_nonfinite(model.flat.values)
        update()
        if self._n_nonfinite(model.flat.values) > before:
            self._fault = self._first_overflow()
            for live, kept in self._copies:
                ops.assign(live, kept)
            ops.fill(control.failed_step, step)

    def _copy(self) -> None:
        ops, control, flat = self._model.ops, self._optimizer.control, self._model.flat
        if not self._copies:
            live = [flat.values, *self._optimizer.state.values(), control.step]
            live += [] if flat.low is None else [flat.low]
            if (scaling := control.loss_scaling) is not None:
                live += [scaling.scale, scaling.good_steps, scaling.skipped]
            self._copies = [(array, ops.copy(array)) for array in live]
            return
        for live_array, kept in self._copies:
            ops.assign(kept, live_array)

    def _n_nonfinite(self, x: Array) -> int:
        ops = self._model.ops
        ops.fill(self._number, 0)
        ops.count_nonfinite(x, self._number)
        return int(ops.to_numpy(self._number)[0])

    def _first_overflow(self) -> str:
        to_numpy = self._model.ops.to_numpy
        for layer in self._model.walk():
            for parameter in layer.parameters():
                if not np.isfinite(to_numpy(parameter.value)).all():
                    return f"{parameter.name} in layer {layer.path}, {layer}"
        return "a parameter"
