"""What a run on standardized targets measures, in the targets' own units.

Of one target y = μ + σŷ, an error in y is σ times that in ŷ. So a loss or metric that is homogeneous of degree p in the
errors, as a mean of squares is of degree 2, is σᵖ times what it is of ŷ. Of several targets, which have units of their
own, a mean over them has none, and stays what it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from ..callbacks import Callback, has_step_hook
from ..losses import MAE, MSE, Huber, Loss, Quantile
from ..model import Standardization

_OF_LOSSES: Mapping[type[Loss], int] = {MSE: 2, Huber: 2, MAE: 1, Quantile: 1}
_OF_METRICS = {"mae": 1, "mse": 2, "rmse": 1}


def degrees_of(loss: Loss, n_targets: int) -> dict[str, int] | None:
    """The degrees of the columns of a history that have the units of one target; None where the loss has no degree."""
    power = _OF_LOSSES.get(type(loss))
    if n_targets != 1 or power is None:
        return None
    degrees = {"loss": power} | _OF_METRICS
    return degrees | {f"val_{name}": degree for name, degree in degrees.items()} | {"penalty": power}


def units_of(target: str | None, loss: Loss, n_targets: int = 1) -> dict[str, str]:
    """What the columns of a history are measured in, by name, for a picture: "price" and "price²"."""
    degrees = degrees_of(loss, n_targets) or {}
    unit = "the target's unit" if target is None else target
    return {name: unit + {1: "", 2: "²"}[degree] for name, degree in degrees.items()}


def _n_targets(scaling: Standardization, loss: Loss) -> int:
    """How many targets are scaled; one that stands there once for each of its quantiles is one."""
    scale = scaling.scale
    return 1 if len(scale) == loss.outputs_per_target and (scale == scale[0]).all() else len(scale)


class OwnUnits(Callback):
    """Tells `callbacks` of a run on standardized targets in the targets' own units, and so does the run's history.

    Of several targets, or with a loss that has no degree, all stays as it is (`degrees_of`). Those that decide by what
    was measured (`EarlyStopping`, `KeepBest`) may come before, and decide by what the run is trained on.
    """

    def __init__(self, scaling: Standardization | None, loss: Loss, callbacks: Sequence[Callback]) -> None:
        degrees = None if scaling is None else degrees_of(loss, _n_targets(scaling, loss))
        self._callbacks = callbacks
        self._factors: dict[str, float] = {}
        if scaling is not None and degrees is not None:
            self._factors = {name: float(scaling.scale[0]) ** degree for name, degree in degrees.items()}
        told_of_steps = [callback for callback in callbacks if has_step_hook(callback)]
        if told_of_steps:
            self._told_of_steps = told_of_steps
            self.every_steps = math.gcd(*(callback.every_steps for callback in told_of_steps))
            self.on_step = self._pass_step  # type: ignore[method-assign]  # a run comes back between steps for it

    def on_train_begin(self, trainer: Any) -> None:
        for callback in self._callbacks:
            callback.on_train_begin(trainer)

    def on_epoch_begin(self, trainer: Any, epoch: int) -> None:
        for callback in self._callbacks:
            callback.on_epoch_begin(trainer, epoch)

    def _pass_step(self, trainer: Any, step: int, read_loss: Callable[[], float]) -> None:
        for callback in self._told_of_steps:
            if step % callback.every_steps == 0:
                callback.on_step(trainer, step, lambda: read_loss() * self._factors.get("loss", 1.0))

    def on_tick(self, trainer: Any, step: int, n_steps: int, loss: float) -> None:
        for callback in self._callbacks:
            callback.on_tick(trainer, step, n_steps, loss * self._factors.get("loss", 1.0))

    def on_epoch_end(self, trainer: Any, record: dict[str, float]) -> None:
        for name, factor in self._factors.items():
            if name in record:
                record[name] *= factor
        for callback in self._callbacks:
            callback.on_epoch_end(trainer, record)

    @contextmanager
    def validating(self, trainer: Any) -> Iterator[None]:
        with ExitStack() as ends:
            for callback in self._callbacks:
                ends.enter_context(callback.validating(trainer))
            yield

    def on_train_end(self, trainer: Any, history: Any) -> None:
        for callback in self._callbacks:
            callback.on_train_end(trainer, history)
