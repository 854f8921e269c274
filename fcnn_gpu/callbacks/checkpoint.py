"""Models saved along the way."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._checks import check_bool
from ._base import Callback, Trainer, answering
from ._monitor import check_column, check_monitor, direction

_EPOCH = re.compile(r"\{epoch(?::(0?\d*d?))?\}")
"""{epoch} or {epoch:03d}: the one field in a checkpoint's path. Other braces are part of the name."""


@answering
@dataclass
class ModelCheckpoint(Callback):
    """Save the model to `path` after each epoch, or with `monitor` after each epoch that is the best so far.

    `path` may hold {epoch}, or {epoch:03d} for 001, 002, ... Files are replaced whole or not at all. An epoch whose
    `monitor` is NaN is never the best.
    """

    path: Any
    monitor: str | None = None
    greater_is_better: bool | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike):
            raise TypeError(f"ModelCheckpoint(path) expects a path, got {self.path!r}.")
        if self.monitor is not None:
            check_column("ModelCheckpoint(monitor)", self.monitor)
        if self.greater_is_better is not None:
            check_bool("ModelCheckpoint(greater_is_better)", self.greater_is_better)

    def on_train_begin(self, trainer: Trainer) -> None:
        self._best: float | None = None
        if self.monitor is not None:
            check_monitor("ModelCheckpoint", self.monitor, trainer)
            self._sign = direction(self.monitor, self.greater_is_better, trainer)
        folder = self._file(1).parent
        if not folder.is_dir():
            raise FileNotFoundError(f"ModelCheckpoint: there is no folder {folder} to save into. Create it first.")
        trainer.model.check_saveable(self._file(1), "ModelCheckpoint")

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        if self.monitor is not None:
            value = self._sign * record[self.monitor]
            if math.isnan(value) or (self._best is not None and value <= self._best):
                return
            self._best = value
        trainer.model.save(self._file(int(record["epoch"])))

    def _file(self, epoch: int) -> Path:
        return Path(_EPOCH.sub(lambda match: format(epoch, match[1] or ""), os.fspath(self.path)))
