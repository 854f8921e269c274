"""The option --backend."""

from __future__ import annotations

from .. import backend
from ..backend import Ops

HELP = "auto, cpu, numpy (the CPU on NumPy alone), cupy or cupy:N (CUDA device N). (default: FCNN_BACKEND, else auto)"


def choose_backend(wanted: str | None) -> tuple[Ops, str]:
    """The primitives that the option's value (None: not given) asks for, and why these, as one clause."""
    return backend.choose_backend(wanted, "--backend")
