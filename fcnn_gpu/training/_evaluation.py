"""A data set evaluated whole: its data loss, the network's outputs, and what metrics say of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .._types import Array, HostArray
from ..backend import Replay, consists_of_primitives
from ..data import ArraySupply, ChunkStream, Samples, SourceSupply, Stretch, mean_over_members, restored
from ..losses import Loss
from ..metrics import Metric, measure
from ..model import Sequential
from ._scores import Scores

EVALUATION_BATCH = 1024


class EvaluationData:
    """A data set that is evaluated whole, in order, at inference: on the device or, with a `window`, streamed to it.

    `window` samples are on the device at a time; a source always streams.
    """

    def __init__(self, model: Sequential, samples: ArraySupply | SourceSupply, window: int | None = None) -> None:
        ops = model.ops
        self._model = model
        self.targets_host = samples.targets if isinstance(samples, ArraySupply) else None
        """All targets, or None for a source."""
        self.weights_host = samples.sample_weight if isinstance(samples, ArraySupply) else None
        """Their weights, if they have any."""
        self.n_samples = len(samples)
        batch = min(EVALUATION_BATCH, self.n_samples)
        self.batch = batch
        """Samples that are computed on at a time: as many, or fewer."""
        self._stream: ChunkStream | None = None
        self._supply = samples
        if window is None and isinstance(samples, ArraySupply):
            weight = None if samples.sample_weight is None else ops.asarray(samples.sample_weight)
            self._samples = Samples(samples.X.on_model(), ops.asarray(samples.targets), weight)
            self._window = self.n_samples
        else:
            window = batch if window is None else window
            self._stream = ChunkStream(ops, samples, window)
            self._samples = self._stream.on_device(0)
            self._window = min(window, self.n_samples)
        self._losses = ops.empty(batch, model.dtype)
        self._gradient = ops.empty(batch * model.n_out, model.compute_dtype)
        self._total = ops.zeros(1, np.float64)
        self._outputs: Array | None = None
        self._tails: dict[int, _Tail] = {}

    def run(
        self, loss: Loss, read: Callable[[Array], HostArray] | None, scores: Scores | None = None
    ) -> tuple[float, HostArray | None]:
        """(mean data loss, what `read` makes of the raw outputs (n, n_outputs) of the device, for all samples).

        `read` is given the outputs of as many samples as are on the device at a time, which it may overwrite. None:
        nobody needs them. What a data set that streams makes goes to `scores`, with the targets, and not to the caller.
        """
        model, ops = self._model, self._model.ops
        ops.fill(self._total, 0.0)
        if read is not None and self._outputs is None:
            self._outputs = ops.empty((self._window, model.n_out), model.dtype)
        whole: HostArray | None = None
        with self._visit() as stretches:
            for stretch in stretches:
                samples = self._samples if self._stream is None else self._stream.on_device(stretch.part)
                self._evaluate(samples.front(stretch.n), loss, None if read is None else self._outputs)
                if read is not None and self._outputs is not None:
                    part = read(self._outputs[: stretch.n])
                    if self._stream is None:
                        whole = part
                    elif scores is not None:  # the next chunk's outputs take the place of these
                        read_in = self._stream.on_host(stretch.part).front(stretch.n)
                        scores.add(stretch.first, read_in.targets, part, read_in.sample_weight)
        if isinstance(self._supply, SourceSupply):
            self._supply.check_what_was_read()
        return float(ops.to_numpy(self._total)[0]) / self.n_samples, whole

    @property
    def streams(self) -> bool:
        """Whether only some of the samples are on the device at a time."""
        return self._stream is not None

    @contextmanager
    def _visit(self) -> Iterator[Iterator[Stretch]]:
        if self._stream is None:
            yield iter([Stretch(0, 0, self.n_samples)])
        else:
            with self._stream.visit(self._supply.order(0, 0, False), self.n_samples) as stretches:
                yield stretches

    def _evaluate(self, samples: Samples, loss: Loss, outputs: Array | None) -> None:
        """Add the losses of these samples to the total, batch by batch."""
        model, ops = self._model, self._model.ops
        n = len(samples.X)
        size = model.inference_batch(self.batch)
        for start in range(0, n, size):
            part = slice(start, min(start + size, n))
            X = samples.X[part]
            batch = len(X)
            Z = model.outputs_of(X)
            known = self._tails.get(start)
            state = Z, loss, batch, model.n_changes + loss.n_changes, outputs is None
            if known is not None and known.is_of(state):
                known.run()
                continue
            weight = None if samples.sample_weight is None else samples.sample_weight[part]
            dZ = self._gradient[: batch * model.n_out].reshape(batch, model.n_out).T
            tail = functools.partial(
                self._add, loss, Z, samples.targets[part], weight, self._losses[:batch], dZ, outputs, part
            )
            tail()
            if self._stream is None and ops.captures_over and consists_of_primitives(loss):
                self._tails[start] = _Tail(state, ops.capture(tail))

    def _add(
        self,
        loss: Loss,
        Z: Array,
        targets: Array,
        weight: Array | None,
        losses: Array,
        dZ: Array,
        outputs: Array | None,
        part: slice,
    ) -> None:
        """The losses of a batch to the total, and its outputs to those of all samples."""
        ops = self._model.ops
        loss.compute(ops, Z, targets, weight, losses, dZ)
        ops.accumulate_sum(losses, self._total)
        if outputs is not None:
            ops.cast(Z.T, outputs[part])


_State: TypeAlias = tuple[Array, Loss, int, int, bool]


@dataclass(frozen=True)
class _Tail:
    """What comes after a batch's outputs, as a program where the outputs lie in the same place as before.

    `state`: where they lie, the loss, how many samples they are of, what was changed of settings, whether nobody reads
    them.
    """

    state: _State
    run: Replay

    def is_of(self, state: _State) -> bool:
        Z, loss, *others = state
        return self.state[0] is Z and self.state[1] is loss and list(self.state[2:]) == others


@dataclass
class Evaluator:
    """What a loss and metrics say of a network."""

    model: Sequential
    loss: Loss
    metrics: Sequence[Metric]

    def measure(self, data: EvaluationData) -> dict[str, float]:
        """{"loss": ..., metric: ...} of a data set at inference."""
        self.model.refresh_low_precision()
        targets = data.targets_host
        center = self.model.prediction_center
        scores = Scores(self.metrics, data.n_samples, center) if self.metrics and data.streams else None
        loss, predictions = data.run(self.loss, self.metric_inputs if self.metrics else None, scores)
        if scores is not None:
            return {"loss": loss} | scores.values()
        result = {"loss": loss}
        if predictions is not None and targets is not None:
            targets = restored(targets, center)
            weights = data.weights_host
            result |= {metric.label: measure(metric, targets, predictions, weights) for metric in self.metrics}
        return result

    def metric_inputs(self, outputs: Array) -> HostArray:
        """Raw outputs (n, n_outputs) of the device, on the host, as the metrics need them; in place.

        That is through the link, but for a softmax in front of metrics that read ranks alone: it changes no rank, but
        for that of a mean over members. With an output center they are float64.
        """
        ranks_alone = self.loss.members == 1 and all(metric.reads_ranks_alone for metric in self.metrics)
        if self.loss.link != "softmax" or not ranks_alone:
            self.model.apply_link(outputs.T, self.loss.link)
        predictions = mean_over_members(self.model.ops.to_numpy(outputs), self.loss.members)
        return restored(predictions, self.model.prediction_center)
