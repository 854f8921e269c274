"""Where arrays live and arithmetic happens: NumPy on the host, CuPy with our kernels on a CUDA device."""

from typing import TYPE_CHECKING

from .._on_demand import on_demand
from ._cores import chosen_threads as chosen_threads
from ._cores import computing_with as computing_with
from ._cores import inherit_threads as inherit_threads
from ._cores import set_threads as set_threads
from ._cores import threads as threads
from ._cores import threads_and_reason as threads_and_reason
from ._cpu import available_memory as available_memory
from ._cpu import read_cpu as read_cpu
from ._errors import BackendError as BackendError
from ._helpers import share as share
from ._interchange import as_array as as_array
from ._interchange import library_of as library_of
from ._interchange import on_cuda as on_cuda
from ._interchange import on_host as on_host
from ._ops import BLOCK as BLOCK
from ._ops import ELEMENTWISE as ELEMENTWISE
from ._ops import LARGEST_SQUARE as LARGEST_SQUARE
from ._ops import LEAST_SHARE as LEAST_SHARE
from ._ops import PRECISIONS as PRECISIONS
from ._ops import SMALLEST_LOSS_SCALE as SMALLEST_LOSS_SCALE
from ._ops import CapturedOver as CapturedOver
from ._ops import Columns as Columns
from ._ops import DenseStack as DenseStack
from ._ops import FlatParameters as FlatParameters
from ._ops import LimitedRows as LimitedRows
from ._ops import LossScaling as LossScaling
from ._ops import NumberMap as NumberMap
from ._ops import Ops as Ops
from ._ops import Replay as Replay
from ._ops import RowLimits as RowLimits
from ._ops import Scheduled as Scheduled
from ._ops import Segment as Segment
from ._ops import SparseColumns as SparseColumns
from ._ops import SparseRows as SparseRows
from ._ops import StackLayer as StackLayer
from ._ops import StepControl as StepControl
from ._ops import Tables as Tables
from ._ops import WeightMatrix as WeightMatrix
from ._ops import joined as joined
from ._ops import outside as outside
from ._ops import parts_of as parts_of
from ._ops import quiet_arithmetic as quiet_arithmetic
from ._ops import realized_dropout as realized_dropout
from ._primitives import called as called
from ._primitives import consists_of_primitives as consists_of_primitives
from ._select import check_default_backend as check_default_backend
from ._select import choose_backend as choose_backend
from ._select import default_backend as default_backend
from ._select import inherit_backend as inherit_backend
from ._select import ops_for as ops_for
from ._select import resolve_backend as resolve_backend
from ._select import set_backend as set_backend
from ._select import to_numpy as to_numpy
from ._threads import ThisThread as ThisThread
from ._timetable import Setting as Setting
from ._timetable import Timetable as Timetable

if TYPE_CHECKING:
    from ._autotune import Tuned as Tuned
    from ._autotune import autotune_report as autotune_report
    from ._autotune import autotune_setting as autotune_setting
    from ._autotune import set_autotune as set_autotune
    from ._shadow import Meter as Meter
    from ._shadow import shadow_ops as shadow_ops
else:  # and with them what computes on a GPU
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "_autotune": "Tuned autotune_report autotune_setting set_autotune",
            "_shadow": "Meter shadow_ops",
        },
    )
