"""Check an operation against the NumPy reference, then time it, in turn with PyTorch's call for the same work."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..._checks import suggest
from ..._types import DType
from ...backend import BLOCK, Ops, quiet_arithmetic, resolve_backend
from .._quiet import wait_until_idle
from ..bound import verdict
from ..results import Absent, Ceilings, OperationResult, Timing
from ._catalogue import OPERATIONS
from ._operation import Inputs, Operation, Outputs, Side, Sizes, TorchSide, Work

DTYPES = ("float32", "float64", "tf32", "bfloat16", "float16")
"""tf32 is float32 in memory, multiplied by tensor cores that read 10 bits of its mantissa."""
_ON_CPU = ("float32", "float64")

_LIMITS = {
    # Of the rounding unit (2⁻²⁴, 2⁻⁵³). Sums of up to 2048 terms in another order differ by some √2048 of them.
    "float32": 256 * 2.0**-24,
    "float64": 256 * 2.0**-53,
    # The products' factors are rounded to 2⁻¹¹ each and the errors average out over the sum: a few units.
    "tf32": 8 * 2.0**-11,
    # Kernels add up in float32 and round once, to 2⁻¹¹ or 2⁻⁸: two units, and one for an intermediate result.
    "float16": 3 * 2.0**-11,
    "bfloat16": 3 * 2.0**-8,
}
"""How far two right results may be apart, relative to the largest value of the array."""

_UNTIMED_SHARE = 0.25
"""Untimed calls before a timed stretch, as a share of its length: threads wake up, caches fill."""
_MOST_CALLS = 1_000_000


class Unsupported(Exception):
    """The operation does not exist in this dtype on this backend, and why."""


@dataclass(frozen=True)
class _Entrant:
    """One library in one operation, ready to be timed. `stopwatch` is the device's."""

    library: str
    variant: str
    work: Work
    stopwatch: Callable[[], Callable[[], float]]
    cold_seconds: float
    outputs: Outputs


def numpy_dtype(name: str) -> DType:
    """The dtype that arrays have: tf32 is float32 in memory; bfloat16 comes from the package ml_dtypes."""
    if name == "bfloat16":
        if importlib.util.find_spec("ml_dtypes") is None:
            raise Unsupported("NumPy needs the package ml_dtypes for bfloat16. Run: pip install ml_dtypes.")
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(np.float32 if name == "tf32" else name)


def run(
    ceilings: Sequence[Ceilings],
    *,
    backend: str = "numpy",
    dtypes: Sequence[str] = ("float32",),
    names: Sequence[str] | None = None,
    quick: bool = False,
    rounds: int = 11,
    round_seconds: float = 0.02,
    peers: bool = True,
    seed: int = 0,
) -> Iterator[OperationResult | str]:
    """Measure operations one by one; a str says what was not measured and why.

    Args:
        ceilings: what the device can do, for the verdicts: `ceilings.measure` of the same process or environment.
        backend: "numpy", "cpu", "cupy" or "cupy:<device>".
        dtypes: of `DTYPES`; on a CPU float32 and float64.
        names: of `OPERATIONS`; None takes all.
        quick: only the first shape of each.
        rounds: timed stretches of each library, in turn.
        round_seconds: about how long one of them takes.
        peers: whether PyTorch, where it is installed, does the same work in turn.
        seed: of the input.

    Raises ValueError for an unknown name or dtype before anything is measured.
    """
    for name in names or ():
        if name not in OPERATIONS:
            raise ValueError(f"bench does not know the operation {name!r}. {suggest(name, list(OPERATIONS))}")
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise ValueError(f"bench does not know the dtype {dtype!r}. {suggest(dtype, list(DTYPES))}")
    ops = resolve_backend(backend)
    device = ops.describe()
    ceilings_for(ceilings, device, dtypes[0] if dtypes else "float32")
    for dtype in dtypes:
        for name in OPERATIONS if names is None else names:
            operation = OPERATIONS[name]
            for sizes in operation.sizes[:1] if quick else operation.sizes:
                try:
                    yield time_operation(
                        operation,
                        sizes,
                        dtype,
                        ops,
                        ceilings_for(ceilings, device, dtype),
                        rounds=rounds,
                        round_seconds=round_seconds,
                        peers=peers,
                        seed=seed,
                    )
                except Unsupported as reason:
                    yield f"{operation.name} in {dtype} on {device}: not measured. {reason}"
                    break


def ceilings_for(ceilings: Sequence[Ceilings], device: str, dtype: str) -> Ceilings:
    """Those of this device and dtype, or of the device in another dtype; ValueError if there are none of the device."""
    found = [c for c in ceilings if c.device == device]
    if not found:
        known = ", ".join(c.device for c in ceilings) or "none"
        raise ValueError(f"operations.run needs ceilings of {device}, got {known}. Call bench.ceilings.measure first.")
    return next((c for c in found if c.dtype == dtype), found[0])


def prepare(operation: Operation, sizes: Sizes, dtype: str, ops: Ops, seed: int = 0) -> Work:
    """`operation` set up on `ops` and checked against the NumPy reference: ready to be called any number of times.

    Raises Unsupported where it does not exist in this dtype, RuntimeError if its result is wrong.
    """
    return _prepare(operation, sizes, dtype, ops, seed)[0].work


def prepare_peer(
    operation: Operation, variant: str, sizes: Sizes, dtype: str, ops: Ops, seed: int = 0
) -> Work | Absent:
    """PyTorch's call for the same work on the same device, compared with ours; or why there is none."""
    ours, given, _ = _prepare(operation, sizes, dtype, ops, seed)
    found = _torch_entrant(operation, variant, operation.torch[variant], given, dtype, ops, ours)
    return found if isinstance(found, Absent) else found.work


def time_operation(
    operation: Operation,
    sizes: Sizes,
    dtype: str,
    ops: Ops,
    ceilings: Ceilings,
    *,
    rounds: int = 11,
    round_seconds: float = 0.02,
    peers: bool = True,
    seed: int = 0,
) -> OperationResult:
    """Check and time one operation at one shape. Raises Unsupported, or RuntimeError for a wrong result."""
    ours, given, deviation = _prepare(operation, sizes, dtype, ops, seed)
    found = [
        _torch_entrant(operation, variant, build, given, dtype, ops, ours)
        for variant, build in (operation.torch.items() if peers else ())
    ]
    absent = [entrant for entrant in found if isinstance(entrant, Absent)]
    entrants = [ours, *(entrant for entrant in found if not isinstance(entrant, Absent))]
    with quiet_arithmetic():
        timed = _time(entrants, rounds, round_seconds)
        call_cost = _call_cost(operation, dtype, ops, round_seconds, seed)
    flops, n_bytes = operation.flops(**sizes), operation.bytes(numpy_dtype(dtype).itemsize, **sizes)
    tiles = 1 if ops.asynchronous else max(1, -(-operation.tiled(**sizes) // BLOCK))
    median = float(np.median(timed[0]))
    n_calls = max(1, round(call_cost * tiles / ceilings.call_seconds))
    bound, because = verdict(median, flops, n_bytes, ceilings, calls=n_calls)
    return OperationResult(
        operation=operation.name,
        shape=operation.shape(sizes),
        device=ops.describe(),
        dtype=dtype,
        flops=flops,
        bytes=n_bytes,
        seconds=timed[0],
        cold_seconds=ours.cold_seconds,
        bound=bound,
        bound_because=because if ceilings.dtype == dtype else f"{because} (ceilings measured in {ceilings.dtype})",
        deviation=deviation,
        peers=[
            Timing(entrant.library, entrant.variant, seconds, entrant.cold_seconds)
            for entrant, seconds in zip(entrants[1:], timed[1:], strict=True)
        ],
        absent=absent,
    )


# Setting up and checking


def _prepare(operation: Operation, sizes: Sizes, dtype: str, ops: Ops, seed: int) -> tuple[_Entrant, Inputs, float]:
    """Our entrant, the input all others are given, and the deviation from the reference in float64."""
    ops = _multiplying(operation, dtype, ops)
    stored = numpy_dtype(dtype)
    given = _rounded(operation.draw(np.random.default_rng(seed), **sizes), stored)
    try:
        ours = _entrant("fcnn_gpu", "", lambda: operation.ours(Side(ops, stored), given), ops.stopwatch, operation)
    except (TypeError, ValueError) as error:
        if dtype in _ON_CPU:
            raise
        raise Unsupported(str(error)) from error  # the launcher names the kernel and the types that it is made for
    reference = operation.ours(Side(Ops(), np.dtype(np.float64)), given)
    with quiet_arithmetic():
        for _ in range(operation.checked_calls):
            reference.call()
    deviation = operation.deviation(reference.results(), ours.outputs)
    if not deviation <= _LIMITS[dtype]:
        raise RuntimeError(
            f"{operation.name} ({operation.shape(sizes)}) in {dtype} on {ops.describe()} differs from the NumPy "
            f"reference by {deviation:.2g} of the largest value, more than {_LIMITS[dtype]:.2g}. Nothing was timed: "
            "run the tests of this primitive (pytest tests/backend/test_cupy_ops.py)."
        )
    return ours, given, deviation


def _multiplying(operation: Operation, dtype: str, ops: Ops) -> Ops:
    """The primitives of this precision; Unsupported where the operation does not exist in it."""
    if dtype not in _ON_CPU and not ops.asynchronous:
        raise Unsupported(f"NumPy has fast arithmetic in {' and '.join(_ON_CPU)} only.")
    if dtype != "tf32":
        return ops
    if operation.family != "gemm":
        raise Unsupported("TF32 is a way to multiply matrices; this operation has none.")
    return ops.with_precision("tf32")


def _rounded(given: Inputs, dtype: DType) -> Inputs:
    """The input with its floats rounded to `dtype` and held in float64: every library starts from the same numbers."""
    return {name: x.astype(dtype).astype(np.float64) if x.dtype.kind == "f" else x for name, x in given.items()}


def _entrant(
    library: str,
    variant: str,
    build: Callable[[], Work],
    stopwatch: Callable[[], Callable[[], float]],
    operation: Operation,
) -> _Entrant:
    work = build()
    with quiet_arithmetic():
        elapsed = stopwatch()
        work.call()
        cold = elapsed()
        for _ in range(operation.checked_calls - 1):
            work.call()
        outputs = work.results()
        work.steady()
    return _Entrant(library, variant, work, stopwatch, cold, outputs)


def _torch_entrant(
    operation: Operation,
    variant: str,
    build: Callable[[TorchSide, Inputs], Work],
    given: Inputs,
    dtype: str,
    ops: Ops,
    ours: _Entrant,
) -> _Entrant | Absent:
    if importlib.util.find_spec("torch") is None:
        return Absent("PyTorch", variant, "not installed")
    import torch

    device = "cpu"
    if ops.asynchronous:
        if not torch.cuda.is_available():
            return Absent("PyTorch", variant, f"PyTorch {torch.__version__} finds no CUDA device")
        device = ops.name.replace("cupy", "cuda")
        torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
    side = TorchSide(torch, device, getattr(torch, "float32" if dtype == "tf32" else dtype))
    stopwatch = _cuda_stopwatch(torch, device) if ops.asynchronous else ops.stopwatch
    try:
        entrant = _entrant("PyTorch", variant, lambda: build(side, given), stopwatch, operation)
    except (RuntimeError, TypeError, NotImplementedError) as error:  # no such operator for this device or dtype
        return Absent("PyTorch", variant, f"{type(error).__name__}: {str(error).splitlines()[0]}")
    deviation = operation.deviation(ours.outputs, entrant.outputs)
    if not deviation <= _LIMITS[dtype]:
        reason = f"its result differs from ours by {deviation:.2g} of the largest value (limit {_LIMITS[dtype]:.2g})"
        return Absent("PyTorch", variant, reason)
    return entrant


def _cuda_stopwatch(torch: Any, device: str) -> Callable[[], Callable[[], float]]:
    def start() -> Callable[[], float]:
        with torch.cuda.device(device):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()

        def seconds() -> float:
            with torch.cuda.device(device):
                end.record()
                end.synchronize()
            return 1e-3 * float(begin.elapsed_time(end))

        return seconds

    return start


# Timing


def _time(entrants: Sequence[_Entrant], rounds: int, round_seconds: float) -> list[list[float]]:
    """Seconds of one call, by entrant and round. In each round every entrant has its turn, the first one rotating."""
    counts = []
    for entrant in entrants:
        wait_until_idle()
        counts.append(_n_calls(entrant, round_seconds))
    seconds: list[list[float]] = [[] for _ in entrants]
    for r in range(rounds):
        for k in range(len(entrants)):
            i = (r + k) % len(entrants)
            if len(entrants) > 1:
                wait_until_idle()
            _stretch(entrants[i], max(2, round(_UNTIMED_SHARE * counts[i])))
            seconds[i].append(_stretch(entrants[i], counts[i]))
    return seconds


def _stretch(entrant: _Entrant, n_calls: int) -> float:
    """Seconds of one call, from a stretch of `n_calls`. No garbage collection comes in between."""
    call = entrant.work.call
    collecting = gc.isenabled()
    gc.disable()
    try:
        elapsed = entrant.stopwatch()
        for _ in range(n_calls):
            call()
        return elapsed() / n_calls
    finally:
        if collecting:
            gc.enable()


def _n_calls(entrant: _Entrant, round_seconds: float) -> int:
    """How many calls take about `round_seconds`, by the best of three: one that was disturbed tells nothing."""
    n_calls = 1
    while True:
        seconds = n_calls * min(_stretch(entrant, n_calls) for _ in range(3))
        if seconds >= 0.2 * round_seconds or n_calls >= _MOST_CALLS:
            return max(1, min(_MOST_CALLS, round(n_calls * round_seconds / max(seconds, 1e-9))))
        n_calls *= 4


def _call_cost(operation: Operation, dtype: str, ops: Ops, round_seconds: float, seed: int) -> float:
    """Seconds of one call on arrays so small that only the calls themselves cost."""
    stored = numpy_dtype(dtype)
    given = _rounded(operation.draw(np.random.default_rng(seed), **operation.smallest), stored)
    entrant = _entrant("fcnn_gpu", "", lambda: operation.ours(Side(ops, stored), given), ops.stopwatch, operation)
    return min(_time([entrant], 3, 0.2 * round_seconds)[0])
