"""Activation functions f and their derivatives f′, fused with the bias in front and the bias gradient behind.

Every formula is arranged so that no finite input gives NaN, and none overflows but where f itself does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..._types import Array
from . import _numpy as np
from ._array import BLOCK, ArrayOps, constant_tile

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946
_SQRT_2_OVER_PI = math.sqrt(2.0 / math.pi)
_GELU_CUBIC = 0.044715
_MISH_MOST = 25.0
"""Where tanh(log(1 + e^z)) = 1 − 2e^−2z is 1 in float64, and e^2z is a number in float32."""


@dataclass(frozen=True)
class Elementwise:
    """One activation: `forward(z, out, t, u, alpha)` writes f(z), `derivative(saved, out, t, u, alpha)` writes f′.

    `t` and `u` are scratch tiles. In forward out may be z: at inference any function may work in place. With
    `from_output`, f′ is computed from a = f(z), so A may overwrite Z; otherwise from z, which is then kept.
    `backward(dA, saved, dZ, t)` writes dA ⊙ f′ where there is a shorter way than by f′.
    """

    forward: Callable[[Array, Array, Array, Array, float], None]
    derivative: Callable[[Array, Array, Array, Array, float], None]
    from_output: bool
    backward: Callable[[Array, Array, Array, Array], None] | None = None


def _identity(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    if out is not z:
        np.copyto(out, z)


def _identity_derivative(a: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    np.copyto(out, 1)


def _sigmoid(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    # σ(z) = 1/(1 + e^−z) for z ≥ 0 and e^z/(1 + e^z) for z < 0, both with e = e^−|z| ≤ 1: max(e, sign z)/(1 + e)
    np.abs(z, out=t)
    np.negative(t, out=t)
    np.exp(t, out=t)
    np.sign(z, out=out)
    np.maximum(out, t, out=out)
    np.add(t, 1, out=t)
    np.divide(out, t, out=out)


def _sigmoid_derivative(a: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    np.subtract(1, a, out=out)
    np.multiply(out, a, out=out)


def _tanh(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    np.tanh(z, out=out)


def _tanh_derivative(a: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    np.multiply(a, a, out=out)
    np.subtract(1, out, out=out)


def _relu(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    np.maximum(z, constant_tile(0.0, z.shape, z.dtype), out=out)


def _relu_backward(dA: Array, a: Array, dZ: Array, t: Array) -> None:
    # Read as an integer, the bits of a ≥ 0 are 0 where a is 0 and at least 1 elsewhere: min(bits, 1) is [a > 0], and
    # a product of bits with 0 or 1 is that of the numbers. By way of a comparison it takes a third pass.
    whole = np.int32 if a.itemsize == 4 else np.int64
    positive = t.view(whole)
    np.minimum(a.view(whole), constant_tile(1, a.shape, np.dtype(whole)), out=positive)
    np.multiply(dA.view(whole), positive, out=dZ.view(whole))


def _relu_derivative(a: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    mask = t.reshape(-1).view(np.bool_)[: a.size].reshape(a.shape)  # comparing into floats would allocate a buffer
    np.greater(a, 0, out=mask)
    np.copyto(out, mask)


def _leaky_relu(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    np.multiply(z, alpha, out=t)
    np.maximum(z, t, out=out)  # 0 ≤ α ≤ 1


def _leaky_relu_derivative(a: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    _relu_derivative(a, out, t, u, alpha)
    np.maximum(out, constant_tile(alpha, out.shape, out.dtype), out=out)  # 0 ≤ α ≤ 1


def _elu(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    np.minimum(z, constant_tile(0.0, z.shape, z.dtype), out=t)
    np.expm1(t, out=t)
    np.multiply(t, alpha, out=t)
    np.maximum(z, constant_tile(0.0, z.shape, z.dtype), out=out)
    np.add(out, t, out=out)


def _elu_derivative(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    # f′ = 1 for z > 0, else α e^z: α(e^min(z, 0) − [z > 0]) + [z > 0], where e^0 − 1 is exactly 0 for any α
    _relu_derivative(z, out, t, u, alpha)
    np.minimum(z, constant_tile(0.0, z.shape, z.dtype), out=t)
    np.exp(t, out=t)
    np.subtract(t, out, out=t)
    np.multiply(t, alpha, out=t)
    np.add(out, t, out=out)


def _selu(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    _elu(z, out, t, u, SELU_ALPHA)
    np.multiply(out, SELU_SCALE, out=out)


def _selu_derivative(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    _elu_derivative(z, out, t, u, SELU_ALPHA)
    np.multiply(out, SELU_SCALE, out=out)


def _normal_cdf(z: Array, out: Array) -> None:
    # Φ(z) = ½(1 + erf(z/√2))
    np.multiply(z, math.sqrt(0.5), out=out)
    np.erf(out, out=out)
    np.add(out, 1, out=out)
    np.multiply(out, 0.5, out=out)


def _gelu(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    _normal_cdf(z, t)
    np.multiply(z, t, out=out)


def _gelu_derivative(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    # Φ(z) + z φ(z), φ(z) = e^(−z²/2)/√(2π)
    _normal_cdf(z, out)
    np.multiply(z, z, out=t)
    np.multiply(t, -0.5, out=t)
    np.exp(t, out=t)
    np.multiply(t, z, out=t)
    np.multiply(t, 1.0 / math.sqrt(2.0 * math.pi), out=t)
    np.add(out, t, out=out)


def _gelu_tanh_inner(z: Array, out: Array) -> None:
    # tanh(√(2/π)(z + 0.044715 z³))
    np.multiply(z, z, out=out)
    np.multiply(out, _GELU_CUBIC, out=out)
    np.add(out, 1, out=out)
    np.multiply(out, z, out=out)
    np.multiply(out, _SQRT_2_OVER_PI, out=out)
    np.tanh(out, out=out)


def _gelu_tanh(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    _gelu_tanh_inner(z, t)
    np.add(t, 1, out=t)
    np.multiply(t, 0.5, out=t)
    np.multiply(t, z, out=out)


def _gelu_tanh_derivative(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    # ½(1 + h) + ½ √(2/π) (s + 3·0.044715 s z z) with s = z (1 − h²), h the tanh above. s is 0 where z² overflows, and
    # so are its products with z.
    _gelu_tanh_inner(z, t)
    np.multiply(t, t, out=u)
    np.subtract(1, u, out=u)
    np.multiply(u, z, out=u)
    np.multiply(u, z, out=out)
    np.multiply(out, z, out=out)
    np.multiply(out, 3.0 * _GELU_CUBIC, out=out)
    np.add(out, u, out=out)
    np.multiply(out, _SQRT_2_OVER_PI, out=out)
    np.add(out, t, out=out)
    np.add(out, 1, out=out)
    np.multiply(out, 0.5, out=out)


def _silu(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    _sigmoid(z, u, t, t, alpha)
    np.multiply(z, u, out=out)


def _silu_derivative(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    # σ(1 + z(1 − σ))
    _sigmoid(z, u, t, t, alpha)
    np.subtract(1, u, out=out)
    np.multiply(out, z, out=out)
    np.add(out, 1, out=out)
    np.multiply(out, u, out=out)


def _softplus(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    # log(1 + e^z) = max(z, 0) + log(1 + e^−|z|)
    np.abs(z, out=t)
    np.negative(t, out=t)
    np.exp(t, out=t)
    np.log1p(t, out=t)
    np.maximum(z, constant_tile(0.0, z.shape, z.dtype), out=out)
    np.add(out, t, out=out)


def _softplus_derivative(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    _sigmoid(z, out, t, u, alpha)


def _mish_products(z: Array, w: Array, e: Array, n: Array) -> None:
    # w = min(z, 25), e = e^w, n = e(e + 2) = (1 + e)² − 1; e may take the place of w
    np.minimum(z, constant_tile(_MISH_MOST, z.shape, z.dtype), out=w)
    np.exp(w, out=e)
    np.add(e, 2, out=n)
    np.multiply(n, e, out=n)


def _mish(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    # tanh(log(1 + e)) = ((1 + e)² − 1)/((1 + e)² + 1) = n/(n + 2)
    _mish_products(z, t, t, u)
    np.add(u, 2, out=t)
    np.divide(u, t, out=t)
    np.multiply(t, z, out=out)


def _mish_derivative(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    # n/(n + 2) + w·4e(1 + e)/(n + 2)², where e(1 + e) = n − e: beyond 25 the second term is 0 beside the first
    _mish_products(z, t, out, u)
    np.subtract(u, out, out=out)
    np.multiply(out, 4, out=out)
    np.multiply(out, t, out=out)
    np.add(u, 2, out=t)
    np.divide(out, t, out=out)
    np.add(out, u, out=out)
    np.divide(out, t, out=out)


def _hardswish_gate(z: Array, out: Array) -> None:
    # clip(z + 3, 0, 6)/6
    np.add(z, 3, out=out)
    np.maximum(out, constant_tile(0.0, z.shape, z.dtype), out=out)
    np.minimum(out, constant_tile(6.0, z.shape, z.dtype), out=out)
    np.divide(out, 6, out=out)


def _hardswish(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    _hardswish_gate(z, t)
    np.multiply(t, z, out=out)


def _hardswish_derivative(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    # the gate, and z/6 where it has a slope
    mask = t.reshape(-1).view(np.bool_)[: z.size].reshape(z.shape)
    np.abs(z, out=u)
    np.greater(3, u, out=mask)
    np.copyto(u, mask)
    np.multiply(u, z, out=u)
    np.divide(u, 6, out=u)
    _hardswish_gate(z, out)
    np.add(out, u, out=out)


def _circular(z: Array, out: Array, t: Array) -> None:
    # z, and 0 where neighbouring numbers lie more than 2^−6 apart
    mask = t.reshape(-1).view(np.bool_)[: z.size].reshape(z.shape)
    np.abs(z, out=out)
    np.greater(out, 2.0**18 if z.itemsize == 4 else 2.0**47, out=mask)
    np.copyto(out, mask)
    np.subtract(1, out, out=out)
    np.multiply(out, z, out=out)


def _sin(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    _circular(z, u, t)
    np.sin(u, out=out)


def _sin_derivative(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    _circular(z, out, t)
    np.cos(out, out=out)


def _exp(z: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    np.exp(z, out=out)


def _exp_derivative(a: Array, out: Array, t: Array, u: Array, alpha: float) -> None:
    np.copyto(out, a)


ELEMENTWISE: dict[str, Elementwise] = {
    "identity": Elementwise(_identity, _identity_derivative, from_output=True),
    "sigmoid": Elementwise(_sigmoid, _sigmoid_derivative, from_output=True),
    "tanh": Elementwise(_tanh, _tanh_derivative, from_output=True),
    "relu": Elementwise(_relu, _relu_derivative, from_output=True, backward=_relu_backward),
    "leaky_relu": Elementwise(_leaky_relu, _leaky_relu_derivative, from_output=True),
    "elu": Elementwise(_elu, _elu_derivative, from_output=False),
    "selu": Elementwise(_selu, _selu_derivative, from_output=False),
    "gelu": Elementwise(_gelu, _gelu_derivative, from_output=False),
    "gelu_tanh": Elementwise(_gelu_tanh, _gelu_tanh_derivative, from_output=False),
    "silu": Elementwise(_silu, _silu_derivative, from_output=False),
    "softplus": Elementwise(_softplus, _softplus_derivative, from_output=False),
    "mish": Elementwise(_mish, _mish_derivative, from_output=False),
    "hardswish": Elementwise(_hardswish, _hardswish_derivative, from_output=False),
    "sin": Elementwise(_sin, _sin_derivative, from_output=False),
    "exp": Elementwise(_exp, _exp_derivative, from_output=True),
}
"""Every elementwise activation by name; the order is that of the enumeration in kernels/activation.cuh."""


class ActivationOps(ArrayOps):
    def row_sum(self, X: Array, out: Array) -> None:
        """out_i = Σ_j X_ij: X (n, batch) F-ordered, out (n, 1)."""
        np.dot(self.ones(X.shape[1], X.dtype), X.T, out=out.T)

    def bias_activation(self, Z: Array, b: Array | None, kind: str, alpha: float, out: Array) -> None:
        """Z ← Z + b, then out = f(Z), in one pass.

        Z and out (n, batch) F-ordered, b (n, 1) or None. out may be Z. Where f's derivative cannot be had from its
        output (`ELEMENTWISE[kind].from_output`), a backward pass needs both: they differ, and Z + b is left in Z.
        """
        f = ELEMENTWISE[kind]
        Zt, out_t = Z.T, out.T
        bias = None if b is None else b.T
        for rows, columns in self._tiles(Zt.shape):
            z = Zt[rows, columns]
            if bias is not None:
                np.add(z, bias[:, columns], out=z)
            a = z if out is Z else out_t[rows, columns]
            f.forward(z, a, self._tile_scratch("t", z), self._tile_scratch("u", z), alpha)

    def activation_backward(
        self, dA: Array, saved: Array, kind: str, alpha: float, dZ: Array, db: Array | None = None
    ) -> None:
        """dZ = dA ⊙ f′, and db_i = Σ_j dZ_ij in the same pass.

        dA, saved, dZ (n, batch) F-ordered; saved is A = f(Z) where `from_output`, else Z. dZ may be dA. db (n, 1) or
        None.
        """
        if kind != "identity":
            f = ELEMENTWISE[kind]
            dAt, saved_t, dZt = dA.T, saved.T, dZ.T
            for rows, columns in self._tiles(dAt.shape):
                d, s, dz = dAt[rows, columns], saved_t[rows, columns], dZt[rows, columns]
                t = self._tile_scratch("t", s)
                if f.backward is not None:
                    f.backward(d, s, dz, t)
                else:
                    derivative = self._tile_scratch("derivative", s)
                    f.derivative(s, derivative, t, self._tile_scratch("u", s), alpha)
                    np.multiply(d, derivative, out=dz)
        elif dZ is not dA:
            np.copyto(dZ, dA)
        if db is not None:
            self.row_sum(dZ, db)

    def parametric_activation(self, Z: Array, p: Array, kind: str, slope: float, out: Array) -> None:
        """out = g(Z) + p ⊙ h(Z), with one learned factor p_i for each unit.

        `kind` an elementwise activation f: g(z) = z, h(z) = f(z) − z; "prelu": g = max(z, 0), h = min(z, 0); "scale":
        g = 0, h = z. Z and out (n, batch) F-ordered, p (n, 1), `slope` that of f. out is not Z, which the backward pass
        reads.
        """
        Zt, out_t, factors = Z.T, out.T, p.T
        for rows, columns in self._tiles(Zt.shape):
            z, a = Zt[rows, columns], out_t[rows, columns]
            if kind == "scale":
                np.multiply(z, factors[:, columns], out=a)
                continue
            h = self._tile_scratch("h", z)
            self._varying_part(z, kind, slope, h)
            np.multiply(h, factors[:, columns], out=a)
            if kind == "prelu":
                np.maximum(z, constant_tile(0.0, z.shape, z.dtype), out=h)
                np.add(a, h, out=a)
            else:
                np.add(a, z, out=a)

    def _varying_part(self, z: Array, kind: str, slope: float, h: Array) -> None:
        """h(z) of a tile, of a kind other than "scale"."""
        if kind == "prelu":
            np.minimum(z, constant_tile(0.0, z.shape, z.dtype), out=h)
            return
        ELEMENTWISE[kind].forward(z, h, self._tile_scratch("t", z), self._tile_scratch("u", z), slope)
        np.subtract(h, z, out=h)

    def parametric_activation_backward(
        self, dA: Array, Z: Array, p: Array, kind: str, slope: float, dZ: Array, dp: Array
    ) -> None:
        """dZ = dA ⊙ (g′(Z) + p ⊙ h′(Z)) and dp_i = Σ_j dA_ij h(Z_ij): the gradients of `parametric_activation`.

        dA, Z and dZ (n, batch) F-ordered, p and dp (n, 1). dZ may be dA.
        """
        dAt, Zt, dZt, factors, sums = dA.T, Z.T, dZ.T, p.T, dp.T
        np.copyto(sums, 0)
        for rows, columns in self._tiles(Zt.shape):
            d, z, dz, factor = dAt[rows, columns], Zt[rows, columns], dZt[rows, columns], factors[:, columns]
            h, inner = self._tile_scratch("h", z), self._tile_scratch("derivative", z)
            if kind == "scale":
                np.multiply(d, z, out=h)
            else:
                self._varying_part(z, kind, slope, h)
                np.multiply(d, h, out=h)
            part = self.scratch("units", z.shape[1], z.dtype).reshape(1, -1)
            np.dot(self.ones(z.shape[0], z.dtype), h, out=part)
            np.add(sums[:, columns], part, out=sums[:, columns])
            if kind == "scale":
                np.multiply(d, factor, out=dz)
                continue
            t, u = self._tile_scratch("t", z), self._tile_scratch("u", z)
            if kind == "prelu":  # 1 for z > 0, else p: (1 − [z > 0]) p + [z > 0]
                _relu_derivative(z, inner, t, u, 0.0)
                np.subtract(1, inner, out=h)
                np.multiply(h, factor, out=h)
                np.add(inner, h, out=inner)
            else:  # 1 + p (f′ − 1)
                f, saved = ELEMENTWISE[kind], z
                if f.from_output:
                    saved = h
                    f.forward(z, saved, t, u, slope)
                f.derivative(saved, inner, t, u, slope)
                np.subtract(inner, 1, out=inner)
                np.multiply(inner, factor, out=inner)
                np.add(inner, 1, out=inner)
            np.multiply(d, inner, out=dz)

    def softmax(self, Z: Array, out: Array) -> None:
        """out_ij = e^(z_ij − m_j) / Σ_k e^(z_kj − m_j), m_j = max_i z_ij: over the units of each sample.

        Z and out (n, batch) F-ordered; out may be Z.
        """
        n, batch = Z.shape
        ones = self.ones(n, Z.dtype)
        for start in range(0, batch, max(1, BLOCK // n)):
            z = Z[:, start : start + max(1, BLOCK // n)]
            e = self._class_scratch("exponentials", z)
            row = self.scratch("row", z.shape[1], Z.dtype).reshape(1, -1)
            np.copyto(e, z)
            np.maximum_reduce(e, axis=0, keepdims=True, out=row)
            np.subtract(e, row, out=e)
            np.exp(e, out=e)
            np.dot(ones, e, out=row)
            np.divide(e, row, out=e)
            np.copyto(out[:, start : start + z.shape[1]], e)

    def softmax_backward(self, dA: Array, A: Array, dZ: Array) -> None:
        """dZ = A ⊙ (dA − 1·(Σ_i A_ij dA_ij)): the full Jacobian diag(a) − a aᵀ of each sample, times dA.

        dA, A, dZ (n, batch) F-ordered; dZ may be dA.
        """
        dAt, At, dZt = dA.T, A.T, dZ.T
        inner = self.scratch("row", dAt.shape[0], dA.dtype)
        np.vecdot(At, dAt, out=inner)
        np.subtract(dAt, inner.reshape(-1, 1), out=dZt)
        np.multiply(dZt, At, out=dZt)
