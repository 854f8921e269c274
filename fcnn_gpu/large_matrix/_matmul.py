"""`chunked_matmul`: checks first, then the plan, then the run."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from .._arrays import quietly
from .._checks import check_bool, check_bytes
from .._types import Array, DType
from ..activations import ACTIVATIONS, Activation
from ..backend import Ops, available_memory
from ..files import StorageError
from ._arguments import WHO, ArrayToBe, bias_column, new_file, operand, ops_for_arrays, result
from ._device import DeviceEngine
from ._host import Epilogue, HostEngine
from ._pipeline import Run
from ._placement import Matrix, scratch_bytes
from ._plan import MatmulPlan, Problem
from ._planner import ALIGN, cores, make_plan
from ._rates import Rates, measure_rates
from ._report import MatmulReport


@overload
def chunked_matmul(
    A: Any,
    B: Any,
    out: Any = None,
    *,
    bias: Any = None,
    activation: str | Activation | None = None,
    memory_limit: int | str | None = None,
    rates: Rates | None = None,
    backend: str | Ops | None = None,
    return_report: Literal[False] = False,
) -> Array: ...


@overload
def chunked_matmul(
    A: Any,
    B: Any,
    out: Any = None,
    *,
    bias: Any = None,
    activation: str | Activation | None = None,
    memory_limit: int | str | None = None,
    rates: Rates | None = None,
    backend: str | Ops | None = None,
    return_report: Literal[True],
) -> tuple[Array, MatmulReport]: ...


@quietly
def chunked_matmul(
    A: Any,
    B: Any,
    out: Any = None,
    *,
    bias: Any = None,
    activation: str | Activation | None = None,
    memory_limit: int | str | None = None,
    rates: Rates | None = None,
    backend: str | Ops | None = None,
    return_report: bool = False,
) -> Array | tuple[Array, MatmulReport]:
    """out = f(A·B + bias), for matrices larger than memory.

    A (m, k), B (k, n) and out (m, n) may each lie in host memory, in a file or on a CUDA device, in C or F order or as
    views (slices, transposes). What does not lie where it is multiplied passes through buffers within `memory_limit`,
    tile by tile: chunks are read ahead, and finished tiles written behind, while others are multiplied. Files are read
    and written by position and never mapped, so that their pages do not count as the process's memory.

    Args:
        A, B: NumPy arrays, memory maps (`np.load(path, mmap_mode="r")`, `np.memmap`), arrays of a CUDA device of any
            library, or paths of .npy files; of one dtype, float32 or float64 (on a GPU also float16 or bfloat16, which
            are added up, and given, in float32).
        out: where the result goes: an array or a memory map (mode "r+" or "w+"), or a path, where a new .npy file is
            made. None: a new array, on the device if A and B are there and it has room, else on the host. The result
            itself does not count towards the limit.
        bias: (m,) or (m, 1), added to every column: A is a layer's W, B its A₀, bias its b.
        activation: f, by name or as an `Activation`: any that works element by element.
        memory_limit: bytes, or text like "512 MB", that buffers may take: of the device on a GPU (and as much again of
            page-locked host memory), else of the host. BLAS's own workspace (some tens of MB) is not among them. None:
            half of what is free.
        rates: what the plan counts on; measured where None, which takes some tenths of a second once per process.
        backend: "cpu", "numpy", "cupy", ...; None: the device that an operand lies on, else the default backend.
        return_report: also return a `MatmulReport`: what was achieved beside what was predicted.

    Returns: out, or (out, report). The same places, limit and rates give the same bits, with any number of threads;
    others, and `A @ B`, differ by rounding, because k is summed in other pieces.

    Raises, before out is touched: ValueError for shapes that do not fit, memory that overlaps, a read-only out, or a
    limit below the smallest that works, which it names; TypeError for dtypes; StorageError, an OSError, for files that
    cannot be read or are too short. A StorageError while it runs says what has become of out. Ctrl-C ends all
    threads.

    >>> import numpy as np
    >>> W, A0, b = np.full((3, 4), 0.5), np.eye(4), np.array([1.0, -1.0, 0.0])
    >>> chunked_matmul(W, A0, bias=b, activation="relu", memory_limit="1 MB", backend="numpy")
    array([[1.5, 1.5, 1.5, 1.5],
           [0. , 0. , 0. , 0. ],
           [0.5, 0.5, 0.5, 0.5]])

    `plan_chunked_matmul` takes the same arguments and says what this function would do.
    """
    check_bool(f"{WHO}(return_report)", return_report)
    job = _Job(A, B, out, bias, activation, memory_limit, rates, backend)
    with job.opened():
        plan = job.plan()
        report = job.run(plan)
    return (job.result, report) if return_report else job.result


def plan_chunked_matmul(
    A: Any,
    B: Any,
    out: Any = None,
    *,
    bias: Any = None,
    activation: str | Activation | None = None,
    memory_limit: int | str | None = None,
    rates: Rates | None = None,
    backend: str | Ops | None = None,
) -> MatmulPlan:
    """What `chunked_matmul` would do with these arguments: tiles, bytes moved, what bounds it, predicted time.

    Nothing is computed and nothing written. Raises what `chunked_matmul` raises before it begins.

    >>> import numpy as np
    >>> plan = plan_chunked_matmul(np.ones((40, 30)), np.ones((30, 20)), memory_limit="1 MB", backend="numpy",
    ...                            rates=Rates(arithmetic=1e11))
    >>> plan.tile, plan.flops, plan.bound
    ((40, 20, 30), 48000, 'arithmetic')
    """
    job = _Job(A, B, out, bias, activation, memory_limit, rates, backend, dry=True)
    with job.opened():
        return job.plan()


class _Job:
    """The arguments, checked."""

    def __init__(
        self,
        A: Any,
        B: Any,
        out: Any,
        bias: Any,
        activation: str | Activation | None,
        memory_limit: int | str | None,
        rates: Rates | None,
        backend: str | Ops | None,
        dry: bool = False,
    ) -> None:
        self.ops = ops = ops_for_arrays(backend, A, B, out)
        if rates is not None and not isinstance(rates, Rates):
            raise TypeError(f"{WHO}(rates) expects fcnn.Rates(arithmetic=...), got {type(rates).__name__}.")
        self._rates, self._dry = rates, dry
        limit = check_bytes(f"{WHO}(memory_limit)", memory_limit)
        function = ACTIVATIONS.resolve("identity" if activation is None else activation)
        if not function.is_primitive:
            raise ValueError(
                f"{WHO} applies activations that work element by element, got {function!r}. "
                "Leave activation out, and apply it to the result."
            )
        self._A, self._B = operand(ops, "A", A), operand(ops, "B", B)
        m, n, dtype = self._check_operands()
        vector = None if bias is None else bias_column(ops, bias, m, dtype)
        self._epilogue = Epilogue(vector, function.name, function.slope)
        self._made: Path | None = None
        if isinstance(out, str | os.PathLike):
            self._made = Path(out)
            if self._made.exists():
                raise FileExistsError(
                    errno.EEXIST, f"{WHO}(out): {self._made} exists. Name another file, or pass it as a memory map, "
                    "np.load(path, mmap_mode='r+'), to be overwritten."
                )  # fmt: skip
            if not self._made.parent.is_dir():
                raise FileNotFoundError(errno.ENOENT, f"{WHO}(out): there is no folder {self._made.parent}.")
        self._shape, self._dtype, self._given = (m, n), dtype, out
        self._out: Matrix | None = None
        free = ops.free_memory()
        self._limit = _half(free if ops.asynchronous else available_memory()) if limit is None else limit
        self._new_on_device = out is None and self._fits_on_device(free)
        if out is not None and self._made is None:
            self._out = result(ops, out, (m, n), dtype, (self._A, self._B))

    @property
    def result(self) -> Array:
        assert self._out is not None
        return self._given if self._given is not None and self._made is None else self._out.array

    def _check_operands(self) -> tuple[int, int, DType]:
        A, B = self._A.array, self._B.array
        if A.shape[1] != B.shape[0]:
            hint = " Is one of them transposed?" if A.shape[1] in B.shape or B.shape[0] in A.shape else ""
            raise ValueError(f"{WHO} expects A (m, k) and B (k, n), got {A.shape} and {B.shape}.{hint}")
        if A.dtype != B.dtype:
            raise TypeError(f"{WHO} expects A and B of one dtype, got {A.dtype} and {B.dtype}. Convert one of them.")
        name, on_device = np.dtype(A.dtype).name, self.ops.asynchronous
        known = ("float32", "float64", *(("float16", "bfloat16") if on_device else ()))
        if name not in known or not A.dtype.isnative:
            native = "" if A.dtype.isnative else " in the byte order of another machine"
            raise TypeError(
                f"{WHO} multiplies {', '.join(known)} on {'a GPU' if on_device else 'the CPU'}, got {name}{native}. "
                "Convert the operands first."
            )
        return A.shape[0], B.shape[1], np.dtype(np.float32) if np.dtype(A.dtype).itemsize == 2 else np.dtype(A.dtype)

    def _fits_on_device(self, free: int | None) -> bool:
        """Whether a new result has room on the device beside what the product may take there."""
        n_bytes = self._shape[0] * self._shape[1] * self._dtype.itemsize
        there = self._A.layout.place == self._B.layout.place == "device"
        return there and free is not None and n_bytes + min(self._limit, _half(free)) <= free

    @contextmanager
    def opened(self) -> Iterator[None]:
        """The files of the operands, open and found long enough."""
        try:
            self._A.open()
            self._B.open()
            if self._out is not None and not self._dry:
                self._out.open(to_write=True)
            yield
        finally:
            for matrix in (self._A, self._B, self._out):
                if matrix is not None:
                    matrix.close()

    def plan(self) -> MatmulPlan:
        ops, out = self.ops, self._out
        if out is None:  # as the new array will lie
            place: Literal["device", "host"] = "device" if self._new_on_device else "host"
            out = Matrix("out", ArrayToBe(self._shape, self._dtype), place, place == "device" or not ops.asynchronous)
            if self._made is not None:
                out.layout = replace(out.layout, place="file", streams=True)
        item, m = self._dtype.itemsize, self._shape[0]
        if ops.asynchronous:
            fixed = 0 if self._epilogue.bias is None else -(-m * item // ALIGN[True]) * ALIGN[True]
        else:
            layouts = [self._A.layout, self._B.layout], [out.layout]
            fixed = sum(scratch_bytes(*some) for some in layouts) + 3 * ALIGN[False]
            fixed += self._epilogue.scratch_bytes(item) + (0 if self._epilogue.bias is None else m * item)
        problem = Problem(
            A=self._A.layout,
            B=self._B.layout,
            out=out.layout,
            bias=self._epilogue.bias is not None,
            activation=self._epilogue.kind,
            on_device=ops.asynchronous,
            fixed=fixed,
            cores=0 if ops.asynchronous else cores(),
            device=ops.describe() if ops.asynchronous else "the CPU",
        )
        rates = self._rates
        if rates is None:
            files = [matrix.path for matrix in (self._A, self._B) if matrix.path is not None]
            written = self._made or (None if self._out is None else self._out.path)
            rates = measure_rates(ops, np.dtype(self._A.array.dtype), files, written)
        return make_plan(problem, rates, self._limit)

    def run(self, plan: MatmulPlan) -> MatmulReport:
        """Compute it. A file that was made for it is taken away again if that fails."""
        if self._out is None:
            self._out = self._make_out()
        out = self._out
        if self.ops.asynchronous:
            engine: Any = DeviceEngine(self.ops, plan, self._A, self._B, out, self._epilogue)
        else:
            engine = HostEngine(plan, self._A, self._B, out, self._epilogue)
        run = Run(plan, engine)
        try:
            return run()
        except BaseException as error:
            said = self._undo(run, plan)
            if isinstance(error, StorageError):
                raise StorageError(error.errno, f"{error.strerror} {said}") from error
            error.add_note(said)
            raise

    def _make_out(self) -> Matrix:
        if self._made is not None:
            return new_file(self._made, self._shape, self._dtype)
        if self._new_on_device:
            array: Any = self.ops.empty(self._shape, self._dtype)
            return Matrix("out", array, "device", True)
        try:
            return Matrix("out", np.empty(self._shape, self._dtype), "host", not self.ops.asynchronous)
        except MemoryError as error:
            raise MemoryError(
                f"{WHO}: the result, {self._shape[0]:,} × {self._shape[1]:,} in {self._dtype}, does not fit in memory "
                f"({error}). Pass out: the path of a new .npy file, or a memory map."
            ) from error

    def _undo(self, run: Run, plan: MatmulPlan) -> str:
        """What is said of out after a failure; a file that was made for it is removed."""
        assert self._out is not None
        if self._made is not None:
            self._out.close()
            self._made.unlink(missing_ok=True)
            return f"{WHO} has removed its unfinished out, {self._made}."
        n_tiles = plan.counts[0] * plan.counts[1]
        where = self._out.describe()
        if not run.begun:
            return f"{WHO} had written nothing to {where} yet."
        return f"{WHO} had written {run.n_written:,} of {n_tiles:,} tiles: {where} is partly new, and not to be used."


def _half(free: int | None) -> int:
    """The memory that a product may take where no limit is set."""
    return max(1, (2**31 if free is None else free) // 2)
