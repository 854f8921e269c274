"""CUDA on the CPU: execute the text of a .cu file with real barriers, shuffles and bounds, on any machine.

`HostDevice` takes the place of `CudaDevice` under a `Launcher`; see `host_device`.
"""

from .host_device import HostDevice as HostDevice
from .host_device import build_kernels as build_kernels
from .host_device import built as built
from .host_device import missing_compiler as missing_compiler
