"""Skips a test where software CUDA cannot be built; in CI that is a failure."""

from __future__ import annotations

import os

import pytest

from .build import missing


def skip_unless_buildable() -> None:
    reason = missing()
    if reason and os.environ.get("CI"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
