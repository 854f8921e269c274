"""The primitives as launches of our CUDA kernels, file by file like `_ops`, whose contracts they keep.

Nothing here knows CuPy: `KernelOps` is given a `Runtime` (the device's memory), a launcher and a matrix product, and
only decides which kernel runs with which sizes. `make_cupy_ops` gives it CuPy's; the tests give it NumPy arrays and
kernels executed on the CPU, so every line here runs on any machine.
"""

from ._batch import BatchKernels
from ._dense import DenseKernels
from ._device import Runtime as Runtime
from ._dropout import DropoutKernels
from ._embedding import EmbeddingKernels
from ._fused import FusedKernels
from ._interchange import InterchangeKernels
from ._loss import LossKernels
from ._noise import NoiseKernels
from ._normalization import NormalizationKernels
from ._orthogonal import OrthogonalKernels
from ._sparse import SparseKernels
from ._transfer import TransferKernels


class KernelOps(
    FusedKernels,
    DenseKernels,
    DropoutKernels,
    NoiseKernels,
    EmbeddingKernels,
    NormalizationKernels,
    LossKernels,
    OrthogonalKernels,
    BatchKernels,
    SparseKernels,
    InterchangeKernels,
    TransferKernels,
):
    """All primitives on one CUDA device."""

    asynchronous = True
    steps_per_capture = 8
