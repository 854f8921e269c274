"""What the kernel tests share: block sizes, outputs filled with poison, comparison with rounding per dtype."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from fcnn_gpu._types import HostArray
from tests.support.tolerances import FLUSHED
from tests.support.tolerances import UNIT as UNIT_ROUNDOFF

BLOCKS = (32, 64, 128, 256, 1024)
"""Block sizes at which every kernel without a fixed one must be right."""

BFLOAT16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
FLOATS: tuple[np.dtype[Any], ...] = (np.dtype(np.float32), np.dtype(np.float64))
HALVES: tuple[np.dtype[Any], ...] = (np.dtype(np.float16), BFLOAT16)

GROUPS = (0, 1, 8, 32)
"""How many lanes of a warp work on one sample (sample_group.cuh); 0 where a whole block does."""


def group_work(group: int, batch: int) -> dict[str, int]:
    """The launch of a kernel that gives each of `batch` samples such a group."""
    return {"threads": batch * group} if group else {"blocks": batch}


def capacities(n: int) -> list[int]:
    """The numbers of units, at least n, that a sample's threads may hold; 0 where a block holds none."""
    return [0, *(c for c in (32, 128, 512, 1024) if n <= c)]


def held_work(capacity: int, batch: int) -> dict[str, int]:
    """The launch of a kernel that gives each of `batch` samples the threads that hold so many units."""
    return group_work(8 if capacity == 32 else min(capacity, 32), batch)


def unaligned(x: HostArray) -> HostArray:
    """A copy of the F-ordered x that begins one element after a 16-byte boundary, as a view into a buffer may."""
    memory = np.empty(x.size + 1, x.dtype)
    view = memory[1:].reshape(x.shape[::-1]).T
    view[...] = x
    return view


def poisoned(shape: int | tuple[int, ...], dtype: DTypeLike, order: str = "F") -> HostArray:
    """An array of bytes 0xFF (NaN, −1): an element that a kernel forgets to write shows."""
    array: HostArray = np.empty(shape, dtype, order="F" if order == "F" else "C")
    array.reshape(-1, order="F" if order == "F" else "C").view(np.uint8)[:] = 0xFF
    return array


def between_boundaries(x: HostArray, elements: int = 1) -> HostArray:
    """A copy of x whose memory begins so many elements after a 16-byte boundary: vectors may not be read from it."""
    flat = np.empty(x.size + elements, x.dtype)
    out = flat[elements:].reshape(x.shape, order="F" if x.flags.f_contiguous else "C")
    out[...] = x
    return out


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
