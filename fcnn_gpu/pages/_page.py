"""The page around its parts: one file that loads nothing."""

from __future__ import annotations

from html import escape

from ._style import STYLE


def page(title: str, body: str, script: str = "") -> str:
    """The whole file."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f'<meta name="color-scheme" content="light dark"/>\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n"
        f'</head>\n<body>\n<main class="fcnn">\n{body}</main>\n{script}</body>\n</html>\n'
    )


def fragment(body: str) -> str:
    """The same within another page, such as a notebook's."""
    return f'<div class="fcnn"><style>{STYLE}</style>{body}</div>'
