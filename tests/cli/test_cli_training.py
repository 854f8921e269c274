"""The training options of `fcnn-gpu train`, each to its end; and their wrong use, before anything is written."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.cli._class_weight import match_classes, parse_class_weight
from fcnn_gpu.cli._commands import load_command
from fcnn_gpu.cli._named import build, build_metric
from fcnn_gpu.initializers import INITIALIZERS
from fcnn_gpu.losses import LOSSES
from fcnn_gpu.metrics import METRICS
from fcnn_gpu.optimizers import OPTIMIZERS
from fcnn_gpu.schedules import SCHEDULES, ReduceOnPlateau, Schedule
from tests.support.cli_cases import CHECKOUT, Command, assert_mistake, iris_like, linear, spawn

FEW = ("--layers", "6", "--epochs", "2", "--no-progress")
LEAST = {
    "piecewise_constant": "piecewise_constant:boundaries=1/2",
    "step": "step:every=1",
    "warmup": "warmup:then=cosine",
}
"""The schedules that need a setting, with as few as they can have."""


def two_classes(path: Path, n: int = 80) -> Path:
    rng = np.random.default_rng(3)
    rows = [f"{k + rng.normal():.3f},{rng.normal():.3f},{('no', 'yes, sir')[k]!r}" for k in rng.integers(0, 2, n)]
    path.write_text("\n".join(["a,b,answer", *(row.replace("'", '"') for row in rows)]) + "\n", encoding="utf-8")
    return path


def counts(path: Path, n: int = 80) -> Path:
    rng = np.random.default_rng(5)
    a = rng.normal(size=n)
    rows = np.column_stack([a, rng.poisson(np.exp(4 + a))])
    np.savetxt(path, rows, fmt=["%.3f", "%d"], delimiter=",", header="a,visits", comments="")
    return path


def several_labels(path: Path, n: int = 60) -> Path:
    rng = np.random.default_rng(4)
    np.savez(path, X=rng.normal(size=(n, 3)), y=rng.integers(0, 2, (n, 3)))
    return path


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    return iris_like(tmp_path / "trees.csv", n=90)


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    return linear(tmp_path / "prices.csv", n=80)


def history(folder: Path) -> list[dict[str, str]]:
    with open(folder / "history.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return found


class TestNames:
    """`name:key=value,...`"""

    @pytest.mark.parametrize("name", list(SCHEDULES))
    def test_every_schedule(self, name: str, command: Command, trees: Path, tmp_path: Path) -> None:
        arguments = ("--schedule", LEAST.get(name, name), "--validation-split", 0.2, "--lr", 0.01)
        code, _, err = command("train", "--data", trees, *FEW, *arguments, "--out", tmp_path / "run")
        assert (code, err) == (0, "")
        assert all(0 <= float(record["learning_rate"]) <= 0.01 for record in history(tmp_path / "run"))

    @pytest.mark.parametrize("name", list(LOSSES))
    def test_every_loss(self, name: str, command: Command, tmp_path: Path) -> None:
        files = {"softmax": iris_like, "sigmoid": two_classes, "identity": linear, "exp": counts}
        file = files[LOSSES[name].link](tmp_path / "d.csv")
        code, _, err = command("train", "--data", file, *FEW, "--loss", name, "--out", tmp_path / "run")
        assert (code, err) == (0, "")
        assert fcnn.load(tmp_path / "run" / "model.safetensors").info["loss"]["name"] == name

    @pytest.mark.parametrize("name", [*(name for name in METRICS if name != "coverage"), "top_2_accuracy"])
    def test_every_metric(self, name: str, command: Command, trees: Path, prices: Path, tmp_path: Path) -> None:
        text = "top_k_accuracy:k=2" if name == "top_k_accuracy" else name
        metric = build_metric("--metric", text)
        data = trees if metric.task == "classification" else prices
        arguments = ("--metric", text, "--validation-split", 0.2, "--out", tmp_path / "run")
        code, out, err = command("train", "--data", data, *FEW, *arguments)
        assert (code, err) == (0, "")
        assert {metric.label, f"val_{metric.label}"} <= history(tmp_path / "run")[0].keys()
        test = re.search(rf"^Test .*{metric.label} (\S+)", out, re.M)
        assert test is not None
        code, again, err = command("evaluate", tmp_path / "run" / "model.safetensors", "--data", data)
        assert (code, err) == (0, "")
        assert re.search(rf"^Test .*{metric.label} {re.escape(test[1])}", again, re.M)

    @pytest.mark.parametrize("name", [name for name in INITIALIZERS if name not in ("array", "he+5")])
    def test_every_initializer(self, name: str, command: Command, trees: Path, tmp_path: Path) -> None:
        arguments = ("--layers", "none", "--epochs", 1, "--no-progress", "--init", name)
        code, _, err = command("train", "--data", trees, *arguments, "--out", tmp_path / "run")
        assert (code, err) == (0, "")
        layer: Any = fcnn.load(tmp_path / "run" / "model.safetensors").layers[0]
        assert layer.init.name == name

    @pytest.mark.parametrize("name", list(OPTIMIZERS))
    def test_every_optimizer(self, name: str, command: Command, trees: Path) -> None:
        assert command("train", "--data", trees, *FEW, "--optimizer", name)[0] == 0

    def test_settings_reach_the_class(self) -> None:
        assert build("--loss", "huber:delta=2", LOSSES) == fcnn.Huber(2.0)
        assert build("--loss", "focal:gamma=1", LOSSES) == fcnn.Focal(1.0)
        assert build("--loss", "quantile:quantiles=0.1/0.9", LOSSES) == fcnn.Quantile([0.1, 0.9])
        smoothed = build("--loss", "binary_cross_entropy:label_smoothing=0.1,pos_weight=3", LOSSES)
        assert smoothed == fcnn.BinaryCrossEntropy(0.1, 3.0)
        assert build("--loss", "binary_cross_entropy:pos_weight=3/1", LOSSES) == fcnn.BinaryCrossEntropy(
            0.0, [3.0, 1.0]
        )
        assert build_metric("--metric", "f1:average=weighted") == fcnn.metrics.F1("weighted")
        assert build("--init", "normal:std=0.5", INITIALIZERS) == fcnn.initializers.Normal(0.5)
        text = "variance_scaling:scale=2,mode=fan_avg,distribution=uniform"
        assert build("--init", text, INITIALIZERS) == fcnn.initializers.VarianceScaling(2.0, "fan_avg", "uniform")
        assert build("--bias-init", "uniform:low=-1", INITIALIZERS) == fcnn.initializers.Uniform(-1.0)
        plateau = build(
            "--schedule", "reduce_on_plateau: patience=3, column=loss", SCHEDULES, given={"learning_rate": 1.0}
        )
        assert plateau == ReduceOnPlateau(1.0, patience=3, column="loss")

    def test_a_schedule_within_a_schedule(self) -> None:
        text = "warmup:epochs=2,then=warmup:start=0.5,then=step:every=3,factor=0.2"
        made: Schedule = build("--schedule", text, SCHEDULES, given={"learning_rate": 0.1})
        inner = fcnn.schedules.Warmup(fcnn.schedules.StepDecay(0.1, 3.0, 0.2), start=0.5)
        assert made == fcnn.schedules.Warmup(inner, epochs=2.0)


class TestLoss:
    def test_two_classes_with_one_output(self, command: Command, tmp_path: Path) -> None:
        file = two_classes(tmp_path / "two.csv")
        arguments = ("--loss", "binary_cross_entropy", "--class-weight", "yes, sir=3", "--out", tmp_path / "run")
        code, out, err = command("train", "--data", file, *FEW, *arguments)
        assert (code, err) == (0, "")
        model = tmp_path / "run" / "model.safetensors"
        assert fcnn.load(model).n_out == 1
        numbers = re.search(r"^Test \(16 samples\):  (.*)$", out, re.M)
        assert numbers is not None
        assert numbers[1] in command("evaluate", model, "--data", file)[1]
        _, predicted, _ = command("predict", model, file, "--drop", "answer")
        assert set(predicted.splitlines()[1:]) <= {"no", '"yes, sir"'}

    def test_huber_counts_in_standard_deviations_of_the_targets(
        self, command: Command, prices: Path, tmp_path: Path
    ) -> None:
        code, out, _ = command(
            "train", "--data", prices, *FEW, "--loss", "huber:delta=2", "--out", tmp_path / "run", "--overwrite"
        )
        assert code == 0
        y = fcnn.datasets.load(prices, seed=0).y_train
        noted = fcnn.load(tmp_path / "run" / "model.safetensors").info["loss"]
        assert noted == {"name": "huber", "delta": pytest.approx(2 * y.std(), rel=1e-5)}
        assert f"δ is 2 standard deviations of the targets, {noted['delta']:.4g} in their own units" in out
        arguments = ("--no-standardize", "--loss", "huber:delta=2", "--out", tmp_path / "run", "--overwrite")
        assert command("train", "--data", prices, *FEW, *arguments)[0] == 0
        assert fcnn.load(tmp_path / "run" / "model.safetensors").info["loss"]["delta"] == 2

    def test_label_smoothing(self, command: Command, trees: Path, tmp_path: Path) -> None:
        assert command("train", "--data", trees, *FEW, "--label-smoothing", 0.1, "--out", tmp_path / "run")[0] == 0
        loss = fcnn.load(tmp_path / "run" / "model.safetensors").info["loss"]
        assert (loss["name"], loss["label_smoothing"]) == ("cross_entropy", 0.1)

    @pytest.mark.parametrize("weights", ["balanced", "ash=0,birch=5"])
    def test_class_weights(self, command: Command, trees: Path, tmp_path: Path, weights: str) -> None:
        command("train", "--data", trees, *FEW, "--out", tmp_path / "plain")
        command("train", "--data", trees, *FEW, "--class-weight", weights, "--out", tmp_path / "run")
        first, weighed = history(tmp_path / "plain")[0]["loss"], history(tmp_path / "run")[0]["loss"]
        assert first != weighed
        assert run_of(tmp_path / "run")["options"]["class_weight"] == weights

    def test_class_weights_are_those_of_fit(self) -> None:
        y = np.array([0, 0, 1, 2])
        assert match_classes("balanced", ["a", "b"], y) == "balanced"
        assert match_classes(parse_class_weight("b=2, c,d =0.5"), ["a", "b", "c,d"], y) == {1: 2.0, 2: 0.5}
        assert parse_class_weight("x=1=3") == {"x=1": 3.0}


class TestOptimizer:
    def test_momentum_and_settings(self, command: Command, trees: Path) -> None:
        for text in ("sgd", "rmsprop", "sgd:nesterov=true"):
            assert command("train", "--data", trees, *FEW, "--optimizer", text, "--momentum", 0.9)[0] == 0

    def test_weight_decay(self, command: Command, trees: Path, tmp_path: Path) -> None:
        size = []
        for decay in (0, 10):
            arguments = ("--optimizer", "adamw", "--weight-decay", decay, "--out", tmp_path / "run", "--overwrite")
            assert command("train", "--data", trees, *FEW, *arguments)[0] == 0
            layer: Any = fcnn.load(tmp_path / "run" / "model.safetensors", backend="numpy").layers[-1]
            size.append(np.abs(layer.W).sum())
        assert size[1] < size[0]

    def test_learning_rate_by_its_other_name(self, command: Command, trees: Path, tmp_path: Path) -> None:
        arguments = ("--learning-rate", 0.02, "--schedule", "constant", "--out", tmp_path / "run")
        assert command("train", "--data", trees, *FEW, *arguments)[0] == 0
        assert {record["learning_rate"] for record in history(tmp_path / "run")} == {"0.02"}

    def test_a_step_schedule(self, command: Command, trees: Path, tmp_path: Path) -> None:
        arguments = ("--lr", 0.1, "--schedule", "step:every=1,factor=0.5", "--out", tmp_path / "run")
        assert command("train", "--data", trees, *FEW, *arguments)[0] == 0
        assert [float(record["learning_rate"]) for record in history(tmp_path / "run")] == [0.1, 0.05]

    def test_a_plateau_of_a_metric_that_should_grow(self, command: Command, trees: Path, tmp_path: Path) -> None:
        # the accuracy rises from epoch to epoch at first: taken for one to be small, it would lower the rate at once
        schedule = "reduce_on_plateau:column=val_accuracy,patience=0,threshold=0"
        arguments = f"--layers 16 --epochs 3 --no-progress --validation-split 0.3 --lr 0.003 --schedule {schedule}"
        assert command("train", "--data", trees, *arguments.split(), "--out", tmp_path / "run")[0] == 0
        records = history(tmp_path / "run")
        for before, record, after in zip(records, records[1:], records[2:], strict=False):
            rises = float(record["val_accuracy"]) > float(before["val_accuracy"])
            assert (after["learning_rate"] == record["learning_rate"]) == rises

    def test_memory_limit(self, command: Command, tmp_path: Path) -> None:
        arguments = ("--data", "digits", "--layers", "64", "--epochs", 1, "--no-progress")
        weights = []
        for more in ((), ("--memory-limit", "40 kB"), ("--memory-limit", 40_000)):
            assert command("train", *arguments, *more, "--out", tmp_path / "run", "--overwrite")[0] == 0
            layer: Any = fcnn.load(tmp_path / "run" / "model.safetensors", backend="numpy").layers[0]
            weights.append(np.asarray(layer.W))
        np.testing.assert_allclose(weights[1], weights[0], rtol=1e-3, atol=1e-5)
        np.testing.assert_array_equal(weights[1], weights[2])


MISTAKES = [
    ("--init he", "--init does not know 'he'"),
    ("--init normal:std=-1", r"--init normal:std=-1: Normal\(std\) expects"),
    ("--activation leaky_relu:alpha=x", "LeakyReLU.* expects a number"),
    ("--init variance_scaling:mode=fan", "VarianceScaling.mode. does not know 'fan'. Did you mean 'fan_in'"),
    ("--init array", "--init array: values are given in Python, as Dense.init=values."),
    ("--bias-init array:values=1", "--bias-init array: values are given in Python"),
    ("--loss hubber", "--loss does not know 'hubber'. Did you mean 'huber'?"),
    ("--loss huber:delt=2", "--loss huber:delt=2: huber has no setting 'delt'. Did you mean 'delta'?"),
    ("--loss mse:delta=2", "mse has no setting 'delta'. Its settings: output_weight"),
    ("--loss mse:output_weight=1/x", r"MSE.output_weight.: each of them expects a number, got 'x'"),
    ("--loss cross_entropy:class_weight=2", "class_weight is what --class-weight gives"),
    ("--loss focal:alpha=1/2/1", "--loss focal:alpha=1/2/1: alpha is what --class-weight gives"),
    ("--loss focal:gamma=-1", r"Focal\(gamma\) expects a finite number of at least 0"),
    ("--loss mse", "trees.csv has 3 classes. Losses that fit: cross_entropy, kl_divergence, focal"),
    ("--loss binary_cross_entropy", "--loss binary_cross_entropy does not fit: trees.csv has 3 classes"),
    ("--loss cross_entropy --task regression", "does not fit: --task regression. Losses that fit: mse, mae, huber"),
    ("--label-smoothing 1.5", r"--label-smoothing expects a finite number in \[0, 1\]"),
    ("--label-smoothing 0.1 --loss mse", "--label-smoothing is for cross_entropy, not for --loss mse"),
    ("--label-smoothing 0.1 --task regression", "--label-smoothing is for classes"),
    ("--label-smoothing 0.1 --loss cross_entropy:label_smoothing=0.1", "is what --label-smoothing gives"),
    ("--class-weight heavy", "--class-weight expects balanced, or CLASS=2,OTHER=0.5, got 'heavy'"),
    ("--class-weight ash=two", "--class-weight expects a number for 'ash', got 'two'"),
    ("--class-weight ash=-1", "--class-weight of 'ash' expects a finite number of at least 0"),
    ("--class-weight ash=1,ash=2", "names the class 'ash' twice"),
    ("--class-weight ahs=2", "unknown class 'ahs'. Did you mean 'ash'\\? The classes: ash, birch, cedar"),
    ("--class-weight ash=0,birch=0,cedar=0", "--class-weight is 0 for every class"),
    ("--class-weight balanced --task regression", "--class-weight is for classes"),
    ("--metric acuracy", "--metric does not know 'acuracy'. Did you mean 'accuracy'?"),
    ("--metric r2", "--metric r2 is for a regression, and trees.csv has 3 classes"),
    ("--metric f1 --task regression", "--metric f1 is for a classification, not for --task regression"),
    ("--metric top_0_accuracy", r"--metric top_0_accuracy: TopKAccuracy\(k\) expects"),
    ("--metric top_4_accuracy", "needs at least 4 classes, the predictions have 3"),
    ("--metric precision:average=binary", "precision_binary is for two classes, got 3 classes"),
    ("--metric accuracy:multilabel=true", "accuracy has no setting 'multilabel'. Its settings: threshold"),
    ("--metric coverage", "is for a regression"),
    ("--metric neg_log_loss", "--metric does not know 'neg_log_loss'. Here it is called 'log_loss'"),
    ("--optimizer adam:beta1=2", r"--optimizer adam:beta1=2: Adam\(beta1\) expects"),
    ("--optimizer sgd:momentum=0.9", "momentum is what --momentum gives"),
    ("--optimizer sgd:nesterov=true", "for example --momentum 0.9"),
    ("--momentum 0.9", "--momentum is for sgd, rmsprop and muon, not for adam. Say --optimizer sgd"),
    ("--momentum 1 --optimizer sgd", r"--momentum expects a finite number in \[0, 1\)"),
    ("--weight-decay -1 --optimizer adamw", "--weight-decay expects a finite number of at least 0"),
    ("--schedule step", "--schedule step needs every=, as in --schedule step:every=10,factor=0.5"),
    ("--schedule step:", "ends in a colon; expected step alone, or step:key=value"),
    ("--schedule step:every", "every has no value"),
    ("--schedule step:every=1,every=2", "gives every twice"),
    ("--schedule step:every=0", r"StepDecay\(every\), in epochs, expects"),
    ("--schedule cosine:learning_rate=1", "learning_rate is what --lr gives"),
    ("--schedule cosine:final=nan", r"Cosine\(final\) expects a finite number"),
    ("--schedule warmup", "needs then=, as in --schedule warmup:epochs=1,then=cosine"),
    ("--schedule warmup:then=cosin", "--schedule does not know 'cosin'. Did you mean 'cosine'?"),
    ("--schedule reduce_on_plateau", "watches val_loss: add --validation-split 0.1"),
    ("--schedule warmup:then=reduce_on_plateau", "watches val_loss: add --validation-split 0.1"),
    ("--schedule reduce_on_plateau:column=lss", "watches 'lss', which this run does not record. Did you mean 'loss'?"),
    ("--schedule reduce_on_plateau:patience=0.5,column=loss", "expects an integer"),
    ("--memory-limit 2XB", "--memory-limit expects a number of bytes or text like '4 GiB'"),
    ("--memory-limit 100", r"--memory-limit allows 100 bytes.* Allow [\d,]+ bytes\.$"),
]


def test_the_readme_names_options_that_there_are() -> None:
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    rows = text.partition("| `fcnn-gpu train` |")[2].partition("\n\n")[0]
    known = {name for parameter in load_command("train").params for name in parameter.opts}
    named = set(re.findall(r"--[a-z][a-z-]+", rows)) - {"--no-standardize"}
    assert {"--metric", "--init", "--memory-limit"} <= named <= known


class TestMistakes:
    @pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[arguments for arguments, _ in MISTAKES])
    def test_options(self, command: Command, trees: Path, tmp_path: Path, arguments: str, message: str) -> None:
        output = command("train", "--data", trees, "--layers", 8, *arguments.split(), "--out", "run")
        assert_mistake(output, message)
        assert not (tmp_path / "run").exists()

    def test_of_numbers(self, command: Command, prices: Path) -> None:
        for arguments, message in (
            ("--class-weight a=2", "--class-weight is for one class per sample, and prices.csv is a regression"),
            ("--label-smoothing 0.1", "prices.csv is a regression, learned with mse"),
            ("--loss cross_entropy", "does not fit: prices.csv is a regression. Losses that fit: mse, mae, huber"),
            ("--metric accuracy", "--metric accuracy is for a classification, and prices.csv is a regression"),
        ):
            assert_mistake(command("train", "--data", prices, *FEW, *arguments.split()), message)

    def test_of_several_labels(self, command: Command, tmp_path: Path) -> None:
        file = several_labels(tmp_path / "labels.npz")
        for arguments, message in (
            ("--class-weight 0=2", "for one class per sample, and labels.npz has several labels per sample"),
            ("--loss cross_entropy", "several labels per sample. Losses that fit: binary_cross_entropy"),
            ("--metric top_2_accuracy", "top_2_accuracy is for one class per sample"),
        ):
            assert_mistake(command("train", "--data", file, *FEW, *arguments.split()), message)
        code, out, _ = command("train", "--data", file, *FEW, "--metric", "precision", "--out", tmp_path / "run")
        assert code == 0
        assert re.search(r"^Test .*  precision 0\.\d+$", out, re.M)

    def test_a_model_that_notes_an_unknown_metric(self, command: Command, trees: Path, tmp_path: Path) -> None:
        command("train", "--data", trees, *FEW, "--out", tmp_path / "run")
        model = fcnn.load(tmp_path / "run" / "model.safetensors", backend="numpy")
        model.info = model.info | {"metrics": [0.9, {"name": "accuracy"}]}  # numbers are a program's own
        model.save(tmp_path / "own.safetensors")
        assert command("evaluate", tmp_path / "own.safetensors", "--data", trees)[0] == 0
        model.info = model.info | {"metrics": [{"name": "beauty"}]}
        model.save(tmp_path / "new.safetensors")
        output = command("evaluate", tmp_path / "new.safetensors", "--data", trees)
        assert_mistake(output, "new.safetensors notes a metric that is not known: Unknown metric 'beauty'")

    def test_data_without_its_option(self, command: Command) -> None:
        assert_mistake(
            command("train", "data.csv"),
            r"train does not take data\.csv\. Data is named by an option: --data data\.csv$",
        )
        assert "--data data.csv" not in command("train", "--data", "x.csv", "data.csv")[2]
        assert "--data" not in command("doctor", "data.csv")[2]

    def test_neurons_that_start_alike(self, command: Command, trees: Path) -> None:
        with pytest.warns(fcnn.initializers.SymmetryWarning, match="start with the same weights"):
            command("train", "--data", trees, *FEW, "--init", "zeros", "--bias-init", "zeros")


class TestAnEarlierRun:
    def test_it_is_replaced_where_somebody_says_so(self, command: Command, trees: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"
        arguments = ("train", "--data", trees, *FEW, "--out", run)
        assert "Output:" not in command(*arguments)[1]
        before = {path.name: path.read_bytes() for path in run.iterdir()}
        assert_mistake(command(*arguments), rf"--out: {run} holds the run of .* or say --overwrite to")
        assert {path.name: path.read_bytes() for path in run.iterdir()} == before
        line = rf"^Output: {run} holds the run of \d{{4}}-\d\d-\d\d \d\d:\d\d on trees.csv, which this one replaces$"
        assert re.search(line, command(*arguments, "--overwrite")[1], re.M)
        (run / "run.json").write_text("[]", encoding="utf-8")
        assert re.search(r"holds the run of \S+ \d\d:\d\d, which this one", command(*arguments, "--overwrite")[1])

    def test_files_of_one_s_own_that_are_called_like_those_of_a_run(
        self, command: Command, trees: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "history.csv").write_text("mine", encoding="utf-8")
        output = command("train", "--data", trees, *FEW, "--out", tmp_path)
        assert_mistake(output, rf"--out: {tmp_path} holds history.csv\. Choose another")
        assert (tmp_path / "history.csv").read_text(encoding="utf-8") == "mine"

    def test_one_that_has_ended_meanwhile_stays(
        self, command: Command, trees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        arguments = ("train", "--data", trees, *FEW, "--out", "run")
        fit = fcnn.Trainer.fit
        found: list[bytes] = []

        def after_another(*given: Any, **options: Any) -> Any:
            monkeypatch.setattr(fcnn.Trainer, "fit", fit)
            assert command(*arguments, "--seed", 5)[0] == 0
            found.append((tmp_path / "run" / "model.safetensors").read_bytes())
            return fit(*given, **options)

        monkeypatch.setattr(fcnn.Trainer, "fit", after_another)
        code, out, _ = command(*arguments)
        assert code == 0
        assert (tmp_path / "run" / "model.safetensors").read_bytes() == found[0]
        assert "Output: run holds a run that has ended meanwhile, so this one is kept in run-2" in out
        assert "Written to run-2: model.safetensors" in out
        assert (tmp_path / "run-2" / "model.safetensors").read_bytes() != found[0]


class TestForPrograms:
    def test_json(self, command: Command, trees: Path, tmp_path: Path) -> None:
        code, out, err = command("train", "--data", trees, *FEW, "--out", "run", "--json")
        assert code == 0
        assert json.loads(out) == json.loads((tmp_path / "run" / "run.json").read_bytes())
        assert json.loads(out)["test"]["accuracy"] >= 0
        for line in ("Data: trees.csv", "Test (", "Written to run"):
            assert line in err

    def test_json_where_nobody_reads_it(self, trees: Path, tmp_path: Path) -> None:
        with spawn("train", "--data", trees, *FEW, "--out", tmp_path / "run", "--json") as process:
            process.stdout.close()  # type: ignore[union-attr]
            err = process.stderr.read()  # type: ignore[union-attr]
        assert process.returncode == 1
        assert err.endswith(f"The trained model is in {tmp_path / 'run' / 'model.safetensors'}.\n")
        assert fcnn.load(tmp_path / "run", backend="numpy").n_out == 3

    def test_targets_that_are_named_one_by_one(self, command: Command, tmp_path: Path) -> None:
        rows = np.random.default_rng(0).normal(size=(40, 4)).round(3)
        np.savetxt(tmp_path / "t.csv", rows, "%.3f", ",", header='a,"b, c",d,e', comments="")
        together = command("train", "--data", "t.csv", *FEW, "--target", "d,e", "--out", "one")
        one_by_one = command("train", "--data", "t.csv", *FEW, "--target", "d", "--target", "e", "--out", "two")
        assert together[0] == one_by_one[0] == 0
        models = [fcnn.load(tmp_path / folder, backend="numpy") for folder in ("one", "two")]
        assert models[0].signature.target_names == models[1].signature.target_names == ("d", "e")
        assert command("evaluate", "two", "--data", "t.csv", "--target", "d", "--target", "e")[0] == 0
        assert command("train", "--data", "t.csv", *FEW, "--target", "b, c", "--target", "e")[0] == 0
        output = command("train", "--data", "t.csv", *FEW, "--target", "d", "--target", "d")
        assert_mistake(output, "--target names 'd' twice")
        output = command("train", "--data", "digits", *FEW, "--target", "d", "--target", "e")
        assert_mistake(output, "--target may be given several times for tables, not for digits")


class TestHardlyClasses:
    """Numbers that are taken for classes only because somebody says so."""

    def test_fractions(self, command: Command, prices: Path) -> None:
        output = command("train", "--data", prices, *FEW, "--task", "classification")
        assert_mistake(
            output, r"'price' has 80 different values in 80 rows, with fractions, .* Say --task regression\.$"
        )
        rng = np.random.default_rng(0)
        np.savez("prices.npz", X=rng.normal(size=(80, 2)), y=rng.normal(size=80))
        output = command("train", "--data", "prices.npz", *FEW, "--task", "classification")
        assert_mistake(output, r"The targets have 80 different values: predict .*, --task regression\.$")

    def test_whole_numbers(self, command: Command, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        rows = np.column_stack([rng.normal(size=600).round(3), rng.integers(1000, 9000, 600).astype(float)])
        file = tmp_path / "prices.csv"
        np.savetxt(file, rows, delimiter=",", header="area,price", comments="", fmt=["%.3f", "%d"])
        output = command("train", "--data", file, *FEW, "--task", "classification", "--out", "run")
        assert_mistake(output, r"'price' has 5\d\d different values in 600 rows, which are too many for classes\.")
        assert command("train", "--data", file, *FEW)[0] == 0
        file = tmp_path / "prices.npz"
        np.savez(file, X=rows[:, :1], y=rows[:, 1].astype(int))
        output = command("train", "--data", file, *FEW, "--task", "classification", "--out", "run")
        assert_mistake(output, r"the targets have 5\d\d different values in 600 samples, and 5\d\d of them occur only")
        assert "--task regression; if they are classes, pass --test-fraction 0 " in output[2]
        assert not (tmp_path / "run").exists()
        assert command("train", "--data", file, *FEW)[0] == 0
        code, out, _ = command("train", "--data", file, *FEW, "--task", "classification", "--test-fraction", 0)
        assert code == 0
        assert "600 training and 0 test samples" in out

    def test_a_test_part_that_the_classes_cannot_give(self, command: Command, tmp_path: Path) -> None:
        file = tmp_path / "few.csv"
        names = [f"c{i}" for i in range(8)] * 2 + ["rare0", "rare1"]
        file.write_text("a,b\n" + "".join(f"{i},{name}\n" for i, name in enumerate(names)), encoding="utf-8")
        output = command("train", "--data", file, *FEW, "--test-fraction", 0.5)
        assert_mistake(
            output, r"leaves 8 for a test part, fewer than --test-fraction 0\.5 .*--test-fraction 0\.44 or less"
        )
        code, out, _ = command("train", "--data", file, *FEW, "--test-fraction", 0.44)
        assert code == 0
        assert "10 training and 8 test samples" in out

    def test_a_validation_part_that_the_classes_cannot_give(self, command: Command, tmp_path: Path) -> None:
        file = tmp_path / "few.csv"
        names = ["a", "b", "c", "d", "e", "f"] * 3
        file.write_text("a,b\n" + "".join(f"{i},{name}\n" for i, name in enumerate(names)), encoding="utf-8")
        arguments = ("--test-fraction", 0, "--validation-split")
        _, out, _ = command("train", "--data", file, *FEW, *arguments, 0.8)
        assert "Validation: 12 samples instead of 14, since every class keeps one for training" in out
        assert "Validation:" not in command("train", "--data", file, *FEW, *arguments, 0.5)[1]

    def test_evaluating_all_needs_no_test_part(self, command: Command, trees: Path, tmp_path: Path) -> None:
        command("train", "--data", trees, *FEW, "--out", "run")
        file = tmp_path / "three.csv"
        file.write_text("length,weight,always,species\n0,5000,7,ash\n1,4000,7,birch\n", encoding="utf-8")
        code, out, _ = command("evaluate", "run/model.safetensors", "--data", file, "--part", "all")
        assert code == 0
        assert "All (2 samples)" in out
