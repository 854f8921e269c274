"""Numbers in a page."""

from __future__ import annotations


def number(value: float, digits: int = 4) -> str:
    """With so many digits, and no fewer than a whole number has.

    >>> number(40336199.68), number(0.98473), number(1.0), number(-2.3e-7), number(24580.0), number(-0.0)
    ('40,336,200', '0.9847', '1', '−2.3e−7', '24,580', '0')
    """
    value = float(value) + 0.0  # −0 is 0
    size = abs(value)
    if 10**digits <= size < 1e12:
        shown = f"{value:,.0f}"
    elif value == 0 or 1e-4 <= size < 10**digits:
        shown = f"{value:,.{digits}g}"
    else:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        shown = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}" if exponent else mantissa
    return shown.replace("-", "−")
