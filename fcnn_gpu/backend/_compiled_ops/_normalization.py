"""Batch, layer and RMS normalization: sums over samples by units, everything else by samples."""

from __future__ import annotations

from ..._types import Array
from ._array import CompiledArrays


class CompiledNormalization(CompiledArrays):
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
        mean = self.scratch("row", n, X.dtype)
        self._issue(
            "batch_norm_statistics",
            X.dtype,
            n=n,
            batch=batch,
            eps=eps,
            momentum=momentum,
            X=X,
            mean=mean,
            inv_std=inv_std,
            running_mean=running_mean,
            running_var=running_var,
        )
        self._issue(
            "batch_norm_forward",
            X.dtype,
            batch=batch,
            n=n,
            gamma=gamma,
            beta=beta,
            mean=mean,
            inv_std=inv_std,
            X=X,
            x_hat=x_hat,
            out=out,
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
        self._issue(
            "batch_norm_inference",
            X.dtype,
            batch=X.shape[1],
            n=X.shape[0],
            eps=eps,
            gamma=gamma,
            beta=beta,
            running_mean=running_mean,
            running_var=running_var,
            X=X,
            out=out,
        )

    def batch_norm_backward(
        self, dY: Array, gamma: Array, x_hat: Array, inv_std: Array, dgamma: Array, dbeta: Array, dX: Array
    ) -> None:
        self._affine_gradient(dY, x_hat, dgamma, dbeta)
        self._issue(
            "batch_norm_backward",
            dY.dtype,
            batch=dY.shape[1],
            n=dY.shape[0],
            gamma=gamma,
            inv_std=inv_std,
            dgamma=dgamma,
            dbeta=dbeta,
            x_hat=x_hat,
            dY=dY,
            dX=dX,
        )

    def layer_norm_forward(
        self, X: Array, gamma: Array, beta: Array, eps: float, x_hat: Array, inv_std: Array, out: Array
    ) -> None:
        self.group_norm_forward(X, gamma, beta, eps, 1, x_hat, inv_std, out)

    def group_norm_forward(
        self, X: Array, gamma: Array, beta: Array, eps: float, groups: int, x_hat: Array, inv_std: Array, out: Array
    ) -> None:
        self._issue(
            "layer_norm_forward",
            X.dtype,
            batch=X.shape[1],
            groups=groups,
            n=X.shape[0] // groups,
            eps=eps,
            gamma=gamma,
            beta=beta,
            X=X,
            x_hat=x_hat,
            inv_std=inv_std,
            out=out,
        )

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
        self._affine_gradient(dY, x_hat, dgamma, dbeta)
        self._issue(
            "layer_norm_backward",
            dY.dtype,
            batch=dY.shape[1],
            groups=groups,
            n=dY.shape[0] // groups,
            gamma=gamma,
            inv_std=inv_std,
            x_hat=x_hat,
            dY=dY,
            dX=dX,
        )

    def rms_norm_forward(self, X: Array, gamma: Array, eps: float, x_hat: Array, inv_rms: Array, out: Array) -> None:
        self._issue(
            "rms_norm_forward",
            X.dtype,
            batch=X.shape[1],
            n=X.shape[0],
            eps=eps,
            gamma=gamma,
            X=X,
            x_hat=x_hat,
            inv_rms=inv_rms,
            out=out,
        )

    def rms_norm_backward(
        self, dY: Array, gamma: Array, x_hat: Array, inv_rms: Array, dgamma: Array, dX: Array
    ) -> None:
        self._affine_gradient(dY, x_hat, dgamma, None)
        self._issue(
            "rms_norm_backward",
            dY.dtype,
            batch=dY.shape[1],
            n=dY.shape[0],
            gamma=gamma,
            inv_rms=inv_rms,
            x_hat=x_hat,
            dY=dY,
            dX=dX,
        )

    def _affine_gradient(self, dY: Array, x_hat: Array, dgamma: Array, dbeta: Array | None) -> None:
        n, batch = dY.shape
        self._issue(
            "affine_gradient",
            dY.dtype,
            n=n,
            batch=batch,
            dY=dY,
            x_hat=x_hat,
            unsound=None,
            dgamma=dgamma,
            dbeta=dbeta,
        )
