"""Weights and moments in files of a folder: two generations of each, and a record that says which ones count.

A step reads one generation of every file and writes the other; then a record is written beside the old one and renamed
over it, which is the one moment in which the network passes from the old step to the new. The record also holds all
that the network has in memory, so that the folder is one whole network of one step whenever the process ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .._types import DType
from ..files import StorageError
from ._file_rows import FileRows, delete_files
from ._lock import FolderLock
from ._opened import OpenedFolder
from ._record import RECORD, Record, write_record
from ._stamp import LONGEST_STAMP, Stamp
from ._storage import Storage
from ._temporary import files_of_network, make_temporary_folder
from ._typed import storage_errors

_BUILDING = 2
"""So many commits a network has before it trains: with its initial weights, and with zero moments."""


class FolderStore:
    """The folder of one network.

    Args:
        storage: which folder. A named one must not hold a network yet, unless `opened`.
        opened: take over the network that lies there, which this process has locked (`open_folder`).
    """

    place = "disk"

    def __init__(self, storage: Storage, opened: OpenedFolder | None = None) -> None:
        self.durable = storage.durable
        self._rows: dict[str, FileRows] = {}
        self._record: Any = None
        self._together = False
        self._owner, self._closed = os.getpid(), False
        self.opened, self.read_only = opened, False
        if opened is not None:
            self.folder, self._lock, self.read_only = opened.folder, opened.lock, opened.read_only
        elif storage.folder is None:
            self.folder, self._lock = make_temporary_folder()
            weakref.finalize(self, _remove_folder, self.folder, self._lock, os.getpid())
        else:
            self.folder = Path(storage.folder).absolute()  # the program may go to another working directory
            self._lock = _claim(self.folder)
        self.temporary = storage.folder is None and opened is None
        self.committed = opened is not None
        data = {} if opened is None else opened.record.data
        self._network, self._number = data.get("network") or secrets.token_hex(8), data.get("number", 0)

    def on_commit(self, record: Any) -> None:
        """`record()` gives the `Record` of what the network has in memory."""
        self._record = record

    def weight(self, name: str, shape: tuple[int, int], dtype: DType) -> FileRows:
        """The files of the weights of that name: new ones, or those of the opened folder."""
        if self.opened is not None:
            self.opened.require(name)
        with storage_errors(self.folder):
            self._rows[name] = rows = self._file(name, shape, dtype)
        return rows

    def moments(self, names: Iterable[str], shapes: dict[str, tuple[int, int]], dtype: DType) -> dict[str, FileRows]:
        """The files of an optimizer's arrays, all zeros unless they are those of the opened folder.

        An error removes what was made here, and nothing that was there before.
        """
        found: dict[str, FileRows] = {}
        try:
            with storage_errors(self.folder):
                for name in names:
                    found[name] = self._file(name, shapes[name], dtype)
            self._rows |= found
        except BaseException:
            for name, rows in found.items():
                self._rows.pop(name, None)
                if self._saved(name):
                    rows.close()
                else:
                    rows.delete()
            raise
        return found

    def _saved(self, name: str) -> bool:
        """Whether the opened folder has a matrix of that name."""
        return self.opened is not None and name in self.opened.matrices

    def _file(self, name: str, shape: tuple[int, int], dtype: DType) -> FileRows:
        self.check_owner()
        saved = self.opened.matrices[name] if self.opened is not None and name in self.opened.matrices else None
        rows = FileRows(self, name, shape, dtype, 0 if saved is None else saved.generation)
        if saved is not None:
            try:
                rows.open(saved)
            except BaseException:
                rows.close()
                raise
            return rows
        self.check_writable()
        delete_files(rows.paths)  # left over from a process that ended before they counted
        try:
            rows.create()
            if self.durable:
                for generation in range(2):
                    rows.sync(generation)
        except BaseException:
            rows.delete()
            raise
        return rows

    def drop(self, names: Iterable[str]) -> None:
        """Commit without these matrices, and then remove their files. After an error they belong to the network still.

        A network that is opened later looks for all that the record names: it must not name what has gone.
        """
        names, saved = list(names), {} if self.opened is None else self.opened.matrices
        rows = {name: self._rows.pop(name) for name in names if name in self._rows}
        known = {name: saved.pop(name) for name in names if name in saved}
        before = self.last_commit
        try:
            self.commit()
        except BaseException:
            if self.last_commit == before:
                self._rows |= rows
                saved |= known
            raise
        with storage_errors(self.folder):
            for gone in rows.values():
                gone.delete()
            for name in known:
                delete_files([self.folder / f"{name}.generation{i}.npy" for i in range(2)])

    def remove(self, made: dict[str, FileRows]) -> None:
        """Remove what `moments` has made, which does not count yet."""
        with storage_errors(self.folder):
            for name, rows in made.items():
                self._rows.pop(name, None)
                rows.delete()

    def check(self) -> None:
        """`StorageError` where nothing may be written (any more), or a file has been removed or replaced."""
        self.check_writable()
        with storage_errors(self.folder):
            self._lock.check()
            for rows in self._rows.values():
                rows.check()

    def check_owner(self) -> None:
        """`StorageError` where the network has been closed, or this process was forked from the one that has it."""
        if self._closed:
            raise StorageError(self.why_closed())
        if os.getpid() != self._owner:
            raise StorageError(
                f"The network in {self.folder} belongs to process {self._owner}, from which this one was forked: both "
                "would write to the same files. Train it there, or build or load a network in this process; "
                "copy.deepcopy(model) gives it one of its own."
            )

    def check_writable(self) -> None:
        """`StorageError` where the network is not this process's, or lies where nothing can be written."""
        self.check_owner()
        if self.read_only:
            raise StorageError(
                f"The network in {self.folder} is open for prediction alone, because nothing can be written there. To "
                "train it, copy the folder to where it can be written, or copy.deepcopy(model)."
            )

    def why_closed(self) -> str:
        """For messages."""
        if self.temporary:
            return "the network has been closed, and its temporary folder is gone. Build it anew."
        return f"the network in {self.folder} has been closed. Open it with fcnn_gpu.load({str(self.folder)!r})."

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Within, `commit_alone` waits for the end; after an error nothing counts."""
        self._together = True
        try:
            yield
        except BaseException:
            self.abandon()
            raise
        finally:
            self._together = False
        self.commit_alone()

    def commit_alone(self) -> None:
        """`commit` outside of a training step; nothing before the network is whole for the first time."""
        if self._together:
            return
        if self.committed and self._record is not None:
            self.commit()
        else:
            for rows in self._rows.values():
                if rows.written:
                    rows.generation, rows.written = 1 - rows.generation, False

    def commit(self) -> None:
        """What has been written since the last commit counts, and so does what the network has in memory now.

        An error leaves all as it was.
        """
        self.check_writable()
        committed, token, number = False, secrets.token_hex(8), self._number + 1
        stamps = {
            name: Stamp(self._network, name, number, token)
            for name, rows in self._rows.items()
            if rows.written or rows.stamp is None
        }
        try:
            record: Record = self._record()
            record.data |= self._contents(stamps) | {"commit": token, "network": self._network, "number": number}
            for name, stamp in stamps.items():
                self._rows[name].put_stamp(stamp)
            self._sync()
            self.check()
            write_record(self.folder, record, self.durable)
            committed = True
        except BaseException:
            # An interrupt may arrive after the rename: then the step is done.
            with contextlib.suppress(StorageError):
                committed = self.committed and Record.unpack(self.folder / RECORD).data.get("commit") == token
            raise
        finally:
            if committed:
                self.last_commit, self.committed, self._number = token, True, number
                for name, stamp in stamps.items():
                    self._rows[name].count(stamp)
            self.abandon()

    @property
    def keeps(self) -> bool:
        """Whether there is a last commit, which may be changed."""
        own = self.committed and not (self.temporary or self.read_only or self._closed or os.getpid() != self._owner)
        return own and (self.folder / RECORD).exists()

    def keep(self, notes: dict[str, Any], config: dict[str, Any]) -> None:
        """Change entries of the last commit's data and of its architecture, and nothing else of it.

        Nothing is done where nothing differs.
        """
        record = Record.unpack(self.folder / RECORD)
        record.complete()
        noted = json.loads(json.dumps(notes | {"config": record.data["config"] | config}))
        if all(record.data[name] == value for name, value in noted.items()):
            return
        with storage_errors(self.folder):
            self._lock.check()
        record.data |= noted
        write_record(self.folder, record, self.durable)

    def _contents(self, stamps: dict[str, Stamp]) -> dict[str, Any]:
        """Which generation of each file will count, its size and its stamp, of which `stamps` are new."""
        generations = {name: rows.generation ^ int(rows.written) for name, rows in self._rows.items()}
        sizes = {name: rows.nbytes for name, rows in self._rows.items()}
        counting = {name: stamps.get(name, rows.stamp) for name, rows in self._rows.items()}
        if self.opened is not None:  # moments that no optimizer has taken up yet
            for name, matrix in self.opened.matrices.items():
                if name not in generations:
                    generations[name], sizes[name], counting[name] = matrix.generation, matrix.size, matrix.stamp
        said = {name: [stamp.commit, stamp.token] for name, stamp in counting.items() if stamp is not None}
        return {"generations": generations, "sizes": sizes, "stamps": said}

    def _sync(self) -> None:
        """Wait, if steps are durable, until what will count is on the disk."""
        for rows in self._rows.values() if self.durable else ():
            if rows.written or rows.stamp is None:
                rows.sync(rows.generation ^ int(rows.written))

    last_commit = ""
    """Which commit was the last, for who must know whether one that was interrupted took place."""

    def abandon(self) -> None:
        """Forget what has been written since the last commit."""
        for rows in self._rows.values():
            rows.written = False

    def close(self) -> None:
        """Close all files and let other processes have the folder; a temporary folder is removed."""
        self._closed = True
        with storage_errors(self.folder), contextlib.ExitStack() as ends:  # each, whatever becomes of the others
            if self.temporary and os.getpid() == self._owner:
                ends.callback(shutil.rmtree, self.folder, ignore_errors=True)
            ends.callback(self._lock.release)
            for rows in self._rows.values():
                ends.callback(rows.close)

    def discard(self) -> None:
        """Remove what a network that could not be built has made."""
        if self.opened is None:
            with contextlib.ExitStack() as ends:
                ends.callback(self.close)
                # First: the commit itself may have failed after its record was in place.
                with storage_errors(self.folder):
                    (self.folder / RECORD).unlink(missing_ok=True)
                for rows in self._rows.values():
                    rows.delete()
            return
        self.close()


def _claim(folder: Path) -> FolderLock:
    """Make the folder, or take an empty one. FileExistsError where a network lies there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(error.errno, f"The folder {folder} cannot be made: {error.strerror}.") from error
    lock = FolderLock(folder)
    try:
        if lock.read_only:
            raise StorageError(f"The folder {folder} cannot be written to. Choose another one.")
        if (folder / RECORD).exists():
            raise FileExistsError(
                f"{folder} holds a network already. Open it with fcnn_gpu.load({str(folder)!r}), or choose another "
                "folder."
            )
        with storage_errors(folder):
            leftovers = list(files_of_network(folder))
            for path in leftovers:
                _refuse_trained(path)
            delete_files(leftovers)
    except BaseException:
        lock.release()
        raise
    return lock


def _refuse_trained(path: Path) -> None:
    """`StorageError` for a matrix of a network that has trained: its record has gone, and it must not go as well."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - LONGEST_STAMP))
        stamp = Stamp.unpack(file.read())
    if stamp is not None and stamp.commit > _BUILDING:
        raise StorageError(
            f"{path} holds {stamp.name} of a network that has been trained (commit {stamp.commit}), whose {RECORD} is "
            "missing. Restore that from a copy, or choose another folder, or remove the files if nobody needs them."
        )


def _remove_folder(folder: Path, lock: FolderLock, owner: int) -> None:
    lock.release()
    if os.getpid() == owner:  # and not a process that was forked from it
        shutil.rmtree(folder, ignore_errors=True)
