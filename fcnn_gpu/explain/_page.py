"""An explanation as a page of its own: HTML that loads nothing and needs no script, formulas in MathML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from .. import pages
from ._document import Bars, Formulas, Grid, Note, Picture, Section
from ._mathml import mathml


def page(sections: list[Section]) -> str:
    """The whole page."""
    return pages.page(sections[0].title, _body(sections))


def fragment(sections: list[Section]) -> str:
    """The same within another page, such as a notebook's."""
    return pages.fragment(_body(sections))


def _body(sections: list[Section]) -> str:
    parts, open_part = [], False
    for section in sections:
        inner = "".join(_block(block) for block in section.blocks)
        level = min(section.depth + 1, 6)
        heading = f"<h{level}>{escape(section.title)}</h{level}>\n"
        if section.depth <= 1:
            parts.append(("</section>\n" if open_part else "") + "<section>\n" + heading + inner)
            open_part = True
        else:
            parts.append(f"<article>\n{heading}{inner}</article>\n")
    return "".join(parts) + "</section>\n"


def _block(block: Any) -> str:
    if isinstance(block, Formulas):
        return "".join(f'<div class="formula">{mathml(line)}</div>\n' for line in block.lines)
    if isinstance(block, Note):
        return f"<p>{escape(block.text)}</p>\n"
    if isinstance(block, Picture):
        return pages.picture(block.pixels, block.label, escape(block.label), block.signed) + "\n"
    return _bars(block) if isinstance(block, Bars) else _grid(block)


def _grid(grid: Grid) -> str:
    """A table with its numbers below each other; it scrolls by itself where it is wider than the page."""
    cells = "".join(
        f'<th scope="col"{_kind(i, grid)}>{escape(name) if i < grid.n_names else mathml(name)}</th>'
        for i, name in enumerate(grid.head)
    )
    left = f'<p class="left">{escape(grid.left_out)}</p>\n' if grid.left_out else ""
    return (
        f'<div class="table beside" tabindex="0"><table>\n<caption>{_caption(grid.title)}</caption>\n'
        f"<thead><tr>{cells}</tr></thead>\n<tbody>\n{_rows(grid.rows, grid)}</tbody>\n"
        + (f"<tfoot>\n{_rows(grid.sums, grid)}</tfoot>\n" if grid.sums else "")
        + f"</table>{left}</div>\n"
    )


def _bars(bars: Bars) -> str:
    """A table of names, numbers and bars, those below 0 to the left."""
    low = -1.0 if (bars.values < 0).any() else 0.0
    rows = "".join(
        f'<tr><td class="name">{escape(name)}</td><td>{escape(shown)}</td><td><svg class="length" '
        f'viewBox="{low} 0 {1 - low} 1" preserveAspectRatio="none" aria-hidden="true"><rect class="{_sign(x)}" '
        f'x="{min(x, 0.0):.4g}" y="0" width="{abs(x):.4g}" height="1"/></svg></td></tr>\n'
        for name, shown, x in zip(bars.names, bars.numbers, (bars.values / bars.reach).tolist(), strict=True)
    )
    left = f'<p class="left">{escape(bars.left_out)}</p>\n' if bars.left_out else ""
    return (
        f'<div class="table beside" tabindex="0"><table>\n<caption>{escape(bars.title)}</caption>\n'
        f"<tbody>\n{rows}</tbody>\n</table>{left}</div>\n"
    )


def _sign(x: float) -> str:
    return "minus" if x < 0 else "plus"


def _caption(title: str) -> str:
    """What follows a colon is a formula."""
    words, colon, formula = title.partition(": ")
    return f"{escape(words)}: {mathml(formula)}" if colon else escape(title)


def _kind(i: int, grid: Grid) -> str:
    return ' class="name"' if i < grid.n_names else ""


def _rows(rows: Sequence[tuple[str, ...]], grid: Grid) -> str:
    made = ""
    for row in rows:
        cells = "".join(f"<td{_kind(i, grid)}>{escape(cell)}</td>" for i, cell in enumerate(row))
        made += f"<tr>{cells}</tr>\n"
    return made
