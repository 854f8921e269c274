"""The page of a run: that it is whole, loads nothing, escapes what users name, and says what was found."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

import fcnn_gpu as fcnn
from fcnn_gpu.cli import run
from fcnn_gpu.metrics import calibration
from fcnn_gpu.report import Measured, ReportedRun, flops_per_sample, gradients_of, report_page
from fcnn_gpu.report._chart import Axes, Line, lines, ticks
from tests.support.cli_cases import Command

RNG = np.random.default_rng(0)
LOADS = re.compile(r'(?:src|href|url\()\s*=?\s*["\']?(?!data:|#)(?:https?:|//)', re.IGNORECASE)


def parsed(page: str) -> ElementTree.Element:
    """The page as XML, which it also is."""
    assert not LOADS.search(page)
    return ElementTree.fromstring(page.removeprefix("<!doctype html>\n"))


def words(page: str) -> str:
    return " ".join("".join(parsed(page).itertext()).split())


def headings(page: str) -> list[str]:
    return [heading.text or "" for heading in parsed(page).iter("h2")]


def homes(path: Path, n: int = 300) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["area", "<town>", "price"])
        for _ in range(n):
            area, town = RNG.uniform(30, 200), RNG.choice(["Rome", "<b>Oslo</b>", ""])
            writer.writerow([f"{area:.1f}", town, f"{1000 * area + 30_000 * (town == 'Rome'):.0f}"])
    return path


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert run(["train", "--data", "digits", "--epochs", "3", "--backend", "numpy", "--out", str(folder)]) == 0
    return folder


def test_a_classification_of_images(command: Command, digits_run: Path) -> None:
    code, out, err = command("report", digits_run, "--backend", "numpy")
    assert (code, err) == (0, "")
    assert out == f"Written: {digits_run / 'report.html'}\n"
    page = (digits_run / "report.html").read_text(encoding="utf-8")
    assert headings(page) == [
        "Training", "Classes", "Probabilities", "The worst samples", "The network", "Settings", "Use it",
    ]  # fmt: skip
    accuracy = json.loads((digits_run / "run.json").read_text(encoding="utf-8"))["test"]["accuracy"]
    assert f"{accuracy:.4g} accuracy" in words(page).replace("accuracy", " accuracy")
    tree = parsed(page)
    assert len(list(tree.iter("img"))) == 16
    matrix = next(table for table in tree.iter("table") if table.get("class") == "matrix")
    assert len(list(matrix.iter("td"))) == 1 + 100
    assert sum(int(cell.text or 0) for cell in matrix.iter("td")) == 359
    assert "GFLOP/s" in words(page)


def test_a_regression_of_a_table(command: Command, tmp_path: Path) -> None:
    file, run = homes(tmp_path / "homes.csv"), tmp_path / "run <1>"
    options = ["--layers", 8, "--epochs", 12, "--validation-split", 0.2, "--early-stopping", 3, "--backend", "numpy"]
    assert command("train", "--data", file, "--target", "price", *options, "--out", run)[0] == 0
    target = tmp_path / "page.html"
    code, _, err = command("report", run, "--out", target, "--backend", "numpy")
    assert (code, err) == (0, "")
    page = target.read_text(encoding="utf-8")
    assert "run <1>: homes.csv" in words(page)
    assert {"Values", "The worst samples"} <= set(headings(page))
    worst = next(t for t in parsed(page).iter("table") if "absolute error" in "".join(t.itertext()))
    assert [cell.text for cell in worst.iter("th")] == ["row", "true", "predicted", "absolute error", "area", "<town>"]
    assert {"loss (price²)", "mae (price)"} <= {text.text for text in parsed(page).iter("text")}
    assert "as_json" not in words(page)
    rows = [[cell.text or "" for cell in row.iter("td")] for row in worst.iter("tr")][1:]
    with open(file, newline="") as lines:
        cells = list(csv.reader(lines))[1:]
    for row in rows:  # as the file has them
        area, town, price = cells[int(row[0].replace(",", ""))]
        assert (float(row[4]), row[5]) == (float(area), town)
        assert float(row[1].replace(",", "")) == pytest.approx(float(price), rel=1e-3)


def test_several_networks_bagged(command: Command, tmp_path: Path) -> None:
    file, run = homes(tmp_path / "homes.csv", 60), tmp_path / "run"
    options = ["--preset", "fast", "--folds", 2, "--epochs", 2, "--backend", "numpy", "--out", run]
    assert command("train", "--data", file, *options)[0] == 0
    code, _, err = command("report", run, "--backend", "numpy")
    assert (code, err) == (0, "")
    said = words((run / "report.html").read_text(encoding="utf-8"))
    assert re.search(r"2 ?networks ?2 ?epochs each", said)


def test_where_the_training_data_is_gone_there_are_no_samples(command: Command, tmp_path: Path) -> None:
    file, run = homes(tmp_path / "homes.csv"), tmp_path / "run"
    assert command("train", "--data", file, "--layers", 4, "--epochs", 2, "--backend", "numpy", "--out", run)[0] == 0
    file.rename(tmp_path / "moved.csv")
    code, out, _ = command("report", run, "--backend", "numpy")
    assert code == 0
    assert "--data FILE" in out
    assert headings((run / "report.html").read_text()) == ["Training", "The network", "Settings", "Use it"]
    code, out, _ = command("report", run, "--data", tmp_path / "moved.csv", "--backend", "numpy")
    assert (code, "--data" in out) == (0, False)
    assert "test part" in (run / "report.html").read_text()  # known by its content


def test_a_model_file_by_itself(command: Command, digits_run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((digits_run / "model.safetensors").read_bytes())
    assert command("report", alone, "--backend", "numpy")[0] == 0
    assert "Training" not in headings((tmp_path / "report.html").read_text())


def test_a_model_that_does_not_say_what_it_predicts(command: Command, tmp_path: Path) -> None:
    file, saved = homes(tmp_path / "homes.csv", 60), tmp_path / "own.safetensors"
    table = pd.read_csv(file)
    estimator = fcnn.TabularRegressor("fast", epochs=2, backend="numpy")
    estimator.fit(table.drop(columns="price"), table["price"]).model_.save(saved)
    common = "report", saved, "--data", file, "--backend", "numpy"
    assert "Say it: --target NAME" in command(*common)[2]
    assert command(*common, "--target", "price")[0] == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    worst = next(t for t in parsed(page).iter("table") if "absolute error" in "".join(t.itertext()))
    assert [cell.text for cell in worst.iter("th")] == ["row", "true", "predicted", "absolute error", "area", "<town>"]


@pytest.mark.parametrize("name", ["run.json", "history.csv"])
def test_a_damaged_run_is_named(name: str, command: Command, digits_run: Path, tmp_path: Path) -> None:
    for file in ("model.safetensors", "run.json", "history.csv"):
        (tmp_path / file).write_bytes((digits_run / file).read_bytes())
    (tmp_path / name).write_text("epoch,loss\n1,x\n")
    code, _, err = command("report", tmp_path, "--backend", "numpy")
    assert code == 2
    assert f"{tmp_path / name} is not what" in err
    assert not (tmp_path / "report.html").exists()


def page_of(y: Any, predictions: Any, **about: Any) -> str:
    X = RNG.normal(size=(len(y), 3))
    model = fcnn.Sequential([fcnn.Dense(predictions.shape[1])], n_in=3, seed=0, backend="numpy")
    found = Measured("some", X, y, predictions, {"loss": 1.0})
    return report_page(ReportedRun("page", model, [], measured=found, **about))


def test_several_labels() -> None:
    y, P = RNG.integers(0, 2, (50, 3)), RNG.uniform(size=(50, 3))
    page = page_of(y, P, class_names=["a", "b", "c<"], multilabel=True)
    assert "Probabilities" in headings(page)
    assert "c<" in words(page)


def test_one_output_for_two_classes() -> None:
    page = page_of(RNG.integers(0, 2, 50), RNG.uniform(size=(50, 1)), class_names=["no", "yes"])
    assert {"Classes", "Probabilities"} <= set(headings(page))


def test_the_worst_are_told_with_the_class_that_the_threshold_makes_of_them() -> None:
    model = fcnn.Sequential([fcnn.Dense(2)], n_in=3, seed=0, backend="numpy")
    model.signature = dataclasses.replace(model.signature, threshold=0.8)
    y, P = np.array([0, 1]), np.array([[0.4, 0.6], [0.3, 0.7]])
    found = Measured("some", np.zeros((2, 3)), y, P, {"loss": 1.0})
    page = report_page(ReportedRun("page", model, [], measured=found, class_names=["no", "yes"]))
    worst = next(t for t in parsed(page).iter("table") if "−log p" in "".join(t.itertext()))
    cells = [[cell.text for cell in row.iter("td")] for row in worst.iter("tr")][1:]
    assert [row[1:3] for row in cells] == [["no", "no (40%)"], ["yes", "no (30%)"]]


def test_many_classes_and_one_that_has_no_samples() -> None:
    y = RNG.integers(0, 39, 400)
    P = RNG.dirichlet(np.ones(40), 400)
    said = words(page_of(y, P, class_names=[f"class {i}" for i in range(40)]))
    assert "The most frequent confusions of 40 classes." in said
    assert "The 10 classes with the smallest areas" in said


def test_several_targets_and_quantiles() -> None:
    y = RNG.normal(size=(30, 2))
    assert "true height" in words(page_of(y, y + 0.1, target_names=["width", "height"]))
    assert "20,000; 3" in words(page_of(np.array([[20_000.0, 3.0], [1.0, 2.0]]), np.ones((2, 2))))
    assert "quantiles" in words(page_of(y[:, 0], np.hstack([y, y])))


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e6))
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 2 <= len(found) <= 12
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in found)
    assert np.all(np.diff(found) > 0)


def test_large_numbers_fit_beside_an_axis() -> None:
    drawn = lines([Line("", [0, 1], [0.0, 6e7])], Axes("epoch", "loss"))
    said = [text.text for text in ElementTree.fromstring(drawn).iter("text")]
    assert {"2e7", "4e7", "6e7"} <= set(said)


@given(st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_calibration_is_scikit_learns(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(1e-6, 1 - 1e-6, n)
    right = (rng.uniform(size=n) < confidence).astype(float)
    mean, share, error = calibration(confidence, right, bins=10)
    if 0 < right.sum() < n:
        their_share, their_mean = calibration_curve(right, confidence, n_bins=10)
        np.testing.assert_allclose(mean, their_mean)
        np.testing.assert_allclose(share, their_share)
    of_each_bin = [
        within.sum() / n * abs(right[within].mean() - confidence[within].mean())
        for within in (np.floor(confidence * 10) == b for b in range(10))
        if within.any()
    ]
    assert error == pytest.approx(sum(of_each_bin))


def test_gradients_are_those_of_the_mean_loss_at_inference_and_change_nothing() -> None:
    layers = [fcnn.Dense(4, activation="tanh"), fcnn.BatchNorm(), fcnn.Dropout(0.5), fcnn.Dense(3)]
    model = fcnn.Sequential(layers, n_in=3, seed=0, backend="numpy", dtype="float64")
    X, y = RNG.normal(size=(20, 3)), RNG.integers(0, 3, 20)
    model.forward(3 * X + 1, training=True)  # running statistics that are not those of X
    before = {name: array.copy() for name, array in model.snapshot().items()}
    found = gradients_of(model, fcnn.CrossEntropy(), Measured("", X, y, np.empty((0, 3)), {}))
    assert all((before[name] == array).all() for name, array in model.snapshot().items())

    def loss() -> float:
        return float(fcnn.CrossEntropy().forward(model(X), y))

    h = 1e-6  # central differences: truncation is of the size h², rounding of the size 1e-16/h
    for name, parameter in model.named_parameters().items():
        for place in np.ndindex(parameter.value.shape):
            value = parameter.value[place]
            around = []
            for parameter.value[place] in (value + h, value - h):
                around.append(loss())
            parameter.value[place] = value
            np.testing.assert_allclose(found[name][place], (around[0] - around[1]) / (2 * h), rtol=1e-5, atol=1e-9)


def test_gradients_of_several_networks_are_those_of_their_mean_loss() -> None:
    parts = [fcnn.Sequential([fcnn.Dense(2)], n_in=3, seed=seed, backend="numpy") for seed in (0, 1)]
    X, y = RNG.normal(size=(20, 3)).astype("float32"), RNG.integers(0, 2, 20)
    measured = Measured("", X, y, np.empty((0, 2)), {})
    found = gradients_of(fcnn.Sequential.join_members(parts), fcnn.CrossEntropy(), measured)
    for i, part in enumerate(parts):
        alone = gradients_of(part, fcnn.CrossEntropy(), measured)
        np.testing.assert_allclose(found[f"0.branches.{i}.0.W"], alone["0.W"] / 2, rtol=1e-5, atol=1e-7)


def test_gradients_go_by_what_the_outputs_lie_around() -> None:
    X, y = RNG.normal(size=(20, 3)).astype("float32"), RNG.normal(size=(20, 1))
    plain, around = (
        fcnn.Sequential([fcnn.Dense(1)], n_in=3, seed=0, backend="numpy", output_center=center)
        for center in (None, np.array([1e6]))
    )
    expected = gradients_of(plain, fcnn.MSE(), Measured("", X, y, y, {}))
    found = gradients_of(around, fcnn.MSE(), Measured("", X, y + 1e6, y, {}))
    np.testing.assert_allclose(found["0.W"], expected["0.W"], rtol=1e-5)


def test_flops_of_a_step() -> None:
    model = fcnn.Sequential([fcnn.Dense(5), fcnn.Dense(2)], n_in=3, seed=0, backend="numpy")
    assert flops_per_sample(model) == 4 * 15 + 6 * 10


def test_the_worst_of_several_targets_are_told_in_their_spreads() -> None:
    model = fcnn.Sequential([fcnn.Dense(2)], n_in=1, seed=0, backend="numpy")
    y = np.array([[1e5, 1.0], [2e5, 2.0], [3e5, 3.0], [4e5, 4.0]])
    P = y + np.array([[1e3, 0.0], [0.0, 2.0], [0.0, 0.0], [5e4, 0.5]])
    run = ReportedRun("run", model, [], measured=Measured("", np.zeros((4, 1)), y, P, {}))
    page = report_page(run)
    worst = next(t for t in parsed(page).iter("table") if "absolute error" in "".join(t.itertext()))
    assert "absolute error in standard deviations of each target" in "".join(worst.itertext())
    rows = [[cell.text or "" for cell in row.iter("td")] for row in worst.iter("tr")][1:]
    expected = np.abs(P - y) / y.std(axis=0)
    assert [row[0] for row in rows] == ["1", "3", "0", "2"]
    assert [float(row[3]) for row in rows] == pytest.approx(np.sort(expected.mean(axis=1))[::-1], rel=5e-3)
