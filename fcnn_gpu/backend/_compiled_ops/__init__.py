"""The primitives as compiled operations (kernels/cpu), under the signatures of the NumPy reference.

What is not overridden here, or not in the cases that an override names, is the reference's own: in a captured step its
NumPy calls stand between two programs.
"""

from ._activation import CompiledActivation
from ._array import CompiledArrays
from ._batch import CompiledBatch
from ._dropout import CompiledDropout
from ._embedding import CompiledEmbedding
from ._interchange import CompiledInterchange
from ._loss import CompiledLoss
from ._matrix import CompiledMatrix
from ._noise import CompiledNoise
from ._normalization import CompiledNormalization
from ._optimizer import CompiledOptimizer
from ._orthogonal import CompiledOrthogonal
from ._sparse import CompiledSparse


class CompiledOps(
    CompiledMatrix,
    CompiledActivation,
    CompiledDropout,
    CompiledNoise,
    CompiledEmbedding,
    CompiledNormalization,
    CompiledLoss,
    CompiledOptimizer,
    CompiledOrthogonal,
    CompiledBatch,
    CompiledSparse,
    CompiledInterchange,
    CompiledArrays,
):
    """All primitives on the CPU, compiled."""
