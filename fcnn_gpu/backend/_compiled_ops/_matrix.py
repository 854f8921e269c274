"""Matrix products, a layer's bias and activation in their epilogue where it is short."""

from __future__ import annotations

from ..._types import Array
from ._array import CompiledArrays

_IN_EPILOGUE = {"identity": "BIAS", "relu": "BIAS_RELU", "leaky_relu": "BIAS_LEAKY"}


class CompiledMatrix(CompiledArrays):
    def gemm(self, A: Array, B: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> None:
        if beta not in (0.0, 1.0) or (beta and alpha != 1.0) or not _strided(A, B):
            super().gemm(A, B, out, alpha, beta)
            return
        if not out.flags.c_contiguous:  # (A·B)ᵀ = Bᵀ·Aᵀ
            self._multiply(True, B.T, A.T, out.T, alpha, bool(beta))
        else:
            self._multiply(False, A, B, out, alpha, bool(beta))

    def _multiply(
        self,
        by_samples: bool,
        A: Array,
        B: Array,
        out: Array,
        alpha: float,
        accumulate: bool,
        epilogue: str = "STORE",
        b: Array | None = None,
        slope: float = 0.0,
    ) -> None:
        """`by_samples`: rows of A and out are, so that other calls by samples may be in the same phase."""
        whole = A.flags.c_contiguous and out.flags.c_contiguous  # each row keeps to bytes of its own
        operation, rows = ("product_of_samples", "batch") if by_samples and whole else ("product_of_weights", "m")
        size = out.itemsize
        strides = [stride // size for stride in (*A.strides, *B.strides, out.strides[0])]
        names = ("a_row", "a_inner", "b_inner", "b_column", "c_row")
        self._issue(
            operation,
            out.dtype,
            **{rows: A.shape[0]},
            n=B.shape[1],
            k=A.shape[1],
            **dict(zip(names, strides, strict=True)),
            accumulate=accumulate,
            epilogue=self._library.epilogues[epilogue],
            alpha=alpha,
            slope=slope,
            A=A,
            B=B,
            b=b,
            unsound=None,
            C=out,
        )

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
        if b is None or not _strided(W, A0):
            self.gemm(W, A0, Z, gain)
            self.bias_activation(Z, b, kind, alpha, out)
            return
        inside = out is Z and kind in _IN_EPILOGUE
        epilogue = _IN_EPILOGUE[kind] if inside else "BIAS"
        self._multiply(True, A0.T, W.T, Z.T, gain, False, epilogue, b, alpha)
        if not inside:
            self.bias_activation(Z, None, kind, alpha, out)

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
        self.activation_backward(dA, saved, kind, alpha, dZ, db)
        if add_to_dW and gain != 1.0:
            self.gemm(dZ, A0.T, dW, gain, 1.0)
        else:
            self._multiply(False, A0, dZ.T, dW.T, gain, add_to_dW)
        if dA0 is not None:
            self.gemm(W.T, dZ, dA0, gain)


def _strided(*matrices: Array) -> bool:
    """Whether the distances between elements are whole numbers of them, and positive."""
    return all(s > 0 and s % matrix.itemsize == 0 for matrix in matrices for s in matrix.strides)
