"""Embedding layers: where units go, initial values, what is refused, and numbers that are no categories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.backend import Ops
from fcnn_gpu.datasets import BlockSource
from fcnn_gpu.datasets._source import Piece
from fcnn_gpu.layers._columns import category_columns

from ..conftest import compiled_ops, emulated_ops
from ..support.emulated import DeviceArray


def test_embedded_units_come_first_and_the_others_follow_in_order() -> None:
    model = fcnn.Sequential([fcnn.PBLD([3, 1], frequencies=2, outputs=3)], 5, seed=0, dtype="float64", backend="numpy")
    layer: Any = model.layers[0]
    x = np.random.default_rng(0).normal(size=5)
    out = model(x.reshape(1, -1))[0]
    np.testing.assert_array_equal(out[6:], x[[0, 2, 4]])
    for f, unit in enumerate([3, 1]):
        h = np.cos(2 * np.pi * layer.w[:, f] * x[unit] + layer.phase[:, f])
        linear = layer.W[:, 2 * f : 2 * f + 2] @ h + layer.b[:, f]
        np.testing.assert_allclose(out[3 * f : 3 * f + 3], [*linear, x[unit]], rtol=1e-13)


def test_initial_values_have_the_documented_distributions() -> None:
    model = fcnn.Sequential([fcnn.PBLD(frequencies=25, sigma=0.3)], 200, seed=1, dtype="float64", backend="numpy")
    layer: Any = model.layers[0]
    assert layer.w.std() == pytest.approx(0.3, rel=0.05)
    for values, limit in [(layer.phase, np.pi), (layer.W, 0.2), (layer.b, 0.2)]:
        assert np.abs(values).max() <= limit
        assert values.std() == pytest.approx(limit / np.sqrt(3), rel=0.1)
    table = fcnn.Embedding(None, 100, 10)
    fcnn.Sequential([table], 5, seed=1, backend="numpy")
    assert np.std(table.E) == pytest.approx(1.0, rel=0.05)


def test_a_table_is_a_live_view() -> None:
    layer = fcnn.Embedding([1, 0], [3, 2], [2, 4])
    model = fcnn.Sequential([layer], 2, backend="numpy")
    layer.table(0)[...] = [[0, 1], [2, 3], [4, 5]]
    layer.table(1)[1] = 9
    np.testing.assert_array_equal(
        model(np.array([[1, 2], [1, 0]], np.float32)), [[4, 5, 9, 9, 9, 9], [0, 1, 9, 9, 9, 9]]
    )


def test_the_largest_unit_fits_into_a_threads_memory() -> None:
    results = []
    for ops in (Ops(), compiled_ops()):
        layers = [fcnn.PBLD(frequencies=512, outputs=512), fcnn.PBLD([0], frequencies=2)]
        model = fcnn.Sequential(layers, 1, seed=0, dtype="float64", backend=ops)
        x = np.random.default_rng(0).normal(size=(130, 1))
        out = np.array(model.forward(x, training=True))
        gradient = model.backward(np.ones(out.shape), input_gradient=True)
        results.append((out, np.array(gradient), model.flat.gradients.copy()))
    for expected, actual in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: fcnn.PBLD([]), ValueError, "at least one unit number"),
        (lambda: fcnn.PBLD([1, 1]), ValueError, "names unit 1 twice"),
        (lambda: fcnn.PBLD([-1]), ValueError, "number 0, expects an integer of at least 0"),
        (lambda: fcnn.PBLD("01"), TypeError, "expects a list of unit numbers"),
        (lambda: fcnn.PBLD(outputs=1), ValueError, "at least 2"),
        (lambda: fcnn.PBLD(frequencies=513), ValueError, "at most 512"),
        (lambda: fcnn.PBLD(sigma=-1.0), ValueError, "sigma"),
        (lambda: fcnn.Sequential([fcnn.PBLD([4])], 4), ValueError, r"names unit 4, but .* units 0 to 3"),
        (lambda: fcnn.Embedding([0, 1], [3]), ValueError, "has 1 numbers for 2 columns"),
        (lambda: fcnn.Embedding([0], 3, [2, 2]), ValueError, r"outputs\) has 2 numbers for 1 columns"),
        (lambda: fcnn.Embedding([0], 0), ValueError, "at least 1"),
        (lambda: fcnn.Sequential([fcnn.Embedding([2], 3)], 2), ValueError, "names unit 2"),
        (lambda: fcnn.Sequential([fcnn.Embedding([1], 3)], 2, input_scale=0.5), ValueError, "input_scale and input"),
        (lambda: fcnn.Sequential([fcnn.Embedding([1], 3)], 2, input_center=[0, 1]), ValueError, "moves column 1 by 1"),
    ],
)
def test_what_is_refused(make: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()


def _network(ops: Ops) -> fcnn.Sequential:
    """Behind PBLD the category is unit 4."""
    layers = [fcnn.PBLD([0], frequencies=2), fcnn.Embedding([4], 3, 2), fcnn.Dense(1)]
    return fcnn.Sequential(layers, 2, seed=0, backend=ops)


@pytest.mark.parametrize("wrong", [-1.0, 3.0, 0.5])
@pytest.mark.parametrize("make_ops", [Ops, compiled_ops], ids=["numpy", "cpu"])
def test_an_input_that_is_no_category_is_named(make_ops: Any, wrong: float) -> None:
    model = _network(make_ops())
    X, y = np.zeros((9, 2), np.float32), np.zeros((9, 1))
    model.predict(X)
    X[6, 1] = wrong
    match = rf"holds {wrong:g} \(row 6, column 1\), where Embedding expects the number of a category, .* from 0 to 2"
    trainer = fcnn.Trainer(model, "mse")
    for act in (
        lambda: model.predict(X),
        lambda: model.forward(X),
        lambda: trainer.fit(X, y, epochs=1, progress=False),
    ):
        with pytest.raises(ValueError, match=match):
            act()


def test_integers_are_checked_too() -> None:
    X = np.zeros((9, 2), np.uint8)
    X[3, 1] = 200
    with pytest.raises(ValueError, match=r"holds 200 \(row 3, column 1\)"):
        fcnn.Trainer(_network(Ops()), "mse").fit(X, np.zeros((9, 1)), epochs=1, progress=False)


@pytest.mark.parametrize("make_ops", [Ops, compiled_ops], ids=["numpy", "cpu"])
def test_what_other_layers_compute_shows_as_nan(make_ops: Any) -> None:
    layer = fcnn.Dense(1, bias=False)
    model = fcnn.Sequential([layer, fcnn.Embedding([0], 3, 2)], 1, backend=make_ops())
    layer.W[...] = 1.0
    out = model.forward(np.array([[2.0], [-1.0], [3.0], [0.5], [1e30]], np.float32))
    np.testing.assert_array_equal(np.isnan(out[:, 0]), [False, True, True, True, True])


def test_a_replayed_step_is_the_step(ops: Ops) -> None:
    """On every backend: a captured training run of both layers, against the steps one by one."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=64), rng.integers(0, 3, 64)]).astype(np.float32)
    y = rng.normal(size=(64, 1))
    losses = []
    for capture in (True, False):
        model = _network(ops)
        trainer = fcnn.Trainer(model, "mse", optimizer="adam", seed=0)
        losses.append(trainer.fit(X, y, epochs=3, batch_size=16, progress=False, capture=capture)["loss"])
    np.testing.assert_array_equal(losses[0], losses[1])


# Bins


def test_quantiles_are_the_edges() -> None:
    X = np.column_stack([np.arange(101.0), np.repeat([0.0, 1.0, 5.0], [60, 30, 11])])
    first, second = fcnn.piecewise_linear_bins(X, 4)
    assert first == [0, 25, 50, 75, 100]
    assert second == [0, 1, 5]  # equal quantiles are one edge


@pytest.mark.parametrize("classes", [False, True])
def test_a_tree_cuts_where_the_target_changes(classes: bool) -> None:
    x = np.random.default_rng(0).uniform(0, 1, 500)
    y = np.digitize(x, [0.2, 0.7])
    edges = fcnn.piecewise_linear_bins(x.reshape(-1, 1), 8, y if classes else y.astype(float))[0]
    assert len(edges) == 4  # a tree stops where there is nothing to gain
    np.testing.assert_allclose(edges, [x.min(), 0.2, 0.7, x.max()], atol=0.02)


@pytest.mark.parametrize(
    ("X", "options", "match"),
    [
        (np.ones(5), {}, r"shape \(n_samples, n_features\)"),
        (np.eye(4), {"n_bins": 4}, "fewer bins than samples, got n_bins=4 for 4"),
        (np.eye(4), {"n_bins": 1}, "at least 2"),
        (np.c_[np.arange(9.0), [np.nan] * 9], {"n_bins": 2}, "column 1 of X holds NaN"),
        (np.c_[np.arange(9.0), np.ones(9)], {"n_bins": 2}, "column 1 of X has one value only"),
        (np.arange(9.0).reshape(-1, 1), {"n_bins": 2, "y": [1, 2]}, "9 samples in X but y of shape"),
    ],
)
def test_bins_that_cannot_be_had(X: Any, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        fcnn.piecewise_linear_bins(X, **options)


@pytest.mark.parametrize(
    ("bins", "error", "match"),
    [
        ([], TypeError, "a list with the edges of each unit"),
        ([[1.0]], ValueError, r"2 to 513 edges .* shape \(1,\) of unit 0"),
        ([[0, 1], [0, 2, 1]], ValueError, "edges that rise, got .* of unit 1"),
        ([[0, np.inf]], ValueError, "finite edges"),
        ([[0, 1], [0, 1]], ValueError, "edges for 2 units, but 1 are embedded"),
        ([[0, 1e-60]], ValueError, "too close together for float32"),
    ],
)
def test_bins_that_a_layer_refuses(bins: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        fcnn.Sequential([fcnn.PiecewiseLinearEmbedding(bins, [0])], 1)


def test_encodings_are_those_of_rtdl_num_embeddings() -> None:
    """Its bins by quantiles, with other numbers in each column, and each bin by itself: W_f is the unit matrix."""
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("rtdl_num_embeddings")
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=200), rng.integers(0, 3, 200), rng.uniform(size=200)])
    edges = theirs.compute_bins(torch.tensor(X), n_bins=7)
    for ours, one in zip(fcnn.piecewise_linear_bins(X, 7), edges, strict=True):
        np.testing.assert_allclose(ours, one.numpy(), rtol=1e-5)  # its quantiles are at numbers of float32
    bins = [one.tolist() for one in edges]
    layer = fcnn.PiecewiseLinearEmbedding(bins, outputs=7)
    model = fcnn.Sequential([layer], 3, dtype="float64", backend="numpy")
    layer.b[...] = 0
    layer.W[...] = np.concatenate([np.eye(7, len(edges) - 1) for edges in bins], axis=1)
    x = 3 * rng.normal(size=(50, 3))  # beyond the ends, too
    encoded = theirs.PiecewiseLinearEncoding(edges)(torch.tensor(x)).numpy()
    kept = np.concatenate([np.arange(7) < len(edges) - 1 for edges in bins])
    np.testing.assert_allclose(model(x)[:, kept], encoded, rtol=1e-5, atol=1e-5)  # it holds lines in float32


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: fcnn.PeriodicEmbedding(frequencies=257), ValueError, "at most 256"),
        (lambda: fcnn.PeriodicEmbedding(activation="tanh"), ValueError, "activation"),
        (
            lambda: fcnn.PeriodicEmbedding(lite=1),  # type: ignore[arg-type]
            TypeError,
            "True or False",
        ),
        (lambda: fcnn.PiecewiseLinearEmbedding([[0, 1]], activation="elu"), ValueError, "activation"),
    ],
)
def test_other_settings_that_are_refused(make: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()


class _Blocks(BlockSource):
    """Two blocks of three samples; column 1 numbers categories, with one that is none in the second."""

    def __init__(self) -> None:
        super().__init__(2, np.dtype(np.float32), [3, 3])

    def read(self, block: int) -> Iterator[Piece]:
        X = np.zeros((3, 2), np.float32)
        X[2, 1] = 7.0 * block
        yield X, np.zeros(3, np.float32), None


def test_a_source_that_gives_no_category_is_named() -> None:
    model = _network(Ops())
    match = r"holds 7 \(.*5.*, column 1\), where Embedding expects"
    with pytest.raises(ValueError, match=match):
        fcnn.Trainer(model, "mse").fit(_Blocks(), epochs=1, batch_size=3, progress=False)
    with pytest.raises(ValueError, match=match):
        model.predict(_Blocks())


def test_numbers_on_the_device_are_checked() -> None:
    ops = emulated_ops()
    model = _network(ops)
    X = np.zeros((9, 2), np.float32)
    model.predict(X.view(DeviceArray))
    X[4, 1] = 3.0
    with pytest.raises(ValueError, match=r"holds 3 \(row 4, column 1\)"):
        model.predict(X.view(DeviceArray))


def test_a_network_of_many_inputs_makes_no_list_of_them() -> None:
    """Of 10¹² inputs there is not even room for the numbers, which no layer here looks at."""
    assert category_columns([fcnn.Dense(1)], 10**12) == {}
