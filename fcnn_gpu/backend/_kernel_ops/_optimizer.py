"""The flat buffer of parameters: penalties, clipping, the health of a step, and the optimizers' updates."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ..._types import Array
from .._ops import FlatParameters, Segment, StepControl
from ._device import DeviceOps, thread_count

_PARAMETERS_PER_PART = 4096
_PARTS = 1024
"""Sums over parameters run in parts of at least 4096, at most about 1024 parts, whatever the device."""


class OptimizerKernels(DeviceOps):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._segment_table = functools.lru_cache(maxsize=128)(self._make_segment_table)

    # Penalties, clipping and the health of a step

    def penalty(self, flat: FlatParameters, total: Array) -> None:
        n, part, n_parts, partial = self._parts(flat)
        dtype = flat.values.dtype
        self._launcher.launch(
            "penalty",
            "penalty_parts",
            (dtype,),
            [n, part, n_parts, *self._segments(flat), flat.values, partial],
            blocks=n_parts,
        )
        self._launcher.launch("penalty", "penalty_total", (dtype,), [n_parts, partial, total], blocks=1)

    def penalized_gradient(self, flat: FlatParameters, out: Array) -> None:
        self._launcher.launch(
            "penalty",
            "penalized_gradient",
            (flat.values.dtype,),
            [flat.values.size, *self._segments(flat), flat.values, flat.gradients, out],
            threads=thread_count(flat.values.size),
        )

    def gradient_clip(self, flat: FlatParameters, control: StepControl) -> None:
        if control.max_norm is None:
            return
        n_parts, partial = self._squares(flat, penalized=flat.penalized)
        self._launcher.launch(
            "gradient_clip",
            "clip_scale",
            (partial.dtype,),
            [n_parts, control.max_norm, partial, control.clip_scale],
            blocks=1,
        )

    def check_finite(self, losses: Array, flat: FlatParameters, control: StepControl) -> None:
        n_parts, partial = self._squares(flat, penalized=False)
        self._launcher.launch(
            "check_finite",
            "check_finite",
            (partial.dtype,),
            [losses.size, n_parts, losses, partial, control.step, control.failed_step],
            blocks=1,
        )

    def finish_step(self, control: StepControl) -> None:
        arguments = [control.failed_step, control.step]
        self._launcher.launch("check_finite", "finish_step", (), arguments, threads=1)

    # Updates

    def sgd_update(
        self,
        flat: FlatParameters,
        control: StepControl,
        momentum: float,
        nesterov: bool,
        velocity: Array | None,
    ) -> None:
        self._update("sgd", flat, control, [momentum, nesterov], [velocity], counts_steps=False)

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
        scalars = [beta1, beta2, _log(beta1), _log(beta2), eps, weight_decay]
        self._update("adam", flat, control, scalars, [m, v], counts_steps=True)

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
        self._update("rmsprop", flat, control, [rho, eps, momentum], [v, velocity], counts_steps=False)

    def adagrad_update(self, flat: FlatParameters, control: StepControl, lr_decay: float, eps: float, s: Array) -> None:
        self._update("adagrad", flat, control, [lr_decay, eps], [s], counts_steps=True)

    # What they share

    def _segments(self, flat: FlatParameters) -> list[Any]:
        return [len(flat.segments), self._segment_table(flat.segments)]

    def _make_segment_table(self, segments: tuple[Segment, ...]) -> Array:
        """The rows that flat_parameters.cuh describes: stop, λ₁, λ₂, decays."""
        rows = [(float(s.stop), s.l1, s.l2, float(s.decays)) for s in segments]
        return self._runtime.to_device(np.array(rows, np.float64).reshape(-1, 4))

    def _parts(self, flat: FlatParameters) -> tuple[int, int, int, Array]:
        """(parameters, parameters per part, parts, scratch for the parts' sums)."""
        n = flat.values.size
        part = max(_PARAMETERS_PER_PART, -(-n // _PARTS))
        n_parts = max(1, -(-n // part))
        return n, part, n_parts, self.scratch("partial", n_parts, flat.values.dtype)

    def _squares(self, flat: FlatParameters, penalized: bool) -> tuple[int, Array]:
        """(parts, Σ g² of each), g the penalized or the bare gradient."""
        n, part, n_parts, partial = self._parts(flat)
        segments = self._segments(flat) if penalized else [0, None]
        self._launcher.launch(
            "gradient_clip",
            "square_parts",
            (partial.dtype,),
            [n, part, n_parts, *segments, flat.values, flat.gradients, partial],
            blocks=n_parts,
        )
        return n_parts, partial

    def _update(
        self,
        kernel: str,
        flat: FlatParameters,
        control: StepControl,
        scalars: list[float],
        state: list[Array | None],
        counts_steps: bool,
    ) -> None:
        """Launch an optimizer's kernel, which is named like its file, over the flat buffer."""
        n_segments, table = self._segments(flat)
        max_value = math.inf if control.max_value is None else control.max_value
        step = [control.step] if counts_steps else []
        clip_scale = None if control.max_norm is None else control.clip_scale
        self._launcher.launch(
            kernel,
            kernel,
            (flat.values.dtype,),
            [
                flat.values.size,
                n_segments,
                *scalars,
                max_value,
                table,
                *step,
                control.learning_rate,
                clip_scale,
                control.failed_step,
                flat.gradients,
                flat.values,
                *state,
            ],
            threads=thread_count(flat.values.size),
        )


def _log(beta: float) -> float:
    return math.log(beta) if beta > 0.0 else -math.inf
