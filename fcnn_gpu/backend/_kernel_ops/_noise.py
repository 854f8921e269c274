"""Gaussian noise."""

from __future__ import annotations

from ..._types import Array
from .._ops import Scheduled
from .._ops._noise import NORMALS_PER_BLOCK
from ._device import DeviceOps, scheduled


class NoiseKernels(DeviceOps):
    def gaussian_noise(
        self,
        A: Array,
        std: float | Scheduled,
        key: tuple[int, int],
        step: Array,
        out: Array,
        first_draw: int = 0,
    ) -> None:
        block, skipped = divmod(first_draw, NORMALS_PER_BLOCK)
        n_table, value, table, position = scheduled(std)
        self._launcher.launch(
            "gaussian_noise",
            "gaussian_noise",
            (A.dtype,),
            [A.size, block, skipped, key[0], key[1], n_table, value, table, position, step, A, out],
            threads=-(-(skipped + A.size) // NORMALS_PER_BLOCK) if A.size else 0,
        )
