"""Pictures of attributions, by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._figures import make_figure, saved
from .._types import HostArray

_PLUS, _MINUS = "#0072b2", "#d55e00"  # Okabe & Ito's palette


def draw_bars(
    names: Sequence[str], values: HostArray, label: str, most: int, path: Any, spread: HostArray | None = None
) -> Any:
    """A bar for each of the largest |values|, the largest on top, with their names."""
    chosen = np.argsort(-np.abs(values), kind="stable")[:most][::-1]
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
