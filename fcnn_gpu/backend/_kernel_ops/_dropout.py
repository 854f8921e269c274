"""Inverted dropout with Philox masks."""

from __future__ import annotations

from ..._types import Array
from .._ops._dropout import dropout_scale, dropout_threshold
from ._device import DeviceOps, vector_threads


class DropoutKernels(DeviceOps):
    def dropout_forward(self, A: Array, p: float, key: tuple[int, int], step: Array, mask: Array, out: Array) -> None:
        self._launcher.launch(
            "dropout",
            "dropout_forward",
            (A.dtype,),
            [A.size, key[0], key[1], dropout_threshold(p), dropout_scale(p), step, A, out, mask],
            threads=-(-A.size // 16),
        )

    def dropout_backward(self, dA: Array, p: float, mask: Array, out: Array) -> None:
        self._launcher.launch(
            "dropout",
            "dropout_backward",
            (dA.dtype,),
            [dA.size, dropout_scale(p), dA, mask, out],
            threads=vector_threads(dA.size, dA.dtype),
        )
