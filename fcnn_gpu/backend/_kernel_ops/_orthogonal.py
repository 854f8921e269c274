"""What goes around the products by which Muon makes a matrix of momenta orthogonal."""

from __future__ import annotations

import math

from ..._types import Array
from .._ops import FlatParameters, StepControl
from ._device import vector_threads
from ._optimizer import OptimizerKernels, parts_of_sum

_SUM_BLOCK = 256


class OrthogonalKernels(OptimizerKernels):
    def momentum_direction(
        self, flat: FlatParameters, control: StepControl, momentum: float, nesterov: bool, m: Array, out: Array
    ) -> None:
        for place, learning in flat.learning:
            dtype, scaling, n = learning.values.dtype, control.loss_scaling, learning.values.size
            n_segments, table = self._segments(learning) if learning.penalized else (0, None)
            self._launcher.launch(
                "momentum_direction",
                "momentum_direction",
                (dtype,),
                [
                    n,
                    n_segments,
                    momentum,
                    nesterov,
                    math.inf if control.max_value is None else control.max_value,
                    table,
                    None if control.max_norm is None else control.clip_scale,
                    control.loss_scale,
                    None if scaling is None else scaling.skip,
                    control.failed_step,
                    learning.gradients,
                    learning.values,
                    m if learning is flat else m[place],
                    out if learning is flat else out[place],
                ],
                threads=vector_threads(n, dtype),
            )

    def normalize_matrices(self, X: Array, groups: int, eps: float) -> None:
        size, part, n_parts = parts_of_sum(X.size // groups)
        partial = self.scratch("squares of matrices", groups * n_parts, X.dtype)
        sizes, blocks = [groups, size, part, n_parts], groups * n_parts
        for kernel, arguments in (
            ("matrix_squares", [*sizes, X, partial]),
            ("normalize_matrices", [*sizes, eps, partial, X]),
        ):
            self._launcher.launch("normalize_matrices", kernel, (X.dtype,), arguments, blocks=blocks, block=_SUM_BLOCK)

    def add_to_diagonal(self, X: Array, value: float) -> None:
        groups, n, _ = X.shape
        self._launcher.launch(
            "add_to_diagonal", "add_to_diagonal", (X.dtype,), [groups, n, value, X], threads=groups * n
        )
