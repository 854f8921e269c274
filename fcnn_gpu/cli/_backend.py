"""The option --backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..backend import Ops

HELP = "auto, cpu, numpy (the CPU on NumPy alone), cupy or cupy:N (CUDA device N). (default: FCNN_BACKEND, else auto)"


def choose_backend(wanted: str | None) -> tuple[Ops, str]:
    """The primitives that the option's value (None: not given) asks for, and why these, as one clause."""
    from .. import backend  # which the help does without

    return backend.choose_backend(wanted, "--backend")
