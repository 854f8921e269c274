"""Calls of compiled operations with the memory before and after them, in a file that replay.c computes anew."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Generator, Hashable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from fcnn_gpu.backend._compiled import Call
from fcnn_gpu.backend._compiled._call import Access, Parameter

_LINE = 64
"""Bytes of a cache line: where in one an array begins is kept."""


class _Region(NamedTuple):
    """Memory that arrays of a call lie in, which overlap; `number_bytes` of a float or double, 0 for anything else."""

    start: int
    stop: int
    number_bytes: int

    def content(self) -> bytes:
        return ctypes.string_at(self.start, self.stop - self.start)


class Recording:
    """Calls as the text of a file: numbers of 8 bytes, names and arrays in the order in which replay.c reads them."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._calls: dict[tuple[Hashable, ...], bytes] = {}
        """By operation, dtype and everything else that tells calls from each other."""

    @property
    def names(self) -> set[str]:
        """Of the operations."""
        return {str(form[0]) for form in self._calls}

    def write(self, path: Path, *, one_of_each: bool = False) -> None:
        """All of them, or the last one of each operation and dtype."""
        calls = {form[:2]: text for form, text in self._calls.items()} if one_of_each else self._calls
        path.write_bytes(_numbers(len(calls)) + b"".join(calls.values()))

    def compute(self, call: Call) -> None:
        """Compute a call and write down how, unless one with other numbers in the same arrays is there."""
        form = _form(call)
        if form in self._calls or not call.name.startswith(self._prefix):
            _COMPUTE(call)
            return
        regions, region_of = _regions_of(call)
        before = [region.content() for region in regions]
        _COMPUTE(call)
        parameters = call.operation.parameters
        text = [_array(call.name.encode() + b"\0"), _numbers(call.dtype == np.float64, len(parameters))]
        for parameter, word in zip(parameters, call.words[1:], strict=True):
            i = region_of.get(parameter.name)
            text.append(_numbers(0, word, 0) if i is None else _numbers(1, i, word - regions[i].start))
        text.append(_numbers(len(regions)))
        for region, old in zip(regions, before, strict=True):
            new = region.content()
            text.append(_numbers(region.start % _LINE, region.number_bytes))
            text += [_array(old), _array(b"" if new == old else new)]
        self._calls[form] = b"".join(text)


def _numbers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


def _array(text: bytes) -> bytes:
    return _numbers(len(text)) + text


_COMPUTE = Call.__call__


@contextmanager
def recorded_calls(prefix: str = "") -> Generator[Recording]:
    """All calls that are computed at once inside, of the operations whose names begin so."""
    recording = Recording(prefix)
    with mock.patch.object(Call, "__call__", lambda call: recording.compute(call)):
        yield recording


def _form(call: Call) -> tuple[Hashable, ...]:
    """What tells a call from others: its operation, its settings, the forms of its arrays."""

    def of(value: Any) -> Hashable:
        return (value.shape, value.strides, value.dtype.name) if isinstance(value, np.ndarray) else value

    return call.name, call.dtype.name, *(of(value) for value in call.arguments.values())


def _regions_of(call: Call) -> tuple[list[_Region], dict[str, int]]:
    """The regions, and which of them each parameter that is an array lies in."""
    given = [p for p in call.operation.parameters if p.is_pointer and call.arguments[p.name] is not None]
    pairs = sorted(zip(call.accesses, given, strict=True), key=lambda pair: (pair[0].start, pair[0].stop))
    regions: list[_Region] = []
    region_of: dict[str, int] = {}
    for access, parameter in pairs:
        region = _Region(access.start, access.stop, _number_bytes(call, parameter))
        if regions and _overlap(regions[-1], access):
            last = regions[-1]
            same = last.number_bytes if last.number_bytes == region.number_bytes else 0
            regions[-1] = _Region(last.start, max(last.stop, region.stop), same)
        else:
            regions.append(region)
        region_of[parameter.name] = len(regions) - 1
    return regions, region_of


def _overlap(region: _Region, access: Access) -> bool:
    return access.start < region.stop or access.start == region.start


def _number_bytes(call: Call, parameter: Parameter) -> int:
    if parameter.is_real:
        return call.dtype.itemsize
    return 8 if parameter.dtype == np.float64 else 0
