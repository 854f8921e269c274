"""The page around the parts: one file that loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
.report{--ink:#1b1f24;--soft:#5b6570;--line:#d9dee3;--ground:#fff;--panel:#f6f8fa;--accent:#0b5cad;
--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#cc79a7;--c4:#8a6d00;--c5:#56b4e9;--c6:#7a5195;--c7:#a05a2c;--c8:#4d4d4d;--c9:#b3007d;
color:var(--ink);background:var(--ground);font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:0 auto;
padding:1rem clamp(.75rem,3vw,2rem) 4rem;box-sizing:border-box}
@media(prefers-color-scheme:dark){.report{--ink:#e6e9ed;--soft:#9aa5b1;--line:#343b43;--ground:#14171a;--panel:#1d2126;
--accent:#6cb2ff;--c0:#5ab4e8;--c1:#ff9a52;--c2:#3fd0a4;--c3:#e8a3c8;--c4:#e6cf4a;--c5:#9cd3f5;--c6:#b79be0;--c7:#d79a6a;--c8:#bdbdbd;--c9:#f06ac6}
body:has(>.report){background:#14171a}}
body:has(>.report){margin:0}
.report h1{font-size:1.7rem;line-height:1.2;margin:.5rem 0 .25rem;overflow-wrap:anywhere}
.report h2{font-size:1.3rem;margin:2.2rem 0 .5rem;padding-bottom:.25rem;border-bottom:2px solid var(--accent)}
.report p{margin:.4rem 0;color:var(--soft);max-width:46rem}
.report .facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(11rem,100%),1fr));gap:.75rem;margin:1rem 0}
.report .facts div{background:var(--panel);border:1px solid var(--line);border-radius:.5rem;padding:.6rem .8rem}
.report .facts b{display:block;font-size:1.25rem;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.report .facts span{color:var(--soft);font-size:.85rem}
.report .charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(22rem,100%),1fr));gap:1rem}
.report figure{margin:0}
.report figcaption{font-size:.85rem;color:var(--soft);display:flex;flex-wrap:wrap;gap:.2rem 1rem}
.report .chart>svg{width:100%;height:auto;display:block}
.report .key{width:1.5rem;height:.5rem;vertical-align:middle}
.report .axis{fill:none;stroke:var(--soft)}.report .grid{stroke:var(--line);fill:none}
.report .tick{font-size:12px;fill:var(--soft)}.report .label{font-size:13px;fill:var(--ink)}
.report .line{fill:none;stroke-width:2}.report .mark{fill:none;stroke:var(--soft);stroke-dasharray:3 3}
.report .cloud{opacity:.45}
.report .scroll{overflow-x:auto;max-width:100%;margin:.6rem 0}
.report table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.92rem}
.report th,.report td{padding:.2rem .7rem;text-align:right;white-space:nowrap}
.report th{border-bottom:1px solid var(--soft);font-weight:600}
.report td:first-child,.report th:first-child{text-align:left}
.report tbody tr:nth-child(even){background:color-mix(in srgb,var(--line) 30%,transparent)}
.report .matrix td{text-align:center;padding:.2rem .5rem;min-width:1.6rem;
background:color-mix(in srgb,var(--c0) calc(var(--share)*85%),transparent)}
.report .matrix tr{background:none!important}.report .matrix th{border:0}
.report .strip{width:7.75rem;height:1.25rem;fill:var(--c0);vertical-align:middle}
.report .images{display:flex;flex-wrap:wrap;gap:.8rem}
.report .images img{width:6rem;image-rendering:pixelated;border:1px solid var(--line);display:block}
.report .images figcaption{display:block;line-height:1.3}
.report pre{background:var(--panel);border:1px solid var(--line);border-radius:.5rem;padding:.8rem;overflow-x:auto}
.report pre{font-size:.9rem}
@media(max-width:40rem){.report th,.report td{padding:.15rem .4rem}.report table{font-size:.85rem}}
@media print{.report{max-width:none}.report section{break-inside:avoid-page}}
"""
N_COLOURS = 10
_COLOURS = "".join(
    f".report .line.c{i}{{stroke:var(--c{i})}}.report .dot.c{i},.report .bar.c{i}{{fill:var(--c{i})}}\n"
    for i in range(N_COLOURS)
)


def page(title: str, body: str, script: str = "") -> str:
    """The whole file."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f'<meta name="color-scheme" content="light dark"/>\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}{_COLOURS}</style>\n"
        f'</head>\n<body>\n<main class="report">\n{body}</main>\n{script}</body>\n</html>\n'
    )


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
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{c if isinstance(c, Html) else escape(c)}</td>" for c in cells) + "</tr>"
        for cells in rows
    )
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
