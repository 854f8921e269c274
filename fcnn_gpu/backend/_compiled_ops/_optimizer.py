"""The health of a step and the optimizers' updates over the flat buffer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..._types import Array
from .._ops import (
    LARGEST_LOSS_SCALE,
    SMALLEST_LOSS_SCALE,
    UPDATE_RULES,
    FlatParameters,
    LimitedRows,
    Scheduled,
    Segment,
    StepControl,
)
from .._ops import _numpy as recordable
from ._array import CompiledArrays
from ._scheduled import scheduled

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
        for segment in flat.penalty_segments:
            part = slice(segment.start, segment.stop)
            self._issue(
                "penalized_gradient",
                out.dtype,
                n=segment.stop - segment.start,
                l1=segment.l1,
                l2=segment.l2,
                loss_scale=loss_scale,
                gradients=flat.gradients[part],
                values=flat.values[part],
                out=out[part],
            )

    def gradient_clip(self, flat: FlatParameters, control: StepControl) -> None:
        if control.max_norm is not None:
            self._go_over_squares(flat, control, None)

    def _go_over_squares(self, flat: FlatParameters, control: StepControl, unsound: Array | None) -> None:
        """One pass over the gradients, which finds clip_scale, if there is clipping, and what is not finite."""
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
                loss_scale=control.loss_scale,
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
            max_norm=math.inf if control.max_norm is None else control.max_norm,
            bare=bare,
            whole=whole,
            unsound=unsound,
            clip_scale=None if control.max_norm is None else control.clip_scale,
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
        unsound, dtype, scaling = self._unsound(), flat.values.dtype, control.loss_scaling
        if control.max_norm is None and scaling is None:
            self._issue("check_gradients", dtype, n=flat.gradients.size, gradients=flat.gradients, unsound=unsound)
        else:
            self._go_over_squares(flat, control, unsound)
        self._issue(
            "judge",
            dtype,
            batch=losses.size,
            smallest=SMALLEST_LOSS_SCALE,
            losses=losses,
            step=control.step,
            loss_scale=control.loss_scale,
            total=total,
            unsound=unsound,
            skip=None if scaling is None else scaling.skip,
            failed_step=control.failed_step,
        )

    def finish_step(self, control: StepControl, counters: Sequence[tuple[Array, int]] = ()) -> None:
        scaling = control.loss_scaling
        first, rest = list(counters[:_COUNTERS]), counters[_COUNTERS:]
        by = [n for _, n in first] + [0] * (_COUNTERS - len(first))
        arrays = [array for array, _ in first] + [None] * (_COUNTERS - len(first))
        self._issue(
            "finish_step",
            np.float64,
            growth_interval=0 if scaling is None else scaling.growth_interval,
            smallest=SMALLEST_LOSS_SCALE,
            largest=LARGEST_LOSS_SCALE,
            **{f"by{i}": n for i, n in enumerate(by, 1)},
            failed_step=control.failed_step,
            skip=None if scaling is None else scaling.skip,
            step=control.step,
            loss_scale=control.loss_scale,
            good_steps=None if scaling is None else scaling.good_steps,
            skipped=None if scaling is None else scaling.skipped,
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
        weight_decay: float | Scheduled = 0.0,
    ) -> None:
        numbers = {"momentum": momentum, "nesterov": nesterov}
        self._update("sgd", flat, control, numbers, {"velocity": velocity}, weight_decay)

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
        weight_decay: float | Scheduled = 0.0,
    ) -> None:
        numbers = {"rho": rho, "eps": eps, "momentum": momentum}
        self._update("rmsprop", flat, control, numbers, {"v": v, "velocity": velocity}, weight_decay)

    def adagrad_update(
        self,
        flat: FlatParameters,
        control: StepControl,
        lr_decay: float,
        eps: float,
        s: Array,
        weight_decay: float | Scheduled = 0.0,
    ) -> None:
        self._update("adagrad", flat, control, {"lr_decay": lr_decay, "eps": eps}, {"s": s}, weight_decay)

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
        numbers: dict[str, float] = {"rule": list(UPDATE_RULES).index(rule)}
        numbers |= {f"setting{i}": value for i, value in enumerate(four)}
        arrays = dict(zip(("first", "second", "third"), three, strict=True))
        self._update("update_by_rule", flat, control, numbers, arrays, weight_decay)

    def _update(
        self,
        name: str,
        flat: FlatParameters,
        control: StepControl,
        numbers: Mapping[str, float],
        state: Mapping[str, Array | None],
        weight_decay: float | Scheduled,
    ) -> None:
        """An optimizer's operation for each segment."""
        scaling = control.loss_scaling
        for segment in flat.segments if weight_decay else flat.undecayed_segments:
            if segment.frozen:
                continue
            part = slice(segment.start, segment.stop)
            self._issue(
                name,
                flat.values.dtype,
                n=segment.stop - segment.start,
                l1=segment.l1,
                l2=segment.l2,
                max_value=math.inf if control.max_value is None else control.max_value,
                rate_factor=segment.rate,
                step=control.step,
                failed_step=control.failed_step,
                learning_rate=control.learning_rate,
                clip_scale=None if control.max_norm is None else control.clip_scale,
                loss_scale=control.loss_scale,
                skip=None if scaling is None else scaling.skip,
                gradients=flat.gradients[part],
                values=flat.values[part],
                **numbers,
                **scheduled("decay", weight_decay if segment.decay else 0.0),
                decay_factor=segment.decay,
                **{key: None if array is None else array[part] for key, array in state.items()},
            )
        if flat.low is not None:  # NumPy's: so are the products that read it
            recordable.copyto(flat.low, flat.values[: flat.low.size], casting="unsafe")

    def constrain(self, flat: FlatParameters, control: StepControl, rows: LimitedRows) -> None:
        scaling, limits = control.loss_scaling, rows.limits
        self._issue(
            "constrain",
            flat.values.dtype,
            n=rows.n_units,
            n_in=(rows.place.stop - rows.place.start) // rows.n_units,
            non_negative=limits.non_negative,
            least=limits.least,
            most=limits.most,
            failed_step=control.failed_step,
            skip=None if scaling is None else scaling.skip,
            W=flat.values[rows.place],
        )
        if flat.low is not None:
            recordable.copyto(flat.low[rows.place], flat.values[rows.place], casting="unsafe")


def _n_blocks(segment: Segment) -> int:
    """Of which the sums over a segment are made."""
    return -(-(segment.stop - segment.start) // _SUMMED)
