"""`fcnn-gpu report`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import _backend, _threads


def report(
    run: Annotated[Path, typer.Argument(help="The folder that train --out made, or a model file.")],
    data: Annotated[
        str | None,
        typer.Option(help="A data set or a file to measure it on. (default: what it was trained on, where that is)"),
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="As for train. (default: as it was for the model's training)")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The page. (default: report.html in the folder of the run)")] = None,
    backend: Annotated[str | None, typer.Option(help=_backend.HELP)] = None,
    threads: Annotated[int | None, typer.Option(help=_threads.HELP)] = None,
) -> int:
    """Write a run as one page: what was trained, how it went, how good it is, and where it fails.

    The page is one HTML file that loads nothing: it can be sent, and opened without a network.
    """
    options = locals()
    from ._report import run_report  # which the help does without

    return run_report(**options)
