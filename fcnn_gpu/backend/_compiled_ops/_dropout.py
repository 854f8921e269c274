"""Dropout and alpha dropout: masks from Philox, drawn and applied in one pass."""

from __future__ import annotations

from ..._types import Array
from .._ops import Scheduled
from .._ops._dropout import realized_dropout
from ._array import CompiledArrays
from ._scheduled import scheduled


class CompiledDropout(CompiledArrays):
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
        self._drop("dropout_forward", A, p, key, step, mask, out, first_draw)

    def dropout_backward(self, dA: Array, p: float | Scheduled, mask: Array, out: Array) -> None:
        self._drop_backward("dropout_backward", dA, p, mask, out)

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
        self._drop("alpha_dropout_forward", A, p, key, step, mask, out, first_draw)

    def alpha_dropout_backward(self, dA: Array, p: float | Scheduled, mask: Array, out: Array) -> None:
        self._drop_backward("alpha_dropout_backward", dA, p, mask, out)

    def _drop(
        self,
        operation: str,
        A: Array,
        p: float | Scheduled,
        key: tuple[int, int],
        step: Array,
        mask: Array,
        out: Array,
        first_draw: int,
    ) -> None:
        self._issue(
            operation,
            A.dtype,
            batch=A.shape[1],
            n=A.shape[0],
            first_draw=first_draw,
            key0=signed(key[0]),
            key1=signed(key[1]),
            **scheduled("p", realized_dropout(p)),
            step=step,
            A=A,
            mask=mask,
            out=out,
        )

    def _drop_backward(self, operation: str, dA: Array, p: float | Scheduled, mask: Array, out: Array) -> None:
        self._issue(
            operation,
            dA.dtype,
            batch=dA.shape[1],
            n=dA.shape[0],
            **scheduled("p", realized_dropout(p)),
            mask=mask,
            dA=dA,
            out=out,
        )

    def dropout_members_forward(
        self, A: Array, rates: Array, key: tuple[int, int], step: Array, mask: Array, out: Array, first_draw: int = 0
    ) -> None:
        self._issue(
            "dropout_members_forward",
            A.dtype,
            batch=A.shape[1],
            n=A.shape[0],
            members=rates.size,
            first_draw=first_draw,
            key0=signed(key[0]),
            key1=signed(key[1]),
            rates=rates,
            step=step,
            A=A,
            mask=mask,
            out=out,
        )

    def dropout_members_backward(self, dA: Array, rates: Array, mask: Array, out: Array) -> None:
        n, batch = dA.shape
        given = {"batch": batch, "n": n, "members": rates.size, "rates": rates}
        self._issue("dropout_members_backward", dA.dtype, **given, mask=mask, dA=dA, out=out)


def signed(word: int) -> int:
    """The int64 whose bits are those of this uint64."""
    return word - (word >> 63 << 64)
