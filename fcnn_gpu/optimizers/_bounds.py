"""What the optimizers' bounds of their parameters are made of."""

from __future__ import annotations

import math

import numpy as np

from .._types import DType

ROUNDING = 4.0
"""What a bound of |m|/√v allows for, of which every sum is rounded."""


def lost_in_squares(dtype: DType) -> float:
    """Gradients below this have squares of which v may keep nothing, or few digits."""
    return math.sqrt(float(np.finfo(dtype).tiny)) * 2.0**12


def power(factor: float, n: int) -> float:
    """factorⁿ for a factor of at least 1, ∞ beyond the range of float."""
    exponent = n * math.log(factor) if factor < math.inf else math.inf
    return math.exp(exponent) if exponent < 700.0 else math.inf
