"""embed_numbers.cu: all kinds of terms, forward and backward, against the definition in float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernels import Launcher
from fcnn_gpu.backend._ops import NUMBER_KINDS, Columns, NumberMap, Ops

from .helpers import BLOCKS, FLOATS, HALVES, accumulator, assert_rounded, poisoned

SHAPES = [(1, 1, 1), (3, 0, 3), (4, 31, 3), (5, 33, 9), (6, 70, 3)]
"""(units, samples, outputs of a linear map): in the fourth more than a thread has in registers."""


class Numbers:
    """Arguments of the kernels, and their results by the reference, in float64."""

    def __init__(self, n: int, batch: int, m: int, kind: str, dtype: np.dtype[Any], relu: bool, shared: bool) -> None:
        rng, wide = np.random.default_rng(n * 1000 + batch), accumulator(dtype)
        n_embedded = max(1, n - 2)
        order = np.random.default_rng(n).permutation(n)
        starts = np.array([0, *itertools.accumulate(4 if shared else 1 + 2 * i % 5 for i in range(n_embedded))])
        columns = Columns(order, tuple(order.tolist()), n_embedded)
        self.of = of = NumberMap(columns, kind, starts, tuple(starts.tolist()), m, relu, not relu, shared)
        self.dtype, self.batch = dtype, batch
        self.X = rng.normal(size=(batch, n)).astype(dtype).T
        self.w = rng.normal(size=(of.n_terms, 1)).astype(wide)
        self.phase: HostArray | None = None if kind == "waves" else rng.normal(size=(of.n_terms, 1)).astype(wide)
        n_weights = 4 * of.values_per_term if shared else of.n_values
        self.W = rng.normal(size=(n_weights, m)).astype(wide).T
        self.b = rng.normal(size=(1 if shared else n_embedded, m)).astype(wide).T
        self.dOut = rng.normal(size=(batch, of.n_outputs)).astype(dtype).T

    def check(self, launcher: Launcher) -> None:
        of, dtype, wide, batch = self.of, self.dtype, self.W.dtype, self.batch
        n, n_embedded, n_out = len(of.columns.host), of.columns.n_embedded, of.n_outputs
        sizes = [n, n_out, batch, n_embedded, of.n_out, of.n_terms, self.W.shape[1]]
        flags, instance = [of.relu, of.appends, of.shared], (dtype, of.kind.upper())
        given = [of.columns.order, of.starts, self.w, self.phase, self.W]
        out, dX = poisoned((n_out, batch), dtype), poisoned((n, batch), dtype)
        dW, db = poisoned((of.n_out, of.n_values), wide), poisoned((of.n_out, n_embedded), wide)
        dw = None if of.kind == "pieces" else poisoned((of.n_terms, 1), wide)
        dphase = None if of.kind != "cosine" else poisoned((of.n_terms, 1), wide)
        pairs = -(-batch // 32) * 32 * n_embedded + (n - n_embedded) * batch
        arguments = [*sizes, self.b.shape[1], *flags, *given, self.b, self.X, out]
        launcher.launch("embed_numbers", "embed_numbers", instance, arguments, threads=pairs)
        arguments = [*sizes, of.n_values, *flags, *given, self.dOut, out, self.X, dw, dphase, dW, db]
        launcher.launch("embed_numbers", "embed_numbers_parameters", instance, arguments, threads=of.n_terms * 32)
        arguments = [*sizes, *flags, *given, self.dOut, out, self.X, dX]
        launcher.launch("embed_numbers", "embed_numbers_inputs", instance, arguments, threads=pairs)

        def exact(x: Any) -> Any:
            return None if x is None else np.asfortranarray(x, np.float64)

        ops, X, w, phase, W = Ops(), *(exact(x) for x in (self.X, self.w, self.phase, self.W))
        expected = {name: exact(x) for name, x in {"out": out, "dX": dX, "dW": dW, "db": db}.items()}
        of_w, of_phase = exact(dw), exact(dphase)
        ops.embed_numbers(of, X, w, phase, W, exact(self.b), expected["out"])
        assert_rounded(out, expected["out"], roundings=64, scale=4.0 + np.abs(W).sum())
        dOut, y = exact(self.dOut), exact(out)  # a ReLU cuts where the kernel's output does
        ops.embed_numbers_backward(
            of, dOut, y, X, w, phase, W, of_w, of_phase, expected["dW"], expected["db"], expected["dX"]
        )
        size = 8.0 * (1 + np.abs(dOut).sum()) * (1 + np.abs(W).sum()) * (1 + np.abs(X).max(initial=0.0))
        for actual, value in [(dX, "dX"), (dW, "dW"), (db, "db")]:
            assert_rounded(actual, expected[value], roundings=64, scale=size / max(1, batch))
        for of_terms, exact_one in [(dw, of_w), (dphase, of_phase)]:
            if of_terms is not None:
                assert_rounded(of_terms, exact_one, roundings=64, scale=size / max(1, batch))


@pytest.mark.parametrize("dtype", FLOATS + HALVES, ids=str)
@pytest.mark.parametrize("kind", NUMBER_KINDS)
def test_numbers(launcher: Launcher, kind: str, dtype: np.dtype[Any]) -> None:
    for n, batch, m in SHAPES:
        for relu, shared in [(False, False), (True, False), (True, True)]:
            Numbers(n, batch, m, kind, dtype, relu, shared).check(launcher)


@pytest.mark.parametrize(("block", "max_blocks"), list(itertools.product([b for b in BLOCKS if b <= 512], [1, 3])))
@pytest.mark.parametrize("kind", NUMBER_KINDS)
def test_any_grid(make_launcher: Callable[..., Launcher], kind: str, block: int, max_blocks: int) -> None:
    launcher = make_launcher(block=block, max_blocks=max_blocks)
    Numbers(5, 70, 3, kind, np.dtype(np.float64), relu=True, shared=False).check(launcher)
