"""Activations, fused with the bias in front and the bias gradient behind."""

from __future__ import annotations

from ..._types import Array
from .._ops import ELEMENTWISE
from ._array import CompiledArrays

_KINDS = {kind: number for number, kind in enumerate(ELEMENTWISE)}
_FORMS = {"scale": 1, "prelu": 2}
"""Of parametric activations; that of an elementwise function is 0 (kernels/cpu/activation.h)."""


class CompiledActivation(CompiledArrays):
    def row_sum(self, X: Array, out: Array) -> None:
        self._issue("row_sum", X.dtype, n=X.shape[0], batch=X.shape[1], X=X, unsound=None, out=out)

    def bias_activation(self, Z: Array, b: Array | None, kind: str, alpha: float, out: Array) -> None:
        n, batch = Z.shape
        self._issue("bias_activation", Z.dtype, batch=batch, n=n, kind=_KINDS[kind], alpha=alpha, b=b, Z=Z, out=out)

    def activation_backward(
        self, dA: Array, saved: Array, kind: str, alpha: float, dZ: Array, db: Array | None = None
    ) -> None:
        if kind != "identity" or dZ is not dA:
            n, batch = dA.shape
            self._issue(
                "activation_backward",
                dA.dtype,
                batch=batch,
                n=n,
                kind=_KINDS[kind],
                alpha=alpha,
                dA=dA,
                saved=saved,
                dZ=dZ,
            )
        if db is not None:
            self.row_sum(dZ, db)

    def parametric_activation(self, Z: Array, p: Array, kind: str, slope: float, out: Array) -> None:
        n, batch = Z.shape
        form, number = _FORMS.get(kind, 0), _KINDS.get(kind, 0)
        self._issue(
            "parametric_activation",
            Z.dtype,
            batch=batch,
            n=n,
            form=form,
            kind=number,
            slope=slope,
            Z=Z,
            p=p,
            out=out,
        )

    def parametric_activation_backward(
        self, dA: Array, Z: Array, p: Array, kind: str, slope: float, dZ: Array, dp: Array
    ) -> None:
        n, batch = Z.shape
        form, number = _FORMS.get(kind, 0), _KINDS.get(kind, 0)
        self._issue(
            "parametric_activation_backward",
            Z.dtype,
            n=n,
            batch=batch,
            form=form,
            kind=number,
            slope=slope,
            dA=dA,
            Z=Z,
            p=p,
            unsound=None,
            dZ=dZ,
            dp=dp,
        )

    def softmax(self, Z: Array, out: Array) -> None:
        self._issue("softmax", Z.dtype, batch=Z.shape[1], n=Z.shape[0], Z=Z, A=out)

    def softmax_backward(self, dA: Array, A: Array, dZ: Array) -> None:
        self._issue("softmax_backward", A.dtype, batch=A.shape[1], n=A.shape[0], dA=dA, A=A, dZ=dZ)
