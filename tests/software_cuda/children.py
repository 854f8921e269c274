"""What a Python started under software CUDA does first: load its libraries, so that CuPy finds them loaded."""

import ctypes
import os

for _library in os.environ.get("SOFTWARE_CUDA_LIBRARIES", "").split(os.pathsep):
    if _library:
        ctypes.CDLL(_library)
