"""The CUDA side stream and the runtime make CuPy's calls as they are meant, checked on a stand-in for CuPy; copies
there and back beside computation, on each device."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from fcnn_gpu._types import Array
from fcnn_gpu.backend._cupy import CupyRuntime
from fcnn_gpu.backend._ops import Ops, SideStream
from fcnn_gpu.backend._side_stream import CudaSideStream
from tests.conftest import cuda_ops, emulated_ops
from tests.support.late_copies import ComputeClock, Freed, LateSideStream, Overwritten, PageableMemory
from tests.support.queued_work import keep_busy


class CudaError(RuntimeError):
    """Stands for CUDARuntimeError."""


class FakeCuda:
    """What `CudaSideStream` uses of `cupy.cuda`; `calls` has each call that reaches the device, and whether on it."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.on_device = 0
        self.free = 2**30
        outer = self

        class Stream:
            def __init__(self, non_blocking: bool = False) -> None:
                outer.called("stream", non_blocking)
                self.ptr = 17

            def wait_event(self, event: Any) -> None:
                outer.called("wait", self, event)

            def synchronize(self) -> None:
                outer.calls.append(("synchronize stream", self.ptr))

        class Event:
            def __init__(self, block: bool = False, disable_timing: bool = False) -> None:
                assert block, "who waits must not keep a core busy"
                assert disable_timing
                self.done = False

            def record(self, stream: Any) -> None:
                outer.called("record", self, stream)

            def synchronize(self) -> None:
                outer.calls.append(("synchronize", self))

        class PinnedMemory:
            def __init__(self, size: int, flags: int = 0) -> None:
                outer.called("pinned", size, flags)
                if size > outer.free:
                    raise CudaError("cudaErrorMemoryAllocation: out of memory")
                self.memory = bytearray(size)

        self.Stream, self.Event, self.PinnedMemory = Stream, Event, PinnedMemory
        self.PinnedMemoryPointer = lambda memory, offset: memoryview(memory.memory)[offset:]
        self.current = Stream()
        self.get_current_stream = lambda: self.current
        self.runtime = SimpleNamespace(
            hostAllocPortable=1,
            memcpyHostToDevice=2,
            memcpyDeviceToHost=3,
            memcpyAsync=lambda *arguments: self.called("copy", *arguments),
            CUDARuntimeError=CudaError,
        )
        self.calls.clear()

    def called(self, *call: Any) -> None:
        assert self.on_device or call == ("stream", False), f"{call[0]} on whatever device is current"
        self.calls.append(call)


class Device:
    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda

    def __enter__(self) -> None:
        self._cuda.on_device += 1

    def __exit__(self, *error: object) -> None:
        self._cuda.on_device -= 1


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def side(cuda: FakeCuda) -> CudaSideStream:
    stream = CudaSideStream(SimpleNamespace(cuda=cuda), Device(cuda))
    assert cuda.calls == [("stream", True)], "a stream that does not wait for the default one"
    cuda.calls.clear()
    return stream


def on_device(array: Any, address: int) -> Any:
    return SimpleNamespace(nbytes=array.nbytes, flags=array.flags, data=SimpleNamespace(ptr=address))


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "int64"])
def test_a_host_buffer_is_page_locked_memory(cuda: FakeCuda, side: CudaSideStream, dtype: str) -> None:
    buffer = side.host_buffer((5, 3), dtype)
    assert buffer.shape == (5, 3)
    assert buffer.dtype == dtype
    assert buffer.flags.c_contiguous
    buffer[...] = 7
    assert cuda.calls == [("pinned", 15 * np.dtype(dtype).itemsize, 1)]


def test_too_little_page_locked_memory_is_named(cuda: FakeCuda, side: CudaSideStream) -> None:
    cuda.free = 100
    with pytest.raises(MemoryError, match=r"404 bytes of page-locked host memory.*out of memory.*smaller memory_limit"):
        side.host_buffer((101,), np.float32)


def test_a_copy_names_destination_source_size_direction_and_stream(cuda: FakeCuda, side: CudaSideStream) -> None:
    source = np.ones((4, 2), np.float32)
    side.copy(source, on_device(source, 4096))
    assert cuda.calls == [("copy", 4096, source.ctypes.data, 32, 2, 17)]


def test_a_copy_back_goes_the_other_way(cuda: FakeCuda, side: CudaSideStream) -> None:
    out = np.ones((4, 2), np.float32)
    side.copy_back(on_device(out, 4096), out)
    assert cuda.calls == [("copy", out.ctypes.data, 4096, 32, 3, 17)]


def test_a_copy_of_another_size_or_order_is_refused(cuda: FakeCuda, side: CudaSideStream) -> None:
    source = np.ones((4, 2), np.float32)
    for other in (np.ones((4, 3), np.float32), np.ones((4, 2), np.float64), np.asfortranarray(source)):
        with pytest.raises(ValueError, match="two C-ordered arrays of one size"):
            side.copy(source, on_device(other, 4096))
        with pytest.raises(ValueError, match="two C-ordered arrays of one size"):
            side.copy(other, on_device(source, 4096))
        with pytest.raises(ValueError, match="from the device expects two C-ordered arrays of one size"):
            side.copy_back(on_device(other, 4096), source)
    assert cuda.calls == []


def test_marks_are_recorded_in_one_stream_and_waited_for_in_the_other(cuda: FakeCuda, side: CudaSideStream) -> None:
    copied, computed = side.record(), side.record_compute()
    own = cuda.calls[0][2]
    assert own is not cuda.current
    assert cuda.calls == [("record", copied, own), ("record", computed, cuda.current)]
    cuda.calls.clear()
    side.wait(computed)
    side.compute_waits(copied)
    side.synchronize(copied)
    assert cuda.calls == [("wait", own, computed), ("wait", cuda.current, copied), ("synchronize", copied)]


def test_memory_is_held_until_its_copies_are_done(cuda: FakeCuda, side: CudaSideStream) -> None:
    held, marks = [], []
    for i in range(3):
        source = np.full((4, 2), i, np.float32)
        held.append(weakref.ref(source))
        side.copy(source, on_device(source, 4096))
        marks.append(side.record())
    del source
    for n_done, mark in enumerate(marks):
        assert [host() is None for host in held] == [i < n_done for i in range(3)]
        vars(mark)["done"] = True
        side.copy(np.ones(1), on_device(np.ones(1), 8192))
    assert not any(host() for host in held)


def test_a_stream_that_goes_waits_for_what_it_has_queued(cuda: FakeCuda) -> None:
    for n_copies in (0, 2):
        stream = CudaSideStream(SimpleNamespace(cuda=cuda), Device(cuda))
        source = np.ones((4, 2), np.float32)
        for _ in range(n_copies):
            stream.copy(source, on_device(source, 4096))
        cuda.calls.clear()
        del stream
        gc.collect()
        assert cuda.calls == [("synchronize stream", 17)] * (n_copies > 0)


def test_the_host_waits_for_the_last_copy_that_touches_its_memory(cuda: FakeCuda, side: CudaSideStream) -> None:
    memory = np.zeros((6, 2), np.float32)
    marks = []
    for rows, back in ((slice(0, 2), False), (slice(2, 4), True), (slice(1, 3), False)):
        copy = (lambda host, device: side.copy_back(device, host)) if back else side.copy
        copy(memory[rows], on_device(memory[rows], 4096))
        marks.append(side.record())
    cuda.calls.clear()
    for wait, rows, expected in (
        (side.before_writing, slice(0, 1), marks[0]),
        (side.before_reading, slice(0, 2), None),
        (side.before_writing, slice(1, 2), marks[2]),
        (side.before_reading, slice(0, 6), marks[1]),
        (side.before_writing, slice(3, 4), marks[1]),
        (side.before_writing, slice(4, 6), None),
        (side.before_writing, slice(2, 2), None),
    ):
        wait(memory[rows])
        assert cuda.calls == ([] if expected is None else [("synchronize", expected)]), rows
        cuda.calls.clear()
    side.copy(memory[4:], on_device(memory[4:], 4096))  # without a mark behind it
    cuda.calls.clear()
    side.before_writing(memory[5:])
    assert [call[0] for call in cuda.calls] == ["record", "synchronize"]


class TestOnADevice:
    """The emulated stream copies as late as the marks allow, and finds copies that begin too early."""

    @pytest.fixture
    def device(self, device_ops: Ops) -> tuple[Ops, SideStream]:
        return device_ops, device_ops.side_stream()

    def product(self, ops: Ops) -> Array:
        """1·1ᵀ·3, computed in the compute stream."""
        out = ops.empty((4, 5), np.float32)
        ops.gemm(ops.asarray(np.full((4, 3), 1.0, np.float32)), ops.asarray(np.ones((3, 5), np.float32)), out)
        return out

    def test_there_and_back(self, device: tuple[Ops, SideStream]) -> None:
        ops, side = device
        there, back = side.host_buffer((4, 5), np.float32), side.host_buffer((4, 5), np.float32)
        there[...] = np.arange(20, dtype=np.float32).reshape(4, 5)
        memory = ops.empty((4, 5), np.float32)
        side.wait(side.record_compute())
        side.copy(there, memory)
        side.copy_back(memory, back)
        side.synchronize(side.record())
        np.testing.assert_array_equal(back, there)

    def test_what_was_computed_comes_back_though_it_is_overwritten_later(self, device: tuple[Ops, SideStream]) -> None:
        ops, side = device
        out, back = self.product(ops), side.host_buffer((4, 5), np.float32)
        side.wait(side.record_compute())
        side.copy_back(out, back)
        copied = side.record()
        side.compute_waits(copied)
        ops.fill(out, 7.0)
        side.synchronize(copied)
        np.testing.assert_array_equal(back, 3.0)

    def test_the_host_waits_before_it_writes(self, device: tuple[Ops, SideStream]) -> None:
        """Though the compute stream has waited: that is no wait of the host."""
        ops, side = device
        there, memory = side.host_buffer((4, 5), np.float32), ops.empty((4, 5), np.float32)
        there[...] = 3.0
        keep_busy(ops)
        side.wait(side.record_compute())
        side.copy(there, memory)
        side.compute_waits(side.record())
        found = ops.copy(memory)
        side.before_reading(there)  # waits for nothing
        side.before_writing(there)
        there[...] = 7.0
        np.testing.assert_array_equal(ops.to_numpy(found), 3.0)

    def test_the_host_waits_before_it_reads(self, device: tuple[Ops, SideStream]) -> None:
        ops, side = device
        keep_busy(ops)
        out, back = self.product(ops), side.host_buffer((4, 5), np.float32)
        side.wait(side.record_compute())
        side.copy_back(out, back)
        side.compute_waits(side.record())
        ops.fill(out, 7.0)
        side.before_reading(back[1:2])
        np.testing.assert_array_equal(back, 3.0)

    def test_memory_that_nobody_else_holds_is_copied_all_the_same(self, device_ops: Ops) -> None:
        """And is not handed on before."""
        ops, side = device_ops, device_ops.side_stream()
        keep_busy(ops)
        back = side.host_buffer((4, 5), np.float32)
        out = self.product(ops)
        side.wait(side.record_compute())
        side.copy_back(out, back)
        del out
        gc.collect()
        for other in [ops.zeros((4, 5), np.float32) for _ in range(4)]:
            ops.fill(other, 7.0)
        del side
        gc.collect()
        np.testing.assert_array_equal(back, 3.0)


class TestMistakesShow:
    """In the emulation."""

    def test_a_copy_back_of_what_may_not_be_computed_yet(self) -> None:
        ops = emulated_ops()
        side = ops.side_stream()
        out, back = TestOnADevice().product(ops), side.host_buffer((4, 5), np.float32)
        with pytest.raises(Overwritten, match="not have computed yet"):
            side.copy_back(out, back)
        side.wait(side.record_compute())
        side.copy_back(out, back)
        ops.gemm(ops.asarray(np.ones((4, 3), np.float32)), ops.asarray(np.ones((3, 5), np.float32)), out)
        with pytest.raises(Overwritten, match="not have computed yet"):
            side.copy_back(out, back)

    def test_reading_or_overwriting_without_a_wait(self) -> None:
        ops = emulated_ops()
        side = ops.side_stream()
        out, back = TestOnADevice().product(ops), side.host_buffer((4, 5), np.float32)
        side.wait(side.record_compute())
        side.copy_back(out, back)
        assert not (back == 3.0).any(), "not copied yet"
        ops.fill(out, 7.0)
        side.synchronize(side.record())
        np.testing.assert_array_equal(back, 7.0)

    @staticmethod
    def copied(ops: Ops, waits: bool = True) -> tuple[LateSideStream, Array, Any]:
        """A side stream that is to copy threes to the device, and whether the compute stream waits for that."""
        side: Any = ops.side_stream()
        there, memory = side.host_buffer((4, 5), np.float32), ops.zeros((4, 5), np.float32)
        there[...] = 3.0
        side.wait(side.record_compute())
        side.copy(there, memory)
        if waits:
            side.compute_waits(side.record())
        return side, memory, there

    @pytest.mark.parametrize("wait", ["read", "compute", "stream"])
    def test_writing_where_the_compute_stream_alone_has_waited(self, wait: str) -> None:
        """It shows when the host waits the next time, however it does: for this stream or for the compute stream."""
        ops = emulated_ops()
        side, memory, there = self.copied(ops)
        ops.scale(memory, 1.0, memory)  # reads what has been copied
        there[...] = 7.0
        waits: dict[str, Any] = {
            "read": partial(ops.to_numpy, memory),
            "compute": ops.synchronize,
            "stream": partial(side.before_writing, there),
        }
        with pytest.raises(Overwritten, match="host wrote into page-locked memory"):
            waits[wait]()
        np.testing.assert_array_equal(ops.to_numpy(memory), 3.0)

    def test_writing_before_the_copy_is_begun(self) -> None:
        ops = emulated_ops()
        _, memory, there = self.copied(ops)
        there[...] = 7.0
        np.testing.assert_array_equal(ops.to_numpy(memory), 7.0)

    def test_reading_on_the_host_where_the_compute_stream_alone_has_waited(self) -> None:
        ops = emulated_ops()
        side = ops.side_stream()
        out, back = TestOnADevice().product(ops), side.host_buffer((4, 5), np.float32)
        side.wait(side.record_compute())
        side.copy_back(out, back)
        side.compute_waits(side.record())
        ops.fill(out, 7.0)
        assert not (back == 3.0).any(), "not there for the host"
        ops.synchronize()
        np.testing.assert_array_equal(back, 3.0)

    @pytest.mark.parametrize("which", ["host", "device"])
    @pytest.mark.parametrize("begun", [True, False])
    def test_memory_that_goes_while_a_copy_is_queued(self, which: str, begun: bool) -> None:
        """Nothing but what the stream itself remembers holds it."""
        ops = emulated_ops()
        side, memory, there = self.copied(ops)
        if begun:
            ops.scale(memory, 1.0, memory)
        side._under_way.clear()
        if which == "host":
            del there
        else:
            del memory
        gc.collect()
        if begun and which == "device":  # it is done there
            side.synchronize(side.record())
        else:
            with pytest.raises(Freed):
                side.synchronize(side.record())

    def test_a_copy_to_new_memory_without_a_wait(self) -> None:
        """Kernels that were queued when it was freed may still use it."""
        ops = emulated_ops()
        side = ops.side_stream()
        there = side.host_buffer((4, 5), np.float32)
        side.wait(side.record_compute())
        TestOnADevice().product(ops)
        with pytest.raises(Overwritten, match="may still be reading"):
            side.copy(there, ops.empty((4, 5), np.float32))

    @pytest.mark.parametrize("waits", [True, False])
    def test_a_copy_back_over_what_another_stream_copies_from(self, waits: bool) -> None:
        """It is in order where the compute stream comes between them."""
        ops = emulated_ops()
        _, memory, there = self.copied(ops, waits)
        back, out = ops.side_stream(), TestOnADevice().product(ops)
        if waits:
            ops.gemm(memory, ops.asarray(np.eye(5, dtype=np.float32)), out)
        back.wait(back.record_compute())
        if waits:
            back.copy_back(out, there)
            back.synchronize(back.record())
            np.testing.assert_array_equal(there, 3.0)
        else:
            with pytest.raises(Overwritten, match="another stream"):
                back.copy_back(out, there)

    def test_a_copy_over_what_another_stream_copies_back_from(self) -> None:
        ops = emulated_ops()
        back, there = ops.side_stream(), ops.side_stream()
        out, memory = TestOnADevice().product(ops), back.host_buffer((4, 5), np.float32)
        computed = back.record_compute()
        back.wait(computed)
        back.copy_back(out, memory)
        there.wait(computed)
        with pytest.raises(Overwritten, match="another stream"):
            there.copy(there.host_buffer((4, 5), np.float32), out)
        back.compute_waits(back.record())
        there.wait(there.record_compute())
        there.copy(there.host_buffer((4, 5), np.float32), out)

    def test_a_stream_that_goes_leaves_what_others_watch(self) -> None:
        """Memory of the same address and size as that of a network before, whose stream is still to be collected."""
        clock = ComputeClock()
        memory = np.zeros((4, 5), np.float32)
        before, after = (LateSideStream(clock, np.asarray) for _ in range(2))
        for stream in (before, after):
            stream.wait(stream.record_compute())
            stream.copy(stream.host_buffer((4, 5), np.float32), memory)
        del before, stream
        gc.collect()
        clock.kernel_ran([memory])
        with pytest.raises(Overwritten, match="may still be reading"):
            after.copy(after.host_buffer((4, 5), np.float32), memory)

    def test_a_copy_back_into_pageable_memory(self) -> None:
        ops = emulated_ops()
        with pytest.raises(PageableMemory, match="into pageable"):
            ops.side_stream().copy_back(ops.zeros((2, 2), np.float32), np.empty((2, 2), np.float32))


class FakeArray:
    """Stands for `cupy.ndarray`."""

    def __init__(self, device: int = 0) -> None:
        self.device = SimpleNamespace(id=device)


class WithDlpack:
    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 1


class WithInterface:
    __cuda_array_interface__: ClassVar[dict[str, Any]] = {"version": 3}


class Pool:
    """CuPy's, of a device of 4,000 bytes: `kept` are free, of which `split` lie beside arrays that are alive."""

    limit, used, kept, split = 0, 300, 50, 0

    def get_limit(self) -> int:
        return self.limit

    def total_bytes(self) -> int:
        return self.used + self.kept

    def free_bytes(self) -> int:
        return self.kept

    def free_all_blocks(self) -> None:
        self.kept = self.split


@pytest.fixture
def runtime() -> CupyRuntime:
    pool = Pool()
    cuda = SimpleNamespace(
        Device=lambda number: contextlib.nullcontext(),
        runtime=SimpleNamespace(getDevice=lambda: 0, memGetInfo=lambda: (4000 - pool.total_bytes(), 4000)),
    )
    library = SimpleNamespace(
        ndarray=FakeArray,
        cuda=cuda,
        from_dlpack=lambda x: FakeArray(1),
        asarray=lambda x: FakeArray(2),
        get_default_memory_pool=lambda: pool,
    )
    return CupyRuntime(library, 0)


def test_an_array_is_adopted_by_the_protocol_that_it_has(runtime: CupyRuntime) -> None:
    own = FakeArray()
    assert runtime.adopt(own) == (own, 0)
    assert runtime.to_device(own) is not own, "as cupy.asarray gives it"
    assert runtime.adopt(WithDlpack())[1] == 1
    assert runtime.to_device(WithDlpack()).device.id == 1
    assert runtime.adopt(WithInterface())[1] == 2
    assert all(runtime.is_device_array(x) for x in (own, WithDlpack(), WithInterface()))
    assert not any(runtime.is_device_array(x) for x in (np.ones(2), np.float32(1.0), 1.0, [1.0]))


def test_free_memory_is_what_the_device_has_left_once_the_pool_has_given_back(runtime: CupyRuntime) -> None:
    pool = runtime.xp.get_default_memory_pool()
    assert (runtime.free_memory(), pool.kept) == (3650, 50), "so little is not worth a wait for the device"
    pool.kept = 700
    assert (runtime.free_memory(), pool.kept) == (3700, 0)
    pool.kept = pool.split = 700
    assert runtime.free_memory() == 3000, "no array fits into pieces beside others"
    pool.limit = 1200
    assert runtime.free_memory() == 200
    pool.limit = 900
    assert runtime.free_memory() == 0


@pytest.mark.gpu
def test_one_new_array_has_room_in_what_is_said_to_be_free() -> None:
    ops, piece = cuda_ops(), 2**20
    import cupy

    pool = cupy.get_default_memory_pool()
    gc.collect()
    ops.release_memory()
    pool.set_limit(pool.total_bytes() + 64 * piece)
    try:
        assert ops.free_memory() == 64 * piece
        block = ops.empty(32 * piece, "uint8")
        del block
        pieces = [ops.empty(piece, "uint8") for _ in range(32)]  # cut from the block that has just been given back
        del pieces[::2]
        free = ops.free_memory()
        assert free == 32 * piece, "and not the 16 between the others"
        assert ops.empty(free, "uint8").nbytes == free
    finally:
        pool.set_limit(0)
        pieces = []
        ops.release_memory()


@pytest.mark.gpu
def test_a_thread_records_on_one_stream_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    ops = cuda_ops()
    import cupy

    made: list[Any] = []

    class Noted(cupy.cuda.Stream):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            made.append(weakref.ref(self))

    monkeypatch.setattr(cupy.cuda, "Stream", Noted)
    x, out = ops.asarray(np.eye(3)), ops.zeros((3, 3), np.float64)

    def record_thrice() -> None:
        for _ in range(3):
            replay = ops.capture(lambda: ops.gemm(x, x, out))
            replay()
            replay()

    for _ in range(2):
        thread = threading.Thread(target=record_thrice)
        thread.start()
        thread.join()
        gc.collect()
    assert len(made) <= 1
    assert all(stream() is not None for stream in made), "a cuBLAS handle names it"
    np.testing.assert_array_equal(ops.to_numpy(out), np.eye(3))
