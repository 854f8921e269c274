"""Data that streams through the device: the same run, bit by bit, as with all of it there, and nothing left behind."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops, SideStream
from fcnn_gpu.data._input_checks import Features, features
from fcnn_gpu.data._stream import ChunkStream
from fcnn_gpu.data._supply import ArraySupply
from fcnn_gpu.training._diagnosis import DivergenceError
from fcnn_gpu.training._feed import Feed
from tests.software_cuda.option import smaller
from tests.support.late_copies import LateSideStream, Overwritten, PageableMemory

from ..conftest import cuda_ops, emulated_ops
from ..support.emulated import DeviceArray, on_host
from ..support.queued_work import keep_busy

N_IN, N_CLASSES = 5, 3
SMALL = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def samples(n: int, dtype: str = "float32", seed: int = 0) -> tuple[HostArray, HostArray, HostArray]:
    rng = np.random.default_rng(seed)
    X = (40 * rng.normal(size=(n, N_IN)) + 100).clip(0, 255).astype(dtype)
    return X, rng.integers(0, N_CLASSES, n), rng.uniform(0.5, 2.0, n).astype(np.float32)


def trainer(ops: Ops, **options: Any) -> fcnn.Trainer:
    layers = [fcnn.Dense(6, activation="relu"), fcnn.BatchNorm(), fcnn.Dropout(0.2), fcnn.Dense(N_CLASSES)]
    model = fcnn.Sequential(layers, n_in=N_IN, seed=1, backend=ops, input_scale=1 / 255)
    return fcnn.Trainer(model, optimizer=fcnn.Adam(0.01), **({"metrics": ["accuracy"]} | options))


def streaming(t: fcnn.Trainer, window: int | None, val_window: int | None = None) -> fcnn.Trainer:
    """The trainer, whose data sets stream in chunks of so many samples, whatever they take."""

    class Streaming(fcnn.Trainer):
        @property
        def _feed(self) -> Feed:
            feed = super()._feed
            feed.windows = lambda *args: (window, val_window)  # type: ignore[method-assign]
            return feed

    t.__class__ = Streaming
    return t


def run(t: fcnn.Trainer, data: tuple[Any, Any, Any], **options: Any) -> dict[str, Any]:
    X, y, w = data
    history = t.fit(X, y, sample_weight=w, **({"epochs": 2, "batch_size": 8, "progress": False} | options))
    columns = {k: v for k, v in history.to_dict().items() if k not in ("seconds", "samples_per_second")}
    state = {name: t.model.ops.to_numpy(array).copy() for name, array in t.model.snapshot().items()}
    return columns | state | {"steps": int(t.model.ops.to_numpy(t.optimizer.control.step)[0])}


def assert_equal(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


@pytest.fixture
def backend(ops: Ops) -> Ops:
    return ops


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if "prefetch" in thread.name]


@SMALL
@given(
    n=st.integers(2, 70),
    batch=st.integers(2, 20),
    batches=st.integers(1, 5),
    dtype=st.sampled_from(["float32", "uint8", "float16", "float64", "int16"]),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    weighted=st.booleans(),
    capture=st.booleans(),
)
def test_a_streamed_run_is_a_resident_run(
    backend: Ops, n: int, batch: int, batches: int, dtype: str, **flags: bool
) -> None:
    batch = min(batch, n)
    if n % batch == 1 and n > 1:
        n += 1  # batch normalization does not train on one sample
    X, y, w = samples(n, dtype)
    data = X, y, w if flags.pop("weighted") else None
    held_out = samples(n // 2 + 1, dtype, seed=1)
    options: dict[str, Any] = {"batch_size": batch, "validation_data": held_out, **flags}
    expected = run(trainer(backend), data, **options)
    assert_equal(run(streaming(trainer(backend), batches * batch), data, **options), expected)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16"])
def test_every_precision_streams(device_ops: Ops, precision: str, dtype: str) -> None:
    results = []
    for window in (None, 32):
        layers = [fcnn.Dense(8, activation="relu"), fcnn.Dropout(0.2), fcnn.Dense(N_CLASSES)]
        model = fcnn.Sequential(
            layers, n_in=N_IN, seed=1, backend=device_ops, input_scale=1 / 255, input_shift=-0.5, precision=precision
        )
        t = streaming(fcnn.Trainer(model, metrics=["accuracy"]), window, None if window is None else 1024)
        data = samples(100, dtype)
        results.append(
            run(t, data, validation_data=samples(60, dtype, 1)) | t.evaluate(*data) | {"p": t.predict(data[0])}
        )
    assert_equal(*results)


class Confidence(fcnn.metrics.Metric):
    """The mean of the largest probability: no matter of ranks, so outputs go through their link."""

    name = "confidence"
    greater_is_better = True
    task = "classification"

    def __call__(self, y_true: HostArray, y_pred: HostArray) -> float:  # type: ignore[override]  # all samples count alike
        return float(y_pred.max(axis=1).mean())


@pytest.mark.parametrize("ranks_alone", [True, False])
@pytest.mark.parametrize("window", [1024, 2048, 3072])
def test_a_streamed_evaluation_is_a_resident_one(backend: Ops, window: int, ranks_alone: bool) -> None:
    X, y, w = samples(2600, "uint8")
    metrics: list[Any] = ["accuracy"] if ranks_alone else ["accuracy", Confidence()]
    t = trainer(backend, metrics=metrics)
    expected = t.evaluate(X, y, w)
    assert streaming(t, None, window).evaluate(X, y, w) == expected
    assert streaming(trainer(backend, metrics=()), None, window).evaluate(X, y, w) == {"loss": expected["loss"]}


@pytest.mark.parametrize("loss", ["mse", "binary_cross_entropy"])
def test_matrices_of_targets_stream_too(backend: Ops, loss: str) -> None:
    X, _, w = samples(60)
    y = np.random.default_rng(4).uniform(size=(60, N_CLASSES))
    results = []
    for window in (None, 16):
        t = streaming(trainer(backend, loss=loss, metrics=()), window, None if window is None else 1024)
        results.append(run(t, (X, y, w), validation_split=0.2))
    assert_equal(*results)


def test_a_schedule_goes_on_over_the_chunks(backend: Ops) -> None:
    schedule = fcnn.schedules.Cosine(0.05)
    results = []
    for window in (None, 16):
        layers = [fcnn.Dense(4, activation="tanh"), fcnn.Dense(N_CLASSES)]
        model = fcnn.Sequential(layers, n_in=N_IN, seed=1, backend=backend, input_scale=1 / 255)
        t = streaming(fcnn.Trainer(model, optimizer=fcnn.SGD(schedule)), window)
        results.append(run(t, samples(77), epochs=3))
    assert_equal(*results)


@pytest.mark.parametrize("layout", ["C", "F", "strided", "memmap", "float64 memmap"])
def test_features_of_any_layout_stream_without_a_copy_of_all(backend: Ops, layout: str, tmp_path: Path) -> None:
    X, y, w = samples(90)
    given: Any = X
    if layout == "F":
        given = np.asfortranarray(X)
    elif layout == "strided":
        given = np.repeat(X, 2, axis=1)[:, ::2]
    elif layout.endswith("memmap"):
        dtype = "float64" if "64" in layout else "float32"
        X.astype(dtype).tofile(tmp_path / "X")
        given = np.memmap(tmp_path / "X", dtype, "r", shape=X.shape)
    options: dict[str, Any] = {"validation_split": 0.25}
    expected = run(trainer(backend), (X, y, w), **options)
    assert_equal(run(streaming(trainer(backend), 16, 1024), (given, y, w), **options), expected)


def test_a_file_is_never_copied_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    monkeypatch.setattr("fcnn_gpu.data._input_checks._CHECKED_AT_ONCE", 2**18)
    n = 40_000
    X, y, _ = samples(n, "float64")
    X.tofile(tmp_path / "X")
    mapped = np.memmap(tmp_path / "X", "float64", "r", shape=(n, N_IN))
    n_bytes = X.nbytes
    del X
    t = streaming(trainer(Ops(), metrics=()), 1000)
    t.fit(mapped[:2000], y[:2000], epochs=1, batch_size=500, progress=False)
    tracemalloc.start()
    try:
        t.fit(mapped, y, epochs=2, batch_size=500, shuffle=False, progress=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    labels_and_order = 3 * n * 8
    assert peak - labels_and_order < n_bytes / 2  # float32 alone would be that half


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_bad_numbers_are_found_before_anything_changes(backend: Ops, bad: float) -> None:
    X, y, _ = samples(50, "float64")
    X[33, 2] = bad
    t = streaming(trainer(backend), 16)
    before = t.model.ops.to_numpy(t.model.flat.values).copy()
    with pytest.raises(ValueError, match=r"fit: X holds .*row 33, column 2"):
        t.fit(X, y, progress=False)
    np.testing.assert_array_equal(t.model.ops.to_numpy(t.model.flat.values), before)


class TestEndings:
    def test_an_error_while_reading_reaches_the_caller(self, backend: Ops, monkeypatch: pytest.MonkeyPatch) -> None:
        read, n_read = Features.read, 0

        def failing(self: Features, rows: HostArray, out: HostArray) -> None:
            nonlocal n_read
            n_read += 1
            if n_read == 4:
                raise OSError("the disk is gone")
            read(self, rows, out)

        monkeypatch.setattr(Features, "read", failing)
        t = streaming(trainer(backend), 16)
        with pytest.raises(OSError, match="the disk is gone"):
            run(t, samples(100))
        assert t.history.stopped_by == "error"
        monkeypatch.undo()
        run(streaming(t, 16), samples(100))
        assert t.history.stopped_by == "epochs"

    @pytest.mark.parametrize("n_samples", [40, 100])
    def test_a_callback_that_raises_or_stops(self, backend: Ops, n_samples: int) -> None:
        class Failing(fcnn.Callback):
            def on_epoch_end(self, trainer: Any, record: Any) -> None:
                raise RuntimeError("enough")

        class Stopping(fcnn.Callback):
            def on_epoch_end(self, trainer: Any, record: Any) -> None:
                trainer.stop_reason = "enough"

        data = samples(n_samples)
        with pytest.raises(RuntimeError, match="enough"):
            run(streaming(trainer(backend), 16), data, callbacks=[Failing()])
        t = streaming(trainer(backend), 16)
        run(t, data, epochs=9, callbacks=[Stopping()])
        assert len(t.history) == 1

    @pytest.mark.parametrize("after", [1, 3, 12, 13])
    def test_an_interrupt_ends_the_thread_and_keeps_the_steps_so_far(
        self, backend: Ops, after: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from contextlib import contextmanager

        import fcnn_gpu.training.trainer as training

        def interrupted_after(n: int) -> Any:
            @contextmanager
            def interruptible() -> Iterator[Callable[[], bool]]:
                calls = 0

                def asked() -> bool:
                    nonlocal calls
                    calls += 1
                    return calls >= n

                yield asked

            return interruptible

        results = []
        for window in (None, 16):
            monkeypatch.setattr(training, "interruptible", interrupted_after(after))
            t = streaming(trainer(Ops()), window)
            results.append(run(t, samples(100)))
            assert t.history.stopped_by == "interrupt"
        assert_equal(*results)

    def test_a_keyboard_interrupt_in_the_midst(self, backend: Ops) -> None:
        t = streaming(trainer(backend), 16)
        data = t._feed.training(t._intake.prepare(*samples(100)[:2], None, "fit"), 8, 16)

        def visit() -> None:
            with data.visit(np.arange(100), 100) as stretches:
                for stretch in stretches:
                    if stretch.first == 32:
                        raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            visit()

    def test_several_readers_share_a_chunk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = samples(100)
        expected = run(trainer(Ops()), data)
        monkeypatch.setattr("fcnn_gpu.data._supply._BYTES_PER_READER", 70)
        names: set[str] = set()
        read = Features.read

        def noted(self: Features, rows: HostArray, out: HostArray) -> None:
            names.add(threading.current_thread().name)
            read(self, rows, out)

        monkeypatch.setattr(Features, "read", noted)
        assert_equal(run(streaming(trainer(Ops()), 16), data), expected)
        assert any("reader" in name for name in names)
        assert "fcnn_gpu prefetch" in names

        def failing(self: Features, rows: HostArray, out: HostArray) -> None:
            if "reader" in threading.current_thread().name:
                raise OSError("the disk is gone")
            read(self, rows, out)

        monkeypatch.setattr(Features, "read", failing)
        with pytest.raises(OSError, match="the disk is gone"):
            run(streaming(trainer(Ops()), 16), data)

    def test_divergence_is_named_as_with_resident_data(self, backend: Ops) -> None:
        X, _, _ = samples(100)
        y = np.zeros((100, N_CLASSES))
        y[71, 1] = 1e30  # its square is infinite in float32
        messages = []
        for window in (None, 16):
            t = streaming(trainer(backend, loss="mse", metrics=()), window)
            with np.errstate(over="ignore", invalid="ignore"), pytest.raises(DivergenceError) as caught:
                t.fit(X, y, batch_size=8, progress=False)
            messages.append((str(caught.value), t.model.ops.to_numpy(t.model.flat.values).tolist()))
        assert messages[0] == messages[1]
        assert "the loss mse is not finite" in messages[0][0]

    def test_a_second_call_goes_on(self, backend: Ops) -> None:
        results = []
        for window in (None, 24):
            t = streaming(trainer(backend), window)
            run(t, samples(50), epochs=1)
            results.append(run(t, samples(60), epochs=2))
        assert_equal(*results)


class TestSideStream:
    """The waits between reading, copying and computing: each is needed, and each missing one is seen."""

    def stream(self, ops: Ops, n: int = 100, window: int = 16) -> tuple[ChunkStream, HostArray]:
        X, y, w = samples(n)
        return ChunkStream(ops, ArraySupply(features(ops, X, N_IN, np.float32, "fit"), y, w), window), X

    def visited(self, ops: Any, stream: ChunkStream, n: int = 100) -> HostArray:
        """What kernels read of the chunks, in order."""
        order, parts = np.random.default_rng(2).permutation(n), []
        with stream.visit(order, n) as stretches:
            for stretch in stretches:
                parts.append(on_host(self.gathered(ops, stream, stretch)).copy())
        unsorted = np.empty((n, N_IN), np.float32)
        unsorted[order] = np.concatenate(parts)
        return unsorted

    def gathered(self, ops: Any, stream: ChunkStream, stretch: Any) -> Any:
        """X of a chunk, read by several kernels."""
        rows, start = ops.asarray(np.arange(stream.window)), ops.zeros(1, np.int64)
        out = ops.empty((stretch.n, N_IN), np.float32)
        for _ in range(3):
            ops.gather_rows(stream.on_device(stretch.part).X, rows, start, out)
        return out

    @pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
    def test_a_visit_that_is_broken_off_is_still_computed_on(
        self, device_ops: Ops, error: type[BaseException] | None
    ) -> None:
        """The next one leaves its chunk alone until that is done."""
        stream, X = self.stream(device_ops)
        orders = [np.arange(100), np.arange(100)[::-1]]
        found = []
        for order in orders:
            keep_busy(device_ops)
            with contextlib.suppress(ValueError, KeyboardInterrupt), stream.visit(order, 100) as stretches:
                for i, stretch in enumerate(stretches):
                    found.append(self.gathered(device_ops, stream, stretch))
                    if i == 1 and error is None:
                        break
                    if i == 1 and error is not None:
                        raise error
        for k, order in enumerate(orders):
            parts = [device_ops.to_numpy(part) for part in found[2 * k : 2 * k + 2]]
            np.testing.assert_array_equal(np.concatenate(parts), X[order[:32]])

    @pytest.mark.gpu
    def test_memory_that_is_freed_with_work_on_it_under_way(self) -> None:
        """The pool hands it on at once: a chunk comes there when the work that was queued is done."""
        ops: Any = cuda_ops()
        before = [ops.asarray(np.full((16, N_IN), i, np.float32)) for i in range(8)]
        ops.synchronize()
        keep_busy(ops)
        found, places = [ops.copy(x) for x in before], {x.data.ptr for x in before}
        before.clear()
        stream, _ = self.stream(ops)
        assert places & {stream.on_device(part).X.data.ptr for part in range(2)}
        with stream.visit(np.arange(100), 100) as stretches:
            next(stretches)  # when the visit is left, what it has copied is there
        for i, x in enumerate(found):
            np.testing.assert_array_equal(ops.to_numpy(x), np.full((16, N_IN), i, np.float32))

    def test_as_it_is(self) -> None:
        ops = emulated_ops()
        stream, X = self.stream(ops)
        for _ in range(2):
            np.testing.assert_array_equal(self.visited(ops, stream), X)
        assert stream._side.n_pending == 0, "every copy was done"  # type: ignore[attr-defined]

    def test_without_waiting_for_the_copy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ops = emulated_ops()
        stream, X = self.stream(ops)
        monkeypatch.setattr(LateSideStream, "compute_waits", SideStream.compute_waits)
        assert (self.visited(ops, stream) != X).any()

    @pytest.mark.parametrize("missing", ["wait", "record_compute"])
    def test_without_waiting_for_the_computation(self, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
        ops = emulated_ops()
        stream, _ = self.stream(ops)
        if missing == "wait":
            monkeypatch.setattr(LateSideStream, "wait", SideStream.wait)
        else:
            mark = stream._side.record_compute()  # one from before the steps
            monkeypatch.setattr(LateSideStream, "record_compute", lambda self: mark)
        with pytest.raises(Overwritten):
            self.visited(ops, stream)

    def test_page_locked_memory_is_read_into_when_it_has_been_copied(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stream, _ = self.stream(emulated_ops(), n=112)
        events: list[Any] = []
        supply: Any = stream.supply
        read, synchronize = supply.read, LateSideStream.synchronize

        def reading(rows: HostArray, out: Any, readers: Any) -> None:
            events.append([buffer.host.X.ctypes.data for buffer in stream._buffers].index(out.X.ctypes.data))
            read(rows, out, readers)

        def waiting(self: LateSideStream, mark: Any) -> None:
            events.append([buffer.copied for buffer in stream._buffers].index(mark))
            synchronize(self, mark)

        supply.read = reading
        monkeypatch.setattr(LateSideStream, "synchronize", waiting)
        self.visited(emulated_ops(), stream, 112)
        first, again, end = [0, 1], [0, 0, 1, 1, 0, 0, 1, 1, 0, 0], [0, 1]
        assert events == first + again + end, "from the second time on a buffer is waited for, then read into"

    def test_from_pageable_memory(self) -> None:
        side = emulated_ops().side_stream()
        with pytest.raises(PageableMemory):
            side.copy(np.zeros(3), np.zeros(3).view(DeviceArray))

    def test_an_interrupted_visit_leaves_no_copy_behind(self) -> None:
        ops = emulated_ops()
        stream, X = self.stream(ops)
        with stream.visit(np.arange(100), 100) as stretches:
            next(stretches)
        assert stream._side.n_pending == 0  # type: ignore[attr-defined]
        np.testing.assert_array_equal(self.visited(ops, stream), X)

    def test_the_thread_reads_ahead(self) -> None:
        stream, _ = self.stream(Ops())
        supply: Any = stream.supply
        read, reads = supply.read, threading.Semaphore(0)

        def counted(rows: HostArray, out: Any, readers: Any) -> None:
            read(rows, out, readers)
            reads.release()

        supply.read = counted
        with stream.visit(np.arange(100), 100) as stretches:
            next(stretches)
            for _ in range(2):
                assert reads.acquire(timeout=30), "both buffers are filled while the first is computed on"
            assert not reads.acquire(blocking=False), "and no further"
            next(stretches)
            assert reads.acquire(timeout=30)


@pytest.mark.gpu
class TestOnCuda:
    """What only a real second stream can show."""

    def test_many_chunks_beside_long_steps(self) -> None:
        """Copies run while kernels do: a missing event would show in the weights."""
        rng = np.random.default_rng(0)
        n_samples, width = smaller(65_536, 1500), smaller(1024, 16)
        X = rng.integers(0, 256, size=(n_samples, smaller(784, 20))).astype(np.uint8)
        y = rng.integers(0, 10, len(X))
        results = []
        for window in (None, smaller(1024, 256), smaller(4096, 512)):
            layers = [fcnn.Dense(width, activation="relu"), fcnn.Dense(width, activation="relu"), fcnn.Dense(10)]
            model = fcnn.Sequential(layers, n_in=X.shape[1], seed=0, backend=cuda_ops(), input_scale=1 / 255)
            t = streaming(fcnn.Trainer(model, metrics=["accuracy"]), window, window)
            results.append(run(t, (X, y, None), batch_size=smaller(256, 64), validation_data=(X[:5000], y[:5000])))
        assert_equal(results[1], results[0])
        assert_equal(results[2], results[0])

    def test_host_buffers_are_page_locked(self) -> None:
        cupy = pytest.importorskip("cupy")
        runtime = cupy.cuda.runtime
        buffer = cuda_ops().side_stream().host_buffer((3, 5), np.float32)
        assert buffer.shape == (3, 5)
        buffer[...] = 1.0
        assert runtime.pointerGetAttributes(buffer.ctypes.data).type == runtime.memoryTypeHost

    def test_free_memory_is_what_the_device_has(self) -> None:
        cupy = pytest.importorskip("cupy")
        free = cuda_ops().free_memory()
        assert free is not None
        assert 0 < free <= cupy.cuda.runtime.memGetInfo()[1]
