"""Pictures of a benchmark report, drawn by matplotlib (the plot extra).

Libraries and kinds of work are told apart by colour-blind-safe colours and by their marker or hatching as well.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..training import make_figure, saved
from . import _numbers as show
from ._reading import JOBS, best_of, case_name, ceilings_for, groups, libraries_in, place_of, roof_seconds
from .results import OURS, CaseResult, Ceilings, Crossover, OperationResult, Report, Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _VERMILLION, _GREEN, _ORANGE, _PURPLE, _SKY = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9"
_LOOKS = {"PyTorch": (_VERMILLION, "o"), "JAX": (_BLUE, "s"), "scikit-learn": (_GREEN, "^")}
_OTHER_LOOKS = ((_PURPLE, "D"), (_ORANGE, "v"), (_SKY, "P"))
_BOUND_LOOKS = {
    "arithmetic": (_BLUE, "o"),
    "memory": (_VERMILLION, "s"),
    "launches": (_PURPLE, "D"),
    "Python": (_ORANGE, "^"),
}
_PART_LOOKS: dict[str, dict[str, Any]] = {
    "matrix products alone": {"color": _BLUE},
    "passes around them": {"color": "#f2c879", "hatch": "///"},
    "calls and interpreter": {"color": "#cccccc", "hatch": "..."},
}
_GREY = "#666666"
FILE_NAME = re.compile(r"((ratios|time|roofline)_(cpu|gpu)(_[a-z0-9]+)*|crossover)\.png")
"""Every name that a picture of a report may have."""

_MOST_TICKS = 7
_WIDTH = 9.2  # inches: text of 9 points is legible where a README scales the picture to about 850 pixels


@dataclass(frozen=True)
class Picture:
    """One picture of a report: its file's name, what it shows, and what draws it."""

    name: str
    caption: str
    draw: Callable[[], Figure]


def pictures(report: Report) -> list[Picture]:
    """Every picture that the report holds something for."""
    found = []
    for name, cases in _by_device(report.cases).items():
        where = f"{place_of(cases[0])}, {cases[0].dtype}"
        if any(case.peers for case in cases):
            caption = f"Speed of {OURS} relative to other libraries: {where}"
            found.append(Picture(f"ratios_{name}.png", caption, functools.partial(plot_ratios, cases)))
        caption = f"Where the time of {OURS} goes: {where}"
        found.append(Picture(f"time_{name}.png", caption, functools.partial(plot_time, cases)))
    for name, operations in _by_device(report.operations).items():
        ceiling = ceilings_for(operations[0], report.ceilings)
        if ceiling is None:
            continue
        caption = f"Operations against the roofline: {place_of(operations[0])}, {operations[0].dtype}"
        found.append(Picture(f"roofline_{name}.png", caption, functools.partial(plot_roofline, operations, ceiling)))
    if report.crossovers:
        caption = "Training step on the CPU and on the GPU, and where they cross"
        found.append(Picture("crossover.png", caption, functools.partial(plot_crossovers, report.crossovers)))
    return found


def write_pictures(report: Report, folder: Path) -> dict[str, str]:
    """Draw every picture into `folder`; returns what each shows by its file's name. ImportError without matplotlib."""
    found = pictures(report)
    for picture in found:
        saved(picture.draw(), folder / picture.name)
    return {picture.name: picture.caption for picture in found}


def plot_ratios(cases: list[CaseResult]) -> Figure:
    """Each library's time over ours by case: medians as dots (filled: the best peer), quartiles as whiskers, 1 a line.

    A library counts by its fastest variant, ours too; those of the ratio to the best peer are named. The cases are of
    one device and number type.
    """
    panels = groups(cases)
    libraries = libraries_in(cases)
    ratios = [case.ratio(best) for case in cases for name in libraries if (best := best_of(name, case)) is not None]
    n_rows = max(map(len, panels))
    names = 0.1 * any(case.ours.variant for case in cases)
    figure, axes = _panels(panels, n_rows * (0.13 * len(libraries) + 0.17 + names) + 1.75)
    for axis, panel in zip(axes, panels, strict=True):
        for row, case in enumerate(panel):
            for i, library in enumerate(libraries):
                offset = 0.6 / len(libraries) * (i - (len(libraries) - 1) / 2)
                _draw_ratio(axis, case, library, libraries, row + offset)
            _name_variants(axis, case, row + 0.42)
        axis.set_title(JOBS[panel[0].job], fontsize=10, pad=18)
        axis.axvline(1.0, color="black", linewidth=1.1, zorder=1)
        _ratio_axis(axis, ratios)
        _case_axis(axis, panel)
        axis.set_xlabel(f"library's time / {OURS}'s time", fontsize=9)
    handles = [_marker(*_look(library, libraries), library) for library in libraries]
    how = "median over the rounds and quartiles; filled, with its number: the best peer of the case"
    _legend(figure, handles, how)
    _title(figure, f"Speed of {OURS} relative to other libraries", cases[0])
    return figure


def plot_time(cases: list[CaseResult]) -> Figure:
    """How much of a step its matrix products take by themselves, its calls by themselves, and what is left.

    The rest is what the passes around the products take to move and change numbers.
    """
    panels = groups(cases)
    figure, axes = _panels(panels, 0.36 * max(map(len, panels)) + 1.3)
    for axis, panel in zip(axes, panels, strict=True):
        rows = np.arange(len(panel))
        parts = np.array([_parts(case) for case in panel])
        left = np.zeros(len(panel))
        for (name, look), part in zip(_PART_LOOKS.items(), parts.T, strict=True):
            axis.barh(rows, part, 0.62, left=left, label=name, edgecolor="white", linewidth=0.6, **look)
            left += part
        for row, case in enumerate(panel):
            _label_share(axis, row, parts[row, 0])
            total = show.duration(case.ours.warm.median)
            axis.text(1.02, row, total, ha="left", va="center", fontsize=8.5, color="#333333")
        axis.text(1.02, -0.62, "one step" if panel[0].job == "train" else "a batch", fontsize=8.5, color="#333333")
        axis.set_xlim(0, 1)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axis.set_title(JOBS[panel[0].job], fontsize=10)
        _case_axis(axis, panel)
    _legend(figure, axes[0].get_legend_handles_labels()[0])
    _title(figure, f"Where the time of {OURS} goes", cases[0])
    return figure


def plot_roofline(operations: list[OperationResult], ceiling: Ceilings) -> Figure:
    """Left: FLOP/s over FLOP/byte under the measured roof. Right: the share of the roof that each operation reaches.

    On the left are all shapes, on the right the largest of each operation. Operations without arithmetic (a gather)
    stand on the right alone.
    """
    largest: dict[str, OperationResult] = {}
    for operation in operations:
        known = largest.setdefault(operation.operation, operation)
        if operation.bytes > known.bytes:
            largest[operation.operation] = operation
    listed = list(largest.values())
    figure = make_figure(_WIDTH, max(0.235 * len(listed) + 1.5, 3.6))
    roof, shares = figure.subplots(1, 2)
    used = [bound for bound in _BOUND_LOOKS if any(o.bound == bound for o in operations)]
    _draw_roof(roof, operations, ceiling)
    for operation in operations:
        color, marker = _BOUND_LOOKS[operation.bound]
        if operation.flops:
            roof.plot(
                operation.flops / operation.bytes,
                operation.flops / operation.warm.median / 1e9,
                marker=marker,
                color=color,
                markersize=6,
                markeredgecolor="white",
                markeredgewidth=0.6,
                linestyle="none",
            )
    for row, operation in enumerate(listed):
        color, marker = _BOUND_LOOKS[operation.bound]
        part = roof_seconds(operation, ceiling) / operation.warm.median
        shares.plot([0.001, part], [row, row], color="#cccccc", linewidth=1.0, zorder=1)
        shares.plot(part, row, marker=marker, color=color, markersize=6, linestyle="none", zorder=2)
    shares.set_yticks(range(len(listed)), [f"{o.operation}  {o.shape}" for o in listed], fontsize=8)
    shares.set_ylim(len(listed) - 0.5, -0.5)
    shares.set_xscale("log")
    lowest = min(roof_seconds(o, ceiling) / o.warm.median for o in listed)
    shares.set_xlim(10 ** math.floor(math.log10(min(lowest, 0.09))), 3.0)
    shares.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}" if value >= 0.01 else f"{value:.1%}")
    shares.axvline(1.0, color="black", linewidth=1.1)
    shares.set_title("Share of the roof reached", fontsize=10)
    shares.set_xlabel("100%: as fast as a large product, or as a copy of as many bytes", fontsize=9, loc="right")
    for axis in (roof, shares):
        _bare(axis)
    shares.grid(axis="x", alpha=0.3, linewidth=0.6)
    _legend(figure, [_marker(*_BOUND_LOOKS[bound], f"bound by {bound}") for bound in used])
    _title(figure, "Single operations against what the machine can do", operations[0])
    return figure


def plot_crossovers(crossovers: list[Crossover]) -> Figure:
    """Seconds per training step on both devices over the batch size or the width, and where they cross."""
    from matplotlib.ticker import LogLocator

    figure = make_figure(_WIDTH if len(crossovers) > 1 else 0.62 * _WIDTH, 3.7)
    for axis, crossover in zip(np.atleast_1d(figure.subplots(1, len(crossovers))), crossovers, strict=True):
        points = sorted(crossover.points, key=operator.attrgetter(crossover.axis))
        places = [getattr(point, crossover.axis) for point in points]
        cpu, gpu = [point.cpu_seconds for point in points], [point.gpu_seconds for point in points]
        axis.plot(places, cpu, color=_BLUE, marker="o", markersize=4, label="CPU")
        axis.plot(places, gpu, color=_VERMILLION, marker="s", markersize=4, linestyle="--", label="GPU")
        if crossover.at is not None:
            axis.axvline(crossover.at, color=_GREY, linewidth=1.0, linestyle=":")
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(places, [f"{place:,}" for place in places], rotation=45 if len(places) > 7 else 0, fontsize=8)
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(lambda value, _: show.duration(value).replace(".00", "").replace(".0", ""))
        axis.minorticks_off()
        axis.set_xlabel("batch size" if crossover.axis == "batch" else "width of the hidden layers", fontsize=9)
        axis.set_ylabel("time of one training step", fontsize=9)
        axis.set_title(f"{crossover.fixed}:\n{crossover.conclusion}", fontsize=10)
        axis.grid(alpha=0.3, linewidth=0.6)
        axis.legend(frameon=False, fontsize=9)
        _bare(axis)
    figure.suptitle("CPU against GPU: the time of a training step", fontsize=11, fontweight="bold")
    return figure


# Parts


def _by_device(results: Iterable[Any]) -> dict[str, list[Any]]:
    """Results of one device, number of threads and number type together, under a name that suits a file."""
    found: dict[tuple[str, str], list[Any]] = {}
    for result in results:
        found.setdefault((place_of(result), result.dtype), []).append(result)
    counts = {members[0].threads for members in found.values()} - {None}
    named: dict[str, list[Any]] = {}
    for (_, dtype), members in found.items():
        threads = members[0].threads
        name = "cpu" if members[0].device.startswith("CPU") else "gpu"
        if threads is not None and len(counts) > 1:
            name += f"_{show.threads(threads).replace(' ', '')}"
        names = itertools.chain([name, f"{name}_{dtype}"], (f"{name}_{dtype}_{i}" for i in itertools.count(2)))
        named[next(one for one in names if one not in named)] = members
    return named


def _panels(panels: list[list[CaseResult]], height: float) -> tuple[Figure, list[Axes]]:
    """One panel per job, side by side; they share the rows if they have the same cases."""
    figure = make_figure(_WIDTH, max(height, 2.4))
    same = len({tuple(case_name(case) for case in panel) for panel in panels}) == 1
    return figure, list(np.atleast_1d(figure.subplots(1, len(panels), sharey=same)))


def _title(figure: Figure, what: str, result: CaseResult | OperationResult) -> None:
    # A device's name is none of ours, and no formula.
    figure.suptitle(f"{what}\n{place_of(result)}, {result.dtype}", fontsize=11, fontweight="bold", parse_math=False)


def _look(library: str, libraries: list[str]) -> tuple[str, str]:
    others = [name for name in libraries if name not in _LOOKS]
    return _LOOKS[library] if library in _LOOKS else _OTHER_LOOKS[others.index(library) % len(_OTHER_LOOKS)]


def _marker(color: str, marker: str, label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=color, marker=marker, linestyle="none", markersize=6, label=label)


def _legend(figure: Figure, handles: list[Any], how: str | None = None) -> None:
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=9,
        title=how,
        title_fontsize=9,
        handletextpad=0.4,
    )


def _draw_ratio(axis: Axes, case: CaseResult, library: str, libraries: list[str], y: float) -> None:
    timing = best_of(library, case)
    if timing is None:
        return
    ratio, (color, marker) = case.ratio(timing), _look(library, libraries)
    is_best = timing is case.best_peer
    axis.errorbar(
        ratio.median,
        y,
        xerr=[[ratio.median - ratio.low], [ratio.high - ratio.median]],
        fmt=marker,
        markersize=5.5,
        color=color,
        markerfacecolor=color if is_best else "white",
        elinewidth=1.4,
        capsize=3,
    )
    if is_best:
        slower = ratio.median < 1
        axis.annotate(
            show.times(ratio.median),
            (min(ratio.low, ratio.median) if slower else max(ratio.high, ratio.median), y),
            xytext=(-6 if slower else 6, 0),
            textcoords="offset points",
            ha="right" if slower else "left",
            va="center",
            fontsize=8.5,
        )


def _name_variants(axis: Axes, case: CaseResult, y: float) -> None:
    """Which variant of ours the ratios of a case are of, and which of the best peer's, at the right edge."""
    best = case.best_peer
    if best is None or not case.ours.variant:
        return
    axis.text(
        0.99,
        y,
        f"ours: {case.ours.variant}; best peer: {best.label}",
        transform=axis.get_yaxis_transform(),
        ha="right",
        va="center",
        fontsize=7.5,
        color=_GREY,
    )


def _ratio_ticks(low: float, high: float) -> Iterator[list[float]]:
    """Ratios within [low, high] that a logarithmic axis can name, from many to few; 1 is always among them."""
    tens = [10.0**power for power in range(-9, 10)]
    for steps in ((0.75, 1, 1.5, 2, 3, 5, 7.5), (1, 2, 5), (1, 3), (1,)):
        yield [tick for ten in tens for tick in (float(f"{ten * step:.2g}") for step in steps) if low <= tick <= high]
    for distance in range(2, 10):
        yield [ten for i, ten in enumerate(tens) if low <= ten <= high and (i - 9) % distance == 0]


def _ratio_axis(axis: Axes, ratios: list[Spread]) -> None:
    """A logarithmic axis around 1, so that twice as fast and half as fast are equally far from it."""
    low, high = min(0.8, *(ratio.low for ratio in ratios)), max(1.5, *(ratio.high for ratio in ratios))
    room = (high / low) ** 0.15  # for the number beside the dot
    low, high = low / room, high * room
    axis.set_xscale("log")
    axis.set_xlim(low, high)
    ticks = next(ticks for ticks in _ratio_ticks(low, high) if len(ticks) <= _MOST_TICKS)
    axis.set_xticks(ticks, [f"{tick:g}×" for tick in ticks], fontsize=8.5)
    axis.minorticks_off()
    axis.axvspan(low, 1.0, color="#eeeeee", zorder=0)
    axis.grid(axis="x", alpha=0.3, linewidth=0.6)
    top: dict[str, Any] = {
        "xycoords": ("data", "axes fraction"),
        "textcoords": "offset points",
        "fontsize": 8.5,
        "color": _GREY,
    }
    axis.annotate("slower", (1.0, 1.0), xytext=(-5, 3), ha="right", **top)
    axis.annotate("faster", (1.0, 1.0), xytext=(5, 3), ha="left", **top)


def _parts(case: CaseResult) -> tuple[float, float, float]:
    """Products, the rest and calls as shares of our time; measured apart, they may exceed it: then products count."""
    total = case.ours.warm.median
    products = min(case.products_seconds / total, 1.0)
    calls = 0.0 if math.isnan(case.hollow_seconds) else min(case.hollow_seconds / total, 1.0 - products)
    return products, 1.0 - products - calls, calls


def _label_share(axis: Axes, row: int, part: float) -> None:
    """The products' share, in their bar if it is long enough, else beside it."""
    inside = part > 0.14
    axis.text(
        part - 0.02 if inside else part + 0.02,
        row,
        show.share(part),
        ha="right" if inside else "left",
        va="center",
        fontsize=8.5,
        color="white" if inside else "black",
        bbox=None if inside else {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1.0},
    )


def _case_axis(axis: Axes, cases: list[CaseResult]) -> None:
    axis.set_yticks(
        range(len(cases)), [case_name(case).replace(", batch", ",\nbatch", 1) for case in cases], fontsize=9
    )
    axis.set_ylim(len(cases) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    _bare(axis)


def _bare(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)


def _draw_roof(axis: Axes, operations: list[OperationResult], ceiling: Ceilings) -> None:
    """The two ceilings over arithmetic intensity: bandwidth·intensity until it meets the product's rate."""
    peak, bandwidth = ceiling.product_flops_per_second / 1e9, ceiling.copy_bytes_per_second / 1e9
    intensities = [o.flops / o.bytes for o in operations if o.flops] or [peak / bandwidth]
    low, high = min(*intensities, peak / bandwidth) / 3, max(*intensities, peak / bandwidth) * 3
    x = np.geomspace(low, high, 200)
    axis.plot(x, np.minimum(peak, bandwidth * x), color="black", linewidth=1.3)
    words = [f"large product: {_three(peak)} GFLOP/s", f"large copy: {_three(bandwidth)} GB/s"]
    cached = max((rate / 1e9 for _, rate in ceiling.copy_rates), default=bandwidth)
    if cached > bandwidth:
        axis.plot(x, np.minimum(peak, cached * x), color="black", linewidth=0.9, linestyle=":")
        words.append(f"dotted, copy in a cache: {_three(cached)} GB/s")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(low, high)
    rates = [o.flops / o.warm.median / 1e9 for o in operations if o.flops]
    axis.set_ylim(min([*rates, bandwidth * low]) / 2, 12 * peak)
    axis.text(0.03, 0.97, "\n".join(words), transform=axis.transAxes, va="top", fontsize=8.5)
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_formatter(lambda value, _: f"{value:,g}")
    axis.set_xlabel("arithmetic intensity, FLOP per byte", fontsize=9)
    axis.set_ylabel("GFLOP/s", fontsize=9)
    axis.set_title("Achieved arithmetic under the roof", fontsize=10)
    axis.grid(alpha=0.3, linewidth=0.6)


def _three(value: float) -> str:
    return show.three_digits(show.round_to_three(value))
