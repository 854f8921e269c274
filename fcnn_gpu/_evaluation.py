"""A data set evaluated whole: its data loss and the network's outputs."""

from __future__ import annotations

import numpy as np

from ._types import Array, HostArray
from .losses import Loss
from .model import Sequential

_EVALUATION_BATCH = 1024


class EvaluationData:
    """A data set on the device that is evaluated whole, in order, at inference."""

    def __init__(self, model: Sequential, X: Array, targets: HostArray, sample_weight: HostArray | None) -> None:
        ops = model.ops
        self._model = model
        self.targets_host = targets
        self._X, self._targets = ops.asarray(X), ops.asarray(targets)
        self._weight = None if sample_weight is None else ops.asarray(sample_weight)
        batch = min(_EVALUATION_BATCH, len(X))
        self._batch = batch
        self._losses = ops.empty(batch, model.dtype)
        self._gradient = ops.empty(batch * model.n_out, model.dtype)
        self._total = ops.zeros(1, np.float64)
        self._inputs = None if model.input_map.leaves(self._X) else ops.empty((batch, model.n_in), model.dtype)
        self._outputs: Array | None = None

    def run(self, loss: Loss, keep_outputs: bool) -> tuple[float, Array | None]:
        """(mean data loss, raw outputs (n_samples, n_outputs) on the device or, where nobody needs them, None)."""
        model, ops = self._model, self._model.ops
        ops.fill(self._total, 0.0)
        n_samples = len(self._X)
        if keep_outputs and self._outputs is None:
            self._outputs = ops.empty((n_samples, model.n_out), model.dtype)
        outputs = self._outputs if keep_outputs else None
        for start in range(0, n_samples, self._batch):
            part = slice(start, min(start + self._batch, n_samples))
            X = model.input_map.apply(ops, self._X[part], self._inputs)
            batch = len(X)
            Z = model.forward_pass(X.T, model.batch_arrays(batch, training=False), training=False)
            weight = None if self._weight is None else self._weight[part]
            dZ = self._gradient[: batch * model.n_out].reshape(batch, model.n_out).T
            loss.compute(ops, Z, self._targets[part], weight, self._losses[:batch], dZ)
            ops.accumulate_sum(self._losses[:batch], self._total)
            if outputs is not None:
                ops.assign(outputs[part], Z.T)
        return float(ops.to_numpy(self._total)[0]) / n_samples, outputs
