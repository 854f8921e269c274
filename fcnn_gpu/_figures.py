"""Figures of matplotlib (the plot extra), outside pyplot, and their files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._extras import how_to_install
from .files import atomic_replacement

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 160


class PictureError(RuntimeError):
    """A picture cannot be drawn; the message names it and says why."""


@contextmanager
def drawing(what: str) -> Iterator[None]:
    """For programs that go on without a picture: what matplotlib raises is a `PictureError`, files' errors aside."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise PictureError(f"{what} cannot be drawn: {type(error).__name__}: {error}") from error


def make_figure(width: float, height: float) -> Figure:
    """A figure outside pyplot: it needs no display, belongs to no global state and frees itself. Notebooks show it."""
    try:
        import matplotlib.figure  # noqa: F401 (the picture may be there without it, from before)

        from ._picture import Picture
    except ImportError as error:
        raise ImportError(f"Plots need matplotlib. Run: {how_to_install('plot')}") from error
    return Picture(figsize=(width, height), layout="constrained")


def saved(figure: Figure, path: Any) -> Figure:
    """The figure, written to `path` (.png, .pdf, .svg, ..., or an open file) if one is given.

    A file is replaced whole or not at all. As in matplotlib, a name without an ending gets that of its default format;
    what is there and is no regular file (a pipe, /dev/null) keeps its name.
    """
    if not isinstance(path, str | os.PathLike):
        if path is not None:
            figure.savefig(path, dpi=_DPI)
        return figure
    target = Path(path)
    kind = target.suffix[1:].lower()
    if not kind:
        kind = figure.canvas.get_default_filetype()
        if target.is_file() or not target.exists():
            target = target.with_name(f"{target.name}.{kind}")
    with atomic_replacement(target) as beside:
        figure.savefig(beside, format=kind, dpi=_DPI)
    return figure
