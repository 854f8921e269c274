"""Threads that a library leaves spinning, and when they have gone to sleep."""

from __future__ import annotations

import time

_SLICE_SECONDS = 0.005
_IDLE_SLICES = 3
"""In a row: on a busy machine a thread that spins may have to wait for a core, and looks idle meanwhile."""
_IDLE_SHARE = 0.1
"""Of one core: what the interpreter's own threads may take while nothing is computed."""


def wait_until_idle(limit: float = 1.0) -> bool:
    """Sleep until no thread of this process computes; False if one still does after `limit` seconds.

    A BLAS thread waits for the next product by spinning: OpenBLAS's for 100 ms on a machine of 2.7 GHz, those of
    OpenMP for some 10. Whatever is timed meanwhile has to share the cores with them, and where it meets a barrier it
    takes many times as long. They are recognized by the CPU time of the process, which goes on while it sleeps.
    """
    end = time.perf_counter() + limit
    n_idle = 0
    while n_idle < _IDLE_SLICES:
        if time.perf_counter() >= end:
            return False
        start, used = time.perf_counter(), time.process_time()
        time.sleep(_SLICE_SECONDS)
        idle = time.process_time() - used <= _IDLE_SHARE * (time.perf_counter() - start)
        n_idle = n_idle + 1 if idle else 0
    return True
