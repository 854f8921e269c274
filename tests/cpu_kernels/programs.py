"""A program of short phases whose bits tell whether all parts were computed, each once; and who helped."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from fcnn_gpu.backend._compiled import Call, Program, load_library
from fcnn_gpu.backend._compiled_ops import CompiledOps
from fcnn_gpu.backend._ops import _numpy

N, BATCH = 12, 24


class Steps:
    """Steps of gradient descent that take W towards 0: Z = W·A₀, then W ← W − c·Z·A₀ᵀ, and the sums of Z."""

    def __init__(self, n_parts: int) -> None:
        self._ops = ops = CompiledOps(load_library())
        rng = np.random.default_rng(0)
        self._start = rng.normal(size=(N, N)).astype(np.float32)
        A0, Z, dZ = (ops.matrix(N, BATCH, np.float32) for _ in range(3))
        A0[...] = rng.normal(size=A0.shape)
        W, sums = np.asfortranarray(self._start), np.zeros((N, 1), np.float32)
        self._state = W, sums

        def step() -> None:
            ops.gemm(W, A0, Z)
            ops.scale(Z, -1e-3, dZ)
            ops.gemm(dZ, A0.T, W, beta=1.0)
            ops.row_sum(Z, sums)

        with _numpy.recorded_calls() as tape:
            step()
        calls = [call for call in tape.calls if isinstance(call, Call)]
        assert len(calls) == len(tape.calls)
        self.program = Program(calls)
        self.program._table[:, 3] = self.program._most_parts = n_parts

    def run(self, n_times: int, n_threads: int) -> bytes:
        """So many steps from the start, and what they come to."""
        W, sums = self._state
        W[...], sums[...] = self._start, 0
        self.program.run(n_times, n_threads)
        return W.tobytes() + sums.tobytes()


def helpers(expected: int) -> list[Path]:
    """The folders that Linux keeps about the helpers of this process, so many; AssertionError where they are others."""
    found: list[Path] = []
    until = time.monotonic() + 20
    while time.monotonic() < until:  # one that has just been started may not have said its name yet
        tasks = Path("/proc/self/task").iterdir()
        found = [task for task in tasks if (task / "comm").read_text() == "fcnn_gpu\n"]
        if len(found) >= expected:
            break
    assert len(found) == expected
    return found
