"""The command line and its user's mistakes: one line each, and nothing written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.cli import _run
from fcnn_gpu.cli._options import TrainOptions
from fcnn_gpu.datasets import read_features
from tests.support.cli_cases import QUICK, Command, assert_mistake, iris_like

MISTAKES: list[tuple[str, str]] = [
    ("--epochs 0", "--epochs expects an integer of at least 1, got 0"),
    ("--epochs many", "--epochs.*whole number"),
    ("--batch-size 0", "--batch-size expects an integer of at least 1, got 0"),
    ("--batch-size -3", "--batch-size expects an integer of at least 1, got -3"),
    ("--lr -0.1", "--lr expects a finite number of at least 0, got -0.1"),
    ("--lr nan", "--lr expects a finite number"),
    ("--lr inf", "--lr expects a finite number"),
    ("--dropout 1", r"--dropout expects a finite number in \[0, 1\), got 1"),
    ("--l1 -1", "--l1 expects"),
    ("--l2 -1", "--l2 expects"),
    ("--clip-norm 0", "--clip-norm expects a finite number greater than 0"),
    ("--seed -1", "--seed expects an integer of at least 0"),
    ("--layers 12,,3", r"--layers expects the hidden layers' widths, as in 128 or 512,512 \(or none\), got '12,,3'"),
    ("--layers 0", "--layers expects"),
    ("--layers 1.5", "--layers expects"),
    ("--layers wide", "--layers expects"),
    ("--activation rleu", "--activation does not know 'rleu'. Did you mean 'relu'?"),
    ("--optimizer adm", "--optimizer does not know 'adm'. Did you mean 'adam'?"),
    ("--schedule cosin", "Did you mean 'cosine'?"),
    ("--dtype float16", "--dtype does not know 'float16'"),
    ("--task clustering", "--task does not know 'clustering'"),
    ("--backend CPU", "backend does not know 'CPU'. Did you mean 'cpu'?"),
    ("--validation-split 1", r"--validation-split expects a finite number in \[0, 1\)"),
    ("--test-fraction -0.5", "--test-fraction expects"),
    ("--early-stopping 0 --validation-split 0.1", "--early-stopping expects an integer of at least 1"),
    ("--early-stopping 3", "add --validation-split 0.1"),
    ("--watch-port 8080", "--watch-port is where --watch serves its page: add --watch"),
    ("--data mnst-mini", "Unknown data set 'mnst-mini'. Did you mean 'mnist-mini'?"),
    ("--data missing.csv", "There is no file .*missing.csv"),
    ("--data digits --target 3", "--target is for files of your own; 'digits' has its own"),
    ("--data digits --header", "--header is for files of your own"),
    ("--epoch 3", "No such option: --epoch"),
    ("--data x.csv surplus", "surplus"),
]


class TestMistakes:
    @pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[arguments for arguments, _ in MISTAKES])
    def test_options(self, command: Command, tmp_path: Path, arguments: str, message: str) -> None:
        assert_mistake(command("train", *arguments.split(), "--out", "run"), message)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("a.parquet", "is no whole Parquet file"),
            ("A.XLSX", "is no whole .xlsx file"),
            ("a.csv.gz", "is no whole gzip file"),
            ("a.zip", "files are not read here. Unpack it first"),
        ],
    )
    def test_files_of_other_programs(self, command: Command, tmp_path: Path, name: str, message: str) -> None:
        (tmp_path / name).write_bytes(b"PAR1")
        assert_mistake(command("train", "--data", name), f"{name}: .*{message}")

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("a.parquet", "Write it as .csv, or .*open_parquet"),
            ("A.XLSX", "Save the table as .csv"),
            ("a.csv.gz", "Unpack it first"),
        ],
    )
    def test_tables_as_numbers(self, tmp_path: Path, name: str, message: str) -> None:
        (tmp_path / name).write_bytes(b"PAR1")
        with pytest.raises(ValueError, match=f"{name}: .*{message}"):
            read_features(tmp_path / name)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "the file is empty"),
            ("a,b,y\n1,2,0\n1,2,1\n", r"2 of them occur only once: these are hardly classes\."),
            ("a,b,y\n1,2,0\n1,2\n1,2,3,4\n", "has 3 columns, but not in all lines: line 3 has 2; line 4 has 4"),
            ("a,b,y\n1,2,0\n", "the target 'y' has only one value, '0'"),
            ("a,b,y\n1,2,cat\nx,2,cat\n", "the target 'y' has only one value, 'cat'"),
            ("a,b,y\n1,2,\n3,4,\n", "the target 'y' has no values"),
            ("a,b,y\n" + 9 * "1,2,0\n1,2,1\n", "no column that can be an input .*'a' is constant .always 1."),
            ("a,b,y\n", "has a header but no rows"),
        ],
    )
    def test_malformed_csv(self, command: Command, tmp_path: Path, content: str, message: str) -> None:
        (tmp_path / "bad.csv").write_text(content, encoding="utf-8")
        assert_mistake(command("train", "--data", "bad.csv", "--out", "run"), message)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("X", "y", "message"),
        [
            (np.zeros((4, 2)), np.array([0, 1, 0]), "3 targets for 4 samples"),
            (np.array([[1.0, np.nan], [0, 1]]), np.array([0, 1]), "expected a finite number"),
            (np.array([[1j, 0], [0, 1]]), np.array([0, 1]), "complex"),
            (np.zeros((0, 2)), np.zeros(0), "shape"),
            (np.zeros((3, 2)), np.array([0.5, np.inf, 1]), "finite"),
            (np.zeros(3), np.array([0, 1, 1]), "shape"),
        ],
    )
    def test_malformed_npz(self, command: Command, tmp_path: Path, X: Any, y: Any, message: str) -> None:
        np.savez(tmp_path / "bad.npz", X=X, y=y)
        assert_mistake(command("train", "--data", "bad.npz", "--out", "run"), message)
        assert not (tmp_path / "run").exists()

    def test_python_objects_are_not_loaded(self, command: Command, tmp_path: Path) -> None:
        np.savez(tmp_path / "bad.npz", X=np.array([[{}], [1]], dtype=object), y=np.array([0, 1]))
        assert_mistake(command("train", "--data", "bad.npz"), "holds Python objects")

    def test_class_labels_that_are_no_whole_numbers(self, command: Command, tmp_path: Path) -> None:
        np.savez(tmp_path / "bad.npz", X=np.zeros((4, 2)), y=np.array([0, 1, 0.5, 1]))
        assert_mistake(command("train", "--data", "bad.npz", "--task", "classification"), "whole number")

    def test_a_validation_part_without_samples(self, command: Command, tmp_path: Path) -> None:
        iris_like(tmp_path / "trees.csv", n=12)
        output = command("train", "--data", "trees.csv", "--validation-split", 0.01, "--out", "run")
        assert_mistake(output, "--validation-split 0.01 of .* samples leaves")

    def test_out_is_a_file(self, command: Command, tmp_path: Path) -> None:
        (tmp_path / "run").write_text("mine", encoding="utf-8")
        assert_mistake(command("train", "--data", "digits", "--out", "run", *QUICK), "expects a folder")
        assert (tmp_path / "run").read_text(encoding="utf-8") == "mine"

    def test_out_is_no_folder(self, command: Command, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("nowhere")
        (tmp_path / "run" / "run.json").mkdir(parents=True)
        (tmp_path / "run" / "run.json" / "mine").touch()
        for out, message in (
            ("", "--out expects a folder, got ''"),
            (tmp_path / "link", "link is a link to nowhere, which is not there"),
            (tmp_path / "run", r"run\.json is a folder, and a file of that name is to be written. Move it away"),
        ):
            assert_mistake(command("train", "--data", "digits", "--epochs", 1, "--out", out), message)
        assert (tmp_path / "run" / "run.json" / "mine").exists()

    def test_out_below_a_file(self, command: Command, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert_mistake(command("train", "--data", "digits", "--out", "file/run", *QUICK), "file/run: Not a directory")

    def test_backend_variable(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FCNN_BACKEND", "gpu")
        assert_mistake(command("train", "--data", "digits", *QUICK), "variable FCNN_BACKEND does not know 'gpu'")

    def test_a_backend_that_is_not_to_be_had(self, command: Command) -> None:
        # device 99 exists nowhere: the machine fails, not the user
        assert_mistake(command("train", "--data", "digits", "--backend", "cupy:99", *QUICK), r"\w+: .+\.", code=1)

    def test_no_memory(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(options: TrainOptions) -> int:
            raise MemoryError("Unable to allocate 9 TiB")

        monkeypatch.setattr(_run, "run_training", fail)
        assert_mistake(command("train"), "Not enough memory. Unable to allocate 9 TiB", code=1)

    def test_a_bug_keeps_its_traceback(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(options: TrainOptions) -> int:
            raise KeyError("a bug")

        monkeypatch.setattr(_run, "run_training", fail)
        with pytest.raises(KeyError, match="a bug"):
            command("train")

    def test_traceback_on_request(self, command: Command) -> None:
        code, _, err = command("--traceback", "train", "--epochs", 0)
        assert code == 2
        assert err.startswith("Traceback")
        assert err.endswith("got 0.\n")

    def test_the_folder_of_a_run_is_no_data(self, command: Command, tmp_path: Path) -> None:
        run = tmp_path / "run"
        assert command("train", *QUICK, "--out", run)[0] == 0
        expected = rf"--data: {run} is a folder that train --out has made, with a model and no samples"
        assert_mistake(command("train", "--data", run), expected)
        assert_mistake(command("evaluate", run, "--data", run), expected)

    def test_unknown_command(self, command: Command) -> None:
        assert_mistake(command("trian"), r"No such command: trian\. Did you mean fcnn-gpu train\?$")

    @pytest.mark.parametrize("name", ["evaluate", "predict"])
    def test_missing_argument(self, command: Command, name: str) -> None:
        assert_mistake(command(name), f"{name} needs MODEL: A model file, or the folder .*fcnn-gpu {name} --help")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "There is no model file"),
            (b"", "damaged or no safetensors"),
            (b"hello" * 100, "no model of fcnn_gpu's: it is text"),
        ],
    )
    def test_model_files(self, command: Command, tmp_path: Path, content: bytes | None, message: str) -> None:
        if content is not None:
            (tmp_path / "m.safetensors").write_bytes(content)
        assert_mistake(command("evaluate", "m.safetensors", "--data", "digits"), message)
        assert_mistake(command("predict", "m.safetensors", "x.npy"), message)


class TestMistakesWithAModel:
    @pytest.fixture
    def model(self, command: Command) -> str:
        command("train", "--data", "digits", *QUICK, "--epochs", 1, "--out", "run")
        return "run/model.safetensors"

    def test_a_truncated_model(self, command: Command, model: str, tmp_path: Path) -> None:
        content = (tmp_path / model).read_bytes()
        (tmp_path / model).write_bytes(content[: len(content) // 2])
        assert_mistake(command("evaluate", model), "damaged")

    def test_evaluate(self, command: Command, model: str, tmp_path: Path) -> None:
        assert_mistake(command("evaluate", model, "--part", "tset"), "Did you mean 'test'?")
        assert_mistake(command("evaluate", model, "--test-fraction", 2), "--test-fraction expects")
        assert_mistake(
            command("evaluate", model, "--data", "mnist-mini"), "mnist-mini has 784 features per sample, .* expects 64"
        )
        np.savez(tmp_path / "r.npz", X=np.zeros((9, 64)), y=np.linspace(0, 1, 9))
        assert_mistake(command("evaluate", model, "--data", "r.npz"), "expected a whole number or text as class label")
        np.savez(tmp_path / "c.npz", X=np.zeros((4, 64)), y=np.array([1, 2, 11, 1]))
        assert_mistake(command("evaluate", model, "--data", "c.npz"), "label '11' is not one of the classes")
        np.savez(tmp_path / "d.npz", X=np.zeros((4, 64)), y=np.array([1, 2, 3, 1]))
        no_part = command("evaluate", model, "--data", "d.npz", "--test-fraction", 0)
        assert_mistake(no_part, "d.npz has no test part. Evaluate on every sample with --part all")

    def test_a_data_set_of_another_task(self, command: Command, tmp_path: Path) -> None:
        for name, link in (("r", "mse"), ("c", "cross_entropy")):
            model = fcnn.Sequential([fcnn.Dense(3)], n_in=64, seed=0, backend="numpy")
            fcnn.Trainer(model, loss=link)
            model.save(tmp_path / f"{name}.safetensors")
        assert_mistake(
            command("evaluate", "r.safetensors", "--data", "digits"), "digits is a classification, .* does regression"
        )
        assert_mistake(command("evaluate", "c.safetensors", "--data", "digits"), "digits has 10 classes, .* knows 3")
        assert_mistake(command("predict", "r.safetensors", "x.npy", "--proba"), "--proba is for classes")

    def test_predict(self, command: Command, model: str, tmp_path: Path) -> None:
        assert_mistake(command("predict", model, "missing.npy"), "There is no file")
        np.save(tmp_path / "x.npy", np.zeros((3, 7)))
        assert_mistake(command("predict", model, "x.npy"), "7 features per sample, expected 64")
        np.savetxt(tmp_path / "x.csv", np.zeros((3, 65)), delimiter=",")
        assert_mistake(command("predict", model, "x.csv"), r"leave it out with --drop\.")
        assert_mistake(command("predict", model, "x.npy", "--drop", "a"), "--drop and --header are for CSV files")
        np.save(tmp_path / "ok.npy", np.zeros((3, 64)))
        assert_mistake(command("predict", model, "ok.npy", "--out", "no/where.csv"), "there is no folder no")
        for out, what in (("./ok.npy", "the input"), (model, "the model")):
            before = (tmp_path / out).read_bytes()
            assert_mistake(command("predict", model, "ok.npy", "--out", out), f"is {what}, which the predictions would")
            assert (tmp_path / out).read_bytes() == before

    def test_predict_images(self, command: Command, tmp_path: Path) -> None:
        command("train", *QUICK, "--epochs", 1, "--out", "run")
        images = tmp_path / "some-images-idx3-ubyte.gz"
        pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
        fcnn.datasets.write_idx(images, pixels)
        code, out, _ = command("predict", "run/model.safetensors", images)
        assert code == 0
        expected = fcnn.load("run/model.safetensors", backend="numpy").predict_classes(pixels.reshape(5, -1) / 255)
        assert out.splitlines() == ["label", *map(str, expected)]
