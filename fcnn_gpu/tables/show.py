"""The kinds of a table's columns as a table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from .kinds import ColumnKind

_MOST_ROWS = 100


def print_kinds(console: Console, kinds: Sequence[ColumnKind], n_inputs: Mapping[str, int]) -> None:
    """A row per column: its kind, why, and how many inputs it becomes; of very many columns, the kinds' numbers.

    Args:
        console: where to.
        kinds: as found.
        n_inputs: of the columns that are used, how many inputs each becomes.
    """
    grid = Grid(box=box.SIMPLE_HEAD)
    grid.add_column("column", overflow="fold")
    grid.add_column("kind")
    grid.add_column("inputs", justify="right")
    grid.add_column("why", overflow="fold")
    shown = kinds if len(kinds) <= _MOST_ROWS else [kind for kind in kinds if not kind.is_used][:_MOST_ROWS]
    for kind in shown:
        n = n_inputs.get(kind.name, 0)
        grid.add_row(Text(kind.name), kind.kind, f"{n:,}" if n else "–", Text(kind.reason), style="" if n else "dim")
    if shown:
        console.print(grid)
    if len(shown) < len(kinds):
        used = [kind for kind in kinds if kind.is_used]
        by_kind = {name: sum(kind.kind == name for kind in used) for name in dict.fromkeys(k.kind for k in used)}
        numbers = ", ".join(f"{n:,} of kind {name}" for name, n in by_kind.items())
        which = "only those left out" if shown else "none"
        print(f"Columns: {len(kinds):,}, of which {which} are shown; inputs come of {numbers}")
