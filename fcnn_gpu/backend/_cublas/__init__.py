"""Our own binding of NVIDIA's matrix products: cuBLAS and cuBLASLt through ctypes.

CuPy refuses its cuBLAS calls while a CUDA graph is recorded and has no cuBLASLt. These calls can be recorded: they run
on the current stream with handles and workspaces of ours (_context.py).
"""

from ._context import Host as Host
from ._enums import Status as Status
from ._errors import CublasError as CublasError
from ._library import CublasLibrary as CublasLibrary
from ._library import LibraryError as LibraryError
from ._library import load_cublas as load_cublas
from ._lt import MOST_ALGORITHMS as MOST_ALGORITHMS
from ._products import CublasProducts as CublasProducts
