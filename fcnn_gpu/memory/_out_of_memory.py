"""Running out of memory: who asked for how much, what is free, what takes it, and what to try."""

from __future__ import annotations

import functools
import math
import re
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from .._types import DType
from ..backend import Ops, available_memory
from ._report import MemoryReport, human

P = ParamSpec("P")
S = TypeVar("S")
R = TypeVar("R")

_DEVICE_ERRORS = ("CUDARuntimeError", "CUDADriverError", "CublasError", "CUBLASError")
"""Errors of CUDA's libraries; those below among them mean that memory ran out, outside of CuPy's pool."""
_DEVICE_CODES = re.compile("cudaErrorMemoryAllocation|OUT_OF_MEMORY|ALLOC_FAILED")
_ASKED = re.compile(r"allocat\w* ([\d,]+) bytes")


class Network(Protocol):
    """What a message asks of the network that found no memory."""

    @property
    def ops(self) -> Ops: ...
    @property
    def dtype(self) -> DType: ...
    @property
    def compute_dtype(self) -> DType: ...
    @property
    def recompute(self) -> bool | int: ...

    def memory_report(self, batch_size: int, *args: Any, **options: Any) -> MemoryReport:
        """What it takes in such batches."""


class OutOfMemoryError(MemoryError):
    """The memory of the device, or of the host, ran out.

    The message says how much was asked for, how much is free, what the network takes, and what to try. What was made on
    the way has been let go.
    """


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, NumPy, CuPy or CUDA's libraries means that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    return type(error).__name__ in _DEVICE_ERRORS and _DEVICE_CODES.search(str(error)) is not None


def explains_out_of_memory(
    explain: Callable[..., str], undo: Callable[[Any], Callable[[], None]] | None = None
) -> Callable[[Callable[Concatenate[S, P], R]], Callable[Concatenate[S, P], R]]:
    """A method whose lack of memory becomes an `OutOfMemoryError`.

    Args:
        explain: its message, from the object, the error and the method's arguments. It is called when the method's own
            arrays have been let go.
        undo: called before the method; what it returns is called before `explain`.
    """

    def decorate(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
        @functools.wraps(method)
        def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            restore = None if undo is None else undo(self)
            try:
                return method(self, *args, **kwargs)
            except Exception as error:
                if isinstance(error, OutOfMemoryError) or not is_out_of_memory(error):
                    raise
                cause = error
            forget_frames(cause)
            if restore is not None:
                restore()
            raise OutOfMemoryError(explain(self, cause, *args, **kwargs)) from cause

        return call

    return decorate


def forget_frames(error: BaseException) -> None:
    """Let go of what the frames of an error's traceback hold: the arrays that were made in them."""
    for part in _chain(error):
        traceback.clear_frames(part.__traceback__)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        part = pending.pop()
        if part is not None and id(part) not in seen:
            seen.add(id(part))
            yield part
            pending += [part.__cause__, part.__context__]


# What a message says. The methods' own messages are where the methods are.


def describe_shortage(who: str, error: BaseException, model: Network) -> str:
    """Who ran out of memory, where, how much was asked for, and how much is free now."""
    on_device = not _is_of_host(error) and model.ops.asynchronous
    where = model.ops.describe() if on_device else "the host"
    free = model.ops.free_memory() if on_device else available_memory()
    asked = _asked(error)
    amounts = [] if asked is None else [f"{human(asked)} were asked for"]
    amounts += [] if free is None else [f"{human(free)} are free now"]
    return f"{who} ran out of memory on {where}{': ' if amounts else ''}{', '.join(amounts)}."


def describe_use(
    model: Network,
    error: BaseException,
    batch_size: int,
    predict: Callable[[int], MemoryReport],
    argument: str = "batch_size",
) -> str:
    """What batches of this size take, by kind, and what would take less.

    `predict` gives the report of a value of `argument`, which is the batch size or takes its place.
    """
    try:
        report = predict(batch_size)
    except Exception:  # a layer of the user's that cannot be predicted: the shortage itself has been told
        return f"Use a smaller {argument}."
    kinds = ", ".join(f"{kind} {human(n)}" for kind, n in report.by_kind.items() if n)
    purpose = "Training" if report.training else "Inference"
    use = f"{purpose} in batches of {report.batch_size:,} takes {human(report.total)}: {kinds}."
    fixes = [_smaller_batch(model, error, report, predict, argument)]
    if report.training and model.recompute is False:
        saved = report.activations - _recomputed(model, report).activations
        if 10 * saved > report.total - report.workspace:
            fixes.append(f"Sequential(recompute=True), which takes {human(saved)} less")
    if report.training and model.ops.asynchronous and 20 * report.data > report.total - report.workspace:
        fixes.append("fit(memory_limit=), which streams the data from the host")
    if model.ops.asynchronous and model.compute_dtype.itemsize > 2:
        fixes.append("Sequential(precision='bfloat16'), which halves the activations")
    elif not model.ops.asynchronous and model.dtype.itemsize > 4:
        fixes.append("Sequential(dtype='float32')")
    return f"{use} Use {', or '.join(fixes)}."


def _recomputed(model: Network, report: MemoryReport) -> MemoryReport:
    """What training in such batches takes where layers are run again in the backward pass."""
    size = report.micro_batch_size
    return model.memory_report(report.batch_size, "sgd", loss="mse", micro_batch_size=size, recompute=True)


def _smaller_batch(
    model: Network,
    error: BaseException,
    report: MemoryReport,
    predict: Callable[[int], MemoryReport],
    argument: str,
) -> str:
    """The largest halved value of `argument` that what is free now has room for."""
    on_device = not _is_of_host(error) and model.ops.asynchronous
    free = model.ops.free_memory() if on_device else available_memory()
    if free is not None:
        room = free + report.parameters + report.gradients + report.optimizer + report.workspace  # all there already
        size = report.batch_size // 2
        while size >= 2:
            if predict(size).total <= room:
                return f"{argument}={size}, which has room"
            size //= 2
    return f"a smaller {argument}"


def _is_of_host(error: BaseException) -> bool:
    """Whether NumPy or Python itself ran out, and not a device."""
    return isinstance(error, MemoryError) and type(error).__module__.partition(".")[0] in ("numpy", "builtins")


def _asked(error: BaseException) -> int | None:
    """Bytes that were asked for, where the error says so."""
    shape, dtype = getattr(error, "shape", None), getattr(error, "dtype", None)
    if shape is not None and dtype is not None:  # NumPy's
        return math.prod(shape) * dtype.itemsize
    found = _ASKED.search(str(error))
    return None if found is None else int(found[1].replace(",", ""))
