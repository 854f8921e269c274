"""Host arrays on their way to a device: the right numbers however late the device copies, in memory of a fixed size."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.backend._staging import BUFFER_BYTES, Staging
from tests.conftest import cuda_ops, emulated_ops
from tests.support.limited import needs_limits, run_limited

SIZE = 4096
"""Bytes of a buffer in these tests."""


class Stream:
    """Work that is done when somebody waits for it, and not before."""

    def __init__(self) -> None:
        self.work: list[Callable[[], None]] = []
        self.n_done = 0

    def run_to(self, n: int) -> None:
        while self.n_done < n:
            self.work[self.n_done]()
            self.n_done += 1


class LateTransfers:
    """Copies that read page-locked memory only when they are waited for, and as a device does: nothing is held for
    them, and what has been given back has others' numbers. The current stream is the test's to choose."""

    def __init__(self) -> None:
        self._memory: list[tuple[int, bytearray]] = []  # with addresses
        self.streams = [Stream()]
        self.page_locked_bytes: list[int] = []
        self.current = self.given_back = 0
        self.fails: str | None = None
        self._lock = threading.Lock()

    def page_locked(self, n_bytes: int) -> HostArray:
        self.page_locked_bytes.append(n_bytes)
        memory = bytearray(b"\xff" * n_bytes)
        array = np.frombuffer(memory, np.uint8)
        self._memory.append((array.ctypes.data, memory))
        weakref.finalize(array, self._give_back, memory)
        return array

    def _give_back(self, memory: bytearray) -> None:
        memory[:] = b"\xee" * len(memory)
        self.given_back += 1

    def queue(self, source: HostArray, out: HostArray, offset: int) -> None:
        assert source.nbytes <= SIZE
        place = out.reshape(-1).view(np.uint8)[offset : offset + source.nbytes]
        if self.fails == "queue":
            raise RuntimeError("no copies now")
        at, memory = next((a, m) for a, m in self._memory if a <= source.ctypes.data < a + len(m))
        first = source.ctypes.data - at
        with self._lock:
            self.stream().work.append(partial(_copy, place, memory, first))
        if self.fails == "interrupted":
            raise KeyboardInterrupt("no copies now")

    def stream(self) -> Stream:
        return self.streams[self.current]

    def mark(self, earlier: tuple[Stream, int] | None) -> tuple[Stream, int]:
        assert earlier is None or earlier[0] is self.stream(), "an event of another stream would forget its copies"
        if self.fails == "mark":
            raise RuntimeError("no copies now")
        return self.stream(), len(self.stream().work)

    def wait(self, mark: tuple[Stream, int]) -> None:
        with self._lock:
            mark[0].run_to(mark[1])

    def wait_for_all(self) -> None:
        self.finish()

    def finish(self) -> None:
        for stream in self.streams:
            stream.run_to(len(stream.work))


def _copy(place: HostArray, memory: bytearray, first: int) -> None:
    place[...] = np.frombuffer(memory, np.uint8)[first : first + place.size]


@st.composite
def sources(draw: st.DrawFn) -> HostArray:
    """Arrays of all dtypes and layouts: up to some dozens of buffers long, and many small ones."""
    shape = draw(st.lists(st.integers(0, 90), min_size=1, max_size=3).filter(lambda s: np.prod(s) < 30_000))
    dtype = draw(st.sampled_from(["uint8", "float16", "float32", "float64", "int64", ">f4"]))
    x = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 250, shape).astype(dtype)
    layout = draw(st.sampled_from(["C", "F", "steps", "backwards", "broadcast"]))
    if layout == "F":
        return np.asfortranarray(x)
    if layout == "steps":
        return x[::2]
    if layout == "backwards":
        return x[..., ::-1]
    return np.broadcast_to(x[:1], x.shape) if layout == "broadcast" else x


@settings(deadline=None)
@given(
    arrays=st.lists(st.tuples(sources(), st.sampled_from("CF"), st.integers(0, 2)), min_size=1, max_size=12),
    dtype=st.sampled_from([None, "float32", "float16", "int16"]),
    released=st.integers(0, 12),
)
def test_what_arrives_is_what_was_there_when_it_was_copied(
    arrays: list[tuple[HostArray, str, int]], dtype: str | None, released: int
) -> None:
    transfers = LateTransfers()
    transfers.streams = [Stream() for _ in range(3)]
    staging, found, expected = Staging(transfers, SIZE), [], []
    for i, (x, order, stream) in enumerate(arrays):
        if i == released:
            staging.release()
        transfers.current = stream
        source = np.array(x) if 0 in x.strides else x.copy(order="K")
        out = np.full(x.shape, 99, dtype or x.dtype.newbyteorder("="), order=order)  # type: ignore[call-overload]
        expected.append(source.astype(out.dtype))
        staging.copy(x if 0 in x.strides else source, out)
        source[...] = 77  # the caller's again
        found.append(out)
    transfers.finish()
    for actual, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)
    assert set(transfers.page_locked_bytes) <= {staging.n_bytes}
    assert len(transfers.page_locked_bytes) <= 2, "before and after the release"


def test_small_copies_wait_for_none_before_them_until_a_buffer_is_full() -> None:
    transfers = LateTransfers()
    staging = Staging(transfers, SIZE)
    for _ in range(2 * SIZE // 512):
        staging.copy(np.ones(3), np.zeros(3))
    assert transfers.streams[0].n_done == 0
    staging.copy(np.ones(3), np.zeros(3))
    assert transfers.streams[0].n_done == SIZE // 512, "those of the buffer that is filled anew, and no others"


def test_a_stream_that_nobody_else_holds_is_still_waited_for() -> None:
    transfers = LateTransfers()
    staging, out = Staging(transfers, SIZE), np.zeros(SIZE, np.uint8)
    staging.copy(np.full(SIZE, 3, np.uint8), out)
    transfers.streams = [Stream()]
    gc.collect()
    for _ in range(2):
        staging.copy(np.full(SIZE, 7, np.uint8), np.zeros(SIZE, np.uint8))
    assert (out == 3).all()


def test_from_many_streams() -> None:
    transfers = LateTransfers()
    transfers.streams = [Stream() for _ in range(200)]
    staging, outs = Staging(transfers, 2**20), [np.zeros(3) for _ in range(200)]
    for transfers.current, out in enumerate(outs):
        staging.copy(np.full(3, float(transfers.current)), out)
    assert all(len(buffer.marks) <= 64 for buffer in staging._buffers)
    transfers.finish()
    np.testing.assert_array_equal([out[0] for out in outs], np.arange(200))


@pytest.mark.parametrize("fails", ["queue", "interrupted", "mark"])
def test_after_a_copy_that_failed(fails: str) -> None:
    """What may be under way reads memory that nobody writes to any more; where nothing is, none is set aside."""
    transfers = LateTransfers()
    staging, out = Staging(transfers, SIZE), np.zeros((4, SIZE), np.uint8)
    staging.copy(np.full(SIZE, 1, np.uint8), out[0])
    transfers.fails = fails
    with pytest.raises((RuntimeError, KeyboardInterrupt), match="no copies now"):
        staging.copy(np.full(SIZE, 2, np.uint8), out[1])
    transfers.fails = None
    for i in (2, 3):
        staging.copy(np.full(SIZE, 1 + i, np.uint8), out[i])
    staging.copy(np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8))
    transfers.finish()
    np.testing.assert_array_equal(out[:, 0], [1, 0 if fails == "queue" else 2, 3, 4])
    np.testing.assert_array_equal(out.min(1), out.max(1))
    assert len(transfers.page_locked_bytes) == (1 if fails == "queue" else 2)


def test_what_was_set_aside_is_given_back_when_its_copies_are_done() -> None:
    transfers = LateTransfers()
    staging, out = Staging(transfers, SIZE), np.zeros(SIZE, np.uint8)
    transfers.fails = "mark"
    with pytest.raises(RuntimeError, match="no copies now"):
        staging.copy(np.full(SIZE, 3, np.uint8), out)
    assert transfers.given_back == 0
    staging.release()
    assert transfers.given_back == 1
    assert (out == 3).all()


def test_numbers_that_overflow_on_the_way_leave_the_way_open() -> None:
    transfers = LateTransfers()
    staging, out = Staging(transfers, SIZE), np.zeros(3, np.float16)
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        staging.copy(np.full(3, 1e30), out)
    staging.copy(np.ones(3), out)
    transfers.finish()
    np.testing.assert_array_equal(out, 1)


def test_threads_share_the_buffers() -> None:
    transfers = LateTransfers()
    staging, outs = Staging(transfers, SIZE), [np.zeros(5000 * (i + 1), np.int32) for i in range(4)]
    threads = [threading.Thread(target=staging.copy, args=(np.full(o.shape, i), o)) for i, o in enumerate(outs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    transfers.finish()
    for i, out in enumerate(outs):
        assert (out == i).all()
    assert transfers.page_locked_bytes == [staging.n_bytes]


# On a device


@pytest.mark.parametrize("dtype", [None, "float32", "float16"])
@pytest.mark.parametrize("layout", ["C", "F", "steps"])
def test_arrays_reach_the_device_in_pieces(device_ops: Ops, layout: str, dtype: str | None) -> None:
    ops: Any = device_ops
    rows = -(-5 * ops.page_locked_bytes // (2 * 8 * 70))  # five buffers and some
    x = np.arange(rows * 70, dtype=np.float64).reshape(rows, 70) % 1000
    source = {"C": x, "F": np.asfortranarray(x), "steps": x[::-2, ::3]}[layout]
    expected = source.astype(dtype or source.dtype)
    np.testing.assert_array_equal(ops.to_numpy(ops.asarray(source, dtype)), expected)
    out = ops.matrix(*source.shape, dtype or "float64")
    ops.assign(out, source)
    np.testing.assert_array_equal(ops.to_numpy(out), expected)


def test_queued_work_comes_before_and_after(device_ops: Ops) -> None:
    ops = device_ops
    host = np.ones((300, 400), np.float32)
    x, total = ops.zeros((300, 400), np.float32), ops.zeros((300, 400), np.float32)
    for value in range(1, 6):
        host.fill(value)
        ops.assign(x, host)
        ops.add(total, x, total)
    np.testing.assert_array_equal(ops.to_numpy(total), np.full((300, 400), 15.0))


def test_a_copy_is_no_part_of_a_graph(device_ops: Ops) -> None:
    x, host = device_ops.zeros(3, np.float32), np.ones(3, np.float32)
    replay = device_ops.capture(lambda: device_ops.assign(x, host))
    replay()
    with pytest.raises(Exception, match=r"to the device while a (CUDA )?graph was being recorded"):
        replay()
    device_ops.assign(x, 2 * host)
    np.testing.assert_array_equal(device_ops.to_numpy(x), 2.0)


def test_the_report_counts_the_buffers() -> None:
    def report(ops: Ops, **options: Any) -> Any:
        layers = [fcnn.Dense(40, **options), fcnn.Dense(3)]
        return fcnn.Sequential(layers, n_in=30, seed=0, backend=ops).memory_report(16)

    ops = emulated_ops()
    plain, host = report(ops), report(ops, placement="host")
    assert plain.page_locked == plain.host == ops.page_locked_bytes > 0
    assert host.host == host.page_locked >= plain.host + 3 * 4 * 30 * 40
    assert "page-locked" in str(plain)
    on_cpu = report(Ops())
    assert on_cpu.page_locked == on_cpu.host == 0


@pytest.mark.gpu
def test_page_locked_memory_is_what_the_report_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither small arrays nor one of many times the buffers takes more, of CuPy's pool or of our own."""
    ops = cuda_ops()
    import cupy

    taken: list[int] = []

    class Counted(cupy.cuda.PinnedMemory):
        def __init__(self, size: int, flags: int = 0) -> None:
            taken.append(size)
            super().__init__(size, flags)

    def from_the_pool(size: int) -> Any:
        raise AssertionError(f"CuPy would keep {size} bytes of page-locked memory.")

    ops.release_memory()
    monkeypatch.setattr(cupy.cuda, "PinnedMemory", Counted)
    cupy.cuda.set_pinned_memory_allocator(from_the_pool)
    try:
        X = np.random.default_rng(0).random((6 * BUFFER_BYTES // 256, 64), np.float32)
        model = fcnn.Sequential([fcnn.Dense(8, activation="relu"), fcnn.Dense(3)], n_in=64, seed=0, backend=ops)
        y = np.arange(len(X)) % 3
        fcnn.Trainer(model).fit(X, y, epochs=1, batch_size=len(X) // 2, progress=False)
        model.predict(X[:5])
        assert sum(taken) == model.memory_report(16).page_locked == 2 * BUFFER_BYTES
    finally:
        cupy.cuda.set_pinned_memory_allocator(cupy.get_default_pinned_memory_pool().malloc)


LIMITED = """
    import sys
    import numpy as np
    import fcnn_gpu.data._input_checks as inputs
    from tests.support.emulated import make_emulated_ops

    ops, way = make_emulated_ops(), sys.argv[3]
    X = np.load(sys.argv[2], mmap_mode="r")
    with open("/proc/self/status", encoding="ascii") as status:
        before = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    if way == "features":
        on_device = inputs.features(ops, X, X.shape[1], np.dtype(np.float32), "test").on_model()
    else:
        on_device = ops.asarray(X, np.float32)
    assert on_device.shape == X.shape and float(ops.to_numpy(on_device[-1:])[0, -1]) == 7.0
    result = before
"""


@needs_limits
@pytest.mark.parametrize("way", ["features", "asarray"])
def test_a_mapped_array_is_never_whole_in_the_host_s_memory(way: str, tmp_path: Path) -> None:
    """The emulated device's memory is the host's: half of the file, which is in float64, and little beside it."""
    emulated_ops()  # skips without a compiler, compiles what is needed
    n_bytes = 160 * 2**20
    X = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float64, (n_bytes // 8 // 1000, 1000))
    X[...] = 7.0
    n_bytes = X.nbytes
    del X
    done = run_limited(LIMITED, tmp_path / "X.npy", way)
    assert done.peak - done.result <= n_bytes // 2 + 50 * 2**20


def test_pieces_of_any_array_are_its_elements_in_order() -> None:
    from fcnn_gpu.backend._staging import _pieces

    x = np.arange(7 * 5 * 11).reshape(7, 5, 11)
    for view, most in itertools.product((x, x.T, x[::2], x[:, ::-1], x[..., 3:4]), (1, 4, 11, 54, 10_000)):
        pieces = list(_pieces(view, most))
        assert max(piece.size for piece in pieces) <= most
        np.testing.assert_array_equal(np.concatenate([piece.ravel() for piece in pieces]), view.ravel())
