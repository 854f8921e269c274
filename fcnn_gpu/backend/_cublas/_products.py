"""Matrix products on the current device and stream: cuBLAS for plain ones, cuBLASLt where an epilogue goes with one."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

from ..._types import Array
from ._context import Contexts, Host
from ._enums import Algorithm, Epilogue, Status
from ._errors import CublasError
from ._library import CublasLibrary
from ._lt import LtMatmul, LtProblem, alignment
from ._plan import GemmPlan, plan_gemm
from ._types import arithmetic, data_type

EPILOGUES = {
    # (activation, bias, Z kept)
    ("identity", False, False): Epilogue.DEFAULT,
    ("identity", True, False): Epilogue.BIAS,
    ("relu", False, False): Epilogue.RELU,
    ("relu", True, False): Epilogue.RELU_BIAS,
    ("gelu_tanh", False, False): Epilogue.GELU,
    ("gelu_tanh", True, False): Epilogue.GELU_BIAS,
    ("gelu_tanh", False, True): Epilogue.GELU_AUX,
    ("gelu_tanh", True, True): Epilogue.GELU_AUX_BIAS,
}
"""cuBLASLt's GELU is the one by tanh. Its ReLU of NaN is 0."""

_KEPT_PROBLEMS = 1024
"""Of one thread: far more than a network's shapes, and a bound for inference on batches of every size."""

_AUX_MULTIPLE = 8
"""What cuBLASLt wants the leading dimension of Z to be a multiple of."""


class CublasProducts:
    """out = α·A·B + β·out for float32, float64, float16 and bfloat16 matrices, without copies.

    Calls queue work and return: they neither wait nor allocate device memory (but for a thread's first call), so they
    may be recorded into a CUDA graph. float32 products are float32 throughout unless `with_precision("tf32")`; 16-bit
    ones are summed in float32, and their result has 16 bits or is float32.
    """

    def __init__(self, library: CublasLibrary, host: Host) -> None:
        self._library = library
        self._host = host
        self._contexts = Contexts(library, host)
        self._gemm = library.function("cublasGemmEx")
        self._gemm_batched = library.function("cublasGemmStridedBatchedEx")
        self.tf32 = False
        self._twin: CublasProducts | None = None

    @property
    def version(self) -> str:
        """The library's, as "12.9.3"."""
        return self._library.version

    @property
    def workspace_bytes(self) -> int:
        """Device memory for one workspace; each thread has one for recorded graphs and one for each of its streams."""
        return self._contexts.workspace_bytes

    def with_precision(self, precision: str | None) -> CublasProducts:
        """The products of a precision: "tf32" multiplies float32 matrices in TF32, every other name means float32."""
        if (precision == "tf32") == self.tf32:
            return self
        if self._twin is None:
            twin = object.__new__(CublasProducts)
            twin.__dict__.update(self.__dict__)
            twin.tf32, twin._twin = not self.tf32, self
            self._twin = twin
        return self._twin

    def gemm(self, A: Array, B: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> None:
        """out = α·A·B + β·out by cublasGemmEx.

        A (m, k), B (k, n), out (m, n), none of them empty, each in C or F order or a slice of rows or columns of such.
        β = 0 does not read out. Raises ValueError and TypeError for arrays that cannot be multiplied so, CublasError
        for what the library refuses.
        """
        plan = plan_gemm(A, B, out)
        _check_not_empty(plan)
        factors_type, out_type = data_type(A.dtype), data_type(out.dtype)
        how = arithmetic(A.dtype, self.tf32)
        context, _, _ = self._contexts.bind()
        first, second = (B, A) if plan.swapped else (A, B)
        factors = _scalars(how.scale_type, alpha, beta)
        scale = ctypes.addressof(factors)
        address = self._host.address
        status = self._gemm(
            context.blas,
            plan.transpose_first,
            plan.transpose_second,
            plan.m,
            plan.n,
            plan.k,
            scale,
            address(first),
            factors_type,
            plan.ld_first,
            address(second),
            factors_type,
            plan.ld_second,
            scale + ctypes.sizeof(factors) // 2,
            address(out),
            out_type,
            plan.ld_out,
            how.compute,
            Algorithm.DEFAULT,
        )
        if status:
            raise CublasError("cublasGemmEx", status, f"{A.dtype} {A.shape} by {B.shape} into {out.dtype}")

    def gemm_batched(
        self,
        A: Array,
        B: Array,
        out: Array,
        apart: tuple[int, int, int],
        count: int,
        alpha: float = 1.0,
        beta: float = 0.0,
    ) -> None:
        """out_i = α·A_i·B_i + β·out_i for i = 0 ... count − 1 by cublasGemmStridedBatchedEx.

        A, B and out are the first of each, as for `gemm`, and `apart` how many elements behind them the next ones
        begin, and so on. The outputs do not overlap. Errors are those of `gemm`.
        """
        plan = plan_gemm(A, B, out)
        _check_not_empty(plan)
        factors_type, out_type = data_type(A.dtype), data_type(out.dtype)
        how = arithmetic(A.dtype, self.tf32)
        context, _, _ = self._contexts.bind()
        (first, of_first), (second, of_second) = [(A, apart[0]), (B, apart[1])][:: -1 if plan.swapped else 1]
        factors = _scalars(how.scale_type, alpha, beta)
        scale = ctypes.addressof(factors)
        address = self._host.address
        status = self._gemm_batched(
            context.blas,
            plan.transpose_first,
            plan.transpose_second,
            plan.m,
            plan.n,
            plan.k,
            scale,
            address(first),
            factors_type,
            plan.ld_first,
            of_first,
            address(second),
            factors_type,
            plan.ld_second,
            of_second,
            scale + ctypes.sizeof(factors) // 2,
            address(out),
            out_type,
            plan.ld_out,
            apart[2],
            count,
            how.compute,
            Algorithm.DEFAULT,
        )
        if status:
            what = f"{count} times {A.dtype} {A.shape} by {B.shape} into {out.dtype}"
            raise CublasError("cublasGemmStridedBatchedEx", status, what)

    def matmul(
        self,
        A: Array,
        B: Array,
        out: Array,
        *,
        bias: Array | None = None,
        activation: str = "identity",
        pre_activation: Array | None = None,
        row_sums: Array | None = None,
        choice: int = 0,
        alpha: float = 1.0,
    ) -> None:
        """out = f(α·A·B + bias) by cublasLtMatmul, f the identity, ReLU or the GELU by tanh.

        Args:
            A, B, out: as for `gemm`; with a bias or an activation out must be F-ordered.
            bias: m elements of out's dtype (the library may take others), added to each column.
            activation: "identity", "relu" (NaN becomes 0) or "gelu_tanh".
            pre_activation: Z = α·A·B + bias, (m, n) F-ordered of out's dtype, is kept here ("gelu_tanh" alone).
            row_sums: Σ_j A_ij is written here, m elements of out's dtype: a bias gradient beside dW = dZ·A₀ᵀ.
            choice: which of the algorithms that the library proposes, best first.
            alpha: α. With row_sums it is 1.

        Raises ValueError and TypeError for arrays that do not fit; CublasError, `unsupported`, where the library has no
        such algorithm.
        """
        plan = plan_gemm(A, B, out)
        _check_not_empty(plan)
        _check_epilogue(plan, A, out, bias, activation, pre_activation, row_sums)
        context, stream, workspace = self._contexts.bind()
        how = arithmetic(A.dtype, self.tf32)
        first, second = (B, A) if plan.swapped else (A, B)
        if row_sums is not None:
            epilogue = Epilogue.BGRADB if plan.swapped else Epilogue.BGRADA
        else:
            epilogue = EPILOGUES[activation, bias is not None, pre_activation is not None]
        vector = row_sums if row_sums is not None else bias
        address = self._host.address
        places = tuple(0 if x is None else address(x) for x in (first, second, out, vector, pre_activation))
        problem = LtProblem(
            plan,
            how,
            data_type(A.dtype),
            data_type(out.dtype),
            epilogue,
            None if vector is None else data_type(vector.dtype),
            0 if pre_activation is None else _leading(pre_activation),
            tuple(map(alignment, places)),
            workspace.size,
        )
        matmul = context.problems.get(problem)
        if matmul is None:
            if len(context.problems) == _KEPT_PROBLEMS:
                context.problems.pop(next(iter(context.problems))).close()
            matmul = LtMatmul(self._library, context.lt, problem, places[3], places[4])
            context.problems[problem] = matmul
        if not 0 <= choice < len(matmul.algorithms):
            about = f"Algorithm {choice + 1} of {len(matmul.algorithms)} was asked for"
            raise CublasError("cublasLtMatmul", Status.NOT_SUPPORTED, about)
        at_first, at_second, at_out, at_vector, at_matrix = places
        factors = _scalars(how.scale_type, alpha, 0.0)
        matmul(at_first, at_second, at_out, at_vector, at_matrix, factors, workspace.address, stream, choice)


@lru_cache(maxsize=256)
def _scalars(scale_type: Any, alpha: float, beta: float) -> Any:
    """α and β in host memory, which the library reads before a call returns."""
    return (scale_type * 2)(alpha, beta)


def _check_not_empty(plan: GemmPlan) -> None:
    if min(plan.m, plan.n, plan.k) == 0:
        raise ValueError("gemm expects matrices with elements: the caller writes an empty result or an empty sum.")


def _check_epilogue(
    plan: GemmPlan,
    A: Array,
    out: Array,
    bias: Array | None,
    activation: str,
    pre_activation: Array | None,
    row_sums: Array | None,
) -> None:
    if row_sums is not None and (bias is not None or activation != "identity" or pre_activation is not None):
        raise ValueError("matmul gives row_sums beside a plain product only, without bias and activation.")
    if (activation, bias is not None, pre_activation is not None) not in EPILOGUES:
        raise ValueError(
            f"matmul has no epilogue for activation={activation!r} {'with' if bias is not None else 'without'} bias"
            f"{', keeping Z' if pre_activation is not None else ''}."
        )
    if plan.swapped and (bias is not None or activation != "identity"):
        raise ValueError("matmul adds a bias and applies an activation where out is F-ordered, got a C-ordered out.")
    for name, vector in (("bias", bias), ("row_sums", row_sums)):
        if vector is None:
            continue
        if vector.size != A.shape[0] or not (vector.flags.c_contiguous or vector.flags.f_contiguous):
            raise ValueError(f"matmul expects {name} of {A.shape[0]} contiguous elements, got shape {vector.shape}.")
    if pre_activation is not None:
        if pre_activation.shape != out.shape or pre_activation.dtype != out.dtype:
            raise ValueError(
                f"matmul expects pre_activation {out.shape} of {out.dtype}, got {pre_activation.shape} of "
                f"{pre_activation.dtype}."
            )
        if not pre_activation.flags.f_contiguous or _leading(pre_activation) % _AUX_MULTIPLE:
            raise CublasError(
                "cublasLtMatmul",
                Status.NOT_SUPPORTED,
                f"Z must be F-ordered with a multiple of {_AUX_MULTIPLE} rows, got {pre_activation.shape}",
            )


def _leading(matrix: Array) -> int:
    return int(matrix.shape[0])
