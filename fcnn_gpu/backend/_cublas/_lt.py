"""cuBLASLt's view of one product: descriptors, and the algorithms that its heuristics propose."""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from typing import Any

from ._enums import (
    ComputeType,
    DataType,
    DescriptorAttribute,
    Epilogue,
    PreferenceAttribute,
    ReductionScheme,
    Status,
)
from ._errors import CublasError
from ._library import CublasLibrary, HeuristicResult
from ._plan import GemmPlan
from ._types import Arithmetic

MOST_ALGORITHMS = 3
"""How many of the heuristics' proposals, best first, are worth timing."""

_FULLY_ALIGNED = 16
"""Bytes: the longest access of a thread, and what Hopper's copies in bulk ask for. More would let the algorithm, and so
the last bits of a result, depend on where in memory a batch happens to begin."""


def alignment(address: int) -> int:
    """The largest power of two, up to 16, that divides an address."""
    return min(_FULLY_ALIGNED, address & -address) if address else _FULLY_ALIGNED


@dataclass(frozen=True)
class LtProblem:
    """All that cuBLASLt's choice of an algorithm depends on.

    `bias` is the type of the vector that the epilogue reads or writes, `aux_ld` the leading dimension of the matrix
    that it writes. `alignments` are those of A, B, D, the vector and the matrix, in bytes, in the order of the call.
    """

    plan: GemmPlan
    arithmetic: Arithmetic
    factors: DataType
    out: DataType
    epilogue: Epilogue
    bias: DataType | None
    aux_ld: int
    alignments: tuple[int, ...]
    workspace: int

    @property
    def may_be_unsupported(self) -> bool:
        """Whether a device may have no algorithm: for plain products of one type, in its own precision, all have."""
        plain = self.epilogue == Epilogue.DEFAULT and self.factors == self.out
        return not plain or self.arithmetic.compute == ComputeType.C_32F_FAST_TF32 or self.factors == DataType.R_16BF


class LtMatmul:
    """D = α·op(A)·op(B) + β·D with an epilogue, ready to be called on any arrays that fit the problem.

    Making it asks cuBLASLt's heuristics on the host; nothing is queued on the device. Raises `CublasError` with
    `unsupported` where there is no algorithm.
    """

    def __init__(self, library: CublasLibrary, handle: int, problem: LtProblem, vector: int, matrix: int) -> None:
        self._library = library
        self._matmul = library.function("cublasLtMatmul")
        self._handle = handle
        self._pointers = c_void_p(), c_void_p()
        self._made: list[tuple[str, int]] = []
        try:
            plan, arithmetic = problem.plan, problem.arithmetic
            self._operation = self._make("MatmulDesc", arithmetic.compute, arithmetic.scale)
            self._describe(problem, vector, matrix)
            stored_first = (plan.k, plan.m) if plan.transpose_first else (plan.m, plan.k)
            stored_second = (plan.n, plan.k) if plan.transpose_second else (plan.k, plan.n)
            self._first = self._make("MatrixLayout", problem.factors, *stored_first, plan.ld_first)
            self._second = self._make("MatrixLayout", problem.factors, *stored_second, plan.ld_second)
            self._out = self._make("MatrixLayout", problem.out, plan.m, plan.n, plan.ld_out)
            self.algorithms = self._ask(problem)
        except BaseException:
            self.close()
            raise

    def _make(self, what: str, *arguments: Any) -> int:
        made = self._library.make(f"cublasLt{what}Create", *arguments)
        self._made.append((what, made))
        return made

    def close(self) -> None:
        """Free the descriptors. Calls that have been made, and graphs that hold them, need them no longer."""
        while self._made:
            what, made = self._made.pop()
            self._library.call(f"cublasLt{what}Destroy", made)

    def _describe(self, problem: LtProblem, vector: int, matrix: int) -> None:
        attribute, plan = DescriptorAttribute, problem.plan
        self._attribute(attribute.TRANSA, c_int32(int(plan.transpose_first)))
        self._attribute(attribute.TRANSB, c_int32(int(plan.transpose_second)))
        self._attribute(attribute.EPILOGUE, c_uint32(problem.epilogue))
        self._has_vector = problem.bias is not None
        self._has_matrix = problem.aux_ld > 0
        if problem.bias is not None and problem.bias != problem.out:  # by default it has the output's type
            self._attribute(attribute.BIAS_DATA_TYPE, c_int32(problem.bias))
        if self._has_matrix:
            self._attribute(attribute.EPILOGUE_AUX_LD, c_int64(problem.aux_ld))
        self._point_to(vector, matrix)  # the heuristics take alignments from them

    def _attribute(self, attribute: DescriptorAttribute, value: Any) -> None:
        self._library.call(
            "cublasLtMatmulDescSetAttribute",
            self._operation,
            attribute,
            ctypes.byref(value),
            ctypes.sizeof(value),
        )

    def _point_to(self, vector: int, matrix: int) -> None:
        """Let the epilogue work on the vector (bias, or its gradient) and the matrix (Z) at these addresses."""
        of_vector, of_matrix = self._pointers
        if self._has_vector and of_vector.value != vector:
            of_vector.value = vector
            self._attribute(DescriptorAttribute.BIAS_POINTER, of_vector)
        if self._has_matrix and of_matrix.value != matrix:
            of_matrix.value = matrix
            self._attribute(DescriptorAttribute.EPILOGUE_AUX_POINTER, of_matrix)

    def _ask(self, problem: LtProblem) -> list[HeuristicResult]:
        """The algorithms that the heuristics propose, best first."""
        library, attribute = self._library, PreferenceAttribute
        of_first, of_second, of_out = problem.alignments[:3]
        preference = self._make("MatmulPreference")
        for what, value in (
            (attribute.MAX_WORKSPACE_BYTES, c_uint64(problem.workspace)),
            # Sums in parts are added up in float32 and in a fixed order, never in a 16-bit output.
            (attribute.REDUCTION_SCHEME_MASK, c_uint32(ReductionScheme.NONE | ReductionScheme.COMPUTE_TYPE)),
            (attribute.MIN_ALIGNMENT_A_BYTES, c_uint32(of_first)),
            (attribute.MIN_ALIGNMENT_B_BYTES, c_uint32(of_second)),
            (attribute.MIN_ALIGNMENT_C_BYTES, c_uint32(of_out)),
            (attribute.MIN_ALIGNMENT_D_BYTES, c_uint32(of_out)),
        ):
            library.call(
                "cublasLtMatmulPreferenceSetAttribute",
                preference,
                what,
                ctypes.byref(value),
                ctypes.sizeof(value),
            )
        results = (HeuristicResult * MOST_ALGORITHMS)()
        returned = c_int(0)
        status = library.function("cublasLtMatmulAlgoGetHeuristic")(
            self._handle,
            self._operation,
            self._first,
            self._second,
            self._out,
            self._out,
            preference,
            MOST_ALGORITHMS,
            results,
            ctypes.byref(returned),
        )
        if status:
            # The library's word for what it has no algorithm for is NOT_SUPPORTED or, by version and problem,
            # INVALID_VALUE. Its descriptors have taken every argument by now, and the shapes are checked (_plan.py).
            lacks = status == Status.INVALID_VALUE and problem.may_be_unsupported
            raise CublasError(
                "cublasLtMatmulAlgoGetHeuristic", status, problem.epilogue.name, unsupported=lacks or None
            )
        found = [result for result in results[: returned.value] if result.state == Status.SUCCESS]
        if not found:
            about = f"{problem.epilogue.name}: no algorithm"
            raise CublasError("cublasLtMatmulAlgoGetHeuristic", Status.NOT_SUPPORTED, about)
        return found

    def __call__(
        self,
        first: int,
        second: int,
        out: int,
        vector: int,
        matrix: int,
        factors: Any,
        workspace: int,
        stream: int,
        choice: int,
    ) -> None:
        """Queue the product of the matrices at these addresses; `factors` is a ctypes array of α and β."""
        result = self.algorithms[choice]
        self._point_to(vector, matrix)
        alpha = ctypes.addressof(factors)
        status = self._matmul(
            self._handle,
            self._operation,
            alpha,
            first,
            self._first,
            second,
            self._second,
            alpha + ctypes.sizeof(factors) // 2,
            out,
            self._out,
            out,
            self._out,
            result.algorithm,
            workspace,
            result.workspace_size,
            stream,
        )
        if status:
            raise CublasError("cublasLtMatmul", status)
