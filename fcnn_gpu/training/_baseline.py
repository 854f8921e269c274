"""The loss of a network that says the same of every sample, and a warning for runs that end far above it."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from .._types import DType, HostArray
from .._warnings import warn
from ..backend import consists_of_primitives, resolve_backend
from ..data import ArraySupply, DataSupply
from ..losses import Loss
from .history import History

_MOST_SAMPLES = 1000
"""Of which the loss is taken."""
_FEWEST_EPOCHS = 10
_FAR = 10.0
"""So many times the loss of zeros is lost."""


class DivergenceWarning(UserWarning):
    """A run of ten epochs or more ended with a loss more than ten times that of a network whose outputs are all 0.

    Training diverged, but to finite numbers: `DivergenceError` is raised for others. Or inputs or targets are so far
    from unit scale that the network had not come back from its first outputs. For the weights of an earlier epoch, put
    back by a callback, that epoch's loss counts. Nothing is said of sources, whose targets are not at hand, and of
    losses that a user has written.
    """


def loss_of_constant(
    loss: Loss, outputs: HostArray, targets: HostArray, sample_weight: HostArray | None = None
) -> float:
    """The mean loss of at most 1000 of the samples where each has these raw outputs (n_outputs,).

    `targets` and weights as they are trained on.
    """
    step = -(-len(targets) // _MOST_SAMPLES)
    y = np.ascontiguousarray(targets[::step])
    weight = None if sample_weight is None else np.ascontiguousarray(sample_weight[::step])
    ops, dtype = resolve_backend("numpy"), outputs.dtype
    Z, dZ = ops.matrix(len(outputs), len(y), dtype), ops.matrix(len(outputs), len(y), dtype)
    Z[...] = outputs[:, None]
    losses = ops.empty(len(y), dtype)
    copy.copy(loss).compute(ops, Z, y, weight, losses, dZ)
    return float(losses.mean(dtype=np.float64))


def warn_if_diverged(
    history: History, losses: Sequence[float], loss: Loss, train: DataSupply, n_out: int, dtype: DType
) -> None:
    """`DivergenceWarning` where the run that has ended deserves it; `losses` are those that its epochs trained on."""
    if len(history) < _FEWEST_EPOCHS or not isinstance(train, ArraySupply) or not consists_of_primitives(loss):
        return
    kept = -1 if history.best_epoch is None else history.best_epoch - 1
    nothing = loss_of_constant(loss, np.zeros(n_out, dtype), train.targets, train.sample_weight)
    if 0.0 < _FAR * nothing < losses[kept]:
        rate = history.records[kept]["learning_rate"]
        warn(
            f"Training ended with a loss of {losses[kept]:.3g}, and a network whose outputs are all 0 has one of "
            f"{nothing:.3g}: it diverged, though all numbers are finite. Try a smaller learning rate (it was {rate:g}),"
            " an optimizer that clips gradients, or inputs and targets scaled to mean 0 and variance 1.",
            DivergenceWarning,
        )
