"""Where arrays live and arithmetic happens: NumPy on the host, CuPy with our kernels on a CUDA device."""

from ._autotune import Tuned as Tuned
from ._autotune import autotune_report as autotune_report
from ._autotune import set_autotune as set_autotune
from ._errors import BackendError as BackendError
from ._ops import Ops as Ops
from ._ops import quiet_arithmetic as quiet_arithmetic
from ._select import choose_backend as choose_backend
from ._select import ops_for as ops_for
from ._select import resolve_backend as resolve_backend
from ._select import set_backend as set_backend
from ._select import to_numpy as to_numpy
