"""What the benchmarks of single operations share: their parameters, and one timed call."""

from __future__ import annotations

from typing import Any

import pytest

from fcnn_gpu.backend import quiet_arithmetic
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.bench.operations import OPERATIONS, Operation, Unsupported, prepare, prepare_peer
from fcnn_gpu.bench.operations._operation import Sizes, Work
from fcnn_gpu.bench.operations._time import numpy_dtype
from fcnn_gpu.bench.results import OURS, Absent


def entries_of(family: str) -> pytest.MarkDecorator:
    """Every operation of a family at every shape, by us and by each variant of PyTorch's."""
    entries = [
        pytest.param(operation, sizes, variant, id=_id(operation, sizes, variant))
        for operation in OPERATIONS.values()
        if operation.family == family
        for sizes in operation.sizes
        for variant in (OURS, *operation.torch)
    ]
    return pytest.mark.parametrize(("operation", "sizes", "variant"), entries)


def measure(benchmark: Any, ops: Ops, dtype: str, operation: Operation, sizes: Sizes, variant: str) -> None:
    """Check the result, then time one call; what it computes and moves goes into the file's `extra_info`.

    On a GPU a call is timed with the wait for it: pytest-benchmark has the host's clock alone.
    """
    work = _prepared(ops, dtype, operation, sizes, variant)
    benchmark.group = f"{operation.name}: {operation.shape(sizes)}"
    benchmark.extra_info.update(
        device=ops.describe(),
        dtype=dtype,
        flops=operation.flops(**sizes),
        bytes=operation.bytes(numpy_dtype(dtype).itemsize, **sizes),
    )

    def call_and_wait() -> None:
        work.call()
        ops.synchronize()

    with quiet_arithmetic():
        benchmark(call_and_wait if ops.asynchronous else work.call)


def _prepared(ops: Ops, dtype: str, operation: Operation, sizes: Sizes, variant: str) -> Work:
    try:
        found = (
            prepare(operation, sizes, dtype, ops)
            if variant == OURS
            else prepare_peer(operation, variant, sizes, dtype, ops)
        )
    except Unsupported as reason:
        pytest.skip(f"{operation.name} in {dtype}: {reason}")
    if isinstance(found, Absent):
        pytest.skip(f"{found.library} {found.variant}".strip() + f": {found.reason}")
    return found


def _id(operation: Operation, sizes: Sizes, variant: str) -> str:
    library = OURS if variant == OURS else f"PyTorch {variant}".strip()
    return f"{operation.name}-{'x'.join(map(str, sizes.values()))}-{library}"
