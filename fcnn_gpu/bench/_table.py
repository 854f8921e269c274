"""A table as rows of text, apart from how it is drawn: made once for terminals and files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Mark = Literal["", "fastest", "ahead", "level", "behind"]


@dataclass(frozen=True)
class Cell:
    """A text that stands out: the fastest of its row, or a ratio's verdict."""

    text: str
    mark: Mark = ""


@dataclass(frozen=True)
class Column:
    """What stands under each other.

    Attributes:
        name: its heading; a table whose columns have none has no headings.
        is_text: words, which start at the left; numbers end at the right.
        optional: columns give way in a narrow terminal, those with the largest number first; 0 stays.
        keeps: so many characters stay in one line there, and longer texts are broken; 0: none is broken.
    """

    name: str
    is_text: bool = False
    optional: int = 0
    keeps: int = 0


@dataclass(frozen=True)
class Table:
    """One table with the sentences under it."""

    title: str
    columns: list[Column]
    rows: list[list[Cell]]
    below: list[str] = field(default_factory=list)
    files_only: bool = False


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs and tables."""

    heading: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


NOTHING = Cell("—")


def cells(*texts: str | Cell) -> list[Cell]:
    """A row: texts, and cells as they are."""
    return [text if isinstance(text, Cell) else Cell(text) for text in texts]
