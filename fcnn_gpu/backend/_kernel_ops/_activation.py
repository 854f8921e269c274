"""Activations with their bias in front and their bias gradient behind, and softmax."""

from __future__ import annotations

from ..._types import Array
from ._device import DeviceOps, chunks_of, tiles, vector_threads

_FORMS = {"scale": "SCALE", "prelu": "PRELU"}
"""Of parametric activations (kernels/parametric_activation.cuh)."""


def _instance(kind: str) -> tuple[str, str]:
    return (_FORMS[kind], "IDENTITY") if kind in _FORMS else ("PARAMETRIC", kind.upper())


class ActivationKernels(DeviceOps):
    def bias_activation(self, Z: Array, b: Array | None, kind: str, alpha: float, out: Array) -> None:
        n, batch = Z.shape
        if kind == "identity" and b is None and out is Z:
            return
        self._launcher.launch(
            "bias_activation",
            "bias_activation",
            (Z.dtype, kind.upper()),
            [n, batch, alpha, b, Z, out],
            threads=vector_threads(Z.size, Z.dtype),
        )

    def activation_backward(
        self, dA: Array, saved: Array, kind: str, alpha: float, dZ: Array, db: Array | None = None
    ) -> None:
        n, batch = dA.shape
        template = (dA.dtype, kind.upper())
        if kind == "identity" and dZ is dA:
            if db is not None:
                self.row_sum(dZ, db)
        elif db is None:
            self._launcher.launch(
                "activation_backward",
                "activation_backward",
                template,
                [n, batch, alpha, dA, saved, dZ],
                threads=vector_threads(dA.size, dA.dtype),
            )
        else:
            chunk, n_chunks = chunks_of(batch)
            partial = self._partial("partial", db, n_chunks)
            self._launcher.launch(
                "activation_backward",
                "activation_backward_bias",
                template,
                [n, batch, chunk, n_chunks, alpha, dA, saved, dZ, partial],
                blocks=tiles(n, n_chunks, dA.dtype),
            )
            self._sum_chunks(partial, n_chunks, db)

    def parametric_activation(self, Z: Array, p: Array, kind: str, slope: float, out: Array) -> None:
        n, batch = Z.shape
        self._launcher.launch(
            "parametric_activation",
            "parametric_activation",
            (Z.dtype, *_instance(kind)),
            [n, batch, slope, p, Z, out],
            threads=vector_threads(Z.size, Z.dtype),
        )

    def parametric_activation_backward(
        self, dA: Array, Z: Array, p: Array, kind: str, slope: float, dZ: Array, dp: Array
    ) -> None:
        n, batch = Z.shape
        chunk, n_chunks = chunks_of(batch)
        partial = self._partial("partial", dp, n_chunks)
        self._launcher.launch(
            "parametric_activation",
            "parametric_activation_backward",
            (Z.dtype, *_instance(kind)),
            [n, batch, chunk, n_chunks, slope, dA, Z, p, dZ, partial],
            blocks=tiles(n, n_chunks, Z.dtype),
        )
        self._sum_chunks(partial, n_chunks, dp)

    def softmax(self, Z: Array, out: Array) -> None:
        self._per_sample("softmax", "softmax_forward", (Z.dtype,), Z, [Z, out])

    def softmax_backward(self, dA: Array, A: Array, dZ: Array) -> None:
        self._per_sample("softmax", "softmax_backward", (dA.dtype,), dA, [dA, A, dZ])
