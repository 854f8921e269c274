"""Numbers in a page."""

from __future__ import annotations


def number(value: float, digits: int = 4) -> str:
    """With so many digits, and no fewer than a whole number has.

    >>> number(40336199.68), number(0.98473), number(1.0), number(2.3e-7), number(24580.0)
    ('40,336,200', '0.9847', '1', '2.300e-7', '24,580')
    """
    size = abs(value)
    if 10**digits <= size < 1e12:
        return f"{value:,.0f}"
    if value == 0 or 1e-4 <= size < 10**digits:
        return f"{value:,.{digits}g}"
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa
