"""Batch normalization (over the samples of each unit), layer, group and RMS normalization (over units of each sample).

Sources: Ioffe & Szegedy (2015), "Batch normalization", algorithm 1 and the gradients of section 3;
Ba, Kiros & Hinton (2016), "Layer normalization", eq. 3; Wu & He (2018), "Group normalization", eq. 1 and 7;
Zhang & Sennrich (2019), "Root mean square layer normalization", eq. 4.
"""

from __future__ import annotations

from ..._types import Array
from . import _numpy as np
from ._array import ArrayOps

_ROWS = ("row", "row2", "row3")


def in_groups(x: Array, groups: int) -> Array:
    """A view of x (groups·n, m), F-ordered, as (m·groups, n): a row for each group of neighbours of a sample."""
    n, m = x.shape
    return x.T.reshape(m * groups, n // groups)


class NormalizationOps(ArrayOps):
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
        """μ = mean_j x_j, σ² = mean_j (x_j − μ)², x̂ = (x − μ)/√(σ² + ε), out = γ x̂ + β.

        And running ← (1 − momentum)·running + momentum·(μ, σ²·m/(m−1)): the running variance takes the unbiased
        estimate. X, x_hat, out (n, m) F-ordered, all others (n, 1); out is neither X nor x_hat.
        """
        Xt, Ht, Yt = X.T, x_hat.T, out.T
        m = Xt.shape[0]
        statistic = self.scratch("row", Xt.shape[1], X.dtype).reshape(1, -1)
        self._mean(Xt, statistic)
        self._move(running_mean.T, statistic, momentum, 1.0)
        for rows, columns in self._tiles(Xt.shape):
            h = Ht[rows, columns]
            np.subtract(Xt[rows, columns], statistic[:, columns], out=h)
            np.multiply(h, h, out=Yt[rows, columns])
        self._mean(Yt, statistic)
        self._move(running_var.T, statistic, momentum, m / (m - 1) if m > 1 else 1.0)
        self._inverse_root(statistic, eps, inv_std.T)
        for rows, columns in self._tiles(Xt.shape):
            h, y = Ht[rows, columns], Yt[rows, columns]
            np.multiply(h, inv_std.T[:, columns], out=h)
            np.multiply(h, gamma.T[:, columns], out=y)
            np.add(y, beta.T[:, columns], out=y)

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
        """out = γ (x − running_mean)/√(running_var + ε) + β. Shapes as in `batch_norm_forward`; out may be X."""
        Xt, Yt = X.T, out.T
        scale = self.scratch("row", Xt.shape[1], X.dtype).reshape(1, -1)
        self._inverse_root(running_var.T, eps, scale)
        np.multiply(scale, gamma.T, out=scale)
        for rows, columns in self._tiles(Xt.shape):
            y = Yt[rows, columns]
            np.subtract(Xt[rows, columns], running_mean.T[:, columns], out=y)
            np.multiply(y, scale[:, columns], out=y)
            np.add(y, beta.T[:, columns], out=y)

    def batch_norm_backward(
        self, dY: Array, gamma: Array, x_hat: Array, inv_std: Array, dgamma: Array, dbeta: Array, dX: Array
    ) -> None:
        """dβ = Σ_j dy_j, dγ = Σ_j dy_j x̂_j, dX = γ/√(σ² + ε) · (dY − (dβ + x̂ dγ)/m).

        dY, x_hat, dX (n, m) F-ordered, all others (n, 1); dX may be dY.
        """
        dYt, Ht, dXt = dY.T, x_hat.T, dX.T
        m = dYt.shape[0]
        self._parameter_gradients(dYt, Ht, dgamma.T, dbeta.T)
        # dX = s·dY − (x̂ · s dγ/m + s dβ/m), s = γ/√(σ² + ε): what is the same for all samples is computed once.
        scale, slope, offset = (self.scratch(tag, dYt.shape[1], dY.dtype).reshape(1, -1) for tag in _ROWS)
        np.multiply(gamma.T, inv_std.T, out=scale)
        np.multiply(scale, 1.0 / m, out=offset)
        np.multiply(offset, dgamma.T, out=slope)
        np.multiply(offset, dbeta.T, out=offset)
        for rows, columns in self._tiles(dYt.shape):
            dx = dXt[rows, columns]
            t = self._tile_scratch("t", dx)
            np.multiply(Ht[rows, columns], slope[:, columns], out=t)
            np.add(t, offset[:, columns], out=t)
            np.multiply(dYt[rows, columns], scale[:, columns], out=dx)
            np.subtract(dx, t, out=dx)

    def layer_norm_forward(
        self, X: Array, gamma: Array, beta: Array, eps: float, x_hat: Array, inv_std: Array, out: Array
    ) -> None:
        """μ = mean_i x_i, σ² = mean_i (x_i − μ)², x̂ = (x − μ)/√(σ² + ε), out = γ x̂ + β.

        X, x_hat, out (n, m) F-ordered, gamma and beta (n, 1), inv_std (1, m); out is neither X nor x_hat.
        """
        self.group_norm_forward(X, gamma, beta, eps, 1, x_hat, inv_std, out)

    def group_norm_forward(
        self, X: Array, gamma: Array, beta: Array, eps: float, groups: int, x_hat: Array, inv_std: Array, out: Array
    ) -> None:
        """The same with μ and σ² over each of so many groups of n/groups neighbours: inv_std (groups, m)."""
        Xt, Ht, Yt = (in_groups(x, groups) for x in (X, x_hat, out))
        roots = inv_std.T.reshape(-1, 1)
        n = Xt.shape[1]
        ones = self.ones(n, X.dtype).T
        statistic = self.scratch("row", Xt.shape[0], X.dtype).reshape(-1, 1)
        np.matmul(Xt, ones, out=statistic)
        np.multiply(statistic, 1.0 / n, out=statistic)
        np.subtract(Xt, statistic, out=Ht)
        np.multiply(Ht, Ht, out=Yt)
        np.matmul(Yt, ones, out=statistic)
        np.multiply(statistic, 1.0 / n, out=statistic)
        self._inverse_root(statistic, eps, roots)
        for rows, columns in self._tiles(Xt.shape):
            h = Ht[rows, columns]
            np.multiply(h, roots[rows], out=h)
        for rows, columns in self._tiles(x_hat.T.shape):
            y = out.T[rows, columns]
            np.multiply(x_hat.T[rows, columns], gamma.T[:, columns], out=y)
            np.add(y, beta.T[:, columns], out=y)

    def layer_norm_backward(
        self, dY: Array, gamma: Array, x_hat: Array, inv_std: Array, dgamma: Array, dbeta: Array, dX: Array
    ) -> None:
        """dβ = Σ_j dy_j, dγ = Σ_j dy_j x̂_j, dx̂ = γ dY, dX = (dx̂ − mean_i dx̂ − x̂ mean_i(dx̂ x̂))/√(σ² + ε).

        dY, x_hat, dX (n, m) F-ordered, gamma, dgamma, dbeta (n, 1), inv_std (1, m); dX may be dY.
        """
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
        """The same with the means over each of so many groups of neighbours: inv_std (groups, m)."""
        self._parameter_gradients(dY.T, x_hat.T, dgamma.T, dbeta.T)
        np.multiply(dY.T, gamma.T, out=dX.T)
        Ht, dXt = in_groups(x_hat, groups), in_groups(dX, groups)
        m, n = dXt.shape
        mean = self.scratch("row", m, dY.dtype)
        slope = self.scratch("row2", m, dY.dtype)
        np.matmul(dXt, self.ones(n, dY.dtype)[0], out=mean)
        np.multiply(mean, 1.0 / n, out=mean)
        np.vecdot(dXt, Ht, out=slope)
        np.multiply(slope, 1.0 / n, out=slope)
        for rows, columns in self._tiles(dXt.shape):
            d = dXt[rows, columns]
            t = self._tile_scratch("t", d)
            np.multiply(Ht[rows, columns], slope.reshape(-1, 1)[rows], out=t)
            np.subtract(d, t, out=d)
            np.subtract(d, mean.reshape(-1, 1)[rows], out=d)
            np.multiply(d, inv_std.T.reshape(-1, 1)[rows], out=d)

    def rms_norm_forward(self, X: Array, gamma: Array, eps: float, x_hat: Array, inv_rms: Array, out: Array) -> None:
        """x̂ = x/√(mean_i x_i² + ε), out = γ x̂.

        X, x_hat, out (n, m) F-ordered, gamma (n, 1), inv_rms (1, m); out is neither X nor x_hat.
        """
        Xt, Ht, Yt = X.T, x_hat.T, out.T
        mean_square = self.scratch("row", Xt.shape[0], X.dtype)
        np.vecdot(Xt, Xt, out=mean_square)
        np.multiply(mean_square, 1.0 / Xt.shape[1], out=mean_square)
        self._inverse_root(mean_square.reshape(-1, 1), eps, inv_rms.T)
        for rows, columns in self._tiles(Xt.shape):
            h = Ht[rows, columns]
            np.multiply(Xt[rows, columns], inv_rms.T[rows], out=h)
            np.multiply(h, gamma.T[:, columns], out=Yt[rows, columns])

    def rms_norm_backward(
        self, dY: Array, gamma: Array, x_hat: Array, inv_rms: Array, dgamma: Array, dX: Array
    ) -> None:
        """dγ = Σ_j dy_j x̂_j, dx̂ = γ dY, dX = (dx̂ − x̂ mean_i(dx̂ x̂))/√(mean_i x_i² + ε).

        dY, x_hat, dX (n, m) F-ordered, gamma and dgamma (n, 1), inv_rms (1, m); dX may be dY.
        """
        dYt, Ht, dXt = dY.T, x_hat.T, dX.T
        m, n = dYt.shape
        self._parameter_gradients(dYt, Ht, dgamma.T)
        slope = self.scratch("row", m, dY.dtype)
        np.multiply(dYt, gamma.T, out=dXt)
        np.vecdot(dXt, Ht, out=slope)
        np.multiply(slope, 1.0 / n, out=slope)
        for rows, columns in self._tiles(dYt.shape):
            d = dXt[rows, columns]
            t = self._tile_scratch("t", d)
            np.multiply(Ht[rows, columns], slope.reshape(-1, 1)[rows], out=t)
            np.subtract(d, t, out=d)
            np.multiply(d, inv_rms.T[rows], out=d)

    def _mean(self, x: Array, out: Array) -> None:
        """out = the mean over the rows of x (m, n); out (1, n)."""
        np.dot(self.ones(x.shape[0], x.dtype), x, out=out)
        np.multiply(out, 1.0 / x.shape[0], out=out)

    def _parameter_gradients(self, dYt: Array, Ht: Array, dgamma: Array, dbeta: Array | None = None) -> None:
        """dbeta = Σ over samples of dY, if asked for, dgamma = Σ over samples of dY ⊙ x̂."""
        ones = self.ones(dYt.shape[0], dYt.dtype)
        product = self.scratch("product", dYt.size, dYt.dtype).reshape(dYt.shape)
        np.multiply(dYt, Ht, out=product)
        if dbeta is not None:
            np.dot(ones, dYt, out=dbeta)
        np.dot(ones, product, out=dgamma)

    def _inverse_root(self, variance: Array, eps: float, out: Array) -> None:
        """out = 1/√(σ² + ε) as √x/x: NaN where σ² has overflowed. 0 there would hide it behind finite outputs."""
        root = self.scratch("row2", out.size, out.dtype).reshape(out.shape)
        np.add(variance, eps, out=out)
        np.sqrt(out, out=root)
        np.divide(root, out, out=out)

    def _move(self, running: Array, batch: Array, momentum: float, correction: float) -> None:
        """running ← (1 − momentum)·running + momentum·correction·batch"""
        change = self.scratch("row2", batch.size, batch.dtype).reshape(batch.shape)
        np.multiply(batch, momentum * correction, out=change)
        np.multiply(running, 1.0 - momentum, out=running)
        np.add(running, change, out=running)
