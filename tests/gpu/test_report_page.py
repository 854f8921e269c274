"""The page and the file of a GPU report, and the targets at the top of the page."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.gpu.catalogue import ALL, PARTS
from benchmarks.gpu.file import from_json, to_json
from benchmarks.gpu.goals import targets_table
from benchmarks.gpu.page import to_markdown
from benchmarks.gpu.results import (
    Compilation,
    Fit,
    PytestRun,
    TestFailure,
)
from fcnn_gpu.bench._json import ReportFileError
from fcnn_gpu.bench.results import Crossover, CrossoverPoint
from tests.gpu.report_cases import outcome, whole_report


def test_targets() -> None:
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in targets_table(whole_report().runs[0].outcomes).rows}
    assert rows["pytest -m gpu"][-1] == "not met"  # nothing passed
    best = rows["784-128-10, 128, float32: training against the best peer"]
    assert best[0] == "≥ 2×"
    assert best[1].startswith("1.50× (1.50–1.50; PyTorch CUDA graph); without steps captured by hand 4.00× (JAX jit)")
    assert best[2] == "not met"
    assert rows["784-128-10, 128, float32: training against PyTorch's eager mode"][2] == "met"
    assert rows["784-4096-4096-10, 8192, tf32: training against the best peer"] == ["≥ 1×", "—", "not measured"]
    assert rows["784-4096-4096-10, 8192, tf32: share of a large product's FLOP/s"][1:] == ["100%", "met"]
    assert rows["full MNIST, 784-128-10, 10 epochs"][-1] == "met"
    assert rows["passes over large arrays: share of the copy bandwidth"][1].startswith("0 of 1; the least 77%")
    product = rows["products of matrices in host memory: share of the slower ceiling"]
    assert product == ["≥ 85%", "the least 60% (float32, 5 × 4 × 3)", "not met"]


def test_targets_of_nothing() -> None:
    assert {row[-1].text for row in targets_table([]).rows} == {"not measured"}


def test_the_page_and_the_file() -> None:
    report = whole_report()
    page = to_markdown(report)
    assert page.startswith("# GPU report: NVIDIA H100 80GB HBM3, 2026-11-23\n")
    for part in PARTS.values():
        assert f"\n## {part.title}\n" in page
    assert "Against PyTorch and JAX: ended early after 2 s: not done within 9 s." in page
    assert "graph of 8 steps" in page
    assert "| 6-5-3, 8 | float16 | 2.00 µs | 6.00 µs | 3.00× |" in page
    assert "x\\|y" in page
    assert "| dense\\_forward relu 5x3 | tiled | tiled 2.0 µs, cuBLASLt 3.0 µs; separate: no |" in page
    assert "Kernels: adam in float32: wrong." in page
    assert "Run 1 did not come to its end: Ctrl-C ended it." in page
    assert "Run 1 did not begin: sanitizer." in page
    mnist = page.partition("## Ten epochs")[2].partition("## ")[0]
    assert (
        "While kernels ran (37 of 60 readings): 1,755 to 1,980 (median 1,965) MHz, 320 to 690 (median 500) W, "
        "41 to 58 (median 50) °C. Held down by power cap in 3. Idle: 345 MHz."
    ) in mnist
    data = json.loads(to_json(report))
    kinds = {result["kind"] for part in data["runs"][0]["parts"] for result in part["results"]}
    assert kinds >= {"Fact", "PytestRun", "Compilation", "ProductTiming", "Fit", "StepTiming", "Goal", "Note", "Fault"}


def test_the_file_is_read_as_it_was_written() -> None:
    report = whole_report()
    found = report.runs[0].outcomes
    found[1].results.append(Compilation(1, 1, 1.0, ["adam<float>: no"], "nowhere"))
    found[2].results.append(PytestRun("pytest", 1, 1.0, [], [TestFailure("a", "b", "c")], {}, "end"))
    found[10].results.append(Crossover("batch", "net 6-5-3", [CrossoverPoint("6-5-3", 8, 5, 1.0, 2.0)]))
    assert from_json(to_json(report), ALL) == report


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.update(version=1), "its format has version 1"),
        (lambda data: data.pop("format"), "does not say that it is one"),
        (lambda data: data["runs"][0].pop("setting"), "not whole"),
        (lambda data: data["runs"][0]["parts"][0].update(name="nonsense"), "'nonsense', which nobody knows"),
        (lambda data: data["runs"][0]["parts"][0]["results"][0].update(kind="Joke"), "'Joke', which nobody knows"),
        (lambda data: data["runs"][0]["parts"][0]["results"][0].update(name=3), "expects str, got 3"),
    ],
)
def test_a_file_that_is_no_report_says_what_is_wrong(change: Any, said: str) -> None:
    data = json.loads(to_json(whole_report()))
    change(data)
    with pytest.raises(ReportFileError, match=said):
        from_json(json.dumps(data), ALL)


@pytest.mark.parametrize(("right", "verdict"), [(0.98, "met"), (0.098, "not met")])
def test_a_fast_training_that_learns_nothing_meets_no_target(right: float, verdict: str) -> None:
    fit = Fit("MNIST", "784-128-10", 128, "float32", 10, 60000, 2.0, [0.5], [0.05], right)
    (row,) = [r for r in targets_table([outcome("mnist", fit)]).rows if "MNIST" in r[0].text]
    assert row[-1].text == verdict
