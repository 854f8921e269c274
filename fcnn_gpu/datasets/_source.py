"""Data sets that are read block by block: what `fit`, `evaluate` and `predict` take in place of arrays."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from .._checks import check_bool, check_integer
from .._types import DType, HostArray
from ._order import BlockOrder, check_shuffle_buffer

Piece: TypeAlias = tuple[HostArray, HostArray | None, HostArray | None]
"""Some samples that follow each other: X (n, n_features), targets (n,) or (n, n_targets), weights (n,); or None."""

_SHUFFLED_BYTES = 64 * 2**20
"""Features that the shuffle buffer holds unless the user says otherwise."""


class BlockSource(ABC):
    """Samples in blocks, each read from its beginning to its end: a row group, a shard, a run of rows.

    Whatever can do that is a data set for `Trainer.fit`. A source of your own calls `BlockSource.__init__` and
    defines `read`; it may be read by several threads at a time, each block by one of them.

    Args:
        n_features: numbers per sample.
        dtype: of X, as it is read.
        block_sizes: samples of each block, at least one. The fewer samples a block has, the better an epoch is
            shuffled; the more, the fewer places are read from.
        has_targets: whether `read` gives targets.
        has_weights: whether `read` gives weights w_j of the samples' losses.
        piece_size: samples that `read` gives at a time at most, by which memory is planned. (default: a whole block)

    >>> class Squares(BlockSource):
    ...     def __init__(self):
    ...         super().__init__(n_features=1, dtype="float32", block_sizes=[100, 100, 50])
    ...     def read(self, block):
    ...         first = int(self.starts[block])
    ...         x = np.arange(first, first + self.block_sizes[block], dtype="float32").reshape(-1, 1)
    ...         yield x, x**2, None
    >>> Squares()
    Squares: 250 samples of 1 feature (float32) with targets, in 3 blocks
    """

    def __init__(
        self,
        n_features: int,
        dtype: Any,
        block_sizes: Sequence[int] | HostArray,
        *,
        has_targets: bool = True,
        has_weights: bool = False,
        piece_size: int | None = None,
    ) -> None:
        who = type(self).__name__
        self.n_features = check_integer(f"{who}(n_features)", n_features, low=1)
        self.dtype: DType = np.dtype(dtype)
        self.has_targets = check_bool(f"{who}(has_targets)", has_targets)
        self.has_weights = check_bool(f"{who}(has_weights)", has_weights)
        sizes = np.asarray(block_sizes)
        if sizes.ndim != 1 or sizes.size == 0 or sizes.dtype.kind not in "iu" or sizes.min() < 1:
            raise ValueError(f"{who}(block_sizes) expects whole numbers of at least 1, one per block, got {sizes}.")
        self.block_sizes: HostArray = sizes.astype(np.int64)
        self.starts: HostArray = np.concatenate([[0], np.cumsum(self.block_sizes)])
        """The number of each block's first sample, and at last that of all samples."""
        self.piece_size = int(sizes.max()) if piece_size is None else check_integer(f"{who}(piece_size)", piece_size)
        self.class_names: tuple[str, ...] | None = None
        """What labels 0, 1, ... are called, where the files say that."""
        self.feature_names: tuple[str, ...] | None = None
        """The columns' names, where the files have them."""
        self.target_names: tuple[str, ...] | None = None
        """The names of the targets' columns, where the files have them."""
        if self.dtype.kind not in "biuf" and self.dtype.name != "bfloat16":
            raise TypeError(f"{who} expects X to hold real numbers, got {self.dtype} values.")

    @abstractmethod
    def read(self, block: int) -> Iterator[Piece]:
        """The samples of a block in order, in pieces of any size: those together are what is in memory of it.

        Raises an error that names the file where something is wrong with it.
        """

    def read_targets(self, block: int) -> Iterator[tuple[HostArray | None, HostArray | None]]:
        """The targets and weights of a block, without X where that takes less time: `fit` reads all of them first."""
        for _, targets, weights in self.read(block):
            yield targets, weights

    def place(self, sample: int) -> str:
        """Where a sample is, as an error names it: the file and the row in it."""
        return f"row {sample}"

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def n_samples(self) -> int:
        """Samples in all blocks together."""
        return len(self)

    def order(self, seed: int, epoch: int, shuffle_buffer: int | None = None) -> HostArray:
        """The numbers of the samples (n_samples,) in the order in which a shuffled epoch visits them.

        Args:
            seed: the trainer's.
            epoch: counted from 0 over all calls of `fit`.
            shuffle_buffer: as in `fit`.
        """
        seed, epoch = check_integer("order(seed)", seed, low=0), check_integer("order(epoch)", epoch, low=0)
        return np.concatenate(list(self.visiting(seed, epoch, True, shuffle_buffer).numbers()))

    def visiting(self, seed: int, epoch: int, shuffle: bool, shuffle_buffer: int | None = None) -> BlockOrder:
        """The order of an epoch as a rule, which takes no memory."""
        return BlockOrder(self.block_sizes, seed, epoch, shuffle, self.shuffle_buffer(shuffle_buffer))

    def shuffle_buffer(self, given: int | None = None) -> int:
        """Samples that the shuffle buffer holds: those given, or as many as 64 MiB of X are; at most all there are."""
        size = check_shuffle_buffer(given)
        if size is None:
            size = max(1, _SHUFFLED_BYTES // (self.n_features * self.dtype.itemsize))
        return min(size, len(self))

    def __repr__(self) -> str:
        beside = [name for name, there in (("targets", self.has_targets), ("weights", self.has_weights)) if there]
        n = len(self.block_sizes)
        return (
            f"{type(self).__name__}: {len(self):,} samples of {self.n_features:,} feature{_s(self.n_features)} "
            f"({self.dtype}){' with ' if beside else ''}{' and '.join(beside)}, in {n:,} block{_s(n)}"
        )


def _s(n: int) -> str:
    return "" if n == 1 else "s"


class Joined(BlockSource):
    """The blocks of several sources of the same kind, one source after the other."""

    def __init__(self, parts: Sequence[BlockSource]) -> None:
        first = parts[0]
        for part in parts[1:]:
            for what in ("n_features", "dtype", "has_targets", "has_weights"):
                if getattr(part, what) != getattr(first, what):
                    raise ValueError(
                        f"All files of a data set expect the same {what}: {_name(first)} has {getattr(first, what)}, "
                        f"{_name(part)} has {getattr(part, what)}."
                    )
            _check_columns(first, part)
        super().__init__(
            first.n_features,
            first.dtype,
            np.concatenate([part.block_sizes for part in parts]),
            has_targets=first.has_targets,
            has_weights=first.has_weights,
            piece_size=max(part.piece_size for part in parts),
        )
        self.class_names, self.feature_names = first.class_names, first.feature_names
        self.target_names = first.target_names
        self._parts = list(parts)
        self._first_blocks = np.cumsum([0, *(len(part.block_sizes) for part in parts)])
        self._first_samples = np.cumsum([0, *(len(part) for part in parts)])

    def read(self, block: int) -> Iterator[Piece]:
        part, inner = self._find(self._first_blocks, block)
        return part.read(inner)

    def read_targets(self, block: int) -> Iterator[tuple[HostArray | None, HostArray | None]]:
        part, inner = self._find(self._first_blocks, block)
        return part.read_targets(inner)

    def place(self, sample: int) -> str:
        part, inner = self._find(self._first_samples, sample)
        return part.place(inner)

    def _find(self, firsts: HostArray, number: int) -> tuple[BlockSource, int]:
        which = int(np.searchsorted(firsts, number, side="right")) - 1
        return self._parts[which], number - int(firsts[which])


def join(parts: Sequence[BlockSource]) -> BlockSource:
    """One source of the blocks of all; ValueError where they differ in width or kind."""
    return parts[0] if len(parts) == 1 else Joined(parts)


def _check_columns(first: BlockSource, part: BlockSource) -> None:
    """ValueError where both name their columns, and not alike: what lies in one place would mean two things."""
    names, others = first.feature_names, part.feature_names
    if names is None or others is None or names == others:
        return
    at = next(i for i, (a, b) in enumerate(itertools.zip_longest(names, others)) if a != b)
    here, there = (repr(x[at]) if at < len(x) else "none" for x in (names, others))
    raise ValueError(
        f"All files of a data set expect the same features in the same order: number {at} is {here} in "
        f"{_name(first)} and {there} in {_name(part)}. Write the columns in one order (of Parquet files, "
        "features=[...] chooses them by name)."
    )


def _name(source: BlockSource) -> str:
    return source.place(0).rpartition(", ")[0] or repr(source)


class Beside(BlockSource):
    """A source and arrays with a row for each of its samples: targets, weights, or both, in place of its own."""

    def __init__(self, source: BlockSource, targets: HostArray | None, weights: HostArray | None) -> None:
        super().__init__(
            source.n_features,
            source.dtype,
            source.block_sizes,
            has_targets=source.has_targets or targets is not None,
            has_weights=source.has_weights or weights is not None,
            piece_size=source.piece_size,
        )
        self.class_names, self.feature_names = source.class_names, source.feature_names
        self.target_names = source.target_names
        self._source, self._targets, self._weights = source, targets, weights
        self._all_given = targets is not None and (weights is not None or not source.has_weights)

    def read(self, block: int) -> Iterator[Piece]:
        at = int(self.starts[block])
        for X, targets, weights in self._source.read(block):
            yield X, *self._beside(at, at + len(X), targets, weights)
            at += len(X)

    def read_targets(self, block: int) -> Iterator[tuple[HostArray | None, HostArray | None]]:
        if self._all_given:
            start, stop = (int(i) for i in self.starts[block : block + 2])
            yield self._beside(start, stop, None, None)
            return
        at = int(self.starts[block])
        for targets, weights in self._source.read_targets(block):
            n = len(targets if targets is not None else weights)  # type: ignore[arg-type]  # one of them is there
            yield self._beside(at, at + n, targets, weights)
            at += n

    def place(self, sample: int) -> str:
        return self._source.place(sample)

    def _beside(
        self, start: int, stop: int, targets: HostArray | None, weights: HostArray | None
    ) -> tuple[HostArray | None, HostArray | None]:
        return (
            targets if self._targets is None else self._targets[start:stop],
            weights if self._weights is None else self._weights[start:stop],
        )


class Part(BlockSource):
    """The samples of a source that are held out for validation, or the others.

    Each block gives its share, drawn by the seed, so both parts read their blocks whole.
    """

    def __init__(self, source: BlockSource, share: float, seed: int, held_out: bool) -> None:
        n_held_out = round(share * len(source))
        bounds = np.floor(source.starts * (n_held_out / len(source)) + 0.5).astype(np.int64)
        bounds[-1] = n_held_out
        taken = np.diff(bounds)
        sizes = taken if held_out else source.block_sizes - taken
        self._blocks = np.flatnonzero(sizes)
        if not 0 < n_held_out < len(source):
            raise ValueError(
                f"validation_split={share:g} of {len(source)} samples leaves {len(source) - n_held_out} for training "
                f"and {n_held_out} for validation. Both need at least one: use more data, another share or "
                "validation_data."
            )
        super().__init__(
            source.n_features,
            source.dtype,
            sizes[self._blocks],
            has_targets=source.has_targets,
            has_weights=source.has_weights,
            piece_size=2 * source.piece_size,  # what is read, and what is chosen of it
        )
        self.class_names, self.feature_names = source.class_names, source.feature_names
        self.target_names = source.target_names
        self._source, self._seed, self._held_out, self._taken = source, seed, held_out, taken

    def read(self, block: int) -> Iterator[Piece]:
        mask, at = self._mask(block), 0
        for arrays in self._source.read(int(self._blocks[block])):
            chosen = mask[at : at + len(arrays[0])]
            at += len(chosen)
            X, targets, weights = (None if array is None else array[chosen] for array in arrays)
            if X is not None and len(X):
                yield X, targets, weights

    def read_targets(self, block: int) -> Iterator[tuple[HostArray | None, HostArray | None]]:
        mask, at = self._mask(block), 0
        for arrays in self._source.read_targets(int(self._blocks[block])):
            n = next(len(array) for array in arrays if array is not None)
            chosen = mask[at : at + n]
            at += n
            if chosen.any():
                targets, weights = (None if array is None else array[chosen] for array in arrays)
                yield targets, weights

    def place(self, sample: int) -> str:
        block = int(np.searchsorted(self.starts, sample, side="right")) - 1
        row = int(np.flatnonzero(self._mask(block))[sample - int(self.starts[block])])
        return self._source.place(int(self._source.starts[self._blocks[block]]) + row)

    def _mask(self, block: int) -> HostArray:
        """Which samples of a block of this part's are in it."""
        number = int(self._blocks[block])
        n, n_held_out = int(self._source.block_sizes[number]), int(self._taken[number])
        chosen = np.zeros(n, bool)
        chosen[np.random.default_rng([self._seed, 0x5E1EC7, number]).permutation(n)[:n_held_out]] = True
        return chosen if self._held_out else ~chosen
