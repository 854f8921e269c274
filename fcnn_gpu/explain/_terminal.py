"""An explanation in the terminal, by rich."""

from __future__ import annotations

import io
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ._document import Formulas, Grid, Note, Picture, Section

_WIDTH = 80
_SHADES = " ·░▒▓█"
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
        if not block.signed:
            console.print(Text(_picture(block)))
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
