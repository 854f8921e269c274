"""The one table of numerical tolerances, and why each is what it is."""

from __future__ import annotations

from typing import Any

import numpy as np

ROUNDINGS: dict[str, float] = {
    # An elementwise formula of a few operations and one or two transcendental functions: CUDA's are within 2 ulp,
    # NumPy's vectorized ones within 4, and cancellation in formulas such as 1 − a² costs a few more.
    "elementwise": 32,
    # A sum of some hundred to thousand terms: BLAS, pairwise and chunked orders differ by about √terms roundings of
    # the largest partial sum.
    "sum": 128,
    # A whole step or several: rounding differences pass through products, normalization and divisions by √v.
    "training": 2048,
}
"""How many units of rounding of the dtype two correct implementations may differ by, relative to the array's scale."""

UNIT: dict[str, float] = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
}
"""Relative error of rounding once to the dtype."""

FLUSHED = 1.2e-38
"""Results below the smallest normal float32 become 0 on a GPU, because CuPy compiles with -ftz=true."""


def assert_close(actual: Any, expected: Any, kind: str, context: str = "") -> None:
    """`actual` and `expected` agree to ROUNDINGS[kind] units of actual's dtype, relative to the largest expected value.

    Relative to the scale of the whole array, not to each element: an element near 0 is a difference of larger numbers,
    and its last digits are theirs. NaN and infinities must be in the same places.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{context}: {actual.shape} instead of {expected.shape}"
    if actual.dtype.kind in "iub":
        np.testing.assert_array_equal(actual, expected, err_msg=context)
        return
    unit = UNIT[actual.dtype.name]
    wide, reference = actual.astype(np.float64), expected.astype(np.float64)
    finite = reference[np.isfinite(reference)]
    scale = float(np.max(np.abs(finite))) if finite.size else 0.0
    np.testing.assert_allclose(
        wide, reference, rtol=ROUNDINGS[kind] * unit, atol=ROUNDINGS[kind] * unit * scale + FLUSHED, err_msg=context
    )


TRAJECTORY: dict[str, float] = {
    # Two correct programs differ by 1e-16 a step; 50 steps of training multiply a difference by at most some 10⁶ here
    # (they pass through kinks and √v). A wrong definition (ε inside the root, a factor ½) shows at 1e-4 or more.
    "float64": 1e-9,
    # The same growth from 6e-8 leaves few digits: this only shows that nothing is different in kind.
    "float32": 2e-3,
}
"""How far apart 50 steps of the same training in two libraries may be, relative to the largest value of each array."""

LONG_TRAJECTORY: dict[str, float] = {
    # The same network on two backends, 200 steps with dropout, normalization and penalties. NumPy's own run moves by
    # 3e-15 and 2e-6 when each initial weight is changed by one rounding, and as far from the kernels executed on a CPU,
    # with and without fused multiply-add. A definition that differs (ε inside the root, a factor ½) shows at 1e-3.
    "float64": 1e-13,
    "float32": 5e-5,
}
"""How far apart 200 steps of the same training on two backends may be, relative to the largest value of each array."""
