"""The flat buffer of parameters: penalties, clipping, the health of a step, and the optimizers' updates."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..._types import Array
from .._ops import LARGEST_LOSS_SCALE, SMALLEST_LOSS_SCALE, FlatParameters, LimitedRows, Scheduled, Segment, StepControl
from ._device import WARP, DeviceOps, scheduled, vector_threads

_ONE_PART = 16_384
_PARAMETERS_PER_PART = 4096
_PARTS = 1024
"""Sums over up to 16384 parameters are one block's; others run in parts of at least 4096, at most 1024 parts. That
depends on the network alone: a sum has the same bits on every device."""

_SUM_BLOCK = 1024
"""Threads of a block that sums a part: the one that adds the parts also adds the batch's losses, alone."""

_CONSTRAIN_BLOCK = 256

_COUNTERS = 4
"""Counters that the kernel finish_step takes."""


class OptimizerKernels(DeviceOps):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._segment_table = functools.lru_cache(maxsize=128)(self._make_segment_table)

    # Penalties, clipping and the health of a step

    def penalty(self, flat: FlatParameters, total: Array) -> None:
        n, part, n_parts = _parts(flat)
        dtype = flat.values.dtype
        partial = self.scratch("penalties", n_parts, dtype)
        self._launcher.launch(
            "penalty",
            "penalty",
            (dtype,),
            [n, part, n_parts, *self._segments(flat), flat.values, partial, self._arrived(), total],
            blocks=n_parts,
            block=_SUM_BLOCK,
        )

    def penalized_gradient(self, flat: FlatParameters, out: Array, loss_scale: Array | None = None) -> None:
        n, dtype = flat.values.size, flat.values.dtype
        self._launcher.launch(
            "penalty",
            "penalized_gradient",
            (dtype,),
            [n, *self._segments(flat), loss_scale, flat.values, flat.gradients, out],
            threads=vector_threads(flat.values.size, dtype),
        )

    def gradient_clip(self, flat: FlatParameters, control: StepControl) -> None:
        if control.max_norm is not None:
            self._check(None, flat, control, None)

    def check_finite(
        self, losses: Array, flat: FlatParameters, control: StepControl, total: Array | None = None
    ) -> None:
        self._check(losses, flat, control, total)

    def finish_step(self, control: StepControl, counters: Sequence[tuple[Array, int]] = ()) -> None:
        scaling = control.loss_scaling
        first, rest = list(counters[:_COUNTERS]), counters[_COUNTERS:]
        absent = [None] * (_COUNTERS - len(first))
        self._launcher.launch(
            "check_finite",
            "finish_step",
            (),
            [
                0 if scaling is None else scaling.growth_interval,
                SMALLEST_LOSS_SCALE,
                LARGEST_LOSS_SCALE,
                *(by for _, by in first),
                *(0 for _ in absent),
                control.failed_step,
                None if scaling is None else scaling.skip,
                control.step,
                control.loss_scale,
                None if scaling is None else scaling.good_steps,
                None if scaling is None else scaling.skipped,
                *(counter for counter, _ in first),
                *absent,
            ],
            threads=1,
        )
        for counter, by in rest:
            self.advance(counter, by)

    # Updates

    def sgd_update(
        self,
        flat: FlatParameters,
        control: StepControl,
        momentum: float,
        nesterov: bool,
        velocity: Array | None,
        weight_decay: float | Scheduled = 0.0,
    ) -> None:
        self._update("sgd", flat, control, [momentum, nesterov], [velocity], weight_decay, counts_steps=False)

    def adam_update(
        self,
        flat: FlatParameters,
        control: StepControl,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float | Scheduled,
        m: Array,
        v: Array,
    ) -> None:
        scalars = [beta1, beta2, _log(beta1), _log(beta2), eps]
        self._update("adam", flat, control, scalars, [m, v], weight_decay, counts_steps=True)

    def rmsprop_update(
        self,
        flat: FlatParameters,
        control: StepControl,
        rho: float,
        eps: float,
        momentum: float,
        v: Array,
        velocity: Array | None,
        weight_decay: float | Scheduled = 0.0,
    ) -> None:
        scalars = [rho, eps, momentum]
        self._update("rmsprop", flat, control, scalars, [v, velocity], weight_decay, counts_steps=False)

    def adagrad_update(
        self,
        flat: FlatParameters,
        control: StepControl,
        lr_decay: float,
        eps: float,
        s: Array,
        weight_decay: float | Scheduled = 0.0,
    ) -> None:
        self._update("adagrad", flat, control, [lr_decay, eps], [s], weight_decay, counts_steps=True)

    def update_by_rule(
        self,
        flat: FlatParameters,
        control: StepControl,
        rule: str,
        settings: Sequence[float],
        state: Sequence[Array],
        weight_decay: float | Scheduled = 0.0,
    ) -> None:
        four, three = [*settings, 0.0, 0.0, 0.0, 0.0][:4], [*state, None, None][:3]
        self._update("update_by_rule", flat, control, four, three, weight_decay, counts_steps=True, rule=rule.upper())

    def constrain(self, flat: FlatParameters, control: StepControl, rows: LimitedRows) -> None:
        W, limits, scaling = flat.values[rows.place], rows.limits, control.loss_scaling
        low = None if flat.low is None else flat.low[rows.place]
        self._launcher.launch(
            "constrain",
            "constrain",
            (W.dtype, W.dtype if low is None else low.dtype),
            [
                rows.n_units,
                W.size // rows.n_units,
                limits.non_negative,
                limits.least,
                limits.most,
                None if scaling is None else scaling.skip,
                control.failed_step,
                W,
                low,
            ],
            blocks=-(-rows.n_units // WARP),
            block=_CONSTRAIN_BLOCK,
        )

    # What they share

    def _segments(self, flat: FlatParameters) -> list[Any]:
        return [len(flat.segments), self._segment_table(flat.segments)]

    def _make_segment_table(self, segments: tuple[Segment, ...]) -> Array:
        """The rows that flat_parameters.cuh describes: stop, λ₁, λ₂, factors of weight decay and learning rate."""
        rows = [(float(s.stop), s.l1, s.l2, s.decay, s.rate) for s in segments]
        return self._runtime.to_device(np.array(rows, np.float64).reshape(-1, 5))

    def _arrived(self) -> Array:
        """Counts the blocks of a launch that have come to its end (common.cuh); 0 between launches."""
        found: Array | None = self._per_thread.__dict__.get("arrived")
        if found is None:
            found = self._per_thread.arrived = self.zeros(1, np.uint32)
        return found

    def _check(self, losses: Array | None, flat: FlatParameters, control: StepControl, total: Array | None) -> None:
        """Without losses, the clip scale alone."""
        n, part, n_parts = _parts(flat)
        dtype, max_norm, scaling = flat.values.dtype, control.max_norm, control.loss_scaling
        penalized = max_norm is not None and flat.penalized
        n_segments, table = self._segments(flat) if penalized else (0, None)
        judged = losses is not None
        self._launcher.launch(
            "check_finite",
            "check_finite",
            (dtype, penalized),
            [
                n,
                part,
                n_parts,
                n_segments,
                0 if losses is None else losses.size,
                math.inf if max_norm is None else max_norm,
                SMALLEST_LOSS_SCALE,
                table,
                control.loss_scale,
                control.step,
                losses,
                flat.values,
                flat.gradients,
                self.scratch("squares", n_parts, dtype),
                self.scratch("penalized squares", n_parts, dtype) if penalized else None,
                self._arrived(),
                control.failed_step if judged else None,
                scaling.skip if judged and scaling is not None else None,
                None if max_norm is None else control.clip_scale,
                total,
            ],
            blocks=n_parts,
            block=_SUM_BLOCK,
        )

    def _update(
        self,
        kernel: str,
        flat: FlatParameters,
        control: StepControl,
        scalars: list[float],
        state: list[Array | None],
        weight_decay: float | Scheduled,
        counts_steps: bool,
        rule: str | None = None,
    ) -> None:
        """Launch an optimizer's kernel, which is named like its file, over what learns of the flat buffer.

        `scalars` are numbers of its own, `rule` is its enumerator, if it is for several.
        """
        for part, learning in flat.learning:
            own = state if learning is flat else [None if array is None else array[part] for array in state]
            self._launch_update(kernel, learning, control, scalars, own, weight_decay, counts_steps, rule)

    def _launch_update(
        self,
        kernel: str,
        flat: FlatParameters,
        control: StepControl,
        scalars: list[float],
        state: list[Array | None],
        weight_decay: float | Scheduled,
        counts_steps: bool,
        rule: str | None,
    ) -> None:
        n_decay, decay, *decay_table = scheduled(weight_decay)
        decays = weight_decay != 0.0
        dtype, low, scaling = flat.values.dtype, flat.low, control.loss_scaling
        n_segments, table = self._segments(flat) if flat.penalized or decays or flat.has_rates else (0, None)
        self._launcher.launch(
            kernel,
            kernel,
            (dtype, dtype if low is None else low.dtype, *(() if rule is None else (rule,))),
            [
                flat.values.size,
                0 if low is None else low.size,
                n_segments,
                *scalars,
                n_decay,
                decay,
                math.inf if control.max_value is None else control.max_value,
                table,
                *decay_table,
                *([control.step] if counts_steps else []),
                control.learning_rate,
                None if control.max_norm is None else control.clip_scale,
                control.loss_scale,
                None if scaling is None else scaling.skip,
                control.failed_step,
                flat.gradients,
                flat.values,
                low,
                *state,
            ],
            threads=vector_threads(flat.values.size, dtype),
        )


def _parts(flat: FlatParameters) -> tuple[int, int, int]:
    return parts_of_sum(flat.values.size)


def parts_of_sum(n: int) -> tuple[int, int, int]:
    """(numbers, numbers per part, parts)"""
    if n <= _ONE_PART:
        return n, _ONE_PART, 1
    part = max(_PARAMETERS_PER_PART, -(-n // (_PARTS * WARP)) * WARP)  # every part begins at a whole vector
    return n, part, -(-n // part)


def _log(beta: float) -> float:
    return math.log(beta) if beta > 0.0 else -math.inf
