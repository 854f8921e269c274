"""`fcnn-gpu predict`"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from .._types import HostArray
from ..datasets import read_features
from ..files import write_atomically
from ..metrics import predicted_classes
from . import _backend, _threads
from ._data import column, scale_of_bytes, scaled
from ._model import SavedModel
from ._stdout import UNENCODABLE, print_data

_QUOTED = re.compile(r'[,"\r\n]')


def predict(
    model: Annotated[Path, typer.Argument(help="A model file, as train --out DIR writes: DIR/model.safetensors.")],
    inputs: Annotated[Path, typer.Argument(metavar="INPUT", help="IDX images, .npy, .npz or CSV: one sample per row.")],
    out: Annotated[Path | None, typer.Option(help="Write the CSV to this file. (default: print it)")] = None,
    proba: Annotated[
        bool, typer.Option("--proba", help="Add a column with the probability of each class to the label.")
    ] = False,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="CSV: a column to leave out, the target for example, by name or number from 0. May be repeated.",
        ),
    ] = None,
    ignore_extra: Annotated[
        bool, typer.Option("--ignore-extra", help="CSV: leave out all columns that the model does not know.")
    ] = False,
    header: Annotated[
        bool | None, typer.Option("--header/--no-header", help="CSV: whether the first line names the columns.")
    ] = None,
    backend: Annotated[str | None, typer.Option(help=_backend.HELP)] = None,
    threads: Annotated[int | None, typer.Option(help=_threads.HELP)] = None,
) -> int:
    """Print what a saved model predicts for each sample of INPUT, as CSV: class names, or values."""
    _threads.choose_threads(threads)
    saved = SavedModel(model, backend)
    if proba and saved.class_names is None:
        raise ValueError(f"--proba is for classes, and the model {model} predicts values.")
    if out is not None and not out.parent.is_dir():
        raise FileNotFoundError(f"--out: there is no folder {out.parent}.")
    X = read_features(
        inputs,
        drop=[column(text) for text in drop or ()],
        header=header,
        n_features=saved.model.n_in,
        feature_names=saved.model.signature.feature_names,
        ignore_extra=ignore_extra,
        scale_bytes=False,
    )
    if X.dtype == np.uint8:
        X = scaled(X, scale_of_bytes(saved.model, X, str(inputs)))
    else:
        saved.model.signature.check_scale(X, str(inputs))
    names, columns = _table(saved, saved.model.predict(X), proba)
    text = "".join(",".join(map(_cell, row)) + "\n" for row in (names, *zip(*columns, strict=True)))
    if out is None:
        print_data(text)
    else:
        write_atomically(out, text.encode(errors=UNENCODABLE))
    return 0


def _cell(value: object) -> str:
    r"""A cell as in RFC 4180. Python's csv, before 3.13, leaves a lone "\r" bare, at which its own reader ends a row.

    >>> _cell("cat"), _cell("a, b")
    ('cat', '"a, b"')
    """
    text = str(value)
    return '"{}"'.format(text.replace('"', '""')) if not text or _QUOTED.search(text) else text


def _table(saved: SavedModel, predictions: HostArray, proba: bool) -> tuple[list[str], list[list[object]]]:
    """The CSV's columns, named; numbers with as many digits as tell values of their dtype apart."""
    classes = saved.class_names
    if classes is None:
        n = predictions.shape[1]
        of = saved.model.signature.target_names or range(n)
        return (["prediction"] if n == 1 else [f"prediction_{target}" for target in of]), _numbers(predictions)
    names: list[str] = []
    columns: list[list[object]] = []
    if saved.multilabel:
        if not proba:
            return list(classes), [list(part) for part in (predictions > 0.5).astype(np.int64).T]
    else:
        names.append("label")
        columns.append([classes[i] for i in predicted_classes(predictions)])
        if predictions.shape[1] == 1:
            predictions = np.hstack([1 - predictions, predictions])
    if proba:
        names += [f"p({name})" for name in classes]
        columns += _numbers(predictions)
    return names, columns


def _numbers(values: HostArray) -> list[list[object]]:
    if values.dtype == np.float64:  # of a model in float64, or one with an output center
        return [[repr(float(value)) for value in part] for part in values.T]
    return [[f"{value:.9g}" for value in part] for part in values.T]
