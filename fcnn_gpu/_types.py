"""Names for the types that many signatures share.

An array may live on the host (NumPy) or on a CUDA device (CuPy). The two have no common nominal type and
CuPy must not be imported to annotate it, so an array of either kind is `Array`; an array that is always on the
host is `HostArray`.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = Any
HostArray: TypeAlias = np.ndarray[Any, Any]
DType: TypeAlias = np.dtype[Any]
