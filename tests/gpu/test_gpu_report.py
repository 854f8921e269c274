"""The command itself: what it runs, in which order and time, where it writes, and what it ends with."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_report
from benchmarks.gpu import setting
from benchmarks.gpu.catalogue import ALL, GROUP_SECONDS, GROUPS, PARTS, SANITIZER
from benchmarks.gpu.clocks import Load
from benchmarks.gpu.file import load
from benchmarks.gpu.outcome import UNFINISHED, Outcome, Report, Run
from benchmarks.gpu.plan import Part, Plan
from benchmarks.gpu.results import Compilation, Fact, Fault, PytestRun, TestFailure
from benchmarks.gpu.setting import NoDevice, Setting

H200 = Setting("NVIDIA H200", "GPU-1", "0000:01:00.0", "9.0", "0123456789ab", "", {"numpy": "2.5.2"})
SOFTWARE = dataclasses.replace(H200, device="Software CUDA device")


def two_facts(plan: Plan) -> Iterator[Fact]:
    yield Fact("seed", str(plan.seed))
    yield Fact("seconds", f"{plan.seconds:.0f}")


def fails(plan: Plan) -> Iterator[Fact]:
    yield Fact("before", "kept")
    raise RuntimeError("the device fell off the bus")


def hangs(plan: Plan) -> Iterator[Fact]:
    yield Fact("before", "kept")
    time.sleep(600)


def dies(plan: Plan) -> Iterator[Fact]:
    yield Fact("before", "kept")
    os._exit(3)


def failing_tests(plan: Plan) -> Iterator[PytestRun]:
    yield PytestRun("pytest", 1, 1.0, [], [TestFailure("tests/test_a.py::test_x", "assert False")], {})


def no_test(plan: Plan) -> Iterator[PytestRun]:
    yield PytestRun("pytest", 0, 1.0, [], [], {})


def does_not_compile(plan: Plan) -> Iterator[Compilation]:
    yield Compilation(3, 1, 1.0, ["adam<float>: no"])


def a_fault(plan: Plan) -> Iterator[Fault]:
    yield Fault("adam in float32", "wrong numbers")


def on(monkeypatch: pytest.MonkeyPatch, found: Setting) -> None:
    monkeypatch.setattr(setting, "find", lambda number: found)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An H200, and the folder of all results, which is not the repository's."""
    on(monkeypatch, H200)
    monkeypatch.setattr(gpu_report, "ROOT", tmp_path)
    monkeypatch.setattr(gpu_report, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def with_parts(monkeypatch: pytest.MonkeyPatch, seconds: float = 60.0, **measures: Any) -> dict[str, Part]:
    parts = {name: Part(name, name.title(), seconds, measure) for name, measure in measures.items()}
    for module in ("benchmarks.gpu_report", "benchmarks.gpu.catalogue"):
        monkeypatch.setattr(f"{module}.PARTS", parts)
    for module in ("benchmarks.gpu_report", "benchmarks.gpu.page"):
        monkeypatch.setattr(f"{module}.ALL", parts)
    return parts


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """The parts of the last run by name."""
    data = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return {part["name"]: part for part in data["runs"][-1]["parts"]}


def test_no_gpu_is_one_line_and_status_two(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def find(number: int) -> Setting:
        raise NoDevice("driver: none. Install one.")

    monkeypatch.setattr(setting, "find", find)
    assert gpu_report.main([]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "No report: driver: none. Install one.\n")


def test_each_group_fits_the_time_for_which_machines_are_lent_and_every_part_is_in_one() -> None:
    assert {part for members in GROUPS.values() for part in members} == set(PARTS)
    assert GROUP_SECONDS <= 9 * 60
    for name, members in GROUPS.items():
        assert gpu_report.group_seconds(name) <= GROUP_SECONDS, name
        assert members[:2] == ("environment", "compilation"), "each may be on another machine"
        assert list(members) == [part for part in PARTS if part in members], "in the order of importance"
    assert list(PARTS)[:5] == ["environment", "compilation", "tests", "mnist", "peers"]
    assert gpu_report.limit([PARTS["tests"]]) + setting.START_SECONDS <= GROUP_SECONDS


def test_the_list_names_groups_parts_and_limits(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_report.main(["--list"]) == 0
    text = capsys.readouterr().out
    for name, members in GROUPS.items():
        assert f"{name}, at most {gpu_report._minutes(gpu_report.group_seconds(name))}:" in text
        for member in members:
            assert f"  {member:12} {PARTS[member].seconds:4.0f}  {PARTS[member].title}" in text
    assert setting.code_digest() in text


def test_parts_run_in_processes_of_their_own_and_what_they_found_is_written(
    device: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_parts(monkeypatch, first=two_facts, second=fails, third=dies, last=two_facts)
    out = tmp_path / "report"
    assert gpu_report.main(["--out", str(out), "--seed", "7", "--quick", "--no-peers"]) == 1
    parts = read(out)
    assert parts["first"]["results"][0] == {"kind": "Fact", "name": "seed", "value": "7"}
    assert parts["first"]["results"][1]["value"] == "60", "a part knows its own limit"
    assert parts["second"]["failure"] == "RuntimeError: the device fell off the bus"
    assert "Traceback" in parts["second"]["details"]
    assert parts["third"]["failure"] == "its process ended with exit status 3"
    assert [len(parts[name]["results"]) for name in parts] == [2, 1, 1, 2]
    assert all("NVML" in parts[name]["load"]["unknown"] for name in parts), "there is no driver here"
    run = json.loads((out / "report.json").read_text(encoding="utf-8"))["runs"][0]
    assert run["command"] == "python benchmarks/gpu_report.py --seed 7 --quick --no-peers"
    assert (run["plan"]["quick"], run["plan"]["peers"], run["ended"]) == (True, False, "")
    page = (out / "report.md").read_text(encoding="utf-8")
    assert page.startswith("# GPU report: NVIDIA H200")
    assert "Second: ended early after" in page
    assert "RuntimeError: the device fell off the bus" in page
    assert "under load are not known: NVML does not load" in page
    assert "ended early" in capsys.readouterr().err


def test_a_part_that_hangs_is_ended_and_the_next_ones_run(
    device: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parts = with_parts(monkeypatch, slow=hangs, next=two_facts)
    monkeypatch.setattr(gpu_report, "_LEAST_SECONDS", 1.0)
    for seconds in (2, 12):  # a busy machine may not begin within the first
        monkeypatch.setitem(parts, "slow", dataclasses.replace(parts["slow"], seconds=float(seconds)))
        assert gpu_report.main(["--out", str(tmp_path / "r")]) == 1
        found = read(tmp_path / "r")
        assert found["slow"]["failure"] == f"not done within {seconds} s"
        if found["slow"]["results"]:
            break
    assert [fact["value"] for fact in found["slow"]["results"]] == ["kept"]
    assert len(found["next"]["results"]) == 2


def counted(given: list[float]) -> Callable[..., None]:
    def run(outcome: Outcome, plan: Plan, pci_bus_id: str, seconds: float, told: Any) -> None:
        given.append(seconds)

    return run


def test_within_is_kept_and_the_last_parts_get_what_is_left(
    device: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[float] = []
    with_parts(monkeypatch, a=two_facts, b=two_facts, c=two_facts)
    clock = iter([0.0, 0.0, 10.0, 20.0, 60.0, 70.0, 95.5, *[96.0] * 9])
    monkeypatch.setattr(gpu_report, "run_part", counted(given))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert gpu_report.main(["--within", "100", "--out", str(tmp_path / "r")]) == 1
    assert given == [60.0, 40.0]
    assert "left no time" in read(tmp_path / "r")["c"]["failure"]


def test_a_part_that_is_named_alone_gets_nine_minutes_less_the_look_at_the_device(
    device: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[float] = []
    with_parts(monkeypatch, a=two_facts, b=two_facts)
    monkeypatch.setattr(gpu_report, "run_part", counted(given))
    assert gpu_report.main(["--only", "a", "--out", str(tmp_path / "r")]) == 0
    assert given == [pytest.approx(GROUP_SECONDS - setting.START_SECONDS, abs=2.0)]


@pytest.mark.parametrize(
    ("measure", "status", "said"),
    [
        (failing_tests, 1, "1 tests failed"),
        (no_test, 1, "no test passed: none ran"),
        (does_not_compile, 1, "1 kernel instances do not compile"),
        (a_fault, 1, "adam in float32: wrong numbers"),
        (two_facts, 0, ""),
    ],
)
def test_what_went_wrong_shows_in_the_exit_status_and_at_the_top_of_the_page(
    device: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, measure: Any, status: int, said: str
) -> None:
    parts = with_parts(monkeypatch, tests=measure)
    monkeypatch.setattr(gpu_report, "run_part", in_this_process)
    assert gpu_report.main(["--only", "tests", "--out", str(tmp_path)]) == status
    in_short = (tmp_path / "report.md").read_text(encoding="utf-8").partition("\n## Tests")[0]
    assert said in in_short
    assert parts


def in_this_process(outcome: Outcome, plan: Plan, pci_bus_id: str, seconds: float, told: Any) -> None:
    outcome.failure = UNFINISHED
    told(None)
    for result in outcome.part.measure(plan):
        outcome.results.append(result)
        told(result)
    outcome.failure, outcome.load = "", Load(0, 0, unknown="not looked at")


def test_ctrl_c_keeps_what_there_is(device: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(outcome: Outcome, *arguments: Any) -> None:
        if outcome.part.name == "second":
            outcome.failure = UNFINISHED
            raise KeyboardInterrupt
        in_this_process(outcome, *arguments)

    with_parts(monkeypatch, first=two_facts, second=two_facts, third=two_facts)
    monkeypatch.setattr(gpu_report, "run_part", interrupted)
    assert gpu_report.main(["--out", str(tmp_path)]) == 130
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| seed | 0 |" in page
    assert "Run 1 did not come to its end: Ctrl-C ended it" in page
    assert "Run 1 did not begin: third." in page
    assert read(tmp_path)["second"]["failure"] == "Ctrl-C ended the run"


_COMMAND = """
import sys
from benchmarks import gpu_report
from benchmarks.gpu import catalogue
from tests.gpu import test_gpu_report as here
parts = {
    "first": gpu_report.Part("first", "First", 60, here.two_facts),
    "slow": gpu_report.Part("slow", "Slow", 60, here.hangs),
}
catalogue.PARTS = gpu_report.PARTS = gpu_report.ALL = parts
gpu_report.setting.find = lambda number: here.H200
sys.exit(gpu_report.main(["--out", sys.argv[1]]))
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_a_killed_run_leaves_a_whole_report_that_says_so(tmp_path: Path, number: signal.Signals, status: int) -> None:
    """Killed, it can say nothing any more: what it wrote before must be true then."""
    program = [sys.executable, "-c", _COMMAND, str(tmp_path)]
    process = subprocess.Popen(program, cwd=setting.ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "before" in line:
            break
    process.send_signal(number)
    process.stdout.close()
    assert process.wait(60) == status
    report = load(tmp_path, {name: Part(name, name, 1.0, two_facts) for name in ("first", "slow")})
    assert report is not None
    (run,) = report.runs
    assert len(run.outcomes[0].results) == 2
    assert run.outcomes[1].failure == (UNFINISHED if number == signal.SIGKILL else "SIGTERM ended the run")
    assert run.ended
    assert "Slow: ended early" in (tmp_path / "report.md").read_text(encoding="utf-8")


# Several runs


def test_runs_of_one_day_device_and_code_make_one_report(
    device: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_parts(monkeypatch, first=two_facts, second=two_facts)
    monkeypatch.setattr(gpu_report, "run_part", in_this_process)
    assert gpu_report.main(["--only", "second", "--seed", "5"]) == 0
    newer = dataclasses.replace(H200, uuid="GPU-2", versions={"numpy": "2.5.2", "torch": "2.11.0"})
    on(monkeypatch, newer)
    assert gpu_report.main(["--only", "first"]) == 0
    (folder,) = device.iterdir()
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert page.index("\n## First\n") < page.index("\n## Second\n")
    assert "Measured in run 2" in page.partition("\n## First\n")[2].partition("\n## Second\n")[0]
    assert "Measured in run 1" in page.partition("\n## Second\n")[2]
    assert "Run 1 was made on other software or another device: another NVIDIA H200 (GPU-1; here GPU-2)" in page
    assert "torch not there (here 2.11.0)" in page
    assert "--only second --seed 5" in page


@pytest.mark.parametrize(
    ("other", "options", "why"),
    [
        (dataclasses.replace(H200, code="ba9876543210"), [], "the code is 0123456789ab there and ba9876543210 here"),
        (dataclasses.replace(H200, device="NVIDIA H100"), [], "the device is NVIDIA H200 there and NVIDIA H100 here"),
        (H200, ["--quick"], "quick"),
    ],
)
def test_what_was_measured_on_something_else_stands_elsewhere(
    device: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    tmp_path: Path, other: Setting, options: list[str], why: str
) -> None:  # fmt: skip
    with_parts(monkeypatch, first=two_facts)
    monkeypatch.setattr(gpu_report, "run_part", in_this_process)
    assert gpu_report.main([]) == 0
    out = ["--out", str(tmp_path / "r")]
    assert gpu_report.main(out) == 0
    before = (tmp_path / "r" / "report.json").read_bytes()
    on(monkeypatch, other)
    assert gpu_report.main(options) == 0
    assert len(list(device.iterdir())) == 2, "a folder of its own"
    assert gpu_report.main([*out, *options]) == 2
    assert why in capsys.readouterr().err
    assert (tmp_path / "r" / "report.json").read_bytes() == before


def test_a_report_that_cannot_be_read_stays_as_it_is(
    device: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_parts(monkeypatch, first=two_facts)
    monkeypatch.setattr(gpu_report, "run_part", in_this_process)
    assert gpu_report.main([]) == 0
    (folder,) = device.iterdir()
    (folder / "report.json").write_text("{}")
    assert gpu_report.main([]) == 0
    assert {path.name for path in device.iterdir()} == {folder.name, f"{folder.name}-2"}
    assert (folder / "report.json").read_text() == "{}"
    assert gpu_report.main(["--out", str(folder)]) == 2
    assert "is no GPU report that can be read" in capsys.readouterr().err


def test_a_part_that_was_measured_again_shows_its_newest_outcome_and_the_last_whole_one() -> None:
    part = Part("first", "First", 1.0, two_facts)
    whole, newer, ended = (Outcome(part, created=str(i)) for i in range(3))
    ended.failure = "not done within 1 s"
    runs = [Run("2026-11-23 12:00", "command", H200, Plan(), ["first"], [outcome]) for outcome in (whole, newer, ended)]
    assert [outcome for _, outcome in Report(runs).shown()] == [newer, ended]
    assert [outcome for _, outcome in Report(runs[:2]).shown()] == [newer]


# A device of software


@pytest.mark.parametrize("out", [None, "results/here", "results"])
def test_nothing_of_a_software_device_goes_to_the_results(
    device: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, out: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    on(monkeypatch, SOFTWARE)
    with_parts(monkeypatch, first=two_facts)
    assert gpu_report.main([] if out is None else ["--out", str(tmp_path / out)]) == 2
    assert "is no result of a GPU" in capsys.readouterr().err
    assert not device.exists()


def test_the_page_says_that_a_device_is_software(device: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    on(monkeypatch, SOFTWARE)
    parts = with_parts(monkeypatch, first=two_facts)
    monkeypatch.setattr(gpu_report, "run_part", in_this_process)
    assert gpu_report.main(["--out", str(tmp_path / "r")]) == 0
    assert "nothing here says anything about a GPU" in (tmp_path / "r" / "report.md").read_text(encoding="utf-8")
    report = load(tmp_path / "r", parts)
    assert report is not None
    assert report.runs[0].plan.small


# The command's words


def test_the_sanitizer_runs_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        gpu_report.main(["--sanitizer", "--only", "tests"])
    assert "by itself" in capsys.readouterr().err


def test_the_folder_is_no_part_of_the_command() -> None:
    assert gpu_report._without_folder(["--out", "x", "--quick", "--out=y"]) == ["--quick"]


def test_parts_can_be_sent_to_another_process() -> None:
    for part in ALL.values():
        assert getattr(sys.modules[part.measure.__module__], part.measure.__name__) is part.measure
    assert SANITIZER.name in ALL


def test_the_methods_page_lists_every_part_and_group() -> None:
    page = (setting.ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    section = page.partition("## A GPU in one command")[2].partition("How the numbers are made")[0]
    rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| `")]
    assert [row.strip("`") for row in rows] == [*GROUPS, *PARTS]
    for name, members in GROUPS.items():
        (row,) = [line for line in section.splitlines() if line.startswith(f"| `{name}` |")]
        assert row.split("|")[2].strip() == ", ".join(f"`{member}`" for member in members)
