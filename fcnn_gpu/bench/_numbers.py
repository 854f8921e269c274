"""Measured numbers as people read them: three significant digits and a unit."""

from __future__ import annotations

import math

from .results import Spread

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_THOUSANDS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def duration(seconds: float) -> str:
    """A time in the unit that keeps it between 1 and 1000.

    >>> [duration(s) for s in (0.0, 3.21e-8, 1.234e-3, 0.9996, 75.0)]
    ['0 s', '32.1 ns', '1.23 ms', '1.00 s', '75.0 s']
    """
    return _scaled(seconds, _SECONDS) if seconds else "0 s"


def rate(per_second: float) -> str:
    """A count per second, in thousands, millions, ...

    >>> [rate(n) for n in (0.0, 12.3, 999.7, 45678, 3.2e9)]
    ['0', '12.3', '1.00 k', '45.7 k', '3.20 G']
    """
    return _scaled(per_second, _THOUSANDS) if per_second else "0"


def giga(per_second: float) -> str:
    """A count per second in thousands of millions.

    >>> [giga(n) for n in (0.0, 4.11e11, 2.5e8)]
    ['0', '411', '0.250']
    """
    return three_digits(round_to_three(per_second / 1e9)) if per_second else "0"


def share(part: float) -> str:
    """A part of a whole, in percent; small ones with two digits.

    >>> [share(p) for p in (0.0, 0.00123, 0.0967, 0.884, 1.02)]
    ['0%', '0.12%', '9.7%', '88%', '102%']
    """
    if part == 0 or part >= 0.0995:
        return f"{part:.0%}"
    return f"{part:.1%}" if part >= 0.00995 else f"{part:.2%}"


def signed_share(part: float) -> str:
    """What something costs beyond something else, in percent with its sign.

    >>> [signed_share(p) for p in (0.0312, -0.004, 0.0)]
    ['+3.1%', '−0.4%', '+0.0%']
    """
    return f"{part:+.1%}".replace("-", "−")


def times(ratio: float) -> str:
    """How many times as fast.

    >>> [times(r) for r in (0.954, 1.3, 12.34, 456.7)]
    ['0.95×', '1.30×', '12.3×', '457×']
    """
    return f"{_ratio(ratio)}×"


def quartiles(spread: Spread) -> str:
    """The first and the third quartile of ratios.

    >>> quartiles(Spread(1.3, 1.25, 1.341))
    '1.25–1.34'
    """
    return f"{_ratio(spread.low)}–{_ratio(spread.high)}"


def threads(n: int) -> str:
    """How many threads.

    >>> threads(1), threads(2)
    ('1 thread', '2 threads')
    """
    return f"{n} thread" + "s" * (n != 1)


def small(value: float) -> str:
    """A deviation or its limit, in powers of ten.

    >>> small(0.0), small(2.14e-7), small(math.inf)
    ('0', '2.1e-07', 'inf')
    """
    return f"{value:.1e}" if value else "0"


def three_digits(value: float) -> str:
    """Three significant digits without an exponent; the digits before the point are never rounded away.

    >>> [three_digits(v) for v in (0.01234, 1.0, 12.345, 123456.7)]
    ['0.0123', '1.00', '12.3', '123,457']
    """
    if not value or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _ratio(value: float) -> str:
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:,.{digits}f}"


def _scaled(value: float, units: tuple[tuple[float, str], ...]) -> str:
    rounded = round_to_three(value)
    scale, unit = next(((s, u) for s, u in units if abs(rounded) >= s), units[-1])
    return f"{three_digits(round_to_three(rounded / scale))} {unit}".rstrip()


def round_to_three(value: float) -> float:
    """`value` rounded to three significant digits, so that 999.7 counts as 1000 when digits are chosen."""
    return float(f"{value:.3g}")
