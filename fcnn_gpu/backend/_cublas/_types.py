"""Which cuBLAS types stand for which dtypes, and what a product of them is computed in."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from ..._types import DType
from ._enums import ComputeType, DataType

DATA_TYPES = {
    "float32": DataType.R_32F,
    "float64": DataType.R_64F,
    "float16": DataType.R_16F,
    "bfloat16": DataType.R_16BF,
}


@dataclass(frozen=True)
class Arithmetic:
    """How matrices of one dtype are multiplied: all but float64 are added up, and scaled by α and β, in float32."""

    compute: ComputeType
    scale: DataType
    scale_type: Any


_FLOAT32 = Arithmetic(ComputeType.C_32F, DataType.R_32F, ctypes.c_float)
_TF32 = Arithmetic(ComputeType.C_32F_FAST_TF32, DataType.R_32F, ctypes.c_float)
_FLOAT64 = Arithmetic(ComputeType.C_64F, DataType.R_64F, ctypes.c_double)


def arithmetic(dtype: DType, tf32: bool) -> Arithmetic:
    """How to multiply matrices of `dtype`; `tf32` allows float32 factors to be rounded to TF32."""
    if dtype.name == "float64":
        return _FLOAT64
    return _TF32 if tf32 and dtype.name == "float32" else _FLOAT32


def data_type(dtype: DType) -> DataType:
    """The cuBLAS type of a dtype; TypeError for one that products cannot have."""
    found = DATA_TYPES.get(dtype.name)
    if found is None:
        raise TypeError(f"gemm multiplies {', '.join(DATA_TYPES)} matrices, got {dtype}.")
    return found
