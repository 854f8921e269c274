"""An explanation in the terminal, by rich."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ._document import Bars, Formulas, Grid, Note, Picture, Section

_WIDTH = 80
_SHADES = " ·░▒▓█"
_SHADES_BELOW = " -~=%#"
"""Of numbers below 0 in a picture of signed ones, as strong as `_SHADES`."""
_PLUS, _MINUS = "blue", "dark_orange"
_BAR = 32
"""Columns of the longest bar."""
_LINES = box.Box("    \n    \n ── \n    \n ── \n ── \n    \n    \n")
"""A line below the head, and one above sums."""


def show(sections: list[Section], console: Console | None = None) -> None:
    """Print the sections, each with its blocks."""
    console = Console(highlight=False) if console is None else console
    for section in sections:
        style = "bold" if section.depth > 1 else "bold cyan"
        console.print()
        console.print(Text(section.title, style=style))
        if section.depth == 1:
            console.print(Text("─" * min(len(section.title), console.width), style="cyan"))
        for block in section.blocks:
            _show(block, console)


def text(sections: list[Section]) -> str:
    """The sections as text, 80 columns wide."""
    stream = io.StringIO()
    show(sections, Console(file=stream, width=_WIDTH, highlight=False, color_system=None))
    return stream.getvalue().strip("\n")


def _show(block: Any, console: Console) -> None:
    if isinstance(block, Formulas):
        for line in block.lines:
            console.print(Text(f"  {line}", style="green"))
    elif isinstance(block, Note):
        console.print(Text(block.text))
    elif isinstance(block, Picture):
        console.print(_signed(block) if block.signed else Text(_picture(block)))
    elif isinstance(block, Bars):
        console.print(Text(f"\n  {block.title}", style="italic"))
        console.print(_bars(block))
        if block.left_out:
            console.print(Text(f"  {block.left_out}", style="dim"))
    else:
        console.print(Text(f"\n  {block.title}", style="italic"))
        console.print(_table(block))
        if block.left_out:
            console.print(Text(f"  {block.left_out}", style="dim"))


def _table(grid: Grid) -> Table:
    table = Table(box=_LINES, pad_edge=False)
    for i, name in enumerate(grid.head):
        is_name = i < grid.n_names
        table.add_column(Text(name), justify="left" if is_name else "right", overflow="fold", no_wrap=not is_name)
    for i, row in enumerate(grid.rows):
        table.add_row(*map(Text, row), end_section=bool(grid.sums) and i == len(grid.rows) - 1)
    for row in grid.sums:
        table.add_row(*map(Text, row))
    return table


def _picture(picture: Picture) -> str:
    """Two columns of the terminal a pixel, from the smallest number to the largest."""
    low, high = float(picture.pixels.min()), float(picture.pixels.max())
    levels = (picture.pixels - low) / (high - low if high > low else 1.0) * (len(_SHADES) - 1)
    return "\n".join("".join(_SHADES[round(float(x))] * 2 for x in row).rstrip() for row in levels)


def _signed(picture: Picture) -> Text:
    """The same of signed numbers about 0, which is blank; those below it are in other signs and another colour."""
    largest = float(np.abs(picture.pixels).max()) or 1.0
    made = Text()
    for row in picture.pixels:
        for x in row.tolist():
            shades = _SHADES if x >= 0 else _SHADES_BELOW
            made.append(shades[round(abs(x) / largest * (len(shades) - 1))] * 2, style=_PLUS if x >= 0 else _MINUS)
        made.append("\n")
    made.rstrip()
    return made


def _bars(bars: Bars) -> Table:
    """Names, numbers and bars, those below 0 to the left of a line."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    below = bool((bars.values < 0).any())
    width = _BAR // 2 if below else _BAR
    for name, shown, x in zip(bars.names, bars.numbers, (bars.values / bars.reach).tolist(), strict=True):
        bar = "█" * round(abs(x) * width)
        drawn = Text(f"{bar if x < 0 else '':>{width}}", style=_MINUS) if below else Text()
        drawn.append("│").append(bar if x > 0 else "", style=_PLUS)
        table.add_row(Text(f"  {name}"), Text(shown), drawn)
    return table
