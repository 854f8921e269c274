"""The samples of a source that is read block by block, for a stream and for predictions: converted and checked."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._arrays import as_array
from .._checks import RowError
from .._types import DType, HostArray
from ..datasets import BlockSource
from ..datasets._digits import Digits, may_round
from ..files import ReadAhead
from ._categories import Categories
from ._centering import FLOAT64_REMEDY, REMEDY, TARGET_REMEDY
from ._device_data import Samples
from ._input_checks import converted, storage_dtype
from ._supply import Fill

_PREDICTED_BYTES = 4 * 2**20
"""X that is read at a time for predictions."""
_TRIAL_SAMPLES = 1000
"""Targets that are kept to try metrics on."""


@dataclass(frozen=True)
class TargetRules:
    """How a loss takes targets and weights, each for some samples at a time; what is wrong with one is a `RowError`.

    Attributes:
        targets: checked, as the loss computes with them.
        weights: (given, n) checked and cast.
        labels: the class numbers (n,) of such targets, or None where they are not that.
        weight_dtype: of weights.
        are_values: whether targets are values, and not classes.
        input_center: what is subtracted from X, or None.
        output_center: what `targets` subtracts, or None.
        of_loss: the weights that the loss itself gives samples by such targets, or None.
        categories: which columns of X number categories, or None.
    """

    targets: Callable[[HostArray], HostArray]
    weights: Callable[[HostArray, int], HostArray]
    labels: Callable[[HostArray], HostArray | None]
    weight_dtype: DType
    are_values: bool = False
    input_center: HostArray | None = None
    output_center: HostArray | None = None
    of_loss: Callable[[HostArray], HostArray | None] = lambda targets: None
    categories: Categories | None = None


@dataclass(frozen=True)
class TargetSummary:
    """What a first pass over all targets finds.

    Attributes:
        counts: samples of each class, or None where targets are not labels.
        some: at most 1000 targets from all over the data.
        counted: whether a class has a sample of a weight greater than 0, or None likewise.
    """

    counts: HostArray | None
    some: HostArray
    counted: HostArray | None = None


class SourceSupply:
    """A source as a stream takes it: converted and checked piece by piece, through a shuffle buffer.

    Args:
        source: the data set.
        n_in: features that the model expects.
        dtype: the model's.
        rules: how its loss takes targets.
        who: for errors, who reads.
        shuffle_buffer: samples, or None for the source's own choice.
        checks_digits: whether to warn, after the first pass, where the model's dtype loses digits of a column.
    """

    def __init__(
        self,
        source: BlockSource,
        n_in: int,
        dtype: Any,
        rules: TargetRules,
        who: str,
        shuffle_buffer: int | None = None,
        checks_digits: bool = False,
    ) -> None:
        check_width(source, n_in, who)
        if not source.has_targets:
            raise ValueError(f"{who} needs targets, and {source!r} has none. Name them when it is opened, or pass y.")
        self.source, self.who = source, who
        self.dtype = np.dtype(storage_dtype(source.dtype, np.dtype(dtype), rules.input_center))
        self.class_weights: HostArray | None = None
        """A factor of the weight of each class's samples, or None."""
        self.shuffle_buffer = source.shuffle_buffer(shuffle_buffer)
        self._rules = rules
        self._digits: Digits | None = None
        self._checks_digits, self._seen = checks_digits, 0
        if checks_digits and may_round(source.dtype, self.dtype):
            self._digits = Digits(self.dtype, rules.input_center)
        self.part = ""
        """Which part of a data set this is, for messages."""
        self._weighed: bool | None = None
        self._slots: Samples | None = None
        self._first: HostArray | None = None
        given, _ = next(iter(source.read_targets(0)), (None, None))
        self._first = self._targets(given, 0)[:0]

    def __len__(self) -> int:
        return len(self.source)

    def of(self, source: BlockSource, part: str, checks_digits: bool = False) -> SourceSupply:
        """The same for a source of some of the samples, called `part` in messages."""
        size = min(self.shuffle_buffer, len(source))
        supply = SourceSupply(source, source.n_features, self.dtype, self._rules, self.who, size, checks_digits)
        supply.part = part
        return supply

    @property
    def like(self) -> HostArray:
        """No targets, of the shape and dtype of all."""
        assert self._first is not None
        return self._first

    @property
    def has_weights(self) -> bool:
        return self.source.has_weights or self.class_weights is not None

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample as it is stored."""
        return self.source.n_features * self.dtype.itemsize + self.target_bytes + self.weight_bytes

    @property
    def weight_bytes(self) -> int:
        """Of a sample's weight; 0 where there is none."""
        return int(self._rules.weight_dtype.itemsize) if self.has_weights else 0

    @property
    def target_bytes(self) -> int:
        """Bytes of one sample's targets."""
        return int(np.prod(self.like.shape[1:], dtype=int)) * self.like.itemsize

    def host_bytes(self, shuffle: bool) -> int:
        """Bytes that reading takes on the host beside the chunks: the shuffle buffer and a piece of a block."""
        largest = self.source.piece_size * self.source.n_features
        block = largest * (self.source.dtype.itemsize + (0 if self.source.dtype == self.dtype else self.dtype.itemsize))
        return block + (self.shuffle_buffer * (self.sample_bytes + 8) if shuffle else 0)

    def empty(self, n: int, make: Callable[[tuple[int, ...], DType], Any]) -> Samples:
        """Arrays for n samples."""
        return Samples(
            make((n, self.source.n_features), self.dtype),
            make((n, *self.like.shape[1:]), self.like.dtype),
            make((n,), self._rules.weight_dtype) if self.has_weights else None,
        )

    def order(self, seed: int, epoch: int, shuffle: bool) -> Any:
        """A `BlockOrder`."""
        return self.source.visiting(seed, epoch, shuffle, self.shuffle_buffer)

    @contextmanager
    def reading(self, order: Any, n: int) -> Iterator[Fill]:
        """The first n samples of the order: the blocks are read one after the other, none of them twice."""
        with closing(self._pieces(order.blocks())) as pieces:
            stream = _Stream(pieces)
            yield self._shuffled(stream, order) if order.shuffle else stream.fill
        if self._digits is not None and 2 * self._seen >= len(self):
            who, names = f"{self.who}: X of {self.source!r}", self.source.feature_names
            self._digits.warn(who, names, REMEDY)
            if self._rules.input_center is not None:
                self._digits.warn_of_float64(who, names, FLOAT64_REMEDY)
            self._digits = None

    def _shuffled(self, stream: _Stream, order: Any) -> Fill:
        if (
            self._slots is None
            or len(self._slots.X) != order.buffer
            or self.has_weights != (self._slots.sample_weight is not None)
        ):
            self._slots = self.empty(order.buffer, np.empty)
        slots, rounds = self._slots, order.rounds()
        drawn, refilled = np.zeros(0, np.int64), False
        begun = False

        def fill(out: Samples) -> None:
            nonlocal drawn, refilled, begun
            if not begun:
                stream.fill(slots)
                begun = True
            done, n = 0, len(out.X)
            while done < n:
                if not len(drawn):
                    drawn, refilled = next(rounds)
                part, drawn = drawn[: n - done], drawn[n - done :]
                for array, into in zip(slots.arrays(), out.arrays(), strict=True):
                    array.take(part, 0, into[done : done + len(part)], "clip")
                if refilled:
                    stream.scatter(slots, part)
                done += len(part)

        return fill

    def picked(self, order: Any, first: int, n: int) -> Samples:
        """The samples at these positions of the order; reads the blocks that they are in anew."""
        numbers = order.between(first, first + n)
        out = self.empty(len(numbers), np.empty)
        blocks = np.searchsorted(self.source.starts, numbers, side="right") - 1
        for block in np.unique(blocks):
            at = int(self.source.starts[block])
            for piece in self._pieces([int(block)]):
                places = np.flatnonzero((numbers >= at) & (numbers < at + len(piece.X)))
                for array, into in zip(piece.arrays(), out.arrays(), strict=True):
                    into[places] = array[numbers[places] - at]
                at += len(piece.X)
        return out

    def survey_targets(self) -> TargetSummary:
        """Check all targets and weights, and sum them up: one pass over the source, without X where it can do that.

        ValueError for what the loss cannot be trained on, with the place in the file, and for weights that are all 0.
        """
        counts: HostArray | None = np.zeros(0, np.int64)
        counted = np.zeros(0, np.int64)
        some: list[HostArray] = []
        weighs = False
        stride = max(1, len(self) // _TRIAL_SAMPLES)
        digits = Digits(self.like.dtype, self._rules.output_center)
        watched = self._checks_digits and self._rules.are_values
        for block in range(len(self.source.block_sizes)):
            at = int(self.source.starts[block])
            for given, weights in self.source.read_targets(block):
                targets = self._targets(given, at)
                weight, of_loss = self._weights(weights, targets, at), self._rules.of_loss(targets)
                counts_here = weight > 0 if of_loss is None else weight * of_loss > 0
                weighs = weighs or bool(counts_here.any())
                some.append(targets[-at % stride :: stride].copy())
                if watched and given is not None and may_round(given.dtype, targets.dtype):
                    digits.add_sample(given)
                labels = None if counts is None else self._rules.labels(targets)
                if labels is None or counts is None:
                    counts = None
                else:
                    counts = _added(counts, labels)
                    counted = _added(counted, labels[counts_here])
                at += len(targets)
            self._check_length(block, at)
        if not weighs:
            raise ValueError(self._nothing_counts())
        digits.warn(f"{self.who}: the targets of {self.source!r}", None, TARGET_REMEDY)
        if counts is None:
            return TargetSummary(None, np.concatenate(some))
        return TargetSummary(counts, np.concatenate(some), _added(counted, np.arange(0), len(counts)) > 0)

    def _nothing_counts(self) -> str:
        where = f" of {self.part}" if self.part else ""
        remedy = ", or hold other samples out" if self.part else ""
        return (
            f"{self.who}: the weight of every sample{where} is 0: none of them counts. Give some a weight greater than "
            f"0{remedy}."
        )

    def check_what_was_read(self) -> None:
        """ValueError where the weight of every sample was 0 in a pass that has ended."""
        if self._weighed is False:
            raise ValueError(self._nothing_counts())

    # Pieces

    def _pieces(self, blocks: Iterable[int]) -> Generator[Samples]:
        """What is in these blocks, as the model takes it."""
        for block in blocks:
            at = int(self.source.starts[block])
            for X, given, weights in self.source.read(int(block)):
                rules = self._rules
                stored = stored_features(X, self.source, self.dtype, at, self.who, rules.input_center, rules.categories)
                if self._digits is not None:
                    self._digits.add_sample(X)
                    self._seen += len(X)
                targets = self._targets(given, at)
                if len(targets) != len(stored):
                    raise ValueError(
                        f"{self.who}: block {block} has {len(stored)} samples but {len(targets)} targets "
                        f"({self.source.place(at)})."
                    )
                of_samples = self._weights(weights, targets, at) if self.has_weights else None
                of_loss = self._rules.of_loss(targets)
                if of_samples is not None or of_loss is not None:
                    weighs = np.any((1.0 if of_samples is None else of_samples) * (1.0 if of_loss is None else of_loss))
                    self._weighed = bool(self._weighed or weighs)
                yield Samples(stored, targets, of_samples)
                at += len(stored)
            self._check_length(int(block), at)

    def _check_length(self, block: int, at: int) -> None:
        check_block_length(self.source, block, at, self.who)

    def _targets(self, given: HostArray | None, first: int) -> HostArray:
        """Targets from sample `first` on, as the loss takes them."""
        if given is None:
            raise ValueError(f"{self.who}: the data set has no targets at {self.source.place(first)}.")
        targets = self._placed(self._rules.targets, first, given)
        like = targets if self._first is None else self._first
        if targets.shape[1:] != like.shape[1:] or targets.dtype != like.dtype:
            raise ValueError(
                f"{self.who}: the targets at {self.source.place(first)} have shape {targets.shape[1:]} per sample "
                f"({targets.dtype}), those before {like.shape[1:]} ({like.dtype})."
            )
        return targets

    def _weights(self, given: HostArray | None, targets: HostArray, first: int) -> HostArray:
        """Weights of samples from number `first` on, times those of their classes."""
        n = len(targets)
        if given is None:
            weights = np.ones(n, self._rules.weight_dtype)
        else:
            weights = self._placed(lambda values: self._rules.weights(values, n), first, given)
        if self.class_weights is None:
            return weights
        return weights * self.class_weights[self._rules.labels(targets)]

    def _placed(self, rule: Callable[[HostArray], HostArray], first: int, given: HostArray) -> HostArray:
        try:
            return rule(given)
        except RowError as error:
            raise ValueError(error.at(self.source.place(first + error.row))) from error
        except ValueError as error:
            last = first + max(0, len(given) - 1)
            raise ValueError(f"{error} ({self.source.place(first)} ... {last - first} rows on)") from error


class SourceFeatures:
    """X of a source in the order of its files, for predictions."""

    def __init__(
        self,
        source: BlockSource,
        n_in: int,
        dtype: Any,
        who: str,
        center: HostArray | None = None,
        categories: Categories | None = None,
    ) -> None:
        check_width(source, n_in, who)
        self._source, self._who, self._center, self._categories = source, who, center, categories
        self.dtype = np.dtype(storage_dtype(source.dtype, np.dtype(dtype), center))

    def __len__(self) -> int:
        return len(self._source)

    def batches(self, size: int) -> Generator[tuple[int, HostArray]]:
        """All samples, `size` at a time, while a thread reads the next few MiB: the number of the first, and X."""
        sample_bytes = self._source.n_features * self.dtype.itemsize
        window = max(1, _PREDICTED_BYTES // (sample_bytes * size)) * size
        window = min(window, len(self))
        buffers = [np.empty((window, self._source.n_features), self.dtype) for _ in range(2)]

        def load(first: int, slot: int) -> tuple[int, HostArray]:
            X = buffers[slot][: min(window, len(self) - first)]
            stream.fill(Samples(X, X, None))
            return first, X

        with closing(self._pieces()) as pieces:
            stream = _Stream(pieces)
            with ReadAhead(range(0, len(self), window), load) as windows:
                for first, X in windows:
                    for start in range(0, len(X), size):
                        yield first + start, X[start : start + size]

    def _pieces(self) -> Generator[Samples]:
        for block in range(len(self._source.block_sizes)):
            at = int(self._source.starts[block])
            for X, _, _ in self._source.read(block):
                stored = stored_features(X, self._source, self.dtype, at, self._who, self._center, self._categories)
                yield Samples(stored, stored, None)
                at += len(stored)
            check_block_length(self._source, block, at, self._who)


class _Stream:
    """Pieces one after the other as one long stream of samples."""

    def __init__(self, pieces: Iterator[Samples]) -> None:
        self._pieces = pieces
        self._piece: Samples | None = None
        self._at = 0

    def fill(self, out: Samples) -> None:
        """out = the next samples."""
        self._move(len(out.X), lambda first, n: out.between(first, first + n), None)

    def scatter(self, out: Samples, slots: HostArray) -> None:
        """The next samples go to these rows of `out`."""
        self._move(len(slots), lambda first, n: out, slots)

    def _move(self, n: int, target: Callable[[int, int], Samples], slots: HostArray | None) -> None:
        done = 0
        while done < n:
            if self._piece is None or self._at == len(self._piece.X):
                self._piece, self._at = next(self._pieces), 0
                continue
            k = min(n - done, len(self._piece.X) - self._at)
            source = self._piece.between(self._at, self._at + k).arrays()
            for array, into in zip(source, target(done, k).arrays(), strict=True):
                if slots is None:
                    into[...] = array
                else:
                    into[slots[done : done + k]] = array
            self._at += k
            done += k


def _added(counts: HostArray, labels: HostArray, n_classes: int = 0) -> HostArray:
    """`counts` of each class, and these labels; of at least so many classes."""
    found = np.bincount(labels, minlength=max(len(counts), n_classes))
    found[: len(counts)] += counts
    return found


# What predictions need, too


def check_width(source: BlockSource, n_in: int, who: str) -> None:
    """ValueError unless the source has as many features as a model has inputs."""
    if source.n_features != n_in:
        raise ValueError(f"{who} expects samples of {n_in} features, got {source!r}.")


def stored_features(
    X: HostArray,
    source: BlockSource,
    dtype: DType,
    first: int,
    who: str,
    center: HostArray | None = None,
    categories: Categories | None = None,
) -> HostArray:
    """X of samples from number `first` on, C-ordered and of `dtype`, checked; `center` is subtracted in float64."""
    X = as_array(X, f"{who}: the X that {source!r} gives")
    if X.ndim != 2 or X.shape[1] != source.n_features or (X.dtype.kind in "cOSUV" and X.dtype.name != "bfloat16"):
        raise ValueError(
            f"{who}: the data set gives X of shape {X.shape} ({X.dtype}) at {source.place(first)}; expected "
            f"(n, {source.n_features}) real numbers."
        )
    try:
        stored = converted(X, dtype, who, first, None, center)
        if categories is not None:
            categories.check(stored, who, first)
        return stored
    except RowError as error:
        raise ValueError(error.at(source.place(error.row))) from error


def check_block_length(source: BlockSource, block: int, at: int, who: str) -> None:
    """ValueError unless reading a block ended at the number `at` of the sample after it."""
    start, stop = (int(i) for i in source.starts[block : block + 2])
    if at != stop:
        raise ValueError(
            f"{who}: block {block} ({source.place(start)}) has {at - start} samples, but {stop - start} were announced."
        )
