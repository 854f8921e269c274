"""The option --backend."""

from __future__ import annotations

from .. import backend
from ..backend import Ops

HELP = "auto, numpy (the CPU), cupy or cupy:N (CUDA device N). (default: the variable FCNN_BACKEND, else auto)"


def choose_backend(wanted: str | None) -> tuple[Ops, str]:
    """The primitives that the option's value (None: not given) asks for, and why these, as one clause."""
    return backend.choose_backend(wanted, "--backend")
