"""Inverted dropout with Philox masks."""

from __future__ import annotations

from ..._types import Array
from .._ops._dropout import DRAWS_PER_BLOCK, dropout_scale, dropout_threshold
from ._device import DeviceOps, vector_threads


class DropoutKernels(DeviceOps):
    def dropout_forward(
        self, A: Array, p: float, key: tuple[int, int], step: Array, mask: Array, out: Array, first_draw: int = 0
    ) -> None:
        block, skipped = divmod(first_draw, DRAWS_PER_BLOCK)
        self._launcher.launch(
            "dropout",
            "dropout_forward",
            (A.dtype,),
            [A.size, block, skipped, key[0], key[1], dropout_threshold(p), dropout_scale(p), step, A, out, mask],
            threads=-(-(skipped + A.size) // DRAWS_PER_BLOCK) if A.size else 0,
        )

    def dropout_backward(self, dA: Array, p: float, mask: Array, out: Array) -> None:
        self._launcher.launch(
            "dropout",
            "dropout_backward",
            (dA.dtype,),
            [dA.size, dropout_scale(p), dA, mask, out],
            threads=vector_threads(dA.size, dA.dtype),
        )
