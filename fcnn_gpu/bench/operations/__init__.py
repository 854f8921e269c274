"""Single primitives of a backend at the shapes that networks have, each beside PyTorch's call for the same work."""

from ._catalogue import OPERATIONS as OPERATIONS
from ._operation import Operation as Operation
from ._operation import Work as Work
from ._time import DTYPES as DTYPES
from ._time import Unsupported as Unsupported
from ._time import numpy_dtype as numpy_dtype
from ._time import prepare as prepare
from ._time import prepare_peer as prepare_peer
from ._time import run as run
from ._time import time_operation as time_operation
