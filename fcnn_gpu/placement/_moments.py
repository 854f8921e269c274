"""The optimizer's arrays of stored weights: one optimizer has them at a time, and others wait until they train."""

from __future__ import annotations

import dataclasses
import json
import logging
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .._types import Array, DType, HostArray
from ..backend import Ops
from ..files import StorageError, blocks_of_rows, rows_of_block
from ._folder import FolderStore
from ._opened import OpenedFolder
from ._record import Record
from ._store import HostStore, Rows
from ._weight import StoredWeight

_logger = logging.getLogger("fcnn_gpu")


class Moments:
    """Moments of stored weights, which lie where the weights lie.

    An optimizer that is bound to a network where nobody has moments gets its own at once, and the first one of a
    network that was opened from a folder those that lie there, if it is of the same kind. Any other waits: to bind it
    changes nothing, and only when it trains are the moments before it removed and its own made. One that has gone
    without having trained leaves those of the folder to the next of its kind.
    """

    def __init__(self, ops: Ops, store: HostStore | FolderStore, weights: Sequence[StoredWeight]) -> None:
        self._ops, self._store, self._weights = ops, store, weights
        self._rows: dict[str, Rows] = {}
        self._owner: _Owner | None = None
        self._waiting: list[weakref.ref[Any]] = []
        self._trained = False

    @property
    def _opened(self) -> OpenedFolder | None:
        return self._store.opened if isinstance(self._store, FolderStore) else None

    def bind(self, optimizer: Any) -> None:
        """Give an optimizer its moments, or let it wait."""
        opened = self._opened
        saved = None if opened is None else opened.record.data["optimizer"]
        free = self._owner is None or (self._owner.optimizer() is None and not self._trained)
        if free and opened is not None and saved is not None and saved["kind"] == _kind(optimizer):
            self._resume(optimizer, opened)
        elif self._owner is not None or self._rows or self._saved() or getattr(self._store, "read_only", False):
            self._waiting = [ref for ref in self._waiting if ref() is not None]
            self._waiting.append(weakref.ref(optimizer))
        else:
            self._begin(optimizer)

    def of(self, optimizer: Any) -> dict[str, Rows]:
        """The moments of an optimizer that is about to train, by name: "0.W.m".

        RuntimeError if another one has trained the network since.
        """
        self._trained = True
        if self.belong_to(optimizer):
            return self._rows
        self._require_waiting(optimizer)
        self._take_over(optimizer)
        self._waiting = [ref for ref in self._waiting if ref() is not None and ref() is not optimizer]
        return self._rows

    def seen_by(self, optimizer: Any) -> dict[str, Rows]:
        """The same, to be looked at: of one that waits, the zeros that it is going to begin with."""
        if self.belong_to(optimizer):
            return self._rows
        self._require_waiting(optimizer)
        names, shapes, dtype = self._layout(optimizer)
        return {name: ZeroRows(shapes[name], dtype, self._weights[0].rows.place) for name in names}

    def belong_to(self, optimizer: Any) -> bool:
        """Whether they are this optimizer's."""
        return self._owner is not None and self._owner.optimizer() is optimizer

    def _require_waiting(self, optimizer: Any) -> None:
        if not any(ref() is optimizer for ref in self._waiting):
            raise RuntimeError(
                f"Another optimizer has trained this network since this {type(optimizer).__name__} did: weights on "
                f"{self._store.place} keep the moments of one at a time. Make a new optimizer."
            )

    def _layout(self, optimizer: Any) -> tuple[list[str], dict[str, tuple[int, int]], DType]:
        shapes = {f"{w.name}.{name}": w.shape for w in self._weights for name in optimizer._state_names()}
        return list(shapes), shapes, self._weights[0].dtype

    def _saved(self) -> list[str]:
        """The matrices of an opened folder that are no weights."""
        return [] if self._opened is None else sorted(self._opened.matrices.keys() - {w.name for w in self._weights})

    def _begin(self, optimizer: Any) -> None:
        """Zero moments, which count with a commit."""
        self._rows = dict(self._store.moments(*self._layout(optimizer)))
        self._owner = _Owner.of(optimizer)
        try:
            if isinstance(self._store, FolderStore):
                self._store.commit_alone()
        except BaseException:
            self._owner = None
            raise

    def _resume(self, optimizer: Any, opened: OpenedFolder) -> None:
        """The moments and the step number that lie in the folder."""
        ops, store = self._ops, self._store
        assert isinstance(store, FolderStore)
        names, shapes, dtype = self._layout(optimizer)
        for name in names:
            opened.require(name)
        arrays = {
            name: opened.array(f"optimizer {name}", array.shape, np.dtype(array.dtype.name))
            for name, array in optimizer.state.items()
        }
        if self._owner is None:  # else one had them that has gone without training
            self._rows = dict(store.moments(names, shapes, dtype))
        for name, array in optimizer.state.items():
            ops.assign(array, arrays[name])
        ops.fill(optimizer.control.step, opened.record.data["step"])
        self._owner = _Owner.of(optimizer)
        try:
            if not store.read_only:
                store.commit_alone()
        except BaseException:
            self._owner = None
            raise
        _logger.info("%s goes on from step %d of the folder.", type(optimizer).__name__, opened.record.data["step"])

    def _take_over(self, optimizer: Any) -> None:
        """Zero moments in place of those before, by one commit: an error leaves those, and nothing else."""
        store = self._store
        if not isinstance(store, FolderStore):
            self._owner, self._rows = None, {}  # before new ones are made
            self._begin(optimizer)
            return
        store.check_writable()
        names, shapes, dtype = self._layout(optimizer)
        before, committed = (self._owner, self._rows), store.last_commit
        old = {*self._rows, *self._saved()}
        data: dict[str, Any] = {} if self._opened is None else self._opened.record.data
        saved = data.get("optimizer")
        made = store.moments([name for name in names if name not in old], shapes, dtype)
        try:
            there = {name: self._rows[name] for name in names if name in self._rows}
            there |= store.moments([name for name in names if name in old and name not in there], shapes, dtype)
            for rows in there.values():
                _fill_next(rows)
            self._rows = {name: made[name] if name in made else there[name] for name in names}
            self._owner, data["optimizer"] = _Owner.of(optimizer), None
            store.drop(old.difference(names))
        except BaseException:
            if store.last_commit == committed:
                self._owner, self._rows = before
                data["optimizer"] = saved
                store.abandon()
                store.remove(made)
            raise

    def record(self, record: Record) -> None:
        """Add what of the optimizer is in memory, also of one that has gone: its moments lie in the folder still."""
        if self._owner is not None:
            record.arrays |= {f"optimizer {name}": self._ops.to_numpy(x) for name, x in self._owner.state.items()}
            step = int(self._ops.to_numpy(self._owner.step)[0])
            record.data |= {"optimizer": {"kind": self._owner.kind}, "step": step}
        elif self._opened is not None and self._opened.record.data["optimizer"] is not None:  # nobody has gone on yet
            saved = self._opened.record
            record.arrays |= {name: x for name, x in saved.arrays.items() if name.startswith("optimizer ")}
            record.data |= {name: saved.data[name] for name in ("optimizer", "step")}


@dataclasses.dataclass
class _Owner:
    """Whose moments they are, and what of that is in memory."""

    optimizer: weakref.ref[Any]
    kind: str
    state: dict[str, Array]
    step: Array

    @classmethod
    def of(cls, optimizer: Any) -> _Owner:
        return cls(weakref.ref(optimizer), _kind(optimizer), optimizer.state, optimizer.control.step)


def _fill_next(rows: Rows) -> None:
    """Zeros, which count with the next commit."""
    zeros = np.zeros((min(rows.shape[0], rows_of_block(rows.shape, rows.dtype)), rows.shape[1]), rows.dtype)
    for part in blocks_of_rows(rows.shape, rows.dtype):
        rows.write_next(part.start, zeros[: part.stop - part.start])


class ZeroRows:
    """A matrix (n, m) of zeros in the place of moments that training is going to make."""

    def __init__(self, shape: tuple[int, int], dtype: DType, place: str) -> None:
        self.shape, self.dtype, self.place = shape, dtype, place

    def view(self, start: int, stop: int) -> HostArray | None:
        return None

    def read(self, start: int, out: HostArray) -> None:
        out[...] = 0

    def write(self, start: int, values: HostArray) -> None:
        raise StorageError(
            "These moments are made when their optimizer trains for the first time, because those of another one lie "
            "in their place until then. They are 0, and cannot be written yet."
        )

    write_next = write

    def replace(self, blocks: Iterable[tuple[int, HostArray]]) -> None:
        for start, values in blocks:
            self.write(start, values)

    def copy(self) -> ZeroRows:
        return self


def _kind(optimizer: Any) -> str:
    """The class and the settings that its moments were made with; those that newer versions have added, if they are on.

    A folder of an older version names none of the latter. Of this package's classes it names the room, not the file.
    """
    free = ("learning_rate", "clip_norm", "clip_value")
    settings = {
        f.name: repr(getattr(optimizer, f.name))
        for f in (dataclasses.fields(optimizer) if dataclasses.is_dataclass(optimizer) else ())
        if f.init
        and f.name not in free
        and not ("added later" in f.metadata and getattr(optimizer, f.name) == f.default)
    }
    module, package = type(optimizer).__module__, __name__.partition(".")[0]
    if module.startswith(f"{package}."):
        module = ".".join(module.split(".")[:2])
    return f"{module}.{type(optimizer).__qualname__} {json.dumps(settings, sort_keys=True)}"
