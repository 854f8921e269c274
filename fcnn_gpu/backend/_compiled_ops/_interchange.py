"""The check of numbers that come from elsewhere."""

from __future__ import annotations

from ..._types import Array
from ._array import CompiledArrays


class CompiledInterchange(CompiledArrays):
    def count_nonfinite(self, x: Array, count: Array) -> None:
        if x.dtype.kind != "f" or x.itemsize < 4 or not x.flags.forc:
            super().count_nonfinite(x, count)
            return
        self._issue("count_nonfinite", x.dtype, n=x.size, x=x, count=count)
