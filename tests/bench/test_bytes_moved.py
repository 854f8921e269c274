"""The bytes that an operation is said to move are those of the arrays that its kernels are launched on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.backend._kernel_source import Instance, Kernel, stems
from fcnn_gpu.backend._kernels import Argument
from fcnn_gpu.bench.operations import OPERATIONS, Operation, numpy_dtype
from fcnn_gpu.bench.operations._operation import Side
from tests.cuda_on_cpu import missing_compiler
from tests.support.emulated import make_emulated_ops, on_host

pytestmark = pytest.mark.skipif(missing_compiler() is not None, reason=str(missing_compiler()))

SIZES = {"n": 48, "batch": 96, "n_samples": 96, "n_features": 40, "n_classes": 33, "n_parameters": 3000}
"""A batch is the whole data set, so that the rows it is gathered from are as many as the bytes that are counted."""

ALONE = 64
"""Arrays of so few bytes are numbers that stand alone: a step, a cursor, a learning rate, a table of one segment."""

READ_AND_WRITTEN = {
    ("bias_activation", "Z"),
    *(
        (kernel, name)
        for kernel in ("sgd", "adam", "rmsprop", "adagrad", "update_by_rule")
        for name in ("values", "velocity", "m", "v", "s", "first", "second")
    ),
    *(("batch_norm_forward_held", name) for name in ("running_mean", "running_var")),
}
"""Parameters that are no const and yet are read; all others that are no const are only written."""

WITHOUT_AN_OPERATION = {
    **dict.fromkeys(
        ("add_to_diagonal", "momentum_direction", "normalize_matrices"), "beside the products of Muon's step"
    ),
    "constrain": "the weights of layers with limits, behind an update",
    "count_nonfinite": "a data set is checked once",
    "embed_categories": "a few rows, scattered over tables",
    "embed_numbers": "bound by arithmetic: sines",
    "gather_batch": "the gather that is measured, and a few labels",
    "gaussian_noise": "bound by arithmetic: random numbers, logarithms and cosines",
    "fused_mlp": "bound by arithmetic: bench_fused_mlp.py",
    "copy_units": "the outputs of branches, copied once in a step",
    "repeat_units": "the input of an ensemble, copied once in a step",
    "matmul": "bound by arithmetic: the products of cuBLAS are measured",
    "sparse": "weights of a few inputs, scattered over all of them",
}


class Traffic:
    """The arrays that kernels read and write, noted as they are launched."""

    def __init__(self) -> None:
        self.ops = make_emulated_ops()
        self.stems: set[str] = set()
        self._read: dict[int, int] = {}
        self._written: dict[int, int] = {}
        device: Any = self.ops._launcher.device
        self._run, device.run = device.run, self._noting

    def _noting(
        self, kernel: Kernel, instance: Instance, grid: int, block: int, shared: int, arguments: Sequence[Argument]
    ) -> None:
        self.stems.add(kernel.stem)
        written = dict(self._written)
        for argument in arguments:
            array, parameter = argument.value, argument.parameter
            if not isinstance(array, np.ndarray) or array.nbytes <= ALONE or self._is_scratch(array):
                continue
            address = array.ctypes.data
            reads = parameter.is_const or (kernel.name, parameter.name) in READ_AND_WRITTEN
            if reads and address not in written:  # what an earlier kernel of the operation wrote is no input
                self._read[address] = array.nbytes
            if not parameter.is_const:
                self._written[address] = array.nbytes
        self._run(kernel, instance, grid, block, shared, arguments)

    def _is_scratch(self, array: Any) -> bool:
        buffers = self.ops._per_thread.__dict__.get("scratch", {}).values()
        return any(np.may_share_memory(on_host(array), on_host(buffer)) for buffer in buffers)

    def of(self, operation: Operation, dtype: str) -> float:
        """Bytes of one call."""
        given = operation.draw(np.random.default_rng(0), **sizes(operation))
        work = operation.ours(Side(self.ops, numpy_dtype(dtype)), given)
        self._read.clear()
        self._written.clear()
        work.call()
        return float(sum(self._read.values()) + sum(self._written.values()))


def sizes(operation: Operation) -> dict[str, int]:
    return {name: SIZES[name] for name in operation.smallest}


MOVING = [name for name, operation in OPERATIONS.items() if operation.family != "gemm"]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("name", MOVING)
def test_counts_are_those_of_the_arrays(name: str, dtype: str) -> None:
    counted = OPERATIONS[name].bytes(numpy_dtype(dtype).itemsize, **sizes(OPERATIONS[name]))
    assert counted == Traffic().of(OPERATIONS[name], dtype)


def test_every_kernel_that_moves_data_belongs_to_an_operation() -> None:
    traffic = Traffic()
    for name in MOVING:
        operation = OPERATIONS[name]
        traffic.of(operation, "float32")
        if "batch" in operation.smallest and "n_samples" not in operation.smallest:  # sums over chunks of samples
            given = operation.draw(np.random.default_rng(0), **(sizes(operation) | {"batch": 300}))
            operation.ours(Side(traffic.ops, np.dtype(np.float32)), given).call()
    assert traffic.stems | set(WITHOUT_AN_OPERATION) == set(stems())
    assert not traffic.stems & set(WITHOUT_AN_OPERATION)


def test_the_counts_that_are_known_by_heart() -> None:
    """θ, m, v read and written and g read; a copy in 16 bits is two bytes more."""
    adam = OPERATIONS["adam"]
    assert adam.bytes(4, n_parameters=1000) == 28_000
    assert adam.bytes(2, n_parameters=1000) == 30_000
    assert OPERATIONS["bias_relu"].bytes(4, n=100, batch=10) == 8 * 1000 + 4 * 100
    assert OPERATIONS["bias_gelu"].bytes(2, n=100, batch=10) == 6 * 1000 + 4 * 100
    assert OPERATIONS["dropout_forward"].bytes(2, n=100, batch=10) == 5 * 1000
