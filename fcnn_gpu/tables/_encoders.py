"""How the columns of each kind become numbers: fitted on the training part, kept as plain data.

An encoder makes of one column (n,) the columns of a matrix, (n, n_out).
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from .._types import HostArray
from ._column import Column, canonical, number_word, yes_last
from ._dates import DateFormat, all_formats, date_writing_of
from ._numbers import NumberFormat, writing_of
from .kinds import ColumnKind, TableError


class UnreadableCells(TableError):
    """A column of numbers or dates has `words` that are none, and that training did not have."""

    def __init__(self, message: str, words: tuple[str, ...]) -> None:
        super().__init__(message)
        self.words = words


CLIP = 3.0
"""Where smooth clipping ends: f(x) = x/√(1 + (x/3)²) stays within ±3."""
_ENDS = 1e-7
"""F(x) of "quantile" is at least this and at most 1 minus it, whose normal scores are ∓5.2."""
_MOST_NAMED = 4
_HUGE = 1e150
"""Numbers beyond this count as this: their squares are no numbers."""


def smooth_clip(x: HostArray) -> HostArray:
    """f(x) = x/√(1 + (x/3)²): x near 0, ±3 far away; monotone, so that outliers keep their order.

    Source: RealMLP (Holzmüller et al. 2024, "Better by default", section 3).

    >>> smooth_clip(np.array([0.0, 1.0, 1e6])).round(3)
    array([0.   , 0.949, 3.   ])
    """
    return x / np.hypot(1.0, x / CLIP)


@dataclass(frozen=True)
class Scale:
    """What numbers are scaled by: (x − center)·factor, then `smooth_clip` for "robust"; or through a distribution.

    | method | center | factor |
    |---|---|---|
    | robust | median | 1/(q₇₅ − q₂₅); where that is 0, 2/(max − min) |
    | standard | mean | 1/σ |
    | quantile | median | Φ⁻¹(F(x)), F the training part's distribution function, at 10 to 1000 knots |
    | none | median | 1, and nothing is subtracted |

    F has a knot for 30 numbers, as in Gorishniy et al. (2021), "Revisiting deep learning models for tabular data".
    """

    method: str
    center: float = 0.0
    factor: float = 1.0
    knots: tuple[float, ...] = ()

    @classmethod
    def of(cls, there: HostArray, method: str) -> Scale:
        """Fitted on finite numbers, of which there is at least one."""
        there = np.clip(there, -_HUGE, _HUGE)
        if method == "quantile":
            n = min(max(len(there) // 30, 10), 1000, max(len(there), 2))
            knots = np.quantile(there, np.linspace(0.0, 1.0, n))
            return cls(method, float(np.median(there)), knots=tuple(np.maximum.accumulate(knots).tolist()))
        if method == "none":
            return cls(method, float(np.median(there)))
        if method == "standard":
            center, spread = float(there.mean()), float(there.std())
            flat = spread <= 1e-15 * abs(center)  # the rounding of the mean
        else:
            low, center, high = (float(q) for q in np.quantile(there, [0.25, 0.5, 0.75]))
            spread = high - low
            if spread <= 0:
                spread = (float(there.max()) - float(there.min())) / 2
            flat = False
        return cls(method, center, 1.0 / spread if spread > 1 / _HUGE and not flat else 0.0)

    def apply(self, x: HostArray) -> HostArray:
        """The scaled numbers, within ±10³⁸."""
        x = np.clip(x, -_HUGE, _HUGE)
        if self.method == "none":
            return np.clip(x, -1e38, 1e38)
        if self.method == "quantile":
            return self._normal_scores(x)
        with np.errstate(over="ignore"):
            scaled = np.clip((x - self.center) * self.factor, -1e38, 1e38)
        return smooth_clip(scaled) if self.method == "robust" else scaled

    def _normal_scores(self, x: HostArray) -> HostArray:
        from scipy.special import ndtri

        knots = np.array(self.knots)
        levels = np.linspace(0.0, 1.0, len(knots))
        # Of values that occur often, several knots are equal: their middle, as scikit-learn takes it.
        up = np.interp(x, knots, levels)
        down = -np.interp(-x, -knots[::-1], -levels[::-1])
        inside = np.clip((up + down) / 2, _ENDS, 1 - _ENDS)
        scores: HostArray = ndtri(inside)
        return scores


@dataclass(frozen=True)
class Encoder:
    """What makes inputs of one column. `source` is its name in the table."""

    kind: ClassVar[str]
    source: str

    @property
    def outputs(self) -> list[str]:
        """What the inputs are called."""
        raise NotImplementedError(f"{type(self).__name__} must define outputs.")

    @property
    def n_numbers(self) -> int:
        """How many of the first inputs are measured numbers, and not whether something is so."""
        return 0

    def write(self, column: Column, out: HostArray) -> None:
        """The inputs of a column into `out` (n, n_out). TableError where values cannot be what the column holds."""
        raise NotImplementedError(f"{type(self).__name__} must define write(column, out).")

    def unseen(self, column: Column) -> HostArray | None:
        """(n,) booleans: values that did not occur in training; None where any value is as good as seen."""
        return None

    def plain(self) -> dict[str, Any]:
        """As JSON data."""
        return {"kind": self.kind} | {k: v for k, v in asdict(self).items() if v is not None}


@dataclass(frozen=True)
class NumberEncoder(Encoder):
    """A number, scaled; the center's where it is missing, with a 1 in a second column if training had gaps."""

    kind = "number"
    scale: Scale
    has_gaps: bool
    format: NumberFormat | None = None
    odd: tuple[str, ...] = ()

    @property
    def outputs(self) -> list[str]:
        return [self.source, f"{self.source}=missing"] if self.has_gaps else [self.source]

    @property
    def n_numbers(self) -> int:
        return 1

    def read(self, column: Column) -> HostArray:
        """The numbers, NaN where one is missing; UnreadableCells where a cell is none."""
        return numbers_of(column, self.format, self.odd)

    def write(self, column: Column, out: HostArray) -> None:
        values = self.read(column)
        missing = ~np.isfinite(values)
        out[:, 0] = self.scale.apply(np.where(missing, self.scale.center, values))
        if self.has_gaps:
            out[:, 1] = missing


@dataclass(frozen=True)
class YesNoEncoder(Encoder):
    """Two values as −1 and +1; 0 where neither is there, with a 1 in a second column if training had gaps.

    With one value, −1 stands for its absence. With a `scale` the column is scaled, and the only one.
    """

    kind = "yes_no"
    values: tuple[str, ...]
    format: NumberFormat | None = None
    has_gaps: bool = False
    scale: Scale | None = None

    @property
    def outputs(self) -> list[str]:
        name = f"{self.source}={self.values[-1]}"
        return [name, f"{self.source}=missing"] if self.has_gaps else [name]

    def write(self, column: Column, out: HostArray) -> None:
        signs = self.signs(column)
        out[:, 0] = signs if self.scale is None else self.scale.apply(signs)
        if self.has_gaps:
            out[:, 1] = column.missing

    def signs(self, column: Column) -> HostArray:
        """(n,) −1, 0 and +1."""
        codes = _codes(_plain_numbers(column, self.format), self.values)
        return np.where(codes < 0, 0.0, 2.0 * codes - 1.0) if len(self.values) == 2 else 2.0 * (codes == 0) - 1.0

    def unseen(self, column: Column) -> HostArray:
        return (_codes(_plain_numbers(column, self.format), self.values) < 0) & ~column.missing


@dataclass(frozen=True)
class CategoryEncoder(Encoder):
    """One column per value, 1 where it is the value; all 0 for one that training did not have, or had too rarely.

    Gaps are a value of their own if training had some. As `codes` instead, one column: 1, 2, ... in the order of
    `values`, 0 for all others, for a layer that embeds them. With `scales`, one for each column, these are scaled.
    """

    kind = "category"
    values: tuple[str, ...]
    has_gaps: bool
    codes: bool = False
    n_rare: int = 0
    scales: tuple[Scale, ...] = ()

    @property
    def outputs(self) -> list[str]:
        if self.codes:
            return [self.source]
        return [f"{self.source}={value}" for value in (*self.values, *(["missing"] if self.has_gaps else []))]

    @property
    def cardinality(self) -> int:
        """How many codes there are, that of unknown values included."""
        return len(self.values) + 1 + self.has_gaps

    def write(self, column: Column, out: HostArray) -> None:
        codes = _codes(column, self.values)
        if self.has_gaps:
            codes = np.where(column.missing, len(self.values), codes)
        if self.codes:
            out[:, 0] = codes + 1
            return
        off_on = np.array([0.0, 1.0])
        levels = np.array([scale.apply(off_on) for scale in self.scales] or [off_on] * out.shape[1])
        out[...] = levels[:, 0]
        rows = np.flatnonzero(codes >= 0)
        out[rows, codes[rows]] = levels[codes[rows], 1]

    def unseen(self, column: Column) -> HostArray:
        return (_codes(column, self.values) < 0) & ~column.missing


_PARTS: dict[str, Callable[[HostArray], HostArray]] = {
    "year": lambda t: (t - t.astype("datetime64[Y]").astype(t.dtype)) / np.timedelta64(1, "s") / (365.2425 * 86400),
    "week": lambda t: ((t.astype("datetime64[D]").astype(np.int64) + 3) % 7) / 7,
    "day": lambda t: (t - t.astype("datetime64[D]").astype(t.dtype)) / np.timedelta64(1, "s") / 86400,
}
"""How much of a cycle has passed at a time, from 0 to 1: of the year, the week (whole days from Monday), the day."""


@dataclass(frozen=True)
class DateEncoder(Encoder):
    """A date as its distance in time, scaled like a number, and as the sine and cosine of its place in each cycle.

    sin 2πφ and cos 2πφ for the share φ of the year, the week and the day that has passed: the last day of a year is
    next to the first. Only what varies in training is there.
    """

    kind = "date"
    scale: Scale | None
    cycles: tuple[str, ...]
    has_gaps: bool
    format: DateFormat | None = None
    odd: tuple[str, ...] = ()

    @property
    def outputs(self) -> list[str]:
        names = [] if self.scale is None else [self.source]
        names += [f"{self.source}:{f}({cycle})" for cycle in self.cycles for f in ("sin", "cos")]
        return names + ([f"{self.source}=missing"] if self.has_gaps else [])

    @property
    def n_numbers(self) -> int:
        return len(self.outputs) - self.has_gaps

    def read(self, column: Column) -> HostArray:
        """The times, NaT where one is missing; UnreadableCells where a cell is none."""
        return dates_of(column, self.format, self.odd)

    def write(self, column: Column, out: HostArray) -> None:
        times = self.read(column)
        missing = np.isnat(times)
        i = 0
        if self.scale is not None:
            days = days_of(times)
            out[:, 0] = self.scale.apply(np.where(missing, self.scale.center, days))
            i = 1
        filled = np.where(missing, np.datetime64(0, "us"), times)
        for cycle in self.cycles:
            angle = 2 * np.pi * _PARTS[cycle](filled)
            out[:, i] = np.where(missing, 0.0, np.sin(angle))
            out[:, i + 1] = np.where(missing, 0.0, np.cos(angle))
            i += 2
        if self.has_gaps:
            out[:, i] = missing


def fit_encoder(
    column: Column, kind: ColumnKind, *, numbers: str, codes_from: int | None, most: int, scale_one_hot: bool
) -> Encoder:
    """The encoder of a column that `kind` says is used. With `codes_from`, categories of more values become codes.

    With `scale_one_hot` the columns of categories are scaled as numbers are, those of two values are one, and gaps are
    none of their values.
    """
    name = column.name
    if kind.kind == "number":
        values = numbers_of(column, kind.number_format, kind.odd)
        there = values[np.isfinite(values)]
        has_gaps = len(there) < len(values)
        return NumberEncoder(name, Scale.of(there, numbers), has_gaps, kind.number_format, kind.odd)
    if kind.kind == "date":
        return _fit_date(column, kind, numbers)
    text = _plain_numbers(column, kind.number_format).as_text()
    counts: dict[str, int] = {}
    by_word = np.bincount(text.values[text.values >= 0], minlength=len(text.words)).tolist()
    for word, count in zip(text.words, by_word, strict=True):
        counts[canonical(word)] = counts.get(canonical(word), 0) + count
    if kind.kind == "yes_no" or (scale_one_hot and len(counts) <= 2):
        has_gaps = not scale_one_hot and len(counts) == 2 and text.n_missing > 0
        signs = YesNoEncoder(name, tuple(sorted(counts, key=yes_last)), kind.number_format, has_gaps)
        return replace(signs, scale=Scale.of(signs.signs(column), numbers)) if scale_one_hot else signs
    kept = sorted(sorted(counts), key=counts.__getitem__, reverse=True)[:most]
    codes = codes_from is not None and len(kept) > codes_from
    has_gaps = not scale_one_hot and text.n_missing > 0
    category = CategoryEncoder(name, tuple(sorted(kept)), has_gaps, codes, len(counts) - len(kept))
    if not scale_one_hot or codes:
        return category
    of_rows = _codes(column, category.values)
    scales = [Scale.of((of_rows == i).astype(np.float64), numbers) for i in range(len(kept))]
    return replace(category, scales=tuple(scales))


def _fit_date(column: Column, kind: ColumnKind, numbers: str) -> DateEncoder:
    times = dates_of(column, kind.date_format, kind.odd)
    there = times[~np.isnat(times)]
    is_clock = kind.date_format is not None and kind.date_format.is_clock
    span = (there.max() - there.min()) / np.timedelta64(1, "D")
    cycles = []
    for cycle, least in (("year", 28.0), ("week", 2.0), ("day", 0.0)):
        shares = _PARTS[cycle](there)
        if (cycle == "day" or (span >= least and not is_clock)) and shares.max() - shares.min() > 1e-6:
            cycles.append(cycle)
    scale = None if is_clock or span == 0 else Scale.of(days_of(there), numbers)
    return DateEncoder(column.name, scale, tuple(cycles), len(there) < len(times), kind.date_format, kind.odd)


def days_of(times: HostArray) -> HostArray:
    """Days since 1970, float64."""
    return times.astype("datetime64[us]").astype(np.int64) / 86_400e6


def numbers_of(column: Column, form: NumberFormat | None, odd: Sequence[str] = ()) -> HostArray:
    """A column as float64, NaN where one is missing; TableError for text that is none of the `odd` words."""
    if column.storage in ("number", "boolean"):
        return column.values
    if column.storage != "text":
        raise TableError(f"column {column.name!r} holds {column.holds or 'dates'}, and held numbers in training.")
    if not column.words:
        return np.full(len(column), np.nan)
    if form is None:
        form = writing_of(
            column.words, np.bincount(column.values[column.values >= 0], minlength=len(column.words))
        ).format
    values = form.parse(column.words)
    _refuse(column, np.isnan(values), odd, "numbers", form.describe())
    return np.append(values, np.nan)[column.values]


def dates_of(column: Column, form: DateFormat | None, odd: Sequence[str] = ()) -> HostArray:
    """A column as datetime64[us], NaT where one is missing; TableError for what is no date, `odd` words aside."""
    if column.storage == "date":
        return column.values
    if column.storage == "other":
        raise TableError(f"column {column.name!r} holds {column.holds}, and held dates in training.")
    text = column.as_text()
    if not text.words:
        return np.full(len(column), np.datetime64("NaT", "us"))
    if form is None:
        counts = np.bincount(text.values[text.values >= 0], minlength=len(text.words))
        writing = date_writing_of(text.words, counts)
        form = DateFormat() if writing is None else writing.format
    times = form.parse(text.words)
    others = np.flatnonzero(np.isnat(times))
    if len(others):  # ISO 8601 has one meaning, and is what programs write where people write another format
        times[others] = DateFormat().parse([text.words[i] for i in others.tolist()])
    _refuse(text, np.isnat(times), odd, "dates", form.describe())
    return np.append(times, np.datetime64("NaT", "us"))[text.values]


def _refuse(text: Column, bad: HostArray, odd: Sequence[str], what: str, written: str) -> None:
    known = {*odd}
    found = [i for i in np.flatnonzero(bad).tolist() if text.words[i] not in known]
    if not found:
        return
    some = []
    for i in found[:_MOST_NAMED]:
        rows = np.flatnonzero(text.values == i)
        some.append(f"{text.words[i]!r} (row {rows[0]})")
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    raise UnreadableCells(
        f"column {text.name!r} held {what} in training (with {written}) and has {', '.join(some)}{more}. Correct these "
        "cells, or leave them empty.",
        tuple(text.words[i] for i in found),
    )


def _plain_numbers(column: Column, form: NumberFormat | None) -> Column:
    """A column of text whose words are numbers in this format, with the numbers as words: 1.5 for 1,50 €."""
    if form is None or column.storage != "text":
        return column
    values = form.parse(column.words)
    words = [word if np.isnan(x) else number_word(x) for word, x in zip(column.words, values.tolist(), strict=True)]
    return column.with_words(words)


def _codes(column: Column, values: Sequence[str]) -> HostArray:
    """(n,) the number of each value among `values`, −1 for others and for missing ones."""
    if column.storage == "other":
        raise TableError(f"column {column.name!r} holds {column.holds}, and held categories in training.")
    text = column.as_text()
    number = {value: i for i, value in enumerate(values)}
    lut = np.fromiter((number.get(canonical(word), -1) for word in text.words), np.int64, len(text.words))
    return np.append(lut, -1)[text.values]


_ENCODERS: dict[str, type[Encoder]] = {
    cls.kind: cls for cls in (NumberEncoder, YesNoEncoder, CategoryEncoder, DateEncoder)
}


def encoder_of(plain: Mapping[str, Any]) -> Encoder:
    """The inverse of `Encoder.plain`. ValueError or TypeError for anything else."""
    if not isinstance(plain, Mapping):
        raise TypeError(f"a column's encoder is an object, got {reprlib.repr(plain)}")
    fields = dict(plain)
    kind = fields.pop("kind", None)
    if not isinstance(kind, str) or kind not in _ENCODERS:
        raise ValueError(f"columns of kind {reprlib.repr(kind)} are not known")
    cls = _ENCODERS[kind]
    if cls is DateEncoder:
        fields.setdefault("scale", None)
    for name, value in fields.items():
        if name not in _FIELDS:
            raise ValueError(f"{kind} has a field {name!r}, which is not known")
        is_right, what = _FIELDS[name](value, cls)
        if not is_right:
            raise ValueError(f"{kind} has {name} = {reprlib.repr(value)}, expected {what}")
    if fields.get("scale") is not None:
        fields["scale"] = _scale_of(fields["scale"])
    if "scales" in fields:
        fields["scales"] = tuple(map(_scale_of, fields["scales"]))
    if fields.get("format") is not None:
        form = fields["format"]
        if cls is DateEncoder:
            fields["format"] = DateFormat(**form)
        else:
            fields["format"] = NumberFormat(form.get("decimal", "."), tuple(form.get("affixes", ())))
    for name in ("values", "odd", "cycles"):
        if name in fields:
            fields[name] = tuple(fields[name])
    if cls is YesNoEncoder and not 1 <= len(fields["values"]) <= 2:
        raise ValueError(f"yes_no has {len(fields['values'])} values, expected one or two")
    made = cls(**fields)
    if isinstance(made, CategoryEncoder) and made.scales and (made.codes or len(made.scales) != len(made.outputs)):
        raise ValueError(f"category has {len(made.scales)} scales, expected one for each column of its values")
    if not made.outputs:
        raise ValueError(f"the {kind} {made.source!r} becomes no input")
    return made


def _scale_of(plain: Mapping[str, Any]) -> Scale:
    return Scale(**{**plain, "knots": tuple(map(float, plain.get("knots", ())))})


def _is_scale(value: Any, cls: type[Encoder]) -> tuple[bool, str]:
    if value is None:
        return cls is not NumberEncoder, "a scale"
    right = isinstance(value, Mapping) and set(value) <= {"method", "center", "factor", "knots"}
    if right:
        knots = value.get("knots", ())
        right = value.get("method") in ("robust", "standard", "quantile", "none")
        right = right and all(_is_number(value.get(name, 0.0)) for name in ("center", "factor"))
        right = right and isinstance(knots, list | tuple) and all(map(_is_number, knots))
        right = right and all(a <= b for a, b in pairwise(knots))
        right = right and (len(knots) >= 2) == (value["method"] == "quantile")
    return right, "a scale: its method, center, factor and knots, all of them finite"


def _are_scales(value: Any, cls: type[Encoder]) -> tuple[bool, str]:
    right = isinstance(value, list | tuple) and all(x is not None and _is_scale(x, cls)[0] for x in value)
    return right, "scales: the method, center, factor and knots of each, all of them finite"


def _is_format(value: Any, cls: type[Encoder]) -> tuple[bool, str]:
    if value is None:
        return True, ""
    if cls is DateEncoder:
        known = {form.pattern for form in all_formats()}
        return isinstance(value, Mapping) and set(value) == {"pattern"} and value["pattern"] in known, "a known format"
    right = isinstance(value, Mapping) and set(value) <= {"decimal", "affixes"} and value.get("decimal") in (".", ",")
    return right and _is_texts(value.get("affixes", ()), cls)[0], "a decimal mark and what stands beside numbers"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(float(value)))


def _is_texts(value: Any, cls: type[Encoder]) -> tuple[bool, str]:
    right = isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
    return right and len(set(value)) == len(value), "a list of different texts"


def _is_cycles(value: Any, cls: type[Encoder]) -> tuple[bool, str]:
    return _is_texts(value, cls)[0] and set(value) <= set(_PARTS), f"some of {', '.join(_PARTS)}"


def _is_bool(value: Any, cls: type[Encoder]) -> tuple[bool, str]:
    return isinstance(value, bool), "true or false"


_FIELDS: dict[str, Callable[[Any, type[Encoder]], tuple[bool, str]]] = {
    "source": lambda value, cls: (isinstance(value, str), "the name of a column"),
    "scale": _is_scale,
    "scales": _are_scales,
    "has_gaps": _is_bool,
    "format": _is_format,
    "odd": _is_texts,
    "values": _is_texts,
    "codes": _is_bool,
    "n_rare": lambda value, cls: (isinstance(value, int) and not isinstance(value, bool) and value >= 0, "a count"),
    "cycles": _is_cycles,
}
"""Whether what a saved encoder has in a field can be there, and what can."""
