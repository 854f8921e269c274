"""`fcnn-gpu predict`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import _backend, _threads


def predict(
    model: Annotated[Path, typer.Argument(help="A model file, or the folder that train --out made.")],
    inputs: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A table, IDX images, .npy or .npz: one sample per row.")
    ],
    out: Annotated[Path | None, typer.Option(help="Write the CSV to this file. (default: print it)")] = None,
    proba: Annotated[
        bool, typer.Option("--proba", help="Add a column with the probability of each class to the label.")
    ] = False,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Tables: a column to write before the predictions, by name or number from 0. May be repeated.",
        ),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Of numbers: a column to leave out, by name or number from 0. May be repeated. Of other tables the "
            "columns that the model knows are taken.",
        ),
    ] = None,
    ignore_extra: Annotated[
        bool, typer.Option("--ignore-extra", help="Of numbers: leave out all columns that the model does not know.")
    ] = False,
    header: Annotated[
        bool | None, typer.Option("--header/--no-header", help="CSV, Excel: whether the first line names the columns.")
    ] = None,
    sheet: Annotated[str | None, typer.Option(help="Excel: the sheet. (default: the first)")] = None,
    backend: Annotated[str | None, typer.Option(help=_backend.HELP)] = None,
    threads: Annotated[int | None, typer.Option(help=_threads.HELP)] = None,
) -> int:
    """Print what a saved model predicts for each sample of INPUT, as CSV: class names, or values."""
    options = locals()
    from ._predict import run_predict  # which the help does without

    return run_predict(**options)
