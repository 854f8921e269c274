"""Which folder a network's weights lie in, and how sure its steps are: what `Sequential(storage=)` takes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from .._checks import check_bool


@dataclass(frozen=True)
class Storage:
    """Where a network keeps weights that lie on disk: `Sequential(storage=Storage(folder, durable=True))`.

    Args:
        folder: made if it is not there; it stays when the program ends, and `fcnn.load(folder)` opens it. None: a
            temporary folder (the system's, see Python's `tempfile`) that goes with the network. Some systems keep that
            one in memory (tmpfs): name a folder on a disk there.
        durable: wait in every step until the disk has it all. Without that, a step is whole whatever happens to the
            process (it crashes, is killed, the disk is full), and after a loss of power the folder may have to be given
            up; with it, a step is whole after that as well, and takes as long as the disk takes to write it.
    """

    folder: str | os.PathLike[str] | None = None
    durable: bool = False

    def __post_init__(self) -> None:
        if self.folder is not None and not isinstance(self.folder, str | os.PathLike):
            raise TypeError(f"Storage(folder) expects a path or None, got {self.folder!r}.")
        if self.folder == "":  # which a Path takes for the working directory
            raise ValueError('Storage(folder) expects a folder, got "". For a temporary one, leave it out.')
        check_bool("Storage(durable)", self.durable)


def resolve_storage(storage: Any) -> Storage:
    """A `Storage` from what `Sequential(storage=)` takes: one, a path, or None."""
    if isinstance(storage, Storage):
        return storage
    if storage is not None and not isinstance(storage, str | os.PathLike):
        raise TypeError(f"Sequential(storage) expects a folder, an fcnn_gpu.Storage or None, got {storage!r}.")
    return Storage(storage)
