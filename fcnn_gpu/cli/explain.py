"""`fcnn-gpu explain`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from .._checks import check_integer
from ..datasets import CATALOGUE
from ..optimizers import OPTIMIZERS
from ..tables import read
from . import _backend, _threads
from ._data import as_known, is_table, load_data
from ._model import SavedModel
from ._named import build


def explain(
    model: Annotated[Path, typer.Argument(help="A model file, or the folder that train --out made.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="A data set or a file, as for train. (default: what the model was trained on, where that is)"
        ),
    ] = None,
    row: Annotated[int, typer.Option(help="The sample, from 0: a row of the file, or of a data set's test part.")] = 0,
    output: Annotated[
        str | None,
        typer.Option(
            help="A class, or an output's number: units stand in the order of their part in it. (default: the largest)"
        ),
    ] = None,
    optimizer: Annotated[
        str, typer.Option(help="What makes the update, as for train, with settings as in sgd:momentum=0.9.")
    ] = "sgd",
    lr: Annotated[float | None, typer.Option(help="Its learning rate. (default: the optimizer's)")] = None,
    training: Annotated[bool, typer.Option("--training", help="With dropout, as a training step has it.")] = False,
    most: Annotated[int, typer.Option(help="At most so many rows of each table.")] = 8,
    html: Annotated[Path | None, typer.Option(help="Write a page to this file, in place of printing.")] = None,
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
    product. The model's file stays as it is.
    """
    check_integer("--row", row, low=0)
    check_integer("--most", most, low=1)
    if html is not None and not html.parent.is_dir():
        raise FileNotFoundError(f"--html: there is no folder {html.parent}.")
    given = {} if lr is None else {"learning_rate": lr}
    rule = build("--optimizer", optimizer, OPTIMIZERS, given=given, elsewhere={"learning_rate": "--lr"})
    _threads.choose_threads(threads)
    saved = SavedModel(model, backend)
    x, y = _sample(saved, data, row, target, header, sheet)
    number = None if output is None else _number(saved, output)
    made = saved.model.explain(x, y, loss=saved.loss, optimizer=rule, output=number, training=training)
    if html is None:
        made.show(most)
    else:
        made.save(html, most)
        print(f"Wrote {html}")
    return 0


def _number(saved: SavedModel, output: str) -> int:
    """The number of the output that --output names."""
    names = saved.class_names or []
    if output in names and len(names) == saved.model.n_out:
        return names.index(output)
    if output.isascii() and output.isdigit() and int(output) < saved.model.n_out:
        return int(output)
    known = f", or a class: {', '.join(names)}" if len(names) == saved.model.n_out else ""
    raise ValueError(f"--output expects a number from 0 to {saved.model.n_out - 1}{known}; got {output!r}.")


def _sample(
    saved: SavedModel, data: str | None, row: int, target: str | None, header: bool | None, sheet: str | None
) -> tuple[Any, Any]:
    """The inputs and the target of one row."""
    name = saved.training_data() if data is None else data
    if name is None:
        trained_on = saved.info.get("data")
        known = f" It was trained on {trained_on}." if trained_on else ""
        raise ValueError(f"Say which data the sample is of: --data FILE.{known}")
    if saved.model.preparation is not None and name not in CATALOGUE and is_table(name):
        return _of_table(saved, Path(name), row, target, header, sheet)
    if sheet is not None:
        raise ValueError(f"--sheet is for tables in Excel files, not for {name}.")
    own_file = name not in CATALOGUE
    if own_file and target is None and Path(name).suffix != ".npz":
        target = saved.info.get("target")
    dataset = load_data(
        name,
        target=target,
        task=saved.task if own_file else None,
        header=header,
        test_fraction=0.0 if own_file else 0.2,
        class_names=saved.class_names if own_file else None,
    )
    dataset = as_known(dataset, saved.model, ignore_extra=False)
    X, y = dataset.X_test, dataset.y_test
    if own_file:
        X, y = np.concatenate([dataset.X_train, X]), np.concatenate([dataset.y_train, y])
    if row >= len(X):
        raise ValueError(f"--row {row}: {name} has rows from 0 to {len(X) - 1}.")
    if dataset.feature_shape:
        saved.model.info.setdefault("feature_shape", list(dataset.feature_shape))
    return X[row : row + 1], y[row : row + 1]


def _of_table(
    saved: SavedModel, path: Path, row: int, target: str | None, header: bool | None, sheet: str | None
) -> tuple[Any, Any]:
    """A row of a table as it is, which the model's preparation takes."""
    targets = saved.targets
    if targets is None:  # a model that a program has saved
        if target is None:
            raise ValueError(f"{saved.path} does not say which column it predicts. Say it: --target NAME.")
        targets = saved.targets_in(target)
    table = read(path, header=header, sheet=sheet)
    if row >= len(table):
        raise ValueError(f"--row {row}: {path} has rows from 0 to {len(table) - 1}.")
    missing = [name for name in targets.names if name not in table]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(map(repr, missing))}, which is predicted.")
    y, rows = targets.encode(table)
    if row not in rows:
        raise ValueError(f"--row {row}: this row of {path} has no value of {', '.join(targets.names)}.")
    return table.drop(*targets.names).take(np.array([row])), y[rows == row]
