"""What a callback is told, and what those of this folder ask of the trainer."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeAlias, TypeVar

from .._checks import check_integer
from .._registry import answers_arguments
from ..metrics import Metric
from ..model import Sequential


class WatchedTrainer(Protocol):
    """What the callbacks of this file ask of a trainer, and `stop_reason`, which they set."""

    columns: list[str]
    n_epochs: int
    steps_per_epoch: int
    stop_reason: str | None
    held_out_by: str
    fold: int | None

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
    """Base of all callbacks: every hook does nothing.

    A class with a hook that is none of these, or with one that does not take what it is called with, is refused when
    the callback is handed over.
    """

    every_steps: int = 1
    """`on_step` is called after every so many steps of the run."""

    def on_train_begin(self, trainer: Trainer) -> None:
        """Before the first epoch; `trainer.columns` holds the names that the records will have."""

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        """Before epoch `epoch` (from 1)."""

    def on_step(self, trainer: Trainer, step: int, read_loss: Callable[[], float]) -> None:
        """After every `every_steps` steps of the run, of which `step` are done (from 1 through all its epochs).

        `read_loss()` is the mean data loss of the last step's batch, fetched when it is asked for: on a GPU that waits
        for the step. Parameters may be read, and `trainer.optimizer.set_learning_rate` sets the next step's rate where
        no schedule does. A run without such a hook takes many steps in one call; with one it comes back between them.
        """

    def on_tick(self, trainer: Trainer, step: int, n_steps: int, loss: float) -> None:
        """A few times a second: `step` of the epoch's `n_steps` are done, with this mean data loss so far."""

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        """After each epoch, with its line of the history."""

    def validating(self, trainer: Trainer) -> AbstractContextManager[None]:
        """Within, the validation data are evaluated and `on_epoch_end` is told: with other weights, if need be."""
        return nullcontext()

    def on_train_end(self, trainer: Trainer, history: History) -> None:
        """After the last epoch, an interrupt or an error."""


def described(trainer: Trainer) -> dict[str, Any]:
    """What is trained, and how, as trackers of experiments keep it: numbers, and parts as their text."""
    parts = {"loss": trainer.loss, "optimizer": trainer.optimizer, "network": trainer.model}
    numbers = {"epochs": trainer.n_epochs, "parameters": trainer.model.n_parameters, "seed": trainer.seed}
    fold = {} if trainer.fold is None else {"fold": trainer.fold}
    return fold | {name: repr(part) for name, part in parts.items()} | numbers


def of_fold(trainer: Trainer, name: str) -> str:
    """The name, behind the fold's where several share a run of another tool: their epochs are each counted from 1."""
    return name if trainer.fold is None else f"fold_{trainer.fold}/{name}"


_Class = TypeVar("_Class", bound=type[Callback])


def answering(cls: _Class) -> _Class:
    """Class decorator: an argument that the constructor does not have is answered by the one that is meant."""
    constructor: Any = cls.__init__
    cls.__init__ = answers_arguments(constructor)  # type: ignore[method-assign]
    return cls


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))

_ELSEWHERE = {
    "on_train_begin": "on_train_start on_fit_begin on_fit_start on_begin on_start",
    "on_epoch_begin": "on_epoch_start on_train_epoch_start on_train_epoch_begin",
    "on_step": "on_step_end on_step_begin on_batch_begin on_batch_start on_batch_end on_train_batch_begin "
    "on_train_batch_start on_train_batch_end on_before_zero_grad on_after_backward on_optimizer_step "
    "on_before_optimizer_step on_iteration_end",
    "on_epoch_end": "on_train_epoch_end on_validation_end on_validation_epoch_end on_test_end on_test_epoch_end "
    "on_evaluate on_log",
    "on_train_end": "on_fit_end on_end on_exception",
}
"""Of each hook, what other libraries (Keras, PyTorch Lightning, transformers, skorch) call those in its place."""
_MEANT = {name: hook for hook, names in _ELSEWHERE.items() for name in names.split()}


def has_step_hook(callback: Callback) -> bool:
    """Whether a run has to come back between steps for it."""
    return "on_step" in vars(callback) or type(callback).on_step is not Callback.on_step


def check_hooks(callback: Callback) -> None:
    """A TypeError for a hook that would never be called, or that does not take what it is called with."""
    who = type(callback).__name__
    for name in sorted(name for name in {*dir(type(callback)), *vars(callback)} if name.startswith("on_")):
        hook = getattr(callback, name)
        if not callable(hook):
            continue
        if name not in HOOKS:
            nearest = _MEANT.get(name) or next(iter(difflib.get_close_matches(name, HOOKS, n=1, cutoff=0.5)), None)
            hint = f"Did you mean {_called(nearest)}? " if nearest else ""
            raise TypeError(
                f"{who} defines {name}, which no run calls. {hint}The hooks are {', '.join(map(_called, HOOKS))}. A "
                "method that is none of them needs a name that does not begin with on_."
            )
        try:
            inspect.signature(hook).bind(*_arguments(name))
        except TypeError as error:
            raise TypeError(f"{who}.{name} is called as {_called(name)}, which it does not take: {error}.") from error
    if has_step_hook(callback):
        check_integer(f"{who}.every_steps", callback.every_steps, low=1)


def _arguments(hook: str) -> list[str]:
    return list(inspect.signature(getattr(Callback, hook)).parameters)[1:]


def _called(hook: str) -> str:
    return f"{hook}({', '.join(_arguments(hook))})"


def check_callbacks(callbacks: Any) -> list[Callback]:
    """The callbacks as a list; a TypeError names what is none, and hooks that do not exist."""
    if isinstance(callbacks, Callback):
        raise TypeError(f"callbacks expects a list, got {callbacks!r}. Write callbacks=[...] around it.")
    found = list(callbacks)
    for callback in found:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks expects instances of fcnn_gpu.callbacks.Callback, got {callback!r}.")
        check_hooks(callback)
    return found
