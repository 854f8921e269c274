"""Compiles the library of a checkout and says where it lies: python -m fcnn_gpu.backend._compiled."""

from __future__ import annotations

import sys

from . import BuildError, build_in_checkout, load_library

try:
    path = build_in_checkout()
except BuildError as error:
    sys.exit(f"fcnn_gpu: the kernels are not compiled: {error}")
library = load_library()
print(f"{path}: compiled; this CPU takes {library.level_name} of {', '.join(library.levels)}.")
