"""CompiledOps against the NumPy reference: every primitive, at once and as a program."""

from __future__ import annotations

import inspect
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._compiled_ops import CompiledOps
from fcnn_gpu.backend._ops import Ops

from ..conftest import compiled_ops
from ..support.op_cases import CASES, Case
from ..support.tolerances import assert_close

SHAPES = [(1, 1), (3, 2), (10, 33), (33, 129), (130, 70), (1100, 3), (1, 300), (7, 64), (64, 7)]
"""(n_units, batch): single, tiny, odd, several tiles and vectors, one unit."""
FLAT_SHAPES = [(1, 1), (1, 300), (10, 33), (33, 129)]


def _results(ops: Ops, case: Case, dtype: Any, n: int, batch: int) -> dict[str, HostArray]:
    rng = np.random.default_rng(zlib.crc32(f"{case.id} {n} {batch}".encode()))
    with np.errstate(all="ignore"):
        return {name: ops.to_numpy(x) for name, x in case.run(ops, rng, dtype, n, batch).items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for cases in CASES.values() for case in cases])
def test_primitive_agrees_with_the_reference(case: Case, dtype: Any) -> None:
    for n, batch in (FLAT_SHAPES if case.flat else SHAPES) + ([(5, 0)] if case.empty else []):
        expected = _results(Ops(), case, dtype, n, batch)
        actual = _results(compiled_ops(), case, dtype, n, batch)
        assert actual.keys() == expected.keys()
        for name, value in expected.items():
            context = f"{case.id}: {name} at n={n}, batch={batch}"
            assert actual[name].dtype == value.dtype, context
            assert_close(actual[name], value, case.tolerance, context)


@pytest.mark.parametrize("name", [name for name, _ in inspect.getmembers(Ops, inspect.isfunction) if name[0] != "_"])
def test_override_keeps_the_signature(name: str) -> None:
    assert inspect.signature(getattr(CompiledOps, name)) == inspect.signature(getattr(Ops, name))


def test_the_catalogue_names_every_operation() -> None:
    ops: Any = compiled_ops()
    page = (Path(__file__).parents[2] / "kernels" / "cpu" / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(ops._library.operations)
