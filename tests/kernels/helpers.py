"""What the kernel tests share: block sizes, outputs filled with poison, comparison with rounding per dtype."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from fcnn_gpu._types import HostArray
from tests.tolerances import FLUSHED
from tests.tolerances import UNIT as UNIT_ROUNDOFF

BLOCKS = (32, 64, 128, 256, 1024)
"""Block sizes at which every kernel without a fixed one must be right."""

BFLOAT16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
FLOATS: tuple[np.dtype[Any], ...] = (np.dtype(np.float32), np.dtype(np.float64))
HALVES: tuple[np.dtype[Any], ...] = (np.dtype(np.float16), BFLOAT16)


def poisoned(shape: int | tuple[int, ...], dtype: DTypeLike, order: str = "F") -> HostArray:
    """An array of bytes 0xFF (NaN, −1): an element that a kernel forgets to write shows."""
    array: HostArray = np.empty(shape, dtype, order="F" if order == "F" else "C")
    array.reshape(-1, order="F" if order == "F" else "C").view(np.uint8)[:] = 0xFF
    return array


def accumulator(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that a kernel's arithmetic on elements of `dtype` runs in."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def assert_rounded(
    actual: HostArray, exact: HostArray, *, roundings: float = 1, scale: HostArray | float = 0.0
) -> None:
    """`actual` equals `exact`, computed in float64, up to so many roundings.

    One rounding of the result to actual's dtype, and `roundings` roundings in the type that the arithmetic ran in,
    each relative to |exact| + scale (the size of what was added up, where terms cancel). Where float does the
    arithmetic, numbers below its smallest normal one may be 0: a GPU flushes them.
    """
    assert actual.shape == exact.shape, f"{actual.shape} instead of {exact.shape}"
    wide = actual.astype(np.float64)
    store, compute = UNIT_ROUNDOFF[actual.dtype.name], UNIT_ROUNDOFF[accumulator(actual.dtype).name]
    tiny = float(ml_dtypes.finfo(actual.dtype).smallest_subnormal)
    tiny += FLUSHED if accumulator(actual.dtype) == np.float32 else 0.0
    bound = (store + roundings * compute) * (np.abs(exact) + scale) * 1.01 + tiny
    same = (wide == exact) | (np.isnan(wide) & np.isnan(exact))
    with np.errstate(invalid="ignore"):
        wrong = ~(same | (np.abs(wide - exact) <= bound))
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(
            f"{int(wrong.sum())} of {wrong.size} elements are off; at {at}: {wide[at]!r} instead of {exact[at]!r}, "
            f"allowed ±{np.broadcast_to(bound, exact.shape)[at]:.3g}"
        )
