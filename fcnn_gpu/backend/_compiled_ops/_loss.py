"""Losses with their gradients."""

from __future__ import annotations

from ..._types import Array
from .._ops import ELEMENTWISE_LOSSES
from ._array import CompiledArrays


class CompiledLoss(CompiledArrays):
    def softmax_cross_entropy(
        self,
        Z: Array,
        targets: Array,
        class_weight: Array | None,
        sample_weight: Array | None,
        label_smoothing: float,
        losses: Array,
        dZ: Array,
        loss_scale: Array | None = None,
        relative: bool = False,
        gamma: float = 0.0,
    ) -> None:
        are_labels = targets.ndim == 1
        self._issue(
            "softmax_cross_entropy",
            Z.dtype,
            batch=Z.shape[1],
            n=Z.shape[0],
            label_smoothing=label_smoothing,
            relative=relative,
            gamma=gamma,
            Z=Z,
            labels=targets if are_labels else None,
            Y=None if are_labels else targets,
            class_weight=class_weight,
            sample_weight=sample_weight,
            loss_scale=loss_scale,
            losses=losses,
            dZ=dZ,
        )

    def elementwise_loss(
        self,
        Z: Array,
        Y: Array,
        kind: str,
        delta: float,
        sample_weight: Array | None,
        losses: Array,
        dZ: Array,
        loss_scale: Array | None = None,
        output_weight: Array | None = None,
        of_output: Array | None = None,
    ) -> None:
        self._issue(
            "elementwise_loss",
            Z.dtype,
            batch=Z.shape[1],
            n=Z.shape[0],
            kind=ELEMENTWISE_LOSSES.index(kind),
            delta=delta,
            Z=Z,
            Y=Y,
            output_weight=output_weight,
            of_output=of_output,
            sample_weight=sample_weight,
            loss_scale=loss_scale,
            losses=losses,
            dZ=dZ,
        )

    def accumulate_sum(self, x: Array, total: Array) -> None:
        self._issue("sum", x.dtype, n=x.size, accumulate=True, x=x, total=total)
