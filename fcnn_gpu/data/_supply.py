"""Where the samples of a stream come from: arrays of the host in any order, or a source that is read block by block."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .._types import DType, HostArray
from ._device_data import Samples, epoch_order
from ._input_checks import Features
from ._sparse_features import SparseFeatures

N_READERS = 4
"""Threads that read the rows of a chunk: one alone reads random rows far more slowly than a device takes them."""
_BYTES_PER_READER = 2**22
"""What a reader's share must be worth: less is read before another thread has begun."""

Fill = Callable[[Samples], None]
"""Fills all of a buffer with the samples that come next."""


class Supply(Protocol):
    """Samples of the host for a stream: how many, what one looks like, and one after the other in an order."""

    def __len__(self) -> int: ...

    def empty(self, n: int, make: Callable[[tuple[int, ...], DType], Any]) -> Samples:
        """Arrays for n samples, made by `make(shape, dtype)`."""

    def order(self, seed: int, epoch: int, shuffle: bool) -> Any:
        """The order of an epoch, for `reading` and `picked`."""

    def reading(self, order: Any, n: int) -> Any:
        """A context in which a `Fill` gives the first n samples in this order, one buffer after the other."""

    def picked(self, order: Any, first: int, n: int) -> Samples:
        """n samples from position `first` of the order on, in memory of their own."""


@dataclass
class ArraySupply:
    """X, targets, and weights or None, in arrays of the host or in memory-mapped files."""

    X: Features | SparseFeatures
    targets: HostArray
    sample_weight: HostArray | None

    def __len__(self) -> int:
        return len(self.X)

    @property
    def streamed_X(self) -> Features:
        """X where it streams, which sparse samples do not."""
        assert isinstance(self.X, Features), "sparse samples stay on the device"
        return self.X

    def empty(self, n: int, make: Callable[[tuple[int, ...], DType], Any]) -> Samples:
        """Arrays for n samples."""
        weight = self.sample_weight
        return Samples(
            make((n, self.X.n_features), self.X.dtype),
            make((n, *self.targets.shape[1:]), self.targets.dtype),
            None if weight is None else make((n, *weight.shape[1:]), weight.dtype),
        )

    def order(self, seed: int, epoch: int, shuffle: bool) -> HostArray:
        """A permutation of all samples."""
        return epoch_order(len(self), seed, epoch, shuffle)

    @contextmanager
    def reading(self, order: HostArray, n: int) -> Iterator[Fill]:
        """The samples of the first n numbers in `order`, each chunk read by several threads if it is large."""
        readers = ThreadPoolExecutor(N_READERS - 1, "fcnn_gpu prefetch reader")
        at = 0

        def fill(out: Samples) -> None:
            nonlocal at
            rows = order[at : min(at + len(out.X), n)]
            at += len(rows)
            self.read(rows, out, readers)

        try:
            yield fill
        finally:
            readers.shutdown()

    def read(self, rows: HostArray, out: Samples, readers: Executor) -> None:
        """out = the samples of these numbers."""
        n_shares = min(N_READERS, max(1, out.X.nbytes // _BYTES_PER_READER))
        places = [len(rows) * i // n_shares for i in range(n_shares + 1)]
        shares = [slice(start, stop) for start, stop in itertools.pairwise(places)]
        read = self.streamed_X.read
        done = [readers.submit(read, rows[share], out.X[share]) for share in shares[1:]]
        read(rows[shares[0]], out.X[shares[0]])
        for future in done:
            future.result()
        self.targets.take(rows, 0, out.targets, "clip")
        if self.sample_weight is not None:
            self.sample_weight.take(rows, 0, out.sample_weight, "clip")

    def picked(self, order: HostArray, first: int, n: int) -> Samples:
        """The samples at these positions of the order."""
        rows = order[first : first + n]
        weight = None if self.sample_weight is None else self.sample_weight[rows]
        out = Samples(np.empty((len(rows), self.X.n_features), self.X.dtype), self.targets[rows], weight)
        self.streamed_X.read(rows, out.X)
        return out

    def part(self, index: HostArray) -> ArraySupply:
        """The samples of these numbers."""
        weight = self.sample_weight
        return ArraySupply(self.X.take(index), self.targets[index], None if weight is None else weight[index])
