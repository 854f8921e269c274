"""Matrix products, a layer's bias and activation in their epilogue where it is short."""

from __future__ import annotations

from dataclasses import dataclass

from ..._types import Array
from .._compiled import blocks_of_gradients
from ._array import CompiledArrays

_FEW = 2**14
"""Weights whose gradients are summed by blocks of samples, where these are many: a block's stay in the cache."""
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
        self._product(operation, {rows: A.shape[0]}, _One, A, B, out, alpha, accumulate, epilogue, b, slope)

    def _product(
        self,
        operation: str,
        rows: dict[str, int],
        groups: _Groups,
        A: Array,
        B: Array,
        out: Array,
        alpha: float,
        accumulate: bool,
        epilogue: str = "STORE",
        b: Array | None = None,
        slope: float = 0.0,
    ) -> None:
        size = out.itemsize
        strides = [stride // size for stride in (*A.strides, *B.strides, out.strides[0])]
        names = ("a_row", "a_inner", "b_inner", "b_column", "c_row")
        self._issue(
            operation,
            out.dtype,
            **rows,
            n=B.shape[1] if groups.n is None else groups.n,
            k=A.shape[1] if groups.k is None else groups.k,
            **dict(zip(names, strides, strict=True)),
            groups=groups.number,
            a_group=groups.a,
            b_group=groups.b,
            c_group=groups.c,
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
        n_out, n_in = W.shape[0], W.shape[1] // groups
        inside = b is not None and out is Z and kind in _IN_EPILOGUE
        epilogue = "STORE" if b is None else _IN_EPILOGUE[kind] if inside else "BIAS"
        of = _Groups(groups, n_in, n_in * n_out, n_out, n_out, n_in)
        self._product(
            "product_of_samples",
            {"batch": Z.shape[1]},
            of,
            *(A0.T, W.T, Z.T),
            gain,
            False,
            epilogue,
            b,
            alpha,
        )
        if not inside:
            self.bias_activation(Z, None, kind, alpha, out)

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
        n_blocks = _gradient_blocks(A0, dZ, dW, groups)
        if add_to_dW and gain != 1.0 and not n_blocks:
            super().grouped_dense_backward(dA, saved, kind, alpha, W, A0, dZ, dW, groups, db, dA0, add_to_dW, gain)
            return
        self.activation_backward(dA, saved, kind, alpha, dZ, None if n_blocks else db)
        n_out, n_in = W.shape[0], W.shape[1] // groups
        if n_blocks:
            self._gradients_in_blocks(A0, dZ, dW, db, groups, n_blocks, add_to_dW, gain)
        else:
            of = _Groups(groups, n_in, n_out, n_in * n_out, n_out)
            self._product("product_of_weights", {"m": groups * n_in}, of, A0, dZ.T, dW.T, gain, add_to_dW)
        if dA0 is not None:
            of = _Groups(groups, n_out, n_in * n_out, n_in, n_in, n_out)
            self._product("product_of_samples", {"batch": dZ.shape[1]}, of, dZ.T, W, dA0.T, gain, False)

    def repeat_units(self, X: Array, out: Array) -> None:
        n, batch = X.shape
        self._issue("repeat_units", X.dtype, batch=batch, n=n, members=out.shape[0] // n, x=X, out=out)

    def sum_repeats(self, dA: Array, out: Array) -> None:
        n, batch = out.shape
        self._issue("sum_repeats", out.dtype, batch=batch, n=n, members=dA.shape[0] // n, d=dA, dx=out)

    def take_units(self, X: Array, first: int, out: Array) -> None:
        self._copy_units(X, first, out, 0, out.shape[0])

    def put_units(self, X: Array, out: Array, first: int) -> None:
        self._copy_units(X, 0, out, first, X.shape[0])

    def _copy_units(self, X: Array, of_X: int, out: Array, of_out: int, n: int) -> None:
        sizes = {"batch": X.shape[1], "n": n, "n_x": X.shape[0], "first_x": of_X}
        self._issue("copy_units", X.dtype, **sizes, n_out=out.shape[0], first_out=of_out, x=X, out=out)

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
        n_blocks = _gradient_blocks(A0, dZ, dW, 1)
        self.activation_backward(dA, saved, kind, alpha, dZ, None if n_blocks else db)
        if n_blocks:
            self._gradients_in_blocks(A0, dZ, dW, db, 1, n_blocks, add_to_dW, gain)
        elif add_to_dW and gain != 1.0:
            self.gemm(dZ, A0.T, dW, gain, 1.0)
        else:
            self._multiply(False, A0, dZ.T, dW.T, gain, add_to_dW)
        if dA0 is not None:
            self.gemm(W.T, dZ, dA0, gain)

    def _gradients_in_blocks(
        self,
        A0: Array,
        dZ: Array,
        dW: Array,
        db: Array | None,
        groups: int,
        n_blocks: int,
        add_to_dW: bool,
        gain: float,
    ) -> None:
        """dW = [dW +] gain·Σ_s dZ_s·A₀_sᵀ and db = Σ_s dZ_s·1 over blocks s of samples, each by who computes dZ_s."""
        biases, batch = db is not None, dZ.shape[1]
        stride = dW.size + (dZ.shape[0] if biases else 0)
        blocks = self.xp.empty((n_blocks, stride), dW.dtype)
        sizes = {"batch": batch, "m": A0.shape[0] // groups, "n": dZ.shape[0] // groups, "groups": groups}
        self._issue(
            "gradient_of_blocks",
            dW.dtype,
            **sizes,
            n_blocks=n_blocks,
            biases=biases,
            A=A0.T,
            B=dZ.T,
            blocks=blocks,
        )
        sums = [(dW.T, blocks[:, : dW.size], gain, add_to_dW)]
        if db is not None:
            sums.append((db, blocks[:, dW.size :], 1.0, False))
        for out, parts, alpha, accumulate in sums:
            self._issue(
                "sum_of_blocks",
                out.dtype,
                n=out.size,
                n_blocks=n_blocks,
                stride=stride,
                accumulate=accumulate,
                alpha=alpha,
                blocks=parts,
                unsound=None,
                out=out,
            )


@dataclass(frozen=True)
class _Groups:
    """Products side by side: how many, how far their matrices lie apart, and n and k of one where they are its own."""

    number: int = 1
    a: int = 0
    b: int = 0
    c: int = 0
    n: int | None = None
    k: int | None = None


_One = _Groups()


def _gradient_blocks(A0: Array, dZ: Array, dW: Array, groups: int) -> int:
    """Of how many blocks of samples dW and db are summed, if samples are many and weights are few; 0 for all in one.

    A member's have as many as a single layer's.
    """
    lie_as_read = A0.T.flags.c_contiguous and dZ.T.flags.c_contiguous and dW.T.flags.c_contiguous
    n_blocks = blocks_of_gradients(dZ.shape[1]) if lie_as_read and dW.size <= groups * _FEW else 1
    return n_blocks if n_blocks > 1 else 0


def _strided(*matrices: Array) -> bool:
    """Whether the distances between elements are whole numbers of them, and positive."""
    return all(s > 0 and s % matrix.itemsize == 0 for matrix in matrices for s in matrix.strides)
