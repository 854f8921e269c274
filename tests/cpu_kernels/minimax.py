"""The polynomials of kernels/cpu/elementary.h: `python tests/cpu_kernels/minimax.py` prints coefficients and errors.

It needs mpmath and takes some seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

Number = Any
"""One of mpmath's."""

N_POINTS = 1200
DIGITS = 80
BITS = {"float": 24, "double": 53}


class Polynomial(NamedTuple):
    """P of a degree with the least possible max |weight·(target − P)| over [start, stop], then rounded to a type."""

    name: str
    type: str
    degree: int
    start: Number
    stop: Number
    target: Callable[[Number], Number]
    weight: Callable[[Number], Number]


def polynomials(mp: Any) -> Iterator[Polynomial]:
    """All that elementary.h has. An interval is a little too wide where a rounded number decides on its end."""
    number, log2 = mp.mpf, mp.log(2)
    half, two_half = log2 / 2 * number("1.0005"), number("0.5005")
    s2 = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2 * number("1.0001")
    tiny = number("1e-6")

    def over_root(f: Callable[[Number], Number]) -> Callable[[Number], Number]:
        return lambda z: f(mp.sqrt(z)) / mp.sqrt(z)

    artanh = over_root(mp.atanh)

    def erfc(x: Number) -> Number:
        """2(1 − Φ(x))"""
        return mp.erfc(x / mp.sqrt(2))

    for type_, degree in (("float", 4), ("double", 9)):
        of_e = (lambda r: (mp.expm1(r) - r) / r**2, lambda r: r**2 / mp.expm1(r))
        yield Polynomial("(e^r - 1 - r)/r^2", type_, degree, -half, half, *of_e)
    for type_, degree in (("float", 2), ("double", 6)):
        of_log = (lambda z: (2 * artanh(z) - 2) / z, lambda z: z / (2 * artanh(z)))
        yield Polynomial("(2 artanh(s)/s - 2)/s^2, z = s^2", type_, degree, number("1e-12"), s2, *of_log)
    for type_, degree in (("float", 5), ("double", 10)):
        of_power = (lambda r: mp.expm1(log2 * r) / r, lambda r: r / mp.exp(log2 * r))
        yield Polynomial("(2^r - 1)/r", type_, degree, -two_half, two_half, *of_power)
    for type_, degree, stop, least in (("float", 8, 6, mp.ldexp(1, -10)), ("double", 21, 9, mp.ldexp(1, -42))):
        of_tail = (
            lambda x: mp.log(erfc(x), 2) / x,
            lambda x, least=least: log2 * x * max(erfc(x) / (2 - erfc(x)), least),
        )
        yield Polynomial("log2(2(1 - cdf(x)))/x", type_, degree, tiny, stop, *of_tail)
    quarter = over_root(lambda f: mp.sin(mp.pi / 2 * f))
    for type_, degree in (("float", 4), ("double", 8)):
        yield Polynomial("sin(pi/2 x)/x, z = x^2", type_, degree, tiny, 1, quarter, lambda z: 1 / quarter(z))
    eighth = (mp.pi / 4 * number("1.04")) ** 2
    sin, cos = over_root(mp.sin), (lambda z: mp.cos(mp.sqrt(z)))
    for type_, degree in (("float", 2), ("double", 5)):
        of_sin = (lambda z: (sin(z) - 1) / z, lambda z: z / sin(z))
        yield Polynomial("(sin(x)/x - 1)/x^2, z = x^2", type_, degree, tiny, eighth, *of_sin)
        of_cos = (lambda z: (cos(z) - 1 + z / 2) / z**2, lambda z: z**2 / cos(z))
        yield Polynomial("(cos(x) - 1 + x^2/2)/x^4, z = x^2", type_, degree, tiny, eighth, *of_cos)


def fit(mp: Any, p: Polynomial) -> tuple[list[float], float]:
    """Coefficients, lowest first, and the largest error that they leave, in half units in the last place of 1.

    Remez (1934): the errors at degree + 2 points are made equal with alternating signs; then each point moves to the
    largest error around it, until they stay.
    """
    middle, radius = mp.mpf(p.start + p.stop) / 2, mp.mpf(p.stop - p.start) / 2
    x = [middle - radius * mp.cos(mp.pi * (i + mp.mpf(1) / 2) / N_POINTS) for i in range(N_POINTS)]
    target, weight = [p.target(t) for t in x], [abs(p.weight(t)) for t in x]
    powers = [[t**k for k in range(p.degree + 1)] for t in x]
    n, last = p.degree + 2, mp.inf
    chosen: list[int] = []

    def errors(coefficients: list[Number]) -> list[Number]:
        values = (mp.fdot(coefficients, row) for row in powers)
        return [w * (t - v) for w, t, v in zip(weight, target, values, strict=True)]

    extremes = [i * (N_POINTS - 1) // (n - 1) for i in range(n)]
    while extremes != chosen:
        chosen = extremes
        matrix = mp.matrix([[*powers[i], (-1) ** k / weight[i]] for k, i in enumerate(chosen)])
        coefficients = list(mp.lu_solve(matrix, mp.matrix([target[i] for i in chosen])))[:-1]
        error = errors(coefficients)
        starts = [0, *(i for i in range(1, N_POINTS) if (error[i] > 0) != (error[i - 1] > 0)), N_POINTS]
        extremes = [max(range(*run), key=lambda i: abs(error[i])) for run in pairwise(starts)]
        while len(extremes) > n:
            extremes.pop(0 if abs(error[extremes[0]]) < abs(error[extremes[-1]]) else -1)
        largest = max(abs(e) for e in error)
        if abs(largest - last) < largest * mp.mpf("1e-6"):
            break
        last = largest
    with mp.workprec(BITS[p.type]):
        rounded = [+c for c in coefficients]
    return [float(c) for c in rounded], float(max(abs(e) for e in errors(rounded)) * 2 ** BITS[p.type])


def written(coefficient: float, type_: str) -> str:
    """As elementary.h writes it: 0x1.5554bp-3f."""
    mantissa, exponent = coefficient.hex().split("p")
    suffix = "f" if type_ == "float" else ""
    return f"{mantissa.rstrip('0').removesuffix('.')}p{int(exponent)}{suffix}"


def main() -> None:
    import mpmath

    with mpmath.workdps(DIGITS):
        for polynomial in polynomials(mpmath):
            coefficients, error = fit(mpmath, polynomial)
            print(f"{polynomial.name}, {polynomial.type}, degree {polynomial.degree}: {error:.2f} u")
            print("    " + ", ".join(written(c, polynomial.type) for c in coefficients), flush=True)


if __name__ == "__main__":
    main()
