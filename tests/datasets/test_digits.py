"""Whether float32 holds the digits of a data set, and what `load` and `read_features` keep where it does not."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fcnn_gpu import DigitsWarning, datasets
from fcnn_gpu._types import HostArray
from fcnn_gpu.datasets import read_features
from fcnn_gpu.datasets._digits import HELD, NOTICED, Digits, may_round, narrowed, surely_held
from fcnn_gpu.datasets._idx import write_idx

SECONDS = 1.7e9 + np.linspace(0, 1000, 60)


@settings(deadline=None)
@given(
    st.integers(1, 40),
    st.lists(st.tuples(st.floats(-1e15, 1e15), st.floats(1e-6, 1e6)), min_size=1, max_size=4),
    st.integers(1, 50),
    st.sampled_from([np.float64, np.int64, np.float32]),
)
def test_spread_and_rounding_are_those_of_all_rows_at_once(
    n: int, columns: list[tuple[float, float]], at_once: int, dtype: type
) -> None:
    rng = np.random.default_rng(n)
    offsets, spreads = np.array(columns).T
    rows = (offsets + spreads * rng.normal(size=(n, len(columns)))).astype(dtype)
    digits = Digits(np.float32)
    for start in range(0, n, at_once):
        digits.add(rows[start : start + at_once])
    left = (rows - rows[0]).astype(np.float64)
    np.testing.assert_allclose(digits.spread, left.std(axis=0), rtol=1e-6, atol=1e-12)
    moved = (rows - rows.astype(np.float32).astype(dtype)).astype(np.float64)
    np.testing.assert_allclose(digits.rounding, np.sqrt((moved**2).mean(axis=0)), rtol=1e-6, atol=1e-12)


@settings(deadline=None)
@given(st.integers(2, 30), st.floats(1e0, 1e15), st.floats(1e-3, 1e9))
def test_float64_is_kept_where_rounding_moves_a_column_by_a_part_of_its_spread(
    n: int, offset: float, spread: float
) -> None:
    rng = np.random.default_rng(n)
    X = np.column_stack([rng.normal(size=n), offset + spread * rng.normal(size=n)])
    rows = np.concatenate([X, X[:1]])
    far = rows[:, 1]
    width = (far - far[0]).std()
    assume(width > 0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        kept, test = narrowed([X, X[:1]], "a.csv")
    assert kept.dtype == test.dtype
    rounding = np.sqrt(((far.astype(np.float32) - far) ** 2).mean())
    if kept.dtype == np.float32:
        assert rounding <= HELD * width * 1.001
    else:
        assert kept is X
        assert rounding > HELD * width * 0.999
    step = np.spacing(np.abs(far).max())
    assert bool(told) == (step / np.sqrt(12) > 1e-4 * width and not (far == np.floor(far)).all())


def write_csv(path: Path, *columns: HostArray) -> Path:
    np.savetxt(path, np.column_stack(columns), delimiter=",", header="t,x,y", comments="", fmt="%.17g")
    return path


def test_every_reader_keeps_the_digits_of_time_stamps(tmp_path: Path) -> None:
    x, y = np.linspace(0, 1, 60), SECONDS / 3
    X = np.column_stack([SECONDS, x])
    write_csv(tmp_path / "a.csv", SECONDS, x, y)
    np.savez(tmp_path / "a.npz", X=X, y=y)
    np.savez(tmp_path / "parts.npz", X_train=X[:40], y_train=y[:40], X_test=X[40:], y_test=y[40:])
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    write_idx(tmp_path / "X.idx", X)
    write_idx(tmp_path / "y.idx", y)
    for name, target in (("a.csv", "y"), ("a.npz", None), ("parts.npz", None), ("X.npy", "y.npy"), ("X.idx", "y.idx")):
        beside = target if target is None or name == "a.csv" else tmp_path / target
        data = datasets.load(tmp_path / name, target=beside, task="regression", test_fraction=0.0)
        np.testing.assert_array_equal(np.concatenate([data.X_train, data.X_test]), X)
        np.testing.assert_array_equal(np.concatenate([data.y_train, data.y_test]), y)
        found = read_features(tmp_path / name, drop="y" if name == "a.csv" else None) if name[0] != "p" else X
        np.testing.assert_array_equal(found, X)
    source = datasets.open_csv(tmp_path / "a.csv")
    [(read, targets, _)] = source.read(0)
    np.testing.assert_array_equal(read, X)
    np.testing.assert_array_equal(targets, y)


def test_what_float32_holds_takes_its_memory_alone(tmp_path: Path) -> None:
    whole = 16_777_216 - np.arange(60.0)
    data = datasets.load(write_csv(tmp_path / "a.csv", whole, np.linspace(0, 1, 60), np.linspace(3, 4, 60)))
    assert data.X_train.dtype == data.y_train.dtype == np.float32
    np.save(tmp_path / "X.npy", (SECONDS // 1000).astype(np.int64).reshape(-1, 1))
    assert read_features(tmp_path / "X.npy").dtype == np.float32


def test_one_row_has_no_spread_and_is_not_rounded(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", SECONDS[:1] + 5, np.zeros(1), np.ones(1))
    assert read_features(path, drop="y")[0, 0] == SECONDS[0] + 5
    assert datasets.load(path, task="regression", test_fraction=0.0).X_train[0, 0] == SECONDS[0] + 5


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_what_float64_does_not_hold_either_is_told(dtype: type, tmp_path: Path) -> None:
    X: HostArray = (4e18 + 300 * np.arange(40)).astype(dtype).reshape(-1, 1)
    np.savez(tmp_path / "a.npz", X=X, y=np.arange(40) % 2)
    with pytest.warns(DigitsWarning, match=r"a.npz: the numbers of column 0 .* float64 rounds them by"):
        datasets.load(tmp_path / "a.npz")


def test_one_number_computed_in_several_ways_has_no_digits_to_lose() -> None:
    shares = np.random.default_rng(0).dirichlet(np.ones(4), 200)
    sums = np.stack([shares.sum(axis=1), 1e6 * shares.sum(axis=1)], axis=1)
    assert (np.ptp(sums, axis=0) > 0).all()
    digits, whole = Digits(np.float32), Digits(np.float32)
    digits.add(sums)
    whole.add(2**56 + np.arange(60).reshape(-1, 1))  # as close together beside their size, and all of them meant
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        digits.warn("fit", None, "")
    with pytest.warns(DigitsWarning, match="float32 rounds them"):
        whole.warn("fit", None, "")


@settings(deadline=None)
@given(
    st.integers(1, 60),
    st.sampled_from([np.float64, np.int64]),
    st.sampled_from(["normal", "spike", "constant"]),
    st.integers(-45, 18),
    st.integers(-45, 15),
)
def test_what_is_held_by_its_ends_is_held(n: int, dtype: type, kind: str, magnitude: int, spread: int) -> None:
    rng = np.random.default_rng(n)
    parts = {"normal": rng.normal(size=n), "spike": (np.arange(n) == 0).astype(float), "constant": np.zeros(n)}
    column = (10.0**magnitude + 10.0**spread * parts[kind]).astype(dtype).reshape(-1, 1)
    if surely_held(column, np.float32):
        digits = Digits(np.float32)
        digits.add(column)
        assert digits.spread[0] == 0 or digits.rounding[0] <= NOTICED * digits.spread[0]
    assert surely_held(rng.normal(size=(n, 3)) + 3.0, np.float32)


def test_nothing_is_rounded_to_the_dtype_that_it_has() -> None:
    for dtype in (np.uint8, np.int64, np.float16, np.float64):
        assert not may_round(np.dtype(dtype), np.dtype(dtype))
