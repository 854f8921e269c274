"""`fcnn-gpu bench`: a tiny real run, saved reports, mistakes and Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.bench import ceilings
from fcnn_gpu.bench._worker import WorkerError
from fcnn_gpu.bench.nets import STANDARD_CASES, Case, Net
from fcnn_gpu.bench.report import Benchmark, load, save
from fcnn_gpu.bench.results import Ceilings
from fcnn_gpu.bench.settings import PEERS, Settings
from fcnn_gpu.cli._bench_options import make_cases, make_settings
from tests.bench import sample_report
from tests.support.cli_cases import Command, assert_mistake, spawn

TINY = ("nets", "--net", "8-4-3", "--batch", 4, "--against", "none", "--quick", "--rounds", 2)


def options(**given: Any) -> Any:
    """The settings that these options of the command line make."""
    defaults: dict[str, Any] = {
        "against": None,
        "rounds": None,
        "seed": 0,
        "instructions": "native",
        "dtype": "float32",
        "compile": False,
        "keep_environment": False,
        "timeout": 300.0,
        "quick": False,
    }
    return make_settings(**(defaults | given))


def small_ceilings(settings: Settings, backend: str) -> Ceilings:
    return ceilings.measure(Ops(), settings.dtype, 0.01, products=(64,), copies=(2**14,))


class TestTinyRun:
    def test_tables_files_and_progress(self, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ceilings, "measure_apart", small_ceilings)
        code, out, err = command("bench", *TINY, "--dropout", 0.5, "--batch-norm", "--seed", 7, "--out", "found")
        assert code == 0
        asked = "nets --quick --net 8-4-3 --batch 4 --dropout 0.5 --batch-norm --seed 7 --against none --rounds 2"
        assert f"by: fcnn-gpu bench {asked} Note" in " ".join(out.split())
        assert "8-4-3, batch norm, dropout 0.5, 4" in " ".join(out.split())
        assert "samples per second" in " ".join(out.split())
        assert out.rstrip().splitlines()[-1].startswith("Written to found: report.json, report.md")
        assert re.search(r"^ceilings of CPU", err, re.M)
        assert re.search(r"^training step 8-4-3, batch norm, dropout 0.5, 4, \d threads?: .*, bound by \w+$", err, re.M)
        assert re.search(r"^inference 8-4-3, batch norm, dropout 0.5, 4, \d threads?: ", err, re.M)
        report = load(tmp_path / "found" / "report.json")
        assert [(case.job, case.batch, len(case.ours.seconds)) for case in report.cases] == [
            ("train", 4, 2),
            ("infer", 4, 2),
        ]
        assert report.settings["seed"] == 7
        assert report.command == f"fcnn-gpu bench {asked}"
        assert not report.interrupted

    def test_json(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ceilings, "measure_apart", small_ceilings)
        code, out, err = command("bench", *TINY, "--job", "infer", "--threads", 1, "--threads", 1, "--json")
        assert code == 0
        report = json.loads(out)
        assert [(case["job"], case["threads"]) for case in report["cases"]] == [("infer", 1)]
        assert report["command"].endswith("--threads 1 --threads 1 --rounds 2")
        assert "inference 8-4-3, 4, 1 thread" in err


class TestShow:
    @pytest.fixture
    def saved(self, tmp_path: Path) -> Path:
        save(sample_report.report(), tmp_path / "report.json")
        return tmp_path / "report.json"

    def test_tables(self, saved: Path, command: Command) -> None:
        code, out, err = command("bench", "--show", saved)
        assert (code, err) == (0, "")
        assert "784-2048-2048-10, 512" in out
        assert "Below batch 17 the CPU is faster." in out

    def test_markdown(self, saved: Path, command: Command) -> None:
        _, out, _ = command("bench", "--show", saved, "--markdown")
        assert out.startswith("# Benchmark of fcnn_gpu, 2026-11-23\n")
        assert "| 784-128-10, 128 | **598 k** |" in out

    def test_json_and_a_new_folder(self, saved: Path, command: Command, tmp_path: Path) -> None:
        code, out, err = command("bench", "--show", saved, "--json", "--out", "again")
        assert code == 0
        assert json.loads(out) == json.loads(saved.read_text(encoding="utf-8"))
        assert err.startswith("Written to again: report.json, report.md")
        assert load(tmp_path / "again" / "report.json") == sample_report.report()
        again = ("bench", "--show", saved, "--out", "again")
        assert_mistake(command(*again), r"--out: again holds report\.json\. Choose another folder, or say --overwrite")
        assert "Output: again holds report.json, which this one replaces" in command(*again, "--overwrite")[2]
        assert command("bench", "--show", "again/report.json", "--out", "again")[0] == 0

    def test_nothing_else_can_be_asked_of_it(self, saved: Path, command: Command) -> None:
        assert_mistake(command("bench", "--show", saved, "--rounds", 3), "--rounds would need a new run")
        assert_mistake(command("bench", "nets", "--show", saved), "a section would need a new run")
        assert_mistake(command("bench", "--show", "none.json"), r"none\.json: No such file")
        saved.write_text("{}", encoding="utf-8")
        assert_mistake(command("bench", "--show", saved), "is no benchmark report that can be read")


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("nest",), "does not know 'nest'. Did you mean 'nets'"),
            (("--against", "tensorflow"), "unknown library 'tensorflow'; known: torch, jax, sklearn"),
            (("--against", "torch,none"), "--against none stands alone"),
            (("--net", "784x10"), "widths joined by '-'"),
            (("--net", "784-10", "--batch", 0), "--batch expects an integer of at least 1, got 0"),
            (("--dropout", 0.5), "--dropout and --batch-norm go with --net"),
            (("--net", "8-4-2", "--dropout", 1), "--dropout expects"),
            (("--job", "trian"), "--job does not know 'trian'. Did you mean 'train'"),
            (("--instructions", "sse"), "--instructions does not know 'sse'"),
            (("--threads", 0), "--threads expects an integer of at least 1"),
            (("--rounds", 0), "--rounds expects an integer of at least 1"),
            (("--seed", -1), "--seed expects an integer of at least 0"),
            (("--dtype", "float16"), "--dtype does not know 'float16'"),
            (("--timeout", 0), "--timeout expects a finite number greater than 0"),
            (("--json", "--markdown"), "give one of them"),
            (("--backend", "gpu"), "--backend does not know 'gpu'. Did you mean 'cupy'"),
        ],
    )
    def test_before_anything_is_measured(self, arguments: tuple[Any, ...], message: str, command: Command) -> None:
        assert_mistake(command("bench", *arguments), message)

    def test_crossover_without_a_gpu(self, command: Command) -> None:
        assert_mistake(command("bench", "crossover"), "FCNN_BACKEND=numpy", code=1)

    def test_more_threads_than_the_machine_has(self, command: Command) -> None:
        assert_mistake(command("bench", *TINY, "--threads", 100_000), "threads=100000 exceeds the")

    def test_out_is_a_file(self, command: Command, tmp_path: Path) -> None:
        (tmp_path / "taken").write_text("")
        assert_mistake(command("bench", *TINY, "--out", "taken"), "expects a folder")


class TestOptions:
    def test_cases(self) -> None:
        assert make_cases(None, None, 0.0, False) == STANDARD_CASES
        both = make_cases(["8-4-2", "8-2"], [16, 32], 0.0, False)
        assert [(case.net.widths, case.batch) for case in both] == [
            ((8, 4, 2), 16),
            ((8, 4, 2), 32),
            ((8, 2), 16),
            ((8, 2), 32),
        ]
        assert make_cases(["8-4-2"], None, 0.25, True) == (Case(Net((8, 4, 2), batch_norm=True, dropout=0.25), 128),)
        assert make_cases(["8-4-2, dropout 0.5"], [4], 0.0, False)[0].net.dropout == 0.5
        assert {case.batch for case in make_cases(None, [7], 0.0, False)} == {7}
        assert len(make_cases(None, [7], 0.0, False)) == len({case.net for case in STANDARD_CASES})

    def test_settings(self) -> None:
        assert options().libraries == PEERS
        assert options(against="JAX, torch").libraries == ("jax", "torch")
        assert options(against="none").libraries == ()
        assert options().rounds == 15
        assert options(quick=True).rounds == 5
        assert options(quick=True).round_seconds < options().round_seconds
        assert options(quick=True, rounds=9).rounds == 9

    def test_the_help_names_every_section(self, command: Command) -> None:
        code, out, err = command("bench", "--help")
        assert (code, err) == (0, "")
        for name in ("nets:", "operations:", "epoch:", "crossover:", "--against", "--show", "--instructions"):
            assert name in out


class TestEndings:
    @pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C reaches a process otherwise there")
    def test_ctrl_c_prints_and_writes_what_was_measured(self, tmp_path: Path) -> None:
        process = spawn("bench", *TINY[:-1], 2000, "--net", "8-4-2", "--out", tmp_path / "found")
        assert process.stderr is not None
        while not (line := process.stderr.readline()).startswith("ceilings"):
            assert line, process.communicate()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert err.endswith("fcnn-gpu: interrupted\n")
        assert "Traceback" not in err
        assert "Interrupted by Ctrl-C" in out
        report = load(tmp_path / "found" / "report.json")
        assert report.interrupted
        assert len(report.ceilings) == 1

    def test_on_a_terminal_a_bar_says_what_is_being_done(
        self, command: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def run(self: Any, listener: Any) -> None:
            listener.doing("training, round [3] of 5", 2, 7)
            listener.found("a result [in brackets]")
            raise KeyboardInterrupt

        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setattr(Benchmark, "run", run)
        code, out, err = command("bench", *TINY)
        assert code == 130
        plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", err)
        assert "2/7" in plain
        assert "training, round [3] of 5" in plain
        assert "a result [in brackets]\n" in plain
        assert err.endswith("fcnn-gpu: interrupted\n")
        assert "How this was measured" in out

    def test_an_error_writes_what_was_measured(
        self, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def run(self: Any, listener: Any) -> None:
            self.report.cases.append(sample_report.case())
            raise WorkerError("fcnn_gpu", "its process ended with signal SIGKILL", "details\nof many lines")

        monkeypatch.setattr(Benchmark, "run", run)
        output = command("bench", *TINY, "--out", "found")
        assert_mistake(output, "fcnn_gpu: its process ended with signal SIGKILL$", code=1)
        assert output[1] == "", "half a report is not printed as if it were whole"
        assert len(load(tmp_path / "found" / "report.json").cases) == 1
