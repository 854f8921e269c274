"""A folder that holds a network, as it was after its last whole step."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._types import DType, HostArray
from ..files import MODEL_NAME, StorageError
from ._lock import FolderLock
from ._record import RECORD, Record
from ._saved import SavedMatrix
from ._stamp import Stamp
from ._temporary import files_of_network
from ._typed import storage_errors

_logger = logging.getLogger("fcnn_gpu")


@dataclass
class OpenedFolder:
    """A folder that holds a network, locked, and the record of its last whole step, whose data have been checked.

    Attributes:
        folder: where.
        lock: this process's.
        record: what the network had in memory.
        matrices: those on disk by name, in the files that count.
    """

    folder: Path
    lock: FolderLock
    record: Record
    matrices: dict[str, SavedMatrix] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_data()
        data = self.record.data
        for name, generation in data["generations"].items():
            path = self.folder / f"{name}.generation{generation}.npy"
            stamp = data["stamps"].get(name)
            stamp = None if stamp is None else Stamp(data["network"], name, *stamp)
            self.matrices[name] = SavedMatrix(path, generation, data["sizes"][name], stamp)

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written there."""
        return self.lock.read_only

    def fault(self, what: str) -> StorageError:
        """The error to raise where the record, whole as it is, does not go with the network."""
        return StorageError(f"{self.folder / RECORD} cannot be used: {what}. Restore the folder from a copy.")

    def array(self, name: str, shape: tuple[int, ...], dtype: DType) -> HostArray:
        """An array of the record. `StorageError` where there is none, or another one than `shape` and `dtype` say."""
        found = self.record.arrays.get(name)
        if found is None or found.shape != shape or found.dtype != dtype:
            there = "none" if found is None else f"{found.dtype} {found.shape}"
            raise self.fault(f"the network needs {name!r}, {dtype} {shape}, and it holds {there}")
        return found

    def require(self, name: str) -> SavedMatrix:
        """A matrix on disk. `StorageError` where the record has none of that name."""
        if name not in self.matrices:
            raise self.fault(f"the network needs a matrix {name!r}, and it names none")
        return self.matrices[name]

    @property
    def n_numbers(self) -> int:
        """At most so many parameters belong to it."""
        flat = self.record.arrays.get("flat")
        stored = sum(self.matrices[name].size // 4 for name in self.record.data["stored"])
        return stored + (0 if flat is None else flat.size)

    def _check_data(self) -> None:
        """`StorageError` where a value is not what it has to be: a sound checksum says who wrote it, not what."""
        self.record.complete()
        data = self.record.data
        for name, expected, sound in (
            ("config", "an object", lambda x: isinstance(x, dict)),
            ("info", "an object", lambda x: isinstance(x, dict)),
            ("random_step", "an integer from 0", _is_count),
            ("number", "an integer from 0", _is_count),
            ("network", "a text or null", lambda x: x is None or isinstance(x, str)),
            ("stored", "heights of tiles by name", lambda x: _is_mapping(x, lambda n: _is_count(n) and n > 0)),
            ("generations", "0 or 1 by name", lambda x: _is_mapping(x, lambda n: type(n) is int and n in (0, 1))),
            ("sizes", "bytes by name", lambda x: _is_mapping(x, _is_count)),
            ("stamps", "number and token of a commit by name", lambda x: _is_mapping(x, _is_stamp)),
            ("optimizer", "its kind or null", _is_optimizer),
        ):
            if name not in data or not sound(data[name]):
                said = repr(data.get(name))
                raise self.fault(f"{name!r} should be {expected}, and is {said[:60]}{'...' if len(said) > 60 else ''}")
        if data["optimizer"] is not None and not _is_count(data.get("step")):
            raise self.fault("'step' should be an integer from 0")
        names = data["generations"].keys()
        if data["sizes"].keys() != names or not data["stamps"].keys() <= names or not data["stored"].keys() <= names:
            raise self.fault("'generations', 'sizes', 'stamps' and 'stored' do not name the same matrices")
        if data["stamps"] and data["network"] is None:
            raise self.fault("'network' should be a text")
        for name in names:
            if not _is_file_name(name):
                raise self.fault(f"{name[:60]!r} is no name of a matrix")


def _is_count(x: Any) -> bool:
    return type(x) is int and 0 <= x < 2**63


def _is_mapping(x: Any, sound: Any) -> bool:
    return isinstance(x, dict) and all(sound(value) for value in x.values())


def _is_stamp(x: Any) -> bool:
    return isinstance(x, list) and len(x) == 2 and _is_count(x[0]) and isinstance(x[1], str)


def _is_optimizer(x: Any) -> bool:
    return x is None or (isinstance(x, dict) and isinstance(x.get("kind"), str))


def _is_file_name(name: str) -> bool:
    """Whether a name with something behind it is a file in the folder, and not one elsewhere."""
    elsewhere = name.startswith(".") or set(name) & set('/\\:*?"<>|') or not name.isprintable()
    return 0 < len(name) <= 200 and not elsewhere


def holds_network(folder: Path) -> bool:
    """Whether a network with its weights on disk has left its record there."""
    return (folder / RECORD).exists()


def open_folder(folder: Path, verify: bool = False) -> OpenedFolder:
    """Lock a folder, read its record, and look at the matrices that it names. Files of no whole step are removed.

    Args:
        verify: compare all numbers with their sums now; otherwise a part of large matrices, and the rest as it is read.

    Raises FileNotFoundError where there is no record, and `StorageError` where the folder is damaged or in use.
    """
    folder = folder.absolute()
    lock = FolderLock(folder)
    try:
        with storage_errors(folder):
            if not holds_network(folder):
                cut_short = " A network was being built there, and that was cut short: build it anew."
                raise FileNotFoundError(
                    f"There is no model in the folder {folder}: it has neither {MODEL_NAME}, which fcnn-gpu train "
                    f"--out writes, nor {RECORD}, which a network with its weights on disk has."
                    + (cut_short if any(files_of_network(folder)) else "")
                )
            opened = OpenedFolder(folder, lock, Record.unpack(folder / RECORD))
            weights = opened.record.data["stored"]
            for name, matrix in opened.matrices.items():
                matrix.check(verify, finite=name in weights)
            if not lock.read_only and not all(os.access(matrix.path, os.W_OK) for matrix in opened.matrices.values()):
                lock.read_only = True
            if lock.read_only:
                _logger.info("Nothing can be written in %s: its network is opened for prediction.", folder)
            else:
                _remove_leftovers(opened)
    except BaseException:
        lock.release()
        raise
    return opened


def _remove_leftovers(opened: OpenedFolder) -> None:
    """Files of steps, snapshots and moments that were cut short."""
    known = {f"{name}.generation{i}.npy" for name in opened.matrices for i in range(2)}
    for path in files_of_network(opened.folder):
        if path.name not in known:
            path.unlink(missing_ok=True)
