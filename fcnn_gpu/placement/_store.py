"""Where the rows of stored weights lie: an interface, and the host's memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from .._types import DType, HostArray


class Rows(Protocol):
    """A matrix (n, m) outside of the device: rows are read and written, contiguous in both places."""

    shape: tuple[int, int]
    dtype: DType
    place: str
    """"the host" or "disk", for messages."""

    def view(self, start: int, stop: int) -> HostArray | None:
        """Rows in host memory where they lie, to be read or copied from; None where they must be read."""

    def read(self, start: int, out: HostArray) -> None:
        """out (k, m) = rows `start` on."""

    def write(self, start: int, values: HostArray) -> None:
        """Rows `start` on = values (k, m), at once and in place."""

    def write_next(self, start: int, values: HostArray) -> None:
        """The same, within a step: on disk they count once the step is committed."""

    def replace(self, blocks: Iterable[tuple[int, HostArray]]) -> None:
        """Write all rows, given as (first row, values); on disk they count all together or not at all."""

    def copy(self) -> Rows:
        """A copy in the same place."""


class HostMemory(Protocol):
    """Memory of the host beside a device: page-locked where the device copies from it and to it, in its own time."""

    def host_array(self, shape: tuple[int, ...], dtype: Any) -> HostArray:
        """Such memory."""

    def before_reading(self, memory: HostArray) -> None:
        """Return when no copy to this memory is under way."""

    def before_writing(self, memory: HostArray) -> None:
        """Return when no copy to this memory or from it is under way."""


class HostRows:
    """Rows in the memory of the host.

    A device copies from this memory when its stream comes to that, long after a product was asked for: whoever writes
    here waits for those copies, and whoever reads for those that bring an update back.

    Args:
        array: (n, m), C-ordered; it is not copied.
        memory: whose it is.
    """

    place = "the host"

    def __init__(self, array: HostArray, memory: HostMemory) -> None:
        self._array, self._memory = array, memory
        self.shape, self.dtype = (int(array.shape[0]), int(array.shape[1])), array.dtype

    def view(self, start: int, stop: int) -> HostArray | None:
        view = self._array[start:stop]
        self._memory.before_reading(view)
        return view

    def read(self, start: int, out: HostArray) -> None:
        source = self._array[start : start + len(out)]
        self._memory.before_reading(source)
        np.copyto(out, source)

    def write(self, start: int, values: HostArray) -> None:
        target = self._array[start : start + len(values)]
        if target.ctypes.data != values.ctypes.data:  # an update in place has written already
            self._memory.before_writing(target)
            np.copyto(target, values)

    write_next = write

    def replace(self, blocks: Iterable[tuple[int, HostArray]]) -> None:
        for start, values in blocks:
            self.write(start, values)

    def copy(self) -> HostRows:
        array = self._memory.host_array(self.shape, self.dtype)
        self.read(0, array)
        return HostRows(array, self._memory)


class HostStore:
    """Keeps stored weights and their moments in the host's memory. Updates are in place."""

    place = "host"

    def __init__(self, memory: HostMemory) -> None:
        self._memory = memory

    def weight(self, name: str, shape: tuple[int, int], dtype: DType) -> HostRows:
        """Memory for the weights of that name."""
        return HostRows(self._memory.host_array(shape, dtype), self._memory)

    def moments(self, names: Iterable[str], shapes: dict[str, tuple[int, int]], dtype: DType) -> dict[str, HostRows]:
        """Zeros for an optimizer's arrays."""
        found = {}
        for name in names:
            array = self._memory.host_array(shapes[name], dtype)
            array[...] = 0  # which nobody copies from yet
            found[name] = HostRows(array, self._memory)
        return found
