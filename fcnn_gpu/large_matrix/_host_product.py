"""out ← A·B + β·out on the host, in place: BLAS's own call, which NumPy's products do not give.

NumPy has no product that adds to what is there, and copies what its BLAS could read as it lies. SciPy exports the
functions of its BLAS for other compiled code to call (`scipy.linalg.cython_blas`); they are called here with the
addresses of the matrices, so that nothing is copied, and without the interpreter lock. A large product is cut into
parts that threads share, as NumPy's are (`backend/_ops/_products.py`).
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

from .._blas_threads import include_blas_of
from .._types import HostArray
from ..backend import parts_of, share
from ..backend._cublas._plan import plan_gemm

_NAMES = {"float32": "sgemm", "float64": "dgemm"}
_SCALARS: dict[str, Any] = {"float32": ctypes.c_float, "float64": ctypes.c_double}


def accumulate_product(A: HostArray, B: HostArray, out: HostArray, beta: float) -> None:
    """out ← A·B + β·out: A (m, k), B (k, n), out (m, n), float32 or float64, each with one axis of unit stride.

    The other stride may be larger than the matrix (a tile of a larger one). β = 0 does not read out. None is empty.
    """
    _function(out.dtype.name)
    if abs(out.strides[0]) < abs(out.strides[1]):
        A, B, out = B.T, A.T, out.T
    (m, k), n = A.shape, B.shape[1]
    parts = parts_of(m, n, k, out.itemsize)
    share([functools.partial(_multiply, A[r], B[:, c], out[r, c], beta) for r, c in parts])


def _multiply(A: HostArray, B: HostArray, out: HostArray, beta: float) -> None:
    """One call of BLAS."""
    name = out.dtype.name
    plan = plan_gemm(A, B, out)
    first, second = (B, A) if plan.swapped else (A, B)
    scalar, integer, by_reference = _SCALARS[name], ctypes.c_int, ctypes.byref
    _function(name)(
        b"T" if plan.transpose_first else b"N",
        b"T" if plan.transpose_second else b"N",
        by_reference(integer(plan.m)),
        by_reference(integer(plan.n)),
        by_reference(integer(plan.k)),
        by_reference(scalar(1.0)),
        first.ctypes.data,
        by_reference(integer(plan.ld_first)),
        second.ctypes.data,
        by_reference(integer(plan.ld_second)),
        by_reference(scalar(beta)),
        out.ctypes.data,
        by_reference(integer(plan.ld_out)),
    )


@functools.cache
def _function(name: str) -> Callable[..., None]:
    """BLAS's sgemm or dgemm, whose arguments are all passed by reference."""
    import scipy
    from scipy.linalg import cython_blas

    include_blas_of(scipy.__file__)
    capsule = cython_blas.__pyx_capi__[_NAMES[name]]
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    signature = api.PyCapsule_GetName(capsule)
    text, integer, scalar = ctypes.c_char_p, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(_SCALARS[name])
    matrix = [ctypes.c_void_p, integer]
    arguments: list[Any] = [text, text, integer, integer, integer, scalar, *matrix, *matrix, scalar, *matrix]
    prototype = ctypes.CFUNCTYPE(None, *arguments)
    return prototype(api.PyCapsule_GetPointer(capsule, signature))


def can_multiply_in_place(x: HostArray) -> bool:
    """Whether BLAS reads a matrix of the host as it lies."""
    if not (x.flags.aligned and x.dtype.isnative) or x.dtype.name not in _NAMES or max(x.shape, default=0) >= 2**31:
        return False
    item = x.itemsize
    for (fast, slow), (fast_stride, slow_stride) in (
        (x.shape[::-1], x.strides[::-1]),
        (x.shape, x.strides),
    ):
        unit = fast <= 1 or fast_stride == item
        apart = slow <= 1 or (slow_stride % item == 0 and fast * item <= slow_stride < 2**31 * item)
        if unit and apart:
            return True
    return not x.size
