"""What a callback is told, and what those of this folder ask of the trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from ..metrics import Metric
from ..model import Sequential


class WatchedTrainer(Protocol):
    """What the callbacks of this file ask of a trainer, and `stop_reason`, which they set."""

    columns: list[str]
    n_epochs: int
    steps_per_epoch: int
    stop_reason: str | None
    held_out_by: str

    @property
    def model(self) -> Sequential: ...

    @property
    def metrics(self) -> Sequence[Metric]: ...


Trainer: TypeAlias = Any
"""In an event's signature: `fcnn_gpu.Trainer`, whose file imports this one.

It is Any because a callback of one's own may ask more of its trainer than those here do (`WatchedTrainer`), and a type
checker lets an override narrow no other type.
"""
History: TypeAlias = Any
"""`fcnn_gpu.History`, likewise."""


class Callback:
    """Base of all callbacks: every event does nothing."""

    def on_train_begin(self, trainer: Trainer) -> None:
        """Before the first epoch; `trainer.columns` holds the names that the records will have."""

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        """Before epoch `epoch` (from 1)."""

    def on_tick(self, trainer: Trainer, step: int, n_steps: int, loss: float) -> None:
        """A few times a second: `step` of the epoch's `n_steps` are done, with this mean data loss so far."""

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        """After each epoch, with its line of the history."""

    def on_train_end(self, trainer: Trainer, history: History) -> None:
        """After the last epoch, an interrupt or an error."""


def check_callbacks(callbacks: Any) -> list[Callback]:
    """The callbacks as a list; a TypeError names what is none."""
    if isinstance(callbacks, Callback):
        raise TypeError(f"callbacks expects a list, got {callbacks!r}. Write callbacks=[...] around it.")
    found = list(callbacks)
    for callback in found:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks expects instances of fcnn_gpu.callbacks.Callback, got {callback!r}.")
    return found
