"""What objects show of themselves in a notebook: HTML of which every text is escaped.

Styles are written at the elements: a notebook that is not trusted, and the pages that show notebooks, leave out style
sheets and scripts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_CELL = "padding:0.15em 0.7em;white-space:nowrap;"
_LEFT, _RIGHT = f"{_CELL}text-align:left", f"{_CELL}text-align:right;font-variant-numeric:tabular-nums"
_RULE = "border-bottom:1px solid currentColor"


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", left: int = 1, marked: int | None = None
) -> str:
    """A table; the first `left` columns are aligned to the left, the others to the right, and row `marked` is bold."""

    def row(tag: str, cells: Sequence[str], more: str = "") -> str:
        styles = [(_LEFT if i < left else _RIGHT) + more for i in range(len(cells))]
        return "".join(f'<{tag} style="{s}">{escape(cell)}</{tag}>' for s, cell in zip(styles, cells, strict=True))

    body = "".join(
        f"<tr>{row('td', cells, ';font-weight:bold' if i == marked else '')}</tr>" for i, cells in enumerate(rows)
    )
    above = f'<caption style="text-align:left;white-space:normal">{escape(caption)}</caption>' if caption else ""
    head = f"<thead><tr>{row('th', header, f';{_RULE}')}</tr></thead>"
    return f'<table style="border-collapse:collapse">{above}{head}<tbody>{body}</tbody></table>'


def paragraph(text: str) -> str:
    return f'<p style="margin:0.3em 0">{escape(text)}</p>'


class ShownAsText:
    """Base of what prints as a table of its own: a notebook shows that text, in letters of one width."""

    def _repr_html_(self) -> str:
        return f'<pre style="line-height:1.3">{escape(str(self))}</pre>'
