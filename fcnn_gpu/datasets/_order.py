"""The order in which an epoch visits samples that are read block by block: blocks shuffled, then a shuffle buffer.

::

    blocks in an order drawn from the seed:   | 4 4 4 4 | 0 0 0 0 | 2 2 2 2 | ...   read one after the other
    buffer of B samples:                      [ s s s s s s s s ... s ]
    a round: m of its slots, drawn at random, are visited; the next m samples of the stream take their places

With m = 1 this is what other tools call a shuffle buffer; here m = ⌈B/16⌉, so that NumPy draws and copies many at once.
A buffer that holds all samples gives a permutation drawn uniformly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .._checks import check_integer
from .._types import HostArray

_ROUNDS_PER_BUFFER = 16
_AT_ONCE = 2**16
"""Numbers of samples in file order that are given at a time."""


def check_shuffle_buffer(size: int | None) -> int | None:
    """A number of samples, at least 1 (which shuffles nothing but the blocks); None stays."""
    return None if size is None else check_integer("shuffle_buffer", size, low=1)


@dataclass(frozen=True, eq=False)
class BlockOrder:
    """One epoch's order: a function of the blocks' sizes, seed, epoch and buffer alone.

    Attributes:
        block_sizes: samples of each block.
        seed, epoch: what the order is drawn from.
        shuffle: False for the order of the files.
        buffer: samples that the shuffle buffer holds, at most all.
    """

    block_sizes: HostArray
    seed: int
    epoch: int
    shuffle: bool
    buffer: int

    def blocks(self) -> HostArray:
        """The numbers of the blocks in the order in which they are read."""
        if not self.shuffle:
            return np.arange(len(self.block_sizes))
        return np.random.default_rng([self.seed, self.epoch]).permutation(len(self.block_sizes))

    def rounds(self) -> Iterator[tuple[HostArray, bool]]:
        """The buffer's slots (m,) that are visited, and whether samples of the stream then take their places.

        Before the first round the first `buffer` samples of the stream fill the slots in order.
        """
        rng = np.random.default_rng([self.seed, self.epoch, 1])
        left = int(self.block_sizes.sum()) - self.buffer
        m = -(-self.buffer // _ROUNDS_PER_BUFFER)
        while left:
            yield rng.choice(self.buffer, min(m, left), replace=False), True
            left -= min(m, left)
        yield rng.permutation(self.buffer), False

    def numbers(self) -> Iterator[HostArray]:
        """The numbers of the samples in the order of the visits, part by part."""
        if not self.shuffle:
            n = int(self.block_sizes.sum())
            yield from (np.arange(first, min(first + _AT_ONCE, n)) for first in range(0, n, _AT_ONCE))
            return
        stream = _Numbers(self)
        slots = stream.take(self.buffer)
        for drawn, refilled in self.rounds():
            yield slots[drawn]
            if refilled:
                slots[drawn] = stream.take(len(drawn))

    def between(self, first: int, stop: int) -> HostArray:
        """The numbers of the samples at positions `first` up to `stop` of the order."""
        found, at = [np.zeros(0, np.int64)], 0
        for numbers in self.numbers():
            found.append(numbers[max(0, first - at) : max(0, stop - at)])
            at += len(numbers)
            if at >= stop:
                break
        return np.concatenate(found)


class _Numbers:
    """The stream of the samples of blocks that are read one after the other, as numbers."""

    def __init__(self, order: BlockOrder) -> None:
        blocks = order.blocks()
        sizes = order.block_sizes[blocks]
        self._ends = np.cumsum(sizes)
        firsts = np.cumsum(order.block_sizes) - order.block_sizes
        self._offsets = firsts[blocks] - (self._ends - sizes)
        """What to add to a position in the stream to get the sample's number, block by block."""
        self._at = 0

    def take(self, n: int) -> HostArray:
        """The next n of them."""
        positions = np.arange(self._at, self._at + n)
        self._at += n
        return positions + self._offsets[np.searchsorted(self._ends, positions, side="right")]
