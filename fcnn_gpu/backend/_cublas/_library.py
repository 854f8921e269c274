"""libcublas and libcublasLt through ctypes: found, checked for their version, every prototype written out."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_float, c_int, c_int64, c_longlong, c_size_t, c_uint64, c_void_p
from typing import Any

from ..._extras import how_to_install
from ._enums import Property
from ._errors import CublasError

MAJOR_VERSIONS = (12, 13)
"""The cuBLAS versions whose interface the prototypes are: those of the CUDA versions that CuPy 14 is built for."""


class MatmulAlgorithm(ctypes.Structure):
    """cublasLtMatmulAlgo_t: opaque"""

    _fields_ = (("data", c_uint64 * 8),)


class HeuristicResult(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t"""

    _fields_ = (
        ("algorithm", MatmulAlgorithm),
        ("workspace_size", c_size_t),
        ("state", c_int),
        ("waves_count", c_float),
        ("reserved", c_int * 4),
    )


_BLAS: dict[str, tuple[type, ...]] = {
    "cublasCreate_v2": (POINTER(c_void_p),),
    "cublasDestroy_v2": (c_void_p,),
    "cublasGetProperty": (c_int, POINTER(c_int)),
    "cublasSetStream_v2": (c_void_p, c_void_p),
    "cublasSetWorkspace_v2": (c_void_p, c_void_p, c_size_t),
    "cublasSetPointerMode_v2": (c_void_p, c_int),
    "cublasSetMathMode": (c_void_p, c_int),
    # handle, transa, transb, m, n, k, alpha, A, Atype, lda, B, Btype, ldb, beta, C, Ctype, ldc, computeType, algo
    "cublasGemmEx": (
        *(c_void_p, c_int, c_int, c_int, c_int, c_int, c_void_p),
        *(c_void_p, c_int, c_int),
        *(c_void_p, c_int, c_int),
        *(c_void_p, c_void_p, c_int, c_int),
        *(c_int, c_int),
    ),
    # ..., A, Atype, lda, strideA, B, Btype, ldb, strideB, beta, C, Ctype, ldc, strideC, batchCount, computeType, algo
    "cublasGemmStridedBatchedEx": (
        *(c_void_p, c_int, c_int, c_int, c_int, c_int, c_void_p),
        *(c_void_p, c_int, c_int, c_longlong),
        *(c_void_p, c_int, c_int, c_longlong),
        *(c_void_p, c_void_p, c_int, c_int, c_longlong),
        *(c_int, c_int, c_int),
    ),
}

_LT: dict[str, tuple[type, ...]] = {
    "cublasLtCreate": (POINTER(c_void_p),),
    "cublasLtDestroy": (c_void_p,),
    "cublasLtMatrixLayoutCreate": (POINTER(c_void_p), c_int, c_uint64, c_uint64, c_int64),
    "cublasLtMatrixLayoutDestroy": (c_void_p,),
    "cublasLtMatmulDescCreate": (POINTER(c_void_p), c_int, c_int),
    "cublasLtMatmulDescDestroy": (c_void_p,),
    "cublasLtMatmulDescSetAttribute": (c_void_p, c_int, c_void_p, c_size_t),
    "cublasLtMatmulPreferenceCreate": (POINTER(c_void_p),),
    "cublasLtMatmulPreferenceDestroy": (c_void_p,),
    "cublasLtMatmulPreferenceSetAttribute": (c_void_p, c_int, c_void_p, c_size_t),
    # handle, operation, A, B, C, D, preference, requested, results, returned
    "cublasLtMatmulAlgoGetHeuristic": (
        *(c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p),
        *(c_int, POINTER(HeuristicResult), POINTER(c_int)),
    ),
    # handle, operation, alpha, A, Adesc, B, Bdesc, beta, C, Cdesc, D, Ddesc, algo, workspace, workspace size, stream
    "cublasLtMatmul": (
        *(c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p),
        *(c_void_p, c_void_p, c_void_p, c_void_p, POINTER(MatmulAlgorithm)),
        *(c_void_p, c_size_t, c_void_p),
    ),
}


class CublasLibrary:
    """The functions of both libraries as methods that raise `CublasError`: `library.call("cublasGemmEx", ...)`.

    Args:
        blas, lt: the loaded libraries.
    """

    def __init__(self, blas: Any, lt: Any) -> None:
        self._functions: dict[str, Callable[..., int]] = {}
        for library, prototypes in ((blas, _BLAS), (lt, _LT)):
            for name, arguments in prototypes.items():
                function = getattr(library, name)
                function.argtypes, function.restype = arguments, c_int
                self._functions[name] = function
        lt.cublasLtGetVersion.argtypes, lt.cublasLtGetVersion.restype = (), c_size_t
        lt.cublasLtGetStatusName.argtypes, lt.cublasLtGetStatusName.restype = (c_int,), c_char_p
        self.version = ".".join(str(self._property(which)) for which in Property)
        self.lt_version = int(lt.cublasLtGetVersion())

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function; raise `CublasError` unless it returns success."""
        status = self._functions[name](*arguments)
        if status:
            raise CublasError(name, status)

    def function(self, name: str) -> Callable[..., int]:
        """The function itself, which returns its status: for calls that are made thousands of times a second."""
        return self._functions[name]

    def make(self, name: str, *arguments: Any) -> int:
        """Call a function that makes something and writes its address through its first argument."""
        made = c_void_p()
        self.call(name, ctypes.byref(made), *arguments)
        assert made.value is not None
        return made.value

    def _property(self, which: Property) -> int:
        value = c_int()
        self.call("cublasGetProperty", which, ctypes.byref(value))
        return value.value


class LibraryError(RuntimeError):
    """A library that is missing or of the wrong version, `detail`, and what mends that, `fix`."""

    def __init__(self, detail: str, fix: str) -> None:
        super().__init__(f"{detail} {fix}")
        self.detail, self.fix = detail, fix


def load_cublas(cuda_major: int) -> CublasLibrary:
    """The machine's cuBLAS for CUDA 12 or 13, wherever a wheel, conda, a toolkit or the system has put it.

    `cuda_major` is the CUDA version that CuPy uses. Raises LibraryError, which names the missing library and what mends
    it, where there is none or one of another version.
    """
    install = f"Run: {how_to_install(f'cuda{cuda_major}')}, which brings the CUDA libraries ([ctk])."
    try:
        pathfinder = importlib.import_module("cuda.pathfinder")
    except ImportError as error:
        raise LibraryError(
            "The package cuda-pathfinder, which finds the CUDA libraries, is not installed.",
            "Run: pip install --upgrade cuda-pathfinder",
        ) from error
    loaded = []
    for name, file in (("cublasLt", "cuBLASLt"), ("cublas", "cuBLAS")):  # the latter needs the former
        try:
            path = pathfinder.load_nvidia_dynamic_lib(name).abs_path
            if path is None:  # without one, ctypes would take the program itself
                raise OSError(f"it is loaded already, but nobody knows from where: {name}")
            loaded.append((path, ctypes.CDLL(path)))
        except (RuntimeError, OSError) as error:  # cuda-pathfinder's own are RuntimeErrors, found or not
            first = str(error).strip().partition("\n")[0]
            raise LibraryError(f"{file} does not load ({first}).", install) from error
    (_, lt), (path, blas) = loaded
    try:
        library = CublasLibrary(blas, lt)
    except AttributeError as error:
        raise LibraryError(f"{path} is too old: it lacks a function ({error}).", install) from error
    major = int(library.version.partition(".")[0])
    lt_major = library.lt_version // 10_000
    if major != cuda_major or lt_major != cuda_major or major not in MAJOR_VERSIONS:
        raise LibraryError(
            f"CuPy uses CUDA {cuda_major}, but the libraries found are cuBLAS {library.version} ({path}) and cuBLASLt "
            f"{lt_major}.",
            _one_version(cuda_major, major) if major in {*MAJOR_VERSIONS} - {cuda_major} else install,
        )
    return library


def _one_version(cupys: int, others: int) -> str:
    """What to do where CuPy is for one CUDA version and cuda-pathfinder finds the libraries of the other first."""
    return (
        f"Run: pip uninstall -y cupy-cuda{cupys}x && {how_to_install(f'cuda{others}')}, if the driver supports CUDA "
        f"{others}; or remove the nvidia packages of CUDA {others} that `pip list` shows (another package, such as "
        "PyTorch, may have brought them)."
    )
