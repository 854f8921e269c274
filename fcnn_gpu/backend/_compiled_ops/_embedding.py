"""Embedded inputs of tables: forward by samples, gradients by the embedded units."""

from __future__ import annotations

from typing import Any

from ..._types import Array
from .._ops import NUMBER_KINDS, NumberMap, Tables
from ._array import CompiledArrays


class CompiledEmbedding(CompiledArrays):
    def embed_numbers(
        self, of: NumberMap, X: Array, w: Array, phase: Array | None, W: Array, b: Array, out: Array
    ) -> None:
        self._issue("embed_numbers", X.dtype, **_numbers(of, X), w=w, phase=phase, W=W, b=b, X=X, out=out)

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
        self._issue(
            "embed_numbers_backward",
            X.dtype,
            **_numbers(of, X),
            w=w,
            phase=phase,
            W=W,
            dOut=dOut,
            out=out,
            X=X,
            unsound=None,
            dw=dw,
            dphase=dphase,
            dW=dW,
            db=db,
            dX=dX,
        )

    def embed_categories(self, of: Tables, X: Array, E: Array, out: Array) -> None:
        self._issue("embed_categories", X.dtype, **_categories(of, X), E=E, X=X, out=out)

    def embed_categories_backward(self, of: Tables, dOut: Array, X: Array, dE: Array, dX: Array | None) -> None:
        self._issue(
            "embed_categories_backward", X.dtype, **_categories(of, X), dOut=dOut, X=X, unsound=None, dE=dE, dX=dX
        )


def _numbers(of: NumberMap, X: Array) -> dict[str, Any]:
    return {
        "batch": X.shape[1],
        "n_in": X.shape[0],
        "n_out": of.n_outputs,
        "n_embedded": of.columns.n_embedded,
        "m": of.n_out,
        "kind": NUMBER_KINDS.index(of.kind),
        "relu": of.relu,
        "appends": of.appends,
        "shared": of.shared,
        "order": of.columns.order,
        "starts": of.starts,
    }


def _categories(of: Tables, X: Array) -> dict[str, Any]:
    return {
        "batch": X.shape[1],
        "n_in": X.shape[0],
        "n_out": of.n_outputs,
        "n_embedded": of.columns.n_embedded,
        "order": of.columns.order,
        "starts": of.starts,
        "places": of.places,
    }
