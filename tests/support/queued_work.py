"""A device that is behind: work that is queued and lasts, so that what must wait for it and does not shows."""

from __future__ import annotations

import os

import numpy as np

from fcnn_gpu.backend._ops import Ops


def keep_busy(ops: Ops) -> None:
    """Queue products that a GPU computes on for a good tenth of a second.

    Where kernels are executed on the CPU a small one does: there it is not time that decides what comes first.
    """
    on_a_gpu = ops.name.startswith("cupy") and "SOFTWARE_CUDA_LIBRARIES" not in os.environ and not is_emulated(ops)
    side, n = (4096, 50) if on_a_gpu else (8, 1)
    A, B, out = (ops.zeros((side, side), np.float32) for _ in range(3))
    for _ in range(n):
        ops.gemm(A, B, out)


def is_emulated(ops: Ops) -> bool:
    """Whether the device is tests/support/emulated.py's."""
    from tests.support.emulated import EmulatedRuntime

    return isinstance(getattr(ops, "_runtime", None), EmulatedRuntime)
