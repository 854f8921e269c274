"""Primitives on arrays that have a shape but no memory: what a step would allocate, counted without allocating it.

`shadow_ops(ops, meter)` runs the very code of `ops`, layers and optimizers, so that a prediction cannot drift from it.
A `Shadow` answers what that code asks of an array (shape, strides, slices, reshaping). Calls of NumPy's functions on it
and launches of kernels do nothing; `Meter` notes each array that would have been made and for how long it lives.
"""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from .._types import Array
from ._kernel_ops import KernelOps, Runtime
from ._ops import Ops, Replay
from ._ops._numpy import CACHE_LINE

POOL_UNIT = 512
"""CuPy's memory pool hands out multiples of so many bytes."""


class Block:
    """Memory that nobody made: `nbytes` of one kind; `value` is the last number that an array in it was filled with."""

    def __init__(self, nbytes: int, kind: str) -> None:
        self.nbytes, self.kind = nbytes, kind
        self.value: float = 0


class Meter:
    """Counts the memory of shadow arrays that are alive, by kind.

    Args:
        on_device: whether a device's memory pool hands it out, in multiples of `POOL_UNIT`.
    """

    def __init__(self, on_device: bool) -> None:
        self._on_device = on_device
        self._kind = "scratch"
        self._alive: WeakSet[Block] = WeakSet()
        self._constants: dict[int, Array] = {}
        self._retained: list[Block] = []
        self._retaining = False

    @contextmanager
    def kind(self, kind: str) -> Iterator[None]:
        """Within, what is made is of this kind."""
        before, self._kind = self._kind, kind
        try:
            yield
        finally:
            self._kind = before

    def bytes(self, kind: str) -> int:
        """Bytes of one kind that are alive now."""
        constants = sum(x.nbytes for x in self._constants.values()) if kind == "scratch" else 0
        return constants + sum(block.nbytes for block in self._alive if block.kind == kind)

    def array(self, shape: Any, dtype: Any, aligned: bool = True) -> Shadow:
        """A C-ordered shadow array with memory of its own; `aligned`: to a cache line, where the host makes it."""
        geometry = _geometry(shape, np.dtype(dtype))
        return Shadow(self, self.block(geometry.nbytes, aligned), geometry)

    def block(self, nbytes: int, aligned: bool = True) -> Block:
        """Memory for an array."""
        whole = -(-nbytes // POOL_UNIT) * POOL_UNIT if self._on_device else nbytes + (CACHE_LINE if aligned else 0)
        block = Block(whole, self._kind)
        self._alive.add(block)
        if self._retaining:
            self._retained.append(block)
        return block

    def retaining(self, fn: Callable[[], None]) -> None:
        """Call `fn`; nothing that is made in it is let go, ever."""
        before, self._retaining = self._retaining, True
        try:
            fn()
        finally:
            self._retaining = before

    def keep(self, arrays: Iterable[Any]) -> None:
        """These are not let go, ever."""
        self._retained += [array.block for array in arrays if isinstance(array, Shadow)]

    def like(self, array: Array, block: Block | None = None) -> Shadow:
        """A shadow of a real array's shape, dtype and strides, in a block or in one of its own."""
        geometry = np.lib.stride_tricks.as_strided(np.empty(1, array.dtype), array.shape, array.strides)
        return Shadow(self, self.block(array.nbytes) if block is None else block, geometry)

    def note_constant(self, array: Array) -> None:
        """A read-only array that calls share (`constant_tile`): scratch, once."""
        whole = array if array.base is None else array.base
        self._constants[id(whole)] = whole


class Shadow(NDArrayOperatorsMixin):
    """An array without memory. `_geometry` has its shape, dtype and strides; what it points to is never touched."""

    def __init__(self, meter: Meter, block: Block, geometry: Array) -> None:
        self._meter, self._block, self._geometry = meter, block, geometry

    def _view(self, geometry: Array) -> Shadow:
        return Shadow(self._meter, self._block, geometry)

    shape = property(lambda self: self._geometry.shape)
    dtype = property(lambda self: self._geometry.dtype)
    strides = property(lambda self: self._geometry.strides)
    ndim = property(lambda self: self._geometry.ndim)
    size = property(lambda self: self._geometry.size)
    itemsize = property(lambda self: self._geometry.itemsize)
    nbytes = property(lambda self: self._geometry.nbytes)
    flags = property(lambda self: self._geometry.flags)
    T = property(lambda self: self._view(self._geometry.T))

    @property
    def block(self) -> Block:
        """The memory that this array is a view of."""
        return self._block

    def __len__(self) -> int:
        return len(self._geometry)

    def __repr__(self) -> str:
        return f"<shadow of shape {self.shape}, {self.dtype}>"

    def reshape(self, *shape: Any, order: Any = "C") -> Shadow:
        """A view; ValueError where it would have to be a copy."""
        shape = shape[0] if len(shape) == 1 else shape
        return self._view(self._geometry.reshape(shape, order=order, copy=False))

    def swapaxes(self, first: int, second: int) -> Shadow:
        return self._view(self._geometry.swapaxes(first, second))

    def view(self, dtype: Any) -> Shadow:
        return self._view(self._geometry.view(dtype))

    def __getitem__(self, key: Any) -> Any:
        keys = key if isinstance(key, tuple) else (key,)
        integers = [k for k in keys if isinstance(k, int | np.integer)]
        if len(integers) == self.ndim:
            return self.dtype.type(self._block.value)
        return self._view(self._geometry[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        """Nothing: there is no memory to write to."""

    def __float__(self) -> float:
        return float(self._block.value)

    def __int__(self) -> int:
        return int(self._block.value)

    def fill(self, value: float) -> None:
        if self.nbytes:
            self._block.value = value

    def copy(self, order: Any = "C") -> Shadow:
        return self._meter.like(self)

    def take(self, indices: Any, axis: Any = None, out: Any = None, mode: Any = "raise") -> Any:
        return out

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise TypeError("The numbers of an array were asked for that is there to count memory and has none.")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        for x in inputs:
            if isinstance(x, np.ndarray) and x.ndim and not x.flags.writeable:
                self._meter.note_constant(x)
        out = options.get("out")
        if out is not None:
            return out[0]
        if method == "at":
            return None
        if method == "reduce":
            shape = np.add.reduce(np.broadcast_to(np.int8(0), self.shape), options.get("axis", 0), keepdims=True).shape
            return self._meter.array(shape, self.dtype) if np.prod(shape) > 1 else 0.0
        shapes = [x.shape for x in inputs if hasattr(x, "shape")]
        dtypes = [x.dtype if hasattr(x, "dtype") else type(x) for x in inputs]
        return self._meter.array(np.broadcast_shapes(*shapes), ufunc.resolve_dtypes((*dtypes, None))[-1])

    def __array_function__(self, func: Any, types: Any, args: Any, options: Any) -> Any:
        if options.get("out") is not None:
            return options["out"]
        if func in (np.copyto, np.put):
            return None
        if func is np.dot and args[0].ndim == 1:
            return 0.0
        raise TypeError(
            f"memory_report runs a step on arrays without memory, on which np.{func.__name__} cannot be called. "
            "Does a layer of your own call it? Give it out=, or use the primitives of layer.ops."
        )


def _geometry(shape: Any, dtype: np.dtype[Any]) -> Array:
    """An array object of this shape over the memory of a single element: safe as long as no element is read."""
    shape = shape if isinstance(shape, tuple) else (shape,)
    strides = [dtype.itemsize]
    for extent in reversed(shape[1:]):
        strides.append(strides[-1] * max(extent, 1))
    return np.lib.stride_tricks.as_strided(np.empty(1, dtype), shape, strides[: len(shape)][::-1])


class _Library:
    """What stands in for the array library, `ops.xp`."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def empty(self, shape: Any, dtype: Any) -> Shadow:
        return self._meter.array(shape, dtype)

    zeros = empty

    def ones(self, shape: Any, dtype: Any) -> Shadow:
        return self._meter.array(shape, dtype, aligned=False)

    def arange(self, start: int, stop: int, step: int, dtype: Any) -> Shadow:
        return self._meter.array(max(0, -(-(stop - start) // step)), dtype, aligned=False)

    def ascontiguousarray(self, x: Any, dtype: Any = None) -> Shadow:
        return x if x.flags.c_contiguous and dtype in (None, x.dtype) else self._meter.array(x.shape, dtype or x.dtype)

    def add(self, x: Any, y: Any, out: Any) -> None:
        """out = x + y"""

    def multiply(self, x: Any, y: Any, out: Any) -> None:
        """out = x·y"""


class _Runtime:
    """What stands in for the library that owns a device's memory."""

    def __init__(self, meter: Meter, library: _Library, real: Runtime) -> None:
        self.xp, self.name, self._meter = library, real.name, meter
        self.compute_capability = real.compute_capability

    def is_current(self) -> bool:
        return True

    def is_device_array(self, x: Any) -> bool:
        return isinstance(x, Shadow)

    def to_device(self, x: Any, dtype: Any = None) -> Shadow:
        if isinstance(x, Shadow):
            return x
        return self._meter.like(x) if dtype in (None, x.dtype) else self._meter.array(x.shape, dtype)

    def upload(self, x: Any, out: Any) -> None:
        """out = x"""

    def is_recording(self) -> bool:
        return False

    def address(self, x: Shadow) -> int:
        return POOL_UNIT  # any that is aligned

    def copy(self, x: Any, out: Any) -> None:
        """out = x"""


class _Products:
    """What stands in for cuBLAS: its first call makes the thread's workspaces."""

    def __init__(self, meter: Meter, workspace_bytes: int) -> None:
        self._meter, self._size = meter, workspace_bytes
        self._workspaces: list[Shadow] = []

    def with_precision(self, precision: str | None) -> _Products:
        return self

    def gemm(self, *args: Any, **options: Any) -> None:
        if not self._workspaces:
            with self._meter.kind("workspace"):  # one for the calls of a stream, one for those in recorded graphs
                self._workspaces = [self._meter.array(self._size, np.uint8) for _ in range(2)]

    matmul = gemm_batched = gemm
    tf32 = False


class _Tuner:
    """What stands in for the autotuner: nothing can be timed, so the first candidate counts."""

    def choose(self, problem: Any, question: Callable[[], Any], clock: Any) -> str:
        return str(next(iter(question().candidates)))


def shadow_ops(ops: Ops, meter: Meter) -> Ops:
    """The primitives of `ops` on shadow arrays, their allocations counted by `meter`."""
    library = _Library(meter)
    shadow: Any = copy.copy(ops)
    base: Any = type(ops)
    shadow.__class__ = _shadow_class(base)
    own = {"xp": library, "_meter": meter, "_per_thread": threading.local()}
    if isinstance(ops, KernelOps):
        launcher = copy.copy(ops._launcher)
        vars(launcher).update(launch=_nothing, keep=_nothing)
        own |= {"_runtime": _Runtime(meter, library, ops._runtime), "_launcher": launcher}
        own["_tuner"] = _Tuner()
        own["_products"] = _Products(meter, ops._products.workspace_bytes)
        own["_segment_table"] = functools.lru_cache(maxsize=128)(shadow._make_segment_table)
    if hasattr(ops, "_issue"):  # CompiledOps, whose import waits until it is needed
        own["_issue"] = functools.partial(_issue_nothing, shadow)
    vars(shadow).update(own)
    return shadow


def _nothing(*args: Any, **options: Any) -> None:
    """What a launch does where there is nothing to launch on."""


def _issue_nothing(shadow: Any, *operation: Any, **arguments: Any) -> None:
    """What takes the place of a compiled call: it needs the memory that each thread computes in.

    A call that is recorded keeps its arrays.
    """
    shadow.scratch("compiled", shadow.scratch_bytes, np.uint8)
    shadow._meter.keep(arguments.values())


@functools.cache
def _shadow_class(base: Any) -> type[Ops]:
    class ShadowOps(base):
        """The few primitives that would look into an array, or leave the library that `xp` is."""

        def matrix(self, n: int, batch: int, dtype: Any) -> Array:
            return self.xp.empty((batch, n), dtype).T

        def asarray(self, x: Any, dtype: Any = None) -> Array:
            if self.asynchronous and not isinstance(x, Shadow):
                x = self._meter.like(x)
            return self.xp.ascontiguousarray(x, dtype)

        def to_numpy(self, x: Array) -> Any:
            return np.broadcast_to(np.asarray(x.block.value, x.dtype), x.shape) if isinstance(x, Shadow) else x

        def synchronize(self) -> None:
            pass

        def sparse_product(self, W: Array, A0: Any, out: Array, gain: float = 1.0) -> None:
            """out = gain·W·A₀"""

        def sparse_gradient(self, dZ: Array, A0: Any, dW: Array, gain: float = 1.0, add_to_dW: bool = False) -> None:
            """dW = gain·dZ·A₀ᵀ"""

        def capture(self, fn: Callable[[], None]) -> Replay:
            """`fn`. NumPy's tape is made in the first step, and keeps scratch memory that is too small later in it."""

            def run(n_times: int = 1) -> None:
                for _ in range(n_times):
                    fn() if self.asynchronous else self._meter.retaining(fn)

            return run

    return ShadowOps
