"""Numbers as people write them in cells: 1,234.5 and 1.234,5 and 1 234,5, with a currency or a percent sign."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .._types import HostArray

_SPACES = " \u00a0\u202f\u2009\u2007'\u2019_"
"""Blank, no-break, narrow, thin and figure space; Swiss and programmers' separators."""
_AFFIX = r"(?:[$€£¥₹₩₽₺₪฿%‰]|US\$|R\$|USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD|SEK|NOK|DKK|PLN|CZK|kr\.?|zł|Kč|Fr\.)"
_CELL = re.compile(
    rf"(?P<open>\()?\s*(?P<sign>[+\-−–])?\s*(?P<before>{_AFFIX})?\s*(?P<sign2>[+\-−–])?\s*"
    rf"(?P<body>[0-9.,][0-9.,{_SPACES}]*)(?P<exponent>[eE][+\-]?[0-9]+)?"
    rf"\s*(?P<after>{_AFFIX})?\s*(?P<close>\))?",
    re.IGNORECASE,
)
_UNIT = re.compile(rf"[^0-9]{{0,4}}(?P<zeros>0[0-9])?[0-9.,{_SPACES}]*[0-9]\s?(?P<unit>[A-Za-zµ°Ω²³/]{{1,10}})")
_LOOKED_AT = 200
_LONGEST = 100
"""Characters of a number with signs and separators: longer cells are not looked at, which would take long."""
_POINT, _COMMA = re.compile(r"-?[0-9]+(\.[0-9]+)?"), re.compile(r"-?[0-9]+(,[0-9]+)?")
_GROUPS = re.compile(r"[0-9]{1,3}(?:G[0-9]{2,3})*G[0-9]{3}|[0-9]+")
"""Digits in groups (G the separator): thousands, or the Indian lakhs and crores."""
_THREE = re.compile(r"[1-9][0-9]{0,2}[.,][0-9]{3}")
"""1,234 or 1.234: thousands, or a decimal mark."""


@dataclass(frozen=True)
class NumberFormat:
    """How a column writes its numbers.

    Attributes:
        decimal: the decimal mark, "." or ",".
        affixes: currencies, signs and a unit beside the numbers, in order of their first use: what the numbers are in.
    """

    decimal: str = "."
    affixes: tuple[str, ...] = ()

    def parse(self, words: Sequence[str]) -> HostArray:
        """The numbers, float64; NaN where a word is none in this format.

        >>> NumberFormat(",").parse(["1.234,5", "-3 %", "(7)", "12.5"])
        array([1234.5,   -3. ,   -7. ,    nan])
        """
        return np.array([self._number(word) for word in words], np.float64)

    def describe(self) -> str:
        return "decimal commas" if self.decimal == "," else "decimal points"

    def _number(self, word: str) -> float:
        if (_POINT if self.decimal == "." else _COMMA).fullmatch(word):
            return float(word.replace(",", "."))
        match = _cell(self._without_unit(word))
        if match is None or (match["open"] is None) != (match["close"] is None):
            return np.nan
        body = "".join("_" if c in _SPACES else c for c in match["body"].rstrip(_SPACES))
        whole, point, fraction = body.partition(self.decimal)
        if (point and not fraction.isdigit() and fraction) or not (whole or fraction):
            return np.nan
        if whole and not whole.isdigit() and not self._grouped(whole):
            return np.nan
        digits = "".join(c for c in whole if c.isdigit())
        value = float(f"{digits or '0'}.{fraction or '0'}{match['exponent'] or ''}")
        signs = [s for s in (match["sign"], match["sign2"]) if s]
        if len(signs) > 1 or (signs and match["open"]):
            return np.nan
        negative = match["open"] is not None or (signs and signs[0] != "+")
        return -value if negative else value

    def _without_unit(self, word: str) -> str:
        for unit in self.affixes:
            if word.endswith(unit):
                return word[: -len(unit)].rstrip()
        return word

    def _grouped(self, whole: str) -> bool:
        separators = {c for c in whole if not c.isdigit()}
        if len(separators) != 1 or self.decimal in separators:
            return False
        return _GROUPS.fullmatch(whole.replace(separators.pop(), "G")) is not None


@dataclass(frozen=True)
class Writing:
    """How the words of a column write numbers, as far as they tell.

    Attributes:
        share: of the values, that are numbers in the format found.
        format: how they are written.
        odd: the words that are no numbers.
        decided: whether a word shows the decimal mark; otherwise 1,234 or 1.234 may be thousands or not.
        ambiguous: such a word, where there is one and nothing decides.
        values: of the words, NaN for odd ones.
    """

    share: float
    format: NumberFormat
    odd: tuple[str, ...]
    decided: bool
    ambiguous: str | None
    values: HostArray


def writing_of(words: Sequence[str], counts: HostArray, hint: str | None = None) -> Writing:
    """How `words`, which occur `counts` times, write numbers. `hint`: the decimal mark of the rest of the file.

    >>> writing_of(["1.200,50 €", "99,9 €", "n.v."], np.array([5, 4, 1])).format
    NumberFormat(decimal=',', affixes=('€',))
    """
    some = words[:: max(1, len(words) // _LOOKED_AT)]
    unit = _unit(some)
    bare = words if unit is None else [word.removesuffix(unit).rstrip() for word in words]
    votes = {".": 0, ",": 0}
    ambiguous, affixes = None, {} if unit is None else {unit: None}
    ambiguous_mark = ","
    if len(words) > 2 * _LOOKED_AT and sum(map(_is_cell, bare[:: max(1, len(words) // _LOOKED_AT)])) < len(some) / 2:
        return Writing(
            0.0, NumberFormat(), tuple(words), False, None, np.full(len(words), np.nan)
        )  # nothing like numbers
    for word, count in zip(bare, counts.tolist(), strict=True):
        match = _cell(word)
        if match is None:
            continue
        affixes.update(dict.fromkeys(a for a in (match["before"], match["after"]) if a))
        body = match["body"].strip(_SPACES)
        mark = _mark(body)
        if mark is not None:
            votes[mark] += count
        elif _THREE.fullmatch(body):
            ambiguous = word if ambiguous is None else ambiguous
            ambiguous_mark = "," if "," in body else "."
    decided = any(votes.values())
    if decided:
        decimal = "," if votes[","] > votes["."] else "."
    elif ambiguous is None or hint is not None:
        decimal = hint or "."
    else:  # 1,234 are thousands unless the file says otherwise, and 1.234 is what every program reads it as
        decimal = "."
    form = NumberFormat(decimal, tuple(affixes))
    values = form.parse(words)
    odd = np.isnan(values)
    total = int(counts.sum())
    share = float(counts[~odd].sum() / total) if total else 0.0
    unclear = None if decided or hint is not None or ambiguous_mark == "." else ambiguous
    return Writing(
        share, form, tuple(word for word, bad in zip(words, odd, strict=True) if bad), decided, unclear, values
    )


def _unit(words: Sequence[str]) -> str | None:
    """The letters behind nearly all numbers: 172 cm. None where there are none, or where they end codes: 007A."""
    ends = [match for match in map(_UNIT.fullmatch, words) if match is not None]
    if len(ends) < 2 or len(ends) < 0.9 * len(words) or any(match["zeros"] for match in ends):
        return None
    units = [match["unit"] for match in ends]
    most = max(set(units), key=units.count)
    return most if units.count(most) >= 0.9 * len(words) else None


def _is_cell(word: str) -> bool:
    return _cell(word) is not None


def _cell(word: str) -> re.Match[str] | None:
    return _CELL.fullmatch(word) if len(word) <= _LONGEST else None


def _mark(body: str) -> str | None:
    """The decimal mark that a number's digits show beyond doubt."""
    points, commas = body.count("."), body.count(",")
    if points and commas:
        return "." if body.rfind(".") > body.rfind(",") else ","
    if points > 1:
        return ","
    if commas > 1:
        return "."
    if points + commas == 1 and not _THREE.fullmatch(body):
        return "." if points else ","
    return None
