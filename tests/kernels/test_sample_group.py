"""sample_group.cuh: every width has its group, and a sample that is held is read once and written once."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from fcnn_gpu.backend import _nvrtc
from fcnn_gpu.backend._kernel_source import Instance, source
from fcnn_gpu.backend._ops import Ops
from tests.support.op_cases import matrix

from .test_vector import access_bytes


@pytest.mark.usefixtures("nvrtc")
@pytest.mark.parametrize(
    ("c_type", "capacity", "vectors", "units"),
    [("float", 1024, 8, 32), ("double", 1024, 16, 32), ("__half", 512, 2, 16), ("__nv_bfloat16", 1024, 4, 32)],
)
def test_a_held_sample_is_read_once_and_written_once(c_type: str, capacity: int, vectors: int, units: int) -> None:
    """A lane's share in 16-byte accesses where samples are aligned, unit by unit where they are not, and no more."""
    instance = Instance("softmax_forward", (c_type, str(capacity)))
    ptx = _nvrtc.compile_instances("softmax", source("softmax"), [instance], "sm_90").ptx
    size = {"float": 4, "double": 8}.get(c_type, 2)
    for kind in ("ld", "st"):
        assert Counter(access_bytes(ptx, kind)) == {16: vectors, size: units}


@pytest.mark.usefixtures("nvrtc")
def test_the_loss_reads_logits_and_dense_targets_once() -> None:
    instance = Instance("softmax_cross_entropy", ("float", "1024"))
    ptx = _nvrtc.compile_instances("softmax_cross_entropy", source("softmax_cross_entropy"), [instance], "sm_90").ptx
    assert Counter(access_bytes(ptx, "ld"))[16] == 8 + 8
    assert Counter(access_bytes(ptx, "st"))[16] == 8


@pytest.mark.parametrize("n", [1, 4, 5, 32, 33, 128, 129, 512, 513, 1024, 1025])
def test_every_width_has_its_group(device_ops: Ops, n: int) -> None:
    rng = np.random.default_rng(n)
    z, y = rng.normal(size=(n, 7)), rng.normal(size=(n, 7))
    results = []
    for ops in (Ops(), device_ops):
        Z, Y = matrix(ops, z, np.float64), matrix(ops, y, np.float64)
        out, dZ, losses = ops.matrix(n, 7, np.float64), ops.matrix(n, 7, np.float64), ops.empty(7, np.float64)
        ops.softmax(Z, out)
        ops.elementwise_loss(Z, Y, "mse", 0.0, None, losses, dZ)
        results.append([ops.to_numpy(x) for x in (out, dZ, losses)])
    for expected, actual in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-12)
