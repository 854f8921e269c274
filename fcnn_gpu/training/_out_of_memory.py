"""What is said and undone when memory runs out in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..data import data_set_of
from ..datasets import BlockSource
from ..memory import MemoryReport, describe_shortage, describe_use
from ..model import release
from ._micro_batches import why_whole

if TYPE_CHECKING:
    from .trainer import Trainer


def what_a_step_changes(trainer: Trainer) -> Callable[[], None]:
    """Remembers what a first step that fails on its way would leave changed; the result puts it back."""
    model, ops, control = trainer.model, trainer.model.ops, trainer.optimizer.control
    step = int(ops.to_numpy(control.step)[0])
    state = [array for layer in model.walk() for array in layer.state().values()]
    kept = [(array, ops.to_numpy(array).copy()) for array in (model.random_step, *state)]

    def restore() -> None:
        if int(ops.to_numpy(control.step)[0]) == step:
            for array, before in kept:
                ops.assign(array, before)

    return restore


def explain_training(trainer: Trainer, error: BaseException, X: Any, y: Any = None, **options: Any) -> str:
    """That of `fit`."""
    model = trainer.model
    release(model)
    data = data_set_of(X, y, "fit")
    if data is not None:
        X, y = data.X_train, data.y_train

    batch, reason, tried = (
        min(options.get("batch_size", 128), len(X)),
        why_whole(model),
        trainer.history.micro_batch_size,
    )

    def predict(size: int) -> MemoryReport:
        parts: dict[str, Any] = {"loss": trainer.loss, "metrics": trainer.metrics}
        if not isinstance(X, BlockSource):  # which streams
            parts["data"] = (X, y)
        if reason is not None:
            return model.memory_report(size, trainer.optimizer, **parts)
        return model.memory_report(batch, trainer.optimizer, **parts, micro_batch_size=None if size == batch else size)

    argument = "batch_size" if reason is not None else "micro_batch_size"
    use = describe_use(model, error, batch, predict, argument)
    parts = "" if reason is None else f" Smaller parts of a batch would change the result: {reason}."
    if reason is None and tried is not None:
        parts = f" It has not gone on in micro-batches of {tried} either."
    return f"{describe_shortage('Trainer.fit', error, model)}{parts} {use}"


def explain_evaluation(trainer: Trainer, error: BaseException, *args: Any, **options: Any) -> str:
    """That of `evaluate`."""
    release(trainer.model)
    shortage = describe_shortage("Trainer.evaluate", error, trainer.model)
    return f"{shortage} Use evaluate(memory_limit=), which streams the data from the host, or fewer samples at a time."
