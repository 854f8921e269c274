"""From what a file calls its targets to class indices or numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .._types import HostArray
from ._cells import is_number
from ._dataset import Task
from ._files import DataFileError, shown

MAX_NUMBERED_CLASSES = 100
"""Whole-number targets with more different values than this are taken for regression, unless the caller says."""

_LARGEST_LABEL = 2.0**53  # whole numbers up to here have a float64 of their own

RowName = Callable[[int], str]
"""How an error names sample i: "line 7" of a CSV file, "sample 6" of an array."""


def parse_cells(cells: list[str]) -> HostArray:
    """CSV cells as float64 if every one is a number, else as text.

    >>> parse_cells(["1", "2.5"])
    array([1. , 2.5])
    >>> parse_cells(["1", "b"])
    array(['1', 'b'], dtype=object)
    """
    try:
        numbers = np.array(list(map(float, cells)), dtype=np.float64)
    except ValueError:
        return text_cells(cells)
    return numbers if all(map(is_number, set(cells))) else text_cells(cells)


def text_cells(cells: list[str]) -> HostArray:
    """CSV cells as text, each of its own length: one long cell must not make all others as long."""
    return np.array(cells, dtype=object)


def encode_targets(
    values: HostArray,
    path: Path,
    row_name: RowName,
    task: Task | None,
    class_names: Sequence[str] | None,
) -> tuple[HostArray, Task, tuple[str, ...] | None]:
    """Targets as a model is trained on them, the task, and the class names.

    Text and booleans are classes. Numbers are classes if they are whole and have at most 100 different values, else
    regression targets; `task` overrules that. Classes are numbered in the order of `class_names`, or else sorted:
    numbers by value, text by code point. A matrix of zeros and ones is one-hot if each row has exactly one 1, and
    multi-label otherwise; any other matrix is several regression targets.

    Args:
        values: (n_samples,) or (n_samples, n_targets); a single column counts as a vector. Text is of dtype U or S, or
            as `text_cells` makes it.
        path: the file, for errors.
        row_name: names sample i in errors.
        task: "classification", "regression" or None to decide by the values.
        class_names: the known classes, in order; a label that is not among them is an error.

    Raises:
        DataFileError: non-finite targets, fewer than two classes, labels that are no class, text for regression.
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim not in (1, 2) or values.size == 0:
        raise DataFileError(path, f"the targets have shape {values.shape}; expected (n_samples,) or (n_samples, n).")
    is_text = values.dtype.kind in "USO"
    if is_text and values.ndim == 2:
        raise DataFileError(path, f"the targets are text of shape {values.shape}; expected one label per sample.")
    if values.dtype.kind == "S":
        values = _decoded(values, path, row_name)
    if not is_text:
        _check_finite(values, path, row_name)
    if class_names is not None and task != "regression":
        task = "classification"
    if task is None:
        task = "classification" if is_text or _looks_like_classes(values) else "regression"
    if task == "regression":
        if is_text:
            row = next((i for i, value in enumerate(values) if not is_number(str(value))), 0)
            fault = f"{row_name(row)}: expected a number as regression target, got {shown(str(values[row]))}."
            raise DataFileError(path, fault)
        return np.ascontiguousarray(values, dtype=np.float64), task, None
    if values.ndim == 2:
        return _encode_matrix(values, path, class_names)
    labels, names = _encode_labels(values, path, row_name, class_names)
    return labels, "classification", names


def _decoded(values: HostArray, path: Path, row_name: RowName) -> HostArray:
    """Labels of bytes as text; DataFileError for one that is no UTF-8."""
    labels = []
    for row, value in enumerate(values):
        try:
            labels.append(value.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise DataFileError(path, f"{row_name(row)}: the label {bytes(value[:60])!r} is no UTF-8 text.") from error
    return text_cells(labels)


def _check_finite(values: HostArray, path: Path, row_name: RowName) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(values.astype(np.float32))
    if not finite.all():
        bad = tuple(int(i) for i in np.unravel_index(np.argmin(finite), finite.shape))
        raise DataFileError(
            path, f"{row_name(bad[0])}: expected a finite target that float32 can hold, got {values[bad]}."
        )


def _looks_like_classes(values: HostArray) -> bool:
    if values.ndim == 2:
        return bool(np.isin(values, (0, 1)).all())
    if values.dtype.kind == "b":
        return True
    whole = (values == np.floor(values)) & (np.abs(values) < _LARGEST_LABEL)
    return bool(whole.all()) and len(np.unique(values)) <= MAX_NUMBERED_CLASSES


def _encode_matrix(
    values: HostArray, path: Path, class_names: Sequence[str] | None
) -> tuple[HostArray, Task, tuple[str, ...]]:
    n_classes = values.shape[1]
    if not np.isin(values, (0, 1)).all():
        raise DataFileError(path, f"class targets of shape {values.shape} must be zeros and ones; others occur.")
    names = tuple(class_names) if class_names is not None else tuple(str(i) for i in range(n_classes))
    if len(names) != n_classes:
        raise DataFileError(path, f"the targets have {n_classes} classes, but class_names has {len(names)}.")
    matrix = values.astype(np.int64)
    one_hot = bool((matrix.sum(axis=1) == 1).all())
    return (matrix.argmax(axis=1) if one_hot else matrix), "classification", names


def _encode_labels(
    values: HostArray, path: Path, row_name: RowName, class_names: Sequence[str] | None
) -> tuple[HostArray, tuple[str, ...]]:
    if values.dtype.kind == "f":
        fractions = np.flatnonzero((values != np.floor(values)) | (np.abs(values) >= _LARGEST_LABEL))
        if len(fractions):
            row = int(fractions[0])
            fault = f"{row_name(row)}: expected a whole number or text as class label, got {values[row]}."
            if class_names is None:
                n_values = len(np.unique(values))
                fault += f" The targets have {n_values} different values: predict them as numbers, task='regression'."
            raise DataFileError(path, fault)
        values = values.astype(np.int64)
    unique, indices = np.unique(values, return_inverse=True)
    found = [str(value) for value in unique]
    if class_names is None:
        if len(found) < 2:
            raise DataFileError(path, f"has only one class, {shown(found[0])}; a classifier needs at least two.")
        return indices.astype(np.int64), tuple(found)
    known = {str(name): index for index, name in enumerate(class_names)}
    for position, label in enumerate(found):
        if label not in known:
            row = int(np.flatnonzero(indices == position)[0])
            classes = ", ".join(list(known)[:20])
            raise DataFileError(path, f"{row_name(row)}: label {shown(label)} is not one of the classes {classes}.")
    to_known = np.array([known[label] for label in found], dtype=np.int64)
    return to_known[indices], tuple(str(name) for name in class_names)
