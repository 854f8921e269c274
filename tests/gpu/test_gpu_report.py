"""The command itself: what it runs, in which order and time, where it writes, and what it ends with."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_report
from benchmarks.gpu.catalogue import PARTS
from benchmarks.gpu.outcome import Outcome, Report
from benchmarks.gpu.plan import Part, Plan
from benchmarks.gpu.results import Fact, PytestRun


def two_facts(plan: Plan) -> Iterator[Fact]:
    yield Fact("seed", str(plan.seed))
    yield Fact("process", "another")


def fails(plan: Plan) -> Iterator[Fact]:
    yield Fact("before", "kept")
    raise RuntimeError("the device fell off the bus")


def hangs(plan: Plan) -> Iterator[Fact]:
    yield Fact("before", "kept")
    time.sleep(600)


def dies(plan: Plan) -> Iterator[Fact]:
    yield Fact("before", "kept")
    import os

    os._exit(3)


def failing_tests(plan: Plan) -> Iterator[PytestRun]:
    yield PytestRun("pytest", 1, 1.0, [], ["tests/test_a.py::test_x: assert False"], {})


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_report, "find_device", lambda number: ("NVIDIA H100 80GB HBM3", ""))


def with_parts(monkeypatch: pytest.MonkeyPatch, **measures: Any) -> None:
    parts = {name: Part(name, name.title(), 30.0, measure) for name, measure in measures.items()}
    monkeypatch.setattr(gpu_report, "PARTS", parts)


def test_no_gpu_is_one_line_and_status_two(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(gpu_report, "find_device", lambda number: ("", "driver: none. Install one."))
    assert gpu_report.main([]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "No report: driver: none. Install one.\n")


@pytest.mark.usefixtures("device")
def test_parts_run_in_processes_of_their_own_and_what_they_found_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_parts(monkeypatch, first=two_facts, second=fails, third=dies, last=two_facts)
    out = tmp_path / "report"
    assert gpu_report.main(["--out", str(out), "--seed", "7", "--quick", "--no-peers"]) == 1
    data = json.loads((out / "report.json").read_text(encoding="utf-8"))
    parts = {part["name"]: part for part in data["parts"]}
    assert parts["first"]["results"][0] == {"kind": "Fact", "name": "seed", "value": "7"}
    assert parts["second"]["failure"] == "RuntimeError: the device fell off the bus"
    assert "Traceback" in parts["second"]["details"]
    assert parts["third"]["failure"] == "its process ended with exit status 3"
    assert [len(parts[name]["results"]) for name in parts] == [2, 1, 1, 2]
    assert data["command"] == "python benchmarks/gpu_report.py --seed 7 --quick --no-peers"
    assert data["plan"]["quick"]
    assert not data["plan"]["peers"]
    page = (out / "report.md").read_text(encoding="utf-8")
    assert page.startswith("# GPU report: NVIDIA H100 80GB HBM3")
    assert "Second: ended early, RuntimeError: the device fell off the bus" in page
    assert "ended early" in capsys.readouterr().err


@pytest.mark.usefixtures("device")
def test_a_part_that_hangs_is_ended_and_the_next_ones_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parts = [Part("slow", "Slow", 6.0, hangs), Part("next", "Next", 30.0, two_facts)]
    report = Report("2026-11-23 12:00", "command", "device", Plan())
    gpu_report.run_parts(report, parts, tmp_path, whole=True)
    slow, following = report.outcomes
    assert slow.failure == "not done within 6 s"
    assert [fact.value for fact in slow.results] == ["kept"]
    assert len(following.results) == 2


def test_a_whole_run_keeps_to_its_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: list[float] = []

    def run(part: Part, plan: Plan, seconds: float, told: Any) -> Outcome:
        given.append(seconds)
        return Outcome(part)

    clock = iter([0.0, 0.0, 100.0, 100.0, 462.0, 463.0, 463.0])
    monkeypatch.setattr(gpu_report, "run_part", run)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    report = Report("2026-11-23 12:00", "command", "device", Plan())
    parts = [Part("a", "A", 150.0, two_facts), Part("b", "B", 400.0, two_facts), Part("c", "C", 50.0, two_facts)]
    gpu_report.run_parts(report, parts, tmp_path, whole=True)
    assert given == [150.0, 365.0]
    assert "left no time" in report.outcomes[2].failure
    assert report.seconds == 463.0


@pytest.mark.usefixtures("device")
def test_a_failed_test_shows_in_the_exit_status(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_parts(monkeypatch, tests=failing_tests)
    assert gpu_report.main(["--only", "tests", "--out", str(tmp_path / "a")]) == 1
    with_parts(monkeypatch, tests=two_facts)
    assert gpu_report.main(["--only", "tests", "--out", str(tmp_path / "b")]) == 0


@pytest.mark.usefixtures("device")
def test_ctrl_c_keeps_what_there_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(part: Part, *arguments: Any) -> Outcome:
        if part.name == "second":
            raise KeyboardInterrupt
        return Outcome(part, 1.0, [Fact("a", "b")])

    with_parts(monkeypatch, first=two_facts, second=two_facts)
    monkeypatch.setattr(gpu_report, "run_part", interrupted)
    assert gpu_report.main(["--out", str(tmp_path)]) == 130
    assert "| a | b |" in (tmp_path / "report.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("device")
def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(SystemExit, match="2"):
        gpu_report.main(["--out", str(tmp_path)])
    assert "holds a report already" in capsys.readouterr().err
    report = Report("2026-11-23 12:00", "", "NVIDIA H100 80GB HBM3", Plan())
    names = []
    for _ in range(3):
        folder = gpu_report.free_folder(tmp_path, report)
        names.append(folder.name)
        folder.mkdir()
    base = "2026-11-23-nvidia-h100-80gb-hbm3"
    assert names == [base, f"{base}-2", f"{base}-3"]


def test_the_sanitizer_runs_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        gpu_report.main(["--sanitizer", "--only", "tests"])
    assert "by itself" in capsys.readouterr().err


def test_the_folder_is_no_part_of_the_command() -> None:
    assert gpu_report._without_folder(["--out", "x", "--quick", "--out=y"]) == ["--quick"]


def test_parts_can_be_sent_to_another_process() -> None:
    for part in PARTS.values():
        assert getattr(sys.modules[part.measure.__module__], part.measure.__name__) is part.measure


def test_the_methods_page_lists_every_part() -> None:
    page = (gpu_report.ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    section = page.partition("## A GPU in one command")[2].partition("How the numbers are made")[0]
    rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| `")]
    assert [row.strip("`") for row in rows] == list(PARTS)
