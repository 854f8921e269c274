"""What a table's targets are: classes, labels, or numbers; and as what a network is trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np

from .._checks import check_choice, suggest
from .._types import HostArray
from ..datasets._dataset import Task
from ._column import Column, canonical, number_word
from ._encoders import numbers_of
from ._from_csv import SEMICOLONS
from ._numbers import NumberFormat, writing_of
from .kinds import TableError
from .table import Table

MOST_NUMBERED_CLASSES = 20
"""Whole numbers with more different values than this are taken for values, unless the user says."""
_SHOWN = 5


@dataclass(frozen=True)
class Targets:
    """What the targets of a table are, found on its rows and kept with the model.

    Attributes:
        names: the columns.
        task: "classification" or "regression".
        class_names: what class 0, 1, ... is called, or each label; None for regression.
        multilabel: whether a row may have several labels, a column each.
        formats: of regression, how a column writes its numbers where it is text.
        reason: why it is this task.
        labels: of labels, the two values of each column, no before yes.
    """

    names: tuple[str, ...]
    task: Task
    class_names: tuple[str, ...] | None
    multilabel: bool
    formats: tuple[NumberFormat | None, ...]
    reason: str
    labels: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(cls, table: Table, names: Sequence[str], task: str | None = None) -> Targets:
        """Found in these columns. TableError where they are no targets, or not for the task that is asked for.

        One column of text, booleans or up to 20 different whole numbers is classes; one of other numbers is regression.
        Several columns of two values each are labels; several of numbers are as many values.

        >>> table = Table.of({"price": [3.5, 4.25, 1.0], "sold": ["no", "yes", "yes"]})
        >>> Targets.of(table, ["sold"]).class_names
        ('no', 'yes')
        >>> Targets.of(table, ["price"]).task
        'regression'
        """
        if task is not None:
            check_choice("task", task, get_args(Task))
        unknown = [name for name in names if name not in table]
        if unknown or not names:
            shown = ", ".join(map(repr, unknown)) or "that is asked for"
            raise TableError(
                f"{table.source} has no column {shown}. {suggest(unknown[0] if unknown else '', table.names)}"
            )
        columns = [table[name] for name in names]
        empty = [column.name for column in columns if column.n_missing == len(column)]
        if empty:
            raise TableError(f"{table.source}: the target {', '.join(map(repr, empty))} has no values.")
        other = [f"{column.name!r} holds {column.holds}" for column in columns if column.storage == "other"]
        other += [f"{column.name!r} holds dates" for column in columns if column.storage == "date"]
        if other:
            raise TableError(f"{table.source}: {'; '.join(other)}, and a target is a class or a number.")
        if len(columns) == 1:
            return cls._of_one(table.source, columns[0], task, _hint(table))
        return cls._of_several(table.source, columns, task, _hint(table))

    @classmethod
    def _of_one(cls, source: str, column: Column, task: str | None, hint: str | None) -> Targets:
        form, values, odd = _as_numbers(column, hint)
        there = None if values is None else values[np.isfinite(values)]
        different = len(_class_names(column)) if there is None else len(np.unique(there))
        whole = there is not None and bool((there == np.floor(there)).all())
        if task is None:
            if there is None:
                task, reason = "classification", f"{different:,} different values, which are no numbers"
            elif column.storage == "boolean" or (whole and different == 2):
                task, reason = "classification", "two different values"
            elif whole and different <= MOST_NUMBERED_CLASSES:
                task, reason = "classification", f"{different} different whole numbers, taken for classes"
            else:
                task, reason = "regression", f"{different:,} different numbers"
        else:
            reason = "as given"
        if task == "regression":
            if there is None:
                raise TableError(
                    f"{source}: the target {column.name!r} is to be numbers, and has {_some(odd or column.words)}. "
                    "Correct these cells, or leave them empty."
                )
            if different == 1:
                raise TableError(f"{source}: the target {column.name!r} is always {number_word(float(there[0]))}.")
            return cls((column.name,), "regression", None, False, (form,), reason)
        if different < 2:
            raise TableError(f"{source}: the target {column.name!r} has only one value, {column.as_text().words[0]!r}.")
        names = _class_names(column)
        fractions = there is not None and not whole
        if fractions or len(names) > max(MOST_NUMBERED_CLASSES, (len(column) - column.n_missing) // 2):
            kind = f"{len(names):,} different values in {len(column):,} rows{', with fractions' if fractions else ''}"
            remedy = "Say task='regression'."
            if there is None:
                remedy = "Is it another column?"
                if 0 < len(odd) < len(column.words) / 2:
                    remedy = f"If it is to be numbers: {_some(odd)} {'is none' if len(odd) == 1 else 'are none'}."
            few = "no classes" if fractions else "too many for classes"
            raise TableError(f"{source}: the target {column.name!r} has {kind}, which are {few}. {remedy}")
        return cls((column.name,), "classification", names, False, (None,), reason)

    @classmethod
    def _of_several(cls, source: str, columns: Sequence[Column], task: str | None, hint: str | None) -> Targets:
        names = tuple(column.name for column in columns)
        read = [_as_numbers(column, hint) for column in columns]
        if task != "regression":
            labels = tuple(_class_names(column) for column in columns)
            two = [len(values) == 2 for values in labels]
            if all(two):
                why, formats = "columns of two values each", (None,) * len(columns)
                return cls(names, "classification", names, True, formats, why, labels)
            if task == "classification":
                bad = ", ".join(repr(name) for name, is_two in zip(names, two, strict=True) if not is_two)
                raise TableError(f"{source}: several targets are labels of two values each, and {bad} has others.")
        bad = ", ".join(repr(name) for name, (_, values, _) in zip(names, read, strict=True) if values is None)
        if bad:
            raise TableError(
                f"{source}: several targets are all numbers, or all labels of two values; {bad} is neither."
            )
        return cls(names, "regression", None, False, tuple(form for form, _, _ in read), "columns of numbers")

    def plain(self) -> dict[str, Any]:
        """As JSON data; `from_plain` is the inverse."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Targets:
        """What `plain` gave, back from JSON. ValueError for anything else."""
        try:
            names, labels = _texts(plain["names"]), tuple(_texts(pair) for pair in plain["labels"])
            classes = None if plain["class_names"] is None else _texts(plain["class_names"])
            formats = tuple(
                None if form is None else NumberFormat(form["decimal"], _texts(form["affixes"]))
                for form in plain["formats"]
            )
            task, multilabel, reason = plain["task"], plain["multilabel"], plain["reason"]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"targets are not whole: {type(error).__name__} {error}.") from error
        right = task in ("classification", "regression") and isinstance(multilabel, bool) and isinstance(reason, str)
        right = right and (classes is None) == (task == "regression") and len(formats) == len(names) > 0
        right = right and (len(labels) == len(names) if multilabel else len(labels) == 0)
        right = right and all(form is None or form.decimal in (".", ",") for form in formats)
        if not right:
            raise ValueError(f"targets are not whole: {dict(plain)}.")
        return cls(names, task, classes, multilabel, formats, reason, labels)

    @property
    def n_outputs(self) -> int:
        return len(self.names) if self.class_names is None else len(self.class_names)

    def encode(self, table: Table) -> tuple[HostArray, HostArray]:
        """(y, rows): what a network is trained on, and the rows that have all targets, by number.

        Classes: int64 numbers (n,); labels: int64 zeros and ones (n, n_labels); regression: float64 (n,) or
        (n, n_targets). TableError for classes that are not known, and for text where numbers were.
        """
        columns = [table[name] for name in self.names]
        nested = [f"{column.name!r} holds {column.holds}" for column in columns if column.storage == "other"]
        if nested:
            raise TableError(f"{table.source}: the target {', '.join(nested)}, and is a class or a number.")
        missing = np.zeros(len(table), bool)
        if self.task == "regression":
            try:
                parts = [numbers_of(column, form) for column, form in zip(columns, self.formats, strict=True)]
            except TableError as error:
                raise TableError(f"{table.source}: {error}") from error
            for part in parts:
                missing |= ~np.isfinite(part)
            y = np.stack(parts, axis=1) if len(parts) > 1 else parts[0]
        elif self.multilabel:
            codes = [_codes(table.source, column, values) for column, values in zip(columns, self.labels, strict=True)]
            for part in codes:
                missing |= part < 0
            y = np.stack(codes, axis=1)
        else:
            assert self.class_names is not None
            y = _codes(table.source, columns[0], self.class_names)
            missing |= y < 0
        rows = np.flatnonzero(~missing)
        return y[rows], rows


def _hint(table: Table) -> str | None:
    """The decimal mark that is likely where a column does not show it."""
    return "," if SEMICOLONS in table.notes else None


def _texts(given: Any) -> tuple[str, ...]:
    if isinstance(given, str) or not all(isinstance(text, str) for text in given):
        raise TypeError(f"expected a list of texts, got {given!r}")
    return tuple(given)


def _as_numbers(column: Column, hint: str | None) -> tuple[NumberFormat | None, HostArray | None, tuple[str, ...]]:
    """How a column is written, its numbers (None where it holds none), and the words that are no numbers."""
    if column.storage in ("number", "boolean"):
        return None, column.values, ()
    if column.is_category:
        return None, None, tuple(column.words)
    counts = np.bincount(column.values[column.values >= 0], minlength=len(column.words))
    writing = writing_of(column.words, counts, hint)
    if writing.odd:
        return None, None, writing.odd
    return writing.format, numbers_of(column, writing.format), ()


def _some(words: Sequence[str]) -> str:
    return ", ".join(map(repr, words[:_SHOWN])) + (", ..." if len(words) > _SHOWN else "")


def _class_names(column: Column) -> tuple[str, ...]:
    """The different values: numbers by value, text by code point, as they are first written."""
    first: dict[str, str] = {}
    for word in column.as_text().words:
        first.setdefault(canonical(word), word)
    try:
        order = sorted(first, key=float)
    except ValueError:
        order = sorted(first)
    return tuple(first[key] for key in order)


def _codes(source: str, column: Column, names: Sequence[str]) -> HostArray:
    text = column.as_text()
    number = {canonical(name): i for i, name in enumerate(names)}
    lut = np.fromiter((number.get(canonical(word), -2) for word in text.words), np.int64, len(text.words))
    unknown = [text.words[i] for i in np.flatnonzero(lut == -2).tolist()]
    if unknown:
        none = "which is none" if len(unknown) == 1 else "which are none"
        raise TableError(
            f"{source}: the target {column.name!r} has {_some(unknown)}, {none} of the classes {_some(names)}."
        )
    return np.append(lut, -1)[text.values]
