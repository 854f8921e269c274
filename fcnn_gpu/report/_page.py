"""The parts of a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def section(title: str, *parts: str) -> str:
    """A part of the page under a heading; nothing where it is empty."""
    inner = "".join(parts)
    return f"<section>\n<h2>{escape(title)}</h2>\n{inner}\n</section>\n" if inner else ""


def charts(*parts: str) -> str:
    """Charts side by side, as many as there is room for."""
    inner = "".join(parts)
    return f'<div class="charts">{inner}</div>' if inner else ""


def facts(named: Iterable[tuple[str, str]]) -> str:
    """Numbers that are seen first."""
    inner = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in named)
    return f'<div class="facts">{inner}</div>'


def text(said: str) -> str:
    return f"<p>{escape(said)}</p>"


def code(lines: str) -> str:
    return f"<pre><code>{escape(lines)}</code></pre>"


class Html(str):
    """A cell that is HTML already."""


def grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, which scrolls by itself where it is wider than the page; the first column has names."""
    first = ' class="name"'
    head = "".join(f'<th scope="col"{"" if i else first}>{escape(name)}</th>' for i, name in enumerate(header))
    body = "".join(
        f'<tr><td class="name">{escape(name)}</td>'
        + "".join(f"<td>{c if isinstance(c, Html) else escape(c)}</td>" for c in cells)
        + "</tr>"
        for name, *cells in rows
    )
    return f'<div class="table" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
