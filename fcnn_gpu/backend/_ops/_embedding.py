"""Inputs of tables embedded: numbers by waves or by pieces, each with a linear map of its own, and categories by rows.

Sources: Gorishniy, Rubachev & Babenko (2022), "On embeddings for numerical features in tabular deep learning", sections
3.2 and 3.3; Holzmüller, Grinsztajn & Steinwart (2024), "Better by default", section 3 (cosines with a phase).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..._types import Array
from . import _numpy as np
from ._array import ArrayOps

NUMBER_KINDS = ("cosine", "waves", "pieces")
"""What a number is made of, in the order of kernels/embed_numbers.cu and kernels/cpu/embed_numbers.h."""


@dataclass(frozen=True)
class Columns:
    """Which units of an input (n_in, batch) are embedded, and which follow behind them unchanged.

    `order` (n_in,) int64, on the device: the `n_embedded` units that are, then all others; `host` are the same numbers.
    """

    order: Array
    host: tuple[int, ...]
    n_embedded: int

    def rest(self) -> Iterator[tuple[int, int, int]]:
        """Stretches of the others: how many lie behind the embedded ones before it, its first unit, its length."""
        units = self.host[self.n_embedded :]
        runs = itertools.groupby(enumerate(units), lambda pair: pair[1] - pair[0])
        for _, run in runs:
            pairs = list(run)
            yield pairs[0][0], pairs[0][1], len(pairs)


@dataclass(frozen=True)
class NumberMap:
    """y = W_f·φ_f(x) + b_f for each embedded unit f: `n_out` numbers, then x itself if `appends`.

    φ has, for the terms k = 0, 1, ... of f (`starts[f]` to `starts[f + 1]` − 1 of w and phase, each (n_terms,)):

        cosine   cos(2π w_k x + phase_k)
        waves    cos(2π w_k x), of all k; then sin(2π w_k x), of all k
        pieces   w_k x + phase_k, not below 0 but for the first k and not above 1 but for the last

    `starts` (n_embedded + 1,) int64, on the device; `host_starts` are the same numbers. W_f are the columns of W that
    belong to f's terms, two for each of waves: W (n_out, n_values), b (n_out, n_embedded), all F-ordered. With `shared`
    all have the same terms' number, and W, b are those of one. With `relu`, y = max(y, 0).
    """

    columns: Columns
    kind: str
    starts: Array
    host_starts: tuple[int, ...]
    n_out: int
    relu: bool = False
    appends: bool = False
    shared: bool = False

    @property
    def width(self) -> int:
        """Outputs of one embedded unit."""
        return self.n_out + self.appends

    @property
    def n_terms(self) -> int:
        return self.host_starts[-1]

    @property
    def values_per_term(self) -> int:
        return 2 if self.kind == "waves" else 1

    @property
    def n_values(self) -> int:
        """Columns of the gradient of W."""
        return self.values_per_term * self.n_terms

    @property
    def n_outputs(self) -> int:
        """Of all units, embedded or not."""
        return self.columns.n_embedded * self.width + len(self.columns.host) - self.columns.n_embedded


@dataclass(frozen=True)
class Tables:
    """The tables of embedded categories, one behind the other in E, each C-ordered (n_categories, n_out).

    `starts` and `places` (n_embedded + 1,) int64, on the device: where in E a table begins, and where in the outputs of
    a sample its row goes; `host_starts` and `host_places` are the same numbers.
    """

    columns: Columns
    starts: Array
    places: Array
    host_starts: tuple[int, ...]
    host_places: tuple[int, ...]

    @property
    def n_outputs(self) -> int:
        """Of all units, embedded or not."""
        return self.host_places[-1] + len(self.columns.host) - self.columns.n_embedded

    def shapes(self) -> Sequence[tuple[int, int]]:
        """(n_categories, n_out) of each table."""
        ends = zip(itertools.pairwise(self.host_starts), itertools.pairwise(self.host_places), strict=True)
        return [((b - a) // (d - c), d - c) for (a, b), (c, d) in ends]


class EmbeddingOps(ArrayOps):
    def embed_numbers(
        self, of: NumberMap, X: Array, w: Array, phase: Array | None, W: Array, b: Array, out: Array
    ) -> None:
        """out = y_f of every embedded unit, one behind the other, then the other units as they are.

        X (n_in, batch), out (of.n_outputs, batch), F-ordered; the rest as `NumberMap` says.
        """
        Xt, Yt = X.T, out.T
        for f, x, _, columns in self._embedded_numbers(of, Xt):
            phi = self._number_values(of, f, x, w, phase)[0]
            y = self._term_scratch("y", len(x), of.n_out, X.dtype)
            np.matmul(phi, W[:, columns].T, out=y)
            np.add(y, b.T[0 if of.shared else f], out=y)
            if of.relu:
                np.maximum(y, 0, out=y)
            start = f * of.width
            np.copyto(Yt[:, start : start + of.n_out], y)
            if of.appends:
                np.copyto(Yt[:, start + of.n_out : start + of.width], x)
        self._pass_on(of.columns, of.n_outputs, Xt, Yt)

    def embed_numbers_backward(
        self,
        of: NumberMap,
        dOut: Array,
        out: Array,
        X: Array,
        w: Array,
        phase: Array | None,
        W: Array,
        dw: Array | None,
        dphase: Array | None,
        dW: Array,
        db: Array,
        dX: Array | None,
    ) -> None:
        """With dz = dOut, 0 where a ReLU has cut: dW_f = Σ_j dz φᵀ, db_f = Σ_j dz, and with g_k = φ′_k (W_fᵀ dz)_k

        dphase_k = Σ_j g_k, dw_k = Σ_j c x g_k, dx = Σ_k c w_k g_k, c = 2π for cosines and waves (pieces have neither dw
        nor dphase). dW (n_out, of.n_values) and db (n_out, n_embedded) are those of each unit, with `shared`, too.
        """
        dYt, Yt, Xt = dOut.T, out.T, X.T
        ones = self.ones(X.shape[1], X.dtype)
        for f, x, terms, columns in self._embedded_numbers(of, Xt):
            start, n_terms = f * of.width, terms.stop - terms.start
            d = self._term_scratch("y", len(x), of.n_out, X.dtype)
            np.copyto(d, dYt[:, start : start + of.n_out])
            if of.relu:
                mask = self.scratch("mask", d.size, np.bool_).reshape(d.shape)
                kept = self._term_scratch("kept", len(x), of.n_out, X.dtype)
                np.greater(Yt[:, start : start + of.n_out], 0, out=mask)
                np.copyto(kept, mask)
                np.multiply(d, kept, out=d)
            phi, slope = self._number_values(of, f, x, w, phase)
            own = slice(of.values_per_term * terms.start, of.values_per_term * terms.stop)
            np.matmul(phi.T, d, out=dW.T[own])
            np.matmul(ones, d, out=db.T[f : f + 1])
            g = self._term_scratch("g", len(x), phi.shape[1], X.dtype)
            np.matmul(d, W[:, columns], out=g)
            np.multiply(g, slope, out=g)
            if of.kind == "waves":  # both values of a term are of one w_k x
                np.add(g[:, :n_terms], g[:, n_terms:], out=g[:, :n_terms])
                g = g[:, :n_terms]
            factor = 1.0 if of.kind == "pieces" else 2.0 * math.pi
            if dphase is not None:
                np.matmul(ones, g, out=dphase.reshape(1, -1, order="F")[:, terms])
            if dw is not None:
                dw_f = dw.reshape(1, -1, order="F")[:, terms]
                np.matmul(x.T, g, out=dw_f)
                np.multiply(dw_f, factor, out=dw_f)
            if dX is not None:
                dx = self.scratch("dx", len(x), X.dtype).reshape(-1, 1)
                np.matmul(g, w.reshape(-1, 1, order="F")[terms], out=dx)
                np.multiply(dx, factor, out=dx)
                if of.appends:
                    np.add(dx, dYt[:, start + of.n_out : start + of.width], out=dx)
                unit = of.columns.host[f]
                np.copyto(dX.T[:, unit : unit + 1], dx)
        if dX is not None:
            self._pass_back(of.columns, of.n_outputs, dYt, dX.T)

    def embed_categories(self, of: Tables, X: Array, E: Array, out: Array) -> None:
        """out = of every embedded unit the row of its table that X numbers, then the other units as they are.

        X (n_in, batch), out (of.n_outputs, batch), F-ordered; E as `Tables` says. The row of a number that is no
        category, an integer from 0 to n_categories − 1, is NaN.
        """
        Xt, Yt = X.T, out.T
        for f, (n, width) in enumerate(of.shapes()):
            x, rows = self._unit_of(of.columns, f, Xt), self.scratch("rows", X.shape[1], np.int64)
            picked = self._term_scratch("picked", len(x), width, X.dtype)
            wrong = self._find_rows(x, n, rows)
            np.take(self._table_of(of, E, f, n, width), rows, axis=0, out=picked, mode="clip")
            np.copyto(picked, math.nan, where=wrong.reshape(-1, 1))
            np.copyto(Yt[:, of.host_places[f] : of.host_places[f + 1]], picked)
        self._pass_on(of.columns, of.n_outputs, Xt, Yt)

    def embed_categories_backward(self, of: Tables, dOut: Array, X: Array, dE: Array, dX: Array | None) -> None:
        """dE_r = Σ_j of the samples whose category is r, in the order of j, and 0 for a row that has none; dX = 0 of
        the embedded units.
        """
        dYt, Xt = dOut.T, X.T
        np.copyto(dE, 0)
        for f, (n, width) in enumerate(of.shapes()):
            x, rows = self._unit_of(of.columns, f, Xt), self.scratch("rows", X.shape[1], np.int64)
            wrong, d = self._find_rows(x, n, rows), self._term_scratch("picked", len(x), width, X.dtype)
            np.copyto(d, dYt[:, of.host_places[f] : of.host_places[f + 1]])
            np.copyto(d, 0, where=wrong.reshape(-1, 1))
            np.copyto(rows, 0, where=wrong)
            np.add_at(self._table_of(of, dE, f, n, width), rows, d)
            if dX is not None:
                np.copyto(dX.T[:, of.columns.host[f]], 0)
        if dX is not None:
            self._pass_back(of.columns, of.n_outputs, dYt, dX.T)

    def _embedded_numbers(self, of: NumberMap, Xt: Array) -> Iterator[tuple[int, Array, slice, slice]]:
        """Of each embedded unit its number, x (batch, 1), its terms, and its columns of W."""
        for f, (start, stop) in enumerate(itertools.pairwise(of.host_starts)):
            x = self._unit_of(of.columns, f, Xt).reshape(-1, 1)
            v = of.values_per_term
            yield f, x, slice(start, stop), slice(0, v * (stop - start)) if of.shared else slice(v * start, v * stop)

    def _number_values(self, of: NumberMap, f: int, x: Array, w: Array, phase: Array | None) -> tuple[Array, Array]:
        """φ_f(x) and, where its argument moves by 1, what it moves by: (batch, values)."""
        terms = slice(of.host_starts[f], of.host_starts[f + 1])
        n_terms, n_values = terms.stop - terms.start, of.values_per_term * (terms.stop - terms.start)
        phi, slope = (self._term_scratch(tag, len(x), n_values, x.dtype) for tag in ("phi", "slope"))
        t = self._term_scratch("argument", len(x), n_terms, x.dtype)
        np.multiply(x, w.reshape(1, -1, order="F")[:, terms], out=t)
        if of.kind == "pieces":
            assert phase is not None
            np.add(t, phase.reshape(1, -1, order="F")[:, terms], out=t)
            np.copyto(phi, t)
            np.maximum(phi[:, 1:], 0, out=phi[:, 1:])
            np.minimum(phi[:, :-1], 1, out=phi[:, :-1])
            within = self.scratch("within", t.size, np.bool_).reshape(t.shape)
            np.equal(t, phi, out=within)
            np.copyto(slope, within)
            return phi, slope
        np.multiply(t, 2.0 * math.pi, out=t)
        if phase is not None:
            np.add(t, phase.reshape(1, -1, order="F")[:, terms], out=t)
        np.cos(t, out=phi[:, :n_terms])
        np.sin(t, out=slope[:, :n_terms])
        if of.kind == "waves":
            np.copyto(phi[:, n_terms:], slope[:, :n_terms])
            np.copyto(slope[:, n_terms:], phi[:, :n_terms])
        np.negative(slope[:, :n_terms], out=slope[:, :n_terms])
        return phi, slope

    def _find_rows(self, x: Array, n: int, rows: Array) -> Array:
        """rows = x as integers. Where these are no categories of n: bool (batch,), scratch."""
        wrong, other = (self.scratch(tag, len(x), np.bool_) for tag in ("wrong", "other"))
        np.copyto(rows, x, casting="unsafe")
        np.not_equal(rows, x, out=wrong)
        np.greater(0, rows, out=other)
        np.logical_or(wrong, other, out=wrong)
        np.greater_equal(rows, n, out=other)
        np.logical_or(wrong, other, out=wrong)
        return wrong

    def _table_of(self, of: Tables, E: Array, f: int, n: int, width: int) -> Array:
        flat = E.reshape(-1, order="F")
        return flat[of.host_starts[f] : of.host_starts[f + 1]].reshape(n, width)

    def _unit_of(self, columns: Columns, f: int, Xt: Array) -> Array:
        """Embedded unit f of all samples, contiguous (batch,)."""
        x = self.scratch("x", len(Xt), Xt.dtype)
        np.copyto(x, Xt[:, columns.host[f]])
        return x

    def _term_scratch(self, tag: str, batch: int, n: int, dtype: np.dtype) -> Array:
        return self.scratch(tag, batch * n, dtype).reshape(batch, n)

    def _pass_on(self, columns: Columns, n_outputs: int, Xt: Array, Yt: Array) -> None:
        """The units that are not embedded, behind those that are."""
        first = n_outputs - (len(columns.host) - columns.n_embedded)
        for place, unit, n in columns.rest():
            np.copyto(Yt[:, first + place : first + place + n], Xt[:, unit : unit + n])

    def _pass_back(self, columns: Columns, n_outputs: int, dYt: Array, dXt: Array) -> None:
        first = n_outputs - (len(columns.host) - columns.n_embedded)
        for place, unit, n in columns.rest():
            np.copyto(dXt[:, unit : unit + n], dYt[:, first + place : first + place + n])
