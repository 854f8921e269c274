"""`TablePreparation`: from a table as it is to what a network learns from, as a scikit-learn transformer."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from .._checks import check_bool, check_choice, check_integer, suggest
from .._types import HostArray
from ._encoders import CategoryEncoder, DateEncoder, Encoder, NumberEncoder, UnreadableCells, encoder_of, fit_encoder
from .kinds import LEFT_OUT, USED, ColumnKind, TableError, infer_kinds, joined
from .table import Table

NUMBERS = ("robust", "standard", "quantile", "none")
CATEGORIES = ("one_hot", "codes")
_VERSION = 1


class TablePreparation(TransformerMixin, BaseEstimator):
    """The numbers that a network learns from, made of a table as it is: fitted on one table, applied to any like it.

    | kind of column | inputs |
    |---|---|
    | number | (x − median)/(q₇₅ − q₂₅), then smoothly clipped: x/√(1 + (x/3)²). 0 where it is missing |
    | yes_no | −1 or +1; 0 where it is missing |
    | category | a column for each value, 1 where it is there |
    | date | the time since 1970, as a number, and sin 2πφ, cos 2πφ of its place φ in the year, the week and the day |
    | id, constant, text, other, ignored | none |

    Columns that have gaps in training get one more input, `age=missing`, which is 1 in a gap. Values of categories that
    training did not have are all 0, and so are gaps where training had none. What the columns are is inferred
    (`fcnn_gpu.tables.infer_kinds`); `kinds_` says what was found, and why.

    A table is a DataFrame of any library, a `Table` (`fcnn_gpu.tables.read`), a mapping of columns, or a matrix. Its
    columns are found by name, in whatever order they stand; others are not looked at. A matrix has no names, and its
    columns keep their places.

    Parameters:
        columns: what columns are, where that is to be said: {name or number: kind}, a kind being number,
            decimal_comma, decimal_point, category, yes_no, date, day_first, month_first or ignore.
        ignore: columns to leave out.
        numbers: how numbers are scaled: "robust" (above), "standard" ((x − mean)/σ), "quantile" (to a normal
            distribution, through the distribution function of the training part) or "none". A missing one is the
            median's (the mean's for "standard").
        categories: "one_hot" (above); or "codes": columns of more than `max_one_hot` values become one column of whole
            numbers each, 0 for what training did not have, behind all others (`cardinalities_`), for layers that embed.
        max_one_hot: see `categories`.
        scale_one_hot: scale the columns of categories as numbers are, as RealMLP does. Of two values, −1 and +1 become
            one column. A gap is then no value of its own: 0 in all of them before they are scaled, as a value that
            training did not have is.
        max_categories: of a column with more values than this, the most frequent ones count.
        dtype: of what `transform` returns, "float32" or "float64".

    Attributes:
        kinds_: a `ColumnKind` for each column: name, kind and reason.
        cardinalities_: of each column of codes, how many there are.
        numbers_: which inputs are measured numbers, for layers that embed them.
        n_features_in_, feature_names_in_: as in scikit-learn.

    `fit` and `transform` raise `TableError`, a ValueError, with all that is wrong with all columns, and then nothing
    has changed. Scales and clipping are those of RealMLP (Holzmüller et al. 2024, "Better by default").

    >>> table = {"age": [31, 42, None, 57], "town": ["Rome", "Oslo", "Rome", "Bonn"], "smokes": ["no", "yes", "no", ""]}
    >>> preparation = TablePreparation(columns={"town": "category"}).fit(table)
    >>> preparation.get_feature_names_out().tolist()
    ['age', 'age=missing', 'town=Bonn', 'town=Oslo', 'town=Rome', 'smokes=yes', 'smokes=missing']
    >>> preparation.transform({"smokes": ["yes"], "town": ["Paris"], "age": [42]})
    array([[0., 0., 0., 0., 0., 1., 0.]], dtype=float32)
    """

    kinds_: list[ColumnKind]
    _encoders: list[Encoder]

    def __init__(
        self,
        *,
        columns: Mapping[str, str] | None = None,
        ignore: Sequence[str | int] = (),
        numbers: str = "robust",
        categories: str = "one_hot",
        max_one_hot: int = 9,
        scale_one_hot: bool = False,
        max_categories: int = 255,
        dtype: Any = "float32",
    ) -> None:
        self.columns = columns
        self.ignore = ignore
        self.numbers = numbers
        self.categories = categories
        self.max_one_hot = max_one_hot
        self.scale_one_hot = scale_one_hot
        self.max_categories = max_categories
        self.dtype = dtype

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find out what the columns of X are, and how their values become numbers. y is not looked at."""
        who = type(self).__name__
        check_choice(f"{who}(numbers)", self.numbers, NUMBERS)
        check_choice(f"{who}(categories)", self.categories, CATEGORIES)
        check_integer(f"{who}(max_one_hot)", self.max_one_hot, low=1)
        check_bool(f"{who}(scale_one_hot)", self.scale_one_hot)
        check_integer(f"{who}(max_categories)", self.max_categories, low=1)
        _check_dtype(who, self.dtype)
        table = Table.of(X, f"{who}.fit")
        check_size(table)
        kinds = infer_kinds(table, self.columns, self.ignore)
        settings: dict[str, Any] = {
            "numbers": self.numbers,
            "codes_from": self.max_one_hot if self.categories == "codes" else None,
            "most": self.max_categories,
            "scale_one_hot": self.scale_one_hot,
        }
        encoders = [
            fit_encoder(column, kind, **settings)
            for column, kind in zip(table.columns, kinds, strict=True)
            if kind.is_used
        ]
        if not encoders:
            raise TableError(_why_no_input(table, kinds))
        encoders.sort(key=_is_codes)
        self.kinds_, self._encoders = kinds, encoders
        self._set_names(table.names if table.has_names else None, len(table.columns))
        return self

    def transform(self, X: Any) -> HostArray:
        """The inputs, C-contiguous (n_rows, n_outputs), all of them finite."""
        check_is_fitted(self)
        table = Table.of(X, f"{type(self).__name__}.transform")
        check_size(table)
        return self.inputs(table)

    def inputs(self, X: Any) -> HostArray:
        """The same as an array whatever `set_output` says, and also of a table without rows: what a network takes."""
        check_is_fitted(self)
        table = self._matched(X)
        out = np.empty((len(table), self.n_outputs_), self.dtype)
        at, faults = 0, []
        for encoder in self._encoders:
            stop = at + len(encoder.outputs)
            try:
                encoder.write(table[encoder.source], out[:, at:stop])
            except TableError as error:
                faults.append(str(error))
            at = stop
        if faults:
            raise TableError(joined(table.source, faults))
        return out

    def get_feature_names_out(self, input_features: Any = None) -> HostArray:
        """What the inputs are called: `age`, `age=missing`, `town=Oslo`, `when:sin(week)`."""
        check_is_fitted(self)
        if input_features is not None:
            self._check_input_features(input_features)
        return np.array(self._output_names(), dtype=object)

    @property
    def cardinalities_(self) -> dict[str, int]:
        check_is_fitted(self)
        return {e.source: e.cardinality for e in self._encoders if isinstance(e, CategoryEncoder) and e.codes}

    @property
    def numbers_(self) -> list[int]:
        """Which inputs are measured numbers, and not whether something is so, or codes."""
        check_is_fitted(self)
        places = zip(self.places_.values(), self._encoders, strict=True)
        return [place.start + i for place, encoder in places for i in range(encoder.n_numbers)]

    @property
    def n_rare_(self) -> dict[str, int]:
        """Of the categories with more than `max_categories` values, how many of these do not count."""
        check_is_fitted(self)
        return {e.source: e.n_rare for e in self._encoders if isinstance(e, CategoryEncoder) and e.n_rare}

    @property
    def n_inputs_(self) -> dict[str, int]:
        """How many inputs each column becomes that is used."""
        check_is_fitted(self)
        return {encoder.source: len(encoder.outputs) for encoder in self._encoders}

    @property
    def places_(self) -> dict[str, slice]:
        """Which inputs each column becomes that is used."""
        widths = self.n_inputs_
        ends = itertools.accumulate(widths.values())
        return {name: slice(end - n, end) for (name, n), end in zip(widths.items(), ends, strict=True)}

    @property
    def n_outputs_(self) -> int:
        """How many inputs all columns become."""
        return sum(self.n_inputs_.values())

    @property
    def used_(self) -> list[str]:
        """The columns that become inputs: those that a table must have."""
        check_is_fitted(self)
        return [encoder.source for encoder in self._encoders]

    def unseen(self, X: Any) -> dict[str, float]:
        """Of the columns with values that training did not have, or too rarely: which share of X's rows they are."""
        check_is_fitted(self)
        table = self._matched(X)
        found: dict[str, float] = {}
        for encoder in self._encoders:
            unseen = encoder.unseen(table[encoder.source])
            if unseen is not None and unseen.any():
                found[encoder.source] = float(unseen.mean())
        return found

    def unreadable(self, X: Any) -> dict[str, tuple[str, ...]]:
        """Of the columns of numbers and dates: words of X that are none, for which `transform` would refuse it."""
        check_is_fitted(self)
        table = self._matched(X)
        found: dict[str, tuple[str, ...]] = {}
        for encoder in self._parsing:
            try:
                encoder.read(table[encoder.source])
            except UnreadableCells as error:
                found[encoder.source] = error.words
        return found

    def count_as_missing(self, words: Mapping[str, Sequence[str]]) -> Self:
        """From now on these words of columns of numbers and dates are gaps, as if training had had them as such."""
        check_is_fitted(self)
        others = sorted(set(words) - {encoder.source for encoder in self._parsing})
        if others:
            raise ValueError(f"{', '.join(map(repr, others))}: no column of numbers or dates that is used.")
        changed = {
            encoder.source: dataclasses.replace(encoder, odd=(*encoder.odd, *words[encoder.source]))
            for encoder in self._parsing
            if encoder.source in words
        }
        self._encoders = [changed.get(encoder.source, encoder) for encoder in self._encoders]
        return self

    @property
    def _parsing(self) -> list[NumberEncoder | DateEncoder]:
        """The encoders that read numbers or dates out of text."""
        return [encoder for encoder in self._encoders if isinstance(encoder, NumberEncoder | DateEncoder)]

    def plain(self) -> dict[str, Any]:
        """All that was fitted, as JSON data; `of` is the inverse."""
        check_is_fitted(self)
        kinds = [{"name": k.name, "kind": k.kind, "reason": k.reason} for k in self.kinds_]
        return {
            "version": _VERSION,
            "has_names": hasattr(self, "feature_names_in_"),
            "dtype": np.dtype(self.dtype).name,
            "numbers": self.numbers,
            "categories": self.categories,
            "scale_one_hot": self.scale_one_hot,
            "columns": kinds,
            "encoders": [encoder.plain() for encoder in self._encoders],
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> TablePreparation:
        """A fitted preparation from `plain`'s data. ValueError or TypeError where it is something else."""
        if not isinstance(plain, Mapping):
            raise TypeError(f"a preparation is a JSON object, got {type(plain).__name__}.")
        if plain.get("version") != _VERSION:
            raise ValueError(
                f"a preparation of version {plain.get('version')!r} is not known, only {_VERSION}. Install the release "
                "that wrote it, or a newer one."
            )
        try:
            scaled = check_bool("scale_one_hot", plain.get("scale_one_hot", False))
            categories, dtype = plain["categories"], plain["dtype"]
            made = cls(numbers=plain["numbers"], categories=categories, scale_one_hot=scaled, dtype=dtype)
            _check_dtype(cls.__name__, made.dtype)
            check_choice("numbers", made.numbers, NUMBERS)
            check_choice("categories", made.categories, CATEGORIES)
            made.kinds_ = [ColumnKind(k["name"], k["kind"], k["reason"]) for k in plain["columns"]]
            for kind in made.kinds_:
                if not (isinstance(kind.name, str) and isinstance(kind.reason, str) and kind.kind in USED + LEFT_OUT):
                    raise ValueError(f"a column is {kind.name!r}, {kind.kind!r}, {kind.reason!r}")
            if not isinstance(plain["has_names"], bool):
                raise ValueError("has_names is true or false")
            made._encoders = [encoder_of(encoder) for encoder in plain["encoders"]]
            names = [kind.name for kind in made.kinds_]
            made._set_names(names if plain["has_names"] else None, len(names))
            used = [kind.name for kind in made.kinds_ if kind.is_used]
            if len(set(names)) < len(names) or not used or sorted(made.used_) != sorted(used):
                raise ValueError(f"it has encoders of {made.used_}, and uses {used}")
        except KeyError as error:
            raise ValueError(f"a preparation is not whole: it lacks {error}.") from error
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"a preparation is not whole: {error}.") from error
        return made

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_encoders")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _set_names(self, names: Iterable[str] | None, n: int) -> None:
        self.n_features_in_ = n
        if names is not None:
            self.feature_names_in_ = np.array(list(names), dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _output_names(self) -> list[str]:
        names: list[str] = []
        taken: set[str] = set()
        for name in (output for encoder in self._encoders for output in encoder.outputs):
            fresh, k = name, 1
            while fresh in taken:  # a column may be called as an input of another is
                k += 1
                fresh = f"{name} ({k})"
            taken.add(fresh)
            names.append(fresh)
        return names

    def _check_input_features(self, given: Any) -> None:
        given = np.asarray(given, dtype=object)
        known = getattr(self, "feature_names_in_", None)
        if known is not None and not np.array_equal(known, given):
            raise ValueError("input_features is not equal to feature_names_in_")
        if len(given) != self.n_features_in_:
            raise ValueError(
                f"input_features should have length equal to number of features ({self.n_features_in_}), got "
                f"{len(given)}"
            )

    def _matched(self, X: Any) -> Table:
        """X as a table in which the columns have their names. TableError for those that are not there."""
        who = type(self).__name__
        table = Table.of(X, f"{who}.transform")
        if not hasattr(self, "feature_names_in_") or not table.has_names:
            if len(table.columns) != self.n_features_in_:
                raise TableError(
                    f"X has {len(table.columns)} features, but {who} is expecting {self.n_features_in_} features as "
                    "input."
                )
            names = [kind.name for kind in self.kinds_]
            columns = [column.renamed(name) for column, name in zip(table.columns, names, strict=True)]
            return Table(columns, source=table.source)
        missing = [name for name in self.used_ if name not in table]
        if missing:
            shown = ", ".join(map(repr, missing[:10])) + (f", ... ({len(missing)} in all)" if len(missing) > 10 else "")
            raise TableError(f"{table.source} lacks {shown}. {suggest(missing[0], table.names)}")
        return table


def _is_codes(encoder: Encoder) -> bool:
    return isinstance(encoder, CategoryEncoder) and encoder.codes


def _why_no_input(table: Table, kinds: Sequence[ColumnKind]) -> str:
    why = "; ".join(f"{kind.name!r} is {kind.kind} ({kind.reason})" for kind in kinds[:10])
    why += f"; and {len(kinds) - 10:,} more" if len(kinds) > 10 else ""
    could_be = [c for c in table.columns if c.storage != "other" and c.n_missing < len(c)]
    remedy = ""
    if could_be:
        kind = "category" if could_be[0].storage == "text" else could_be[0].storage.replace("boolean", "yes_no")
        remedy = f" Say what a column is: columns={{{could_be[0].name!r}: {kind!r}}}."
    return f"{table.source} has no column that can be an input (n_samples = {len(table)}): {why}.{remedy}"


def _check_dtype(who: str, dtype: Any) -> None:
    try:
        known = np.dtype(dtype) in (np.float32, np.float64) and dtype is not None
    except TypeError:
        known = False
    if not known:
        raise ValueError(f"{who}(dtype) is 'float32' or 'float64', got {dtype!r}.")


def check_size(table: Table) -> None:
    """ValueError for a table without rows or columns, in scikit-learn's words."""
    for n, what in ((len(table.columns), "feature"), (len(table), "sample")):
        if n == 0:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape=({len(table)}, {len(table.columns)})) while a minimum of 1 is "
                "required."
            )
