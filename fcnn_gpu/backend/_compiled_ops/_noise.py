"""Gaussian noise, drawn and added in one pass."""

from __future__ import annotations

from ..._types import Array
from .._ops import Scheduled
from ._array import CompiledArrays
from ._dropout import signed
from ._scheduled import scheduled


class CompiledNoise(CompiledArrays):
    def gaussian_noise(
        self,
        A: Array,
        std: float | Scheduled,
        key: tuple[int, int],
        step: Array,
        out: Array,
        first_draw: int = 0,
    ) -> None:
        self._issue(
            "gaussian_noise",
            A.dtype,
            batch=A.shape[1],
            n=A.shape[0],
            first_draw=first_draw,
            key0=signed(key[0]),
            key1=signed(key[1]),
            **scheduled("std", std),
            step=step,
            A=A,
            out=out,
        )
