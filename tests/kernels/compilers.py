"""The compilers that tests of the kernels run: NVRTC of CUDA 12 and of CUDA 13, side by side."""

from __future__ import annotations

import os

import pytest

from fcnn_gpu.backend import _nvrtc

GENERATIONS = tuple(_nvrtc.HOW_TO_INSTALL)


def require_nvrtc(generation: int) -> None:
    """Skips the test where this generation's NVRTC is not installed; in CI that is a failure."""
    reason = _nvrtc.missing_nvrtc(generation)
    if reason and os.environ.get("CI"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
