"""Reports as files, and runs that make them: what is measured, in which order, and what an early end leaves."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fcnn_gpu.backend import BackendError
from fcnn_gpu.bench import ceilings, crossover, epoch, machine, operations, rounds
from fcnn_gpu.bench import report as module
from fcnn_gpu.bench._json import ReportFileError
from fcnn_gpu.bench._render import to_markdown
from fcnn_gpu.bench._worker import WorkerError
from fcnn_gpu.bench.environment import Environment
from fcnn_gpu.bench.nets import Case, Net
from fcnn_gpu.bench.report import Benchmark, Listener, from_json, load, run, save, to_json, write
from fcnn_gpu.bench.results import Agreement, CaseResult, Report
from fcnn_gpu.bench.settings import Settings
from tests.bench import sample_report
from tests.bench.sample_report import CEILINGS, CPU, GPU


class TestFiles:
    def test_round_trip_is_exact(self, tmp_path: Path) -> None:
        report = sample_report.report()
        report.cases.append(sample_report.on_gpu(sample_report.case()))
        save(report, tmp_path / "report.json")
        assert load(tmp_path / "report.json") == report

    def test_awkward_numbers_survive(self) -> None:
        case = dataclasses.replace(
            sample_report.case(),
            agreements=[Agreement("JAX", "jit", math.inf, 1e-4)],
            flops=0.1 + 0.2,
            bytes=5e-324,
        )
        report = dataclasses.replace(sample_report.report(), cases=[case])
        text = to_json(report)
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        assert from_json(text) == report
        hollow = dataclasses.replace(report, cases=[dataclasses.replace(case, hollow_seconds=math.nan)])
        assert math.isnan(from_json(to_json(hollow)).cases[0].hollow_seconds)

    def test_fields_with_defaults_may_be_missing(self) -> None:
        plain = json.loads(to_json(sample_report.report()))
        del plain["interrupted"]
        del plain["cases"][0]["timings"][0]["transfer_seconds"]
        assert from_json(json.dumps(plain)) == sample_report.report()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda plain: plain["cases"][1].pop("net"), r"report\.cases\[1\] has no 'net'"),
            (lambda plain: plain.update(colour="red"), "report has 'colour', which nobody knows"),
            (lambda plain: plain["cases"][0].update(batch="32"), r"cases\[0\]\.batch expects int, got '32'"),
            (lambda plain: plain["cases"][0].update(batch=True), r"cases\[0\]\.batch expects int, got True"),
            (lambda plain: plain["cases"][0].update(flops="many"), r"flops expects float, got 'many'"),
            (lambda plain: plain["cases"][0].update(job="dream"), r"job expects 'train' or 'infer', got 'dream'"),
            (lambda plain: plain.update(epochs={}), r"epochs expects list, got \{\}"),
            (lambda plain: plain["ceilings"][0].update(copy_rates=[[1]]), r"copy_rates\[0\] expects tuple, got \[1\]"),
            (lambda plain: plain.update(operations=[3]), r"operations\[0\] expects an object"),
            (lambda plain: plain.update(version=2), "version 2, and this fcnn_gpu reads version 1.*wrote it, 0.1.0"),
            (lambda plain: plain.update(format="a model"), "does not say that it is one"),
        ],
    )
    def test_what_is_wrong_and_where(self, change: Callable[[Any], object], message: str) -> None:
        plain = json.loads(to_json(sample_report.report()))
        change(plain)
        with pytest.raises(ReportFileError, match=message):
            from_json(json.dumps(plain))

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff\xfe"])
    def test_files_that_are_no_reports(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(ReportFileError, match=r"x\.json is no benchmark report"):
            load(tmp_path / "x.json")

    def test_write_leaves_no_picture_of_another_run_and_touches_nothing_else(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        for name in ("ratios_gpu.png", "roofline_gpu_float16.png", "holiday.png", "notes.md"):
            (tmp_path / name).write_bytes(b"old")
        report = dataclasses.replace(sample_report.report(), operations=[], crossovers=[])
        written = write(report, tmp_path)
        assert written == ["report.json", "report.md", "ratios_cpu.png", "time_cpu.png"]
        assert {path.name for path in tmp_path.iterdir()} == {*written, "holiday.png", "notes.md"}
        assert "](ratios_cpu.png)" in (tmp_path / "report.md").read_text(encoding="utf-8")

    def test_write_without_matplotlib(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        assert write(sample_report.report(), tmp_path) == ["report.json", "report.md"]
        assert "Pictures" not in (tmp_path / "report.md").read_text(encoding="utf-8")


class Recorder(Listener):
    """Keeps what a listener is told."""

    def __init__(self) -> None:
        self.doings: list[tuple[str, int, int]] = []
        self.lines: list[str] = []

    def doing(self, what: str, done: int, total: int) -> None:
        self.doings.append((what, done, total))

    def found(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Every measuring function replaced by one that returns hand-made results; what they were called with, in order."""
    found: list[tuple[Any, ...]] = []

    def measure_apart(settings: Settings, backend: str) -> Any:
        found.append(("ceilings", backend))
        return CEILINGS if backend == "numpy" else dataclasses.replace(CEILINGS, device=GPU)

    def time_case(
        net: Net, batch: int, jobs: Any, backend: str, settings: Settings, *, ceilings: Any, progress: Any
    ) -> list[CaseResult]:
        found.append(("case", net.name, batch, jobs, backend, ceilings.device))
        progress("warming up")
        cases = [sample_report.case(net.name, batch, job) for job in jobs]
        return [sample_report.on_gpu(case) for case in cases] if backend != "numpy" else cases

    def results_of(kind: str, results: list[Any]) -> Callable[..., Iterator[Any]]:
        def generate(*args: Any, **options: Any) -> Iterator[Any]:
            found.append((kind, args, options))
            yield from results

        return generate

    def stream(measure: Callable[..., Iterator[Any]], *, settings: Settings, backend: str) -> Iterator[Any]:
        yield from measure()

    def environment(settings: Settings, backend: str) -> Environment:
        removed = {"OPENBLAS_CORETYPE": "Haswell"}
        return Environment({}, {}, removed, settings.threads or 3, None, ["a variable was taken out"])

    monkeypatch.setattr(ceilings, "measure_apart", measure_apart)
    monkeypatch.setattr(rounds, "time_case", time_case)
    monkeypatch.setattr(machine, "describe", lambda *asked: ({"cpu": "an abacus"}, {"numpy": "2.4.0"}))
    monkeypatch.setattr(machine, "notes", lambda found: [f"{found['cpu']} was busy"])
    monkeypatch.setattr(module, "worker_environment", environment)
    monkeypatch.setattr(module, "stream_apart", stream)
    monkeypatch.setattr(module, "backends_here", lambda: ("numpy",))
    monkeypatch.setattr(operations, "run", results_of("operations", sample_report.operations()[:2]))
    monkeypatch.setattr(epoch, "run", results_of("epoch", ["no MNIST here"]))
    monkeypatch.setattr(crossover, "run", results_of("crossover", sample_report.crossovers()))
    return found


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "auto" finds a GPU."""

    class There:
        def describe(self) -> str:
            return GPU

    monkeypatch.delenv("FCNN_BACKEND", raising=False)
    monkeypatch.setattr(module, "choose_backend", lambda wanted, who: (There(), "a CUDA device answers"))


CASES = (Case(Net((8, 4, 2)), 4), Case(Net((8, 2)), 16))


class TestRuns:
    def test_on_the_cpu_everything_but_the_crossover(self, calls: list[tuple[Any, ...]]) -> None:
        recorder = Recorder()
        benchmark = Benchmark(cases=CASES, backend="numpy", command="fcnn-gpu bench")
        report = benchmark.run(recorder)
        assert [call[0] for call in calls] == ["ceilings", "case", "case", "operations", "epoch"]
        assert calls[1] == ("case", "8-4-2", 4, ("train", "infer"), "numpy", CPU)
        assert [(case.net, case.batch, case.job) for case in report.cases] == [
            ("8-4-2", 4, "train"),
            ("8-4-2", 4, "infer"),
            ("8-2", 16, "train"),
            ("8-2", 16, "infer"),
        ]
        assert report.operations == [
            dataclasses.replace(operation, threads=3) for operation in sample_report.operations()[:2]
        ]
        assert (report.epochs, report.crossovers) == ([], [])
        assert report.ceilings == [dataclasses.replace(CEILINGS, threads=3)]
        assert (report.machine, report.versions["numpy"]) == ({"cpu": "an abacus"}, "2.4.0")
        assert report.settings["threads"] == 3
        assert report.settings["environment"]["removed"] == {"OPENBLAS_CORETYPE": "Haswell"}
        assert {"no MNIST here", "a variable was taken out", "an abacus was busy"} <= set(report.notes)
        assert any(note.startswith("No GPU took part: as --backend numpy says") for note in report.notes)
        assert not report.interrupted
        assert from_json(to_json(report)) == report
        assert recorder.doings[0] == ("looking at the machine", 0, 6)
        assert ("8-4-2, batch 4", 2, 6) in recorder.doings
        assert ("warming up", 2, 6) in recorder.doings
        assert len(recorder.lines) == 1 + 4 + 2 + 1
        assert recorder.lines[-1] == "no MNIST here"

    def test_the_options_reach_what_is_measured(self, calls: list[tuple[Any, ...]]) -> None:
        settings = Settings(seed=5, libraries=("jax",), dtype="float64", rounds=4)
        Benchmark(["epoch", "operations"], settings, backend="numpy", quick=True).run()
        [_, (_, _, epochs), (_, measured, options)] = calls
        assert epochs == {"backend": "numpy", "seed": 5, "rounds": 2}
        assert options["dtypes"] == ("float64",)
        assert options["quick"] is True
        assert options["peers"] is False, "operations are compared with PyTorch alone"
        assert [held.dtype for held in measured[0]] == ["float64"]

    def test_both_backends_for_the_cpu(self, calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "backends_here", lambda: ("numpy", "cpu"))
        Benchmark(["nets", "epoch"], cases=CASES[:1], backend="cpu").run()
        assert calls[:2] == [("ceilings", "numpy"), ("ceilings", "cpu")]
        assert [call[:2] for call in calls[2:3]] == [("case", "8-4-2")], "a contest has both as variants"
        assert [call[2]["backend"] for call in calls[3:]] == ["numpy", "cpu"]

    def test_several_numbers_of_threads(self, calls: list[tuple[Any, ...]]) -> None:
        recorder = Recorder()
        benchmark = Benchmark(["nets", "operations"], cases=CASES[:1], backend="numpy", threads=(2, 1, 2))
        report = benchmark.run(recorder)
        assert [call[0] for call in calls] == ["ceilings"] * 2 + ["case"] * 2 + ["operations"] * 2
        assert [ceiling.threads for ceiling in report.ceilings] == [1, 2]
        assert [operation.threads for operation in report.operations] == [1, 1, 2, 2]
        assert report.settings["threads"] == [1, 2]
        assert [one["threads"] for one in report.settings["environment"]] == [1, 2]
        assert [what for what, _, _ in recorder.doings if what.startswith("8-4-2")] == [
            "8-4-2, batch 4, numpy, 1 thread",
            "8-4-2, batch 4, numpy, 2 threads",
        ]
        assert from_json(to_json(report)) == report
        assert "workers: removed, 1 thread" in to_markdown(report)

    def test_with_a_gpu_every_section_on_both(self, calls: list[tuple[Any, ...]], with_gpu: None) -> None:
        report = run(None, cases=CASES[:1], jobs=["train"])
        kinds = [(call[0], call[4] if call[0] == "case" else None) for call in calls]
        assert kinds[:4] == [("ceilings", None), ("ceilings", None), ("case", "numpy"), ("case", "cupy")]
        assert [call[0] for call in calls[4:]] == ["operations", "operations", "epoch", "epoch", "crossover"]
        assert calls[3][5] == GPU, "the ceilings are the same device's"
        assert calls[5][2]["dtypes"] == ("float32", "tf32", "bfloat16", "float16")
        assert [held.device for held in calls[5][1][0]] == [GPU] * 4
        assert calls[8][2] == {"gpu_backend": "cupy", "seed": 0}
        assert len(report.crossovers) == 2
        assert [case.device for case in report.cases] == [CPU, GPU]
        assert not any("No GPU" in note for note in report.notes)

    def test_one_gpu_by_name_leaves_the_cpu_out(self, calls: list[tuple[Any, ...]], with_gpu: None) -> None:
        benchmark = Benchmark(cases=CASES[:1], backend="cupy:1")
        assert benchmark.backends == ("cupy:1",)
        assert benchmark.sections == ("nets", "operations", "epoch")

    def test_ctrl_c_keeps_what_was_measured(self, calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
        def two_then_interrupt(*args: Any, **options: Any) -> Iterator[Any]:
            yield from sample_report.operations()[:2]
            raise KeyboardInterrupt

        monkeypatch.setattr(operations, "run", two_then_interrupt)
        benchmark = Benchmark(cases=CASES[:1], backend="numpy")
        with pytest.raises(KeyboardInterrupt):
            benchmark.run()
        assert benchmark.report.interrupted
        assert (len(benchmark.report.cases), len(benchmark.report.operations)) == (2, 2)

    def test_an_error_keeps_what_was_measured(self, calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*args: Any, **options: Any) -> Iterator[Any]:
            raise WorkerError("epoch.run", "its process died")
            yield

        monkeypatch.setattr(epoch, "run", broken)
        benchmark = Benchmark(cases=CASES[:1], backend="numpy")
        with pytest.raises(WorkerError, match="its process died"):
            benchmark.run()
        assert len(benchmark.report.operations) == 2
        assert not benchmark.report.interrupted

    def test_a_stream_is_closed_when_it_is_left_early(self, calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
        closed = []

        def stream(measure: Any, *, settings: Settings, backend: str) -> Iterator[Any]:
            try:
                yield sample_report.operations()[0]
                pytest.fail("nobody asks for a second")
            finally:
                closed.append(True)

        class Stopping(Recorder):
            def found(self, line: str) -> None:
                if line.startswith("matrix product"):
                    raise KeyboardInterrupt

        monkeypatch.setattr(module, "stream_apart", stream)
        with pytest.raises(KeyboardInterrupt):
            Benchmark(["operations"], backend="numpy").run(Stopping())
        assert closed == [True]


class TestMistakes:
    def test_unknown_names(self) -> None:
        with pytest.raises(ValueError, match=r"does not know 'net'\. Did you mean 'nets'"):
            Benchmark(["net"])
        with pytest.raises(ValueError, match=r"--job does not know 'training'\. Did you mean 'train'"):
            Benchmark(jobs=["training"])
        with pytest.raises(ValueError, match=r"--backend does not know 'gpu'\. Did you mean 'cupy'"):
            Benchmark(backend="gpu")

    def test_a_number_of_threads(self) -> None:
        with pytest.raises(ValueError, match="--threads expects an integer of at least 1, got 0"):
            Benchmark(backend="numpy", threads=(1, 0))

    def test_a_crossover_needs_both_devices(self) -> None:
        with pytest.raises(BackendError, match=r"crossover compares a CPU with a GPU.*as --backend numpy says"):
            Benchmark(["crossover"], backend="numpy")


def test_a_report_is_dated_and_knows_its_command() -> None:
    report: Report = Benchmark(["nets"], backend="numpy", command="fcnn-gpu bench nets").report
    assert report.created.endswith("+00:00")
    assert report.command == "fcnn-gpu bench nets"
