"""The pictures of a report: that they show the numbers that they are named after."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.bench import _plots
from fcnn_gpu.bench._plots import FILE_NAME, pictures, plot_crossovers, plot_ratios, plot_roofline, plot_time
from fcnn_gpu.bench.results import Crossover, CrossoverPoint
from tests.bench import sample_report
from tests.bench.sample_report import CEILINGS, CPU

pytest.importorskip("matplotlib")


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def dots(axes: Any, marker: str) -> list[tuple[float, float]]:
    """Where the points with this marker stand."""
    lines = [line for line in axes.get_lines() if line.get_marker() == marker]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines]


def error_bars(axes: Any) -> list[Any]:
    """matplotlib's containers of a dot and its whisker."""
    return list(axes.containers)


def row_names(axes: Any) -> list[str]:
    return [label.get_text().replace("\n", " ") for label in axes.get_yticklabels()]


class TestRatios:
    def test_a_panel_per_job_and_a_row_per_case(self) -> None:
        figure = plot_ratios(sample_report.cases())
        train, infer = figure.axes
        assert (train.get_title(), infer.get_title()) == ("Training step", "Inference")
        assert row_names(train)[:2] == ["64-64-64-10, 32", "784-128-10, 32"]
        assert train.get_xscale() == "log"

    def test_dots_are_medians_and_whiskers_quartiles(self) -> None:
        cases = [
            sample_report.case(ratios={("JAX", "jit"): 1.6, ("PyTorch", "fused"): 2.0, ("PyTorch", "foreach"): 9.0})
        ]
        [axes] = plot_ratios(cases).axes
        drawn = sorted(
            (container.lines[0].get_xdata()[0], *container.lines[2][0].get_segments()[0][:, 0])
            for container in error_bars(axes)
        )
        case = cases[0]
        expected = [case.ratio(case.peers[i]) for i in (0, 1)]
        np.testing.assert_allclose(drawn, [(ratio.median, ratio.low, ratio.high) for ratio in expected])

    def test_the_best_peer_is_filled_and_has_its_number(self) -> None:
        [axes] = plot_ratios([sample_report.case(ratios={("PyTorch", "fused"): 2.0, ("JAX", "jit"): 0.5})]).axes
        faces = [container.lines[0].get_markerfacecolor() for container in error_bars(axes)]
        colors = [container.lines[0].get_color() for container in error_bars(axes)]
        assert faces[0] == "white"
        assert faces[1] == colors[1] != "white"
        assert [text for text in texts(axes) if "×" in text] == ["0.50×"]

    def test_variants_are_named_where_ours_has_several(self) -> None:
        [axes] = plot_ratios([sample_report.on_two_backends()]).axes
        assert "ours: cpu; best peer: PyTorch fused" in texts(axes)
        assert axes.figure.get_suptitle().endswith("CPU (abacus), 2 threads, float32")
        [axes] = plot_ratios([sample_report.case()]).axes
        assert not any("ours" in text for text in texts(axes))

    def test_there_is_a_line_at_1_and_all_is_within_the_axis(self) -> None:
        figure = plot_ratios([sample_report.case(ratios={("PyTorch", ""): 40.0, ("scikit-learn", ""): 0.1})])
        [axes] = figure.axes
        assert any(np.array_equal(line.get_xdata(), [1.0, 1.0]) for line in axes.get_lines())
        low, high = axes.get_xlim()
        assert low < 0.1
        assert high > 40.0

    @pytest.mark.parametrize("high", [1.7, 3.0, 8.0, 60.0, 5e3, 1e6])
    @pytest.mark.parametrize("low", [0.55, 0.1, 3e-3, 1e-6])
    def test_ticks_are_few_and_hold_1(self, low: float, high: float) -> None:
        ratios = {("PyTorch", ""): high / 1.3, ("JAX", ""): low * 2}
        [axes] = plot_ratios([sample_report.case(ratios=ratios)]).axes
        names = [label.get_text() for label in axes.get_xticklabels()]
        assert 2 <= len(names) <= 7
        assert "1×" in names

    def test_libraries_differ_by_colour_and_marker(self) -> None:
        names = ["PyTorch", "JAX", "scikit-learn", "other", "another"]
        looks = [_plots._look(name, names) for name in names]
        assert len({color for color, _ in looks}) == len({marker for _, marker in looks}) == len(names)


def test_products_passes_and_calls_make_a_whole() -> None:
    """100 µs, of which calls take 8 µs; products that were slower by themselves than in the step; no calls measured."""
    cases = [
        sample_report.case(products=0.25),
        sample_report.case(batch=64, products=1.02),
        dataclasses.replace(sample_report.case(batch=96, products=0.5), hollow_seconds=math.nan),
    ]
    [axes] = plot_time(cases).axes
    bars: list[Any] = list(axes.patches)
    widths = np.reshape([bar.get_width() for bar in bars], (3, 3)).T
    np.testing.assert_allclose(widths, [[0.25, 0.67, 0.08], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]], atol=1e-12)
    assert {"25%", "100 µs", "one step"} <= set(texts(axes))
    legend = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert legend == ["matrix products alone", "passes around them", "calls and interpreter"]


class TestRoofline:
    def test_points_stand_at_their_intensity_and_rate(self) -> None:
        operation = sample_report.operation(flops=2e8, n_bytes=4e6, seconds=1e-2)
        roof, shares = plot_roofline([operation], CEILINGS).axes
        np.testing.assert_allclose(dots(roof, "o"), [(50.0, 20.0)])
        np.testing.assert_allclose(dots(shares, "o"), [(2e8 / CEILINGS.product_flops_per_second / 1e-2, 0.0)])
        assert row_names(shares) == ["matrix product  512×784 · 784×256"]

    def test_the_roof_is_the_lower_ceiling(self) -> None:
        roof, _ = plot_roofline(sample_report.operations(), CEILINGS).axes
        line = roof.get_lines()[0]
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        np.testing.assert_allclose(y, np.minimum(131.0, 19.0 * x))

    def test_what_computes_nothing_has_only_a_share(self) -> None:
        gather = sample_report.operation("gather", "256", 0.0, 1.9e6, 2e-4, "memory")
        roof, shares = plot_roofline([gather], CEILINGS).axes
        assert len(roof.get_lines()) == 2, "the roof over memory and over the caches, and no point"
        np.testing.assert_allclose(dots(shares, "s"), [(1.9e6 / 2.8e10 / 2e-4, 0.0)])


class TestCrossover:
    def test_both_devices_and_the_place_where_they_cross(self) -> None:
        crossover = sample_report.crossovers()[0]
        [axes] = plot_crossovers([crossover]).axes
        cpu, gpu, mark = axes.get_lines()
        assert (cpu.get_label(), gpu.get_label()) == ("CPU", "GPU")
        np.testing.assert_array_equal(cpu.get_ydata(), [point.cpu_seconds for point in crossover.points])
        np.testing.assert_array_equal(gpu.get_ydata(), [point.gpu_seconds for point in crossover.points])
        assert crossover.at is not None
        np.testing.assert_allclose(np.asarray(mark.get_xdata(), float), crossover.at)
        assert "below batch 17 the CPU is faster" in axes.get_title()

    def test_no_crossing_no_mark(self) -> None:
        points = [CrossoverPoint("784-10", batch, 0, 1e-4 * batch, 1e-5 * batch) for batch in (8, 1, 2)]
        [axes] = plot_crossovers([Crossover("batch", "net 784-10", points)]).axes
        assert len(axes.get_lines()) == 2
        np.testing.assert_array_equal(axes.get_lines()[0].get_xdata(), [1, 2, 8])


def test_every_picture_of_a_report_is_written(tmp_path: Path) -> None:
    report = sample_report.report()
    report.cases.append(sample_report.on_gpu(sample_report.case()))
    captions = _plots.write_pictures(report, tmp_path)
    assert sorted(captions) == sorted(path.name for path in tmp_path.iterdir())
    assert set(captions) == {
        "ratios_cpu.png",
        "time_cpu.png",
        "ratios_gpu.png",
        "time_gpu.png",
        "roofline_cpu.png",
        "crossover.png",
    }
    assert all(FILE_NAME.fullmatch(name) for name in captions)
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in captions)
    assert captions["ratios_cpu.png"] == f"Speed of fcnn_gpu relative to other libraries: {CPU}, float32"


def test_number_types_have_pictures_of_their_own() -> None:
    report = sample_report.report()
    halves = [dataclasses.replace(operation, dtype="float16") for operation in report.operations]
    report.operations.extend(halves)
    report.ceilings.append(dataclasses.replace(CEILINGS, dtype="float16"))
    names = [picture.name for picture in pictures(report)]
    assert "roofline_cpu_float16.png" in names
    assert all(FILE_NAME.fullmatch(name) for name in names)


def test_numbers_of_threads_and_backends_have_pictures_of_their_own() -> None:
    cases = [sample_report.on_two_backends(threads) for threads in (1, 2)]
    operations = [
        dataclasses.replace(operation, device=device, threads=2)
        for device in (CPU, "CPU (compiled)", "CPU (other)")
        for operation in sample_report.operations()[:1]
    ]
    ceilings = [dataclasses.replace(CEILINGS, threads=2)]
    report = dataclasses.replace(
        sample_report.report(), cases=cases, operations=operations, ceilings=ceilings, crossovers=[]
    )
    names = [picture.name for picture in pictures(report)]
    assert names == [
        "ratios_cpu_1thread.png",
        "time_cpu_1thread.png",
        "ratios_cpu_2threads.png",
        "time_cpu_2threads.png",
        "roofline_cpu.png",
        "roofline_cpu_float32.png",
        "roofline_cpu_float32_2.png",
    ]
    assert all(FILE_NAME.fullmatch(name) for name in names)


def test_no_ratios_without_peers_and_no_roofline_without_ceilings() -> None:
    report = dataclasses.replace(
        sample_report.report(), cases=[sample_report.case(ratios={})], ceilings=[], crossovers=[]
    )
    assert [picture.name for picture in pictures(report)] == ["time_cpu.png"]
    assert pictures(dataclasses.replace(report, cases=[], operations=[])) == []


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'matplotlib"):
        plot_ratios(sample_report.cases())
