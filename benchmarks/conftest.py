"""Options of the benchmarks: which backend and which dtype they run in."""

from __future__ import annotations

import pytest

from fcnn_gpu.backend import resolve_backend
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.bench.operations import DTYPES


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fcnn_gpu")
    group.addoption("--backend", default="numpy", help="numpy (default), cpu, cupy or cupy:<device>")
    group.addoption("--dtype", default="float32", choices=DTYPES, help="of single operations (default: float32)")


@pytest.fixture(scope="session")
def ops(request: pytest.FixtureRequest) -> Ops:
    """The primitives that are timed."""
    return resolve_backend(request.config.getoption("--backend"))


@pytest.fixture(scope="session")
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--dtype"))
