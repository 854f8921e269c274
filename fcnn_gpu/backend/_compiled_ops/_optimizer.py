"""The health of a step and the optimizers' updates over the flat buffer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..._types import Array
from .._ops import FlatParameters, Segment, StepControl
from ._array import CompiledArrays

_COUNTERS = 4
"""Counters that the operation finish_step takes."""
_SUMMED = 4096
"""Parameters in a block whose sums are one number each: threads share out blocks, one thread adds their sums."""


class CompiledOptimizer(CompiledArrays):
    # Penalties, clipping and the health of a step

    def penalty(self, flat: FlatParameters, total: Array) -> None:
        penalized = [segment for segment in flat.penalty_segments if segment.l1 or segment.l2]
        parts = self.scratch("penalties", sum(map(_n_blocks, penalized)), np.float64)
        at = 0
        for segment in penalized:
            n = _n_blocks(segment)
            self._issue(
                "penalty",
                flat.values.dtype,
                n=segment.stop - segment.start,
                block=_SUMMED,
                l1=segment.l1,
                l2=segment.l2,
                values=flat.values[segment.start : segment.stop],
                parts=parts[at : at + n],
            )
            at += n
        self._issue("sum", np.float64, n=parts.size, accumulate=False, x=parts, total=total)

    def penalized_gradient(self, flat: FlatParameters, out: Array, loss_scale: Array | None = None) -> None:
        if loss_scale is not None:
            super().penalized_gradient(flat, out, loss_scale)
            return
        for segment in flat.penalty_segments:
            part = slice(segment.start, segment.stop)
            self._issue(
                "penalized_gradient",
                out.dtype,
                n=segment.stop - segment.start,
                l1=segment.l1,
                l2=segment.l2,
                gradients=flat.gradients[part],
                values=flat.values[part],
                out=out[part],
            )

    def gradient_clip(self, flat: FlatParameters, control: StepControl) -> None:
        if control.loss_scaling is not None:
            super().gradient_clip(flat, control)
        elif control.max_norm is not None:
            self._clip(flat, control, control.max_norm, None)

    def _clip(self, flat: FlatParameters, control: StepControl, max_norm: float, unsound: Array | None) -> None:
        """clip_scale, and what the same pass over the gradients finds."""
        n = sum(map(_n_blocks, flat.penalty_segments))
        sums = self.scratch("squares", 2 * n, np.float64)
        bare, whole, at = sums[:n], sums[n:], 0
        for segment in flat.penalty_segments:
            part, blocks = slice(segment.start, segment.stop), slice(at, at + _n_blocks(segment))
            self._issue(
                "squares",
                flat.values.dtype,
                n=segment.stop - segment.start,
                block=_SUMMED,
                l1=segment.l1,
                l2=segment.l2,
                gradients=flat.gradients[part],
                values=flat.values[part],
                bare=bare[blocks],
                whole=whole[blocks],
            )
            at = blocks.stop
        self._issue(
            "clip",
            np.float64,
            n=n,
            max_norm=max_norm,
            bare=bare,
            whole=whole,
            unsound=unsound,
            clip_scale=control.clip_scale,
        )

    def _unsound(self) -> Array:
        """int64 (1,): whether operations of this step have found numbers that are not finite."""
        found: Array | None = self._per_thread.__dict__.get("unsound")
        if found is None:
            found = self._per_thread.unsound = self.zeros(1, np.int64)
        return found

    def check_finite(
        self, losses: Array, flat: FlatParameters, control: StepControl, total: Array | None = None
    ) -> None:
        if control.loss_scaling is not None:
            super().check_finite(losses, flat, control, total)
            return
        unsound, dtype = self._unsound(), flat.values.dtype
        if control.max_norm is not None:
            self._clip(flat, control, control.max_norm, unsound)
        else:
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

    # Updates

    def sgd_update(
        self,
        flat: FlatParameters,
        control: StepControl,
        momentum: float,
        nesterov: bool,
        velocity: Array | None,
    ) -> None:
        if _is_left_to_the_reference(flat, control):
            super().sgd_update(flat, control, momentum, nesterov, velocity)
            return
        self._update("sgd", flat, control, {"momentum": momentum, "nesterov": nesterov}, {"velocity": velocity})

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
        if _is_left_to_the_reference(flat, control):
            super().adam_update(flat, control, beta1, beta2, eps, weight_decay, m, v)
            return
        numbers = {"beta1": beta1, "beta2": beta2, "eps": eps}
        self._update("adam", flat, control, numbers, {"m": m, "v": v}, weight_decay)

    def rmsprop_update(
        self,
        flat: FlatParameters,
        control: StepControl,
        rho: float,
        eps: float,
        momentum: float,
        v: Array,
        velocity: Array | None,
    ) -> None:
        if _is_left_to_the_reference(flat, control):
            super().rmsprop_update(flat, control, rho, eps, momentum, v, velocity)
            return
        numbers = {"rho": rho, "eps": eps, "momentum": momentum}
        self._update("rmsprop", flat, control, numbers, {"v": v, "velocity": velocity})

    def adagrad_update(self, flat: FlatParameters, control: StepControl, lr_decay: float, eps: float, s: Array) -> None:
        if _is_left_to_the_reference(flat, control):
            super().adagrad_update(flat, control, lr_decay, eps, s)
            return
        self._update("adagrad", flat, control, {"lr_decay": lr_decay, "eps": eps}, {"s": s})

    def _update(
        self,
        name: str,
        flat: FlatParameters,
        control: StepControl,
        numbers: Mapping[str, float],
        state: Mapping[str, Array | None],
        weight_decay: float | None = None,
    ) -> None:
        """An optimizer's operation for each segment. `weight_decay`: None where the operation knows none."""
        for segment in flat.segments if weight_decay else flat.penalty_segments:
            part = slice(segment.start, segment.stop)
            decay = {} if weight_decay is None else {"decay": weight_decay if segment.decays else 0.0}
            self._issue(
                name,
                flat.values.dtype,
                n=segment.stop - segment.start,
                l1=segment.l1,
                l2=segment.l2,
                max_value=math.inf if control.max_value is None else control.max_value,
                step=control.step,
                failed_step=control.failed_step,
                learning_rate=control.learning_rate,
                clip_scale=None if control.max_norm is None else control.clip_scale,
                gradients=flat.gradients[part],
                values=flat.values[part],
                **numbers,
                **decay,
                **{key: None if array is None else array[part] for key, array in state.items()},
            )


def _n_blocks(segment: Segment) -> int:
    """Of which the sums over a segment are made."""
    return -(-(segment.stop - segment.start) // _SUMMED)


def _is_left_to_the_reference(flat: FlatParameters, control: StepControl) -> bool:
    """Whether an update is one of mixed precision: its products are NumPy's, too, and take most of a step."""
    return control.loss_scaling is not None or flat.low is not None
