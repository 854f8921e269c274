"""The system's errors, as those of this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..files import StorageError


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Within, an error of the system is a `StorageError` that names the file, or the folder where it names none."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if error.errno is None:  # of this package
            raise
        path = error.filename or folder
        raise StorageError(error.errno, f"{path} cannot be read or written: {error.strerror or error}.") from error
