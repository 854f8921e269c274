"""What the tables of a report say, and how they are drawn for terminals of any width and for files."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from fcnn_gpu.bench._numbers import duration, rate, share, signed_share, times
from fcnn_gpu.bench._reading import ceilings_for, one_line, roof_seconds, verdict
from fcnn_gpu.bench._render import print_report, to_markdown
from fcnn_gpu.bench._set_up_tables import plain_text
from fcnn_gpu.bench._table import Table
from fcnn_gpu.bench._tables import sections
from fcnn_gpu.bench.results import Absent, CaseResult, Report, Spread
from tests.bench import sample_report
from tests.bench.sample_report import CPU, GPU, NORMALIZED


def printed(report: Report, width: int) -> str:
    file = io.StringIO()
    print_report(report, Console(file=file, width=width))
    return file.getvalue()


def only(*cases: CaseResult) -> Report:
    return dataclasses.replace(sample_report.report(), cases=list(cases), operations=[], epochs=[], crossovers=[])


def tables(report: Report) -> dict[str, Table]:
    return {table.title: table for section in sections(report) for table in section.tables}


def row(table: Table, first: str) -> dict[str, str]:
    """The cells of the row that begins so, by their columns' names."""
    [cells] = [cells for cells in table.rows if cells[0].text == first]
    return {column.name: cell.text for column, cell in zip(table.columns, cells, strict=True)}


class TestSpeed:
    title = f"Training step, {CPU}, float32: samples per second"

    def test_a_row_per_case_with_each_library_by_its_fastest_variant(self) -> None:
        table = tables(sample_report.report())[self.title]
        assert [cells[0].text for cells in table.rows] == [
            "64-64-64-10, 32",
            "784-128-10, 32",
            "784-128-10, 128",
            "784-512-512-10, 256",
            "784-2048-2048-10, 512",
            f"{NORMALIZED}, 256",
        ]
        # 128 samples in 214 µs; PyTorch's fused variant takes 1.31 times as long, the foreach variant 2.2 times
        assert row(table, "784-128-10, 128") == {
            "net, batch": "784-128-10, 128",
            "fcnn_gpu": "598 k",
            "PyTorch": "457 k",
            "JAX": "399 k",
            "scikit-learn": "181 k",
            "ratio": "1.31×",
            "quartiles": "1.30–1.32",
            "against": "PyTorch fused",
        }

    def test_ours_counts_by_its_fastest_variant_too(self) -> None:
        table = tables(only(sample_report.on_two_backends()))[
            "Training step, CPU (abacus), 2 threads, float32: samples per second"
        ]
        # 32 samples in 50 µs; PyTorch's fused variant takes 140 µs
        assert row(table, "784-128-10, 32") == {
            "net, batch": "784-128-10, 32",
            "fcnn_gpu": "640 k",
            "PyTorch": "229 k",
            "JAX": "200 k",
            "scikit-learn": "64.0 k",
            "ratio": "2.80×",
            "quartiles": "2.77–2.83",
            "ours": "cpu",
            "against": "PyTorch fused",
        }

    def test_numbers_of_threads_have_tables_of_their_own(self) -> None:
        cases = [sample_report.on_two_backends(threads) for threads in (1, 2)]
        titles = [title for title in tables(only(*cases)) if title.endswith("samples per second")]
        assert [title.split(", ")[2] for title in titles] == ["1 thread", "2 threads"]

    def test_the_fastest_of_a_row_is_marked_and_the_ratio_judged(self) -> None:
        cases = [
            sample_report.case(ratios={("JAX", "jit"): 2.0}),
            sample_report.case(batch=64, ratios={("JAX", "jit"): 1.001}),
            sample_report.case(batch=96, ratios={("JAX", "jit"): 0.5}),
        ]
        marks = [[cell.mark for cell in cells] for cells in tables(only(*cases))[self.title].rows]
        assert [row[1:4] for row in marks] == [
            ["fastest", "", "ahead"],
            ["fastest", "", "level"],
            ["", "fastest", "behind"],
        ]
        [sentence] = [line for line in tables(only(*cases))[self.title].below if "ahead" in line]
        assert "ahead in 1 of 3 cases, level in 1 " in sentence
        assert "behind in 1; geometric mean 1.00×" in sentence

    def test_a_library_that_could_not_take_part_in_one_case(self) -> None:
        case = sample_report.case(NORMALIZED, 256, ratios={("PyTorch", "fused"): 1.2})
        assert row(tables(only(sample_report.case(), case))[self.title], f"{NORMALIZED}, 256")["JAX"] == "—"

    def test_who_was_not_timed_and_why(self) -> None:
        absent = Absent("scikit-learn", "", "has no batch norm")
        lacking = dataclasses.replace(sample_report.case(NORMALIZED, 256), absent=[absent])
        below = tables(only(sample_report.case(), lacking))[self.title].below
        assert f"Not timed: scikit-learn ({NORMALIZED}, 256): has no batch norm" in below
        everywhere = tables(only(lacking))[self.title].below
        assert "Not timed: scikit-learn: has no batch norm" in everywhere

    def test_the_deviation_that_comes_nearest_to_its_limit(self) -> None:
        below = " ".join(tables(sample_report.report())[self.title].below)
        assert "of 23 deviations the largest" in below
        assert "limit of 1.0e-04, is 9.2e-06 (scikit-learn, 64-64-64-10, 32)" in below

    def test_without_peers_there_is_nothing_to_compare(self) -> None:
        table = tables(only(sample_report.case(ratios={})))[self.title]
        assert [column.name for column in table.columns] == ["net, batch", "fcnn_gpu"]
        assert all("ahead" not in line and "deviation" not in line for line in table.below)


class TestWhereTheTimeGoes:
    def test_floor_and_shares_of_the_ceilings(self) -> None:
        table = tables(sample_report.report())[f"Training step, {CPU}, float32: where the time of fcnn_gpu goes"]
        found = row(table, "784-2048-2048-10, 512")
        # 2·512·(2·784·2048 + 3·2048² + 3·2048·10) = 16.2 GFLOP in 41.3 ms, beside 131 GFLOP/s
        assert found["time"] == "41.3 ms"
        assert (found["products"], found["share"]) == ("38.4 ms", "93%")
        assert (found["GFLOP/s"], found["of peak"]) == ("393", "300%")
        assert found["bound by"] == "arithmetic"
        assert "34 calls" in found["because"]

    def test_a_network_is_held_against_the_fastest_backends_ceilings(self) -> None:
        slow, fast = (
            dataclasses.replace(
                sample_report.CEILINGS, device=f"CPU ({name})", product_flops_per_second=rate, threads=2
            )
            for name, rate in (("NumPy", 1e10), ("compiled", 1e11))
        )
        others = [dataclasses.replace(ceiling, threads=1) for ceiling in (slow, fast)]
        case = sample_report.on_two_backends()
        assert ceilings_for(case, [*others, fast, slow]) == fast
        assert ceilings_for(dataclasses.replace(case, device="CPU (NumPy)"), [fast, slow]) == slow
        assert ceilings_for(case, others) is None

    def test_without_ceilings_there_are_no_shares(self) -> None:
        report = dataclasses.replace(only(sample_report.case()), ceilings=[])
        table = tables(report)[f"Training step, {CPU}, float32: where the time of fcnn_gpu goes"]
        assert row(table, "784-128-10, 32")["of peak"] == row(table, "784-128-10, 32")["of copy"] == "—"

    def test_on_a_gpu_transfers_are_shown_beside_the_bare_step(self) -> None:
        case = sample_report.on_gpu(sample_report.case())
        table = tables(only(sample_report.case(), case))[
            f"Training step, {GPU}, float32: where the time of fcnn_gpu goes"
        ]
        assert row(table, "784-128-10, 32")["time"] == "100 µs"
        assert row(table, "784-128-10, 32")["with transfers"] == "200 µs"


def test_cold_times_by_variant() -> None:
    table = tables(sample_report.report())[f"Training step, {CPU}, float32: cold, the first in its process"]
    assert row(table, "784-128-10, 32") == {
        "net, batch": "784-128-10, 32",
        "fcnn_gpu": "2.50 ms",
        "PyTorch foreach": "350 ms",
        "PyTorch fused": "350 ms",
        "JAX jit": "350 ms",
        "scikit-learn": "350 ms",
    }
    assert row(table, f"{NORMALIZED}, 256")["scikit-learn"] == "—"


def test_every_timing_has_its_deviation() -> None:
    table = tables(only(sample_report.case()))["Every timing"]
    found = [[cell.text for cell in cells[3:]] for cells in table.rows]
    assert found[0] == ["fcnn_gpu", "100 µs", "100 µs – 101 µs", "2.50 ms", "—", "—", "—"]
    assert found[2][0] == "PyTorch fused"
    assert found[2][3:] == ["350 ms", "1.40× (1.39–1.41)", "4.6e-06", "1.0e-04"]


def test_every_variant_of_ours_is_listed() -> None:
    table = tables(only(sample_report.on_two_backends()))["Every timing"]
    found = [[cell.text for cell in cells] for cells in table.rows[:2]]
    assert [cells[0] for cells in found] == ["CPU (abacus), 2 threads"] * 2
    assert [cells[3] for cells in found] == ["fcnn_gpu numpy", "fcnn_gpu cpu"]
    assert found[0][7:] == ["2.00× (2.00–2.00)", "—", "—"]
    assert found[1][7:] == ["—", "1.0e-07", "1.0e-04"]


def test_timings_in_several_number_types_name_theirs() -> None:
    wide, tensor = sample_report.case(), dataclasses.replace(sample_report.case(), dtype="bfloat16")
    table = tables(only(wide, tensor))["Every timing"]
    assert [column.name for column in table.columns[:4]] == ["device", "job", "dtype", "net, batch"]
    assert {cells[2].text for cells in table.rows} == {"float32", "bfloat16"}


def test_operations() -> None:
    table = tables(sample_report.report())[f"Operations, {CPU}"]
    [gather] = [cells for cells in table.rows if cells[0].text == "gather"]
    texts = dict(zip([column.name for column in table.columns], gather, strict=True))
    assert (texts["GFLOP/s"].text, texts["of peak"].text) == ("—", "—"), "it computes nothing"
    assert (texts["GB/s"].text, texts["of copy"].text) == ("30.8", "110%")
    assert texts["PyTorch"].text == "—"
    assert "Not timed: PyTorch (gather 256 of 60000×784): has no such operation" in table.below


def test_epochs_show_both_overheads() -> None:
    table = tables(sample_report.report())["One epoch of Trainer.fit against its bare steps"]
    found = row(table, "784-128-10, 128")
    assert (found["fit costs"], found["with validation"]) == ("+2.9%", "+20.6%")
    assert (found["fit"], found["bare steps"], found["once per fit"]) == ("205 ms", "170 ms", "40.0 ms")


def test_crossover_says_where_it_is() -> None:
    table = tables(sample_report.report())["Training step by batch: net 784-512-512-10"]
    assert table.below == ["Below batch 17 the CPU is faster."]
    assert row(table, "16")["ratio"] == "0.97×"
    assert row(table, "32")["ratio"] == "1.51×"


def test_an_interrupted_run_says_so() -> None:
    report = dataclasses.replace(sample_report.report(), interrupted=True)
    assert "Interrupted by Ctrl-C" in to_markdown(report)
    assert "Interrupted" not in to_markdown(sample_report.report())


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200, 400])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    text = printed(sample_report.report(), width)
    assert max(map(len, text.splitlines())) <= width


def test_in_a_terminal_too_narrow_for_anything_numbers_are_whole() -> None:
    """Broken rather than cut off: the unit behind each number is there."""
    text = printed(dataclasses.replace(only(), crossovers=sample_report.crossovers()), 24)
    assert text.count("×") == sum(len(crossover.points) for crossover in sample_report.crossovers())


@pytest.mark.parametrize("width", [80, 120])
def test_numbers_are_never_broken(width: int) -> None:
    """What a row says about a case stands in one line, however long the name of its net."""
    lines = printed(sample_report.report(), width).splitlines()
    assert any(line.startswith("784-2048-2048-10, 512") and "1.00×" in line and "0.99–1.01" in line for line in lines)
    assert any(line.startswith("784-512-512-10, batch") and "1.02×" in line for line in lines)


def test_a_narrow_terminal_leaves_columns_out_and_says_so() -> None:
    narrow, wide = printed(sample_report.report(), 80), printed(sample_report.report(), 400)
    assert "GFLOP/s" in wide
    assert "PyTorch fused" in wide
    assert "because" in wide
    assert "because" not in narrow
    assert "A wider terminal shows more columns" in narrow


def test_the_terminal_has_colours_only_where_there_is_one() -> None:
    assert "\x1b[" not in printed(sample_report.report(), 100)


def test_markdown_is_whole() -> None:
    page = to_markdown(sample_report.report(), {"ratios_cpu.png": "Ratios"})
    lines = page.splitlines()
    for i, line in enumerate(lines):
        if set(line) <= set("|-: ") and "---" in line:
            n_columns = line.count("|")
            j = i + 1
            while j < len(lines) and lines[j].startswith("|"):
                assert lines[j].replace("\\|", "").count("|") == n_columns
                j += 1
            assert lines[i - 1].count("|") == n_columns
            assert lines[i - 2] == "", "a table begins after an empty line"
    assert page.startswith("# Benchmark of fcnn_gpu, 2026-11-23\n")
    assert "### Every timing" in page
    assert "![Ratios](ratios_cpu.png)" in page
    assert "- Note" not in page
    assert "OPENBLAS\\_CORETYPE=Haswell" in page


def test_markdown_escapes_what_would_mean_something() -> None:
    report = dataclasses.replace(sample_report.report(), notes=["a|b *c* _d_ <e>"])
    assert "a\\|b \\*c\\* \\_d\\_ \\<e>" in to_markdown(report)


def test_a_report_without_results_shows_the_machine() -> None:
    report = dataclasses.replace(only(), ceilings=[], notes=[])
    assert [section.heading for section in sections(report)] == ["How this was measured"]
    assert "Xeon" in printed(report, 80)


def test_one_line_for_each_kind_of_result() -> None:
    report = sample_report.report()
    assert one_line(report.cases[2]) == (
        "training step 784-128-10, 128: 214 µs, 1.31× as fast as PyTorch fused (1.30–1.32), bound by memory"
    )
    assert one_line(sample_report.on_two_backends()) == (
        "training step 784-128-10, 32, 2 threads: 50.0 µs (cpu), 2.80× as fast as PyTorch fused (2.77–2.83), "
        "bound by Python"
    )
    assert one_line(report.operations[5]) == "Adam, 670,218, float32: 1.10 ms"
    assert one_line(report.epochs[0]).startswith("epoch of 784-128-10, 128: fit costs +2.9%")
    assert one_line(report.crossovers[0]) == "net 784-512-512-10: below batch 17 the CPU is faster"
    assert one_line(report.ceilings[0]) == f"ceilings of {CPU}, float32: 131 GFLOP/s, 19.0 GB/s, 320 ns per call"


def test_a_ratio_is_ahead_only_with_both_quartiles() -> None:
    assert verdict(Spread(1.2, 1.1, 1.3)) == "ahead"
    assert verdict(Spread(1.2, 0.9, 1.3)) == "level"
    assert verdict(Spread(0.9, 0.8, 0.99)) == "behind"
    assert verdict(Spread(1.0, 1.0, 1.0)) == "level"


def test_the_roof_is_the_slower_of_arithmetic_and_memory() -> None:
    rates = [(5, 40.0), (100, 10.0)]
    ceilings = dataclasses.replace(
        sample_report.CEILINGS, product_flops_per_second=100.0, copy_bytes_per_second=10.0, copy_rates=rates
    )
    operation = sample_report.operation(flops=500.0, n_bytes=20.0)
    assert roof_seconds(operation, ceilings) == 5.0
    assert roof_seconds(sample_report.operation(flops=0.0, n_bytes=20.0), ceilings) == 2.0
    assert roof_seconds(sample_report.operation(flops=0.0, n_bytes=4.0), ceilings) == 0.1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (duration(9.996e-4), "1.00 ms"),
        (duration(9.994e-7), "999 ns"),
        (duration(3.2e-10), "0.320 ns"),
        (duration(7200.0), "7,200 s"),
        (rate(0.5), "0.500"),
        (rate(2.5e12), "2.50 T"),
        (share(0.0995), "10%"),
        (signed_share(-0.0312), "−3.1%"),
        (times(9.996), "10.0×"),
    ],
)
def test_numbers(text: str, expected: str) -> None:
    assert text == expected


def test_values_in_words() -> None:
    assert plain_text({"L2": "2 MiB", "n_cores": 2}) == "L2 2 MiB; n cores 2"
    assert plain_text([]) == "none"
    assert plain_text(0) == "0"
    assert plain_text(False) == "no"
