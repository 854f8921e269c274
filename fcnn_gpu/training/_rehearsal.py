"""How much memory training or inference will take, before any of it is allocated: a step over arrays without memory."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .._checks import check_bool, check_integer
from .._types import DType
from ..backend import FlatParameters, LossScaling, Meter, SparseRows, quiet_arithmetic, shadow_ops
from ..data import DeviceData, Intake, Signature, SparseFeatures, bytes_of_stream, data_set_of, features_of
from ..datasets import BlockSource
from ..layers import Layer
from ..losses import LOSSES, EnsembleLoss, Loss
from ..memory import KINDS, MemoryReport
from ..metrics import METRICS, Metric
from ..model import Sequential, check_recompute
from ..optimizers import OPTIMIZERS, Optimizer
from ..placement import shadow_stored
from ..schedules import Constant
from ._evaluation import EVALUATION_BATCH
from ._micro_batches import check_split
from ._step import TrainingStep, copies_of_state, settings_of

_LOSS_OF_LINK = {"softmax": "cross_entropy", "sigmoid": "binary_cross_entropy", "identity": "mse", "exp": "poisson"}


def memory_report(
    model: Sequential,
    batch_size: int,
    optimizer: str | Optimizer = "adam",
    training: bool = True,
    *,
    loss: str | Loss | None = None,
    data: Any = None,
    metrics: Sequence[str | Metric | Callable[..., float]] = (),
    micro_batch_size: int | None = None,
    recompute: bool | int | None = None,
    validation: int | None = None,
    is_sparse: bool = False,
) -> MemoryReport:
    """The bytes that `model` takes in batches of this size; nothing is allocated. See `Sequential.memory_report`.

    `is_sparse`: in batches of sparse samples, where no data set says so.
    """
    batch_size = check_integer("memory_report(batch_size)", batch_size, low=1)
    check_bool("memory_report(training)", training)
    if micro_batch_size is not None:
        micro_batch_size = check_integer("memory_report(micro_batch_size)", micro_batch_size, low=1)
        check_split(model, batch_size, micro_batch_size, "memory_report")
    if isinstance(metrics, str | Metric) or not isinstance(metrics, Sequence):
        raise TypeError(f"memory_report(metrics) expects a list, got {metrics!r}.")
    if validation is not None:
        validation = check_integer("memory_report(validation)", validation, low=1)
    if recompute is not None:
        recompute = check_recompute("memory_report(recompute)", recompute)
    source: Any = None
    meter = Meter(on_device=model.ops.asynchronous)
    with quiet_arithmetic():
        if training:
            model.check_batch(batch_size)
            chosen = _loss(model, loss)
            if isinstance(data, BlockSource):
                source, data = (
                    Intake(model, chosen, 0).prepare(data, None, None, "memory_report(data)", checks_digits=False),
                    None,
                )
            run = _Training(
                copy.copy(OPTIMIZERS.resolve(optimizer)),
                chosen,
                [METRICS.resolve(metric) for metric in metrics],
                _data_set(model, chosen, batch_size if data is None else data, is_sparse),
                data is not None,
                micro_batch_size,
                validation,
            )
            held = run.step(_shadow_model(model, meter, recompute), meter, batch_size)
        else:
            held = _infer(_shadow_model(model, meter), meter, batch_size, is_sparse)
    sizes = {kind: meter.bytes(kind) for kind in (*KINDS, "host", "disk", "page_locked")}
    del held  # alive until here: what it holds is what is counted
    sizes["page_locked"] += model.ops.page_locked_bytes
    if source is not None:
        on_device, chunks, reading = bytes_of_stream(source, model, batch_size, run.metrics)
        sizes["data"] += on_device
        sizes["host"] += reading
        sizes["page_locked"] += chunks
    sizes["host"] += sizes["page_locked"]
    return MemoryReport(model.ops.describe(), batch_size, training, **sizes, micro_batch_size=micro_batch_size)


def _loss(model: Sequential, loss: str | Loss | None) -> Loss:
    """The loss named, or the one that the model was trained with, or the one that fits its outputs."""
    if loss is None:
        loss = _LOSS_OF_LINK.get(model.link or "", "cross_entropy" if model.n_predictions > 1 else "mse")
        loss = loss if model.members == 1 else EnsembleLoss(loss, model.members)
    resolved = copy.copy(LOSSES.resolve(loss))
    resolved.check_outputs(model.n_out)
    return resolved


@dataclass(frozen=True)
class _DataSet:
    """What of a data set decides how much memory it takes."""

    n_samples: int
    stored: DType
    labels: bool
    weighted: bool
    members: int = 1
    weights_of_each: bool = False
    """Whether there is a weight for each sample and member."""
    n_values: int | None = None
    """Of sparse samples, how many numbers are kept of them."""

    def of(self, n_samples: int) -> _DataSet:
        """One like it of so many samples, without weights."""
        n_values = None if self.n_values is None else -(-self.n_values * n_samples // self.n_samples)
        return replace(self, n_samples=n_samples, weighted=False, n_values=n_values)

    def on(self, model: Sequential, meter: Meter, batch_size: int) -> DeviceData:
        """Shadows of it on the device."""
        return DeviceData(model.ops, *self.arrays(model, meter), batch_size, model.input_map)

    def arrays(self, model: Sequential, meter: Meter) -> tuple[Any, Any, Any]:
        """Shadows of features, targets and weights or None."""
        n = self.n_samples
        X: Any
        if self.n_values is None:
            X = meter.array((n, model.n_in), self.stored)
        else:
            X = _sparse(model, meter, n, self.n_values)
        targets: Any = (
            meter.array(n, np.int64) if self.labels else meter.array((n, model.n_out // self.members), model.dtype)
        )
        shape = (n, self.members) if self.weights_of_each else n
        weight: Any = meter.array(shape, model.dtype) if self.weighted else None
        return X, targets, weight


def _sparse(model: Sequential, meter: Meter, n_samples: int, n_values: int) -> SparseRows:
    """Shadows of sparse samples of which so many numbers are kept."""
    values, columns = meter.array(n_values, model.dtype), meter.array(n_values, np.int32)
    return SparseRows(values, columns, meter.array((n_samples, 2), np.int64), model.n_in)


def _data_set(model: Sequential, loss: Loss, data: Any, is_sparse: bool) -> _DataSet:
    """`data` is (X, y), (X, y, sample_weight) or a number of samples."""
    labels = loss.link == "softmax"
    known = data_set_of(data, None, "memory_report")
    if known is not None:
        data = known.X_train, known.y_train
    if not isinstance(data, tuple | list):
        n = check_integer("memory_report(data)", data, low=1)
        return _DataSet(n, model.dtype, labels, False, loss.members, n_values=0 if is_sparse else None)
    if len(data) not in (2, 3):
        raise TypeError("memory_report(data) expects (X, y), (X, y, sample_weight) or a number of samples.")
    samples = features_of(model, data[0], "memory_report(data)", Signature())
    n_values = samples.n_values if isinstance(samples, SparseFeatures) else None
    has_labels, of_each = labels and np.ndim(data[1]) == 1, len(data) == 3 and np.ndim(data[2]) == 2
    return _DataSet(len(samples), samples.dtype, has_labels, len(data) == 3, loss.members, of_each, n_values)


@dataclass(frozen=True)
class _Training:
    """A training run to predict the memory of; `counts_data`: whether its data set was asked about."""

    optimizer: Optimizer
    loss: Loss
    metrics: list[Metric]
    data: _DataSet
    counts_data: bool
    micro_batch_size: int | None = None
    validation: int | None = None

    def step(self, model: Sequential, meter: Meter, batch_size: int) -> Any:
        """Run one step on a shadow model; returns what holds its arrays."""
        optimizer, loss = self.optimizer, self.loss
        with meter.kind("optimizer"):
            optimizer.bind(model)
            if model.precision == "float16":
                optimizer.control.loss_scaling = LossScaling.start(model.ops)
        with meter.kind("data"):
            data = self.data.on(model, meter, batch_size)
        size = data.batch_size if self.micro_batch_size is None else min(self.micro_batch_size, data.batch_size)
        with meter.kind("data"):
            views = data.views(size)
        _move(views.arrays(), "batch")
        with meter.kind("batch"):
            step = TrainingStep(
                model, loss, optimizer, data, bool(self.metrics), micro_batch_size=self.micro_batch_size
            )
            _ = step.guard  # which a run has made by then
            if not isinstance(optimizer.schedule, Constant):
                step.set_learning_rates(np.zeros(-(-data.n_samples // data.batch_size)))
        _move((step.outputs,), "data")
        with meter.kind("parameters"):
            kept = copies_of_state(model)
        with meter.kind("activations"):
            model.batch_arrays(size, True, data.batch_size, data.is_sparse)
        with meter.kind("data"):
            model.timetable.begin_run(settings_of(model, optimizer), -(-data.n_samples // data.batch_size), 1)
        step.program(data.batch_size)()
        undo = _copies_for_undoing(model, optimizer, meter)
        model.ops.penalty(model.flat, model.ops.zeros(1, np.float64))  # for the epoch's line of the history
        ranks_alone = loss.members == 1 and all(m.reads_ranks_alone for m in self.metrics)
        if step.outputs is not None and not (loss.link == "softmax" and ranks_alone):
            model.apply_link(step.outputs.T, loss.link)  # as Evaluator.metric_inputs does
        if not self.counts_data:
            samples = data.X.arrays() if data.is_sparse else (data.X,)
            _move((*samples, data.targets, data.sample_weight, data.order, step.outputs), "not asked about")
        return step, kept, undo, None if self.validation is None else self._evaluate(model, meter, self.validation)

    def _evaluate(self, model: Sequential, meter: Meter, n_samples: int) -> Any:
        """Evaluate so many samples as `EvaluationData` does; returns what holds its arrays."""
        ops, batch = model.ops, min(EVALUATION_BATCH, n_samples)
        with meter.kind("data"):
            samples = self.data.of(n_samples).arrays(model, meter)
            outputs = ops.empty((n_samples, model.n_out), model.dtype) if self.metrics else None
        with meter.kind("batch"):
            losses, gradient = ops.empty(batch, model.dtype), ops.empty(batch * model.n_out, model.compute_dtype)
            total = ops.zeros(1, np.float64)
        size = model.inference_batch(batch)
        with meter.kind("activations"):
            model.batch_arrays(size, training=False)
        X, targets, _ = samples
        Z = model.outputs_of(X[:size])
        dZ = gradient[: size * model.n_out].reshape(size, model.n_out).T
        self.loss.compute(ops, Z, targets[:size], None, losses[:size], dZ)
        ops.accumulate_sum(losses[:size], total)
        return samples, outputs, losses, gradient, total


def _copies_for_undoing(model: Sequential, optimizer: Optimizer, meter: Meter) -> list[Any]:
    """Where a step can be undone, copies of all that it changes in memory.

    So it is with weights on disk, and for updates of a user's own, of which nobody knows whether they overflow.
    """
    if model.stored is None and not optimizer.has_bound:
        with meter.kind("optimizer"):
            return [meter.like(array) for array in (model.flat.values, *optimizer.state.values())]
    if model.stored is None or model.stored.store.place != "disk":
        return []
    with meter.kind("host" if model.ops.asynchronous else "scratch"):
        return [meter.like(array) for array in (model.flat.values, *optimizer.state.values())]


def _infer(model: Sequential, meter: Meter, batch_size: int, is_sparse: bool) -> Any:
    """Run one batch of inference on shadow arrays; returns what holds them."""
    with meter.kind("batch"):
        X: Any
        if is_sparse:
            X = _sparse(model, meter, batch_size, 0)
        else:
            X = model.ops.empty((batch_size, model.n_in), model.dtype)
    with meter.kind("activations"):
        arrays = model.batch_arrays(batch_size, training=False)
    Z = model.outputs_of(X)
    model.apply_link(Z, model.link)
    return X, arrays, Z, model


def _move(arrays: Sequence[Any], kind: str) -> None:
    """Count the memory of these shadow arrays as this kind."""
    for array in arrays:
        if array is not None:
            array.block.kind = kind


def _shadow_model(model: Sequential, meter: Meter, recompute: bool | int | None = None) -> Sequential:
    """`model` on shadow arrays: the same layers, bound to shadows of its parameters and running statistics."""
    ops = shadow_ops(model.ops, meter)
    memo: dict[int, Any] = {}
    with meter.kind("parameters"):
        random_step = meter.like(model.random_step)
    flat = _shadow_flat(model, meter, memo)
    binding = dataclasses.replace(model._binding, ops=ops, random_step=random_step)
    memo[id(model._binding)] = binding
    memo[id(model.ops)] = ops
    with meter.kind("parameters"):
        for layer in model.walk():
            for array in layer.state().values():
                memo[id(array)] = meter.like(array)
    stored = None if model.stored is None else shadow_stored(model.stored, ops, meter, memo)
    shadow = object.__new__(Sequential)
    vars(shadow).update(vars(model))
    layers: list[Layer] = copy.deepcopy(model.layers, memo)
    own = {"ops": ops, "layers": layers, "flat": flat, "random_step": random_step, "_binding": binding}
    workspace = model.make_workspace(ops, layers, recompute)
    vars(shadow).update(own, _workspace=workspace, _trained_arrays=None, stored=stored)
    return shadow


def _shadow_flat(model: Sequential, meter: Meter, memo: dict[int, Any]) -> FlatParameters:
    """Shadows of the flat buffers; `memo` maps the views that parameters have of them to views of the shadows."""
    flat = model.flat
    with meter.kind("parameters"):
        values = meter.like(flat.values)
    with meter.kind("gradients"):
        gradients = meter.like(flat.gradients)
    for parameter in model.parameters:
        memo[id(parameter.initial)] = parameter.initial
        if parameter.stored is not None:
            continue
        memo[id(parameter.value)] = meter.like(parameter.value, values.block)
        memo[id(parameter.gradient)] = meter.like(parameter.gradient, gradients.block)
    low = None
    if flat.low is not None:
        with meter.kind("parameters"):
            low = meter.like(flat.low)
        for parameter in model.parameters:
            if parameter.is_weight and parameter.stored is None:
                memo[id(parameter.compute)] = meter.like(parameter.compute, low.block)
    return dataclasses.replace(flat, values=values, gradients=gradients, low=low)
