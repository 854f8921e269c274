"""Batch, layer, group and RMS normalization."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._types import Array
from .._ops._normalization import in_groups
from ._device import WARP, DeviceOps, accumulator, chunks_of, tiles

_ROWS = 32
"""Samples that a block of 256 threads works on at once (vector_tile.cuh)."""

_HELD_PER_THREAD = (2, 4, 8)
_HELD_SAMPLES = _HELD_PER_THREAD[-1] * _ROWS
"""Batch normalization of so many samples is one kernel, which holds them in registers: X is read once."""

_LAYER_NORM_HELD = {np.dtype(np.float32): (128, 512, 1024), np.dtype(np.float64): (128, 512)}
"""How many units a warp holds in the backward pass of layer normalization, by the type of its sums."""
_LAYER_NORM_CHUNK = 16
_LAYER_NORM_CHUNKS = 256
"""There a block takes at least 16 samples, and all blocks together leave at most 256 sums."""

_SAMPLES_IN_FLIGHT = 4
_LARGE = 2**18
"""From this many elements on there are threads enough where each takes four samples, all in flight, instead of one."""


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
        if batch <= _HELD_SAMPLES:
            self._launch_held(
                "batch_norm_forward_held",
                X,
                [n, batch, eps, momentum, X, gamma, beta, inv_std, running_mean, running_var, x_hat, out],
            )
            return
        chunk, n_chunks = chunks_of(batch)
        dtype = accumulator(X.dtype)
        chunk_mean = self.scratch("chunk_mean", n * n_chunks, dtype)
        chunk_square = self.scratch("chunk_square", n * n_chunks, dtype)
        mean = self.scratch("mean", n, dtype)
        sizes = [n, batch, chunk, n_chunks]
        self._launcher.launch(
            "batch_norm",
            "batch_norm_chunks",
            (X.dtype,),
            [*sizes, X, chunk_mean, chunk_square],
            blocks=tiles(n, n_chunks, X.dtype),
        )
        self._launcher.launch(
            "batch_norm",
            "batch_norm_statistics",
            (dtype,),
            [*sizes, eps, momentum, chunk_mean, chunk_square, mean, inv_std, running_mean, running_var],
            blocks=-(-n // WARP),
        )
        self._launch_pass("batch_norm_normalize", X, [], [X, gamma, beta, mean, inv_std, x_hat, out])

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
        self._launch_pass("batch_norm_inference", X, [eps], [X, gamma, beta, running_mean, running_var, out])

    def batch_norm_backward(
        self, dY: Array, gamma: Array, x_hat: Array, inv_std: Array, dgamma: Array, dbeta: Array, dX: Array
    ) -> None:
        n, batch = dY.shape
        arrays = [dY, gamma, x_hat, inv_std, dgamma, dbeta, dX]
        if batch <= _HELD_SAMPLES:
            self._launch_held("batch_norm_backward_held", dY, [n, batch, *arrays])
        else:
            self._affine_gradient(dY, x_hat, dgamma, dbeta)
            self._launch_pass("batch_norm_backward", dY, [], arrays)

    def layer_norm_forward(
        self, X: Array, gamma: Array, beta: Array, eps: float, x_hat: Array, inv_std: Array, out: Array
    ) -> None:
        self.group_norm_forward(X, gamma, beta, eps, 1, x_hat, inv_std, out)

    def group_norm_forward(
        self, X: Array, gamma: Array, beta: Array, eps: float, groups: int, x_hat: Array, inv_std: Array, out: Array
    ) -> None:
        self._normalize(X, gamma, beta, eps, groups, x_hat, inv_std, out)

    def layer_norm_backward(
        self, dY: Array, gamma: Array, x_hat: Array, inv_std: Array, dgamma: Array, dbeta: Array, dX: Array
    ) -> None:
        self.group_norm_backward(dY, gamma, 1, x_hat, inv_std, dgamma, dbeta, dX)

    def group_norm_backward(
        self,
        dY: Array,
        gamma: Array,
        groups: int,
        x_hat: Array,
        inv_std: Array,
        dgamma: Array,
        dbeta: Array,
        dX: Array,
    ) -> None:
        self._normalize_backward(dY, gamma, groups, x_hat, inv_std, dgamma, dbeta, dX)

    def rms_norm_forward(self, X: Array, gamma: Array, eps: float, x_hat: Array, inv_rms: Array, out: Array) -> None:
        self._normalize(X, gamma, None, eps, 1, x_hat, inv_rms, out)

    def _normalize(
        self,
        X: Array,
        gamma: Array,
        beta: Array | None,
        eps: float,
        groups: int,
        x_hat: Array,
        inv_std: Array,
        out: Array,
    ) -> None:
        """Layer and group normalization, or without beta RMS normalization."""
        X, x_hat, out = (in_groups(x, groups).T for x in (X, x_hat, out))
        template, arrays = (X.dtype, beta is not None), [X, gamma, beta, x_hat, inv_std, out]
        self._per_sample("layer_norm", "layer_norm_forward", template, X, arrays, scalars=[groups, eps])

    def rms_norm_backward(
        self, dY: Array, gamma: Array, x_hat: Array, inv_rms: Array, dgamma: Array, dX: Array
    ) -> None:
        self._normalize_backward(dY, gamma, 1, x_hat, inv_rms, dgamma, None, dX)

    def _normalize_backward(
        self,
        dY: Array,
        gamma: Array,
        groups: int,
        x_hat: Array,
        inv_std: Array,
        dgamma: Array,
        dbeta: Array | None,
        dX: Array,
    ) -> None:
        """Of layer and group normalization, or without dbeta of RMS normalization."""
        n, batch = dY.shape[0] // groups, dY.shape[1]
        centred = dbeta is not None
        capacity = next((c for c in _LAYER_NORM_HELD[accumulator(dY.dtype)] if n <= c), None)
        if capacity is None:
            self._affine_gradient(dY, x_hat, dgamma, dbeta)  # before dX, which may be dY
            of_groups = [in_groups(x, groups).T for x in (dY, x_hat, dX)]
            arguments = [n, batch * groups, groups, of_groups[0], gamma, of_groups[1], inv_std, of_groups[2]]
            template, blocks = (dY.dtype, centred), batch * groups
            self._launcher.launch("layer_norm", "layer_norm_backward", template, arguments, blocks=blocks)
            return
        chunk = max(_LAYER_NORM_CHUNK, -(-batch // _LAYER_NORM_CHUNKS))
        n_chunks = max(1, -(-batch // chunk))
        partial_dgamma = self._partial("partial", dgamma, n_chunks)
        partial_dbeta = None if dbeta is None else self._partial("partial2", dbeta, n_chunks)
        self._launcher.launch(
            "layer_norm",
            "layer_norm_backward_held",
            (dY.dtype, centred, capacity),
            [n, batch, groups, chunk, n_chunks, dY, gamma, x_hat, inv_std, partial_dgamma, partial_dbeta, dX],
            blocks=n_chunks * groups,
        )
        if dbeta is None or partial_dbeta is None:
            self._sum_chunks(partial_dgamma, n_chunks, dgamma)
        else:
            self._affine_gradient_sum(n_chunks, partial_dgamma, partial_dbeta, dgamma, dbeta)

    def _affine_gradient(self, dY: Array, x_hat: Array, dgamma: Array, dbeta: Array | None) -> None:
        """dγ = Σ_j dY ⊙ x̂ and, if asked for, dβ = Σ_j dY, over the samples."""
        n, batch = dY.shape
        if dbeta is None:  # the kernel has it all the same
            dbeta = self.scratch("unused shift", n, dgamma.dtype)
        chunk, n_chunks = chunks_of(batch)
        partial_dgamma = self._partial("partial", dgamma, n_chunks)
        partial_dbeta = self._partial("partial2", dbeta, n_chunks)
        self._launcher.launch(
            "affine_gradient",
            "affine_gradient",
            (dY.dtype,),
            [n, batch, chunk, n_chunks, dY, x_hat, partial_dgamma, partial_dbeta],
            blocks=tiles(n, n_chunks, dY.dtype),
        )
        self._affine_gradient_sum(n_chunks, partial_dgamma, partial_dbeta, dgamma, dbeta)

    def _affine_gradient_sum(
        self, n_chunks: int, partial_dgamma: Array, partial_dbeta: Array, dgamma: Array, dbeta: Array
    ) -> None:
        if n_chunks > 1:
            self._launcher.launch(
                "affine_gradient",
                "affine_gradient_sum",
                (dgamma.dtype,),
                [dgamma.size, n_chunks, partial_dgamma, partial_dbeta, dgamma, dbeta],
                blocks=-(-dgamma.size // WARP),
            )

    def _launch_held(self, kernel: str, X: Array, arguments: list[Any]) -> None:
        """Launch a kernel of batch_norm.cu whose blocks hold the whole batch X, each a tile of units."""
        n, batch = X.shape
        samples = next(s for s in _HELD_PER_THREAD if batch <= s * _ROWS)
        self._launcher.launch("batch_norm", kernel, (X.dtype, samples), arguments, blocks=tiles(n, 1, X.dtype))

    def _launch_pass(self, kernel: str, X: Array, scalars: list[float], arrays: list[Array]) -> None:
        """Launch an elementwise pass of batch_norm.cu over tiles of X; the tiles' size does not change its result."""
        n, batch = X.shape
        chunk = _ROWS if X.size < _LARGE else _ROWS * _SAMPLES_IN_FLIGHT
        n_chunks = -(-batch // chunk)
        arguments = [n, batch, chunk, n_chunks, *scalars, *arrays]
        self._launcher.launch("batch_norm", kernel, (X.dtype,), arguments, blocks=tiles(n, n_chunks, X.dtype))
