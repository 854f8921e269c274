"""What a saved model predicts, for `fcnn-gpu predict`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .._types import HostArray
from ..datasets import read_features
from ..files import write_atomically
from ..metrics import predicted_classes
from ..tables import Column, read
from . import _threads
from ._data import column, is_table, scale_of_bytes, scaled
from ._model import SavedModel
from ._stdout import UNENCODABLE, print_data

_QUOTED = re.compile(r'[,"\r\n]')


def run_predict(
    *,
    model: Path,
    inputs: Path,
    out: Path | None,
    proba: bool,
    keep: list[str] | None,
    drop: list[str] | None,
    ignore_extra: bool,
    header: bool | None,
    sheet: str | None,
    backend: str | None,
    threads: int | None,
) -> int:
    """Run `fcnn-gpu predict` with these options; returns its exit code."""
    _threads.choose_threads(threads)
    saved = SavedModel(model, backend)
    if proba and saved.class_names is None:
        raise ValueError(f"--proba is for classes, and the model {model} predicts values.")
    if out is not None and not out.parent.is_dir():
        raise FileNotFoundError(f"--out: there is no folder {out.parent}.")
    for path, what in ((inputs, "the input"), (saved.path, "the model")):
        if out is not None and out.is_file() and path.exists() and out.samefile(path):
            raise FileExistsError(f"--out: {out} is {what}, which the predictions would replace. Name another file.")
    kept: list[tuple[str, list[object]]] = []
    of_table = saved.model.preparation is not None and is_table(inputs)
    if of_table:
        X, kept = _of_table(saved, inputs, keep or (), drop or (), header, sheet)
    else:
        if keep or sheet is not None:
            option = "--keep" if keep else "--sheet"
            raise ValueError(f"{option} is for models that were trained on a table, and for tables; {model} was not.")
        X = _of_numbers(saved, inputs, drop or (), header, ignore_extra)
    predictions = saved.model.infer(X, saved.model.link, None, "model.predict", prepared=of_table)
    names, columns = _table(saved, predictions, proba)
    names, columns = [*(name for name, _ in kept), *names], [*(values for _, values in kept), *columns]
    text = "".join(",".join(map(_cell, row)) + "\n" for row in (names, *zip(*columns, strict=True)))
    if out is None:
        print_data(text)
    else:
        write_atomically(out, text.encode(errors=UNENCODABLE))
    return 0


def _of_table(
    saved: SavedModel, path: Path, keep: Sequence[str], drop: Sequence[str], header: bool | None, sheet: str | None
) -> tuple[HostArray, list[tuple[str, list[object]]]]:
    """The inputs that the model's preparation makes of a table, and the columns to keep, with their names."""
    from ._table import say_unseen

    preparation = saved.model.preparation
    assert preparation is not None
    table = read(path, header=header, sheet=sheet)
    kept = [table[table.name_of(spec, "column to keep")] for spec in keep]
    table = table.drop(*(table.name_of(spec, "column to drop") for spec in drop))
    say_unseen(preparation, table, str(path))
    return preparation.inputs(table), [(column.name, _written(column)) for column in kept]


def _written(column: Column) -> list[object]:
    """A column's values as text, empty where one is missing."""
    text = column.as_text()
    words = [*text.words, ""]
    return [words[code] for code in text.values.tolist()]


def _of_numbers(
    saved: SavedModel, inputs: Path, drop: Sequence[str], header: bool | None, ignore_extra: bool
) -> HostArray:
    X = read_features(
        inputs,
        drop=[column(text) for text in drop],
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
    return X


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
        columns.append([classes[i] for i in predicted_classes(predictions, saved.model.signature.threshold)])
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
