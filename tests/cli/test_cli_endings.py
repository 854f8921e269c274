"""However the command ends: a trained model is kept, a folder holds one run, and output fails for no character."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.cli import _output, _progress
from tests.support.cli_cases import CHECKOUT, QUICK, Command, assert_mistake
from tests.support.interrupted import POSIX

TRAIN = ("train", "--data", "digits", "--layers", "8", "--epochs", "2")
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ASCII, WINDOWS = {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "cp1252"}
NAMES = ["λ x", "[red]", "$^$ \\", "&_", ":smile:"]


def start(*arguments: object, cwd: Path, stdout: int | IO[Any] = subprocess.PIPE, **environment: str) -> Any:
    """`python -m fcnn_gpu` with this environment; its streams are bytes."""
    known = {name: value for name, value in os.environ.items() if name != "PYTHONIOENCODING"}
    environment = known | {"FCNN_BACKEND": "numpy", "PYTHONPATH": str(CHECKOUT)} | environment
    line = [sys.executable, "-m", "fcnn_gpu", *map(str, arguments)]
    return subprocess.Popen(line, stdout=stdout, stderr=subprocess.PIPE, env=environment, cwd=cwd)


def run(*arguments: object, cwd: Path, **options: Any) -> tuple[int, bytes, str]:
    process = start(*arguments, cwd=cwd, **options)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err.decode("utf-8", "replace")


def summary(folder: Path) -> tuple[int, int, str]:
    """(units of the hidden layer, epochs, what ended it) of a run, on which its model, history and run.json agree."""
    model = fcnn.load(folder / "model.safetensors", backend="numpy")
    told = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    n_epochs = len((folder / "history.csv").read_text(encoding="utf-8").splitlines()) - 1
    units = next(iter(model.walk())).n_out
    assert told["options"]["layers"] == str(units)
    assert told["epochs"] == max(n_epochs, 0)
    return units, told["epochs"], told["stopped_by"]


class TestStandardOutput:
    """It ends before the training does: which goes on, since there is a folder to keep its model in."""

    @POSIX
    def test_a_full_disk(self, tmp_path: Path) -> None:
        with open("/dev/full", "wb") as full:
            code, _, err = run(*TRAIN, "--out", "run", cwd=tmp_path, stdout=full)
        assert code == 1
        assert err == (
            "fcnn-gpu: error: standard output cannot be written: No space left on device. "
            "The trained model is in run/model.safetensors.\n"
        )
        assert summary(tmp_path / "run") == (8, 2, "epochs")

    def test_a_reader_that_has_seen_enough(self, tmp_path: Path) -> None:
        process = start(*TRAIN, "--out", "run", cwd=tmp_path)
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read().decode()
        process.stderr.close()
        assert process.wait(timeout=120) == 1
        said = "fcnn-gpu: error: the reader of standard output has gone. The trained model is in run/model.safetensors."
        assert err.splitlines() == [said]
        assert summary(tmp_path / "run") == (8, 2, "epochs")
        assert json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["test"]["n_samples"] == 359

    @POSIX
    @pytest.mark.parametrize("closed", ["1", "0,1,2"])
    def test_closed_from_the_start(self, tmp_path: Path, closed: str) -> None:
        code = f"import os, sys; [os.close(n) for n in ({closed},)]; os.execv(sys.argv[1], sys.argv[1:])"
        line = [sys.executable, "-c", code, sys.executable, "-m", "fcnn_gpu", *TRAIN, "--out", "run"]
        environment = os.environ | {"FCNN_BACKEND": "numpy", "PYTHONPATH": str(CHECKOUT)}
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert ("it is closed. The trained model is in run" in done.stderr) == (closed == "1")
        assert "Traceback" not in done.stderr
        assert summary(tmp_path / "run") == (8, 2, "epochs")

    @POSIX
    @pytest.mark.parametrize("arguments", [("--version",), ("train", "--help"), TRAIN])
    def test_what_only_prints_ends(self, tmp_path: Path, arguments: tuple[str, ...]) -> None:
        with open("/dev/full", "wb") as full:
            code, _, err = run(*arguments, cwd=tmp_path, stdout=full)
        assert (code, err) == (1, "fcnn-gpu: error: standard output cannot be written: No space left on device.\n")
        assert list(tmp_path.iterdir()) == []


class TestAfterTheTraining:
    """Whatever goes wrong when the network has been trained, it is in its folder, and the error says so."""

    @pytest.mark.parametrize(
        ("where", "error", "code", "said"),
        [
            ("evaluate_model", ValueError("X has NaN"), 2, "fcnn-gpu: error: X has NaN {}"),
            ("evaluate_model", KeyboardInterrupt(), 130, "{}\nfcnn-gpu: interrupted"),
            ("evaluate_model", MemoryError(), 1, "fcnn-gpu: error: Not enough memory. {}"),
            ("print_evaluation", OSError(5, "I/O"), 2, "fcnn-gpu: error: [Errno 5] I/O {}"),
            ("_report", KeyboardInterrupt(), 130, "{}\nfcnn-gpu: interrupted"),
        ],
    )
    def test_an_error(
        self,
        command: Command,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        where: str,
        error: Any,
        code: int,
        said: str,
    ) -> None:
        def fail(*_: Any) -> None:
            raise error

        monkeypatch.setattr(sys.modules["fcnn_gpu.cli._run"], where, fail)
        found, _, err = command(*TRAIN, "--no-progress", "--out", tmp_path / "run")
        assert found == code
        assert err == said.format(f"The trained model is in {tmp_path / 'run' / 'model.safetensors'}.") + "\n"
        assert summary(tmp_path / "run") == (8, 2, "epochs")

    @pytest.mark.parametrize("error", [RuntimeError("no font"), KeyError("x"), ImportError("no ft2font")])
    def test_a_picture_that_cannot_be_drawn(
        self, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        """The other one is drawn all the same."""

        def fail(*_: Any) -> None:
            raise error

        monkeypatch.setattr("fcnn_gpu.cli._trained.plot_history", fail)
        code, _, err = command(*TRAIN, "--no-progress", "--out", tmp_path / "run")
        assert code == 1
        assert err.startswith(f"fcnn-gpu: error: curves.png cannot be drawn: {type(error).__name__}: ")
        assert err.endswith(f"The trained model is in {tmp_path / 'run' / 'model.safetensors'}.\n")
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
            "confusion_matrix.png",
            "history.csv",
            "model.safetensors",
            "run.json",
            "training_rows.npy",
        ]

    def test_a_disk_without_room_for_a_second_run_leaves_the_first(
        self, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        command(*TRAIN, "--no-progress", "--out", tmp_path / "run")
        (tmp_path / "run" / "notes").write_text("mine")
        before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}

        def fail(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        code, _, err = command("train", "--data", "digits", *QUICK, "--out", tmp_path / "run", "--overwrite")
        assert code == 2
        assert err == f"fcnn-gpu: error: {tmp_path / 'run' / 'model.safetensors'}: No space left on device.\n"
        assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
        assert list(tmp_path.iterdir()) == [tmp_path / "run"]

    def test_another_run_that_has_taken_the_folder(
        self, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = sys.modules["fcnn_gpu.cli._run"]
        evaluate = module.evaluate_model

        def run_another(*arguments: Any) -> Any:
            monkeypatch.setattr(module, "evaluate_model", evaluate)
            command("train", "--data", "digits", *QUICK, "--out", tmp_path / "run", "--overwrite")
            return evaluate(*arguments)

        monkeypatch.setattr(module, "evaluate_model", run_another)
        code, _, err = command(*TRAIN, "--no-progress", "--out", tmp_path / "run")
        assert code == 2
        assert "Another run has written its model" in err
        assert summary(tmp_path / "run") == (16, 8, "epochs")


@POSIX
class TestInterrupts:
    def press(self, monkeypatch: pytest.MonkeyPatch, epoch: int, times: int = 1) -> None:
        def on_epoch_begin(log: Any, trainer: Any, number: int) -> None:
            if number == epoch:
                for _ in range(times):
                    os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(_progress.EpochLog, "on_epoch_begin", on_epoch_begin, raising=False)

    @pytest.mark.parametrize("times", [1, 2])
    def test_in_the_first_epoch_an_earlier_run_stays(
        self, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
    ) -> None:
        folder = tmp_path / "run"
        command("train", "--data", "digits", *QUICK, "--out", folder)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.press(monkeypatch, 1, times)
        code, out, err = command(*TRAIN, "--out", folder, "--overwrite")
        assert (code, err) == (130, "fcnn-gpu: interrupted\n")
        assert times == 2 or f"No epoch was done: the earlier run in {folder} stays as it was" in out
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

    def test_in_a_later_epoch_the_run_takes_its_place(
        self, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "run"
        command("train", "--data", "digits", *QUICK, "--out", folder)
        self.press(monkeypatch, 2)
        code, _, _ = command(*TRAIN, "--out", folder, "--overwrite")
        assert code == 130
        assert summary(folder) == (8, 1, "interrupt")

    def test_between_the_last_step_and_the_file(
        self, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keep = _output.RunFolder.keep

        def pressed(*arguments: Any) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            keep(*arguments)

        monkeypatch.setattr(_output.RunFolder, "keep", pressed)
        code, _, err = command(*TRAIN, "--out", tmp_path / "run")
        assert (code, err.splitlines()[-1]) == (130, "fcnn-gpu: interrupted")
        assert "The trained model is in" in err
        assert summary(tmp_path / "run") == (8, 2, "epochs")

    def test_before_there_is_anything_to_train(self, tmp_path: Path) -> None:
        process = start("train", "--epochs", 10**6, cwd=tmp_path, PYTHONUNBUFFERED="1")
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (130, b"fcnn-gpu: interrupted\n")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("characters")
    with open(folder / "data.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["α", "b", "c"], *([i % 5, i, NAMES[i % 5]] for i in range(60))])
    return folder


class TestCharacters:
    """What a stream lacks is written in other signs, and data is UTF-8 everywhere."""

    @pytest.mark.parametrize("environment", [C_LOCALE, WINDOWS], ids=["C", "cp1252"])
    def test_train_evaluate_and_predict(self, data: Path, environment: dict[str, str]) -> None:
        options = ("--data", "data.csv", "--layers", "8", "--epochs", "2", "--lr", "0.03")
        code, out, err = run("train", *options, "--out", "run", "--overwrite", cwd=data, **environment)
        assert (code, err) == (0, "")
        assert b"lambda x" in out
        assert all(name.encode() in out for name in NAMES[1:])
        code, out, err = run("evaluate", "run/model.safetensors", "--data", "data.csv", cwd=data, **environment)
        assert (code, err) == (0, "")
        assert b"lambda x" in out
        predict = ("predict", "run/model.safetensors", "data.csv", "--drop", "c", "--proba")
        code, out, err = run(*predict, cwd=data, **environment)
        assert (code, err) == (0, "")
        rows = list(csv.DictReader(io.StringIO(out.decode("utf-8"), newline="")))
        assert set(rows[0]) == {"label", *(f"p({name})" for name in NAMES)}
        assert {row["label"] for row in rows} <= set(NAMES)

    @pytest.mark.parametrize(
        ("arguments", "environment"), [("train --help", C_LOCALE), ("bench --help", WINDOWS), ("doctor", ASCII)]
    )
    def test_what_only_prints(self, tmp_path: Path, arguments: str, environment: dict[str, str]) -> None:
        code, out, err = run(*arguments.split(), cwd=tmp_path, **environment)
        assert (code, err) == (0, "")
        assert out.decode("cp1252" if environment is WINDOWS else "ascii")

    def test_a_program_of_ones_own(self, tmp_path: Path) -> None:
        code = """
import fcnn_gpu as fcnn
from fcnn_gpu import doctor
model = fcnn.Sequential([fcnn.Residual([fcnn.Dense(3)]), fcnn.Dense(2)], n_in=3)
model.summary()
doctor.print_report(doctor.Report([doctor.Link("λ", True, "β", "γ")], []))
try:
    print("×")
except UnicodeEncodeError:
    print("as before")
"""
        environment = os.environ | {"FCNN_BACKEND": "numpy", "PYTHONPATH": str(CHECKOUT)} | ASCII
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
        assert done.stderr == b""
        assert b"Residual (3 -> 3)" in done.stdout
        assert done.stdout.endswith(b"as before" + os.linesep.encode())

    def test_what_reports_say_is_in_characters_that_all_streams_have(self) -> None:
        """`print(report)` is the user's own, which nothing here can help."""
        model = fcnn.Sequential(
            [fcnn.Dense(4, l2=0.1), fcnn.Dropout(0.5), fcnn.Dense(2)], n_in=3, seed=0, backend="numpy"
        )
        X, y = np.eye(3, dtype=np.float32), [0, 1, 1]
        reports = [
            model.memory_report(32, data=(X, y), metrics=["accuracy"]),
            fcnn.gradient_check.check_layer(fcnn.Dense(2), n_in=3, backend="numpy"),
            fcnn.reproducibility.verify_reproducible(
                lambda: fcnn.Trainer(fcnn.Sequential([fcnn.Dense(2)], 3, seed=0, backend="numpy")), X, y, epochs=1
            ),
            fcnn.large_matrix.plan_chunked_matmul(X, X, activation="relu", backend="numpy"),
            fcnn.large_matrix.chunked_matmul(X, X, backend="numpy", return_report=True)[1],
        ]
        for report in reports:
            assert str(report).isascii(), report


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipes")
    model = fcnn.Sequential([fcnn.Dense(1)], n_in=2, seed=0, backend="numpy")
    fcnn.Trainer(model, loss="mse")
    model.save(folder / "model")
    np.save(folder / "X.npy", np.ones((2, 2)))
    return folder


@POSIX
class TestPipes:
    def test_predictions_go_into_what_is_open(self, command: Command, model: Path) -> None:
        code, out, err = run("predict", "model", "X.npy", "--out", "/dev/stdout", cwd=model)
        assert (code, err) == (0, "")
        assert (0, out.decode(), "") == command("predict", model / "model", model / "X.npy")

    def test_a_model_in_a_pipe(self, command: Command, model: Path, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        output = command("predict", tmp_path / "pipe", model / "X.npy")
        assert_mistake(output, "pipe is a pipe or a device, and a model file is read more than once")
