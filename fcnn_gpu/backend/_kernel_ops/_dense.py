"""A fully-connected layer with its activation: which products and passes are one call, and which are several."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..._types import Array
from .._autotune import Problem, Question
from .._ops import ELEMENTWISE
from .._tiled_matmul import tiled_matmul
from ._activation import ActivationKernels
from ._matrix import LT_NAMES, WITHOUT_TENSOR_CORES, MatrixKernels, multiplications

_SEPARATE = "separate passes"


class DenseKernels(MatrixKernels, ActivationKernels):
    def dense_forward(
        self,
        W: Array,
        A0: Array,
        b: Array | None,
        kind: str,
        alpha: float,
        Z: Array,
        out: Array,
        gain: float = 1.0,
    ) -> None:
        given = (W, A0, b, kind, alpha, Z, out, gain)
        if not (A0.size and out.size):
            self._forward(_SEPARATE, *given)
            return
        arrays = self._described(W, A0, b, Z, out)
        what = kind if gain == 1.0 else f"scaled {kind}"
        problem = ("dense_forward", what, b is not None, out is Z, self._products.tf32, *arrays)
        self._forward(self._choose(problem, partial(self._forward_question, problem, *given)), *given)

    def _forward_question(
        self,
        problem: Problem,
        W: Array,
        A0: Array,
        b: Array | None,
        kind: str,
        alpha: float,
        Z: Array,
        out: Array,
        gain: float,
    ) -> Question:
        names = [_SEPARATE]
        if kind in ("relu", "gelu_tanh") or (kind == "identity" and b is not None):
            names += LT_NAMES
        if gain == 1.0 and ELEMENTWISE[kind].from_output and multiplications(W, A0) <= WITHOUT_TENSOR_CORES:
            names.append("tiled")

        def trial() -> tuple[Any, ...]:
            Z_trial = self._like(Z)
            return W, A0, b, kind, alpha, Z_trial, Z_trial if out is Z else self._like(out), gain

        family = (*problem[:5], W.dtype.name, W.shape, W.strides, A0.strides)
        return Question({name: partial(self._forward, name) for name in names}, trial, ((family, A0.shape[1]),))

    def _forward(
        self,
        way: str,
        W: Array,
        A0: Array,
        b: Array | None,
        kind: str,
        alpha: float,
        Z: Array,
        out: Array,
        gain: float = 1.0,
    ) -> None:
        if way == _SEPARATE:
            self.gemm(W, A0, Z, gain)
            self.bias_activation(Z, b, kind, alpha, out)
        elif way == "tiled":
            tiled_matmul(self._launcher, W, A0, out, bias=b, activation=kind.upper(), alpha=alpha)
        else:
            kept = None if ELEMENTWISE[kind].from_output else Z
            choice = LT_NAMES.index(way)
            bias = self._bias_of(b, out)
            self._cublaslt(W, A0, out, choice, gain, bias=bias, activation=kind, pre_activation=kept)

    def _bias_of(self, b: Array | None, out: Array) -> Array | None:
        """b in the output's dtype, as cuBLASLt wants it. Rounding b to 16 bits costs no more than rounding Z does."""
        if b is None or b.dtype == out.dtype:
            return b
        rounded = self.scratch("bias", b.size, out.dtype).reshape(b.shape)
        self.cast(b, rounded)
        return rounded

    def grouped_dense_forward(
        self,
        W: Array,
        A0: Array,
        b: Array | None,
        kind: str,
        alpha: float,
        Z: Array,
        out: Array,
        groups: int,
        gain: float = 1.0,
    ) -> None:
        if A0.size and out.size:
            inputs, units = W.shape[1] // groups, W.shape[0]
            self._batched(
                W[:, :inputs], A0[:inputs], Z[:units], (W.shape[0] * inputs, inputs, units), groups, gain, 0.0
            )
        elif out.size:
            self.fill(Z, 0.0)
        self.bias_activation(Z, b, kind, alpha, out)

    def grouped_dense_backward(
        self,
        dA: Array,
        saved: Array,
        kind: str,
        alpha: float,
        W: Array,
        A0: Array,
        dZ: Array,
        dW: Array,
        groups: int,
        db: Array | None = None,
        dA0: Array | None = None,
        add_to_dW: bool = False,
        gain: float = 1.0,
    ) -> None:
        self.activation_backward(dA, saved, kind, alpha, dZ, db)
        units, inputs = W.shape[0], W.shape[1] // groups
        if not (dZ.size and A0.size):
            if not add_to_dW:
                self.fill(dW, 0.0)
            return
        of_W = units * inputs
        beta = 1.0 if add_to_dW else 0.0
        self._batched(dZ[:units], A0[:inputs].T, dW[:, :inputs], (units, inputs, of_W), groups, gain, beta)
        if dA0 is not None:
            self._batched(W[:, :inputs].T, dZ[:units], dA0[:inputs], (of_W, units, inputs), groups, gain, 0.0)

    def _batched(
        self, A: Array, B: Array, out: Array, apart: tuple[int, int, int], groups: int, alpha: float, beta: float
    ) -> None:
        """The product of each group's matrices, of which the first are given, and how many elements apart they lie."""
        self._launcher.keep(A, B, out)
        self._products.gemm_batched(A, B, out, apart, groups, alpha, beta)

    def batched_gemm(self, A: Array, B: Array, out: Array, alpha: float = 1.0) -> None:
        groups = out.shape[0]
        if groups == 1:
            self.gemm(A[0], B[0], out[0], alpha)
        elif out.size:
            a, b, c = (x.strides[0] // x.itemsize for x in (A, B, out))
            self._batched(A[0], B[0], out[0], (a, b, c), groups, alpha, 0.0)

    def repeat_units(self, X: Array, out: Array) -> None:
        n, batch = X.shape
        arguments = [n, batch, out.shape[0] // n, X, out]
        self._launcher.launch("repeat_units", "repeat_units", (X.dtype,), arguments, threads=X.size)

    def sum_repeats(self, dA: Array, out: Array) -> None:
        n, batch = out.shape
        arguments = [n, batch, dA.shape[0] // n, dA, out]
        self._launcher.launch("repeat_units", "sum_repeats", (out.dtype,), arguments, threads=out.size)

    def take_units(self, X: Array, first: int, out: Array) -> None:
        self._copy_units(X, first, out, 0, out.shape[0])

    def put_units(self, X: Array, out: Array, first: int) -> None:
        self._copy_units(X, 0, out, first, X.shape[0])

    def _copy_units(self, X: Array, of_X: int, out: Array, of_out: int, n: int) -> None:
        batch = X.shape[1]
        arguments = [n, batch, X.shape[0], of_X, out.shape[0], of_out, X, out]
        self._launcher.launch("copy_units", "copy_units", (X.dtype,), arguments, threads=n * batch)

    def dense_backward(
        self,
        dA: Array,
        saved: Array,
        kind: str,
        alpha: float,
        W: Array,
        A0: Array,
        dZ: Array,
        dW: Array,
        db: Array | None = None,
        dA0: Array | None = None,
        add_to_dW: bool = False,
        gain: float = 1.0,
    ) -> None:
        given = (dA, saved, kind, alpha, A0, dZ, dW, db)
        way = _SEPARATE
        if add_to_dW or gain != 1.0:  # what cuBLASLt's bias gradients are with a factor is not said
            self.activation_backward(dA, saved, kind, alpha, dZ, db)
            self.gemm(dZ, A0.T, dW, gain, 1.0 if add_to_dW else 0.0)
            if dA0 is not None:
                self.gemm(W.T, dZ, dA0, gain)
            return
        if db is not None and dA.size and dW.size:
            arrays = self._described(dA, saved, A0, dZ, dW, db)
            problem = ("dense_backward", kind, dZ is dA, self._products.tf32, *arrays)
            way = self._choose(problem, partial(self._backward_question, problem, *given))
        self._backward(way, *given)
        if dA0 is not None:
            self.gemm(W.T, dZ, dA0)

    def _backward_question(
        self,
        problem: Problem,
        dA: Array,
        saved: Array,
        kind: str,
        alpha: float,
        A0: Array,
        dZ: Array,
        dW: Array,
        db: Array,
    ) -> Question:
        def trial() -> tuple[Any, ...]:
            dZ_trial = self._like(dZ)
            self.fill(dZ_trial, 0.0)
            dA_trial = dZ_trial if dZ is dA else dA
            return dA_trial, saved, kind, alpha, A0, dZ_trial, self._like(dW), self._like(db)

        family = (*problem[:4], dA.dtype.name, dW.dtype.name, dW.shape, dW.strides, A0.strides)
        ways = {name: partial(self._backward, name) for name in (_SEPARATE, *LT_NAMES)}
        return Question(ways, trial, ((family, dA.shape[1]),))

    def _backward(
        self,
        way: str,
        dA: Array,
        saved: Array,
        kind: str,
        alpha: float,
        A0: Array,
        dZ: Array,
        dW: Array,
        db: Array | None,
    ) -> None:
        """dZ, dW and db; dA₀ is a product by itself, whichever way these go."""
        if way == _SEPARATE:
            self.activation_backward(dA, saved, kind, alpha, dZ, db)
            self.gemm(dZ, A0.T, dW)
        else:
            self.activation_backward(dA, saved, kind, alpha, dZ, None)
            self._cublaslt(dZ, A0.T, dW, LT_NAMES.index(way), row_sums=db)
