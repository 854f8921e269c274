"""The backend that the command line computes on, and why that one."""

from __future__ import annotations

import os

from ..backend import BackendError, resolve_backend
from ..backend._ops import Ops

HELP = "auto, numpy (the CPU), cupy or cupy:N (CUDA device N). (default: the variable FCNN_BACKEND, else auto)"


def choose_backend(wanted: str | None) -> tuple[Ops, str]:
    """The primitives of the backend, and the reason for the choice as one clause.

    `wanted` is the option's value; None means FCNN_BACKEND, else "auto". Raises ValueError for an unknown name and
    `BackendError` where an explicit "cupy" cannot be had.
    """
    source = f"--backend {wanted}"
    if wanted is None:
        wanted = os.environ.get("FCNN_BACKEND") or "auto"
        source = f"FCNN_BACKEND={wanted}"
        if wanted != "auto":
            return resolve_backend(None), f"as {source} says"
    if wanted != "auto":
        return resolve_backend(wanted), f"as {source} says"
    try:
        return resolve_backend("cupy"), "a CUDA device answers"
    except BackendError as reason:
        return resolve_backend("numpy"), f"no CUDA device can be used: {reason}"
