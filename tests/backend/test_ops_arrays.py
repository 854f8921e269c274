"""Scratch memory, cached ones, tiles and the arithmetic around a step: what all primitives stand on."""

from __future__ import annotations

import threading
import tracemalloc
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcnn_gpu.backend import quiet_arithmetic
from fcnn_gpu.backend._ops import BLOCK, Ops
from fcnn_gpu.backend._ops._array import constant_tile


def test_scratch_is_reused_and_grows_to_the_largest_size() -> None:
    ops = Ops()
    small = ops.scratch("t", 10, np.float32)
    large = ops.scratch("t", 1000, np.float32)
    assert not np.shares_memory(small, large)
    assert np.shares_memory(ops.scratch("t", 5, np.float32), large)
    assert ops.scratch("t", 5, np.float32).shape == (5,)


def test_scratch_of_another_tag_or_dtype_is_another_array() -> None:
    ops = Ops()
    arrays = [ops.scratch("t", 8, np.float32), ops.scratch("u", 8, np.float32), ops.scratch("t", 8, np.float64)]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])
    assert np.shares_memory(ops.scratch("t", 8, np.dtype("float32")), arrays[0])


def test_threads_do_not_share_scratch_ones_or_ranges() -> None:
    ops = Ops()
    mine = [ops.scratch("t", 8, np.float32), ops.ones(8, np.float32), ops._range(8, 1)]
    theirs: list[Any] = []

    def work() -> None:
        theirs.extend([ops.scratch("t", 8, np.float32), ops.ones(8, np.float32), ops._range(8, 1)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not any(np.shares_memory(a, b) for a, b in zip(mine, theirs, strict=True))


def test_ones_are_ones_of_any_size() -> None:
    ops = Ops()
    for size in (3, 100, 7, 0):
        row = ops.ones(size, np.float64)
        assert row.shape == (1, size)
        assert (row == 1).all()
        assert row.dtype == np.float64


@given(st.integers(0, 300), st.integers(1, 3 * BLOCK))
@settings(deadline=None, max_examples=60)
def test_tiles_cover_a_matrix_once_in_pieces_that_stay_in_cache(n_rows: int, n_columns: int) -> None:
    n_rows = min(n_rows, 4_000_000 // n_columns)
    visits = np.zeros((n_rows, n_columns), np.uint8)
    for rows, columns in Ops()._tiles(visits.shape):
        assert 0 < visits[rows, columns].size <= BLOCK
        visits[rows, columns] += 1
    assert (visits == 1).all()


def test_quiet_arithmetic_silences_overflow_within_and_restores_what_was() -> None:
    size, state = np.getbufsize(), np.geterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with quiet_arithmetic():
            assert np.exp(np.float32(1e4)) == np.inf
            assert np.isnan(np.float32(np.inf) - np.float32(np.inf))
            assert np.getbufsize() < size
        with np.errstate(all="raise"), quiet_arithmetic():
            assert np.exp(np.float32(-1e4)) == 0
        with pytest.raises(RuntimeWarning):
            np.exp(np.float32(1e4))
    assert (np.getbufsize(), np.geterr()) == (size, state)


def test_quiet_arithmetic_restores_after_an_error() -> None:
    size, state = np.getbufsize(), np.geterr()
    with pytest.raises(KeyError), quiet_arithmetic():
        raise KeyError
    assert (np.getbufsize(), np.geterr()) == (size, state)


def test_asarray_copies_only_what_has_another_dtype_or_order() -> None:
    ops = Ops()
    X = np.zeros((3, 2), np.float32)
    assert ops.asarray(X) is X
    assert ops.asarray(X, np.float64).dtype == np.float64
    assert ops.asarray(X.T).flags.c_contiguous


def test_a_matrix_keeps_each_sample_contiguous() -> None:
    matrix = Ops().matrix(3, 5, np.float32)
    assert matrix.shape == (3, 5)
    assert matrix.flags.f_contiguous
    assert matrix[:, :2].flags.f_contiguous


@pytest.mark.parametrize("cursor", [0, 3])
def test_gathering_casts_scales_and_shifts(cursor: int) -> None:
    ops = Ops()
    X = np.arange(40, dtype=np.uint8).reshape(10, 4)
    order = np.array([9, 0, 3, 2, 5, 1, 4, 6, 8, 7])
    out = np.empty((5, 4), np.float32)
    ops.gather_rows(X, order, np.array([cursor]), out, scale=0.5, shift=-1.0)
    np.testing.assert_array_equal(out, X[order[cursor : cursor + 5]] * 0.5 - 1.0)
    labels = np.empty(5, np.int32)
    ops.gather_rows(np.arange(10), order, np.array([cursor]), labels)
    np.testing.assert_array_equal(labels, order[cursor : cursor + 5])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (1.0, 1.0), (-0.5, 0.0), (2.0, 0.25)])
@given(m=st.integers(1, 9), k=st.integers(1, 9), n=st.integers(1, 9))
@settings(deadline=None, max_examples=40)
def test_products_of_any_shape_in_either_order(order: Any, alpha: float, beta: float, m: int, k: int, n: int) -> None:
    rng = np.random.default_rng(m + 10 * k + 100 * n)
    A, B = rng.normal(size=(m, k)), np.asfortranarray(rng.normal(size=(k, n)))
    out = np.array(rng.normal(size=(m, n)), order=order)
    expected = alpha * (A @ B) + beta * out
    Ops().gemm(A, B, out, alpha, beta)
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)


def test_what_is_not_read_may_hold_anything() -> None:
    out = np.full((2, 2), np.nan)
    Ops().gemm(np.ones((2, 3)), np.ones((3, 2)), out, alpha=2.0, beta=0.0)
    np.testing.assert_array_equal(out, np.full((2, 2), 6.0))


def test_numpy_has_two_precisions() -> None:
    ops = Ops()
    for precision in (None, "float32", "float64"):
        assert ops.with_precision(precision) is ops
    for precision in ("tf32", "bfloat16", "float16"):
        with pytest.raises(ValueError, match=f"'{precision}' needs the tensor cores of a GPU"):
            ops.with_precision(precision)
    with pytest.raises(ValueError, match=r"does not know 'fp16'.*float16"):
        ops.with_precision("fp16")


def test_a_tiled_product_over_chunks_applies_bias_and_activation_once() -> None:
    rng = np.random.default_rng(0)
    ops = Ops()
    A, B, b = rng.normal(size=(5, 12)), np.asfortranarray(rng.normal(size=(12, 4))), rng.normal(size=(5, 1))
    out = ops.matrix(5, 4, np.float64)
    for start in (0, 4, 8):
        chunk = slice(start, start + 4)
        ops.tiled_matmul(A[:, chunk], B[chunk], out, b, "tanh", 0.0, accumulate=start > 0, last=start == 8)
    np.testing.assert_allclose(out, np.tanh(A @ B + b), rtol=1e-12)


def test_scratch_of_a_tile_has_its_shape_is_kept_and_does_not_pile_up() -> None:
    ops = Ops()
    tile = np.zeros((3, 5), np.float32)
    scratch = ops._tile_scratch("t", tile)
    assert (scratch.shape, scratch.dtype) == ((3, 5), np.float32)
    assert scratch.flags.c_contiguous
    assert ops._tile_scratch("t", tile) is scratch
    assert np.shares_memory(ops._tile_scratch("t", np.zeros(BLOCK, np.float32)), scratch)
    assert not np.shares_memory(ops._tile_scratch("u", tile), scratch)
    assert ops._tile_scratch("t", tile.astype(np.float64)).dtype == np.float64
    for n in range(1, 3000):
        ops._tile_scratch("t", np.empty(n, np.float32))
    assert len(ops._per_thread.__dict__["tiles"]) <= 1024
    assert ops._tile_scratch("t", tile).shape == (3, 5)


def test_a_constant_tile_is_read_only_and_those_of_many_values_do_not_pile_up() -> None:
    tile = constant_tile(0.5, (3, 5), np.dtype(np.float32))
    np.testing.assert_array_equal(tile, np.full((3, 5), 0.5, np.float32))
    assert not tile.flags.writeable
    assert constant_tile(0.5, (3, 5), np.dtype(np.float32)) is tile
    tracemalloc.start()
    try:
        for i in range(200):
            constant_tile(1.0 + i, (2, 2), np.dtype(np.float32))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 80 * BLOCK * 4  # 64 blocks and their like, not 200
