"""What cuBLAS's status codes mean, and what to do about each."""

from __future__ import annotations

from ._enums import Status

_ADVICE = {
    Status.NOT_INITIALIZED: "The library could not be initialized on this device. See `fcnn-gpu doctor`.",
    Status.ALLOC_FAILED: "cuBLAS found no memory for itself. Free device memory (nvidia-smi shows who uses it), or "
    "choose a smaller batch or another device.",
    Status.INVALID_VALUE: "cuBLAS refuses an argument. That is an error in fcnn_gpu: please report this message.",
    Status.ARCH_MISMATCH: "This device lacks what the precision needs: TF32 and bfloat16 take compute capability 8.0. "
    'Choose precision="float32".',
    Status.MAPPING_ERROR: "Device memory could not be reached. See `fcnn-gpu doctor`.",
    Status.EXECUTION_FAILED: "The GPU failed at this call or at one before it. CUDA_LAUNCH_BLOCKING=1 shows at which.",
    Status.INTERNAL_ERROR: "cuBLAS failed inside. A driver that is too old for the library does this: see "
    "`fcnn-gpu doctor`.",
    Status.NOT_SUPPORTED: "This combination of device, dtypes, shapes and alignment is not supported.",
    Status.LICENSE_ERROR: "cuBLAS misses a licence.",
}


class CublasError(RuntimeError):
    """A cuBLAS call that did not succeed: `status` says how, the message also what to do.

    Attributes:
        unsupported: whether another way of computing the same may work. By default the status says so.

    >>> print(CublasError("cublasGemmEx", Status.NOT_SUPPORTED))
    cublasGemmEx: CUBLAS_STATUS_NOT_SUPPORTED. This combination of device, dtypes, shapes and alignment is not ...
    """

    def __init__(self, function: str, status: int, about: str = "", *, unsupported: bool | None = None) -> None:
        if unsupported is None:
            unsupported = status in (Status.NOT_SUPPORTED, Status.ARCH_MISMATCH)
        self.unsupported = unsupported
        known = status in Status.__members__.values()
        self.function = function
        self.status: int = Status(status) if known else status
        name = f"CUBLAS_STATUS_{Status(status).name}" if known else f"status {status}"
        meaning = Status.NOT_SUPPORTED if unsupported and status == Status.INVALID_VALUE else status
        advice = _ADVICE.get(Status(meaning), "") if known else "Is this version of cuBLAS newer than 13?"
        super().__init__(f"{function}: {name}. {about}{'. ' if about else ''}{advice}".rstrip())
