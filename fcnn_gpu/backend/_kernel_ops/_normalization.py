"""Batch and layer normalization."""

from __future__ import annotations

from ..._types import Array
from ._device import DeviceOps, accumulator, chunks_of, thread_count, unit_tiles


class NormalizationKernels(DeviceOps):
    def batch_norm_forward(
        self,
        X: Array,
        gamma: Array,
        beta: Array,
        eps: float,
        momentum: float,
        running_mean: Array,
        running_var: Array,
        x_hat: Array,
        inv_std: Array,
        out: Array,
    ) -> None:
        n, batch = X.shape
        chunk, n_chunks = chunks_of(batch)
        dtype = accumulator(X.dtype)
        chunk_mean = self.scratch("chunk_mean", n * n_chunks, dtype)
        chunk_square = self.scratch("chunk_square", n * n_chunks, dtype)
        mean = self.scratch("mean", n, dtype)
        self._launcher.launch(
            "batch_norm",
            "batch_norm_chunks",
            (X.dtype,),
            [n, batch, chunk, n_chunks, X, chunk_mean, chunk_square],
            blocks=unit_tiles(n, n_chunks),
        )
        self._launcher.launch(
            "batch_norm",
            "batch_norm_statistics",
            (dtype,),
            [
                n,
                batch,
                chunk,
                n_chunks,
                eps,
                momentum,
                chunk_mean,
                chunk_square,
                mean,
                inv_std,
                running_mean,
                running_var,
            ],
            threads=n,
        )
        self._launcher.launch(
            "batch_norm",
            "batch_norm_normalize",
            (X.dtype,),
            [n, batch, X, gamma, beta, mean, inv_std, x_hat, out],
            threads=thread_count(X.size),
        )

    def batch_norm_inference(
        self,
        X: Array,
        gamma: Array,
        beta: Array,
        eps: float,
        running_mean: Array,
        running_var: Array,
        out: Array,
    ) -> None:
        n, batch = X.shape
        self._launcher.launch(
            "batch_norm",
            "batch_norm_inference",
            (X.dtype,),
            [n, batch, eps, X, gamma, beta, running_mean, running_var, out],
            threads=thread_count(X.size),
        )

    def batch_norm_backward(
        self, dY: Array, gamma: Array, x_hat: Array, inv_std: Array, dgamma: Array, dbeta: Array, dX: Array
    ) -> None:
        n, batch = dY.shape
        self._affine_gradient(dY, x_hat, dgamma, dbeta)
        self._launcher.launch(
            "batch_norm",
            "batch_norm_backward",
            (dY.dtype,),
            [n, batch, dY, gamma, x_hat, inv_std, dgamma, dbeta, dX],
            threads=thread_count(dY.size),
        )

    def layer_norm_forward(
        self, X: Array, gamma: Array, beta: Array, eps: float, x_hat: Array, inv_std: Array, out: Array
    ) -> None:
        arguments = [X, gamma, beta, x_hat, inv_std, out]
        self._per_sample("layer_norm", "layer_norm_forward", (X.dtype,), X, arguments, scalars=[eps])

    def layer_norm_backward(
        self, dY: Array, gamma: Array, x_hat: Array, inv_std: Array, dgamma: Array, dbeta: Array, dX: Array
    ) -> None:
        self._affine_gradient(dY, x_hat, dgamma, dbeta)  # before dX, which may be dY
        self._per_sample("layer_norm", "layer_norm_backward", (dY.dtype,), dY, [dY, gamma, x_hat, inv_std, dX])

    def _affine_gradient(self, dY: Array, x_hat: Array, dgamma: Array, dbeta: Array) -> None:
        """dγ = Σ_j dY ⊙ x̂ and dβ = Σ_j dY, over the samples."""
        n, batch = dY.shape
        chunk, n_chunks = chunks_of(batch)
        partial_dgamma = self._partial("partial", dgamma, n_chunks)
        partial_dbeta = self._partial("partial2", dbeta, n_chunks)
        self._launcher.launch(
            "affine_gradient",
            "affine_gradient",
            (dY.dtype,),
            [n, batch, chunk, n_chunks, dY, x_hat, partial_dgamma, partial_dbeta],
            blocks=unit_tiles(n, n_chunks),
        )
        self._sum_chunks(partial_dgamma, n_chunks, dgamma)
        self._sum_chunks(partial_dbeta, n_chunks, dbeta)
