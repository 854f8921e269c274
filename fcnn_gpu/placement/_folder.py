"""Weights and moments in files of a folder: two generations of each, and a record that says which ones count.

A step reads one generation of every file and writes the other; then a record is written beside the old one and renamed
over it, which is the one moment in which the network passes from the old step to the new. The record also holds all
that the network has in memory, so that the folder is one whole network of one step whenever the process ends.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._types import DType, HostArray
from ..files import NumberFile, StorageError, blocks_of_rows, leftovers, rows_of_block
from ._lock import FolderLock
from ._record import RECORD, Record, write_record
from ._storage import Storage

_FILES = "*.generation[01].npy"


class FileRows:
    """A matrix in two .npy files, of which one counts (`generation`); see `FolderStore`."""

    place = "disk"

    def __init__(self, store: FolderStore, name: str, shape: tuple[int, int], dtype: DType, generation: int) -> None:
        self.store, self.name = store, name
        self.shape, self.dtype, self.generation = shape, dtype, generation
        self.paths = [store.folder / f"{name}.generation{i}.npy" for i in range(2)]
        self._header = _npy_header(shape, dtype)
        self._row = shape[1] * dtype.itemsize
        self._files: list[NumberFile] = []
        self._closed = False
        self.written = False
        """Whether the other generation has been written and counts with the next commit."""

    @property
    def nbytes(self) -> int:
        """Bytes of each of the two files."""
        return len(self._header) + self.shape[0] * self._row

    def create(self) -> None:
        """Make both files, full of zeros, with room on the disk for all that will be written."""
        for path in self.paths:
            file = NumberFile(path, "x")
            self._files.append(file)
            self._lay_out(file)

    def open(self) -> None:
        """Open files that are there already. `StorageError` where the one that counts is cut short or another matrix.

        The other one will be written anew, and need not be sound.
        """
        path, other = self.paths[self.generation], self.paths[1 - self.generation]
        if not other.exists() or other.stat().st_size != self.nbytes:
            other.unlink(missing_ok=True)
            with NumberFile(other, "x") as file:
                self._lay_out(file)
        self._files = [NumberFile(path, "r+") for path in self.paths]
        self.check()
        found = np.empty(len(self._header), np.uint8)
        self._files[self.generation].read(0, found)
        if found.tobytes() != self._header:
            raise StorageError(
                f"{path} is not the .npy file of {self.shape} {self.dtype} that it was. Restore the folder."
            )
        self._files[1 - self.generation].write(0, np.frombuffer(self._header, np.uint8))

    def _lay_out(self, file: NumberFile) -> None:
        """Zeros, with room on the disk for all that will be written."""
        file.reserve(self.nbytes)
        file.write(0, np.frombuffer(self._header, np.uint8))

    def check(self) -> None:
        """`StorageError` where one of the files has been removed, replaced or cut short since it was opened."""
        self._require_open()
        for path, file in zip(self.paths, self._files, strict=True):
            try:
                there = os.stat(path)
            except OSError as error:
                raise StorageError(
                    error.errno, f"{path} has gone: {error.strerror}. It is a part of the network; restore it."
                ) from error
            if there.st_size != self.nbytes:
                raise StorageError(
                    f"{path} has {there.st_size:,} bytes and should have {self.nbytes:,}: something has cut it short "
                    "or written to it. Restore the folder from a copy.",
                )
            if not file.is_at(path):
                raise StorageError(f"{path} has been replaced by another file while it was in use.")

    def view(self, start: int, stop: int) -> HostArray | None:
        return None

    def read(self, start: int, out: HostArray) -> None:
        self._require_open()
        self._files[self.generation].read(len(self._header) + start * self._row, out)

    def write(self, start: int, values: HostArray) -> None:
        self._require_own()
        self._files[self.generation].write(len(self._header) + start * self._row, values)

    def write_next(self, start: int, values: HostArray) -> None:
        self._require_own()
        self._files[1 - self.generation].write(len(self._header) + start * self._row, values)
        self.written = True

    def replace(self, blocks: Iterable[tuple[int, HostArray]]) -> None:
        try:
            for start, values in blocks:
                self.write_next(start, values)
            self.store.commit_alone()
        except BaseException:
            self.written = False
            raise

    def copy(self) -> FileRows:
        rows = FileRows(self.store, f"{self.name}.copy{secrets.token_hex(4)}", self.shape, self.dtype, 0)
        rows.paths = rows.paths[:1]
        try:
            rows.create()
            buffer = np.empty((rows_of_block(self.shape, self.dtype), self.shape[1]), self.dtype)
            for part in blocks_of_rows(self.shape, self.dtype):
                block = buffer[: part.stop - part.start]
                self.read(part.start, block)
                rows.write(part.start, block)
        except BaseException:
            rows.delete()
            raise
        weakref.finalize(rows, _delete_own, rows._files, rows.paths, os.getpid())
        return rows

    def sync(self, generation: int) -> None:
        """Return when this generation is on the disk, whatever happens to the machine."""
        self._files[generation].sync()

    def close(self) -> None:
        """Let go of the files; to read or write them is an error from now on."""
        self._closed = True
        for file in self._files:
            file.close()

    def delete(self) -> None:
        """Close and remove the files."""
        self._closed = True
        _delete(self._files, self.paths)

    def _require_open(self) -> None:
        if self._closed:
            raise StorageError(f"{self.name} cannot be read or written: {self.store.why_closed()}")

    def _require_own(self) -> None:
        self._require_open()
        self.store.check_owner()


def _delete(files: Sequence[NumberFile], paths: Sequence[Path]) -> None:
    for file in files:
        file.close()
    for path in paths:
        path.unlink(missing_ok=True)


def _delete_own(files: Sequence[NumberFile], paths: Sequence[Path], owner: int) -> None:
    """The same, but in a process that was forked from their owner, which has them still."""
    _delete(files, paths if os.getpid() == owner else ())


def _npy_header(shape: tuple[int, int], dtype: DType) -> bytes:
    text = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(text, described)
    return text.getvalue()


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
        self.opened = opened
        if opened is not None:
            self.folder, self._lock = opened.folder, opened.lock
        elif storage.folder is None:
            self.folder = Path(tempfile.mkdtemp(prefix="fcnn_gpu-"))
            self._lock = FolderLock(self.folder)
            weakref.finalize(self, _remove_folder, self.folder, self._lock, os.getpid())
        else:
            self.folder = Path(storage.folder).absolute()  # the program may go to another working directory
            self._lock = _claim(self.folder)
        self.temporary = storage.folder is None and opened is None
        self.committed = opened is not None

    def on_commit(self, record: Any) -> None:
        """`record()` gives the `Record` of what the network has in memory."""
        self._record = record

    def weight(self, name: str, shape: tuple[int, int], dtype: DType) -> FileRows:
        """The files of the weights of that name: new ones, or those of the opened folder."""
        return self._file(name, shape, dtype)

    def moments(self, names: Iterable[str], shapes: dict[str, tuple[int, int]], dtype: DType) -> dict[str, FileRows]:
        """The files of an optimizer's arrays, all zeros unless they are those of the opened folder."""
        names = list(names)
        found: dict[str, FileRows] = {}
        try:
            for name in names:
                found[name] = self._file(name, shapes[name], dtype)
        except BaseException:
            for name, rows in found.items():
                rows.delete()
                self._rows.pop(name, None)
            raise
        return found

    def _file(self, name: str, shape: tuple[int, int], dtype: DType) -> FileRows:
        self.check_owner()
        known = self.opened.generations.get(name) if self.opened is not None else None
        rows = FileRows(self, name, shape, dtype, 0 if known is None else known)
        try:
            if known is None:
                _delete([], rows.paths)  # left over from a process that ended before they counted
                rows.create()
                if self.durable:
                    for generation in range(2):
                        rows.sync(generation)
            else:
                rows.open()
        except BaseException:
            if known is None:
                rows.delete()
            raise
        self._rows[name] = rows
        return rows

    def drop(self, names: Iterable[str]) -> None:
        """Commit without these matrices, and then remove their files. After an error they belong to the network still.

        A network that is opened later looks for all that the record names: it must not name what has gone.
        """
        names, saved = list(names), {} if self.opened is None else self.opened.generations
        rows = {name: self._rows.pop(name) for name in names if name in self._rows}
        known = {name: saved.pop(name) for name in names if name in saved}
        if not rows and not known:
            return
        before = self.last_commit
        try:
            self.commit()
        except BaseException:
            if self.last_commit == before:
                self._rows |= rows
                saved |= known
            raise
        for gone in rows.values():
            gone.delete()
        for name in known:
            _delete([], [self.folder / f"{name}.generation{i}.npy" for i in range(2)])

    def check(self) -> None:
        """`StorageError` where the network is not this process's any more, or a file has been removed or replaced."""
        self.check_owner()
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
        self.check_owner()
        committed, token = False, secrets.token_hex(8)
        try:
            record: Record = self._record()
            record.data |= self._contents() | {"commit": token}
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
                self.last_commit, self.committed = token, True
                for rows in self._rows.values():
                    rows.generation ^= int(rows.written)
            self.abandon()

    def _contents(self) -> dict[str, Any]:
        """Which generation of each file will count, and its size."""
        generations = {name: rows.generation ^ int(rows.written) for name, rows in self._rows.items()}
        sizes = {name: rows.nbytes for name, rows in self._rows.items()}
        if self.opened is not None:  # moments that no optimizer has taken up yet
            for name, generation in self.opened.generations.items():
                if name not in generations:
                    generations[name], sizes[name] = generation, self.opened.record.data["sizes"][name]
        return {"generations": generations, "sizes": sizes}

    def _sync(self) -> None:
        """Wait, if steps are durable, until what will count is on the disk."""
        for rows in self._rows.values() if self.durable else ():
            if rows.written or not self.committed:
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
        for rows in self._rows.values():
            rows.close()
        self._lock.release()
        if self.temporary and os.getpid() == self._owner:
            shutil.rmtree(self.folder, ignore_errors=True)

    def discard(self) -> None:
        """Remove what a network that could not be built has made."""
        if self.opened is None:
            for rows in self._rows.values():
                rows.delete()
        self.close()


def _claim(folder: Path) -> FolderLock:
    """Make the folder, or take an empty one. FileExistsError where a network lies there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(error.errno, f"The folder {folder} cannot be made: {error.strerror}.") from error
    lock = FolderLock(folder)
    if (folder / RECORD).exists():
        lock.release()
        raise FileExistsError(
            f"{folder} holds a network already. Open it with fcnn_gpu.load({str(folder)!r}), or choose another folder."
        )
    for path in _leftovers(folder):
        path.unlink()
    return lock


def _leftovers(folder: Path) -> Iterator[Path]:
    """Files of a network whose building was cut short, and of steps and snapshots."""
    yield from folder.glob(_FILES)
    yield from leftovers(folder / RECORD)


def _remove_folder(folder: Path, lock: FolderLock, owner: int) -> None:
    lock.release()
    if os.getpid() == owner:  # and not a process that was forked from it
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class OpenedFolder:
    """A folder that holds a network, locked, and the record of its last whole step."""

    folder: Path
    lock: FolderLock
    record: Record

    @property
    def generations(self) -> dict[str, int]:
        """Which generation counts, by the name of the matrix."""
        found: dict[str, int] = self.record.data["generations"]
        return found

    def check(self) -> None:
        """`StorageError` where a file that counts is missing or has another size than it had."""
        for name, generation in self.generations.items():
            path, size = self.folder / f"{name}.generation{generation}.npy", self.record.data["sizes"][name]
            found = path.stat().st_size if path.exists() else None
            if found != size:
                what = "is missing" if found is None else f"has {found:,} bytes and should have {size:,}"
                raise StorageError(
                    f"{path} {what}: something has removed it or cut it short. Restore the folder from a copy."
                )


def open_folder(folder: Path) -> OpenedFolder:
    """Lock a folder and read its record. Files that belong to no whole step are removed."""
    folder = folder.absolute()
    lock = FolderLock(folder)
    try:
        if not (folder / RECORD).exists():
            raise FileNotFoundError(
                f"There is no model file {folder}, nor a whole network in that folder: it has no {RECORD}. If a "
                "network was being built there, that was cut short: build it anew."
            )
        opened = OpenedFolder(folder, lock, Record.unpack(folder / RECORD))
        opened.check()
        known = {f"{name}.generation{i}.npy" for name in opened.generations for i in range(2)}
        for path in _leftovers(folder):
            if path.name not in known:
                path.unlink(missing_ok=True)
    except BaseException:
        lock.release()
        raise
    return opened
