"""Products with weights on the host or on disk are queued, and what comes after them does not get in their way."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import Array, HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.optimizers import SGD
from fcnn_gpu.placement import _tiles

from ..support.placement_cases import PLACES, X, Y, set_tiles
from ..support.queued_work import keep_busy

X32 = X.astype("float32")
N_IN = X32.shape[1]


def network(place: str, backend: Any, widths: tuple[int, ...] = (24, 24), seed: int = 0) -> fcnn.Sequential:
    layers = [fcnn.Dense(n, activation="relu", placement=place) for n in widths]
    model = fcnn.Sequential([*layers, fcnn.Dense(3)], N_IN, seed=seed, backend=backend)
    set_tiles(model, 7)
    return model


def expected_outputs(model: fcnn.Sequential, x: HostArray = X32) -> HostArray:
    """The outputs as NumPy computes them from the weights as they are now on the host and on the device."""
    A = x.T
    for layer in model.layers:
        assert isinstance(layer, fcnn.Dense)
        W, b = (np.asarray(model.ops.to_numpy(array)) for array in (np.asarray(read(layer.W, model.ops)), layer.b))
        A = W @ A + b
        A = np.maximum(A, 0.0) if layer.activation.name == "relu" else A
    return A.T


def read(W: Any, ops: Ops) -> HostArray:
    return np.asarray(W) if hasattr(W, "stored") else ops.to_numpy(W)


def assert_close(found: HostArray, expected: HostArray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.fixture(params=PLACES)
def model(request: pytest.FixtureRequest, device_ops: Ops) -> fcnn.Sequential:
    """One that has computed before, so that its buffers are there, with weights on the host or on disk."""
    made = network(request.param, device_ops)
    device_ops.to_numpy(made.forward(X32))
    return made


def test_a_pass_waits_for_the_copies_of_the_pass_before(model: fcnn.Sequential) -> None:
    """The tiles of the second layer are read into memory that those of the first are still to be copied from."""
    ops, expected = model.ops, expected_outputs(model)
    keep_busy(ops)
    outputs = [ops.copy(model.forward(X32)) for _ in range(3)]
    for Z in outputs:
        assert_close(ops.to_numpy(Z), expected)


WRITES: dict[str, Callable[[fcnn.Sequential, Any], None]] = {
    "all": lambda model, W: W.__setitem__(..., 0.0),
    "all of another": lambda model, W: W.__setitem__(..., other(model).layers[1].W),
    "a few rows": lambda model, W: W.__setitem__(slice(15, 24), 5.0),
    "elements": lambda model, W: W.__setitem__(([3, 23], [4, 4]), 50.0),
    "a snapshot": lambda model, W: model.restore(other(model).snapshot()),
    "a step": lambda model, W: take_a_step(model),
    "after a copy": lambda model, W: write_after_a_copy(W),
}


def other(model: fcnn.Sequential) -> Any:
    return network("host", model.ops, seed=1)


def take_a_step(model: fcnn.Sequential) -> None:
    loss, optimizer = fcnn.losses.CrossEntropy(), fcnn.Adam(0.1)
    optimizer.bind(model)
    loss.forward(model.forward(X32, training=True), Y)
    model.backward(loss.backward())
    optimizer.step()


def write_after_a_copy(W: Any) -> None:
    copied = W.copy()
    W[...] = 0.0
    assert np.asarray(copied).any()
    assert not np.asarray(W).any()


@pytest.mark.parametrize("write", WRITES)
def test_what_is_queued_reads_the_weights_of_its_time(model: fcnn.Sequential, write: str) -> None:
    ops, before = model.ops, expected_outputs(model)
    keep_busy(ops)
    Z = ops.copy(model.forward(X32))
    last: Any = model.layers[1]  # whose tiles are copied last
    WRITES[write](model, last.W)
    after = model.forward(X32)
    assert_close(ops.to_numpy(Z), before)
    assert_close(ops.to_numpy(after), expected_outputs(model))
    assert np.abs(ops.to_numpy(after) - ops.to_numpy(Z)).max() > 0.01


def test_a_loaded_file_leaves_what_is_queued(device_ops: Ops, tmp_path: Path) -> None:
    other = network("host", device_ops, seed=1)
    other.save(tmp_path / "other.safetensors")
    model = network("host", device_ops)
    before = expected_outputs(model)
    keep_busy(device_ops)
    Z = device_ops.copy(model.forward(X32))
    loaded = fcnn.load(tmp_path / "other.safetensors", backend=device_ops)
    model.restore(loaded.snapshot())
    assert_close(device_ops.to_numpy(Z), before)
    assert_close(device_ops.to_numpy(model.forward(X32)), expected_outputs(other))


def test_buffers_that_are_let_go_of_are_not_handed_on(model: fcnn.Sequential) -> None:
    """Of the host and of the device, while copies to and from them are queued."""
    ops, expected = model.ops, expected_outputs(model)
    assert model.stored is not None
    keep_busy(ops)
    Z = model.forward(X32)
    model.stored.release()
    others = [ops.zeros((height, width), np.float32) for height in (7, 3) for width in (N_IN, 24) for _ in range(4)]
    for other in others:
        ops.fill(other, 7.0)
    assert_close(ops.to_numpy(Z), expected)


def test_larger_tiles_need_larger_buffers(device_ops: Ops) -> None:
    """A narrow layer's tiles are under way when the wide one behind it has its buffers made."""
    for place in PLACES:
        model = network(place, device_ops, (5, 24, 40, 3, 60))
        expected = expected_outputs(model)
        keep_busy(device_ops)
        outputs = [device_ops.copy(model.forward(X32)) for _ in range(2)]
        for Z in outputs:
            assert_close(device_ops.to_numpy(Z), expected)


@pytest.mark.parametrize("place", PLACES)
def test_a_network_that_nobody_holds_any_more_has_computed(device_ops: Ops, place: str) -> None:
    model = network(place, device_ops)
    expected = expected_outputs(model)
    keep_busy(device_ops)
    Z = model.forward(X32)
    del model
    gc.collect()
    others = [device_ops.zeros((7, 24), np.float32) for _ in range(8)]
    for other in others:
        device_ops.fill(other, 7.0)
    assert_close(device_ops.to_numpy(Z), expected)


@pytest.mark.parametrize("at", [0, 1, 2, 5])
def test_a_pass_that_is_broken_off_leaves_nothing_under_way(
    model: fcnn.Sequential, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Tiles that were read ahead have been copied for nothing; those that are computed on are still in use."""
    ops, expected = model.ops, expected_outputs(model)
    weight: Any = model.stored.weights[0]  # type: ignore[union-attr]
    part, count = type(weight)._rounded, [0]

    def breaking_off(self: Any, W: Array) -> Array:
        count[0] += 1
        if count[0] == at + 1:
            raise KeyboardInterrupt
        return part(self, W)

    keep_busy(ops)
    with monkeypatch.context() as patch:
        patch.setattr(type(weight), "_rounded", breaking_off)
        with pytest.raises(KeyboardInterrupt):
            model.forward(X32)
    Z = model.forward(X32)
    assert_close(ops.to_numpy(Z), expected)


class Stopping(SGD):
    """Takes a step of a few tiles and is stopped, after it has queued what it does to the next one."""

    def __init__(self, after: int) -> None:
        super().__init__(0.5)
        self.after = after
        self.tiles = iter(range(after + 1))

    def _update(self, *arguments: Any) -> None:
        super()._update(*arguments)
        if next(self.tiles) == self.after:
            raise KeyboardInterrupt


def after_backward(model: fcnn.Sequential, optimizer: Stopping) -> list[HostArray]:
    """Layer 0's weights before the step that is to be taken, and those after it."""
    optimizer.bind(model)
    loss = fcnn.losses.CrossEntropy()
    loss.forward(model.forward(X32, training=True), Y)
    model.backward(loss.backward())
    old = np.array(read(model.parameters[0].value, model.ops))
    return [old, old - 0.5 * np.asarray(model.parameters[0].gradient)]


def assert_whole_tiles(found: HostArray, states: list[HostArray], rows: int) -> None:
    for start in range(0, len(found), rows):
        part = slice(start, start + rows)
        assert any(np.allclose(found[part], whole[part], rtol=1e-3, atol=1e-5) for whole in states), f"row {start} on"


@pytest.mark.parametrize("computes_first", [True, False])
@pytest.mark.parametrize("after", [0, 1, 3, 5])
def test_an_update_that_is_broken_off_leaves_whole_tiles(device_ops: Ops, after: int, computes_first: bool) -> None:
    """Of each tile the host has the weights before the step or behind it, and the device computes with the same."""
    model, optimizer = network("host", device_ops), Stopping(after)
    states = after_backward(model, optimizer)
    keep_busy(device_ops)
    with pytest.raises(KeyboardInterrupt):
        optimizer.step()
    Z = device_ops.copy(model.forward(X32)) if computes_first else None
    assert_whole_tiles(np.asarray(read(model.parameters[0].value, device_ops)), states, 7)
    Z = model.forward(X32) if Z is None else Z
    assert_close(device_ops.to_numpy(Z), expected_outputs(model))


class OneJob(ThreadPoolExecutor):
    """A thread that does one job, and is given no more time before it is stopped."""

    left: list[Future[Any]] | None = None

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.left is None:
            self.left = []
            return super().submit(fn, *args, **kwargs)
        self.left.append(Future())
        return self.left[-1]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        for future in self.left or []:
            assert cancel_futures
            assert future.cancel()
        super().shutdown(wait)


@pytest.mark.parametrize("next_layer", [0, 1, None])
def test_tiles_on_their_way_back_keep_their_place(
    device_ops: Ops, monkeypatch: pytest.MonkeyPatch, next_layer: int | None
) -> None:
    """Where a pass was broken off before anybody waited for them, and another layer's is next; None: the host reads."""
    model, optimizer = network("host", device_ops), Stopping(3)
    states = after_backward(model, optimizer)
    keep_busy(device_ops)
    with monkeypatch.context() as patch:
        patch.setattr(_tiles, "ThreadPoolExecutor", OneJob)
        with pytest.raises(KeyboardInterrupt):
            optimizer.step()
    assert model.stored is not None
    A = np.random.default_rng(0).normal(size=(5, 24)).astype("f").T
    if next_layer is not None:
        A = A[: model.stored.weights[next_layer].shape[1]]
        Z = device_ops.zeros((5, 24), np.float32).T
        model.stored.weights[next_layer].forward(device_ops.asarray(np.asfortranarray(A)), Z)
        W = read(model.parameters[2 * next_layer].value, device_ops)
        assert_close(device_ops.to_numpy(Z), W @ A)
    found = np.array(read(model.parameters[0].value, device_ops))
    assert_whole_tiles(found, states, 7)
    assert np.abs(found[7:21] - states[0][7:21]).max() > 1e-4, "two tiles were on their way"
    trainer = fcnn.Trainer(model, optimizer=fcnn.SGD(0.1))
    trainer.fit(X32, Y, epochs=1, progress=False)
    assert_close(device_ops.to_numpy(model.forward(X32)), expected_outputs(model))


def test_a_thread_that_still_writes_is_waited_for() -> None:
    """On the CPU a pass reads into what a thread of a pass before may still write from."""
    model = network("disk", "numpy")
    assert model.stored is not None
    writing: Future[None] = Future()
    writing.set_running_or_notify_cancel()
    model.stored._tiles._slots[1].written = writing
    outputs: list[HostArray] = []
    thread = threading.Thread(target=lambda: outputs.append(np.array(model.forward(X32))))
    thread.start()
    thread.join(0.2)
    assert not outputs, "not before the writing has ended"
    writing.set_exception(OSError("which the pass before has raised"))
    thread.join(60)
    assert_close(outputs[0], expected_outputs(model))


@pytest.mark.parametrize("place", PLACES)
def test_memory_is_let_go_of_when_it_is_asked_for(device_ops: Ops, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """A larger buffer is made when the smaller one is gone, and `release` has freed all when it returns."""
    made: list[Any] = []
    real = _tiles.Tiles._slot_on_device

    def making(self: Any, n_bytes: int) -> Array:
        assert sum(memory() is not None for memory in made) < 2
        array = real(self, n_bytes)
        made.append(weakref.ref(array))
        return array

    monkeypatch.setattr(_tiles.Tiles, "_slot_on_device", making)
    model = network(place, device_ops, (5, 24, 40, 3, 60))
    keep_busy(device_ops)
    model.forward(X32)
    assert len(made) > 2
    assert model.stored is not None
    model.stored.release()
    assert not any(memory() is not None for memory in made)


def test_threads_take_turns_at_the_buffers(model: fcnn.Sequential) -> None:
    ops, expected = model.ops, expected_outputs(model)
    found: list[HostArray] = []

    def predict() -> None:
        for _ in range(3):
            found.append(np.array(ops.to_numpy(model.forward(X32))))

    threads = [threading.Thread(target=predict) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 9
    for outputs in found:
        assert_close(outputs, expected)
