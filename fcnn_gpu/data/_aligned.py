"""A source as a network knows its data: columns and targets in the order of their names, classes by their numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .._types import HostArray
from ..datasets import BlockSource
from ..datasets._source import Piece
from ._signature import Signature


def aligned(source: BlockSource, signature: Signature, who: str, targets: bool = True) -> BlockSource:
    """The source itself where it is as the network knows it, else one that moves columns and numbers classes anew.

    ValueError for features or classes that the network does not know, and for features that are missing; and, in what
    is read, for numbers of another scale than in training. Without `targets` the classes do not matter.
    """
    places = signature.places(source.feature_names, who)
    with_targets = targets and source.has_targets
    classes = _class_numbers(source, signature, who) if with_targets else None
    moved = signature.target_places(source.target_names, who) if with_targets else None
    if places is None and classes is None and moved is None and not signature.may_refuse(source.dtype):
        return source
    return Aligned(source, signature, places, classes, moved, who)


def _class_numbers(source: BlockSource, signature: Signature, who: str) -> HostArray | None:
    """The network's number of each of the source's classes; None where they are the same."""
    known, found = signature.class_names, source.class_names
    if known is None or found is None:
        return None
    numbers = {str(name): number for number, name in enumerate(known)}
    if tuple(numbers) == found:
        return None
    unknown = [name for name in found if name not in numbers]
    if unknown:
        file = source.place(0).rpartition(", ")[0] or "the data set"
        shown = ", ".join(list(numbers)[:20]) + (", ..." if len(numbers) > 20 else "")
        raise ValueError(
            f"{who}: {file} has the class {unknown[0]!r}, which the network does not know. Its classes: {shown}."
        )
    return np.array([numbers[name] for name in found], np.int64)


class Aligned(BlockSource):
    """A source with its columns in the network's order and its classes by the network's numbers."""

    def __init__(
        self,
        source: BlockSource,
        signature: Signature,
        places: list[int] | None,
        classes: HostArray | None,
        target_places: list[int] | None,
        who: str,
    ) -> None:
        super().__init__(
            source.n_features if places is None else len(places),
            source.dtype,
            source.block_sizes,
            has_targets=source.has_targets,
            has_weights=source.has_weights,
            piece_size=source.piece_size if places is None else 2 * source.piece_size,
        )
        self.feature_names = source.feature_names if places is None else tuple(signature.feature_names or ())
        names = signature.class_names
        self.class_names = source.class_names if classes is None or names is None else tuple(map(str, names))
        self.target_names = source.target_names if target_places is None else tuple(signature.target_names or ())
        self._source, self._signature, self._who = source, signature, who
        self._places, self._classes, self._target_places = places, classes, target_places

    def read(self, block: int) -> Iterator[Piece]:
        at = int(self.starts[block])
        for X, targets, weights in self._source.read(block):
            self._signature.check_scale(X, self._who)
            yield X if self._places is None else X[:, self._places], self._numbered(targets, at), weights
            at += len(X)

    def read_targets(self, block: int) -> Iterator[tuple[HostArray | None, HostArray | None]]:
        at = int(self.starts[block])
        for targets, weights in self._source.read_targets(block):
            yield self._numbered(targets, at), weights
            at += 0 if targets is None else len(targets)

    def place(self, sample: int) -> str:
        return self._source.place(sample)

    def _numbered(self, targets: HostArray | None, first: int) -> HostArray | None:
        """Targets from sample `first` on, with the network's columns and numbers of classes."""
        if targets is not None and self._target_places is not None:
            return targets[:, self._target_places]
        if targets is None or self._classes is None:
            return targets
        n_classes = len(self._classes)
        if targets.ndim == 2 and targets.shape[1] == n_classes > 1:  # a column for each class
            moved = np.zeros((len(targets), len(self._signature.class_names or ())), targets.dtype)
            moved[:, self._classes] = targets
            return moved
        are_classes = (targets >= 0) & (targets < n_classes) & (targets == np.floor(targets))
        if not are_classes.all():
            row = int(np.argwhere(~are_classes)[0, 0])
            raise ValueError(
                f"{self._who}: the label {targets[row]} at {self.place(first + row)} is none of the data set's "
                f"{n_classes} classes; expected 0 ... {n_classes - 1}."
            )
        return self._classes[targets.astype(np.int64)]
