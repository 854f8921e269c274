"""CupyOps against the NumPy reference: every primitive, its device, and a training run written on the primitives."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops

from .op_cases import CASES, Case
from .tolerances import assert_close

SHAPES = [(1, 1), (3, 2), (10, 33), (33, 129), (130, 70), (1100, 3), (1, 300), (7, 64)]
"""(n_units, batch): single, tiny, odd, several chunks of samples, wider than a warp works on, one unit."""


def _cases() -> list[Any]:
    distinct = {case.run: case for cases in CASES.values() for case in cases}  # one body may stand for two primitives
    return [pytest.param(case, id=case.id) for case in distinct.values()]


def _results(ops: Ops, case: Case, dtype: Any, n: int, batch: int) -> dict[str, HostArray]:
    rng = np.random.default_rng(zlib.crc32(f"{case.id} {n} {batch}".encode()))
    return {name: ops.to_numpy(x) for name, x in case.run(ops, rng, dtype, n, batch).items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", _cases())
def test_primitive_agrees_with_the_reference(device_ops: Ops, case: Case, dtype: Any) -> None:
    for n, batch in [*SHAPES, (5, 0)] if case.empty else SHAPES:
        expected = _results(Ops(), case, dtype, n, batch)
        actual = _results(device_ops, case, dtype, n, batch)
        assert actual.keys() == expected.keys()
        for name, value in expected.items():
            context = f"{case.id}: {name} at n={n}, batch={batch}"
            assert actual[name].dtype == value.dtype, context
            assert_close(actual[name], value, case.tolerance, context)
