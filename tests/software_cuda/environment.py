"""Software CUDA under this process and those that it starts."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping

from .build import Built, build

_installed: list[Built] = []


def is_installed() -> bool:
    """Whether this process runs on software CUDA, through `install` or as the child of one that does."""
    return "SOFTWARE_CUDA_LIBRARIES" in os.environ


def environment(built: Built | None = None, **settings: object) -> dict[str, str]:
    """The environment of a process that runs on software CUDA.

    `settings` are those of driver/settings.hpp in lower case: `environment(devices=2, execution="random", seed=3)`.
    """
    built = built or build()
    path = [str(built.overlay), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    made = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(path)),
        "SOFTWARE_CUDA_LIBRARIES": os.pathsep.join(map(str, built.libraries)),
        # Compiled kernels are libraries for this CPU: never in one folder with those of a GPU.
        "CUPY_CACHE_DIR": str(built.folder.with_name(built.folder.name + "-kernels")),
        # CuPy's own reductions through CUB have NVIDIA's runtime inside.
        "CUPY_ACCELERATORS": "",
    }
    made.update({f"SOFTWARE_CUDA_{name.upper()}": str(value) for name, value in settings.items()})
    return made


def install(**settings: object) -> Built:
    """Put software CUDA under this process, before anything imports CuPy, and under its children."""
    if _installed:
        return _installed[0]
    if "cupy_backends" in sys.modules:
        raise RuntimeError("CuPy is imported already: software CUDA has to come before it.")
    built = build()
    made: Mapping[str, str] = environment(built, **settings)
    os.environ.update(made)
    sys.path.insert(0, str(built.overlay))
    for library in built.libraries:
        ctypes.CDLL(str(library))
    _installed.append(built)
    return built
