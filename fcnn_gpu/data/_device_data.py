"""A data set on the device, and the batches of it that a training step gathers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from .._checks import check_real
from .._types import Array, DType, HostArray
from ..backend import Ops, SparseRows


@dataclass(frozen=True)
class InputMap:
    """What a network sees of a stored sample x: scale·x + shift in `dtype`, with the product rounded before the sum."""

    dtype: DType
    scale: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        scale = check_real("Sequential(input_scale)", self.scale)
        if scale == 0.0:
            raise ValueError("Sequential(input_scale) expects a number other than 0, which would blank out X.")
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "shift", check_real("Sequential(input_shift)", self.shift))

    def __str__(self) -> str:
        scaled = "X" if self.scale == 1.0 else f"{self.scale:g}·X"
        return f"{scaled}{'' if self.shift == 0.0 else f' + {self.shift:g}'} in {np.dtype(self.dtype).name}"

    def options(self) -> str:
        """The arguments of `Sequential` that differ from its defaults, as text."""
        scale = "" if self.scale == 1.0 else f", input_scale={self.scale:g}"
        return scale + ("" if self.shift == 0.0 else f", input_shift={self.shift:g}")

    def leaves(self, X: Array) -> bool:
        """Whether stored samples X are seen as they are."""
        return X.dtype == self.dtype and self.scale == 1.0 and self.shift == 0.0

    def apply(self, ops: Ops, X: Array) -> Array:
        """scale·X + shift (batch, n_in) of stored samples of the device.

        X itself where nothing is to be done, otherwise new memory. Sparse samples keep theirs, and know their scale.
        """
        if isinstance(X, SparseRows):
            return dataclasses.replace(X, scale=self.scale)
        if self.leaves(X):
            return X
        mapped = ops.empty(X.shape, self.dtype)
        ops.cast(X, mapped, self.scale, self.shift)
        return mapped


@dataclass
class BatchViews:
    """Where one batch is gathered to: inputs (batch, n_in), targets, and weights or None.

    Weights are (batch,), or (batch, members).
    """

    X: Array
    """A matrix or, of sparse samples, `SparseRows`, whose extents are gathered."""
    targets: Array
    sample_weight: Array | None

    def arrays(self) -> tuple[Array, Array, Array | None]:
        """All three."""
        return gathered(self.X), self.targets, self.sample_weight


def gathered(X: Array) -> Array:
    """What a batch of X is gathered from: X itself, or of sparse samples where they lie."""
    return X.extents if isinstance(X, SparseRows) else X


Rates = tuple[Array, Array, Array]
"""A table of learning rates, the position of the next one, and where it goes."""


@dataclass(frozen=True)
class Stretch:
    """Samples of a visit that are on the device: those from position `first` on, `n` of them, in buffer `part`."""

    part: int
    first: int
    n: int


@dataclass
class Samples:
    """X (n, n_features) as it is stored, targets, and weights or None, of n samples on the host or the device."""

    X: Array
    targets: Array
    sample_weight: Array | None

    def front(self, n: int) -> Samples:
        """The first n samples."""
        return Samples(self.X[:n], self.targets[:n], None if self.sample_weight is None else self.sample_weight[:n])

    def between(self, start: int, stop: int) -> Samples:
        """Samples `start` up to `stop`."""
        weight = self.sample_weight
        return Samples(self.X[start:stop], self.targets[start:stop], None if weight is None else weight[start:stop])

    def arrays(self) -> list[Array]:
        """The two or three arrays."""
        return [self.X, self.targets, *([] if self.sample_weight is None else [self.sample_weight])]


class BatchBuffers:
    """Where batches of these samples are gathered to, their inputs in `dtype`: made for the largest asked for."""

    def __init__(self, ops: Ops, samples: Samples, dtype: DType) -> None:
        self._ops, self._samples, self._dtype = ops, samples, dtype
        self._made: BatchViews | None = None

    def views(self, batch: int) -> BatchViews:
        """The front of each buffer."""
        if self._made is None or len(self._made.X) < batch:
            self._made = None
            self._made = self._make(batch)
        made = self._made
        weight = None if made.sample_weight is None else made.sample_weight[:batch]
        return BatchViews(made.X[:batch], made.targets[:batch], weight)

    def _make(self, batch: int) -> BatchViews:
        ops, X, targets, weight = self._ops, self._samples.X, self._samples.targets, self._samples.sample_weight
        sparse = isinstance(X, SparseRows)
        return BatchViews(
            X.at(ops.empty((batch, 2), np.int64)) if sparse else ops.empty((batch, X.shape[1]), self._dtype),
            ops.empty((batch, *targets.shape[1:]), targets.dtype),
            None if weight is None else ops.empty((batch, *weight.shape[1:]), weight.dtype),
        )

    def release(self) -> None:
        """Let go of the buffers; the next views are of new ones."""
        self._made = None


class DeviceData:
    """Samples, targets and weights on the device, in the order in which an epoch visits them.

    `order` (a permutation of the samples) and `cursor` (the position of the next batch in it) are arrays of the device,
    so a captured step gathers another batch each time it is replayed. X, on the host or on the device, stays in its own
    dtype there; a batch is gathered as `inputs` maps it (None: as it is). Of sparse X, `SparseRows` of the device, a
    batch is where its samples lie.
    """

    n_parts = 1
    """Buffers that batches are gathered from."""

    def __init__(
        self,
        ops: Ops,
        X: Array,
        targets: HostArray,
        sample_weight: HostArray | None,
        batch_size: int,
        inputs: InputMap | None = None,
    ) -> None:
        self.ops = ops
        self.n_samples = len(X)
        self.is_sparse = isinstance(X, SparseRows)
        self.inputs = InputMap(X.values.dtype if self.is_sparse else X.dtype) if inputs is None else inputs
        self.X = self.inputs.apply(ops, X) if self.is_sparse else ops.asarray(X)
        self._scaling = (1.0, 0.0) if self.is_sparse else (self.inputs.scale, self.inputs.shift)
        self.targets = ops.asarray(targets)
        self.sample_weight = None if sample_weight is None else ops.asarray(sample_weight)
        self.batch_size = min(batch_size, self.n_samples)
        self.order = ops.zeros(self.n_samples, np.int64)
        self.cursor = ops.zeros(1, np.int64)
        self._batch = BatchBuffers(ops, Samples(self.X, self.targets, self.sample_weight), self.inputs.dtype)

    @property
    def window(self) -> int:
        """The most samples that are on the device at a time: all."""
        return self.n_samples

    def order_of(self, seed: int, epoch: int, shuffle: bool) -> HostArray:
        """The order of an epoch, for `visit`."""
        return epoch_order(self.n_samples, seed, epoch, shuffle)

    def start_epoch(self, order: HostArray) -> None:
        """Visit the samples in this order (int64, a permutation) from its beginning."""
        self.ops.assign(self.order, order)
        self.ops.fill(self.cursor, 0)

    @contextmanager
    def visit(self, order: HostArray, n: int) -> Iterator[Iterator[Stretch]]:
        """The first n samples in this order (int64, a permutation), stretch by stretch as they are on the device.

        Here that is all at once.
        """
        self.start_epoch(order)
        yield iter([Stretch(0, 0, n)])

    def views(self, batch: int) -> BatchViews:
        """The front of the batch buffers, for a batch of this many samples."""
        return self._batch.views(batch)

    def release_batch(self) -> None:
        """Let go of the batch buffers."""
        self._batch.release()

    def gather(self, views: BatchViews) -> None:
        """Copy the samples at `cursor` into `views`. The cursor stays: the step advances it when it is done."""
        gather = self.ops.gather_rows
        gather(gathered(self.X), self.order, self.cursor, gathered(views.X), *self._scaling)
        gather(self.targets, self.order, self.cursor, views.targets)
        if self.sample_weight is not None:
            gather(self.sample_weight, self.order, self.cursor, views.sample_weight)

    def begin_step(
        self, views: BatchViews, part: int, counter: Array | None, rates: Rates | None, first: int = 0
    ) -> None:
        """`gather` the samples from `first` on of the batch at `cursor`, and what begins a step.

        That is to add 1 to the counter and to give the step the next of the learning rates, unless they are None.
        """
        sources = gathered(self.X), self.targets, self.sample_weight
        scale, shift = self._scaling
        order = self.order[first:] if first else self.order
        self.ops.gather_batch(sources, order, self.cursor, views.arrays(), counter, scale, shift, rates)

    def gather_at(self, first: int, views: BatchViews) -> None:
        """Copy the batch that begins at position `first` of the epoch into `views`; the cursor is then there."""
        self.ops.fill(self.cursor, first)
        self.gather(views)

    def samples_of(self, stretch: Stretch) -> Samples | None:
        """The samples of a stretch on the host; None: they are those of the order."""
        return None


def epoch_order(n_samples: int, seed: int, epoch: int, shuffle: bool) -> HostArray:
    """The order of the samples in an epoch: a function of seed and epoch alone, the same on every backend."""
    if not shuffle:
        return np.arange(n_samples, dtype=np.int64)
    return np.random.default_rng([seed, epoch]).permutation(n_samples).astype(np.int64, copy=False)


def leaves_single_sample(n_samples: int, batch_size: int) -> bool:
    """Whether an epoch in such batches ends with a batch of one sample, which batch norm cannot train on."""
    return 1 < batch_size < n_samples and n_samples % batch_size == 1
