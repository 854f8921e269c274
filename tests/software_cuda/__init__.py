"""Software CUDA: the real CuPy on a machine without a GPU.

CuPy's own modules run as they are. Under them lie libraries of ours that compute on the CPU under the names of
NVIDIA's: a driver and runtime (driver/), NVRTC (compiler/) and cuBLAS (tests/cublas_on_cpu). `install` builds them and
puts them under this process and its children; README.md says what that shows, and what it cannot.
"""

from .build import NotBuildable as NotBuildable
from .build import build as build
from .build import missing as missing
from .environment import environment as environment
from .environment import install as install
from .environment import is_installed as is_installed
