"""Where a network's numbers stopped being finite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._types import Array

if TYPE_CHECKING:
    from .data import BatchViews
    from .losses import Loss
    from .model import Sequential


class DivergenceError(ArithmeticError):
    """Training met a loss or gradient that is NaN or infinite. The model holds the weights from before that step.

    Unless `EarlyStopping(restore_best=True)` put back those of its best epoch. On a GPU, which is asked for failures a
    few times a second, the running statistics of batch normalization are those of the last time that all was well.

    Attributes: `epoch` and `step` (of the epoch), both from 1; `fault`, the first offender.
    """

    def __init__(self, epoch: int, step: int, fault: str, learning_rate: float) -> None:
        super().__init__(
            f"Training diverged in epoch {epoch}, step {step}: {fault}. The weights from before that step are kept. "
            f"Try a smaller learning rate (it was {learning_rate:g}), clip_norm=1.0, or scaled inputs."
        )
        self.epoch, self.step, self.fault = epoch, step, fault


def find_fault(model: Sequential, loss: Loss, views: BatchViews, losses: Array, loss_scale: Array | None) -> str:
    """The first place, in the order of computation, where the training pass over this batch is not finite."""
    scaling = {} if loss_scale is None else {"loss_scale": loss_scale}
    ops = model.ops

    def finite(x: Array) -> bool:
        return bool(np.isfinite(ops.to_numpy(x)).all())

    arrays = model.batch_arrays(views.X.shape[0], training=True)
    ops.advance(model.random_step, 1)
    A = views.X.T
    if not finite(A):
        return f"the network's input, {model.input_map}, is not finite, though X is"
    for layer, cache in zip(model.layers, arrays.caches, strict=True):
        A = layer.forward(A, cache, True)
        if not finite(A):
            return f"the output of layer {layer.path}, {layer}, is not finite"
    loss.compute(ops, A, views.targets, views.sample_weight, losses, arrays.output_gradient, **scaling)
    if not finite(losses):
        return f"the loss {loss.name} is not finite, though all layers' outputs are"
    model.backward_pass(arrays)
    for layer in reversed(list(model.walk())):
        for parameter in layer.parameters():
            if not finite(parameter.gradient):
                return f"the gradient of {parameter.name} in layer {layer.path}, {layer}, is not finite"
    return "the sum of the losses or the norm of the gradient overflows, though each number in it is finite"
