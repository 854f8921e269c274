"""cuBLAS handles and their workspaces: one of each for a thread, so that no two threads' calls meet in one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from ..._types import Array
from .._threads import LentToThreads
from ._enums import MathMode, PointerMode
from ._library import CublasLibrary
from ._lt import LtMatmul, LtProblem

_MIB = 2**20
_STREAMS = 4
"""Streams of one thread that keep a workspace each."""


class Host(Protocol):
    """What the products need of the library that owns the device's memory and streams."""

    def stream_address(self) -> int:
        """The current stream of this thread, as cudaStream_t."""

    def current_stream(self) -> Any:
        """The current stream itself: as long as it is held, no other stream gets its address."""

    def is_recording(self) -> bool:
        """Whether this thread is recording a graph: then nothing may be allocated."""

    def allocate(self, n_bytes: int) -> Array:
        """Uninitialized device memory, aligned to 256 bytes at least."""

    def address(self, array: Array) -> int:
        """The address of the array's first element."""

    def compute_capability(self) -> int:
        """The device's, major·10 + minor."""


@dataclass
class Workspace:
    """Device memory that one cuBLAS call at a time may use: of one stream, which it holds, or of recorded graphs."""

    memory: Array
    address: int
    size: int
    stream: Any = None


def workspace_bytes(compute_capability: int) -> int:
    """What NVIDIA recommends in the documentation of cublasSetWorkspace: 32 MiB from Hopper on, 4 MiB before."""
    return (32 if compute_capability >= 90 else 4) * _MIB


@dataclass
class Context:
    """A thread's handles and workspaces.

    Within one stream the device finishes a call before it begins the next, so the calls of a thread may share a
    workspace there; calls on two streams may not, and neither may two threads on one stream, whose calls consist of
    several kernels that could take turns. A recorded graph uses the workspace that it was recorded with wherever it is
    launched, at the same time perhaps as the thread's other work on another stream. So recorded calls have a workspace
    of their own, made together with the handles, because recording may not allocate. All graphs that a thread records
    share it, as they share the scratch memory of `ops.scratch`: they must be launched on one stream, or in order.
    """

    blas: int
    lt: int
    recorded: Workspace
    by_stream: dict[int, Workspace] = field(default_factory=dict)
    """Streams are known by their address, which a new one may get from one that is destroyed while its work goes on. So
    none of these is destroyed: each workspace holds its stream."""
    bound: tuple[int, int] | None = None
    """(stream, workspace) that the handle has been given last."""
    problems: dict[LtProblem, LtMatmul] = field(default_factory=dict)
    """cuBLASLt's descriptors and algorithms by problem (_lt.py). They are written into before each call."""


class Contexts:
    """Lends a context to each thread.

    None is ever destroyed: cublasDestroy waits for the device, which would break a graph that is being recorded.
    """

    def __init__(self, library: CublasLibrary, host: Host) -> None:
        self._library = library
        self._host = host
        self._contexts = LentToThreads(self._make)
        self._size = workspace_bytes(host.compute_capability())

    @property
    def workspace_bytes(self) -> int:
        """The size of one workspace; a thread has one for each stream it has used, and one for recorded graphs."""
        return self._size

    def current(self) -> Context:
        """This thread's context, made at its first use."""
        return self._contexts.current()

    def bind(self) -> tuple[Context, int, Workspace]:
        """This thread's context, the current stream and a workspace for it, which the handle has been given."""
        context, stream = self.current(), self._host.stream_address()
        workspace = self._workspace(context, stream)
        bound = (stream, workspace.address)
        if context.bound != bound or self._host.is_recording():  # its stream may be new at an old address
            context.bound = None
            self._library.call("cublasSetStream_v2", context.blas, stream)  # puts cuBLAS's own workspace in place again
            self._library.call("cublasSetWorkspace_v2", context.blas, workspace.address, workspace.size)
            context.bound = bound
            self._forget_streams(context, stream)
        return context, stream, workspace

    def _workspace(self, context: Context, stream: int) -> Workspace:
        if self._host.is_recording():
            return context.recorded
        found = context.by_stream.get(stream)
        if found is None:
            found = context.by_stream[stream] = self._allocate(self._host.current_stream())
        return found

    def _forget_streams(self, context: Context, current: int) -> None:
        """Let go of the oldest streams and their workspaces; only now does the handle name none of them."""
        while len(context.by_stream) > _STREAMS:
            oldest = next(stream for stream in context.by_stream if stream != current)
            # Its memory goes back to the pool of the stream that used it, to be used next in that stream's order.
            del context.by_stream[oldest]

    def _make(self) -> Context:
        library, recorded = self._library, self._allocate()
        context = Context(library.make("cublasCreate_v2"), library.make("cublasLtCreate"), recorded)
        library.call("cublasSetPointerMode_v2", context.blas, PointerMode.HOST)
        # float32 is float32, and 16-bit products that are summed in parts have their parts summed in float32 as well.
        mode = MathMode.DEFAULT_MATH | MathMode.DISALLOW_REDUCED_PRECISION_REDUCTION
        library.call("cublasSetMathMode", context.blas, mode)
        return context

    def _allocate(self, stream: Any = None) -> Workspace:
        memory = self._host.allocate(self._size)
        return Workspace(memory, self._host.address(memory), self._size, stream)
