"""Memory that runs out during training: it goes on in smaller parts of its batches, and no step is lost or doubled."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.backend._ops import _numpy as primitives
from fcnn_gpu.training import Evaluator
from tests.memory.test_out_of_memory import Device, PoolIsEmpty
from tests.support.counted import fresh_emulated_ops
from tests.support.limited import needs_limits, run_limited

from ..cuda_on_cpu import missing_compiler

needs_compiler = pytest.mark.skipif(missing_compiler() is not None, reason=str(missing_compiler()))
X = np.random.default_rng(0).normal(size=(90, 17))
Y = np.arange(90) % 3
UNITS = 37
"""Of the widest layer: what it keeps of n samples in float64 has 296·n bytes, and nothing else has."""
OUR_MEMORY = ("empty", "zeros", "ones", "arange")


class Allocator:
    """What stands before an array library and refuses what `refuses` says, by the number of the call and its bytes."""

    def __init__(self, library: Any, error: Callable[[int], MemoryError]) -> None:
        self._library, self._error = library, error
        self.n_calls = 0
        self.refused = 0
        self.refuses: Callable[[int, int], bool] = lambda number, size: False

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._library, name)
        if name not in OUR_MEMORY:
            return function

        def call(*args: Any, **options: Any) -> Any:
            self.n_calls += 1
            size = 8 * int(np.prod(args[0])) if name != "arange" else 8 * int(args[1])
            if self.refuses(self.n_calls, size):
                self.refused += 1
                raise self._error(size)
            return function(*args, **options)

        return call


def numpy_device() -> tuple[Any, Allocator]:
    ops = Ops()
    ops.xp = Allocator(primitives, lambda size: MemoryError(f"Unable to allocate {size} bytes"))
    return ops, ops.xp


def emulated_device() -> tuple[Any, Allocator]:
    ops: Any = fresh_emulated_ops()[0]
    allocator = Allocator(ops.xp, PoolIsEmpty)
    ops.xp = ops._runtime.xp = allocator
    return ops, allocator


DEVICES = [numpy_device, pytest.param(emulated_device, marks=needs_compiler)]


def samples_of(size: int) -> int:
    """How many samples these bytes are for, in the widest layer."""
    return size // (8 * UNITS) if size % (8 * UNITS) == 0 else 0


Result = tuple[dict[str, HostArray], fcnn.History, fcnn.Trainer]


def build(ops: Any, layers: list[Any] | None = None) -> fcnn.Trainer:
    layers = layers or [
        fcnn.Dense(UNITS, activation="tanh", l2=1e-3),
        fcnn.Dropout(0.3),
        fcnn.LayerNorm(),
        fcnn.Dense(3),
    ]
    model = fcnn.Sequential(layers, n_in=17, seed=3, backend=ops, dtype="float64")
    optimizer = fcnn.SGD(fcnn.schedules.Cosine(0.05), momentum=0.9, clip_norm=1.0)
    return fcnn.Trainer(model, "cross_entropy", optimizer, metrics=["accuracy"])


def fit(trainer: fcnn.Trainer, **options: Any) -> Result:
    given = {"epochs": 2, "batch_size": 16, "validation_data": (X[:40], Y[:40]), "progress": False, **options}
    history = trainer.fit(X, Y, **given)
    return state(trainer), history, trainer


def state(trainer: fcnn.Trainer) -> dict[str, HostArray]:
    model, control = trainer.model, trainer.optimizer.control
    arrays = {**model.named_arrays(), "random_step": model.random_step, "step": control.step}
    arrays |= trainer.optimizer.state
    return {name: model.ops.to_numpy(array).copy() for name, array in arrays.items()}


def assert_as_ever(found: Result, expected: Result) -> None:
    for name, array in expected[0].items():
        np.testing.assert_allclose(found[0][name], array, rtol=1e-9, atol=1e-12, err_msg=name)
    assert len(found[1]) == len(expected[1])
    for column in expected[1].columns:
        if column not in ("seconds", "samples_per_second"):
            np.testing.assert_allclose(found[1][column], expected[1][column], rtol=1e-9, err_msg=column)


@pytest.mark.parametrize("make", DEVICES)
def test_any_allocation_of_a_run_may_fail(make: Callable[[], tuple[Any, Allocator]]) -> None:
    """Either the run goes on and ends as ever, or, before its first step, everything is as it was."""
    ops, allocator = make()
    trainer = build(ops)
    first = allocator.n_calls
    expected = fit(trainer)
    n_calls = allocator.n_calls - first
    assert n_calls > 30
    went_on = 0
    for number in range(1, n_calls + 1, 1 if make is numpy_device else 3):
        ops, allocator = make()
        trainer = build(ops)
        before, first = state(trainer), allocator.n_calls
        allocator.refuses = lambda n, size, refused=first + number: n == refused  # type: ignore[misc]
        try:
            found = fit(trainer)
        except fcnn.OutOfMemoryError:
            for name, array in state(trainer).items():
                np.testing.assert_array_equal(array, before[name], err_msg=f"allocation {number}: {name}")
            allocator.refuses = lambda n, size: False
            found = fit(trainer)
        else:
            went_on += 1
        assert allocator.refused == 1
        assert_as_ever(found, expected)
    assert went_on >= 8


@pytest.mark.parametrize("make", DEVICES)
@pytest.mark.parametrize("largest", [15, 3])
def test_as_small_as_need_be(
    make: Callable[[], tuple[Any, Allocator]], largest: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Room for so many samples of a layer at a time, with one word to the user."""
    expected = fit(build(make()[0]))
    ops, allocator = make()
    trainer = build(ops)
    begun = allocator.n_calls

    allocator.refuses = lambda number, size: number > begun and largest < samples_of(size) <= 16
    with caplog.at_level(logging.WARNING, "fcnn_gpu"):
        found = fit(trainer, validation_data=None)
    allocator.refuses = lambda number, size: False
    assert found[1].micro_batch_size is not None
    assert found[1].micro_batch_size == {15: 8, 3: 2}[largest]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert told[0].startswith("Memory ran out in epoch 1, step 1: training goes on in micro-batches of ")
    for name, array in expected[0].items():
        np.testing.assert_allclose(found[0][name], array, rtol=1e-9, atol=1e-12, err_msg=name)


def test_one_word_for_steps_and_evaluation(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    measure, calls = Evaluator.measure, []

    def falling_short(self: Evaluator, data: Any) -> dict[str, float]:
        calls.append(data.batch)
        if len(calls) == 1:
            raise PoolIsEmpty(7)
        return measure(self, data)

    monkeypatch.setattr(Evaluator, "measure", falling_short)
    ops, allocator = numpy_device()
    trainer = build(ops)
    begun = allocator.n_calls
    allocator.refuses = lambda number, size: number > begun and not calls and 8 < samples_of(size) <= 16
    with caplog.at_level(logging.WARNING, "fcnn_gpu"):
        fit(trainer)
    assert calls[:2] == [40, 20], "evaluation has fallen short as well"
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("Memory ran out in epoch 1, step 1: training goes on")


def test_in_the_middle_of_an_epoch() -> None:
    class Hungry(fcnn.Layer):
        """Asks for memory in every pass, as a user's layer may."""

        n_passes = 0
        sizes: ClassVar[list[int]] = []

        def forward(self, A0: Any, cache: Any, training: bool) -> Any:
            if training:
                Hungry.n_passes += 1
                Hungry.sizes.append(A0.shape[1])
                if Hungry.n_passes == 4:
                    raise MemoryError
            return A0

        def backward(self, dA: Any, cache: Any, needs_input_gradient: bool) -> Any:
            return dA

    Hungry.n_passes = 100
    expected = fit(build(Ops(), [fcnn.Dropout(0.2), Hungry(), fcnn.Dense(3)]))
    Hungry.n_passes, Hungry.sizes = 0, []
    found = fit(build(Ops(), [fcnn.Dropout(0.2), Hungry(), fcnn.Dense(3)]))
    assert_as_ever(found, expected)
    assert Hungry.sizes[:8] == [16, 16, 16, 16, 8, 8, 8, 8]
    assert found[1].micro_batch_size == 8


@needs_compiler
def test_while_a_graph_is_recorded(caplog: pytest.LogCaptureFixture) -> None:
    from tests.support.emulated import make_emulated_ops

    expected = fit(build(make_emulated_ops()))
    ops: Any = make_emulated_ops()
    record, calls = ops._runtime.record, []

    def refusing(fn: Callable[[], None]) -> Any:
        calls.append(fn)
        if len(calls) == 1:
            record(fn)
            raise PoolIsEmpty(1)
        return record(fn)

    ops._runtime.record = refusing
    with caplog.at_level(logging.WARNING, "fcnn_gpu"):
        assert_as_ever(fit(build(ops)), expected)
    assert len(calls) > 1


@needs_compiler
def test_a_device_that_is_too_small() -> None:
    """What is free on it decides, and what was made for larger parts has been given back."""

    def network(ops: Any) -> fcnn.Trainer:
        layers = [
            fcnn.Dense(50, activation="gelu"),
            fcnn.Dropout(0.5),
            fcnn.Dense(40, activation="relu"),
            fcnn.Dense(3),
        ]
        return fcnn.Trainer(fcnn.Sequential(layers, n_in=17, seed=0, backend=ops), "cross_entropy", "sgd")

    data = np.tile(X, (8, 1)).astype(np.float32), np.tile(Y, 8)
    trainers = []
    for limit in (4 * 2**20, 400 * 2**10):
        device = Device(limit)
        trainers.append(network(device.ops))
        trainers[-1].fit(*data, epochs=2, batch_size=512, progress=False)
    whole, parts = trainers
    assert whole.history.micro_batch_size is None
    assert parts.history.micro_batch_size in (64, 128, 256)
    for a, b in zip(whole.model.named_arrays().values(), parts.model.named_arrays().values(), strict=True):
        np.testing.assert_allclose(whole.model.ops.to_numpy(a), parts.model.ops.to_numpy(b), rtol=1e-4, atol=1e-5)


def test_nothing_suffices() -> None:
    ops, allocator = numpy_device()
    trainer = build(ops)
    before, begun = state(trainer), allocator.n_calls
    allocator.refuses = lambda number, size: number > begun and 1 <= samples_of(size) <= 16
    with pytest.raises(
        fcnn.OutOfMemoryError,
        match=r"Trainer\.fit ran out of memory on the host.* micro-batches of 1 .* Use micro_batch_size=",
    ):
        fit(trainer)
    for name, array in state(trainer).items():
        np.testing.assert_array_equal(array, before[name])


def test_batch_norm_cannot_go_on() -> None:
    ops, allocator = numpy_device()
    trainer = build(ops, [fcnn.Dense(UNITS), fcnn.BatchNorm(), fcnn.Dense(3)])
    begun = allocator.n_calls
    allocator.refuses = lambda number, size: number > begun and samples_of(size) == 16
    with pytest.raises(fcnn.OutOfMemoryError, match=r"Smaller parts .* layer 1, BatchNorm\(\), takes its statistics"):
        fit(trainer)


def test_in_evaluation(caplog: pytest.LogCaptureFixture) -> None:
    expected = fit(build(Ops()))
    ops, allocator = numpy_device()
    trainer = build(ops)
    begun = allocator.n_calls
    allocator.refuses = lambda number, size: number > begun and samples_of(size) == 40
    with caplog.at_level(logging.WARNING, "fcnn_gpu"):
        found = fit(trainer)
    assert allocator.refused == 1
    assert found[1].micro_batch_size is None
    assert [record.getMessage() for record in caplog.records] == [
        "Memory ran out in evaluation, which goes on in smaller batches."
    ]
    assert_as_ever(found, expected)


def test_an_update_that_may_be_half_done_is_not_made_twice() -> None:
    """An optimizer of a user's that asks for memory when it has changed half of the weights."""

    class Halfway(fcnn.SGD):
        def _update(self, ops: Any, flat: Any, control: Any, state: Any) -> None:
            flat.values[: flat.values.size // 2] -= 0.1
            raise MemoryError

    trainer = fcnn.Trainer(fcnn.Sequential([fcnn.Dense(3)], n_in=17, seed=0, backend="numpy"), optimizer=Halfway(0.1))
    with pytest.raises(fcnn.OutOfMemoryError):
        trainer.fit(X, Y, batch_size=16, progress=False)
    assert int(trainer.model.random_step[0]) == 0


def test_errors_of_callbacks_are_theirs() -> None:
    class Greedy(fcnn.Callback):
        def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
            raise MemoryError

    trainer = build(Ops())
    with pytest.raises(fcnn.OutOfMemoryError):
        fit(trainer, callbacks=[Greedy()])
    assert int(trainer.optimizer.control.step[0]) == 6


def test_what_would_take_less_is_told_with_numbers() -> None:
    ops, allocator = numpy_device()
    layers = [layer for _ in range(12) for layer in (fcnn.Dense(UNITS), fcnn.BatchNorm())]
    trainer = build(ops, [*layers, fcnn.Dense(3)])
    begun = allocator.n_calls
    allocator.refuses = lambda number, size: number > begun and samples_of(size) == 64
    with pytest.raises(
        fcnn.OutOfMemoryError, match=r"Use batch_size=\d+, .* or Sequential\(recompute=True\), which takes"
    ):
        fit(trainer, batch_size=64)


LIMITED = """
import json, logging, resource, sys
import numpy as np, fcnn_gpu as fcnn
logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(message)s")
options, beside = json.loads(sys.argv[2]), int(sys.argv[3])
layers = [*(fcnn.Dense(128, activation="gelu") for _ in range(16)), fcnn.Dense(10)]
model = fcnn.Sequential(layers, n_in=128, seed=0, backend="numpy", **options.get("model", {}))
X = np.random.default_rng(0).normal(size=(8192, 128)).astype("float32")
trainer = fcnn.Trainer(model, "cross_entropy", fcnn.SGD(0.01))
model.predict(X[:8])
trainer.fit(X[:64], np.arange(64) % 10, epochs=1, batch_size=8, progress=False)  # what is made once and for all
if beside:
    with open("/proc/self/status", encoding="ascii") as status:
        used = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (used + beside, used + beside))
history = trainer.fit(X, np.arange(8192) % 10, epochs=1, batch_size=8192, progress=False, **options.get("fit", {}))
norm = float(np.abs(model.flat.values).sum())
result = {"micro": history.micro_batch_size, "loss": history["loss"][-1], "norm": norm}
"""
ROOM = 85 * 2**20
"""Of the 150 MiB that a training step on the whole batch takes."""


@needs_limits
def test_in_a_process_with_a_limit() -> None:
    """The system refuses memory; parts, and recomputation in them, go through where whole batches do not."""

    def run(options: dict[str, Any], beside: int = ROOM) -> Any:
        return run_limited(LIMITED, json.dumps(options), beside)

    whole, halved = run({}, 0), run({})
    asked, again = run({"fit": {"micro_batch_size": 1024}}), run({"model": {"recompute": True}})
    assert whole.result["micro"] is None
    assert halved.result["micro"] in (1024, 2048, 4096)
    assert halved.stdout.count("Memory ran out in epoch 1, step 1: training goes on in micro-batches of ") == 1
    assert asked.result["micro"] == 1024
    assert again.result["micro"] is None
    assert "ran out" not in asked.stdout + again.stdout
    for other in (halved, asked, again):
        assert other.result["loss"] == pytest.approx(whole.result["loss"], rel=1e-5)
        assert other.result["norm"] == pytest.approx(whole.result["norm"], rel=1e-5)
        assert other.peak < whole.peak - 40 * 2**20


def failing_at(ops: Any, name: str, number: int) -> None:
    """The primitive of this name finds no memory in its call of this number."""
    primitive, calls = getattr(ops, name), [0]

    def call(*args: Any, **options: Any) -> None:
        calls[0] += 1
        if calls[0] == number:
            raise PoolIsEmpty(7)
        primitive(*args, **options)

    vars(ops)[name] = call


@needs_compiler
@pytest.mark.parametrize("number", [3, 11])
def test_in_the_middle_of_steps_that_are_one_program(number: int) -> None:
    """Of eight steps that a device makes at once, those before the shortage count, and the others are made."""
    expected = fit(build(fresh_emulated_ops()[0]), batch_size=4)
    ops: Any = fresh_emulated_ops()[0]
    failing_at(ops, "dropout_forward", number)
    found = fit(build(ops), batch_size=4)
    assert found[1].micro_batch_size == 2
    assert_as_ever(found, expected)


@needs_compiler
@pytest.mark.parametrize("make", DEVICES)
def test_what_cannot_go_on_is_as_after_the_step_before(make: Callable[[], tuple[Any, Allocator]]) -> None:
    """Weights, statistics and counters of two steps, and nothing of the third, which found no memory."""

    def network() -> list[Any]:
        return [fcnn.Dense(8), fcnn.BatchNorm(), fcnn.Dropout(0.3), fcnn.Dense(3)]

    def run(trainer: fcnn.Trainer, n_samples: int) -> None:
        options: dict[str, Any] = {"epochs": 1, "batch_size": 4, "shuffle": False, "progress": False}
        trainer.fit(X[:n_samples], Y[:n_samples], **options)

    def made() -> fcnn.Trainer:
        model = fcnn.Sequential(network(), n_in=17, seed=3, backend=make()[0], dtype="float64")
        return fcnn.Trainer(model, "cross_entropy", fcnn.Adam(0.01))

    expected, trainer = made(), made()
    run(expected, 8)
    failing_at(trainer.model.ops, "dropout_forward", 3)
    with pytest.raises(fcnn.OutOfMemoryError):
        run(trainer, 90)
    before = state(expected)
    for name, array in state(trainer).items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
