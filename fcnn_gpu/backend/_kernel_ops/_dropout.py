"""Inverted dropout and alpha dropout with Philox masks."""

from __future__ import annotations

from ..._types import Array
from .._ops import Scheduled
from .._ops._dropout import DRAWS_PER_BLOCK, realized_dropout
from ._device import DeviceOps, scheduled, vector_threads


class DropoutKernels(DeviceOps):
    def dropout_forward(
        self,
        A: Array,
        p: float | Scheduled,
        key: tuple[int, int],
        step: Array,
        mask: Array,
        out: Array,
        first_draw: int = 0,
    ) -> None:
        self._drop(False, A, p, key, step, mask, out, first_draw)

    def alpha_dropout_forward(
        self,
        A: Array,
        p: float | Scheduled,
        key: tuple[int, int],
        step: Array,
        mask: Array,
        out: Array,
        first_draw: int = 0,
    ) -> None:
        self._drop(True, A, p, key, step, mask, out, first_draw)

    def _drop(
        self,
        alpha: bool,
        A: Array,
        p: float | Scheduled,
        key: tuple[int, int],
        step: Array,
        mask: Array,
        out: Array,
        first_draw: int,
    ) -> None:
        block, skipped = divmod(first_draw, DRAWS_PER_BLOCK)
        n_table, value, table, position = scheduled(realized_dropout(p))
        self._launcher.launch(
            "dropout",
            "dropout_forward",
            (A.dtype, alpha),
            [A.size, block, skipped, key[0], key[1], n_table, value, table, position, step, A, out, mask],
            threads=-(-(skipped + A.size) // DRAWS_PER_BLOCK) if A.size else 0,
        )

    def dropout_backward(self, dA: Array, p: float | Scheduled, mask: Array, out: Array) -> None:
        self._drop_backward(False, dA, p, mask, out)

    def alpha_dropout_backward(self, dA: Array, p: float | Scheduled, mask: Array, out: Array) -> None:
        self._drop_backward(True, dA, p, mask, out)

    def _drop_backward(self, alpha: bool, dA: Array, p: float | Scheduled, mask: Array, out: Array) -> None:
        n_table, value, table, position = scheduled(realized_dropout(p))
        self._launcher.launch(
            "dropout",
            "dropout_backward",
            (dA.dtype, alpha),
            [dA.size, n_table, value, table, position, dA, mask, out],
            threads=vector_threads(dA.size, dA.dtype),
        )

    def dropout_members_forward(
        self, A: Array, rates: Array, key: tuple[int, int], step: Array, mask: Array, out: Array, first_draw: int = 0
    ) -> None:
        block, skipped = divmod(first_draw, DRAWS_PER_BLOCK)
        self._launcher.launch(
            "dropout",
            "dropout_members_forward",
            (A.dtype,),
            [A.size, A.shape[0], rates.size, block, skipped, key[0], key[1], rates, step, A, out, mask],
            threads=-(-(skipped + A.size) // DRAWS_PER_BLOCK) if A.size else 0,
        )

    def dropout_members_backward(self, dA: Array, rates: Array, mask: Array, out: Array) -> None:
        arguments = [dA.size, dA.shape[0], rates.size, rates, dA, mask, out]
        self._launcher.launch("dropout", "dropout_members_backward", (dA.dtype,), arguments, threads=dA.size)
