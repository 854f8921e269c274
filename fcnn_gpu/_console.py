"""What is printed, in the characters that the stream has.

A pipe on Windows takes those of a code page, and the C locale ASCII alone. What is printed for people must not fail
there for a × or a λ: it is written in other signs. Data is another matter, and goes through `cli/_output.py`.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

LEGIBLE = "fcnn_gpu.legible"
"""The name of an error handler of `codecs`: signs that mean the same, and for the rest the number of the character."""

_FAILING = ("strict", "surrogateescape")
"""The error handlers that do not take every character: Python's own for standard output, and that of the C locale."""

_SIGNS = {
    "×": "x",
    "·": "*",
    "–": "-",
    "—": "-",
    "−": "-",
    "…": "...",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "≈": "~",
    "²": "^2",
    "³": "^3",
    "₁": "1",
    "₂": "2",
    "λ": "lambda",
    "η": "eta",
    "β": "beta",
    "γ": "gamma",
    "ε": "epsilon",
    "Σ": "sum ",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
    "━": "-",
    "╸": "-",
    "╺": "-",
    "─": "-",
    "│": "|",
    "•": "*",
    "░": ".",
    "▒": "o",
    "▓": "O",
    "█": "#",
}


def counted(n: int, what: str) -> str:
    """How many there are, of a noun whose plural has an s, or an es behind an s.

    >>> counted(1, "epoch"), counted(2500, "step"), counted(2, "class")
    ('1 epoch', '2,500 steps', '2 classes')
    """
    return f"{n:,} {what}" + ("" if n == 1 else "es" if what.endswith("s") else "s")


def readable(value: float) -> str:
    """A loss or metric in a line for people: four decimals, and as many digits where it is very large or very small.

    >>> [readable(x) for x in (0.25, 1234.5, 0.00001234, 25295.4753, 1011051921.4, float("nan"))]
    ['0.2500', '1234.5000', '1.234e-05', '25,295.5', '1.0111e+09', 'nan']
    """
    size = abs(value)
    if 0 < size < 1e-4:
        return f"{value:.4g}"
    if size < 1e4:
        return f"{value:.4f}"
    return f"{value:,.1f}" if size < 1e7 else f"{value:.5g}"


def _legible(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = []
    for character in error.object[error.start : error.end]:
        sign = _SIGNS.get(character)
        found.append(character.encode("ascii", "backslashreplace").decode() if sign is None else sign)
    return "".join(found), error.end


codecs.register_error(LEGIBLE, _legible)


@contextmanager
def every_character(*streams: Any) -> Iterator[None]:
    """Within, text streams take every character; one that lacks it writes what `LEGIBLE` says.

    >>> import io
    >>> stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    >>> with every_character(stream):
    ...     _ = stream.write("128×784, λ‖w‖²")
    >>> stream.flush()
    >>> stream.buffer.getvalue().decode()
    '128x784, lambda\\\\u2016w\\\\u2016^2'
    """
    with ExitStack() as ends:
        for stream in streams:
            if isinstance(stream, io.TextIOWrapper) and stream.errors in _FAILING:
                ends.callback(_restore, stream, stream.errors)
                stream.reconfigure(errors=LEGIBLE)
        yield


def _restore(stream: io.TextIOWrapper, errors: str) -> None:
    """What others print next fails again where it did."""
    if not stream.closed:
        stream.reconfigure(errors=errors)
