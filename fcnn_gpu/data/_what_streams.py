"""Which data sets stay on the device and which stream through it, by the memory that is allowed or free."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..memory import MemoryReport
from ..metrics import Metric
from ._input_checks import Network
from ._source_supply import SourceSupply
from ._sparse_features import SparseFeatures
from ._supply import N_READERS, ArraySupply

_LARGEST_CHUNK = 128 * 2**20
"""Bytes of a chunk at which a longer one no longer pays: copying takes milliseconds, starting to copy microseconds."""
HOST_CHUNK = 16 * 2**20
"""The same where nothing is copied to a device: longer chunks only wait longer for the first one."""
_UNLIMITED = 2**62
_SMALL_SHARE = 1 / 16
"""Data that takes no more of what is free stays, whatever the model takes."""
_SHARE_OF_FREE = 0.9
"""Of the memory that is free, what data may take: a pool of blocks is never full, and graphs need some as well."""


@dataclass(frozen=True)
class Need:
    """What a model takes on the device without data: bytes by kind, and how many of them it has already."""

    by_kind: dict[str, int]
    held: int

    @classmethod
    def of(cls, training: MemoryReport | None, inference: MemoryReport | None, shared: bool = False) -> Need:
        """That of a run which trains, evaluates, or does one after the other with the same parameters and scratch.

        `shared`: evaluation takes the memory of training's activations.
        """
        reports = [report for report in (training, inference) if report is not None]
        by_kind = {kind: max(report.by_kind[kind] for report in reports) for kind in reports[0].by_kind}
        for kind in ("activations", "batch"):  # each has its own
            if shared and training is not None and kind == "activations":
                by_kind[kind] = training.activations
                continue
            by_kind[kind] = sum(report.by_kind[kind] for report in reports)
        return cls(by_kind, sum(by_kind[kind] for kind in ("parameters", "gradients", "optimizer")))

    @property
    def total(self) -> int:
        """The sum of all kinds."""
        return sum(self.by_kind.values())

    def __str__(self) -> str:
        return ", ".join(f"{kind} {n:,}" for kind, n in self.by_kind.items() if n)


@dataclass(frozen=True)
class DataSet:
    """The bytes of one data set, sample by sample, and the batches in which it is gone through.

    Attributes:
        n: samples.
        batch: samples of a batch; a chunk holds a whole number of batches.
        sample: bytes of one sample: features, targets and weight.
        kept: bytes that each sample on the device takes beside itself: its place in the order, its outputs.
        on_device: bytes of a sample that are on the device already. Such a data set does not stream.
        streams: whether it must stream.
        stays: whether it must not, as sparse samples.
        host: bytes that reading it takes on the host beside the chunks.
        largest: bytes of the longest chunks worth having.
    """

    n: int
    batch: int
    sample: int
    kept: int
    on_device: int = 0
    streams: bool = False
    host: int = 0
    largest: int = _LARGEST_CHUNK
    stays: bool = False

    @classmethod
    def of(
        cls,
        samples: ArraySupply | SourceSupply,
        batch: int,
        order: int,
        outputs: int,
        on_host: bool = False,
        shuffle: bool = False,
        metrics: Sequence[Metric] = (),
    ) -> DataSet:
        """The data set of these samples.

        Args:
            samples: of arrays, or of a source, which always streams.
            batch: samples of a batch.
            order: bytes of a sample's place in the order.
            outputs: bytes of a sample's outputs where metrics are computed, else 0.
            on_host: whether the device is the host. Chunks are shorter then, and maps that exceed its memory stream.
            shuffle: whether a source is read through its shuffle buffer.
            metrics: for some of them outputs, targets and weights of a source are kept.
        """
        n, largest = len(samples), HOST_CHUNK if on_host else _LARGEST_CHUNK
        if isinstance(samples, SourceSupply):
            held = 0 if add_up(metrics) else n * (outputs + samples.target_bytes + samples.weight_bytes)
            reading = samples.host_bytes(shuffle) + held
            kept = order + outputs
            return cls(n, min(batch, n), samples.sample_bytes, kept, 0, streams=True, host=reading, largest=largest)
        X, targets, weight = samples.X, samples.targets, samples.sample_weight
        features = X.sample_bytes
        others = [targets] if weight is None else [targets, weight]
        sample = features + sum(array.nbytes for array in others) // n
        if isinstance(X, SparseFeatures):
            return cls(n, min(batch, n), sample, order + outputs, stays=True)
        there, streams = features if X.on_device else 0, on_host and X.exceeds_memory
        pages = X.pages_in_memory(shuffle, N_READERS) if on_host else 0
        return cls(n, min(batch, n), sample, order + outputs, there, streams, pages, largest)

    @property
    def may_stream(self) -> bool:
        return not (self.on_device or self.stays)

    @property
    def resident(self) -> int:
        """Bytes to put all of it on the device."""
        return self.n * (self.sample + self.kept - self.on_device)

    def streamed(self, window: int) -> int:
        """Bytes to stream it in chunks of `window` samples."""
        return window * (2 * self.sample + self.kept)

    def window(self, n_bytes: int) -> int:
        """Samples of the largest chunks worth having that stream in this memory: at least a batch, whole batches."""
        most = min(n_bytes // (2 * self.sample + self.kept), self.largest // self.sample, self.n + self.batch - 1)
        return max(1, most // self.batch) * self.batch


def bytes_of_stream(
    samples: SourceSupply, model: Network, batch: int, metrics: Sequence[Metric]
) -> tuple[int, int, int]:
    """What training on a source takes for its samples where no limit is set.

    Bytes on the device, of page-locked chunks on the host beside it, and of what reads the source there.
    """
    on_host = model.ops.free_memory() is None
    outputs = model.n_out * model.dtype.itemsize if metrics else 0
    data = DataSet.of(samples, batch, np.dtype(np.int64).itemsize, outputs, on_host, True, metrics)
    window = data.window(_UNLIMITED)
    on_device, chunks = data.streamed(window), 2 * window * data.sample
    return (on_device + data.host, 0, 0) if on_host else (on_device, chunks, data.host)


def choose_windows(sets: Sequence[DataSet], room: int, host_room: int | None = None) -> list[int | None] | None:
    """For each data set the samples of a chunk, or None where all of it stays on the device, within `room` bytes.

    As little as possible streams. None instead of a list: not even the smallest chunks of all have room. The host's
    part of the chunks and what reading takes there fit into `host_room`; None: host and device are the same memory.
    """
    choices = [
        streams
        for streams in itertools.product((False, True), repeat=len(sets))
        if all(data.may_stream if streamed else not data.streams for data, streamed in zip(sets, streams, strict=True))
    ]

    def volume(streams: tuple[bool, ...]) -> int:
        return sum(data.n * data.sample for data, streamed in zip(sets, streams, strict=True) if streamed)

    for streams in sorted(choices, key=volume):
        reading = sum(data.host for data, streamed in zip(sets, streams, strict=True) if streamed)
        spare = room - smallest(sets, streams) - (reading if host_room is None else 0)
        if host_room is not None and any(streams):
            on_host = sum(2 * data.batch * data.sample for data, s in zip(sets, streams, strict=True) if s)
            spare = min(spare, host_room - reading - on_host)
        if spare >= 0:
            share = spare // max(1, sum(streams))
            return [
                data.window(share + data.streamed(data.batch)) if streamed else None
                for data, streamed in zip(sets, streams, strict=True)
            ]
    return None


def smallest(sets: Sequence[DataSet], streams: Sequence[bool]) -> int:
    """Bytes of data sets of which these stream, batch by batch."""
    return sum(
        data.streamed(data.batch) if streamed else data.resident for data, streamed in zip(sets, streams, strict=True)
    )


def plan(
    sets: Sequence[DataSet],
    limit: int | None,
    free: int | None,
    need: Callable[[], Need],
    who: str,
    host_free: int | None = None,
) -> list[int | None]:
    """`choose_windows` for the memory that is allowed.

    Args:
        sets: the data sets.
        limit: bytes that model and data may take together, or None: what is free.
        free: bytes that are free on the device, or None where that is not asked about, on the host.
        need: called where it matters, because working it out takes milliseconds.
        who: for errors, whose limit it is.
        host_free: bytes that are free on the host, where that is another memory and known.

    Raises ValueError where the model alone, or with the smallest chunks, takes more than `limit`.
    """
    resident: list[int | None] = [None] * len(sets)
    if limit is None:
        if not any(data.streams for data in sets) and (
            free is None or sum(data.resident for data in sets) <= _SMALL_SHARE * free
        ):
            return resident
        if free is None:
            return choose_windows(sets, _UNLIMITED) or resident
        model = need()
        room = int(_SHARE_OF_FREE * free) - (model.total - model.held)
        chosen = choose_windows(sets, room, _UNLIMITED if host_free is None else host_free)
        # An estimate is no reason to refuse: the smallest chunks may do, and the device says if they do not.
        return [data.batch if data.may_stream else None for data in sets] if chosen is None else chosen
    model = need()
    chosen = choose_windows(sets, limit - model.total, None if free is None else limit)
    if chosen is None:
        streams = [data.may_stream for data in sets]
        least = smallest(sets, streams)
        reading = sum(data.host for data in sets)
        if free is None:
            needed = model.total + least + reading
        else:
            needed = max(model.total + least, reading + sum(2 * data.batch * data.sample for data in sets))
        hint = " (of a data source less with a smaller shuffle_buffer)" if any(data.streams for data in sets) else ""
        beside = f", reading it {reading:,} on the host{hint}" if reading else ""
        how = (
            "as sparse samples, which do not stream"
            if any(data.stays for data in sets)
            else "where it streams batch by batch"
        )
        raise ValueError(
            f"{who} allows {limit:,} bytes, but the model alone takes {model.total:,} in such batches ({model}), and "
            f"the data at least {least:,} {how}{beside}. Allow {needed:,} bytes, or use "
            "a smaller batch_size; model.memory_report(batch_size) predicts what that takes."
        )
    return chosen


def add_up(metrics: Sequence[Metric]) -> bool:
    """Whether metrics are shares of the samples, and so those of the parts of a data set add up."""
    return all(metric.adds_up for metric in metrics)
