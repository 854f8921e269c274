"""Embedded inputs of tables."""

from __future__ import annotations

from typing import Any

from ..._types import Array
from .._ops import NumberMap, Tables
from ._device import WARP, DeviceOps


class EmbeddingKernels(DeviceOps):
    def embed_numbers(
        self, of: NumberMap, X: Array, w: Array, phase: Array | None, W: Array, b: Array, out: Array
    ) -> None:
        sizes = [*_sizes(of, X), of.n_out, of.n_terms, W.shape[1], b.shape[1], of.relu, of.appends, of.shared]
        arrays = [of.columns.order, of.starts, w, phase, W, b, X, out]
        self._of_numbers("embed_numbers", of, X, [*sizes, *arrays], _pairs(of, X))

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
        sizes, flags = [*_sizes(of, X), of.n_out, of.n_terms, W.shape[1]], [of.relu, of.appends, of.shared]
        given = [of.columns.order, of.starts, w, phase, W, dOut, out, X]
        arguments = [*sizes, of.n_values, *flags, *given, dw, dphase, dW, db]
        self._of_numbers("embed_numbers_parameters", of, X, arguments, of.n_terms * WARP)
        if dX is not None:
            self._of_numbers("embed_numbers_inputs", of, X, [*sizes, *flags, *given, dX], _pairs(of, X))

    def embed_categories(self, of: Tables, X: Array, E: Array, out: Array) -> None:
        arguments = [*_sizes(of, X), E.size, of.columns.order, of.starts, of.places, E, X, out]
        self._launcher.launch("embed_categories", "embed_categories", (X.dtype,), arguments, threads=out.size)

    def embed_categories_backward(self, of: Tables, dOut: Array, X: Array, dE: Array, dX: Array | None) -> None:
        self.fill(dE, 0.0)
        given = [of.columns.order, of.starts, of.places, dOut, X, dE]
        self._launcher.launch(
            "embed_categories",
            "embed_categories_rows",
            (X.dtype,),
            [*_sizes(of, X), dE.size, *given],
            threads=of.columns.n_embedded * X.shape[1] * WARP,
        )
        if dX is not None:
            arguments = [*_sizes(of, X), of.columns.order, dOut, dX]
            self._launcher.launch("embed_categories", "embed_categories_inputs", (X.dtype,), arguments, threads=dX.size)

    def _of_numbers(self, kernel: str, of: NumberMap, X: Array, arguments: list[Any], threads: int) -> None:
        instance = (X.dtype, of.kind.upper())
        self._launcher.launch("embed_numbers", kernel, instance, arguments, threads=threads)


def _sizes(of: NumberMap | Tables, X: Array) -> list[int]:
    return [X.shape[0], of.n_outputs, X.shape[1], of.columns.n_embedded]


def _pairs(of: NumberMap, X: Array) -> int:
    """A thread for each embedded unit and sample, of whole warps, and for each other unit and sample."""
    n_in, batch = X.shape
    return -(-batch // WARP) * WARP * of.columns.n_embedded + (n_in - of.columns.n_embedded) * batch
