"""What is an array: every entry of the API takes the same tables and numbers, and refuses the same things."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.sparse import csr_array

import fcnn_gpu as fcnn
from fcnn_gpu import datasets, losses, metrics, regularizers
from fcnn_gpu._arrays import as_array
from fcnn_gpu._types import HostArray
from fcnn_gpu.datasets import open_arrays, write_idx
from fcnn_gpu.gradient_check import check_model
from fcnn_gpu.large_matrix import chunked_matmul
from fcnn_gpu.training import plot_confusion_matrix
from tests.support.estimator_cases import classifier, regressor

N = 12
RNG = np.random.default_rng(0)
X: HostArray = RNG.standard_normal((N, 2))
Y: HostArray = RNG.standard_normal(N)
LABELS: HostArray = np.arange(N) % 2
WEIGHT: HostArray = RNG.uniform(0.5, 2.0, N)


def _model(dtype: str = "float32") -> fcnn.Sequential:
    return fcnn.Sequential([fcnn.Dense(3, activation="tanh"), fcnn.Dense(1)], 2, seed=0, backend="numpy", dtype=dtype)


def _trainer() -> fcnn.Trainer:
    return fcnn.Trainer(_model(), loss="mse", seed=0)


def _fit(X: Any = X, y: Any = Y, **options: Any) -> Any:
    trainer = _trainer()
    trainer.fit(X, y, epochs=1, batch_size=4, progress=False, **options)
    return trainer.model.flat.values.copy()


def _backward(gradient: Any) -> Any:
    model = _model()
    model.forward(X, training=True)
    model.backward(gradient)
    return model.flat.gradients.copy()


def _restored(weights: Any) -> Any:
    model = _model()
    model.restore(model.snapshot() | {"0.W": weights})
    return model.flat.values


def _drawn(weights: Any) -> Any:
    class Given(fcnn.initializers.Initializer):
        name = "given"

        def __call__(self, rng: np.random.Generator, n_out: int, n_in: int) -> HostArray:
            return weights

    return fcnn.Sequential([fcnn.Dense(N, init=Given())], 2, seed=0, backend="numpy").flat.values


def _stored(weights: Any) -> Any:
    dense = fcnn.Dense(N, placement="host")
    fcnn.Sequential([dense, fcnn.Dense(1)], 2, seed=0, backend="numpy")
    dense.W[...] = weights
    return np.asarray(dense.W)


def _written(path: Path, array: Any) -> Any:
    write_idx(path / "array.idx", array)
    return datasets.read_idx(path / "array.idx")


def _of_source(X: Any = X, y: Any = Y, sample_weight: Any = None) -> Any:
    return _fit(open_arrays(X, y, sample_weight), None)


def _out(out: Any) -> Any:
    return chunked_matmul(X, X.T, out=out, backend="numpy")


MATRIX: dict[str, Callable[[Any], Any]] = {
    "model": lambda x: _model()(x),
    "model.forward": lambda x: _model().forward(x),
    "model.predict": lambda x: _model().predict(x),
    "predict_classes": lambda x: _model().predict_classes(x),
    "fit": lambda x: _fit(x),
    "validation_data": lambda x: _fit(validation_data=(x, Y)),
    "evaluate": lambda x: _trainer().evaluate(x, Y),
    "memory_report": lambda x: _model().memory_report(4, data=(x, Y)).total,
    "open_arrays": lambda x: _of_source(x),
    "gradient_check": lambda x: str(check_model(_model("float64"), "mse", x, Y)),
    "regressor.fit": lambda x: regressor().fit(x, Y).predict(X),
    "regressor.predict": lambda x: regressor().fit(X, Y).predict(x),
    "regressor.score": lambda x: regressor().fit(X, Y).score(x, Y),
    "classifier.fit": lambda x: classifier().fit(x, LABELS).predict_proba(X),
    "classifier.partial_fit": lambda x: classifier().partial_fit(x, LABELS, [0, 1]).predict_proba(X),
    "classifier.predict_proba": lambda x: classifier().fit(X, LABELS).predict_proba(x),
}
"""Entries that take a matrix of numbers (n_samples, 2), from any library."""

ROOMS = {
    name: MATRIX[name]
    for name in ("fit", "model", "evaluate", "validation_data", "open_arrays", "regressor.fit", "regressor.predict")
}
"""One of those for each way in; that the others take the same ways, the masks show."""

COLUMN: dict[str, Callable[[Any], Any]] = {
    "fit": lambda y: _fit(y=y),
    "fit(sample_weight)": lambda y: _fit(sample_weight=y),
    "validation_data": lambda y: _fit(validation_data=(X, y)),
    "validation_data's weights": lambda y: _fit(validation_data=(X, Y, y)),
    "evaluate": lambda y: _trainer().evaluate(X, y),
    "evaluate(sample_weight)": lambda y: _trainer().evaluate(X, Y, y),
    "loss": lambda y: losses.MSE().forward(Y[:, None], y),
    "loss(sample_weight)": lambda y: losses.MSE().forward(Y[:, None], Y, y),
    "prepare_targets": lambda y: losses.Huber().prepare_targets(y, 1, np.float64),
    "open_arrays": lambda y: _of_source(y=y),
    "open_arrays(sample_weight)": lambda y: _of_source(sample_weight=y),
    "targets beside a source": lambda y: _fit(open_arrays(X), y),
    "regressor.fit": lambda y: regressor().fit(X, y).predict(X),
    "regressor.fit(sample_weight)": lambda y: regressor().fit(X, Y, y).predict(X),
    "y_true": lambda y: metrics.MeanAbsoluteError()(y, Y),
    "y_pred": lambda y: metrics.R2()(Y, y),
    "chunked_matmul(bias)": lambda y: chunked_matmul(X, X.T, bias=y, backend="numpy"),
}
"""Entries that take a number per sample."""

NUMPY: dict[str, Callable[[Any], Any]] = {
    "chunked_matmul(A)": lambda x: chunked_matmul(x, X.T, backend="numpy"),
    "chunked_matmul(B)": lambda x: chunked_matmul(X.T, x, backend="numpy"),
    "initializer": _drawn,
    "weights on the host": _stored,
    "regularizer": lambda x: regularizers.L1L2().value(x),
    "to_numpy": fcnn.to_numpy,
}
"""Entries that take a NumPy matrix of N rows and 2 columns alone."""


def _cases(entries: dict[str, Callable[[Any], Any]]) -> Any:
    return pytest.mark.parametrize("entry", entries.values(), ids=list(entries))


# Masks


def _masked(array: Any) -> Any:
    mask = np.zeros(array.shape, bool)
    mask.flat[-1] = True
    return np.ma.array(array, mask=mask)


@_cases(MATRIX | NUMPY)
def test_a_mask_is_never_lost_from_a_matrix(entry: Callable[[Any], Any]) -> None:
    with pytest.raises(ValueError, match="has 1 masked values"):
        entry(_masked(X))


@_cases(COLUMN)
def test_a_mask_is_never_lost_from_a_column(entry: Callable[[Any], Any]) -> None:
    with pytest.raises(ValueError, match="has 1 masked values"):
        entry(_masked(WEIGHT))


SQUARE: HostArray = np.eye(2, dtype=np.int64)

OTHERS: dict[str, Callable[[Path], Any]] = {
    "labels": lambda _: classifier().fit(X, _masked(LABELS)),
    "names of classes": lambda _: classifier().fit(X, _masked(np.array(["a", "b"])[LABELS])),
    "a matrix of labels": lambda _: classifier().fit(X, _masked(np.eye(2)[LABELS])),
    "classes": lambda _: classifier().partial_fit(X, LABELS, _masked(np.arange(2))),
    "classifier.score's y": lambda _: classifier().fit(X, LABELS).score(X, _masked(LABELS)),
    "regressor.score's weights": lambda _: regressor().fit(X, Y).score(X, Y, _masked(WEIGHT)),
    "regressor.score's y": lambda _: regressor().fit(X, Y).score(X, _masked(Y)),
    "labels of a loss": lambda _: losses.CrossEntropy().forward(X, _masked(LABELS)),
    "outputs": lambda _: losses.MSE().forward(_masked(X), X),
    "backward": lambda _: _backward(_masked(Y[:, None])),
    "restore": lambda _: _restored(_masked(np.ones((3, 2)))),
    "chunked_matmul(out)": lambda _: _out(_masked(np.empty((N, N)))),
    "write_idx": lambda path: _written(path, _masked(LABELS.astype(np.uint8))),
    "classification_report": lambda _: metrics.classification_report(_masked(LABELS), LABELS, 2),
    "confusion_matrix": lambda _: metrics.confusion_matrix(LABELS, _masked(LABELS), 2),
    "predicted_classes": lambda _: metrics.predicted_classes(_masked(X)),
    "top k": lambda _: metrics.TopKAccuracy(k=1)(LABELS, _masked(X)),
    "a picture": lambda _: plot_confusion_matrix(_masked(SQUARE)),
    "rows in a list": lambda _: _model()([np.ma.array([1.0, 2.0], mask=[True, False]), np.ones(2)]),
}


@_cases(OTHERS)
def test_a_mask_is_never_lost_elsewhere(entry: Callable[[Path], Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has 1 masked values"):
        entry(tmp_path)


@_cases(MATRIX)
def test_an_array_with_nothing_masked_is_as_good_as_any(entry: Callable[[Any], Any]) -> None:
    np.testing.assert_array_equal(entry(np.ma.array(X)), entry(X))


def test_a_block_source_of_the_user_may_give_no_masked_rows() -> None:
    class Masked(datasets.BlockSource):
        def read(self, block: int) -> Any:
            yield _masked(X), Y, None

    with pytest.raises(ValueError, match=r"the X that .* gives has 1 masked values"):
        _fit(Masked(2, np.float64, [N], has_targets=True), None)


# What else is no array of numbers


def _frame(values: HostArray) -> pd.DataFrame:
    return pd.DataFrame(values, columns=["a", "b"][: values.shape[1]])


def _dates(values: HostArray) -> pd.DataFrame:
    return _frame(values).assign(a=pd.Timestamp("2026-01-01"))


NO_NUMBERS: dict[str, tuple[Callable[[HostArray], Any], str]] = {
    "complex": (lambda x: x + 1j, "(?i)complex"),
    "digits as text": (lambda x: np.full(x.shape, "1"), "<U1"),
    "digits as objects": (lambda x: np.full(x.shape, "1", object), r"row 0, column 0: the argument must be .* got '1'"),
    "digits as bytes": (lambda x: np.full(x.shape, b"1"), r"\|S1"),
    "fields": (lambda x: np.zeros(len(x), [("a", "f8"), ("b", "f8")]), "fields a, b"),
    "dates": (lambda x: np.full(x.shape, "2026-01-01", "M8[D]"), "datetime64"),
    "spans of time": (lambda x: np.full(x.shape, 1, "m8[s]"), "timedelta64"),
    "a column of dates": (_dates, r"row 0, column 0: .* got Timestamp\('2026-01-01"),
    "a missing object": (lambda x: _with(x, None), r"a value is missing, None \(row 1, column 1\)"),
    "a missing number": (lambda x: _frame(_with(x, pd.NA)), r"a value is missing, <NA> \(row 1, column 1\)"),
    "a missing nullable number": (
        lambda x: _frame(x).astype("Float64").mask(_frame(np.arange(x.size).reshape(x.shape)) == 3),
        r"a value is missing, <NA> \(row 1, column 1",
    ),
    "a missing boolean": (
        lambda x: pl.DataFrame({"a": [True] * N, "b": [True, None] * (N // 2)}),
        r"a value is missing, None \(row 1, column 1\)",
    ),
    "a category": (lambda x: _frame(x).assign(b="red"), r"row 0, column 1: .* got 'red'"),
}


def _with(x: HostArray, value: Any) -> HostArray:
    changed = x.astype(object)
    changed[1, 1] = value
    return changed


SPARSE_TOO = ("fit", "model", "model.forward", "validation_data", "regressor.fit", "regressor.predict")
"""Entries that take sparse matrices, one for each way in."""


@_cases({name: MATRIX[name] for name in SPARSE_TOO})
def test_a_sparse_matrix_is_the_array_of_its_numbers(entry: Callable[[Any], Any]) -> None:
    np.testing.assert_allclose(entry(csr_array(X)), entry(X), rtol=1e-5)


def test_a_sparse_matrix_is_no_source() -> None:
    with pytest.raises(TypeError, match=r"must be dense, got the sparse csr_array. Pass its toarray\(\)"):
        open_arrays(csr_array(X), Y)


@pytest.mark.parametrize("kind", NO_NUMBERS)
@_cases(ROOMS)
def test_what_holds_no_numbers_is_refused_everywhere(entry: Callable[[Any], Any], kind: str) -> None:
    make, message = NO_NUMBERS[kind]
    with pytest.raises((TypeError, ValueError), match=message):
        entry(make(X))


# Tables


def _dummies() -> pd.DataFrame:
    frame = pd.DataFrame({"a": np.arange(N) / 4, "kind": ["red", "blue"] * (N // 2)})
    return pd.get_dummies(frame, drop_first=True)


def _typed(*dtypes: str) -> pd.DataFrame:
    columns = {"a": np.arange(N), "b": np.arange(N) % 2}
    return pd.DataFrame(
        {name: pd.array(column, dtype) for (name, column), dtype in zip(columns.items(), dtypes, strict=True)}
    )


TABLES: dict[str, Callable[[], Any]] = {
    "dummies": _dummies,
    "nullable": lambda: _typed("Float64", "Int64"),
    "nullable integers": lambda: _typed("Int32", "Int64"),
    "nullable booleans": lambda: _typed("Float32", "boolean"),
    "Arrow": lambda: _typed("double[pyarrow]", "bool[pyarrow]"),
    "Arrow integers": lambda: _typed("int64[pyarrow]", "uint8[pyarrow]"),
    "mixed": lambda: _typed("float32", "bool[pyarrow]"),
    "sparse columns": lambda: _typed("Sparse[float64]", "Sparse[float64]"),
    "polars": lambda: pl.DataFrame({"a": np.arange(N) / 4, "b": [True, False] * (N // 2)}),
    "polars booleans": lambda: pl.DataFrame({"a": [True] * N, "b": [True, False] * (N // 2)}),
    "an Arrow table": lambda: pa.table({"a": np.arange(N) / 4, "b": np.arange(N)}),
    "objects": lambda: np.array([[i, i % 2 == 0] for i in range(N)], object),
    "decimals": lambda: pd.DataFrame({"a": [Decimal(i) / 4 for i in range(N)], "b": range(N)}),
    "numbers as categories": lambda: _frame(X.round()).astype("category"),
    "a matrix of the old kind": lambda: X.view(np.matrix),
}


def _plain(table: Any) -> HostArray:
    columns: Any = table.columns if isinstance(table, pa.Table) else np.array(table).T
    if isinstance(table, pd.DataFrame | pl.DataFrame):
        columns = [table[name] for name in table.columns]
    return np.array([[float(_python(value)) for value in column] for column in columns]).T


def _python(value: Any) -> Any:
    return value.as_py() if isinstance(value, pa.Scalar) else value


@pytest.mark.filterwarnings("ignore:X .* feature names:UserWarning")
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("table", TABLES)
@_cases(ROOMS)
def test_a_table_is_the_array_of_its_numbers_everywhere(entry: Callable[[Any], Any], table: str) -> None:
    given = TABLES[table]()
    np.testing.assert_array_equal(entry(given), entry(_plain(given)))


SERIES: dict[str, Callable[[HostArray], Any]] = {
    "nullable": lambda y: pd.Series(y, dtype="Float64"),
    "Arrow": lambda y: pd.Series(y, dtype="double[pyarrow]"),
    "polars": pl.Series,
    "an Arrow array": pa.array,
    "objects": lambda y: y.astype(object),
    "a list": lambda y: y.tolist(),
}


@pytest.mark.parametrize("kind", SERIES)
@_cases(COLUMN)
def test_a_series_is_the_array_of_its_numbers_everywhere(entry: Callable[[Any], Any], kind: str) -> None:
    np.testing.assert_array_equal(_values(entry(SERIES[kind](WEIGHT))), _values(entry(WEIGHT)))


def _values(result: Any) -> Any:
    return list(result.values()) if isinstance(result, dict) else result


@pytest.mark.parametrize("dtype", ["Int64", "boolean", "int64[pyarrow]", "bool[pyarrow]", "category", "object"])
def test_labels_in_any_column(dtype: str) -> None:
    labels = pd.Series(LABELS.astype(bool) if "bool" in dtype else LABELS).astype(dtype)
    network = classifier().fit(X, labels)
    np.testing.assert_array_equal(network.predict_proba(X), classifier().fit(X, LABELS).predict_proba(X))
    with pytest.raises(ValueError, match=r"NaN|unknown"):
        classifier().fit(X, labels.astype(object).where(LABELS > 0, None))


@given(
    st.lists(
        st.one_of(
            st.integers(-(2**63), 2**64 - 1), st.floats(), st.booleans(), st.decimals(allow_nan=False), st.fractions()
        ),
        min_size=1,
        max_size=8,
    )
)
def test_numbers_in_objects_are_what_python_says(values: list[Any]) -> None:
    array = as_array(np.array(values, dtype=object), "X")
    assert array.dtype.kind in "fiub"
    for element, value in zip(array.tolist(), values, strict=True):
        if array.dtype.kind == "f":
            np.testing.assert_equal(element, float(value))
        else:
            assert element == value


@given(arrays.arrays(st.sampled_from([np.int64, np.uint64, np.float64, np.bool_]), arrays.array_shapes(max_dims=3)))
def test_objects_of_one_kind_keep_their_digits_and_shape(array: HostArray) -> None:
    found = as_array(array.astype(object), "X")
    np.testing.assert_array_equal(found, array)
    assert found.dtype.kind == array.dtype.kind or (array.dtype.kind == "u" and found.dtype.kind == "i")


def test_a_whole_number_beyond_every_dtype_is_refused_or_rounded_as_a_float() -> None:
    assert as_array(np.array([2**70, 1], object), "X").tolist() == [2.0**70, 1.0]
    with pytest.raises(ValueError, match="X holds a number that float64 cannot"):
        as_array(np.array([10**400], object), "X")
    with pytest.raises(ValueError, match="X cannot be made an array"):
        as_array([[1, 2], [3]], "X")
