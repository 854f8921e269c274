"""`fcnn-gpu explain`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import _backend, _threads


def explain(
    model: Annotated[Path, typer.Argument(help="A model file, or the folder that train --out made.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="A data set or a file, as for train. (default: what the model was trained on, where that is)"
        ),
    ] = None,
    row: Annotated[
        int | None,
        typer.Option(
            help="The sample, from 0: a row of the file, or of a data set's test part. (default: 0)", show_default=False
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="A class, or an output's number: units stand in the order of their part in it, and attributions are "
            "of it, or of the loss. (default: the largest)"
        ),
    ] = None,
    attribution: Annotated[
        str | None,
        typer.Option(
            help="Instead, what each input has part in: integrated_gradients, gradient, gradient_x_input or occlusion "
            "of the sample; permutation: what the loss grows by, over all samples, where a column is shuffled."
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Attributions: what integrated gradients and occlusion compare with, zero or the mean of all samples. "
            "(default: zero of images and of tables, whose columns are standardized; else mean)"
        ),
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="What makes the update, as for train, with settings as in sgd:momentum=0.9.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Its learning rate. (default: the optimizer's)")] = None,
    training: Annotated[bool, typer.Option("--training", help="With dropout, as a training step has it.")] = False,
    most: Annotated[
        int | None, typer.Option(help="At most so many rows of each table. (default: 8; 15 bars)", show_default=False)
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page to this file, in place of printing.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The same; of attributions also a picture: FILE.png, .pdf, .svg. (needs the extra plot)"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Attributions: print the numbers as JSON.")] = False,
    target: Annotated[
        str | None, typer.Option(help="As for train. (default: as it was for the model's training)")
    ] = None,
    header: Annotated[
        bool | None, typer.Option("--header/--no-header", help="CSV, Excel: whether the first line names the columns.")
    ] = None,
    sheet: Annotated[str | None, typer.Option(help="Excel: the sheet. (default: the first)")] = None,
    backend: Annotated[str | None, typer.Option(help=_backend.HELP)] = None,
    threads: Annotated[int | None, typer.Option(help=_threads.HELP)] = None,
) -> int:
    """Show one sample's way through a saved model in numbers: forward, loss, backward and one update.

    Every layer has its equation, what goes in and comes out, and of weighted sums and gradients each factor beside its
    product. With --attribution, what the inputs have part in. The model's file stays as it is.
    """
    options = locals()
    from ._explain import run_explain  # which the help does without

    return run_explain(**options)
