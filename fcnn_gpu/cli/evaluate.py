"""`fcnn-gpu evaluate`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import _backend, _threads


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model file, or the folder that train --out made.")],
    data: Annotated[
        str | None,
        typer.Option(help="A data set or a file, as for train. (default: the data set that the model was trained on)"),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            help="test (what training held out, or the data's own test part), train, or all. Of another file than the "
            "model was trained on, test are the rows that training did not have. (default: test of the file that the "
            "model was trained on, which is known by its content, and all of any other)"
        ),
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="As for train. (default: as it was for the model's training)")
    ] = None,
    header: Annotated[
        bool | None, typer.Option("--header/--no-header", help="CSV, Excel: whether the first line names the columns.")
    ] = None,
    sheet: Annotated[
        str | None,
        typer.Option(
            help="Excel: the sheet. (default: of the training file the one that was trained on, else the first)"
        ),
    ] = None,
    test_fraction: Annotated[
        float | None, typer.Option(help="As for train. (default: as it was for the model's training)")
    ] = None,
    ignore_extra: Annotated[
        bool,
        typer.Option("--ignore-extra", help="Of numbers: leave out all columns that the model does not know."),
    ] = False,
    loss: Annotated[
        str | None,
        typer.Option(
            help="What to measure as the loss, as for train; quantile:quantiles=0.05/0.5/0.95 of a network that "
            "predicts these. (default: as it was for the model's training, where the model says so)"
        ),
    ] = None,
    backend: Annotated[str | None, typer.Option(help=_backend.HELP)] = None,
    threads: Annotated[int | None, typer.Option(help=_threads.HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> int:
    """Measure a saved model: its loss, and accuracy with a table of the classes, or R², MAE and RMSE.

    Rows of a new file that the model was trained on are named: they say nothing about rows that it has not seen.
    """
    options = locals()
    from ._evaluate import run_evaluate  # which the help does without

    return run_evaluate(**options)
