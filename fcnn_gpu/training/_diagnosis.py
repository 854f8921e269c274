"""Where a network's numbers stopped being finite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._types import Array
from ..backend import SparseColumns
from ..placement import is_finite

if TYPE_CHECKING:
    from ._step import Pass, TrainingStep


class DivergenceError(ArithmeticError):
    """Training met a loss, a gradient or an update that is NaN or infinite. The model holds the weights from before it.

    Unless `EarlyStopping(restore_best=True)` put back those of its best epoch. On a GPU, which is asked for failures a
    few times a second, the running statistics of batch normalization are those of the last time that all was well.

    Attributes: `epoch` and `step` (of the epoch), both from 1; `fault`, the first offender.
    """

    def __init__(self, epoch: int, step: int, fault: str, learning_rate: float) -> None:
        super().__init__(
            f"Training diverged in epoch {epoch}, step {step}: {fault}. The weights from before that step are kept. "
            f"Try a smaller learning rate (it was {learning_rate:g}), an optimizer that clips gradients, such as "
            "Adam(clip_norm=1.0), or scaled inputs."
        )
        self.epoch, self.step, self.fault = epoch, step, fault


def find_fault(step: TrainingStep, batch: int, first: int) -> str:
    """The first place, in the order of computation, where a step over the batch at position `first` is not finite."""
    model, passes = step.model, step.passes(batch)
    model.ops.advance(model.random_step, 1)
    step.begin(passes)
    for one in passes:
        step.data.gather_at(first + one.first, one.views)
        fault = _fault_of_pass(step, one)
        if fault is not None:
            return fault
    return "the sum of the losses or the norm of the gradient overflows, though each number in it is finite"


def _fault_of_pass(step: TrainingStep, one: Pass) -> str | None:
    model, ops = step.model, step.model.ops

    def finite(x: Array) -> bool:
        return is_finite(ops, x)

    A0 = Z = one.views.X.T
    if not isinstance(A0, SparseColumns) and not finite(A0):
        return f"the network's input, {model.input_map}, is not finite, though X is"
    one.arrays.part.first = one.first
    for layer, Z in model.each_output(A0, one.arrays):
        if not finite(Z):
            return f"the output of layer {layer.path}, {layer}, is not finite"
    step.compute_loss(one, Z)
    if not finite(one.losses):
        return f"the loss {step.loss.name} is not finite, though all layers' outputs are"
    step.backward(one)
    for layer in reversed(list(model.walk())):
        for parameter in layer.parameters():
            if not parameter.frozen and not is_finite(ops, parameter.gradient):
                return f"the gradient of {parameter.name} in layer {layer.path}, {layer}, is not finite"
    return None
