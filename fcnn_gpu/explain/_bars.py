"""Pictures of attributions, by matplotlib and in pages."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._figures import make_figure, saved
from .._types import HostArray
from ..files import write_atomically
from ._document import Bars

_PLUS, _MINUS = "#0072b2", "#d55e00"  # Okabe & Ito's palette


def save_shown(path: Any, html: Callable[[], str], plot: Callable[[], object]) -> None:
    """Write the page to a file whose name ends in .html, and to every other what matplotlib draws."""
    if isinstance(path, str | os.PathLike) and Path(path).suffix.lower() in (".html", ".htm"):
        write_atomically(path, html().encode())
    else:
        plot()


def _largest(values: HostArray, most: int) -> HostArray:
    """The places of the largest |values|, the largest first."""
    order: HostArray = np.argsort(-np.abs(values), kind="stable")[:most]
    return order


def largest_bars(
    names: Sequence[str], values: HostArray, title: str, most: int, spread: HostArray | None = None
) -> Bars:
    """A bar for each of the largest |values| with their names; the others are counted."""
    chosen = _largest(values, most)
    left = len(values) - len(chosen)
    left_out = f"{left:,} smaller ones are not shown" if left else ""
    shown = None if spread is None else spread[chosen]
    return Bars(title, [names[i] for i in chosen], values[chosen], shown, left_out)


def draw_bars(
    names: Sequence[str], values: HostArray, label: str, most: int, path: Any, spread: HostArray | None = None
) -> Any:
    """A bar for each of the largest |values|, the largest on top, with their names."""
    chosen = _largest(values, most)[::-1]
    figure = make_figure(6.4, 1.0 + 0.3 * len(chosen))
    axes = figure.subplots()
    colors = [_PLUS if values[i] >= 0 else _MINUS for i in chosen]
    axes.barh(range(len(chosen)), values[chosen], color=colors, xerr=None if spread is None else spread[chosen])
    axes.set_yticks(range(len(chosen)), [names[i] for i in chosen], parse_math=False)
    axes.axvline(0, color="#666666", linewidth=0.8)
    left = len(values) - len(chosen)
    axes.set_xlabel(label + (f" ({left:,} smaller ones are not shown)" if left else ""))
    axes.spines[["top", "right"]].set_visible(False)
    return saved(figure, path)


def draw_picture(values: HostArray, label: str, path: Any) -> Any:
    """Values (height, width) in two colours around 0, which is white."""
    figure = make_figure(4.6, 4.0)
    axes = figure.subplots()
    largest = float(np.abs(values).max()) or 1.0
    image = axes.imshow(values, cmap="RdBu", vmin=-largest, vmax=largest)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(label, parse_math=False)
    figure.colorbar(image, ax=axes, fraction=0.045, pad=0.02)
    return saved(figure, path)
