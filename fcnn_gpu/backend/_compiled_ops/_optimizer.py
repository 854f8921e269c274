"""The health of a step and the optimizers' updates over the flat buffer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..._types import Array
from .._ops import FlatParameters, Segment, StepControl
from ._array import CompiledArrays

_COUNTERS = 4


class CompiledOptimizer(CompiledArrays):
    def _unsound(self) -> Array:
        """int64 (1,): whether operations of this step have found numbers that are not finite."""
        found: Array | None = self._per_thread.__dict__.get("unsound")
        if found is None:
            found = self._per_thread.unsound = self.zeros(1, np.int64)
        return found

    def check_finite(
        self, losses: Array, flat: FlatParameters, control: StepControl, total: Array | None = None
    ) -> None:
        if control.loss_scaling is not None or control.max_norm is not None:
            super().check_finite(losses, flat, control, total)
            return
        unsound, dtype = self._unsound(), flat.values.dtype
        self._issue("check_gradients", dtype, n=flat.gradients.size, gradients=flat.gradients, unsound=unsound)
        self._issue(
            "judge",
            dtype,
            batch=losses.size,
            losses=losses,
            step=control.step,
            total=total,
            unsound=unsound,
            failed_step=control.failed_step,
        )

    def finish_step(self, control: StepControl, counters: Sequence[tuple[Array, int]] = ()) -> None:
        if control.loss_scaling is not None:
            super().finish_step(control, counters)
            return
        first, rest = list(counters[:_COUNTERS]), counters[_COUNTERS:]
        by = [n for _, n in first] + [0] * (_COUNTERS - len(first))
        arrays = [array for array, _ in first] + [None] * (_COUNTERS - len(first))
        self._issue(
            "finish_step",
            np.float64,
            **{f"by{i}": n for i, n in enumerate(by, 1)},
            failed_step=control.failed_step,
            step=control.step,
            **{f"counter{i}": array for i, array in enumerate(arrays, 1)},
        )
        for counter, n in rest:
            self.advance(counter, n)

    def adam_update(
        self,
        flat: FlatParameters,
        control: StepControl,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        m: Array,
        v: Array,
    ) -> None:
        if control.loss_scaling is not None or flat.low is not None:
            super().adam_update(flat, control, beta1, beta2, eps, weight_decay, m, v)
            return
        for segment in self._segments(flat, weight_decay != 0.0):
            part = slice(segment.start, segment.stop)
            decay = weight_decay if segment.decays else 0.0
            arguments = {"beta1": beta1, "beta2": beta2, "eps": eps, "decay": decay, "m": m[part], "v": v[part]}
            self._update("adam", flat, control, segment, arguments)

    def _segments(self, flat: FlatParameters, decay_matters: bool) -> Sequence[Segment]:
        return flat.segments if decay_matters else flat.penalty_segments

    def _update(
        self, name: str, flat: FlatParameters, control: StepControl, segment: Segment, arguments: dict[str, Any]
    ) -> None:
        part = slice(segment.start, segment.stop)
        clips = control.max_norm is not None or control.max_value is not None
        self._issue(
            name,
            flat.values.dtype,
            n=segment.stop - segment.start,
            is_plain=not (clips or segment.l1 or segment.l2),
            l1=segment.l1,
            l2=segment.l2,
            max_value=math.inf if control.max_value is None else control.max_value,
            step=control.step,
            failed_step=control.failed_step,
            learning_rate=control.learning_rate,
            clip_scale=None if control.max_norm is None else control.clip_scale,
            gradients=flat.gradients[part],
            values=flat.values[part],
            **arguments,
        )
