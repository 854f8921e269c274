"""TensorBoard: the columns of the history as curves that TensorBoard shows."""

from __future__ import annotations

import os
import time
from typing import Any

from .._extras import how_to_install
from ._base import Callback, History, Trainer, answering


@answering
class TensorBoard(Callback):
    """Write each column of the history to event files in `folder`, a point per epoch.

    A thread of tensorboardX's writes them every two seconds, and all that is left when the run ends, also by Ctrl-C or
    an error. Each run has a file of its own in the folder; epochs are counted through all calls of the trainer's `fit`.
    Where an estimator trains on each of several folds (`cv=`), each is a run of its own, in `folder`/fold_1 and so on.
    `tensorboard --logdir FOLDER` shows them. Needs the extra tensorboard: tensorboardX, which needs neither TensorFlow
    nor PyTorch.
    """

    def __init__(self, folder: Any) -> None:
        if not isinstance(folder, str | os.PathLike):
            raise TypeError(f"TensorBoard(folder) expects a path, got {folder!r}.")
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ImportError(f"TensorBoard needs tensorboardX. Run: {how_to_install('tensorboard')}") from error
        self.folder = os.fspath(folder)
        self._make: Any = SummaryWriter

    def __repr__(self) -> str:
        return f"TensorBoard({self.folder!r})"

    def on_train_begin(self, trainer: Trainer) -> None:
        self._done = trainer.epochs_trained
        # tensorboardX names files by the second: the suffix keeps those of two runs apart
        folder = self.folder if trainer.fold is None else os.path.join(self.folder, f"fold_{trainer.fold}")
        self._writer = self._make(folder, flush_secs=2, filename_suffix=f".{time.time_ns()}")

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        step = self._done + int(record["epoch"])
        for column, value in record.items():
            if column != "epoch":
                self._writer.add_scalar(column, float(value), step)

    def on_train_end(self, trainer: Trainer, history: History) -> None:
        self._writer.close()
