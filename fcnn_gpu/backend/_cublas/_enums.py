"""The enumerations of cuBLAS 12 and 13 that the binding uses, under NVIDIA's names without their prefixes.

Source: cublas_api.h, cublasLt.h (nvidia-cublas-cu12 12.9) and library_types.h of the CUDA runtime.
"""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """cublasStatus_t"""

    SUCCESS = 0
    NOT_INITIALIZED = 1
    ALLOC_FAILED = 3
    INVALID_VALUE = 7
    ARCH_MISMATCH = 8
    MAPPING_ERROR = 11
    EXECUTION_FAILED = 13
    INTERNAL_ERROR = 14
    NOT_SUPPORTED = 15
    LICENSE_ERROR = 16


class Operation(IntEnum):
    """cublasOperation_t"""

    N = 0
    T = 1


class DataType(IntEnum):
    """cudaDataType_t, CUDA_R_*"""

    R_32F = 0
    R_64F = 1
    R_16F = 2
    R_16BF = 14


class ComputeType(IntEnum):
    """cublasComputeType_t, CUBLAS_COMPUTE_*"""

    C_32F = 68
    C_32F_FAST_TF32 = 77
    C_64F = 70


class MathMode(IntEnum):
    """cublasMath_t"""

    DEFAULT_MATH = 0
    DISALLOW_REDUCED_PRECISION_REDUCTION = 16


class PointerMode(IntEnum):
    """cublasPointerMode_t"""

    HOST = 0


class Algorithm(IntEnum):
    """cublasGemmAlgo_t"""

    DEFAULT = -1


class Property(IntEnum):
    """libraryPropertyType"""

    MAJOR_VERSION = 0
    MINOR_VERSION = 1
    PATCH_LEVEL = 2


class Epilogue(IntEnum):
    """cublasLtEpilogue_t"""

    DEFAULT = 1
    RELU = 2
    BIAS = 4
    RELU_BIAS = 2 | 4
    GELU = 32
    GELU_AUX = 32 | 128
    GELU_BIAS = 32 | 4
    GELU_AUX_BIAS = 32 | 128 | 4
    BGRADA = 256
    BGRADB = 512


class DescriptorAttribute(IntEnum):
    """cublasLtMatmulDescAttributes_t, CUBLASLT_MATMUL_DESC_*"""

    TRANSA = 3
    TRANSB = 4
    EPILOGUE = 7
    BIAS_POINTER = 8
    EPILOGUE_AUX_POINTER = 11
    EPILOGUE_AUX_LD = 12
    BIAS_DATA_TYPE = 26


class PreferenceAttribute(IntEnum):
    """cublasLtMatmulPreferenceAttributes_t, CUBLASLT_MATMUL_PREF_*"""

    MAX_WORKSPACE_BYTES = 1
    REDUCTION_SCHEME_MASK = 3
    MIN_ALIGNMENT_A_BYTES = 5
    MIN_ALIGNMENT_B_BYTES = 6
    MIN_ALIGNMENT_C_BYTES = 7
    MIN_ALIGNMENT_D_BYTES = 8


class ReductionScheme(IntEnum):
    """cublasLtReductionScheme_t"""

    NONE = 0
    COMPUTE_TYPE = 2
