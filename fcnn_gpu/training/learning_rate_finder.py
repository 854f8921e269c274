"""find_learning_rate: the loss while the learning rate rises from step to step, and the rates that it suggests."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from .._checks import check_integer, check_real
from .._figures import make_figure, saved
from .._types import HostArray
from ..callbacks import Callback
from ..losses import Loss
from ..model import Sequential
from ..optimizers import Optimizer
from ..schedules import Schedule
from ._diagnosis import DivergenceError
from .lbfgs import LBFGS
from .trainer import Trainer

_SMOOTHING = 0.98
_WORSE = 4.0
"""The curve ends where the smoothed loss is so many times the smallest."""
_FEWEST = 10
"""Points that a curve needs; and as many of the first steps, whose mean is of few losses, suggest nothing."""
_LAST = 5
"""Points at the end, where the loss explodes, that suggest nothing either."""


@dataclass(frozen=True)
class LearningRateCurve:
    """`losses[i]` of the batch that was trained on at `rates[i]`, and their `smoothed` mean, all float64 (n_steps,)."""

    rates: HostArray
    losses: HostArray
    smoothed: HostArray

    @property
    def suggestion(self) -> float:
        """The rate to begin with: `valley`."""
        return self.valley

    @property
    def steepest(self) -> float:
        """The rate at which the smoothed loss falls fastest per factor of the rate."""
        part = self._usable
        return float(self.rates[part][np.argmin(np.gradient(self.smoothed[part]))])

    @property
    def valley(self) -> float:
        """The rate in the middle of the longest decreasing subsequence of the smoothed loss."""
        part = self._usable
        smoothed = self.smoothed[part]
        lengths, firsts = np.ones(len(smoothed), int), np.arange(len(smoothed))
        for i in range(1, len(smoothed)):
            before = np.flatnonzero(smoothed[:i] > smoothed[i])[::-1]  # the last first: a plateau is no part of it
            if len(before):
                j = before[np.argmax(lengths[before])]
                lengths[i], firsts[i] = lengths[j] + 1, firsts[j]
        last = int(np.argmax(lengths))
        return float(self.rates[part][(firsts[last] + last) // 2])

    @property
    def _usable(self) -> slice:
        """The points that suggestions are made of: all of a short curve but the last ones."""
        n = len(self.rates)
        return slice(min(_FEWEST, n - _FEWEST), n - min(_LAST, n - _FEWEST) if n > _FEWEST else n)

    def plot(self, path: Any = None) -> Any:
        """The losses over the rates, with both suggestions; saved to `path` if one is given. Returns the figure.

        Needs matplotlib.
        """
        figure = make_figure(5.2, 3.5)
        axes = figure.subplots()
        axes.plot(self.rates, self.losses, color="#666666", linewidth=0.6, alpha=0.5, label="batch")
        axes.plot(self.rates, self.smoothed, color="#0072b2", label="smoothed")
        for name, rate, style in (("valley", self.valley, "-"), ("steepest", self.steepest, "--")):
            axes.axvline(rate, color="#d55e00", linestyle=style, linewidth=1.0, label=f"{name}: {rate:.2g}")
        axes.set_xscale("log")
        low, high = float(self.smoothed.min()), float(self.smoothed[: max(_FEWEST, len(self.smoothed) // 2)].max())
        axes.set_ylim(low - 0.1 * (high - low), high + 0.5 * (high - low) or low + 1.0)
        axes.set_xlabel("learning rate")
        axes.set_ylabel("data loss")
        axes.grid(alpha=0.3, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(facecolor="white", framealpha=0.85, edgecolor="none")
        return saved(figure, path)


def find_learning_rate(
    trainer: Trainer | Sequential,
    X: Any,
    y: Any = None,
    *,
    loss: str | Loss = "cross_entropy",
    optimizer: str | Optimizer = "adam",
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 100,
    batch_size: int = 128,
    **options: Any,
) -> LearningRateCurve:
    """Train a copy for `steps` steps at rates that rise exponentially from `low` to `high`; its losses are the curve.

    η_i = low·(high/low)^(i/(steps − 1)). It ends before where a step diverges, or where the smoothed loss s_i (the
    bias-corrected moving average, factor 0.98) is four times its smallest. `trainer` stays exactly as it is: weights,
    optimizer and random draws. Of a `Sequential`, `loss` and `optimizer` are those of its `Trainer`. X, y, batch_size
    and other `options` (sample_weight, class_weight, micro_batch_size, memory_limit, ...) are those of `Trainer.fit`.
    The copy takes as much memory as the network does.

    Raises ValueError where the loss diverges in the first ten steps. Source: Smith (2017), "Cyclical Learning Rates";
    the suggestions are those of PyTorch Lightning (steepest) and, but for where in the valley, of fastai.

    >>> import numpy as np, fcnn_gpu as fcnn
    >>> X = np.random.default_rng(0).normal(size=(256, 4))
    >>> model = fcnn.Sequential([fcnn.Dense(16, activation="relu"), fcnn.Dense(1)], n_in=4, seed=0, backend="numpy")
    >>> curve = fcnn.find_learning_rate(model, X, X.sum(axis=1), loss="mse", batch_size=32)
    >>> 1e-4 < curve.suggestion < 1.0
    True
    """
    low = check_real("find_learning_rate(low)", low, low=0.0, low_open=True)
    high = check_real("find_learning_rate(high)", high, low=low, low_open=True)
    steps = check_integer("find_learning_rate(steps)", steps, low=2 * _FEWEST)
    for name in ("epochs", "callbacks", "validation_data", "validation_split", "progress"):
        if name in options:
            raise TypeError(f"find_learning_rate takes no {name}: its run is one of {steps} steps. Leave it out.")
    if isinstance(trainer, Sequential):
        twin = Trainer(copy.deepcopy(trainer), loss, copy.deepcopy(optimizer))
    elif isinstance(trainer, Trainer):
        twin = copy.deepcopy(trainer)
    else:
        raise TypeError(f"find_learning_rate expects a Trainer or a Sequential, got {type(trainer).__name__}.")
    if isinstance(twin.optimizer, LBFGS):
        raise TypeError("find_learning_rate: LBFGS searches the length of each step itself. Take another optimizer.")
    twin.metrics = []
    watch = _Watch(steps)
    twin.optimizer.learning_rate = _Rise(twin, low, high, steps)
    try:
        history = twin.fit(X, y, epochs=steps, batch_size=batch_size, callbacks=[watch], progress=False, **options)
        if history.stopped_by == "interrupt":
            raise KeyboardInterrupt("find_learning_rate was interrupted.")
    except (_EnoughError, DivergenceError):
        pass
    n = len(watch.losses)
    if n < _FEWEST:
        raise ValueError(
            f"find_learning_rate: the loss diverged in step {n + 1}, at the rate {_rate(low, high, steps, n):.3g}: "
            f"too soon for a suggestion. Begin with a smaller rate than low={low:g}, or scale X and y."
        )
    rates = np.array([_rate(low, high, steps, i) for i in range(n)])
    return LearningRateCurve(rates, np.array(watch.losses), np.array(watch.smoothed))


def _rate(low: float, high: float, steps: int, i: int) -> float:
    return low * (high / low) ** min(1.0, i / (steps - 1))


class _EnoughError(Exception):
    """The curve is complete: the run ends in the middle of its epoch."""


@dataclass
class _Rise(Schedule):
    """η_i of the run's step i."""

    name: ClassVar[str] = "rise"
    trainer: Trainer = field(repr=False)
    low: float
    high: float
    steps: int

    def __call__(self, epoch: float, n_epochs: float) -> float:
        return _rate(self.low, self.high, self.steps, round(epoch * self.trainer.steps_per_epoch))


class _Watch(Callback):
    """The loss of each step, and its smoothed mean; ends the run when there is enough of them."""

    def __init__(self, steps: int) -> None:
        self._steps, self._mean = steps, 0.0
        self.losses: list[float] = []
        self.smoothed: list[float] = []

    def on_step(self, trainer: Trainer, step: int, read_loss: Callable[[], float]) -> None:
        loss = read_loss()
        self._mean = _SMOOTHING * self._mean + (1.0 - _SMOOTHING) * loss
        smoothed = self._mean / (1.0 - _SMOOTHING**step)
        best = min(self.smoothed, default=math.inf)
        if step > _FEWEST and smoothed > best + (_WORSE - 1.0) * abs(best):
            raise _EnoughError
        self.losses.append(loss)
        self.smoothed.append(smoothed)
        if step == self._steps:
            raise _EnoughError
