"""Every primitive in every number type at two sizes: its time, what it moves, and the floor that a copy sets."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend import quiet_arithmetic
from fcnn_gpu.backend._kernel_source import Instance, Kernel
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.bench import ceilings
from fcnn_gpu.bench.operations import OPERATIONS, Operation, Unsupported, Work, numpy_dtype, prepare
from fcnn_gpu.bench.operations._operation import Side
from fcnn_gpu.bench.results import Ceilings

from .plan import Plan
from .results import Fault, KernelTiming, KernelUse
from .timing import time_calls, warm_up

DTYPES = ("float32", "bfloat16", "float16", "float64")
_LARGE_ELEMENTS = 2**25
"""Of the largest array: 128 MiB in float32, more than twice the caches of the largest devices of 2026."""
_SMALL_ELEMENTS = 2**11
_UNITS = 1024
"""Of a sample in arrays that have units: as wide as layers are."""
_BLOCK = 2**16
"""Distinct random numbers in a large array; they are repeated, which no kernel can tell."""

Sizes = Mapping[str, int]


def measure(
    plan: Plan,
    dtypes: Sequence[str] = DTYPES,
    names: Sequence[str] | None = None,
    large_elements: int = _LARGE_ELEMENTS,
) -> Iterator[Ceilings | KernelTiming | Fault | str]:
    """The ceilings, then one operation after the other: float32 first, and the products elsewhere (products.py)."""
    ops = plan.ops()
    sizes: dict[str, Any] = {"products": (256,)}
    if plan.small:
        dtypes, large_elements, sizes = dtypes[:2], _SMALL_ELEMENTS, {"products": (32,), "copies": (2**12,)}
    warm_up(ops, plan, 0.5)
    ceiling = ceilings.measure(ops, seconds=0.2 if plan.quick else 1.0, **sizes)
    yield ceiling
    empty_launch = launch_seconds(ops)
    yield f"The smallest kernel takes {1e6 * empty_launch:.2f} µs in a graph of many."
    chosen = [o for o in OPERATIONS.values() if o.family != "gemm" and (names is None or o.name in names)]
    for dtype in dtypes:
        for operation in chosen:
            for size in ("small",) if plan.quick else ("small", "large"):
                try:
                    yield time_kernel(plan, ops, operation, dtype, size, ceiling, empty_launch, large_elements)
                except Unsupported as reason:
                    yield f"{operation.name} in {dtype}: not measured. {reason}"
                    break
                except Exception as error:  # one operation's fault is a line of the report, not the end of the table
                    message = f"{type(error).__name__}: {_first_line(error)}"
                    yield Fault(f"{operation.name} in {dtype}, {size}", message)


def time_kernel(
    plan: Plan,
    ops: Ops,
    operation: Operation,
    dtype: str,
    size: str,
    ceiling: Ceilings,
    empty_launch: float,
    large_elements: int = _LARGE_ELEMENTS,
) -> KernelTiming:
    """Set it up, compare a small one with NumPy, note the kernels of one call, and time many of them in a graph."""
    if size == "small":
        sizes = operation.sizes[0]
        work = prepare(operation, sizes, dtype, ops, plan.seed)  # raises where its result is wrong
    else:
        sizes = large_sizes(operation, large_elements)
        given = operation.draw(Repeating(plan.seed), **sizes)
        work = operation.ours(Side(ops, numpy_dtype(dtype)), given)
        work.call()
        work.steady()
    with noted_launches(ops) as launches:
        work.call()
    with quiet_arithmetic():
        timed = time_calls(ops, work.call, *((3, 0.003) if plan.quick else (5, 0.01)))
    rates = [rate for _, rate in ceiling.copy_rates] or [ceiling.copy_bytes_per_second]
    return KernelTiming(
        operation=operation.name,
        dtype=dtype,
        size=size,
        shape=operation.shape(sizes),
        seconds=timed.seconds,
        timed_as=timed.timed_as,
        bytes=operation.bytes(numpy_dtype(dtype).itemsize, **sizes),
        copy_bytes_per_second=max(rates) if size == "small" else ceiling.copy_bytes_per_second,
        launch_seconds=empty_launch * max(1, len(launches)),
        kernels=list(launches),
    )


def large_sizes(operation: Operation, n_elements: int) -> dict[str, int]:
    """Sizes at which the operation's largest array has about `n_elements`: as many samples as that takes."""
    named = operation.sizes[-1]
    if set(named) == {"n_parameters"}:
        return {"n_parameters": n_elements}
    sizes = {name: min(_UNITS, max(value, 1)) for name, value in named.items()}
    if "n_samples" in sizes:  # the rows that a batch is gathered from
        sizes["n_samples"] = max(1, n_elements // sizes.get("n_features", _UNITS))
    units = next((sizes[name] for name in ("n_units", "n", "n_features", "n_classes") if name in sizes), _UNITS)
    sizes["batch"] = max(1, n_elements // units)
    return sizes


class Repeating:
    """A stand-in for NumPy's generator whose large arrays repeat a few random numbers: made in a tenth of the time."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        draw = getattr(self._rng, name)

        def drawn(*arguments: Any, size: Any = None, **options: Any) -> Any:
            if size is None:
                return draw(*arguments, **options)
            n = int(np.prod(size, dtype=np.int64))
            few: HostArray = draw(*arguments, size=min(n, _BLOCK), **options)
            return np.resize(few, size)

        return drawn


def launch_seconds(ops: Ops) -> float:
    """Of the smallest kernel, one thread that adds to one number, within a graph of many."""
    counter = ops.zeros(1, np.int64)
    return time_calls(ops, lambda: ops.advance(counter, 1)).median


@contextlib.contextmanager
def noted_launches(ops: Any) -> Iterator[list[KernelUse]]:
    """The kernels that are launched within, through the launcher of the ops; products of a library are none of them."""
    launcher = ops._launcher
    device, found = launcher.device, list[KernelUse]()

    class Noting:
        """The device, told of by each launch."""

        def __getattr__(self, name: str) -> Any:
            return getattr(device, name)

        def run(
            self, kernel: Kernel, instance: Instance, grid: int, block: int, shared: int, arguments: Sequence[Any]
        ) -> None:
            device.run(kernel, instance, grid, block, shared, arguments)
            known = device.resources(kernel, instance) if hasattr(device, "resources") else {}
            found.append(
                KernelUse(
                    instance.expression,
                    grid,
                    block,
                    known.get("registers"),
                    known.get("local_bytes"),
                    known["shared_bytes"] + shared if known else None,
                )
            )

    launcher.device = Noting()
    try:
        yield found
    finally:
        launcher.device = device


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:300]


__all__ = ["DTYPES", "Work", "large_sizes", "launch_seconds", "measure", "noted_launches", "time_kernel"]
