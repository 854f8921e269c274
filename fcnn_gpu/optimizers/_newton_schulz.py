"""Matrices made orthogonal by Newton–Schulz iterations: products and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .._types import Array, DType
from ..backend import Ops, WeightMatrix

_ROUNDED = 1.0 + 2.0**-5
"""What products of factors with 8 bits of mantissa may add to a singular value, with room to spare."""


@dataclass(frozen=True)
class NewtonSchulz:
    """X ← X/max(‖X‖, ε), then `steps` times X ← aX + b(XXᵀ)X + c(XXᵀ)²X, which takes singular values towards 1.

    Sources: Higham (2008), "Functions of matrices", section 8.3; Jordan et al. (2024), "Muon", for the coefficients.

    With K = XXᵀ, or XᵀX where that is smaller, the polynomial is c(K + b/(2c)·I)² + (a − b²/(4c))·I: a product, and two
    additions to a diagonal, in the place of passes over whole matrices.
    """

    coefficients: tuple[float, float, float]
    steps: int
    eps: float

    def largest_value(self) -> float:
        """No singular value of a result is larger, rounding included; ∞ where these coefficients let them grow."""
        a, b, c = self.coefficients
        largest = 1.0
        for _ in range(self.steps):
            largest *= _ROUNDED
            # p(x) = ax + bx³ + cx⁵ is extreme at the end of the interval, or where a + 3bx² + 5cx⁴ = 0
            turns = [x for x in _roots(a, 3.0 * b, 5.0 * c) if x < largest]
            largest = max(abs(x * (a + x * x * (b + x * x * c))) for x in (largest, *turns))
            if not largest < 1e6:
                return math.inf
        return largest * _ROUNDED

    def orthogonalize(self, ops: Ops, given: Array, matrix: WeightMatrix, factor: float, memory: Memory) -> Array:
        """The result for each of the matrices in `given` (members·n_in·n_out), F-ordered (n_out, n_in), times `factor`.

        It lies like `given`, which is overwritten, there or in `memory`, until the next call.
        """
        a, b, c = self.coefficients
        k, p, q = matrix.members, matrix.n_in, matrix.n_out  # Wᵀ, C-ordered
        n = min(p, q)
        ops.normalize_matrices(given, k, self.eps)
        first = given
        if memory.low is not None:
            first = memory.low[: given.size]
            ops.cast(given, first)
        X, Y = (x.reshape(k, p, q) for x in (first, memory.other[: given.size]))
        K, P = (x[: k * n * n].reshape(k, n, n) for x in (memory.gram, memory.polynomial))
        for step in range(self.steps):
            is_last = step == self.steps - 1
            out = given.reshape(k, p, q) if is_last and memory.low is not None else Y
            Xt = X.swapaxes(1, 2)
            ops.batched_gemm(*((X, Xt) if p <= q else (Xt, X)), K, 1.0 if c else b)
            polynomial = K
            if c:
                ops.add_to_diagonal(K, b / (2.0 * c))
                ops.batched_gemm(K, K, P, c)
                polynomial = P
            ops.add_to_diagonal(polynomial, a - b * b / (4.0 * c) if c else a)
            factors = (polynomial, X) if p <= q else (X, polynomial)
            ops.batched_gemm(*factors, out, factor if is_last else 1.0)
            X, Y = out, X
        return X.reshape(given.size)


@dataclass(frozen=True)
class Memory:
    """What the iterations of the largest matrix are computed in."""

    direction: Array
    """What is given, as wide as parameters are."""
    low: Array | None
    """The same as products read it, where that has 16 bits."""
    other: Array
    gram: Array
    polynomial: Array

    @classmethod
    def of(cls, ops: Ops, matrices: Iterable[WeightMatrix], dtype: DType, low: DType | None) -> Memory:
        """Scratch memory of this thread; `low` is the dtype of 16-bit products."""
        sizes = [(m.size, m.members * min(m.n_out, m.n_in) ** 2) for m in matrices]
        whole, gram = (max(column) for column in zip(*sizes, strict=True))
        compute = dtype if low is None else low

        def scratch(tag: str, size: int, kind: DType) -> Array:
            return ops.scratch(f"newton-schulz {tag}", size, kind)

        return cls(
            scratch("direction", whole, dtype),
            None if low is None else scratch("low", whole, compute),
            scratch("other", whole, compute),
            scratch("gram", gram, compute),
            scratch("polynomial", gram, compute),
        )


def _roots(a: float, b: float, c: float) -> list[float]:
    """The positive x with a + bx² + cx⁴ = 0."""
    if not c:
        squares = [-a / b] if b else []
    else:
        discriminant = b * b - 4.0 * a * c
        root = math.sqrt(discriminant) if discriminant >= 0.0 else math.nan
        squares = [(-b + sign * root) / (2.0 * c) for sign in (1.0, -1.0)]
    return [math.sqrt(y) for y in squares if y > 0.0]
