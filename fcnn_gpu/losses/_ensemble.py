"""The loss of several networks side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._checks import check_integer
from .._types import Array, HostArray
from ..backend import Ops
from ..metrics import Task
from ._base import LOSSES, Loss


@dataclass
class EnsembleLoss(Loss):
    """ℓ_j = (1/k) Σ_g w_jg ℓ(z_gj, y_j): the mean of a loss of each member of an ensemble, never that of their mean.

    The weights w_jg are those of `sample_weight` where it is (batch, k), one for each sample and member; otherwise the
    sample's, or 1. A weight of 0 leaves a sample out for one member: folds, or a bootstrap sample for each. So every
    member learns by itself (Gorishniy et al. 2024, "TabM", section 3.2). Outputs are those of k `members` one behind
    the other, (batch, k·n_outputs), as `DenseEnsemble` gives them; targets are those of `loss`, a name or a `Loss`.
    Gradient: ∂L/∂z_g is that of `loss` over k, by one call for k·batch samples. The link is that of `loss`, and
    predictions are the mean of the members' predictions, (batch, n_outputs).
    """

    loss: Any
    members: int

    def __post_init__(self) -> None:
        self.loss = LOSSES.resolve(self.loss)
        if isinstance(self.loss, EnsembleLoss):
            raise ValueError(f"EnsembleLoss(loss) expects the loss of one member, got {self.loss!r}.")
        self.members = check_integer("EnsembleLoss(members)", self.members, low=1)

    @property
    def name(self) -> str:  # type: ignore[override]
        """That of the members' loss, for messages."""
        return f"the ensemble's {self.loss.name}"

    @property
    def link(self) -> str:  # type: ignore[override]
        """The members'."""
        return str(self.loss.link)

    @property
    def outputs_per_target(self) -> int:
        return int(self.loss.outputs_per_target)

    @property
    def predicts_values(self) -> bool:
        return bool(self.loss.predicts_values)

    @property
    def predicts_probabilities(self) -> bool:
        return bool(self.loss.predicts_probabilities)

    @property
    def n_changes(self) -> int:
        return self._n_changes + int(self.loss.n_changes)

    @property
    def takes_loss_scale(self) -> bool:
        return bool(self.loss.takes_loss_scale)

    def check_loss_scale(self) -> None:
        self.loss.check_loss_scale()

    def task(self, n_outputs: int) -> Task:
        return self.loss.task(n_outputs // self.members)

    def check_outputs(self, n_outputs: int) -> None:
        if n_outputs % self.members:
            raise ValueError(
                f"EnsembleLoss expects the outputs of {self.members} members, and a network with {n_outputs} outputs "
                f"does not have those. End it with DenseEnsemble(n_outputs, members={self.members})."
            )
        self.loss.check_outputs(n_outputs // self.members)

    def weights_of(self, targets: HostArray) -> HostArray | None:
        return self.loss.weights_of(targets)

    def prepare_targets(self, y: Any, n_outputs: int, dtype: Any) -> HostArray:
        return self.loss.prepare_targets(y, n_outputs // self.members, dtype)

    def compute(
        self,
        ops: Ops,
        Z: Array,
        targets: Array,
        sample_weight: Array | None,
        losses: Array,
        dZ: Array,
        loss_scale: Array | None = None,
    ) -> None:
        k, batch = self.members, Z.shape[1]
        n = Z.shape[0] // k
        weights = sample_weight
        if sample_weight is not None:  # those of each member lie as its samples do
            of_each = sample_weight.ndim == 2
            weights = sample_weight.reshape(batch * k) if of_each else self._for_each(ops, "weights", sample_weight)
        given = Z.T.reshape(batch * k, n).T, self._for_each(ops, "targets", targets), weights
        of_members = ops.scratch("losses of members", batch * k, losses.dtype)
        gradient = dZ.T.reshape(batch * k, n).T  # over k·batch samples, so 1/k is in it
        if loss_scale is None:
            self.loss.compute(ops, *given, of_members, gradient)
        else:
            self.loss.compute(ops, *given, of_members, gradient, loss_scale)
        ops.sum_repeats(of_members.reshape(batch, k).T, losses.reshape(batch, 1).T)
        ops.scale(losses, 1.0 / k, losses)

    def _for_each(self, ops: Ops, what: str, x: Array) -> Array:
        """x (batch,) or (batch, n) with each row k times, one behind the other."""
        k, batch = self.members, x.shape[0]
        as_moved = x.view(np.float64) if x.dtype == np.int64 else x  # eight bytes either way
        n = x.size // batch if batch else 0
        repeated = ops.scratch(f"{what} of members", x.size * k, as_moved.dtype)
        ops.repeat_units(as_moved.reshape(batch, n).T, repeated.reshape(batch, k * n).T)
        return repeated.view(x.dtype).reshape(batch * k, *x.shape[1:])
