"""Numbers far from 0: subtracted from in float64, wherever they come from; and who says so where nothing is."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.datasets._digits import difference

N, N_IN = 150, 3
RNG = np.random.default_rng(5)
SECONDS = np.floor(1.7e9 + RNG.uniform(0, 1000, (N, N_IN)))
"""Time stamps, which float32 holds to 64 seconds."""
CENTER = SECONDS.mean(axis=0)
LABELS = (SECONDS[:, 0] > CENTER[0]).astype(np.int64)
VALUES = 1.7e9 + (SECONDS - CENTER)[:, :2] / 30 + RNG.normal(size=(N, 2))
WAYS: dict[str, Callable[[HostArray, Path], Any]] = {
    "float64": lambda x, path: x,
    "whole numbers": lambda x, path: x.astype(np.int64),
    "column after column": lambda x, path: np.asfortranarray(x),
    "map": lambda x, path: mapped(x, path),
    "blocks of an array": lambda x, path: fcnn.datasets.open_arrays(x, LABELS, block_size=40),
    "blocks of a map": lambda x, path: fcnn.datasets.open_arrays(mapped(x, path), LABELS, block_size=40),
    "CSV": lambda x, path: in_csv(x, path),
    "Parquet": lambda x, path: in_parquet(x.astype(np.int64), path),
}


def mapped(x: HostArray, path: Path) -> HostArray:
    np.save(path / "x.npy", x)
    array: HostArray = np.load(path / "x.npy", mmap_mode="r")
    return array


def in_csv(x: HostArray, path: Path) -> Any:
    rows = [",".join([*(f"{value:.0f}" for value in row), "ab"[label]]) for row, label in zip(x, LABELS, strict=True)]
    (path / "x.csv").write_text("\n".join(["t,u,v,label", *rows]))
    return fcnn.datasets.open_csv(path / "x.csv")


def in_parquet(x: HostArray, path: Path) -> Any:
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"t": x[:, 0], "u": x[:, 1], "v": x[:, 2], "label": LABELS})
    pyarrow.parquet.write_table(table, path / "x.parquet")
    return fcnn.datasets.open_parquet(path / "x.parquet", "label")


def network(ops: Ops | str, n_out: int = 2, **options: Any) -> fcnn.Sequential:
    layers = [fcnn.Dense(8, activation="tanh"), fcnn.Dense(n_out)]
    return fcnn.Sequential(layers, n_in=N_IN, seed=1, backend=ops, input_scale=1 / 300, **options)


def run(ops: Ops | str, X: Any, plain: Any, **options: Any) -> list[Any]:
    """All that can be done with X, and with one batch of it as an array."""
    model = network(ops, **options)
    trainer = fcnn.Trainer(model, optimizer=fcnn.Adam(0.1), metrics=["accuracy"])
    source = isinstance(X, fcnn.datasets.BlockSource)
    y = None if source else LABELS
    history = trainer.fit(
        X, y, epochs=3, batch_size=20, shuffle=False, validation_data=X if source else (X, y), progress=False
    ).to_dict()
    columns = [history[name] for name in ("loss", "accuracy", "val_loss", "val_accuracy")]
    evaluated = list(trainer.evaluate(X, y).values())
    return [*columns, evaluated, model(X), model.predict(X, batch_size=7), ops_forward(model, plain)]


def ops_forward(model: fcnn.Sequential, X: Any) -> HostArray:
    return model.ops.to_numpy(model.forward(X, training=True)).copy()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("way", WAYS)
def test_a_center_is_subtracted_in_float64_wherever_samples_come_from(
    way: str, dtype: str, ops: Ops, tmp_path: Path
) -> None:
    by_hand = (SECONDS - CENTER).astype(dtype)
    expected = run(ops, by_hand, by_hand, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error", fcnn.DigitsWarning)
        actual = run(ops, WAYS[way](SECONDS, tmp_path), SECONDS, dtype=dtype, input_center=CENTER)
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert actual[1][-1] > 0.9


def test_what_streams_and_what_lies_on_the_device_are_centered_too(device_ops: Ops) -> None:
    expected = run(device_ops, (SECONDS - CENTER).astype(np.float32), (SECONDS - CENTER).astype(np.float32))
    on_device = device_ops.asarray(SECONDS)
    model = network(device_ops, input_center=CENTER)
    for X in (SECONDS, on_device):
        np.testing.assert_array_equal(model(X), network(device_ops)((SECONDS - CENTER).astype(np.float32)))
    trainer = fcnn.Trainer(model, optimizer=fcnn.Adam(0.1), metrics=["accuracy"])
    limit = model.memory_report(20).total + model.memory_report(100, training=False).total + 2**16
    options: dict[str, Any] = {"epochs": 3, "batch_size": 20, "shuffle": False, "progress": False}
    history = trainer.fit(SECONDS, LABELS, memory_limit=limit, **options)
    np.testing.assert_array_equal(history["loss"], expected[0])
    other = fcnn.Trainer(network(device_ops, input_center=CENTER), optimizer=fcnn.Adam(0.1))
    np.testing.assert_array_equal(other.fit(on_device, LABELS, **options)["loss"], expected[0])


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_an_output_center_is_subtracted_from_targets_and_added_to_predictions(loss: str, ops: Ops) -> None:
    center = VALUES.mean(axis=0)
    seen: list[tuple[HostArray, HostArray]] = []

    class Largest(fcnn.metrics.Metric):
        """The largest relative error: no metric that a shift leaves alone."""

        name, greater_is_better, task = "largest", False, "regression"

        def __call__(self, y_true: HostArray, y_pred: HostArray) -> float:  # type: ignore[override]  # all samples count alike
            seen.append((y_true, y_pred))
            return float(np.abs(y_pred / y_true - 1).max())

    results = []
    for y, options in (((VALUES - center).astype(np.float32), {}), (VALUES, {"output_center": center})):
        model = network(ops, input_center=CENTER, **options)
        trainer = fcnn.Trainer(model, loss=loss, optimizer=fcnn.Adam(0.02), metrics=["r2", "mae"])
        if options:
            trainer.metrics.append(Largest())
        history = trainer.fit(
            SECONDS, y, epochs=30, batch_size=20, validation_data=(SECONDS, y), progress=False
        ).to_dict()
        source = fcnn.datasets.open_arrays(SECONDS, y, block_size=40)
        measured, streamed = trainer.evaluate(SECONDS, y), trainer.evaluate(source)
        assert measured == pytest.approx(streamed)
        results.append((model, history, measured))
    (plain, plain_history, plain_scores), (model, history, scores) = results
    assert history["loss"] == plain_history["loss"]
    assert history["val_loss"] == plain_history["val_loss"]
    for name in ("r2", "mae"):
        np.testing.assert_allclose(history[name], plain_history[name], rtol=1e-4)
        assert scores[name] == pytest.approx(plain_scores[name], rel=1e-4)
    predictions = model.predict(SECONDS)
    assert predictions.dtype == model(SECONDS).dtype == np.float64
    np.testing.assert_array_equal(predictions, plain.predict(SECONDS) + center)
    residual = 1 - ((VALUES - predictions) ** 2).sum() / ((VALUES - center) ** 2).sum()
    assert residual > 0.9
    for truth, predicted in seen:
        assert truth.dtype == predicted.dtype == np.float64
        assert truth.min() > 1.6e9
    assert sum(predicted.min() < 1.6e9 for _, predicted in seen) == 2  # the trials before a run make predictions up
    assert scores["largest"] == pytest.approx(np.abs(predictions / VALUES - 1).max(), rel=1e-4)


def test_metrics_of_training_on_a_source_see_the_targets_that_were_given() -> None:
    histories = []
    for X, y in ((SECONDS, VALUES), (fcnn.datasets.open_arrays(SECONDS, VALUES, block_size=40), None)):
        model = network("numpy", input_center=CENTER, output_center=VALUES.mean(axis=0))
        trainer = fcnn.Trainer(model, loss="mse", optimizer=fcnn.Adam(0.02), metrics=["r2", "mse"])
        validation = (X, y) if y is not None else X
        options: dict[str, Any] = {"epochs": 5, "batch_size": 20, "shuffle": False, "validation_data": validation}
        histories.append(trainer.fit(X, y, progress=False, **options))
    for name in ("loss", "r2", "mse", "val_loss", "val_r2", "val_mse"):
        np.testing.assert_allclose(histories[0][name], histories[1][name], rtol=1e-12)
    assert histories[0]["val_mse"][-1] == pytest.approx(histories[0]["val_loss"][-1], rel=1e-5)


def test_the_memory_report_knows_that_what_is_centered_takes_the_model_s_dtype() -> None:
    data = np.zeros((N, N_IN), np.uint8), LABELS
    plain, centered = (network("numpy", input_center=c).memory_report(20, data=data) for c in (None, CENTER))
    assert centered.data - plain.data == N * N_IN * 3


def test_a_centered_network_is_saved_copied_pickled_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = network("numpy", input_center=CENTER, output_center=[1.7e9, 0.25])
    fcnn.Trainer(model, loss="mse")
    expected = model.predict(SECONDS)
    model.save(tmp_path / "m.safetensors")
    loaded = fcnn.load(tmp_path / "m.safetensors", backend="numpy")
    for again in (loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert again.input_center is not None
        np.testing.assert_array_equal(again.input_center, CENTER)
        np.testing.assert_array_equal(again.predict(SECONDS), expected)
    from safetensors import safe_open

    with safe_open(tmp_path / "m.safetensors", framework="numpy") as file:
        metadata = file.metadata()
    assert metadata["format_version"] == "3"
    assert json.loads(metadata["architecture"])["input_center"] == CENTER.tolist()
    assert "input_center=<3 numbers>, output_center=<2 numbers>" in repr(model)
    model.summary()
    assert "output_center=<2 numbers>" in capsys.readouterr().out


def test_a_center_that_is_set_later_lies_in_the_folder_of_stored_weights(tmp_path: Path) -> None:
    layers = [fcnn.Dense(8, activation="tanh", placement="disk"), fcnn.Dense(2)]
    model = fcnn.Sequential(layers, n_in=N_IN, seed=1, backend="numpy", storage=tmp_path / "folder")
    model.input_center = CENTER
    expected = model(SECONDS)
    np.testing.assert_array_equal(copy.deepcopy(model)(SECONDS), expected)
    model.close()
    again = fcnn.load(tmp_path / "folder", backend="numpy")
    np.testing.assert_array_equal(again(SECONDS), expected)
    again.close()


def test_zeros_are_no_center() -> None:
    model = network("numpy", input_center=0.0, output_center=np.zeros(2))
    assert model.input_center is None
    assert model.output_center is None
    assert model(SECONDS).dtype == np.float32
    assert "center" not in repr(model)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"input_center": [1.0, 2.0]}, ValueError, r"input_center\) expects a number for each of the 3 inputs"),
        ({"output_center": np.zeros((2, 1))}, ValueError, r"output_center\) expects .* 2 outputs, shape \(2,\)"),
        ({"input_center": [0.0, np.nan, 1.0]}, ValueError, "expects finite numbers, got nan"),
        ({"input_center": "mean"}, TypeError, "got <U4 values"),
    ],
)
def test_a_center_that_cannot_be(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        network("numpy", **options)
    model = network("numpy", input_center=CENTER)
    for name, value in options.items():
        with pytest.raises(error, match=message):
            setattr(model, name, value)
    np.testing.assert_array_equal(model.input_center, CENTER)


def test_an_output_center_is_for_values() -> None:
    model = network("numpy", output_center=1.0)
    with pytest.raises(ValueError, match="output_center, which is added to values, and cross_entropy is for classes"):
        fcnn.Trainer(model, loss="cross_entropy")
    assert model.link is None
    with pytest.raises(ValueError, match="these outputs go through a softmax"):
        model.infer(SECONDS, "softmax")


def test_not_finite_or_out_of_range_after_the_subtraction_is_refused() -> None:
    X = SECONDS.copy()
    X[4, 1] = np.nan
    with pytest.raises(ValueError, match=r"X holds nan \(first in row 4, column 1\)"):
        network("numpy", input_center=CENTER)(X)
    with pytest.raises(ValueError, match=r"row 0, column 2\), outside the range of float32"):
        network("numpy", input_center=[0, 0, 1e300])(SECONDS.astype(np.int64))


# Whole numbers of 64 bits


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=9), st.floats(-(2.0**63), 2.0**63))
def test_the_difference_of_long_whole_numbers_is_rounded_once(numbers: list[int], center: float) -> None:
    from fractions import Fraction

    exact = [float(Fraction(number) - Fraction(center)) for number in numbers]
    x = np.array(numbers, np.int64)
    np.testing.assert_allclose(difference(x, np.full(len(x), center)), exact, rtol=2**-51, atol=2**-20)
    if min(numbers) >= 0:
        np.testing.assert_array_equal(difference(x, x.astype(np.uint64)), 0.0)


def test_nanoseconds_keep_their_digits() -> None:
    X = np.int64(1_700_000_000_000_000_000) + np.arange(200, dtype=np.int64).reshape(-1, 1)
    model = fcnn.Sequential([fcnn.Dense(1)], n_in=1, backend="numpy", input_center=1.7e18)
    model.named_arrays()["0.W"][...] = 1.0
    np.testing.assert_array_equal(model(X)[:, 0], np.arange(200))


# Who says so where nothing is subtracted


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 15), st.integers(-3, 3), st.booleans())
def test_training_on_what_float32_does_not_hold_is_told(magnitude: int, spread: int, of_targets: bool) -> None:
    rng = np.random.default_rng(0)
    far = np.floor((10.0**magnitude + 10.0**spread * rng.normal(size=(N, 1))) * 1e3) / 1e3
    near = rng.normal(size=(N, 1)).astype(np.float32)
    X, y = (near, far) if of_targets else (far, near)
    moved = np.sqrt(((far - far.astype(np.float32)) ** 2).mean())
    one_number = (far != np.floor(far)).any() and far.std() <= 2 * np.spacing(far.max())
    lost = far.std() > 0 and moved > 1e-4 * far.std() and not one_number
    model = fcnn.Sequential([fcnn.Dense(1, init="zeros")], n_in=1, seed=0, backend="numpy")
    trainer = fcnn.Trainer(model, loss="mse", optimizer=fcnn.SGD(0.0))
    for given_X, given_y in ((X, y), (fcnn.datasets.open_arrays(X, y), None)):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            trainer.fit(given_X, given_y, epochs=2, progress=False)
        found = [str(warning.message) for warning in told if warning.category is fcnn.DigitsWarning]
        assert bool(found) == lost
        if found:
            assert len(found) == 1
            assert "the numbers of column 0 lose their digits" in found[0]
            assert ("output_center=" if of_targets else "input_center=") in found[0]


def test_the_warning_names_the_column_and_the_user_s_line() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": RNG.normal(size=N), "when": SECONDS[:, 0], "b": RNG.normal(size=N)})
    trainer = fcnn.Trainer(fcnn.Sequential([fcnn.Dense(2)], n_in=3, seed=0, backend="numpy"))
    with pytest.warns(fcnn.DigitsWarning, match=r"fit: X: the numbers of column 1 \('when'\)") as told:
        trainer.fit(table, LABELS, epochs=1, progress=False)
    assert told[0].filename == __file__


def test_a_numpy_model_in_float64_is_told_nothing() -> None:
    model = fcnn.Sequential([fcnn.Dense(2)], n_in=3, seed=0, backend="numpy", dtype="float64")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fcnn.Trainer(model, optimizer=fcnn.SGD(0.0)).fit(SECONDS, LABELS, epochs=1, progress=False)
