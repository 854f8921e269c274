"""Charts as SVG within a page: they take its colours and widths, and need no script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from .._types import HostArray
from ..pages import number

_WIDTH, _HEIGHT = 480, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 12, 12, 44
_DASHED = ' stroke-dasharray="6 4"'
_MOST_POINTS = 2000
"""Of a line or a cloud: beyond, a page grows and a picture does not change."""


@dataclass
class Line:
    """A series: its name, x and y; number `colour` of the page's, and whether it is dashed."""

    name: str
    x: Sequence[float] | HostArray
    y: Sequence[float] | HostArray
    colour: int = 0
    dashed: bool = False


@dataclass
class Axes:
    """What a chart's axes say, and where they begin and end; None: where the numbers do."""

    x: str
    y: str
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    marks: Sequence[tuple[float, str]] = field(default_factory=tuple)
    """Vertical lines, with what they mean."""


def ticks(low: float, high: float, n: int = 5) -> list[float]:
    """Some n round numbers from low to high.

    >>> ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> ticks(-3, 101)
    [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
    """
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low]
    rough = span / n
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= 0.9 * rough)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, math.floor(high / step + 1e-9) + 1)]


def lines(series: Sequence[Line], axes: Axes) -> str:
    """Curves over common axes. Numbers that are not finite are gaps."""
    drawn = [(one, *_finite(one)) for one in series]
    frame = _Frame.around(axes, [x for _, x, _ in drawn], [y for _, _, y in drawn])
    parts = [frame.axes(), *(frame.mark(x, label) for x, label in axes.marks)]
    for one, x, y in drawn:
        points = " ".join(f"{frame.x(a):.1f},{frame.y(b):.1f}" for a, b in _thinned(x, y))
        dashed = _DASHED if one.dashed else ""
        parts.append(f'<polyline class="line c{one.colour}"{dashed} points="{points}"/>')
        if len(x) <= 30:
            parts += [
                f'<circle class="dot c{one.colour}" cx="{frame.x(a):.1f}" cy="{frame.y(b):.1f}" r="3">'
                f"<title>{escape(one.name)}: {number(a)}, {number(b)}</title></circle>"
                for a, b in zip(x, y, strict=True)
            ]
    named = [one for one in series if one.name]
    return _figure(parts, f"{axes.y} over {axes.x}", named if len(series) > 1 or axes.marks else [], axes.marks)


def points(x: HostArray, y: HostArray, axes: Axes) -> str:
    """A cloud, with the line where both are equal."""
    picked = np.linspace(0, len(x) - 1, min(len(x), _MOST_POINTS)).astype(int)
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    frame = _Frame.around(Axes(axes.x, axes.y, (low, high), (low, high)), [x], [y])
    dots = "".join(
        f'<circle class="dot c0 cloud" cx="{frame.x(a):.1f}" cy="{frame.y(b):.1f}" r="2.5"/>'
        for a, b in zip(x[picked].tolist(), y[picked].tolist(), strict=True)
    )
    ends = f'x1="{frame.x(low):.1f}" y1="{frame.y(low):.1f}" x2="{frame.x(high):.1f}" y2="{frame.y(high):.1f}"'
    return _figure([frame.axes(), dots, f'<line class="mark" {ends}/>'], f"{axes.y} over {axes.x}")


def histogram(values: HostArray, axes: Axes, bins: int = 40) -> str:
    """How often values fall into each of some intervals of one width."""
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-6 * max(abs(low), abs(high)):  # one value, but for rounding
        low, high = _range(((low + high) / 2,) * 2, (), 0.0)
    counts, edges = np.histogram(values, bins, (low, high))
    y_range = (0.0, float(counts.max()))
    frame = _Frame.around(Axes(axes.x, axes.y, (float(edges[0]), float(edges[-1])), y_range), [edges], [counts])
    bars = "".join(
        f'<rect class="bar c0" x="{frame.x(a):.1f}" y="{frame.y(n):.1f}" width="{frame.x(b) - frame.x(a):.1f}" '
        f'height="{frame.y(0) - frame.y(n):.1f}"><title>{number(a)} to {number(b)}: {n:,}</title></rect>'
        for a, b, n in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
        if n
    )
    return _figure([frame.axes(), bars], f"{axes.y} over {axes.x}")


def strip(values: HostArray, bins: int = 31) -> str:
    """A histogram in the size of a word, about 0."""
    reach = float(np.abs(values).max()) or 1.0
    counts, _ = np.histogram(values, bins, (-reach, reach))
    heights = 20 * counts / max(int(counts.max()), 1)
    bars = "".join(
        f'<rect x="{4 * i}" y="{20 - h:.1f}" width="3" height="{h:.1f}"/>' for i, h in enumerate(heights.tolist()) if h
    )
    return f'<svg class="strip" viewBox="0 0 {4 * bins} 20" role="img" aria-label="histogram">{bars}</svg>'


@dataclass(frozen=True)
class _Frame:
    """Where numbers lie in the picture."""

    axes_: Axes
    low_x: float
    high_x: float
    low_y: float
    high_y: float

    @classmethod
    def around(cls, axes: Axes, xs: Sequence[HostArray], ys: Sequence[HostArray]) -> _Frame:
        return cls(axes, *_range(axes.x_range, xs, 0.0), *_range(axes.y_range, ys, 0.04))

    def x(self, value: float) -> float:
        return _LEFT + (value - self.low_x) / (self.high_x - self.low_x) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - self.low_y) / (self.high_y - self.low_y) * (_HEIGHT - _TOP - _BOTTOM)

    def axes(self) -> str:
        bottom = _HEIGHT - _BOTTOM
        parts = [f'<path class="axis" d="M{_LEFT},{_TOP}V{bottom}H{_WIDTH - _RIGHT}"/>']
        whole = self.axes_.x == "epoch"
        for value in ticks(self.low_x, self.high_x):
            if whole and value != round(value):
                continue
            at = self.x(value)
            parts.append(
                f'<text class="tick" x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{_tick(value)}</text>'
            )
        for value in ticks(self.low_y, self.high_y):
            at = self.y(value)
            parts.append(f'<path class="grid" d="M{_LEFT},{at:.1f}H{_WIDTH - _RIGHT}"/>')
            parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_tick(value)}</text>')
        middle = (_TOP + bottom) / 2
        parts.append(_text("label", (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, self.axes_.x, "middle"))
        turned = f' transform="rotate(-90 12 {middle})"'
        parts.append(_text("label", 12, middle, self.axes_.y, "middle", turned))
        return "".join(parts)

    def mark(self, x: float, label: str) -> str:
        at = f"M{self.x(x):.1f},{_TOP}V{_HEIGHT - _BOTTOM}"
        return f'<path class="mark" d="{at}"><title>{escape(label)}</title></path>'


def _tick(value: float) -> str:
    """In the room that there is beside an axis: 250,000 or 2.5e6."""
    if abs(value) < 1e6:
        return number(value)
    mantissa, _, exponent = f"{value:.3e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def _text(kind: str, x: float, y: float, said: str, anchor: str, more: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(said)}</text>'


def _range(given: tuple[float, float] | None, values: Sequence[HostArray], margin: float) -> tuple[float, float]:
    if given is None:
        found = np.concatenate([np.asarray(v, np.float64).reshape(-1) for v in values] or [np.zeros(0)])
        low, high = (float(found.min()), float(found.max())) if found.size else (0.0, 1.0)
        room = margin * (high - low)
        given = low - room, high + room
    low, high = given
    return (low, high) if high > low else (low - 0.5 * max(abs(low), 1.0), high + 0.5 * max(abs(high), 1.0))


def _finite(one: Line) -> tuple[HostArray, HostArray]:
    x, y = np.asarray(one.x, np.float64), np.asarray(one.y, np.float64)
    sound = np.isfinite(x) & np.isfinite(y)
    return x[sound], y[sound]


def _thinned(x: HostArray, y: HostArray) -> list[tuple[float, float]]:
    picked = (
        np.unique(np.linspace(0, len(x) - 1, min(len(x), _MOST_POINTS)).astype(int)) if len(x) else np.zeros(0, int)
    )
    return list(zip(x[picked].tolist(), y[picked].tolist(), strict=True))


def _figure(
    parts: Sequence[str], label: str, named: Sequence[Line] = (), marks: Sequence[tuple[float, str]] = ()
) -> str:
    """The picture, with a line of names under it."""
    keys = [
        f'<span><svg class="key" viewBox="0 0 24 8"><line class="line c{one.colour}" x1="0" y1="4" x2="24" y2="4"'
        f"{_DASHED if one.dashed else ''}/></svg> {escape(one.name)}</span>"
        for one in named
    ]
    keys += [
        f'<span><svg class="key" viewBox="0 0 24 8"><line class="mark" x1="0" y1="4" x2="24" y2="4"/></svg> '
        f"{escape(name)}</span>"
        for _, name in marks
    ]
    legend = f"<figcaption>{' '.join(keys)}</figcaption>" if keys else ""
    inner = "".join(parts)
    return (
        f'<figure class="chart"><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{inner}</svg>{legend}</figure>"
    )
