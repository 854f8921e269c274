"""Losses fused with their gradients."""

from __future__ import annotations

from ..._types import Array
from ._device import DeviceOps


class LossKernels(DeviceOps):
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
        labels, matrix = (targets, None) if targets.ndim == 1 else (None, targets)
        arguments = [Z, labels, matrix, class_weight, sample_weight, loss_scale, losses, dZ]
        stem = "softmax_cross_entropy"
        self._per_sample(stem, stem, (Z.dtype,), Z, arguments, scalars=[label_smoothing, relative, gamma])

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
        arguments = [Z, Y, output_weight, of_output, sample_weight, loss_scale, losses, dZ]
        stem = "elementwise_loss"
        self._per_sample(stem, stem, (Z.dtype, kind.upper()), Z, arguments, scalars=[delta], held=False)

    def accumulate_sum(self, x: Array, total: Array) -> None:
        self._launcher.launch("check_finite", "accumulate_sum", (x.dtype,), [x.size, x, total], blocks=1)
