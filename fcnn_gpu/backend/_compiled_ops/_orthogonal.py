"""What goes around the products by which Muon makes a matrix of momenta orthogonal."""

from __future__ import annotations

import math

import numpy as np

from ..._types import Array
from .._ops import FlatParameters, StepControl
from ._array import CompiledArrays

_SUMMED = 4096
"""Elements in a block whose squares are one sum: threads share out blocks, each adds all blocks' sums in order."""


class CompiledOrthogonal(CompiledArrays):
    def momentum_direction(
        self, flat: FlatParameters, control: StepControl, momentum: float, nesterov: bool, m: Array, out: Array
    ) -> None:
        scaling = control.loss_scaling
        for segment in flat.undecayed_segments:
            if segment.frozen:
                continue
            part = slice(segment.start, segment.stop)
            self._issue(
                "momentum_direction",
                flat.values.dtype,
                n=segment.stop - segment.start,
                l1=segment.l1,
                l2=segment.l2,
                max_value=math.inf if control.max_value is None else control.max_value,
                momentum=momentum,
                nesterov=nesterov,
                failed_step=control.failed_step,
                clip_scale=None if control.max_norm is None else control.clip_scale,
                loss_scale=control.loss_scale,
                skip=None if scaling is None else scaling.skip,
                gradients=flat.gradients[part],
                values=flat.values[part],
                m=m[part],
                out=out[part],
            )

    def normalize_matrices(self, X: Array, groups: int, eps: float) -> None:
        flat = X.reshape(-1)
        n = flat.size // groups
        n_parts = -(-n // _SUMMED)
        squares = self.scratch("squares of matrices", groups * n_parts, np.float64)
        for g in range(groups):
            self._issue(
                "penalty",
                X.dtype,
                n=n,
                block=_SUMMED,
                l1=0.0,
                l2=1.0,
                values=flat[g * n : (g + 1) * n],
                parts=squares[g * n_parts : (g + 1) * n_parts],
            )
        self._issue(
            "normalize_matrices", X.dtype, groups=groups, n=n, n_parts=n_parts, eps=eps, squares=squares, x=flat
        )

    def add_to_diagonal(self, X: Array, value: float) -> None:
        groups, n, _ = X.shape
        self._issue("add_to_diagonal", X.dtype, groups=groups, n=n, value=value, x=X)
