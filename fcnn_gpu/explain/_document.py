"""What is shown of an explanation, before it is text or a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .._types import HostArray
from ..pages import number


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


@dataclass(frozen=True)
class Bars:
    """Numbers (n,) by their names, with a bar for each about 0.

    Attributes:
        title: what the numbers are.
        names, values: in the order in which they are shown.
        spread: what stands behind ± of each, or None.
        left_out: as of a `Grid`.
    """

    title: str
    names: Sequence[str]
    values: HostArray
    spread: HostArray | None = None
    left_out: str = ""

    @property
    def numbers(self) -> list[str]:
        """The numbers as text."""
        spread = [""] * len(self.values) if self.spread is None else [f" ± {x:.2g}" for x in self.spread.tolist()]
        return [number(x) + more for x, more in zip(self.values.tolist(), spread, strict=True)]

    @property
    def reach(self) -> float:
        """The length of the longest bar, not 0."""
        return float(np.abs(self.values).max(initial=0.0)) or 1.0


Block: TypeAlias = Formulas | Grid | Note | Picture | Bars


@dataclass(frozen=True)
class Section:
    """A heading with what is below it; `depth` 0 is the whole, 1 its parts, and 2 and more the layers."""

    title: str
    blocks: list[Block]
    depth: int = 1
