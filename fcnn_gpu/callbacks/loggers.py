"""CSVLogger and JSONLinesLogger: a line of a text file for each epoch, written when the epoch ends."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._checks import check_bool
from ._base import Callback, Trainer, answering


@dataclass
class _LineLogger(Callback):
    """A file that grows by a line at the end of each epoch, and is closed before the run goes on.

    So neither Ctrl-C nor a process that is killed loses an epoch that was done. Where an estimator trains a network for
    each of several folds, the lines have a column `fold`, from 1, within which epochs are counted.
    """

    path: Any
    append: bool = True
    _begun: bool = field(init=False, default=False, repr=False, compare=False)
    _fold: dict[str, int] = field(init=False, default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike):
            raise TypeError(f"{type(self).__name__}(path) expects a path, got {self.path!r}.")
        check_bool(f"{type(self).__name__}(append)", self.append)

    def on_train_begin(self, trainer: Trainer) -> None:
        who, path = type(self).__name__, Path(self.path)
        if not path.parent.is_dir():
            raise FileNotFoundError(f"{who}: there is no folder {path.parent} to write into. Create it first.")
        goes_on = (self.append or self._begun) and path.exists()
        text = path.read_text(encoding="utf-8") if goes_on else ""
        self._mode, self._break = "a" if goes_on else "w", "\n" if text and not text.endswith("\n") else ""
        self._fold = {} if trainer.fold is None else {"fold": trainer.fold}
        last = self._last_epoch(text, [*self._fold, *trainer.columns])
        self._done = max(trainer.epochs_trained, last)

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        line = self._line(self._fold | record | {"epoch": self._done + int(record["epoch"])})
        with open(self.path, self._mode, encoding="utf-8", newline="") as file:
            file.write(self._break + line)
        self._mode, self._break, self._begun = "a", "", True

    def _last_epoch(self, text: str, columns: list[str]) -> int:
        """The last epoch that the file has, of this fold where there are several; 0 if it has none.

        ValueError for a file of something else.
        """
        raise NotImplementedError(f"{type(self).__name__} must define _last_epoch(text, columns).")

    def _line(self, record: dict[str, float]) -> str:
        """What is written of an epoch."""
        raise NotImplementedError(f"{type(self).__name__} must define _line(record).")


@answering
@dataclass
class CSVLogger(_LineLogger):
    """A CSV file with the columns of the history, a line per epoch, each in the file when its epoch has ended.

    With `append` a file that is there goes on, in its columns, and so does the count of epochs; one that lacks a column
    of the run is refused. Without, the first epoch replaces it; later calls of `fit` append.
    """

    def _last_epoch(self, text: str, columns: list[str]) -> int:
        rows = csv.DictReader(io.StringIO(text))
        self._columns = list(rows.fieldnames or ())
        missing = [column for column in columns if column not in self._columns]
        if self._columns and missing:
            raise ValueError(
                f"CSVLogger: {self.path} has no column {', '.join(missing)}, which this run records; it has "
                f"{', '.join(self._columns)[:500]}. Name another file, or replace this one with append=False."
            )
        of_fold = (row for row in rows if not self._fold or row["fold"] == str(self._fold["fold"]))
        return max((int(row["epoch"]) for row in of_fold if (row["epoch"] or "").isdecimal()), default=0)

    def _line(self, record: dict[str, float]) -> str:
        text, is_new = io.StringIO(), not self._columns
        self._columns = self._columns or list(record)
        writer = csv.DictWriter(text, self._columns, restval="", extrasaction="ignore", lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(record)
        return text.getvalue()


@answering
@dataclass
class JSONLinesLogger(_LineLogger):
    """A file of JSON lines: an object per epoch with the columns of the history, in the file when its epoch has ended.

    With `append` a file that is there goes on, and so does the count of epochs. Without, the first epoch replaces it;
    later calls of `fit` append. A value that is not finite, for which JSON has no number, is null.
    """

    def _last_epoch(self, text: str, columns: list[str]) -> int:
        last, lines = 0, text.splitlines()
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line) if line.strip() else {}
            except json.JSONDecodeError as error:
                if number == len(lines):  # cut short: whoever wrote it was ended
                    break
                raise ValueError(
                    f"JSONLinesLogger: {self.path}, line {number}, is no JSON ({error}). Name another file, or replace "
                    "this one with append=False."
                ) from error
            is_ours = isinstance(record, dict) and record.get("fold") == self._fold.get("fold")
            epoch = record.get("epoch") if is_ours else None
            last = max(last, epoch) if isinstance(epoch, int) else last
        return last

    def _line(self, record: dict[str, float]) -> str:
        numbers = {name: value if isinstance(value, int) else float(value) for name, value in record.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        return json.dumps(finite, allow_nan=False) + "\n"
