"""A line per epoch, for terminals and log files alike."""

from __future__ import annotations

from ..callbacks import Callback
from ..training import Trainer

_MOST_LINES = 25


class EpochLog(Callback):
    """Print epochs as they end: all of a short run; of a long one every n-th, and the last."""

    def on_train_begin(self, trainer: Trainer) -> None:
        self._every = -(-trainer.n_epochs // _MOST_LINES)
        self._has_penalty = trainer.model.penalty() > 0

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        epoch = int(record["epoch"])
        if epoch % self._every == 0 or epoch in (1, trainer.n_epochs) or trainer.stop_reason is not None:
            print(self._line(epoch, trainer.n_epochs, record), flush=True)

    def _line(self, epoch: int, n_epochs: int, record: dict[str, float]) -> str:
        hidden = {"epoch", "learning_rate", "seconds", "samples_per_second"}
        if not self._has_penalty:
            hidden.add("penalty")
        numbers = "  ".join(f"{name} {value:.4f}" for name, value in record.items() if name not in hidden)
        width = len(str(n_epochs))
        rate, speed = record["learning_rate"], record["samples_per_second"]
        return f"epoch {epoch:>{width}}/{n_epochs}  {numbers}  learning_rate {rate:.2g}  {speed:,.0f} samples/s"
