"""Arrays of a CUDA device, and what the launches of all kernels share: grids, chunks, partial sums."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, Self

import numpy as np

from ..._types import Array, DType, HostArray
from .._autotune import Autotuner, Problem, Question
from .._cublas import CublasProducts
from .._kernels import Launcher
from .._ops import Ops, Replay, Scheduled, SideStream
from .._threads import ThisThread

WARP = 32
_HELD_LANES = {WARP: 8, 128: WARP, 512: WARP, 1024: WARP}
"""How many units of a sample its threads hold in registers at most, and how many lanes of a warp they are. A whole
block works on a wider sample (sample_group.cuh)."""

_LANES = {4: 1, WARP: 8, 1024: WARP}
"""The same for kernels that look at each unit once and hold none."""

_SAMPLES_PER_CHUNK = 128
_ONE_CHUNK = 256
_CHUNKS = 256
"""Sums over samples run in chunks of at least 128 samples, four for each of a block's 32 rows of threads and all in
flight, and in at most 256 chunks. A batch of up to 256 is one chunk: launching a second kernel to add up two costs more
than their blocks would save. The chunks' size depends on the batch alone: a sum has the same bits on every device."""

_ELEMENTS_PER_THREAD = 4
_SMALL = 2**18
"""From this many elements on a thread takes four, so that what it sets up (two remainders, a table row) pays."""

_VECTOR_BYTES = 16
_VECTORS = 2
"""Vectors per thread, so that several loads are in flight (vector.cuh)."""

_TILE_LANES = 8
"""Threads that hold the units of a tile, a vector each (vector_tile.cuh)."""


class Runtime(Protocol):
    """What `CupyOps` needs of the library that owns the device's memory."""

    xp: Any
    name: str
    number: int

    def is_current(self) -> bool:
        """Whether calls of this thread go to the device."""

    def activate(self) -> Any:
        """A context in which they do."""

    def is_device_array(self, x: Any) -> bool:
        """Whether x lies in device memory, in this library's arrays or another's."""

    @property
    def page_locked_bytes(self) -> int:
        """Page-locked host memory that copies of host arrays pass through."""

    def to_device(self, x: Any, dtype: Any = None) -> Array:
        """x in an array of the device, copied only if it is elsewhere, in its order: F if it is F-ordered, else C.

        A host array is cast to `dtype` on its way (None: its own, in the machine's byte order).
        """

    def upload(self, x: HostArray, out: Array) -> None:
        """out ← x, cast, queued on the current stream: a host array of out's shape into a contiguous one.

        x may change when this returns. Raises RuntimeError within `record`.
        """

    def adopt(self, x: Any) -> tuple[Array, int]:
        """x, which lies in CUDA memory, as an array of this library without a copy, and the number of its device.

        What x's library has queued on it comes before what is queued from now on. Errors of either library say why it
        cannot be had.
        """

    def to_host(self, x: Array) -> HostArray:
        """A copy of x on the host, in x's order."""

    def copy(self, x: Array, out: Array) -> None:
        """out ← x, byte by byte, queued: both contiguous in one order, of one dtype and shape."""

    def synchronize(self) -> None:
        """Wait until the device has done what the current stream was given."""

    def side_stream(self) -> SideStream:
        """A new stream for copies to and from the device."""

    def free_memory(self) -> int:
        """Bytes that one new array, or several, can take: never more than the device could give in one piece.

        May give memory that the pool keeps for later back to the device first, which waits for its work.
        """

    def release_memory(self) -> None:
        """Give memory that the pool keeps for later back to the device."""

    def stopwatch(self) -> Callable[[], float]:
        """Start a stopwatch on the device; what it returns waits for the device and gives the seconds since."""

    def stream_address(self) -> int:
        """The current stream of this thread, as cudaStream_t."""

    def current_stream(self) -> Any:
        """The current stream of this thread: as long as it is held, no other stream gets its address."""

    def allocate(self, n_bytes: int) -> Array:
        """Uninitialized device memory that begins at a multiple of 256."""

    def address(self, x: Array) -> int:
        """The address of the array's first element."""

    def compute_capability(self) -> int:
        """The device's, major·10 + minor."""

    def hardware(self) -> str:
        """The device's name, as "NVIDIA H100 80GB HBM3": the same on every machine that has one."""

    def is_recording(self) -> bool:
        """Whether this thread is within `record`."""

    def record(self, fn: Callable[[], None]) -> Callable[[], None]:
        """What `fn` queues on the device, as one graph. Calling the result queues all of it on the current stream.

        `fn` runs once, now, and nothing of what it queues is done. Raises RuntimeError if it allocates device memory:
        the graph would go on using that memory after others have got it.
        """

    def describe(self) -> str:
        """Device, memory and library in one phrase."""


class DeviceOps(Ops):
    """Primitives on the arrays of one CUDA device.

    Args:
        runtime: the device's memory.
        launcher: launches kernels on it.
        products: matrix products on it.
        tuner: chooses among ways of computing the same.
    """

    def __init__(
        self, runtime: Runtime, launcher: Launcher, products: CublasProducts, tuner: Autotuner | None = None
    ) -> None:
        super().__init__()
        self.name = runtime.name
        self.xp = runtime.xp
        self._runtime = runtime
        self._launcher = launcher
        self._products = products
        self._tuner = Autotuner(runtime.hardware(), f"cuBLAS {products.version}") if tuner is None else tuner
        self._twin: Self | None = None  # the same device with the other precision of float32 products

    def describe(self) -> str:
        return self._runtime.describe()

    # Arrays

    def asarray(self, x: Any, dtype: Any = None) -> Array:
        """`x` on this device, C-ordered; x is a host array, a sequence, or an array of any CUDA library."""
        runtime = self._runtime
        if runtime.is_device_array(x):
            x = runtime.to_device(x)
            return self.xp.ascontiguousarray(x, dtype)
        host = np.atleast_1d(np.asarray(x, None if isinstance(x, np.ndarray) else dtype))
        out = self.xp.empty(host.shape, native(host.dtype if dtype is None else dtype))
        runtime.upload(host, out)
        return out

    def to_numpy(self, x: Array) -> HostArray:
        """`x` on the host: a copy if it was on the device, in the same order."""
        return self._runtime.to_host(x) if self._runtime.is_device_array(x) else np.asarray(x)

    def assign(self, out: Array, x: Any) -> None:
        if self._runtime.is_device_array(x):
            x = self._runtime.to_device(x)
        elif np.ndim(x):
            x = x if isinstance(x, np.ndarray) else np.asarray(x, out.dtype)
            if x.shape == out.shape and (out.flags.c_contiguous or out.flags.f_contiguous):
                self._runtime.upload(x, out)
                return
            x = self._runtime.to_device(x, out.dtype)
        if isinstance(x, type(out)) and x.dtype == out.dtype and x.shape == out.shape and _lie_alike(x, out):
            self._launcher.keep(x, out)
            self._runtime.copy(x, out)
        else:
            out[...] = x

    def add(self, x: Array, y: Array, out: Array) -> None:
        _check_alike("add", x=x, y=y, out=out)
        threads = vector_threads(out.size, out.dtype)
        self._launcher.launch("add", "add", (out.dtype,), [out.size, x, y, out], threads=threads)

    def scale(self, x: Array, factor: float, out: Array) -> None:
        _check_alike("scale", x=x, out=out)
        threads = vector_threads(out.size, out.dtype)
        self._launcher.launch("scale", "scale", (out.dtype,), [out.size, factor, x, out], threads=threads)

    def cast(self, x: Array, out: Array, scale: float = 1.0, shift: float = 0.0) -> None:
        _check_alike("cast", x=x, out=out)
        if x.dtype == out.dtype and scale == 1.0 and shift == 0.0:
            self.assign(out, x)
            return
        self._launcher.launch(
            "cast",
            "cast",
            (x.dtype, out.dtype),
            [out.size, scale, shift, x, out],
            threads=vector_threads(out.size, x.dtype, out.dtype),
        )

    def advance(self, counter: Array, by: int) -> None:
        self._launcher.launch("check_finite", "advance", (), [by, counter], threads=1)

    # Execution

    def synchronize(self) -> None:
        self._runtime.synchronize()

    def stopwatch(self) -> Callable[[], float]:
        return self._runtime.stopwatch()

    records_python = False

    def capture(self, fn: Callable[[], None]) -> Replay:
        """A replayable form of `fn`, a function that calls primitives on arrays that stay the same.

        The first call of a thread runs `fn` as it is: kernels are compiled, products tuned, scratch memory made. The
        second records what `fn` queues into a CUDA graph and launches that, as do all later ones. Within another
        capture it is `fn` itself, a part of the outer graph.
        """
        runtime, launcher = self._runtime, self._launcher
        graph: Callable[[], None] | None = None
        kept: list[Any] = []  # the graph holds addresses alone: what lies there must live as long
        warm = ThisThread()

        def run(n_times: int = 1) -> None:
            nonlocal graph
            for _ in range(n_times):
                if graph is not None and not runtime.is_recording():
                    graph()
                elif runtime.is_recording() or not warm.here:
                    fn()
                    warm.here = True
                else:
                    with launcher.keeping(kept):
                        graph = runtime.record(fn)
                    graph()

        return run

    # Which way of computing the same

    def _choose(self, problem: Problem, question: Callable[[], Question]) -> str:
        """The name of the candidate to take; nothing is timed while a graph is being recorded."""
        if self._runtime.is_recording():
            return self._tuner.known(problem) or next(iter(question().candidates))
        return self._tuner.choose(problem, question, self)

    def _described(self, *arrays: Array | None) -> Iterator[Any]:
        """What a problem's time depends on of arrays: dtype, shape, strides, and alignment up to a vector's."""
        for x in arrays:
            if x is None:
                yield None
            else:
                address = self._runtime.address(x)
                yield from (x.dtype.name, x.shape, x.strides, min(address & -address, 16))

    def _like(self, x: Array) -> Array:
        """Uninitialized memory for an array of x's shape and order (it is contiguous) that is aligned as x is."""
        item = x.dtype.itemsize
        whole = self.xp.empty(x.size + 256 // item, x.dtype)
        start = (self._runtime.address(x) - self._runtime.address(whole)) % 256 // item
        flat = whole[start : start + x.size]
        return flat.reshape(x.shape) if x.flags.c_contiguous else flat.reshape(x.shape[::-1]).T

    # What several kernels share

    def _per_sample(
        self,
        stem: str,
        kernel: str,
        template: tuple[Any, ...],
        Z: Array,
        arrays: list[Array | None],
        scalars: list[float] | None = None,
        held: bool = True,
    ) -> None:
        """Launch a kernel that gives each sample (column of Z) some lanes of a warp or, where it is wide, a block.

        Its last template argument is the number of units that they hold in registers. If they hold none, the number of
        lanes is an argument, after n and batch. For a block either is 0.
        """
        n, batch = Z.shape
        table = _HELD_LANES if held else _LANES
        most = next((units for units in table if n <= units), 0)
        lanes = table.get(most, 0)
        sizes, template = ([n, batch], (*template, most)) if held else ([n, batch, lanes], template)
        work = {"threads": batch * lanes} if lanes else {"blocks": batch}
        self._launcher.launch(stem, kernel, template, [*sizes, *(scalars or []), *arrays], **work)

    def _partial(self, tag: str, out: Array, n_chunks: int) -> Array:
        """Where the chunks' sums of `out` go: out itself where there is one chunk."""
        return out if n_chunks == 1 else self.scratch(tag, out.size * n_chunks, out.dtype)

    def _sum_chunks(self, partial: Array, n_chunks: int, out: Array) -> None:
        if partial is not out:
            arguments = [out.size, n_chunks, partial, out]
            self._launcher.launch("sum_chunks", "sum_chunks", (out.dtype,), arguments, blocks=-(-out.size // WARP))


def _lie_alike(x: Array, y: Array) -> bool:
    """Whether both arrays lie in memory without gaps and in one order."""
    return bool((x.flags.c_contiguous and y.flags.c_contiguous) or (x.flags.f_contiguous and y.flags.f_contiguous))


def native(dtype: Any) -> DType:
    """The dtype in this machine's byte order, which is the device's."""
    return np.dtype(dtype).newbyteorder("=")


def _check_alike(where: str, **arrays: Array) -> None:
    """ValueError unless the arrays have one shape and lie alike: the kernels go over memory, element by element."""
    first = next(iter(arrays.values()))
    for name, array in arrays.items():
        if array.shape != first.shape or not _lie_alike(first, array):
            listed = ", ".join(f"{n} {a.shape} with strides {a.strides}" for n, a in arrays.items())
            raise ValueError(
                f"{where} expects contiguous arrays of one shape and one memory order, got {listed}: {name} differs."
            )


def scheduled(setting: float | Scheduled) -> tuple[int, float, Array | None, Array | None]:
    """A setting that may change from step to step, as kernels take it: table's length, number, table, position."""
    if isinstance(setting, Scheduled):
        return setting.table.size, 0.0, setting.table, setting.position
    return 0, setting, None, None


def thread_count(size: int) -> int:
    """Threads for a pass over `size` elements."""
    return size if size < _SMALL else -(-size // _ELEMENTS_PER_THREAD)


def vector_threads(size: int, *dtypes: DType) -> int:
    """Threads for a pass over `size` elements of arrays of these types in vectors (vector.cuh).

    Each takes one vector where that keeps the device busy at all, two of a large array.
    """
    width = vector_width(*dtypes)
    return -(-size // (width if size < _SMALL else width * _VECTORS))


def vector_width(*dtypes: DType) -> int:
    """Elements of a vector: 16 bytes of the widest of the types."""
    return _VECTOR_BYTES // max(np.dtype(d).itemsize for d in dtypes)


def chunks_of(batch: int) -> tuple[int, int]:
    """(samples per chunk, chunks) of a sum over the samples."""
    if batch <= _ONE_CHUNK:
        return _ONE_CHUNK, 1
    chunk = max(_SAMPLES_PER_CHUNK, -(-batch // _CHUNKS))
    return chunk, max(1, -(-batch // chunk))


def tiles(n: int, n_chunks: int, dtype: DType) -> int:
    """Blocks that sum n units of this type over n_chunks chunks of samples (vector_tile.cuh)."""
    return -(-n // (_TILE_LANES * vector_width(dtype))) * n_chunks


def accumulator(dtype: DType) -> DType:
    """The dtype that kernels add up elements of `dtype` in."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)
