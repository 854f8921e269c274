"""What is shown of an explanation, before it is text or a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .._types import HostArray


@dataclass(frozen=True)
class Formulas:
    """Equations, one below the other, as `_mathml` reads them."""

    lines: list[str]


@dataclass(frozen=True)
class Grid:
    """A table of numbers.

    Attributes:
        title: what it shows.
        head: the names of the columns; the first `n_names` are of names, the others of numbers. Formulas.
        rows: their cells.
        sums: rows that close the table, behind a line.
        left_out: how many rows are not shown, and what there is to say of them.
    """

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    sums: Sequence[tuple[str, ...]] = ()
    left_out: str = ""
    n_names: int = 1


@dataclass(frozen=True)
class Note:
    """A sentence."""

    text: str


@dataclass(frozen=True)
class Picture:
    """Numbers (height, width) as pixels, and what they are. Signed ones are of two colours."""

    pixels: HostArray
    label: str
    signed: bool = False


Block: TypeAlias = Formulas | Grid | Note | Picture


@dataclass(frozen=True)
class Section:
    """A heading with what is below it; `depth` 0 is the whole, 1 its parts, and 2 and more the layers."""

    title: str
    blocks: list[Block]
    depth: int = 1


def number(x: float) -> str:
    """Four digits, with a minus sign."""
    x = float(x) + 0.0  # −0 is 0
    return (f"{x:.4g}" if 1e-4 <= abs(x) < 1e5 else f"{x:.3g}").replace("-", "−")
