"""Columns that give the target away: what a model learns from them is worth nothing on new rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._types import HostArray
from ._column import Column, canonical
from ._encoders import numbers_of
from .kinds import ColumnKind, TableError
from .table import Table

_ENOUGH = 20
"""Rows from which on a perfect relation is none of chance."""
_SAME = 1 - 1e-9
_MANY = 1000
"""Rows from which on it is seen that a target has too many values for classes."""
_SPELLINGS = 10
"""More ways to write a class than there may be."""


def find_leaks(table: Any, kinds: Sequence[ColumnKind], targets: Any) -> list[str]:
    """What there is to say of columns that equal a target, or from which it follows, a sentence each.

    A column leaks a target where both are equal; where every value of one belongs to one value of the other (the same
    classes under other names); or where numbers lie on a straight line with it.

    >>> from fcnn_gpu.tables import infer_kinds
    >>> table = Table.of({"celsius": np.arange(50.0) ** 1.5, "fahrenheit": np.arange(50.0) ** 1.5 * 1.8 + 32})
    >>> inputs = table.select(["fahrenheit"])
    >>> find_leaks(inputs, infer_kinds(inputs), table.select(["celsius"]))
    ["'fahrenheit' is a linear function of the target 'celsius'"]
    """
    table, targets = Table.of(table, "find_leaks"), Table.of(targets, "find_leaks")
    found: list[str] = []
    if len(table) < _ENOUGH:
        return found
    for target in targets.columns:
        for kind in kinds:
            if kind.is_used:
                how = _relation(table[kind.name], kind, target)
                if how is not None:
                    found.append(f"{kind.name!r} {how} the target {target.name!r}")
    return found


def _relation(column: Column, kind: ColumnKind, target: Column) -> str | None:
    there = ~(column.missing | target.missing)
    if np.count_nonzero(there) < _ENOUGH:
        return None
    x, y = _numbers(column, kind), _numbers(target, None)
    if x is not None and y is not None:
        x, y = x[there], y[there]
        finite = np.isfinite(x) & np.isfinite(y)
        x, y = x[finite], y[finite]
        if len(x) >= _ENOUGH and np.array_equal(x, y):
            return "equals"
        if len(np.unique(y[:1000])) > 2 and _correlation(x, y) > _SAME:
            return "is a linear function of"
    if column.storage == "other":
        return None
    n_values, n_classes = (len(np.unique(c.values[there][:_MANY])) for c in (column, target))
    if n_classes > _MANY / 5 or n_values > _SPELLINGS * n_classes:
        return None
    codes, classes = column.as_text(), target.as_text()
    a, b = codes.values[there].astype(np.int64), classes.values[there].astype(np.int64)
    a, b = _merged(codes.words)[a], _merged(classes.words)[b]
    n_pairs = len(np.unique(a * len(classes.words) + b))
    n_values, n_classes = len(np.unique(a)), len(np.unique(b))
    if n_values == n_classes == n_pairs and n_pairs <= np.count_nonzero(there) / 5:
        pairs = [divmod(pair, len(classes.words)) for pair in np.unique(a * len(classes.words) + b).tolist()]
        same = all(canonical(codes.words[i]) == canonical(classes.words[j]) for i, j in pairs)
        return "equals" if same else "has the same classes as"
    return None


def _merged(words: Sequence[str]) -> HostArray:
    """The number of the category of each word: spellings of the same one have one number."""
    number: dict[str, int] = {}
    return np.array([number.setdefault(canonical(word), i) for i, word in enumerate(words)], np.int64)


def _numbers(column: Column, kind: ColumnKind | None) -> HostArray | None:
    if kind is not None and kind.kind not in ("number", "yes_no"):
        return None
    if column.storage == "date":
        return None
    try:
        return numbers_of(column, None if kind is None else kind.number_format, () if kind is None else kind.odd)
    except TableError:
        return None


def _correlation(x: HostArray, y: HostArray) -> float:
    """|Pearson's correlation|; 0 where one does not vary."""
    if len(x) < _ENOUGH:
        return 0.0
    x, y = x / max(np.abs(x).max(), 1e-300), y / max(np.abs(y).max(), 1e-300)  # whose squares are numbers
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return abs(float(x @ y)) / scale if scale > 0 else 0.0
