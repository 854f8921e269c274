"""What goes around the products by which Muon makes a matrix of momenta orthogonal."""

from __future__ import annotations

import math

from ..._types import Array
from . import _numpy as np
from ._optimizer import FlatParameters, OptimizerOps, StepControl, _unless_skipped
from ._tape import every_step


class OrthogonalOps(OptimizerOps):
    @_unless_skipped
    def momentum_direction(
        self, flat: FlatParameters, control: StepControl, momentum: float, nesterov: bool, m: Array, out: Array
    ) -> None:
        """m ← μm + (1 − μ)g; out = m, or with Nesterov's momentum (1 − μ)g + μm.

        Nothing once a step has failed and in one that is skipped; frozen parameters are passed by. The parameters stay.
        """
        for part, _, _, g, t in self._update_blocks(flat, control):
            m_part, direction = m[part], out[part]
            np.multiply(g, 1.0 - momentum, out=t)
            np.multiply(m_part, momentum, out=m_part)
            np.add(m_part, t, out=m_part)
            if nesterov:
                np.multiply(m_part, momentum, out=direction)
                np.add(direction, t, out=direction)
            else:
                np.copyto(direction, m_part)

    @every_step
    def normalize_matrices(self, X: Array, groups: int, eps: float) -> None:
        """X_g ← X_g/max(‖X_g‖, ε) for the `groups` equal parts of X, one behind the other; ‖·‖ is Frobenius' norm.

        Where ‖X_g‖² is beyond the range of the dtype, X_g becomes 0.
        """
        for part in X.reshape(groups, -1):
            np.divide(part, max(math.sqrt(float(np.dot(part, part))), eps), out=part)

    def add_to_diagonal(self, X: Array, value: float) -> None:
        """X_gii ← X_gii + value for square matrices X (groups, n, n), C-ordered."""
        groups, n, _ = X.shape
        diagonals = X.reshape(groups, n * n)[:, :: n + 1]
        np.add(diagonals, value, out=diagonals)
