"""`pytest --software-cuda`: the tests marked gpu, on the real CuPy over software CUDA."""

from __future__ import annotations

import os

import pytest

from .build import NotBuildable
from .environment import install


def add_option(parser: pytest.Parser) -> None:
    parser.addoption(
        "--software-cuda",
        action="store_true",
        help="run what is marked gpu on the real CuPy over software CUDA (tests/software_cuda), without a GPU",
    )


def configure(config: pytest.Config) -> None:
    """Put software CUDA under this run, before anything imports CuPy."""
    if not config.getoption("--software-cuda"):
        return
    os.environ.setdefault("SOFTWARE_CUDA_DEVICES", "2")  # a test of two devices has two
    try:
        install()
    except NotBuildable as reason:
        raise pytest.UsageError(str(reason)) from reason
