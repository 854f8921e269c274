"""What a network computes in: the dtypes of its parameters and of its activations, and how float32 is multiplied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._checks import check_choice
from .._types import DType
from ..backend import PRECISIONS


@dataclass(frozen=True)
class Precision:
    """`dtype` is that of parameters, gradients, optimizer state and results; `compute_dtype` that of activations.

    | name | products multiply | activations | parameters |
    |---|---|---|---|
    | float32, float64 | that | that | that |
    | tf32 | float32 rounded to 11 significant bits, on tensor cores | float32 | float32 |
    | bfloat16, float16 | that, on tensor cores | that | float32, with a 16-bit copy of the weights |

    All products sum in float32 (float64 in float64), and so do all other sums.
    Source: Micikevicius et al. (2018), "Mixed precision training", sections 3.1 to 3.3.
    """

    name: str
    dtype: DType
    compute_dtype: DType

    @property
    def mixed(self) -> bool:
        """Whether activations and the weights that products read are 16-bit copies."""
        return self.compute_dtype != self.dtype


def resolve_precision(precision: str | None, dtype: DType) -> Precision:
    """The precision of that name for parameters of `dtype`; None is `dtype` itself.

    Raises ValueError for an unknown name or one that does not go with `dtype`, ImportError for bfloat16 without the
    package ml_dtypes, which gives NumPy that dtype.
    """
    if precision is None:
        return Precision(dtype.name, dtype, dtype)
    check_choice("Sequential(precision)", precision, PRECISIONS)
    if precision in ("float32", "float64"):
        if precision != dtype.name:
            raise ValueError(
                f"Sequential(precision={precision!r}) needs dtype={precision!r}, got dtype={dtype.name!r}. Leave "
                "precision out: it is the dtype's."
            )
        return Precision(precision, dtype, dtype)
    if dtype != np.float32:
        raise ValueError(
            f"Sequential(precision={precision!r}) keeps its parameters in float32, got dtype={dtype.name!r}. "
            "Leave dtype out."
        )
    if precision == "tf32":
        return Precision(precision, dtype, dtype)
    return Precision(precision, dtype, np.dtype(np.float16) if precision == "float16" else _bfloat16())


def _bfloat16() -> Any:
    try:
        from ml_dtypes import bfloat16
    except ImportError:
        raise ImportError(
            "Sequential(precision='bfloat16') needs the package ml_dtypes, which gives NumPy this dtype: "
            "pip install ml_dtypes"
        ) from None
    return np.dtype(bfloat16)
