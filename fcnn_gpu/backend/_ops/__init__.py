"""The array primitives that layers, losses and optimizers are written against.

`Ops` is the readable reference and, as it stands, the NumPy backend. `CupyOps` overrides its methods with CUDA
kernels and cuBLAS calls under the same signatures. Every method writes into arrays that the caller owns.

Shapes and orders, everywhere: an activation-like matrix is (n_units, batch) and F-ordered, so each sample is
contiguous; a weight matrix is (n_out, n_in) and F-ordered too, so the weights of each input are contiguous; biases and
normalization parameters are (n, 1).
"""

from ._activation import ELEMENTWISE as ELEMENTWISE
from ._activation import ActivationOps
from ._array import BLOCK as BLOCK
from ._array import quiet_arithmetic as quiet_arithmetic
from ._batch import BatchOps
from ._dropout import DropoutOps
from ._dropout import realized_dropout as realized_dropout
from ._embedding import NUMBER_KINDS as NUMBER_KINDS
from ._embedding import Columns as Columns
from ._embedding import EmbeddingOps
from ._embedding import NumberMap as NumberMap
from ._embedding import Tables as Tables
from ._fused import DenseStack as DenseStack
from ._fused import FusedOps
from ._fused import StackLayer as StackLayer
from ._interchange import InterchangeOps
from ._loss import ELEMENTWISE_LOSSES as ELEMENTWISE_LOSSES
from ._loss import LossOps
from ._matrix import PRECISIONS as PRECISIONS
from ._matrix import MatrixOps
from ._noise import NoiseOps
from ._normalization import NormalizationOps
from ._optimizer import LARGEST_LOSS_SCALE as LARGEST_LOSS_SCALE
from ._optimizer import SMALLEST_LOSS_SCALE as SMALLEST_LOSS_SCALE
from ._optimizer import FlatParameters as FlatParameters
from ._optimizer import LimitedRows as LimitedRows
from ._optimizer import LossScaling as LossScaling
from ._optimizer import OptimizerOps
from ._optimizer import RowLimits as RowLimits
from ._optimizer import Segment as Segment
from ._optimizer import StepControl as StepControl
from ._optimizer import WeightMatrix as WeightMatrix
from ._optimizer import joined as joined
from ._orthogonal import OrthogonalOps
from ._products import parts_of as parts_of
from ._scheduled import Scheduled as Scheduled
from ._sparse import SparseColumns as SparseColumns
from ._sparse import SparseOps
from ._sparse import SparseRows as SparseRows
from ._tape import CapturedOver as CapturedOver
from ._tape import Replay as Replay
from ._tape import outside as outside
from ._transfer import SideStream as SideStream
from ._transfer import TransferOps
from ._update_rules import LARGEST_SQUARE as LARGEST_SQUARE
from ._update_rules import LEAST_SHARE as LEAST_SHARE
from ._update_rules import UPDATE_RULES as UPDATE_RULES


class Ops(
    FusedOps,
    MatrixOps,
    ActivationOps,
    DropoutOps,
    NoiseOps,
    EmbeddingOps,
    NormalizationOps,
    LossOps,
    OrthogonalOps,
    OptimizerOps,
    BatchOps,
    SparseOps,
    InterchangeOps,
    TransferOps,
):
    """All primitives on NumPy: the reference that every other backend is held to."""
