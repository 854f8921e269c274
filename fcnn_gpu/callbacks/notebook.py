"""A run in a Jupyter notebook: a bar, and a table of the last epochs, which stays."""

from __future__ import annotations

import sys
import time
from typing import Any

from .._console import readable
from ._base import Callback, History, Trainer
from ._epochs_table import clock, epochs_table

_SHORTEST = 0.25
"""Seconds between two pictures of the run: each is a message to the browser."""


def in_notebook() -> bool:
    """Whether this process is a Jupyter kernel, whose `display` reaches a notebook. Imports nothing."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return hasattr(shell, "kernel")


class NotebookProgress(Callback):
    """The run's bar with its remaining time, and a table of its last epochs, under the cell that trains."""

    def on_train_begin(self, trainer: Trainer) -> None:
        try:
            from IPython.display import HTML, display
        except ImportError as error:
            raise ImportError(
                "NotebookProgress needs IPython, which notebooks have. Elsewhere take progress='lines', or run: "
                "pip install ipython"
            ) from error
        self._html, self._began = HTML, time.perf_counter()
        self._epoch, self._loss = 1, ""
        self._records: list[dict[str, float]] = []
        self._shown_at = self._began
        self._handle: Any = display(HTML(self._running(trainer, 0)), display_id=True)

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        self._epoch = epoch

    def on_tick(self, trainer: Trainer, step: int, n_steps: int, loss: float) -> None:
        self._loss = f", loss {readable(loss)}"
        self._show(trainer, step)

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        self._records.append(record)
        self._show(trainer, trainer.steps_per_epoch)

    def on_train_end(self, trainer: Trainer, history: History) -> None:
        self._handle.update(self._html(history._repr_html_()))

    def _show(self, trainer: Trainer, step: int) -> None:
        now = time.perf_counter()
        if now - self._shown_at >= _SHORTEST:
            self._shown_at = now
            self._handle.update(self._html(self._running(trainer, step)))

    def _running(self, trainer: Trainer, step: int) -> str:
        done = (self._epoch - 1) * trainer.steps_per_epoch + step
        total = trainer.n_epochs * trainer.steps_per_epoch
        elapsed = time.perf_counter() - self._began
        remaining = f", {clock(elapsed / done * (total - done))} remaining" if done else ""
        bar = f'<progress value="{done}" max="{total}" style="width:16em;vertical-align:middle"></progress>'
        said = f"epoch {self._epoch}/{trainer.n_epochs}, {clock(elapsed)}{remaining}{self._loss}"
        return f"<div>{bar} {said}</div>{epochs_table(self._records)}"
