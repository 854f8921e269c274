"""A report on the terminal (rich) and in files (Markdown)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._table import Cell, Column, Section, Table
from ._tables import sections
from .results import Report

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

_MORE = "A wider terminal shows more columns, and the Markdown page all of them and every timing."

_GAP = 2
"""Blanks between columns."""

_STYLES = {"": "", "fastest": "bold", "ahead": "bold green", "level": "yellow", "behind": "bold red"}


def print_report(report: Report, console: Console) -> None:
    """Every table that is not for files alone, each with as many of its columns as the console is wide."""
    left_out = False
    for section in sections(report):
        console.rule(f"[bold]{section.heading}", align="left", style="dim")
        for paragraph in section.text:
            console.print(paragraph, markup=False, highlight=False)
        for table in section.tables:
            left_out |= table.files_only or _print_table(table, console)
        console.print()
    if left_out:
        console.print(_MORE, style="dim", highlight=False)


def to_markdown(report: Report, pictures: dict[str, str] | None = None) -> str:
    """The whole report as a page; `pictures`: what each shows, by file name relative to the page."""
    page = [f"# Benchmark of fcnn_gpu, {report.created[:10]}"]
    for section in sections(report):
        page += markdown_section(section)
    if pictures:
        page.append("## Pictures")
        page += [f"![{caption}]({name})" for name, caption in pictures.items()]
    return "\n\n".join(page) + "\n"


# The terminal


def _print_table(table: Table, console: Console) -> bool:
    """With all columns if they fit; else with folded headings; else without the most optional columns, one by one.

    Returns whether columns were left out.
    """
    shown, fold = list(range(len(table.columns))), False
    while (excess := sum(_least_widths(table, shown, fold)) + _GAP * (len(shown) - 1) - console.width) > 0:
        most = max(table.columns[i].optional for i in shown)
        if fold and most == 0:
            break
        if fold:
            shown = [i for i in shown if table.columns[i].optional < most]
        fold = True
    console.print()
    console.print(table.title, style="bold", markup=False, highlight=False)
    console.print(_rich_table(table, shown, fold, spare=-excess))
    for sentence in table.below:
        console.print(sentence, style="dim", markup=False, highlight=False)
    return len(shown) < len(table.columns)


def _least_widths(table: Table, shown: list[int], fold: bool) -> list[int]:
    """What each column needs: its longest text, or what it keeps of it."""
    widths = []
    for i in shown:
        column = table.columns[i]
        texts = [row[i].text for row in table.rows]
        heading = max(map(len, _heading(column, fold).split("\n")))
        longest = max(map(len, texts), default=0)
        widths.append(max(heading, min(longest, column.keeps) if column.keeps else longest))
    return widths


def _rich_table(table: Table, shown: list[int], fold: bool, spare: int) -> RichTable:
    """The columns `shown`; those that may be broken share what the console is wider than all of them need.

    With less than nothing to spare any text may be broken: better in two lines than cut off.
    """
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    named = any(column.name for column in table.columns)
    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), show_header=named)
    for i, width in zip(shown, _least_widths(table, shown, fold), strict=True):
        column = table.columns[i]
        longest = max((len(row[i].text) for row in table.rows), default=0)
        more = max(0, min(spare, longest - width)) if column.keeps else 0
        spare -= more
        drawn.add_column(
            Text(_heading(column, fold), style="bold"),
            justify="left" if column.is_text else "right",
            no_wrap=not column.keeps and spare >= 0,
            width=None if spare < 0 else width + more,
            overflow="fold",
        )
    for row in table.rows:
        drawn.add_row(*(Text(row[i].text, style=_STYLES[row[i].mark]) for i in shown))
    return drawn


def _heading(column: Column, fold: bool) -> str:
    return column.name.replace(" ", "\n").replace("-", "-\n") if fold and not column.keeps else column.name


# Files


def markdown_section(section: Section) -> list[str]:
    """The section as paragraphs of Markdown, its heading first."""
    parts = [f"## {section.heading}", *map(_escaped, section.text)]
    for table in section.tables:
        parts += [f"### {_escaped(table.title)}", _markdown_table(table)]
        if table.below:
            parts.append("\n".join(f"- {_escaped(sentence)}" for sentence in table.below))
    return parts


def _markdown_table(table: Table) -> str:
    lines = [
        [_escaped(column.name) for column in table.columns],
        ["---" if column.is_text else "---:" for column in table.columns],
        *([_markdown_cell(cell) for cell in row] for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown_cell(cell: Cell) -> str:
    text = _escaped(cell.text)
    return f"**{text}**" if cell.mark == "fastest" else text


def _escaped(text: str) -> str:
    """Without a meaning to Markdown: a bar would end a cell, a star begin emphasis."""
    for sign in "\\|*_<[":
        text = text.replace(sign, f"\\{sign}")
    return text
