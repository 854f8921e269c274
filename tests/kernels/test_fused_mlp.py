"""fused_mlp.cu: whole stacks of layers, each layer held to float64 on what the layer before it gave."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._kernel_source import kernels
from fcnn_gpu.backend._kernels import ArchitectureError, Launcher
from fcnn_gpu.backend._ops import ELEMENTWISE, Ops
from tests.support.tolerances import FLUSHED, UNIT

from .helpers import HALVES, poisoned

FLOAT32: np.dtype[Any] = np.dtype(np.float32)
DTYPES = (FLOAT32, *HALVES)
ALPHA = 0.3
KINDS = tuple(ELEMENTWISE)
SAMPLES = (16, 32)


@dataclass
class Stack:
    """Random layers of given widths, their weights and their biases one after another in flat arrays."""

    widths: Sequence[int]
    kinds: Sequence[str]
    dtype: np.dtype[Any]
    has_bias: Sequence[bool]

    def __post_init__(self) -> None:
        rng = np.random.default_rng(len(self.widths) + sum(self.widths))
        shapes = list(itertools.pairwise(self.widths))
        self.W = [(rng.normal(size=(n_in, n_out)) / np.sqrt(n_in)).astype(self.dtype).T for n_in, n_out in shapes]
        self.b = [
            rng.normal(size=n_out).astype(np.float32) * has
            for (_, n_out), has in zip(shapes, self.has_bias, strict=True)
        ]
        # Something in front, so that an offset matters, and an odd one, so that vectors do not fit everywhere.
        self.weights = np.concatenate([np.full(8, np.nan, self.dtype), *(W.T.ravel() for W in self.W)])
        self.biases = np.concatenate([np.full(3, np.nan, np.float32), *self.b])

    def table(self, batch: int, keep: bool) -> tuple[HostArray, int]:
        """The kernel's table, and how many elements it keeps."""
        rows, weight, bias, kept = [], 8, 3, 0
        kinds = dict(kernels("fused_mlp")["fused_mlp"].enumerators)
        for W, kind, has_bias in zip(self.W, self.kinds, self.has_bias, strict=True):
            n_out, n_in = W.shape
            z, a = (kept, kept + n_out * batch) if keep else (-1, -1)
            rows.append([n_in, n_out, weight, bias if has_bias else -1, kinds[kind.upper()], z, a])
            weight, bias, kept = weight + W.size, bias + n_out, kept + 2 * n_out * batch * keep
        return np.array(rows, np.int64), kept

    def run(self, launcher: Launcher, A0: HostArray, keep: bool, samples: int) -> tuple[HostArray, list[Any]]:
        """The last layer's A, and (Z, A) of each layer if they are kept."""
        batch, n_out = A0.shape[1], self.widths[-1]
        table, n_saved = self.table(batch, keep)
        out, saved = poisoned((n_out, batch), self.dtype), poisoned(n_saved, self.dtype)
        width = 64 if max(self.widths[1:]) <= 64 else 128
        alphas = np.full(len(self.W), ALPHA, np.float32)
        sizes = [batch, len(self.W), self.widths[0], n_out, self.weights.size, self.biases.size, n_saved]
        template = (self.dtype, width, samples)
        try:
            launcher.prepare("fused_mlp", "fused_mlp", template)
        except ArchitectureError as error:
            pytest.skip(str(error))
        arrays = [table, alphas, self.weights, self.biases, A0, saved if keep else None, out]
        launcher.launch("fused_mlp", "fused_mlp", template, sizes + arrays, blocks=-(-batch // samples))
        layers = []
        for (n_in, n, _, _, _, z, a), W in zip(table.tolist(), self.W, strict=True):
            assert (n, n_in) == W.shape
            if keep:
                layers.append(tuple(saved[p : p + n * batch].reshape(batch, n).T for p in (z, a)))
        return out, layers

    def check(self, A0: HostArray, out: HostArray, layers: list[Any]) -> None:
        """Z and A of each layer are right for the A before it; the last A is in out alone."""
        last = len(layers) - 1
        for i, (Z, A) in enumerate(layers):
            wide = A0.astype(np.float64)
            z = self.W[i].astype(np.float64) @ wide + self.b[i].reshape(-1, 1)
            size = np.abs(self.W[i].astype(np.float64)) @ np.abs(wide) + np.abs(self.b[i].reshape(-1, 1)) + 1
            a = np.empty_like(z, order="F")
            Ops().bias_activation(np.asfortranarray(z), None, self.kinds[i], ALPHA, a)
            roundings = 2 * (self.widths[i] + 16)  # tensor cores cut sums off where others round them
            if i == last:
                assert np.isnan(A.astype(np.float64)).all()
                A = out
            assert_close(Z, z, roundings, size)
            assert_close(A, a, roundings, 2 * size)  # no f is steeper than 2
            A0 = A


def assert_close(actual: HostArray, exact: HostArray, roundings: int, size: HostArray) -> None:
    """`actual` is `exact` after so many roundings of terms that add up to `size` in float32, and one to its dtype."""
    store = UNIT[actual.dtype.name]
    sums = roundings * UNIT["float32"] * size
    tiny = float(ml_dtypes.finfo(actual.dtype).smallest_subnormal) + FLUSHED
    error = np.abs(actual.astype(np.float64) - exact)
    assert (error <= 1.01 * (store * (np.abs(exact) + sums) + sums) + tiny).all(), f"off by up to {np.nanmax(error)}"


def inputs(n_in: int, batch: int, dtype: np.dtype[Any]) -> HostArray:
    return np.random.default_rng(n_in + batch).normal(size=(batch, n_in)).astype(dtype).T


def check(launcher: Launcher, stack: Stack, batch: int, samples: int) -> None:
    A0 = inputs(stack.widths[0], batch, stack.dtype)
    out, layers = stack.run(launcher, A0, True, samples)
    stack.check(A0, out, layers)
    alone, _ = stack.run(launcher, A0, False, samples)
    np.testing.assert_array_equal(alone.astype(np.float64), out.astype(np.float64))  # keeping Z and A changes nothing


def plain(widths: Sequence[int], dtype: np.dtype[Any], kind: str = "relu") -> Stack:
    n = len(widths) - 1
    return Stack(widths, [kind] * (n - 1) + ["identity"], dtype, [True] * n)


@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "widths",
    [
        (1, 1),
        (3, 2, 1),
        (64, 64, 64, 10),
        (17, 33, 127, 5),
        (200, 128, 128, 10),
        (784, 100, 128),
        (130, 16, 48, 96, 80),
    ],
    ids=str,
)
def test_widths(launcher: Launcher, widths: tuple[int, ...], dtype: np.dtype[Any], samples: int) -> None:
    check(launcher, plain(widths, dtype), 33, samples)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("batch", [1, 15, 16, 31, 32, 33, 1000])
def test_batches(launcher: Launcher, batch: int, dtype: np.dtype[Any]) -> None:
    for samples in SAMPLES:
        check(launcher, plain((9, 24, 7), dtype, "tanh"), batch, samples)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_kind_of_activation(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    check(launcher, Stack([20] * (len(KINDS) + 1), KINDS, dtype, [True] * len(KINDS)), 18, 16)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layers_without_bias(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    check(launcher, Stack((16, 16, 12, 8), ("sigmoid",) * 3, dtype, [False, True, False]), 5, 16)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_as_many_layers_as_there_may_be(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    check(launcher, plain([6] * 33, dtype, "leaky_relu"), 3, 16)


@pytest.mark.parametrize("max_blocks", [1, 2, 7])
def test_any_grid(make_launcher: Callable[..., Launcher], max_blocks: int) -> None:
    for dtype, samples in itertools.product(DTYPES, SAMPLES):
        check(make_launcher(max_blocks=max_blocks), plain((70, 30, 4), dtype), 100, samples)


@given(
    widths=st.lists(st.integers(1, 128), min_size=1, max_size=5),
    n_in=st.integers(1, 300),
    batch=st.integers(1, 70),
    dtype=st.sampled_from(DTYPES),
    samples=st.sampled_from(SAMPLES),
    data=st.data(),
)
@settings(deadline=None, max_examples=25)
def test_any_stack(
    launcher: Launcher,
    widths: list[int],
    n_in: int,
    batch: int,
    dtype: np.dtype[Any],
    samples: int,
    data: st.DataObject,
) -> None:
    n = len(widths)
    bounded = [kind for kind in KINDS if kind != "exp"]  # e^(e^z) is no number
    kinds = data.draw(st.lists(st.sampled_from(bounded), min_size=n, max_size=n))
    has_bias = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    check(launcher, Stack((n_in, *widths), kinds, dtype, has_bias), batch, samples)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_samples_nan_and_infinity_stay_its_own(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    stack = plain((20, 17, 3), dtype)
    A0 = inputs(20, 33, dtype)
    clean, _ = stack.run(launcher, A0, False, 16)
    A0[3, 7], A0[0, 20] = np.nan, np.inf
    out, _ = stack.run(launcher, A0, False, 16)
    others = np.delete(np.arange(33), [7, 20])
    np.testing.assert_array_equal(out[:, others].astype(np.float64), clean[:, others].astype(np.float64))
    assert np.isnan(out[:, 7].astype(np.float64)).all()
    assert not np.isfinite(out[:, 20].astype(np.float64)).all()


def test_no_samples_launch_nothing(launcher: Launcher) -> None:
    out, _ = plain((4, 3), FLOAT32).run(launcher, inputs(4, 0, FLOAT32), False, 16)
    assert out.shape == (3, 0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_lay_where_a_narrower_layer_is_padded_does_not_count(launcher: Launcher, dtype: np.dtype[Any]) -> None:
    stack = plain((20, 5, 3), dtype)
    stack.weights[8 : 8 + 100].reshape(20, 5)[12] = -1  # an input of ∞ gives −∞, which ReLU makes 0
    A0 = inputs(20, 4, dtype)
    A0[12, 2] = np.inf
    out, _ = stack.run(launcher, A0, False, 16)
    assert_close(out[:, 2], stack.b[1].astype(np.float64), 1, np.abs(stack.b[1]))
