"""What a trainer's samples become: data on the device, or a stream through it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend import available_memory
from ..data import ArraySupply, DataSet, DataSupply, DeviceData, Need, SparseFeatures, StreamedData, plan
from ..losses import Loss
from ..metrics import Metric
from ..model import Sequential
from ..optimizers import Optimizer
from ._evaluation import EVALUATION_BATCH, EvaluationData


class Feed:
    """Decides which samples stay on the device, and makes what a run or an evaluation reads."""

    def __init__(self, model: Sequential, loss: Loss, optimizer: Optimizer, metrics: Sequence[Metric]) -> None:
        self._model, self._loss, self._optimizer, self._metrics = model, loss, optimizer, metrics

    def windows(
        self,
        train: DataSupply | None,
        held_out: DataSupply | None,
        batch_size: int,
        limit: int | None,
        shuffle: bool = False,
        micro_batch_size: int | None = None,
    ) -> tuple[int | None, int | None]:
        """Samples of a chunk of each of the two data sets; None for one that stays on the device, or is not there."""
        model = self._model
        outputs = model.n_out * model.dtype.itemsize if self._metrics else 0
        order = np.dtype(np.int64).itemsize
        free = model.ops.free_memory()
        on_host = free is None
        sets: list[DataSet] = []
        if train is not None:
            sets.append(DataSet.of(train, batch_size, order, outputs, on_host, shuffle, self._metrics))
        if held_out is not None:
            sets.append(DataSet.of(held_out, EVALUATION_BATCH, 0, outputs, on_host, False, self._metrics))

        def need() -> Need:
            from ._rehearsal import memory_report

            training = None
            if train is not None:
                options: dict[str, Any] = {"loss": self._loss, "micro_batch_size": micro_batch_size}
                options["is_sparse"] = _is_sparse(train)
                training = memory_report(model, batch_size, self._optimizer, **options)
            inference = None
            if held_out is not None:
                inference = memory_report(model, sets[-1].batch, training=False, is_sparse=_is_sparse(held_out))
            return Need.of(training, inference, model.share_workspace)

        who = "fit(memory_limit)" if train is not None else "evaluate(memory_limit)"
        host_free = None if free is None else available_memory()
        windows = iter(plan(sets, limit, free, need, who, host_free))
        return (None if train is None else next(windows)), (None if held_out is None else next(windows))

    def training(self, samples: DataSupply, batch_size: int, window: int | None) -> DeviceData | StreamedData:
        """What a run trains on, in batches; `window` as `windows` gives it. ValueError for NaN and infinity."""
        ops, inputs = self._model.ops, self._model.input_map
        if isinstance(samples, ArraySupply):
            if window is None:
                return DeviceData(ops, samples.X.on_model(), samples.targets, samples.sample_weight, batch_size, inputs)
            samples.streamed_X.check()
        return StreamedData(ops, samples, batch_size, batch_size if window is None else window, inputs)

    def evaluation(self, samples: DataSupply, window: int | None) -> EvaluationData:
        """The same for what is evaluated whole."""
        if isinstance(samples, ArraySupply) and window is not None:
            samples.streamed_X.check()
        return EvaluationData(self._model, samples, window)


def _is_sparse(samples: DataSupply) -> bool:
    return isinstance(samples, ArraySupply) and isinstance(samples.X, SparseFeatures)
