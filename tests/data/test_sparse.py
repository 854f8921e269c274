"""Sparse X: the networks, gradients and outputs of the same X dense, in the memory of its numbers."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops, SparseRows
from fcnn_gpu.data import features_of
from tests.support.tolerances import assert_close

from ..conftest import compiled_ops, emulated_ops, numpy_ops

N_IN, N_CLASSES = 30, 3
SMALL = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def samples(n: int, n_in: int = N_IN, density: float = 0.15, dtype: Any = np.float32, seed: int = 0) -> Any:
    """CSR with an empty row, an empty column and a stored 0."""
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(n, n_in)) * (rng.uniform(size=(n, n_in)) < density)
    dense[n // 2], dense[:, n_in // 2] = 0.0, 0.0
    X = sparse.csr_array(dense.astype(dtype))
    X.data[:1] = 0
    return X


def labels(n: int, seed: int = 0) -> HostArray:
    return np.random.default_rng(seed + 1).integers(0, N_CLASSES, n)


def network(ops: Ops, *first: Any, n_in: int = N_IN, **options: Any) -> fcnn.Sequential:
    layers = [*(first or [fcnn.Dense(6, activation="relu")]), fcnn.Dropout(0.2), fcnn.Dense(N_CLASSES)]
    return fcnn.Sequential(layers, n_in=n_in, seed=1, backend=ops, **options)


def trained(model: fcnn.Sequential, X: Any, y: HostArray, **options: Any) -> fcnn.Trainer:
    trainer = fcnn.Trainer(model, optimizer=fcnn.SGD(0.3, momentum=0.5), metrics=["accuracy"])
    trainer.fit(X, y, **{"epochs": 3, "batch_size": 16, "progress": False} | options)
    return trainer


def assert_same_training(make: Callable[[], fcnn.Sequential], X: Any, y: HostArray, **options: Any) -> None:
    """Training on X, and on X dense: the same history, outputs and weights; on compiled kernels bit by bit."""
    found = []
    for given_X in (X, X.toarray()):
        trainer = trained(make(), given_X, y, **options)
        model, history = trainer.model, trainer.history
        columns = [history[name] for name in history.columns if "second" not in name]
        results = [np.array(columns, model.dtype), model.predict(given_X, batch_size=7), *model.named_arrays().values()]
        scores = np.array(list(trainer.evaluate(given_X, y).values()), model.dtype)
        found.append([*(model.ops.to_numpy(x) for x in results), scores])
    exact = model.ops.name == "cpu"
    for actual, expected in zip(*found, strict=True):
        if exact:
            np.testing.assert_array_equal(actual, expected)
        else:
            assert_close(actual, expected, "training")


# The same as dense


@SMALL
@given(
    n=st.integers(2, 40),
    n_in=st.integers(1, 60),
    batch_size=st.integers(1, 40),
    density=st.floats(0.0, 1.0),
    dtype=st.sampled_from(["float32", "float64"]),
    wide=st.booleans(),
    seed=st.integers(0, 99),
)
def test_training_is_that_of_dense_samples(
    ops: Ops, n: int, n_in: int, batch_size: int, density: float, dtype: str, wide: bool, seed: int
) -> None:
    X = samples(n, n_in, density, dtype, seed)
    if wide:
        X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    make = lambda: network(ops, n_in=n_in, dtype=dtype)  # noqa: E731
    assert_same_training(make, X, labels(n), epochs=2, batch_size=batch_size)


@pytest.mark.parametrize(
    "options",
    [
        {"validation_split": 0.25},
        {"validation_data": (samples(20, seed=5), labels(20))},
        {"sample_weight": np.linspace(0.5, 2, 50), "class_weight": "balanced"},
        {"micro_batch_size": 5},
        {"drop_last": True, "shuffle": False},
        {"capture": False},
    ],
    ids=lambda options: next(iter(options)),
)
def test_ways_of_training(ops: Ops, options: dict[str, Any]) -> None:
    assert_same_training(lambda: network(ops), samples(50), labels(50), **options)


@pytest.mark.parametrize(
    "make",
    [
        lambda ops: network(ops, input_scale=0.5),
        lambda ops: network(ops, recompute=1, share_workspace=True),
        lambda ops: network(ops, fcnn.Dense(6, bias=False, l2=0.01), fcnn.BatchNorm(), fcnn.Activation("tanh")),
        lambda ops: network(ops, fcnn.Dense(6, activation="gelu", bias_init="fan_in_uniform")),
        lambda ops: network(ops, fcnn.Dense(70, activation="leaky_relu", l1=0.001), fcnn.Dense(9)),
    ],
    ids=["scaled", "recomputed", "normalized", "gelu", "wide"],
)
def test_networks(ops: Ops, make: Callable[[Ops], fcnn.Sequential]) -> None:
    assert_same_training(lambda: make(ops), samples(50), labels(50))


def test_a_factor_of_the_weights(ops: Ops) -> None:
    outputs = []
    for X in (samples(50), samples(50).toarray()):
        model = network(ops, fcnn.Dense(6, activation="relu", parametrization="ntk"), dtype="float64")
        outputs.append(trained(model, X, labels(50), micro_batch_size=5).predict(X))
    assert_close(outputs[0], outputs[1], "training")


class OwnActivation(fcnn.activations.Activation):
    """x², in calls that no recording sees."""

    name = "own"
    from_output = False
    default_init = "he_normal"

    def forward(self, ops: Any, Z: Any, b: Any, A: Any) -> None:
        Z += b
        A[...] = Z * Z

    def backward(self, ops: Any, dA: Any, saved: Any, dZ: Any, db: Any) -> None:
        dZ[...] = dA * 2 * saved
        db[...] = dZ.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("make", [numpy_ops, compiled_ops], ids=["numpy", "cpu"])
def test_an_activation_of_the_users_own(make: Callable[[], Ops]) -> None:
    assert_same_training(lambda: network(make(), fcnn.Dense(6, activation=OwnActivation())), samples(50), labels(50))


@pytest.mark.parametrize("initial", [{"init": "std"}, {"bias_init": "he+5"}], ids=str)
def test_initial_values_that_wait_for_samples(ops: Ops, initial: dict[str, Any]) -> None:
    assert_same_training(lambda: network(ops, fcnn.Dense(6, **initial)), samples(50), labels(50), batch_size=50)


def test_gradients_of_a_pass_of_ones_own(ops: Ops) -> None:
    X, found = samples(20), []
    for given_X in (X, X.toarray()):
        model = network(ops, fcnn.Dense(6, activation="tanh"), dtype="float64")
        outputs = ops.to_numpy(model.forward(given_X, training=True)).copy()
        model.backward(ops.asarray(np.cos(outputs)))
        found.append([outputs, ops.to_numpy(model.flat.gradients).copy(), ops.to_numpy(model.forward(given_X)).copy()])
    for actual, expected in zip(*found, strict=True):
        assert_close(actual, expected, "sum")


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
def test_other_precisions(precision: str) -> None:
    ops, X, found = emulated_ops(), samples(30), []
    for given_X in (X, X.toarray()):
        trainer = trained(network(ops, precision=precision), given_X, labels(30))
        found.append(trainer.history["loss"])
    np.testing.assert_allclose(found[0], found[1], rtol=0.02)


# What X may be


FORMATS: dict[str, Callable[[Any], Any]] = {
    name: getattr(sparse, f"{name}_array") for name in ("csr", "csc", "coo", "lil", "dok", "bsr", "dia")
} | {name: getattr(sparse, name) for name in ("csr_matrix", "csc_matrix", "coo_matrix")}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_of_scipys(form: str) -> None:
    X, model = samples(12), network(compiled_ops())
    np.testing.assert_array_equal(model(FORMATS[form](X)), model(X.toarray()))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int64", "float32", "float64"])
def test_numbers_of_every_dtype(dtype: str) -> None:
    model = network(compiled_ops())
    X = sparse.csr_array(np.random.default_rng(0).integers(0, 2, (12, N_IN)).astype(dtype))
    np.testing.assert_array_equal(model(X), model(X.toarray().astype(np.float32)))


def unsorted() -> Any:
    """Columns in any order, some several times."""
    data = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0], np.float32)
    return sparse.csr_array((data, np.array([5, 2, 5, 0, 29, 0]), np.array([0, 3, 3, 4, 6])), shape=(4, N_IN))


def test_columns_in_any_order_and_several_times(ops: Ops) -> None:
    X, model = unsorted(), network(ops)
    assert_close(model(X), model(X.toarray()), "sum")
    np.testing.assert_array_equal(X.indices, unsorted().indices)
    np.testing.assert_array_equal(X.data, unsorted().data)


def test_x_is_believed_by_its_arrays() -> None:
    X, model = samples(12), network(compiled_ops())
    assert X.has_canonical_format  # which SciPy remembers
    X.indices[X.indptr[3] : X.indptr[4]] = X.indices[X.indptr[3] : X.indptr[4]][::-1].copy()
    np.testing.assert_array_equal(model(X), model(sparse.csr_array((X.data, X.indices, X.indptr)).toarray()[:, :N_IN]))


def test_no_number_at_all(ops: Ops) -> None:
    X = sparse.csr_array((8, N_IN), dtype=np.float32)
    assert_same_training(lambda: network(ops), X, labels(8))


# What is refused


def damaged(change: Callable[[Any], None]) -> Any:
    X = samples(12)
    change(X)
    return X


def with_number(value: complex, dtype: Any = np.float64) -> Any:
    X = np.eye(12, N_IN, dtype=dtype)
    X[5, 2] = value
    return sparse.coo_array(X)


class Elsewhere:
    """As CuPy's matrices are seen from here."""

    dtype, shape, ndim = np.dtype(np.float32), (12, N_IN), 2

    def tocsr(self) -> Any:
        raise AssertionError("is not asked")


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "NaN": (lambda: with_number(np.nan), ValueError, r"X holds nan \(first in row 5, column 2\)"),
    "infinity": (lambda: with_number(-np.inf), ValueError, r"X holds -inf \(first in row 5, column 2\)"),
    "beyond float32": (lambda: with_number(1e300), ValueError, r"1e\+300 \(row 5, column 2\), outside the range"),
    "complex": (lambda: with_number(1j, np.complex64), TypeError, "complex numbers"),
    "too wide": (lambda: samples(12, 40), ValueError, r"expects X of shape \(n_samples, 30\), got \(12, 40\)"),
    "transposed": (lambda: samples(12).T, ValueError, r"got \(30, 12\). Did you pass X.T"),
    "one dimension": (lambda: sparse.coo_array(np.ones(N_IN)), ValueError, r"got \(30,\). Reshape one sample"),
    "a column outside": (
        lambda: damaged(lambda X: X.indices.__setitem__(3, N_IN)),
        ValueError,
        r"X, a sparse csr_array of shape \(12, 30\), has places outside of it",
    ),
    "a negative column": (lambda: damaged(lambda X: X.indices.__setitem__(3, -1)), ValueError, "places outside"),
    "rows that overlap": (lambda: damaged(lambda X: X.indptr.__setitem__(3, 9999)), ValueError, "do not follow"),
    "CuPy's": (Elsewhere, TypeError, "of sparse matrices those of SciPy are taken. Convert it first: X.get"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("entry", ["fit", "evaluate", "model", "forward", "memory_report"])
def test_bad_x(kind: str, entry: str) -> None:
    make, error, message = REFUSED[kind]
    model = network(compiled_ops())
    trainer = fcnn.Trainer(model)
    calls: dict[str, Callable[[], Any]] = {
        "fit": lambda: trainer.fit(make(), labels(12), progress=False),
        "evaluate": lambda: trainer.evaluate(make(), labels(12)),
        "model": lambda: model(make()),
        "forward": lambda: model.forward(make(), training=True),
        "memory_report": lambda: model.memory_report(4, data=(make(), labels(12))),
    }
    before = model.snapshot()
    with pytest.raises(error, match=message):
        calls[entry]()
    for name, array in model.named_arrays().items():
        np.testing.assert_array_equal(array, before[name])


OBSTACLES: dict[str, tuple[Callable[[], fcnn.Sequential], str]] = {
    "dropout first": (lambda: network(numpy_ops(), fcnn.Dropout(0.1)), "begins with Dropout.*Dense alone takes it"),
    "normalization first": (lambda: network(numpy_ops(), fcnn.BatchNorm()), "begins with BatchNorm.*or begin with"),
    "a shift": (lambda: network(numpy_ops(), input_shift=1.0), "input_shift would make numbers other than 0"),
    "a center": (lambda: network(numpy_ops(), input_center=1.0), "input_center would make.*MaxAbsScaler"),
    "weights on the host": (
        lambda: network(numpy_ops(), fcnn.Dense(6, placement="host")),
        "the weights of the first layer, Dense.* lie on the host or on disk.*placement='device'",
    ),
}


@pytest.mark.parametrize("kind", OBSTACLES)
def test_networks_that_do_not_take_it(kind: str) -> None:
    make, message = OBSTACLES[kind]
    model = make()
    for call in (lambda: fcnn.Trainer(model).fit(samples(12), labels(12)), lambda: model.predict(samples(12))):
        with pytest.raises(TypeError, match=rf"X is a sparse csr_array, and .*{message}"):
            call()


def test_no_gradient_of_sparse_x() -> None:
    model = network(compiled_ops())
    outputs = model.forward(samples(12), training=True)
    with pytest.raises(ValueError, match="X was sparse, and ∂L/∂X is not"):
        model.backward(outputs, input_gradient=True)
    model.forward(samples(12).toarray(), training=True)
    gradient = model.backward(outputs, input_gradient=True)
    assert gradient is not None
    assert gradient.shape == (12, N_IN)


def test_a_scale_other_than_in_training_is_refused() -> None:
    X = samples(50)
    X.data = np.abs(X.data) / np.abs(X.data).max()
    model = trained(network(compiled_ops()), X, labels(50)).model
    assert model.signature.input_range == (0.0, 1.0)
    X.data = np.ceil(255 * X.data)
    with pytest.raises(ValueError, match="bytes"):
        model(X.astype(np.uint8))


# The same bits


@pytest.mark.parametrize("make", [numpy_ops, compiled_ops, emulated_ops], ids=["numpy", "cpu", "emulated"])
def test_the_same_bits_from_run_to_run_and_with_any_threads(make: Callable[[], Ops]) -> None:
    X, y = samples(300, 400, 0.1), labels(300)
    runs = [
        trained(network(make(), fcnn.Dense(40), n_in=400), X, y, batch_size=100, threads=threads).model.snapshot()
        for threads in (1, 2, 2, 3)
    ]
    for run in runs[1:]:
        for name, array in run.items():
            np.testing.assert_array_equal(make().to_numpy(array), make().to_numpy(runs[0][name]))


def test_a_step_that_diverges_is_found_and_taken_back(ops: Ops) -> None:
    X = samples(40)
    X.data = np.full_like(X.data, 1e30)
    model = network(ops, fcnn.Dense(6))
    before = {name: ops.to_numpy(array) for name, array in model.snapshot().items()}
    with pytest.raises(fcnn.DivergenceError) as caught:
        trained(model, X, labels(40))
    assert caught.value.step == 1
    for name, array in model.named_arrays().items():
        np.testing.assert_array_equal(ops.to_numpy(array), before[name])


# Memory


def test_x_never_becomes_dense() -> None:
    rng = np.random.default_rng(0)
    n, n_in, per_row = 20_000, 100_000, 50
    columns = rng.integers(0, n_in, n * per_row)
    X = sparse.csr_array((np.ones(n * per_row, np.float32), columns, np.arange(0, n * per_row + 1, per_row)), (n, n_in))
    y = rng.integers(0, N_CLASSES, n)
    for ops in (numpy_ops(), compiled_ops()):
        model = network(ops, fcnn.Dense(4, activation="relu"), n_in=n_in)
        trainer = fcnn.Trainer(model, optimizer=fcnn.SGD(0.1))
        tracemalloc.start()
        trainer.fit(X, y, epochs=1, batch_size=500, validation_split=0.1, progress=False)
        trainer.evaluate(X, y)
        model.predict(X)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 64 * 2**20  # dense, a batch of 500 alone has 200 MB, and all 8 GB


@pytest.mark.parametrize("make", [numpy_ops, compiled_ops])
def test_x_is_let_go_of_after_training(make: Callable[[], Ops]) -> None:
    X = samples(60)
    values = X.data.copy()
    X = sparse.csr_array((values, X.indices.astype(np.int32), X.indptr), shape=X.shape)
    kept = weakref.ref(values)
    trainer = trained(network(make()), X, labels(60))
    del X, values
    gc.collect()
    assert kept() is None
    assert trainer.history["loss"]


MISPLACED: dict[str, Callable[[], Any]] = {
    "csc": lambda: samples(20).tocsc(),
    "coo": lambda: samples(20).tocoo(),
    "coo_matrix": lambda: sparse.coo_matrix(samples(20)),
    "bsr": lambda: samples(20).tobsr((2, 2)),
}


@pytest.mark.parametrize("form", MISPLACED)
@pytest.mark.parametrize("place", [10**8, -1])
def test_places_outside_of_other_formats_are_refused(form: str, place: int) -> None:
    """SciPy converts them without a look, and writes wherever they say."""
    X = MISPLACED[form]()
    (X.row if form.startswith("coo") else X.indices)[3] = place
    with pytest.raises(ValueError, match=r"model\.predict: X, a sparse .* has places outside of it"):
        network(numpy_ops()).predict(X)


def test_numbers_that_fit_stay_where_they_are() -> None:
    model = network(compiled_ops())
    X = samples(12)
    found = features_of(model, X, "test")
    rows = found.on_model()
    assert isinstance(rows, SparseRows)
    assert np.shares_memory(rows.values, X.data)
    assert np.shares_memory(rows.columns, X.indices)
    picked = found.take(np.array([3, 1])).on_model()
    assert np.shares_memory(picked.values, X.data)


@pytest.mark.parametrize("make", [numpy_ops, compiled_ops, emulated_ops], ids=["numpy", "cpu", "emulated"])
def test_the_memory_report_knows_sparse_samples(make: Callable[[], Ops]) -> None:
    model = network(make(), n_in=50_000)
    X = samples(40, 50_000, 0.001)
    sparse_report = model.memory_report(32, data=(X, labels(40)), validation=10)
    dense_report = model.memory_report(32, data=40)
    kept = X.nnz * 8 + 40 * 16
    assert kept <= sparse_report.data < kept + 20_000
    assert sparse_report.batch < 10_000
    assert sparse_report.activations < 100_000
    assert dense_report.activations > 32 * 50_000 * 4
    assert sparse_report.parameters == dense_report.parameters


def test_a_limit_that_it_does_not_fit_into(ops: Ops) -> None:
    X, y = samples(400, 200, 0.3), labels(400)
    need = network(ops, n_in=200).memory_report(16, "sgd", data=(X, y)).total
    trained(network(ops, n_in=200), X, y, epochs=1, memory_limit=2 * need)
    with pytest.raises(ValueError, match=r"at least .* as sparse samples, which do not stream"):
        trained(network(ops, n_in=200), X, y, epochs=1, memory_limit=need - X.nnz * 4)
