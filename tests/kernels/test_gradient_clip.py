"""gradient_clip.cu: the norm of the penalized gradient in two stages, and the scale that limits it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher

from .flat import FlatCase, variants
from .helpers import BLOCKS, FLOATS, poisoned


def squares(launcher: Launcher, case: FlatCase, part: int, penalized: bool) -> tuple[HostArray, HostArray | None]:
    """Σ g² by part, of the bare gradient and of the penalized one."""
    n_parts = max(1, -(-case.n // part))
    bare, partial = poisoned(n_parts, case.dtype), poisoned(n_parts, case.dtype) if penalized else None
    segments: list[Any] = [case.n_segments, case.segments] if penalized else [0, None]
    arguments = [case.n, part, n_parts, *segments, case.scale_cell(), case.values, case.gradients, bare, partial]
    launcher.launch("gradient_clip", "square_parts", (case.dtype, penalized), arguments, blocks=n_parts)
    return bare, partial


def scale_of(launcher: Launcher, partial: HostArray, max_norm: float) -> float:
    scale = poisoned(1, np.float64)
    arguments = [partial.size, max_norm, partial, scale]
    launcher.launch("gradient_clip", "clip_scale", (partial.dtype,), arguments, blocks=1)
    return float(scale[0])


def check(launcher: Launcher, case: FlatCase, part: int) -> None:
    tolerance = 64 * float(np.finfo(case.dtype).eps)
    for penalized in (False, True):
        bare, partial = squares(launcher, case, part, penalized)
        for found, g in ((bare, case.bare()), (partial, case.penalized())):
            if found is not None:
                expected = [np.sum(g[p : p + part] ** 2) for p in range(0, case.n, part)]
                np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
                norm = float(np.linalg.norm(g))
                ratio = norm / 4 / (norm + 1e-6)
                assert scale_of(launcher, found, norm / 4) == pytest.approx(ratio, rel=tolerance)
                assert scale_of(launcher, found, norm * 4) == 1.0


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("part", [100, 5000])
def test_norm_and_scale(launcher: Launcher, part: int, dtype: np.dtype[Any]) -> None:
    for case in variants(dtype):
        check(launcher, case, part)


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product(BLOCKS, [1, 3, 65_536])))
def test_any_grid(make_launcher: Callable[..., Launcher], block: int, max_blocks: int) -> None:
    check(make_launcher(block=block, max_blocks=max_blocks), FlatCase(np.dtype(np.float64), 4097, 6), 300)


@pytest.mark.parametrize(("square", "scale"), [(0.0, 1.0), (np.inf, 0.0), (np.nan, 1.0)])
def test_extreme_norms(launcher: Launcher, square: float, scale: float) -> None:
    assert scale_of(launcher, np.array([square]), 1.0) == scale
