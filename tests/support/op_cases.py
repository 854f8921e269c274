"""One runnable case for every primitive: the same calls on any backend, with the arrays they wrote as the result.

Each case takes (ops, rng, dtype, n, batch), draws its input from rng on the host, calls the primitive and returns what
it wrote by name. `CASES` maps a primitive's name to its cases; test_ops_consistency asserts that none is missing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np

from fcnn_gpu._types import Array, HostArray
from fcnn_gpu.backend._ops import (
    ELEMENTWISE,
    ELEMENTWISE_LOSSES,
    NUMBER_KINDS,
    Columns,
    FlatParameters,
    LimitedRows,
    LossScaling,
    NumberMap,
    Ops,
    RowLimits,
    Segment,
    SparseRows,
    StackLayer,
    StepControl,
    Tables,
)

Outputs = dict[str, Array]
Run = Callable[[Ops, np.random.Generator, Any, int, int], Outputs]


@dataclass(frozen=True)
class Case:
    """`run` and the row of the tolerance table that its results are held to.

    empty: also defined for no samples. flat: works on flat buffers, of which n and batch only give the length.
    """

    id: str
    run: Run
    tolerance: str = "elementwise"
    empty: bool = True
    flat: bool = False


CASES: dict[str, list[Case]] = {}


def case(
    op: str, label: str = "", tolerance: str = "elementwise", empty: bool = True, flat: bool = False
) -> Callable[[Run], Run]:
    def register(run: Run) -> Run:
        CASES.setdefault(op, []).append(Case(f"{op}-{label}" if label else op, run, tolerance, empty, flat))
        return run

    return register


def matrix(ops: Ops, x: HostArray, dtype: Any) -> Array:
    """x (n, batch) on the ops' device, F-ordered."""
    n, batch = x.shape
    out = ops.matrix(n, batch, dtype)
    ops.assign(out, x)
    return out


def normal(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Array:
    return matrix(ops, rng.normal(size=(n, batch)), dtype)


def column(ops: Ops, rng: np.random.Generator, dtype: Any, n: int) -> Array:
    return ops.asarray(rng.normal(size=(n, 1)), dtype)


# Arrays


@case("empty")
def _empty(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    out = ops.empty((n, batch), dtype)
    ops.fill(out, 0.25)
    return {"out": out}


@case("zeros")
def _zeros(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    return {"out": ops.zeros((n, batch), dtype)}


@case("copy")
def _copy(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    x = normal(ops, rng, dtype, n, batch)
    out = ops.copy(x)
    assert out.flags.f_contiguous
    ops.fill(x, 0.0)
    return {"out": out}


@case("matrix")
@case("fill")
def _fill(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    out = ops.matrix(n, batch, dtype)
    ops.fill(out, -1.5)
    assert out.flags.f_contiguous
    return {"out": out}


@case("asarray")
@case("to_numpy")
def _asarray(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    x = rng.normal(size=(n, batch))
    there = ops.asarray(x.T.astype(dtype).T)
    assert there.flags.c_contiguous
    host = ops.to_numpy(normal(ops, rng, dtype, n, batch))
    assert host.flags.f_contiguous
    return {
        "there": there,
        "again": ops.asarray(there, np.float64),
        "list": ops.asarray([1, 2, 3], dtype),
        "host": host,
    }


@case("assign")
def _assign(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    out, other = ops.matrix(n, batch, dtype), ops.empty((n, batch), np.float64)
    ops.assign(out, rng.normal(size=(n, batch)))
    ops.assign(other, out)
    number = ops.zeros(1, np.float64)
    ops.assign(number, 0.125)
    return {"out": out, "other": other, "number": number}


@case("scale")
def _scale(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    x = normal(ops, rng, dtype, n, batch)
    out = ops.matrix(n, batch, dtype)
    ops.scale(x, 0.3, out)
    ops.scale(x, -2.0, x)
    return {"out": out, "x": x}


@case("add")
def _add(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    x, y = normal(ops, rng, dtype, n, batch), normal(ops, rng, dtype, n, batch)
    ops.add(x, y, x)
    return {"x": x}


@case("cast")
def _cast(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    outputs: Outputs = {}
    for source in (np.uint8, np.int8, np.int16, np.int32, np.int64, np.float16, np.float32, np.float64):
        x = matrix(ops, rng.integers(-100, 100, size=(n, batch)).astype(source), source)
        name = np.dtype(source).name
        for key, scale, shift in [(name, 1.0, 0.0), (f"{name} scaled", 1 / 255, -0.1307)]:
            outputs[key] = ops.matrix(n, batch, dtype)
            ops.cast(x, outputs[key], scale, shift)
    return outputs


@case("advance")
def _advance(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    counter = ops.asarray(np.array([41]))
    ops.advance(counter, batch)
    return {"counter": counter}


@case("scratch")
def _scratch(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    out = ops.scratch("test", n * batch, dtype)
    ops.fill(out, 3.0)
    return {"out": out}


@case("ones")
def _ones(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    return {"out": ops.ones(n, dtype)}


# Matrix products and sums


@case("gemm", tolerance="sum")
def _gemm(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    W, A = ops.asarray(rng.normal(size=(n, 7)), dtype), normal(ops, rng, dtype, 7, batch)
    Z, dW, dA = ops.matrix(n, batch, dtype), ops.empty((n, 7), dtype), ops.matrix(7, batch, dtype)
    ops.gemm(W, A, Z)
    ops.gemm(Z, A.T, dW)
    ops.gemm(W.T, Z, dA)
    outputs = {"dW": ops.to_numpy(dW).copy()}
    ops.gemm(Z, A.T, dW, beta=1.0)
    outputs["2dW"] = ops.to_numpy(dW).copy()
    ops.gemm(Z, A.T, dW, alpha=1.5, beta=0.25)
    outputs["1.5dW + dW/2"] = ops.to_numpy(dW).copy()
    ops.gemm(Z, A.T, dW, alpha=0.5)
    return {**outputs, "Z": Z, "dA": dA, "dW/2": dW}


def _register_dense(kind: str) -> None:
    @case("dense_forward", kind, tolerance="sum")
    def forward(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
        W, A0, b = normal(ops, rng, dtype, n, 7), normal(ops, rng, dtype, 7, batch), column(ops, rng, dtype, n)
        Z, A, no_bias = (ops.matrix(n, batch, dtype) for _ in range(3))
        ops.dense_forward(W, A0, b, kind, 0.3, Z, A)
        outputs: Outputs = {"A": A}
        if ELEMENTWISE[kind].from_output:
            ops.dense_forward(W, A0, b, kind, 0.3, Z, Z)
            outputs["in_place"] = Z
        else:
            outputs["Z"] = ops.to_numpy(Z).copy()
        ops.dense_forward(W, A0, None, kind, 0.3, ops.matrix(n, batch, dtype), no_bias)
        scaled, scaled_Z = ops.matrix(n, batch, dtype), ops.matrix(n, batch, dtype)
        out = scaled_Z if ELEMENTWISE[kind].from_output else scaled
        ops.dense_forward(W, A0, b, kind, 0.3, scaled_Z, out, 0.4)
        return {**outputs, "no_bias": no_bias, "scaled": out, "scaled_Z": scaled_Z}

    @case("dense_backward", kind, tolerance="sum")
    def backward(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
        W, A0, dA = normal(ops, rng, dtype, n, 7), normal(ops, rng, dtype, 7, batch), normal(ops, rng, dtype, n, batch)
        saved = normal(ops, rng, dtype, n, batch)
        if ELEMENTWISE[kind].from_output:  # then it is a value of f
            ops.bias_activation(saved, None, kind, 0.3, saved)
        dZ, dA0 = ops.matrix(n, batch, dtype), ops.matrix(7, batch, dtype)
        dW, alone = ops.matrix(n, 7, dtype), ops.matrix(n, 7, dtype)
        db = ops.empty((n, 1), dtype)
        ops.dense_backward(dA, saved, kind, 0.3, W, A0, dZ, alone)
        sums, db_again = normal(ops, rng, dtype, n, 7), ops.empty((n, 1), dtype)
        ops.dense_backward(dA, saved, kind, 0.3, W, A0, dZ, sums, db_again, dA0, add_to_dW=True)
        ops.dense_backward(dA, saved, kind, 0.3, W, A0, dA, dW, db, dA0)
        made = {"dZ": dZ, "dA0": dA0, "dW": dW, "alone": alone, "db": db, "in_place": dA}
        scaled, more, db_scaled = (ops.matrix(n, 7, dtype), ops.matrix(7, batch, dtype), ops.empty((n, 1), dtype))
        ops.dense_backward(dA, saved, kind, 0.3, W, A0, dZ, scaled, db_scaled, more, gain=0.4)
        ops.dense_backward(dA, saved, kind, 0.3, W, A0, dZ, sums, db_again, dA0, add_to_dW=True, gain=0.4)
        return {**made, "sums": sums, "db_again": db_again, "scaled": scaled, "more": more, "db_scaled": db_scaled}


for _kind in ELEMENTWISE:
    _register_dense(_kind)


MEMBERS = 3


def _register_grouped(kind: str) -> None:
    @case("grouped_dense_forward", kind, tolerance="sum")
    def forward(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
        W, A0 = normal(ops, rng, dtype, n, 7 * MEMBERS), normal(ops, rng, dtype, 7 * MEMBERS, batch)
        b = column(ops, rng, dtype, n * MEMBERS)
        Z, A, no_bias, scaled = (ops.matrix(n * MEMBERS, batch, dtype) for _ in range(4))
        ops.grouped_dense_forward(W, A0, b, kind, 0.3, Z, A, MEMBERS)
        outputs: Outputs = {"A": A}
        if ELEMENTWISE[kind].from_output:
            ops.grouped_dense_forward(W, A0, b, kind, 0.3, Z, Z, MEMBERS)
        outputs["Z"] = ops.to_numpy(Z).copy()
        ops.grouped_dense_forward(W, A0, None, kind, 0.3, ops.matrix(n * MEMBERS, batch, dtype), no_bias, MEMBERS)
        ops.grouped_dense_forward(W, A0, b, kind, 0.3, Z, scaled, MEMBERS, 0.4)
        return {**outputs, "no_bias": no_bias, "scaled": scaled}

    @case("grouped_dense_backward", kind, tolerance="sum")
    def backward(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
        W, A0 = normal(ops, rng, dtype, n, 7 * MEMBERS), normal(ops, rng, dtype, 7 * MEMBERS, batch)
        dA, saved = (normal(ops, rng, dtype, n * MEMBERS, batch) for _ in range(2))
        if ELEMENTWISE[kind].from_output:
            ops.bias_activation(saved, None, kind, 0.3, saved)
        dZ, dA0 = ops.matrix(n * MEMBERS, batch, dtype), ops.matrix(7 * MEMBERS, batch, dtype)
        dW, scaled, sums = (ops.matrix(n, 7 * MEMBERS, dtype) for _ in range(3))
        ops.fill(sums, 0.5)
        db, more = ops.empty((n * MEMBERS, 1), dtype), ops.matrix(7 * MEMBERS, batch, dtype)
        given = dA, saved, kind, 0.3, W, A0
        ops.grouped_dense_backward(*given, dZ, scaled, MEMBERS, None, more, gain=0.4)
        ops.grouped_dense_backward(*given, dZ, sums, MEMBERS, add_to_dW=True)
        part = ops.to_numpy(sums).copy()
        ops.grouped_dense_backward(*given, dZ, sums, MEMBERS, add_to_dW=True, gain=0.4)
        ops.grouped_dense_backward(*given, dA, dW, MEMBERS, db, dA0)
        made = {"dZ": dZ, "dA0": dA0, "dW": dW, "db": db, "in_place": dA}
        return {**made, "sums": sums, "part": part, "scaled": scaled, "more": more}


for _kind in ("identity", "relu", "gelu"):
    _register_grouped(_kind)


@case("repeat_units")
@case("sum_repeats")
def _repeats(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    X, out = normal(ops, rng, dtype, n, batch), ops.matrix(MEMBERS * n, batch, dtype)
    ops.repeat_units(X, out)
    dA, dX = normal(ops, rng, dtype, MEMBERS * n, batch), ops.matrix(n, batch, dtype)
    ops.sum_repeats(dA, dX)
    return {"out": out, "dX": dX}


@case("take_units")
@case("put_units")
def _some_units(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    X, narrow, wide = (
        normal(ops, rng, dtype, n + 5, batch),
        ops.matrix(n, batch, dtype),
        ops.matrix(n + 9, batch, dtype),
    )
    ops.take_units(X, 2, narrow)
    ops.fill(wide, 0.5)
    ops.put_units(X, wide, 3)
    all_units = ops.matrix(n + 5, batch, dtype)
    ops.take_units(X, 0, all_units)
    return {"narrow": narrow, "wide": wide, "all_units": all_units}


def _register_parametric(kind: str) -> None:
    @case("parametric_activation", kind)
    def forward(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
        Z, p, out = normal(ops, rng, dtype, n, batch), column(ops, rng, dtype, n), ops.matrix(n, batch, dtype)
        ops.parametric_activation(Z, p, kind, 0.3, out)
        return {"out": out, "Z": Z}

    @case("parametric_activation_backward", kind, tolerance="sum")
    def backward(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
        Z, dA, p = normal(ops, rng, dtype, n, batch), normal(ops, rng, dtype, n, batch), column(ops, rng, dtype, n)
        dZ, dp, again = ops.matrix(n, batch, dtype), ops.empty((n, 1), dtype), ops.empty((n, 1), dtype)
        ops.parametric_activation_backward(dA, Z, p, kind, 0.3, dZ, dp)
        ops.parametric_activation_backward(dA, Z, p, kind, 0.3, dA, again)
        return {"dZ": dZ, "dp": dp, "in_place": dA, "again": again}


for _kind in ("scale", "prelu", *ELEMENTWISE):
    _register_parametric(_kind)


@case("dense_stack")
@case("fused_forward", tolerance="sum")
def _fused_forward(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    dtype = np.dtype(np.float32)  # the only one that both the reference and the kernel take
    widths, kinds = (n, min(n, 100), 9, 3), ("gelu", "tanh", "identity")
    shapes = list(itertools.pairwise(widths))
    flat = ops.asarray(0.1 * rng.normal(size=sum(a * b + b for a, b in shapes)), dtype)
    saved = ops.zeros(2 * sum(widths[1:]) * batch, dtype)
    layers, bare, at, kept = [], [], 0, 0
    for (n_in, n_out), kind in zip(shapes, kinds, strict=True):
        W = flat[at : at + n_in * n_out].reshape(n_in, n_out).T
        b = flat[at + W.size : at + W.size + n_out].reshape(n_out, 1)
        at += W.size + n_out
        Z, A = (saved[p : p + n_out * batch].reshape(batch, n_out).T for p in (kept, kept + n_out * batch))
        kept += 2 * n_out * batch
        is_last = kind == "identity"
        layers.append(StackLayer(W, b, kind, 0.3, None if kind == "tanh" else Z, None if is_last else A))
        bare.append(StackLayer(W, None, kind, 0.3))
    A0 = normal(ops, rng, dtype, n, batch)
    out, alone = ops.matrix(3, batch, dtype), ops.matrix(3, batch, dtype)
    ops.fused_forward(ops.dense_stack(layers, flat, flat, saved), A0, out)
    ops.fused_forward(ops.dense_stack(bare, flat, flat), A0, alone)
    return {"out": out, "saved": saved, "alone": alone}


def _register_tiled_matmul(kind: str) -> None:
    @case("tiled_matmul", kind, tolerance="sum")
    def run(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
        W, A, b = ops.asarray(rng.normal(size=(n, 37)), dtype), normal(ops, rng, dtype, 37, batch), None
        b = column(ops, rng, dtype, n)
        whole, chunked = ops.matrix(n, batch, dtype), ops.matrix(n, batch, dtype)
        ops.tiled_matmul(W, A, whole, b, kind, 0.25)
        first, second = slice(0, 16), slice(16, 37)
        # The reference's BLAS wants slices that stay contiguous, so the chunks are copies there and here.
        W_parts = [ops.asarray(ops.to_numpy(W)[:, part]) for part in (first, second)]
        A_parts = [matrix(ops, ops.to_numpy(A)[part], dtype) for part in (first, second)]
        ops.tiled_matmul(W_parts[0], A_parts[0], chunked, b, kind, 0.25, accumulate=False, last=False)
        ops.tiled_matmul(W_parts[1], A_parts[1], chunked, b, kind, 0.25, accumulate=True, last=True)
        return {"whole": whole, "chunked": chunked}


for _kind in ("identity", "sigmoid", "relu", "leaky_relu"):
    _register_tiled_matmul(_kind)


@case("row_sum", tolerance="sum")
def _row_sum(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    out = ops.empty((n, 1), dtype)
    ops.row_sum(normal(ops, rng, dtype, n, batch), out)
    return {"out": out}


# Activations


def _register_activation(kind: str) -> None:
    @case("bias_activation", kind)
    def forward(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
        Z, b = normal(ops, rng, dtype, n, batch), column(ops, rng, dtype, n)
        A, no_bias = ops.matrix(n, batch, dtype), ops.matrix(n, batch, dtype)
        ops.bias_activation(Z, b, kind, 0.3, A)
        ops.bias_activation(Z, None, kind, 0.3, no_bias)
        outputs: Outputs = {"A": A, "Z": ops.to_numpy(Z).copy(), "no_bias": no_bias}
        if ELEMENTWISE[kind].from_output:
            ops.bias_activation(Z, b, kind, 0.3, Z)
            outputs["in_place"] = Z
        return outputs

    @case("activation_backward", kind, tolerance="sum")
    def backward(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
        saved, dA = normal(ops, rng, dtype, n, batch), normal(ops, rng, dtype, n, batch)
        if ELEMENTWISE[kind].from_output:  # then it is a value of f
            ops.bias_activation(saved, None, kind, 0.3, saved)
        dZ, alone, db = ops.matrix(n, batch, dtype), ops.matrix(n, batch, dtype), ops.empty((n, 1), dtype)
        ops.activation_backward(dA, saved, kind, 0.3, dZ, db)
        ops.activation_backward(dA, saved, kind, 0.3, alone)
        outputs = {"dZ": dZ, "db": ops.to_numpy(db).copy(), "alone": alone}
        ops.activation_backward(dA, saved, kind, 0.3, dA, db)
        return {**outputs, "in_place": dA, "db_in_place": db}


for _kind in ELEMENTWISE:
    _register_activation(_kind)


@case("softmax", tolerance="sum")
def _softmax(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    Z = matrix(ops, rng.normal(size=(n, batch)) * 10, dtype)
    out = ops.matrix(n, batch, dtype)
    ops.softmax(Z, out)
    ops.softmax(Z, Z)
    return {"out": out, "in_place": Z}


@case("softmax_backward", tolerance="sum")
def _softmax_backward(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    A, dA, dZ = normal(ops, rng, dtype, n, batch), normal(ops, rng, dtype, n, batch), ops.matrix(n, batch, dtype)
    ops.softmax(A, A)
    ops.softmax_backward(dA, A, dZ)
    ops.softmax_backward(dA, A, dA)
    return {"dZ": dZ, "in_place": dA}


# Dropout


@case("dropout_members_forward")
@case("dropout_members_backward")
def _dropout_of_members(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    shape = MEMBERS * n, batch
    A, out, step = normal(ops, rng, dtype, *shape), ops.matrix(*shape, dtype), ops.asarray(np.array([7]))
    mask, back, later = ops.matrix(*shape, np.uint8), ops.matrix(*shape, dtype), ops.matrix(*shape, dtype)
    rates = ops.asarray(np.array([0.0, 0.25, 40_000 / 65536, 65535 / 65536])[:MEMBERS])
    ops.dropout_members_forward(A, rates, (2**63 + 5, 17), step, mask, out)
    ops.dropout_members_backward(A, rates, mask, back)
    later_mask = ops.matrix(*shape, np.uint8)
    ops.dropout_members_forward(A, rates, (2**63 + 5, 17), step, later_mask, later, 8187 + 3 * n)
    ops.dropout_members_forward(A, rates, (2**63 + 5, 17), step, mask, A)
    return {"mask": mask, "out": out, "back": back, "later": later, "later_mask": later_mask, "in_place": A}


@case("alpha_dropout_forward", tolerance="sum")
@case("alpha_dropout_backward", tolerance="sum")
def _alpha_dropout(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    A, out, back = normal(ops, rng, dtype, n, batch), ops.matrix(n, batch, dtype), ops.matrix(n, batch, dtype)
    mask, step = ops.matrix(n, batch, np.uint8), ops.asarray(np.array([9]))
    ops.alpha_dropout_forward(A, 0.4, (2**63 + 5, 17), step, mask, out)
    ops.alpha_dropout_backward(A, 0.4, mask, back)
    later, later_mask = ops.matrix(n, batch, dtype), ops.matrix(n, batch, np.uint8)
    ops.alpha_dropout_forward(A, 0.4, (2**63 + 5, 17), step, later_mask, later, 8187 + 3 * n)
    ops.alpha_dropout_forward(A, 0.0, (2**63 + 5, 17), step, later_mask, A)
    return {"out": out, "mask": mask, "back": back, "later": later, "in_place": A}


@case("gaussian_noise", tolerance="sum")
def _gaussian_noise(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    A, out, step = normal(ops, rng, dtype, n, batch), ops.matrix(n, batch, dtype), ops.asarray(np.array([9]))
    ops.gaussian_noise(A, 0.7, (2**63 + 5, 17), step, out)
    later = ops.matrix(n, batch, dtype)
    ops.gaussian_noise(A, 0.7, (2**63 + 5, 17), step, later, 4093 + 3 * n)
    ops.gaussian_noise(A, 100.0, (2**63 + 5, 17), step, A)
    return {"out": out, "later": later, "in_place": A}


@case("dropout_forward")
@case("dropout_backward")
def _dropout(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    A, out, back = normal(ops, rng, dtype, n, batch), ops.matrix(n, batch, dtype), ops.matrix(n, batch, dtype)
    mask, step = ops.matrix(n, batch, np.uint8), ops.asarray(np.array([9]))
    ops.dropout_forward(A, 0.4, (2**63 + 5, 17), step, mask, out)
    ops.dropout_backward(A, 0.4, mask, back)
    later, later_mask = ops.matrix(n, batch, dtype), ops.matrix(n, batch, np.uint8)
    ops.dropout_forward(A, 0.4, (2**63 + 5, 17), step, later_mask, later, 8187 + 3 * n)
    return {"out": out, "mask": mask, "back": back, "later": later, "later_mask": later_mask}


# Normalization


@case("batch_norm_forward", tolerance="sum", empty=False)
def _batch_norm_forward(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    X = matrix(ops, 3.0 + rng.normal(size=(n, batch)), dtype)
    gamma, beta, mean, inv_std = (column(ops, rng, dtype, n) for _ in range(4))
    var = ops.asarray(rng.uniform(0.5, 2.0, size=(n, 1)), dtype)
    x_hat, out = ops.matrix(n, batch, dtype), ops.matrix(n, batch, dtype)
    # ε is large enough that a batch of one sample, whose variance is 0, does not magnify rounding.
    ops.batch_norm_forward(X, gamma, beta, 1e-2, 0.1, mean, var, x_hat, inv_std, out)
    return {"out": out, "x_hat": x_hat, "inv_std": inv_std, "mean": mean, "var": var}


@case("batch_norm_inference")
def _batch_norm_inference(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    X, out = normal(ops, rng, dtype, n, batch), ops.matrix(n, batch, dtype)
    gamma, beta, mean = (column(ops, rng, dtype, n) for _ in range(3))
    var = ops.asarray(rng.uniform(0.5, 2.0, size=(n, 1)), dtype)
    ops.batch_norm_inference(X, gamma, beta, 1e-5, mean, var, out)
    ops.batch_norm_inference(X, gamma, beta, 1e-5, mean, var, X)
    return {"out": out, "in_place": X}


@case("batch_norm_backward", tolerance="sum", empty=False)
def _batch_norm_backward(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    dY, x_hat, dX = normal(ops, rng, dtype, n, batch), normal(ops, rng, dtype, n, batch), ops.matrix(n, batch, dtype)
    gamma, inv_std = column(ops, rng, dtype, n), ops.asarray(rng.uniform(0.5, 2.0, size=(n, 1)), dtype)
    dgamma, dbeta = ops.empty((n, 1), dtype), ops.empty((n, 1), dtype)
    ops.batch_norm_backward(dY, gamma, x_hat, inv_std, dgamma, dbeta, dX)
    outputs = {"dX": dX, "dgamma": ops.to_numpy(dgamma).copy(), "dbeta": ops.to_numpy(dbeta).copy()}
    ops.batch_norm_backward(dY, gamma, x_hat, inv_std, dgamma, dbeta, dY)
    return {**outputs, "in_place": dY}


@case("layer_norm_forward", tolerance="sum")
def _layer_norm_forward(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    X = matrix(ops, 3.0 + rng.normal(size=(n, batch)), dtype)
    gamma, beta = column(ops, rng, dtype, n), column(ops, rng, dtype, n)
    x_hat, out, inv_std = ops.matrix(n, batch, dtype), ops.matrix(n, batch, dtype), ops.empty((1, batch), dtype)
    ops.layer_norm_forward(X, gamma, beta, 1e-2, x_hat, inv_std, out)
    return {"out": out, "x_hat": x_hat, "inv_std": inv_std}


@case("layer_norm_backward", tolerance="sum")
def _layer_norm_backward(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    dY, x_hat, dX = normal(ops, rng, dtype, n, batch), normal(ops, rng, dtype, n, batch), ops.matrix(n, batch, dtype)
    gamma, inv_std = column(ops, rng, dtype, n), ops.asarray(rng.uniform(0.5, 2.0, size=(1, batch)), dtype)
    dgamma, dbeta = ops.empty((n, 1), dtype), ops.empty((n, 1), dtype)
    ops.layer_norm_backward(dY, gamma, x_hat, inv_std, dgamma, dbeta, dX)
    outputs = {"dX": dX, "dgamma": ops.to_numpy(dgamma).copy(), "dbeta": ops.to_numpy(dbeta).copy()}
    ops.layer_norm_backward(dY, gamma, x_hat, inv_std, dgamma, dbeta, dY)
    return {**outputs, "in_place": dY}


@case("group_norm_forward", tolerance="sum")
def _group_norm_forward(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    """3 groups of n units."""
    X = matrix(ops, 3.0 + rng.normal(size=(3 * n, batch)), dtype)
    gamma, beta = column(ops, rng, dtype, 3 * n), column(ops, rng, dtype, 3 * n)
    x_hat, out, inv_std = (ops.matrix(units, batch, dtype) for units in (3 * n, 3 * n, 3))
    ops.group_norm_forward(X, gamma, beta, 1e-2, 3, x_hat, inv_std, out)
    return {"out": out, "x_hat": x_hat, "inv_std": inv_std}


@case("group_norm_backward", tolerance="sum")
def _group_norm_backward(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    units = 3 * n
    dY, x_hat = normal(ops, rng, dtype, units, batch), normal(ops, rng, dtype, units, batch)
    gamma, inv_std = column(ops, rng, dtype, units), matrix(ops, rng.uniform(0.5, 2.0, size=(3, batch)), dtype)
    dgamma, dbeta, dX = ops.empty((units, 1), dtype), ops.empty((units, 1), dtype), ops.matrix(units, batch, dtype)
    ops.group_norm_backward(dY, gamma, 3, x_hat, inv_std, dgamma, dbeta, dX)
    outputs = {"dX": dX, "dgamma": ops.to_numpy(dgamma).copy(), "dbeta": ops.to_numpy(dbeta).copy()}
    ops.group_norm_backward(dY, gamma, 3, x_hat, inv_std, dgamma, dbeta, dY)
    return {**outputs, "in_place": dY}


@case("rms_norm_forward", tolerance="sum")
def _rms_norm_forward(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    X, gamma = matrix(ops, 1.0 + rng.normal(size=(n, batch)), dtype), column(ops, rng, dtype, n)
    x_hat, out, inv_rms = ops.matrix(n, batch, dtype), ops.matrix(n, batch, dtype), ops.empty((1, batch), dtype)
    ops.rms_norm_forward(X, gamma, 1e-2, x_hat, inv_rms, out)
    return {"out": out, "x_hat": x_hat, "inv_rms": inv_rms}


@case("rms_norm_backward", tolerance="sum")
def _rms_norm_backward(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    dY, x_hat, dX = normal(ops, rng, dtype, n, batch), normal(ops, rng, dtype, n, batch), ops.matrix(n, batch, dtype)
    gamma, inv_rms = column(ops, rng, dtype, n), ops.asarray(rng.uniform(0.5, 2.0, size=(1, batch)), dtype)
    dgamma = ops.empty((n, 1), dtype)
    ops.rms_norm_backward(dY, gamma, x_hat, inv_rms, dgamma, dX)
    outputs = {"dX": dX, "dgamma": ops.to_numpy(dgamma).copy()}
    ops.rms_norm_backward(dY, gamma, x_hat, inv_rms, dgamma, dY)
    return {**outputs, "in_place": dY}


# Embeddings


def numbers_of(ops: Ops, n: int, kind: str, n_out: int, relu: bool, appends: bool, shared: bool) -> NumberMap:
    """Every second of n units, the last first, up to nine; not `shared`, with different numbers of terms."""
    embedded = list(range(0, n, 2))[:9][::-1]
    units = (*embedded, *sorted(set(range(n)) - set(embedded)))
    starts = (0, *itertools.accumulate(3 if shared else 1 + i % 4 for i in range(len(embedded))))
    columns = Columns(ops.asarray(np.array(units)), units, len(embedded))
    return NumberMap(columns, kind, ops.asarray(np.array(starts)), starts, n_out, relu, appends, shared)


def _register_numbers(kind: str, n_out: int, relu: bool, appends: bool, shared: bool) -> None:
    label = f"{kind}-{n_out}" + "-relu" * relu + "-appends" * appends + "-shared" * shared

    @case("embed_numbers", label, tolerance="sum")
    @case("embed_numbers_backward", label, tolerance="sum")
    def run(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
        of = numbers_of(ops, n, kind, n_out, relu, appends, shared)
        n_embedded, n_values = of.columns.n_embedded, of.n_values
        X, dOut, out = normal(ops, rng, dtype, n, batch), normal(ops, rng, dtype, of.n_outputs, batch), None
        w = matrix(ops, 0.3 * rng.normal(size=(of.n_terms, 1)), dtype)
        phase = None if kind == "waves" else normal(ops, rng, dtype, of.n_terms, 1)
        W = normal(ops, rng, dtype, n_out, 3 * of.values_per_term if shared else n_values)
        b = normal(ops, rng, dtype, n_out, 1 if shared else n_embedded)
        out, dX = ops.matrix(of.n_outputs, batch, dtype), ops.matrix(n, batch, dtype)
        ops.embed_numbers(of, X, w, phase, W, b, out)
        dW, db = ops.matrix(n_out, n_values, dtype), ops.matrix(n_out, n_embedded, dtype)
        dw = None if kind == "pieces" else ops.matrix(of.n_terms, 1, dtype)
        dphase = None if kind != "cosine" else ops.matrix(of.n_terms, 1, dtype)
        ops.embed_numbers_backward(of, dOut, out, X, w, phase, W, dw, dphase, dW, db, None)
        outputs = {"dW alone": ops.to_numpy(dW).copy()}
        ops.embed_numbers_backward(of, dOut, out, X, w, phase, W, dw, dphase, dW, db, dX)
        outputs |= {"out": out, "dX": dX, "dW": dW, "db": db}
        return outputs | {name: x for name, x in (("dw", dw), ("dphase", dphase)) if x is not None}


for _kind in NUMBER_KINDS:
    _register_numbers(_kind, 3, relu=False, appends=True, shared=False)
    _register_numbers(_kind, 6, relu=True, appends=False, shared=False)
    _register_numbers(_kind, 40, relu=True, appends=False, shared=True)


@case("embed_categories")
@case("embed_categories_backward", tolerance="sum")
def _embed_categories(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    n_embedded = min(n // 2, 9)
    units = (*range(1, 2 * n_embedded, 2), *range(0, 2 * n_embedded, 2), *range(2 * n_embedded, n))
    shapes = [(1 + 7 * i % 40, 1 + 5 * i % 37) for i in range(n_embedded)]
    starts = (0, *itertools.accumulate(rows * width for rows, width in shapes))
    places = (0, *itertools.accumulate(width for _, width in shapes))
    columns = Columns(ops.asarray(np.array(units)), units, n_embedded)
    of = Tables(columns, ops.asarray(np.array(starts)), ops.asarray(np.array(places)), starts, places)
    assert list(of.shapes()) == shapes
    x = rng.normal(size=(n, batch))
    for unit, (rows, _) in zip(units, shapes, strict=False):
        x[unit] = rng.integers(0, rows, batch)
        x[unit, 5:8] = [-1, rows, 0.5][: max(0, batch - 5)]  # no categories
    X, E = matrix(ops, x, dtype), normal(ops, rng, dtype, starts[-1], 1)
    dOut, out = normal(ops, rng, dtype, of.n_outputs, batch), ops.matrix(of.n_outputs, batch, dtype)
    dE, dX = ops.matrix(starts[-1], 1, dtype), ops.matrix(n, batch, dtype)
    ops.fill(dE, 7.0)
    ops.embed_categories(of, X, E, out)
    ops.embed_categories_backward(of, dOut, X, dE, None)
    alone = ops.to_numpy(dE).copy()
    ops.embed_categories_backward(of, dOut, X, dE, dX)
    return {"out": out, "dE alone": alone, "dE": dE, "dX": dX}


# Sparse samples


def sparse_rows(ops: Ops, rng: np.random.Generator, dtype: Any, batch: int, n_in: int, density: float) -> SparseRows:
    """Every second row of twice as many, in reverse: the second has no number, the third has all."""
    dense = rng.normal(size=(2 * batch, n_in)) * (rng.uniform(size=(2 * batch, n_in)) < density)
    dense[2:3], dense[4:5] = 0.0, rng.normal(size=n_in)
    rows, columns = np.nonzero(dense)
    ends = np.cumsum(np.bincount(rows, minlength=2 * batch))
    extents = np.stack([np.append(0, ends)[:-1], ends], axis=1).astype(np.int64)
    kept = extents[::-2] if batch else extents
    values = ops.asarray(dense[rows, columns].astype(dtype))
    return SparseRows(values, ops.asarray(columns.astype(np.int32)), ops.asarray(kept), n_in, scale=0.75)


def _register_sparse(n_in: int, density: float) -> None:
    @case("sparse_product", f"{n_in} inputs", tolerance="sum")
    @case("sparse_gradient", f"{n_in} inputs", tolerance="sum")
    def run(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
        A0 = sparse_rows(ops, rng, dtype, batch, n_in, density).T
        W, dZ, out = normal(ops, rng, dtype, n, n_in), normal(ops, rng, dtype, n, batch), ops.matrix(n, batch, dtype)
        ops.sparse_product(W, A0, out)
        outputs = {"out": ops.to_numpy(out).copy()}
        ops.sparse_product(W, A0, out, 0.5)
        dW = ops.matrix(n, n_in, dtype)
        ops.fill(dW, np.nan)  # that is overwritten
        ops.sparse_gradient(dZ, A0, dW)
        outputs |= {"half": out, "dW": ops.to_numpy(dW).copy()}
        ops.sparse_gradient(dZ, A0, dW, 0.5, add_to_dW=True)
        return outputs | {"sum": dW}


for _n_in, _density in ((1, 0.5), (7, 0.6), (300, 0.05)):
    _register_sparse(_n_in, _density)


# Losses


def _register_cross_entropy(dense: bool, smoothing: float, weighted: bool, **options: Any) -> None:
    label = f"{'dense' if dense else 'labels'}-smoothing{smoothing}-{'weighted' if weighted else 'plain'}"
    label += "".join(f"-{name}{value}" for name, value in options.items())

    @case("softmax_cross_entropy", label, tolerance="sum", empty=False)
    def run(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
        Z, dZ = matrix(ops, rng.normal(size=(n, batch)) * 5, dtype), ops.matrix(n, batch, dtype)
        losses = ops.empty(batch, dtype)
        soft = rng.dirichlet(np.ones(n), size=batch).T
        soft[: n // 3, ::2] = 0
        targets = matrix(ops, soft, dtype) if dense else ops.asarray(rng.integers(0, n, batch))
        class_weight = ops.asarray(rng.uniform(0.5, 2, n), dtype) if weighted else None
        sample_weight = ops.asarray(rng.uniform(0.5, 2, batch), dtype) if weighted else None
        ops.softmax_cross_entropy(Z, targets, class_weight, sample_weight, smoothing, losses, dZ, **options)
        outputs = {"losses": ops.to_numpy(losses).copy(), "dZ": ops.to_numpy(dZ).copy()}
        scale = ops.asarray(np.array([2.0**16]))
        ops.softmax_cross_entropy(Z, targets, class_weight, sample_weight, smoothing, losses, dZ, scale, **options)
        return {**outputs, "same losses": losses, "scaled dZ": dZ}


def _register_elementwise_loss(kind: str, weighted: bool, delta: float = 0.7) -> None:
    label = f"{kind}-{'weighted' if weighted else 'plain'}{'' if delta else '-0'}"

    @case("elementwise_loss", label, tolerance="sum", empty=False)
    def run(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
        Z, dZ = matrix(ops, rng.normal(size=(n, batch)) * 2, dtype), ops.matrix(n, batch, dtype)
        Y = matrix(ops, rng.uniform(size=(n, batch)), dtype)
        losses = ops.empty(batch, dtype)
        sample_weight = ops.asarray(rng.uniform(0.5, 2, batch), dtype) if weighted else None
        output_weight = ops.asarray(rng.uniform(0.5, 2, n), dtype) if weighted else None
        of_output = ops.asarray(rng.uniform(0.1, 0.9, n), dtype) if weighted or kind == "quantile" else None
        more = {"output_weight": output_weight, "of_output": of_output}
        ops.elementwise_loss(Z, Y, kind, delta, sample_weight, losses, dZ, **more)
        outputs = {"losses": ops.to_numpy(losses).copy(), "dZ": ops.to_numpy(dZ).copy()}
        ops.elementwise_loss(Z, Y, kind, delta, sample_weight, losses, dZ, ops.asarray(np.array([2.0**16])), **more)
        return {**outputs, "same losses": losses, "scaled dZ": dZ}


for _weighted in (False, True):
    for _dense in (False, True):
        for _smoothing in (0.0, 0.1):
            _register_cross_entropy(_dense, _smoothing, _weighted)
    _register_cross_entropy(True, 0.0, _weighted, relative=True)
    for _gamma in (0.5, 2.0):
        _register_cross_entropy(False, 0.0, _weighted, gamma=_gamma)
    for _kind in ELEMENTWISE_LOSSES:
        _register_elementwise_loss(_kind, _weighted)
    _register_elementwise_loss("binary_cross_entropy", _weighted, 0.0)


@case("accumulate_sum", tolerance="sum")
def _accumulate_sum(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    total = ops.asarray(np.array([10.0]))
    ops.accumulate_sum(ops.asarray(rng.normal(size=batch), dtype), total)
    # NumPy adds up in the array's dtype, so that is the precision of the comparison.
    return {"total": ops.asarray(total, dtype)}


# The flat buffer


@dataclass
class Flat:
    """A flat buffer of n·batch weights (two segments) and n others, its control and optimizer state."""

    parameters: FlatParameters
    control: StepControl
    state: list[Array]
    third: Array
    """More of the state."""


def flat(
    ops: Ops,
    rng: np.random.Generator,
    dtype: Any,
    n: int,
    batch: int,
    loss_scale: float | None = None,
    low: Any = None,
    **control: Any,
) -> Flat:
    """With a loss scale the gradients are those of loss_scale·loss. `low` is the dtype of a copy of the weights."""
    size = n * batch + n
    cut = n * batch // 3
    segments = (
        Segment(0, cut, l1=0.02, l2=0.03, decay=1.0),
        Segment(cut, n * batch, l2=0.05, decay=1.0),
        Segment(n * batch, size),
    )
    values = rng.normal(size=size)
    values[::7] = 0.0  # sign(0) = 0: no L1 pull on a weight that is zero
    gradients = rng.normal(size=size) * (loss_scale or 1.0)
    scaling = None
    if loss_scale is not None:
        scaling = LossScaling.start(ops, growth_interval=2)
        ops.fill(scaling.scale, loss_scale)
    return Flat(
        FlatParameters(
            ops.asarray(values, dtype),
            ops.asarray(gradients, dtype),
            segments,
            None if low is None else ops.zeros(n * batch, low),
        ),
        StepControl(
            step=ops.asarray(np.array([4])),
            learning_rate=ops.asarray(np.array([0.01])),
            clip_scale=ops.asarray(np.array([1.0])),
            failed_step=ops.asarray(np.array([-1])),
            loss_scaling=scaling,
            **control,
        ),
        [ops.asarray(rng.uniform(0.1, 1.0, size=size), dtype) for _ in range(2)],
        ops.asarray(rng.uniform(1.2, 2.0, size=size), dtype),
    )


@case("constrain", tolerance="sum", flat=True)
def _constrain(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    """Of a failed step and of a skipped one nothing is seen; a row of zeros stays."""
    outputs: Outputs = {}
    for limits in (RowLimits(most=1.5), RowLimits(True), RowLimits(True, 1.0, 1.0), RowLimits(least=2.0)):
        for low in (None, np.float16, ml_dtypes.bfloat16) if dtype == np.float32 else (None,):
            f = flat(ops, rng, dtype, n, batch, 1.0, low)
            values = ops.to_numpy(f.parameters.values).copy()
            values[n - 1 :: n] = 0.0
            ops.assign(f.parameters.values, values)
            rows = LimitedRows(slice(0, n * batch), n, limits)
            scaling = f.control.loss_scaling
            assert scaling is not None
            for array in (f.control.failed_step, scaling.skip):
                ops.fill(array, 4)
                before = ops.to_numpy(f.parameters.values).copy()
                ops.constrain(f.parameters, f.control, rows)
                assert np.array_equal(before, ops.to_numpy(f.parameters.values))
                ops.fill(array, -1)
            ops.constrain(f.parameters, f.control, rows)
            name = f"{limits}-{low and np.dtype(low)}"
            outputs[name] = f.parameters.values
            if f.parameters.low is not None:
                outputs[f"{name} low"] = f.parameters.low
    return outputs


def scaling_arrays(scaling: LossScaling | None) -> dict[str, Array]:
    if scaling is None:
        return {}
    return {name: getattr(scaling, name) for name in ("scale", "good_steps", "skipped", "skip")}


@case("penalty", tolerance="sum")
def _penalty(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    total = ops.zeros(1, np.float64)
    ops.penalty(flat(ops, rng, dtype, n, batch).parameters, total)
    return {"total": ops.asarray(total, dtype)}


@case("penalized_gradient")
def _penalized_gradient(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    f, scaled = flat(ops, rng, dtype, n, batch), flat(ops, rng, dtype, n, batch, loss_scale=2.0**12)
    out = ops.empty(f.parameters.values.size, dtype)
    ops.penalized_gradient(f.parameters, out)
    ops.penalized_gradient(f.parameters, f.parameters.gradients)
    ops.penalized_gradient(scaled.parameters, scaled.parameters.gradients, scaled.control.loss_scale)
    return {"out": out, "in_place": f.parameters.gradients, "scaled": scaled.parameters.gradients}


@case("gradient_clip", tolerance="sum", flat=True)
def _gradient_clip(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    outputs = {}
    for max_norm, loss_scale in ((None, None), (0.5, None), (1e9, None), (0.5, 2.0**16)):
        f = flat(ops, rng, dtype, n, batch, loss_scale, max_norm=max_norm)
        ops.gradient_clip(f.parameters, f.control)
        outputs[f"scale{max_norm}-{loss_scale}"] = ops.asarray(f.control.clip_scale, dtype)
    return outputs


@case("check_finite", tolerance="sum", flat=True)
@case("finish_step", tolerance="sum", flat=True)
def _check_finite(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    outputs: Outputs = {}
    for what, loss_scale in itertools.product(("sound", "loss", "gradient", "overflow"), (None, 2.0**8, 1.0)):
        f = flat(ops, rng, dtype, n, batch, loss_scale, max_norm=0.5)
        losses = rng.normal(size=batch + 1)
        gradients = ops.to_numpy(f.parameters.gradients).copy()
        if what == "loss":
            losses[-1] = np.nan
        elif what == "gradient":
            gradients[-1] = np.inf
        elif what == "overflow":
            gradients[0] = np.sqrt(np.finfo(dtype).max) * 1.5 * (loss_scale or 1.0)
        ops.assign(f.parameters.gradients, gradients)
        total, counters = ops.zeros(1, np.float64), [ops.asarray(np.array([k])) for k in range(5)]
        with np.errstate(over="ignore", invalid="ignore"):
            ops.check_finite(ops.asarray(losses, dtype), f.parameters, f.control, total)
        ops.finish_step(f.control, [(counter, 10**k) for k, counter in enumerate(counters)])
        found = {"total": ops.asarray(total, dtype), "clip": ops.asarray(f.control.clip_scale, dtype)}
        if ops.to_numpy(f.control.failed_step)[0] < 0:
            found |= {f"counter{k}": counter for k, counter in enumerate(counters)}
        found |= {name: ops.to_numpy(x).copy() for name, x in scaling_arrays(f.control.loss_scaling).items()}
        with np.errstate(over="ignore", invalid="ignore"):
            ops.check_finite(ops.asarray(losses * np.nan, dtype), f.parameters, f.control)
        found |= {"failed": f.control.failed_step, "step": f.control.step}
        outputs |= {f"{name}-{what}-{loss_scale}": value for name, value in found.items()}
    return outputs


def _register_update(op: str, label: str, update: Callable[[Ops, Flat], None], **control: Any) -> None:
    @case(op, label, tolerance="sum", flat=True)
    def run(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
        f = flat(ops, rng, dtype, n, batch, **control)
        for _ in range(2):
            ops.gradient_clip(f.parameters, f.control)
            update(ops, f)
            ops.finish_step(f.control)
        found = {"values": f.parameters.values, "first": f.state[0], "second": f.state[1], "third": f.third}
        return found | {"step": f.control.step}

    @case(op, f"{label}-scaled", tolerance="sum", flat=True)
    def run_scaled(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
        """Three steps of float16's kind, the second skipped, with and without a copy of the weights in 16 bits."""
        outputs: Outputs = {}
        for low in (None, np.float16, ml_dtypes.bfloat16) if dtype == np.float32 else (None,):
            f = flat(ops, rng, dtype, n, batch, 2.0**10, low, **control)
            gradients, losses = ops.copy(f.parameters.gradients), ops.zeros(batch, dtype)
            for step in range(3):
                # The first and the last gradient are of the scale that they meet: 2¹⁰, and half of it after the skip.
                ops.scale(gradients, 1.0 if step == 0 else 0.5, f.parameters.gradients)
                if step == 1:
                    ops.fill(f.parameters.gradients, np.inf)
                ops.check_finite(losses, f.parameters, f.control)
                update(ops, f)
                ops.finish_step(f.control)
            found = {"values": f.parameters.values, "first": f.state[0], "second": f.state[1], "step": f.control.step}
            found |= scaling_arrays(f.control.loss_scaling)
            if f.parameters.low is not None:
                found["low"] = f.parameters.low
            outputs |= {f"{name}-{low and np.dtype(low)}": value for name, value in found.items()}
        return outputs


RULE_CASES: dict[str, tuple[str, tuple[float, ...], int, float]] = {
    "nadam": ("nadam", (0.9, 0.999, 1e-8, 0.96**0.004), 2, 0.0),
    "nadam decay": ("nadam", (0.5, 0.9, 1e-4, 0.5), 2, 0.1),
    "radam before": ("radam", (0.9, 0.99, 1e-8), 2, 0.1),
    "radam plain": ("radam", (0.9, 0.5, 1e-8), 2, 0.0),
    "radam rectified": ("radam", (0.8, 0.9, 1e-4), 2, 0.1),
    "adamax": ("adamax", (0.9, 0.999, 1e-8), 2, 0.1),
    "adadelta": ("adadelta", (0.9, 1e-6), 2, 0.1),
    "lion": ("lion", (0.9, 0.99), 1, 0.1),
    "amsgrad": ("amsgrad", (0.9, 0.9, 1e-8), 3, 0.0),
    "centered": ("centered", (0.9, 1e-2, 0.0), 2, 0.1),
    "centered momentum": ("centered", (0.9, 1e-2, 0.5), 3, 0.0),
    "along": ("along", (), 1, 0.1),
}
"""Of `update_by_rule`: rule, settings, arrays of state, weight decay."""


def _register_updates() -> None:
    updates: list[tuple[str, str, Callable[[Ops, Flat], None]]] = [
        ("sgd_update", "plain", lambda o, f: o.sgd_update(f.parameters, f.control, 0.0, False, None)),
        ("sgd_update", "momentum", lambda o, f: o.sgd_update(f.parameters, f.control, 0.9, False, f.state[0])),
        ("sgd_update", "nesterov", lambda o, f: o.sgd_update(f.parameters, f.control, 0.9, True, f.state[0])),
        ("adam_update", "adam", lambda o, f: o.adam_update(f.parameters, f.control, 0.9, 0.999, 1e-8, 0.0, *f.state)),
        ("adam_update", "adamw", lambda o, f: o.adam_update(f.parameters, f.control, 0.9, 0.999, 1e-8, 0.1, *f.state)),
        ("adam_update", "beta0", lambda o, f: o.adam_update(f.parameters, f.control, 0.0, 0.9, 1e-8, 0.0, *f.state)),
        (
            "rmsprop_update",
            "plain",
            lambda o, f: o.rmsprop_update(f.parameters, f.control, 0.99, 1e-8, 0.0, f.state[0], None),
        ),
        (
            "rmsprop_update",
            "momentum",
            lambda o, f: o.rmsprop_update(f.parameters, f.control, 0.99, 1e-8, 0.9, *f.state),
        ),
        ("adagrad_update", "plain", lambda o, f: o.adagrad_update(f.parameters, f.control, 0.0, 1e-10, f.state[0])),
        (
            "adagrad_update",
            "decay",
            lambda o, f: o.adagrad_update(f.parameters, f.control, 0.1, 1e-10, f.state[0], 0.1),
        ),
        (
            "rmsprop_update",
            "weight decay",
            lambda o, f: o.rmsprop_update(f.parameters, f.control, 0.99, 1e-8, 0.0, f.state[0], None, 0.1),
        ),
        (
            "sgd_update",
            "weight decay",
            lambda o, f: o.sgd_update(f.parameters, f.control, 0.9, False, f.state[0], 0.1),
        ),
    ]
    for label, (rule, settings, n_state, decay) in RULE_CASES.items():

        def by_rule(o: Ops, f: Flat, rule: str = rule, n: int = n_state, given: Any = (settings, decay)) -> None:
            state = [f.third, *f.state][:n] if rule == "centered" else [*f.state, f.third][:n]
            o.update_by_rule(f.parameters, f.control, rule, given[0], state, given[1])

        updates.append(("update_by_rule", label, by_rule))
    for op, label, update in updates:
        _register_update(op, label, update)
        _register_update(op, f"{label}-clipped", update, max_norm=0.7, max_value=0.01)


_register_updates()


def _momentum(nesterov: bool, **control: Any) -> Run:
    def run(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
        outputs: Outputs = {}
        for loss_scale in (None, 2.0**10):
            f = flat(ops, rng, dtype, n, batch, loss_scale, **control)
            whole = f.parameters
            *learning, last = whole.segments
            whole.divide((*learning, replace(last, frozen=True)), ())
            values, out = ops.copy(whole.values), ops.zeros(whole.values.size, dtype)
            for step in range(3):
                if loss_scale is not None and step == 1:
                    ops.fill(f.control.loss_scaling.skip, 4)  # type: ignore[union-attr]
                ops.gradient_clip(whole, f.control)
                ops.momentum_direction(whole, f.control, 0.9, nesterov, f.state[0], out)
                if loss_scale is not None:
                    ops.fill(f.control.loss_scaling.skip, -1)  # type: ignore[union-attr]
            found = {
                "m": f.state[0],
                "out": out,
                "moved": ops.asarray(ops.to_numpy(whole.values) - ops.to_numpy(values)),
            }
            outputs |= {f"{name}-{loss_scale}": value for name, value in found.items()}
        return outputs

    return run


for _nesterov in (False, True):
    for _label, _control in (("plain", {}), ("clipped", {"max_norm": 0.7, "max_value": 0.01})):
        _case = case("momentum_direction", f"{_label}-{_nesterov}", tolerance="sum", flat=True)
        _case(_momentum(_nesterov, **_control))


@case("normalize_matrices", tolerance="sum", flat=True)
def _normalize_matrices(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    outputs: Outputs = {}
    for groups in (1, 3):
        x = rng.normal(size=(groups, n * batch + n))
        x[-1] *= 1e-4
        for eps in (1e-7, 0.5):
            X = ops.asarray(x.copy(), dtype)
            ops.normalize_matrices(X, groups, eps)
            outputs[f"{groups} {eps}"] = X
    X = ops.zeros(n, dtype)
    ops.normalize_matrices(X, 1, 1e-7)
    huge = ops.asarray(np.full(n, np.sqrt(np.finfo(dtype).max) * 1.5), dtype)
    with np.errstate(over="ignore"):
        ops.normalize_matrices(huge, 1, 1e-7)
    return outputs | {"zeros": X, "huge": huge}


@case("add_to_diagonal")
def _add_to_diagonal(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    X = ops.asarray(rng.normal(size=(3, n, n)), dtype)
    ops.add_to_diagonal(X, -1.25)
    return {"X": X}


@case("batched_gemm", tolerance="sum")
def _batched_gemm(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    outputs: Outputs = {}
    for groups in (1, 3):
        X = ops.asarray(rng.normal(size=(groups, n, n + 2)), dtype)
        square, wide = ops.empty((groups, n, n), dtype), ops.empty((groups, n, n + 2), dtype)
        ops.batched_gemm(X, X.swapaxes(1, 2), square, 0.5)
        ops.batched_gemm(square, X, wide)
        outputs |= {f"square {groups}": square, f"wide {groups}": wide}
    return outputs


# Batches


@case("gather_rows")
@case("store_rows")
def _rows(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    n_samples = 2 * batch + 5
    order, cursor = ops.asarray(rng.permutation(n_samples)), ops.asarray(np.array([3]))
    outputs: Outputs = {}
    for source in (np.uint8, np.float32, np.float64):
        X = ops.asarray(rng.integers(0, 256, size=(n_samples, n)), source)
        out = ops.empty((batch, n), dtype)
        ops.gather_rows(X, order, cursor, out)
        outputs[f"{np.dtype(source)}-plain"] = ops.to_numpy(out).copy()
        ops.gather_rows(X, order, cursor, out, 1 / 255, -0.5)
        outputs[f"{np.dtype(source)}-scaled"] = out
    labels = ops.empty(batch, np.int64)
    ops.gather_rows(ops.asarray(rng.integers(0, 10, n_samples)), order, cursor, labels)
    stored, kept = ops.zeros((n_samples, n), dtype), ops.zeros(n_samples, np.int64)
    ops.store_rows(out, cursor, stored)
    ops.store_rows(labels, cursor, kept)
    return {**outputs, "labels": labels, "stored": stored, "kept": kept}


@case("gather_batch")
def _gather_batch(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    n_samples = batch + 4
    order, cursor = ops.asarray(rng.permutation(n_samples)), ops.asarray(np.array([2]))
    counter, position = ops.asarray(np.array([7])), ops.zeros(1, np.int64)
    table, rate = ops.asarray(rng.normal(size=3)), ops.zeros(1, np.float64)
    labels, values = ops.asarray(rng.integers(0, 9, n_samples)), ops.asarray(rng.normal(size=(n_samples, 3)), dtype)
    weights = ops.asarray(rng.random(n_samples), dtype)
    outputs: Outputs = {}
    for source, targets, weight, scale, shift, rates in (
        (np.uint8, labels, None, 1 / 255, -0.5, (table, position, rate)),
        (dtype, values, weights, 1.0, 0.0, None),
        (np.float16, labels, weights, 2.0, 0.0, (table, position, rate)),
    ):
        X = ops.asarray(rng.integers(0, 256, size=(n_samples, n)), source)
        out, out_targets = ops.empty((batch, n), dtype), ops.empty((batch, *targets.shape[1:]), targets.dtype)
        out_weight = None if weight is None else ops.empty(batch, dtype)
        outs = out, out_targets, out_weight
        ops.gather_batch((X, targets, weight), order, cursor, outs, counter, scale, shift, rates)
        name = f"{np.dtype(source)}-"
        outputs |= {f"{name}X": out, f"{name}targets": out_targets}
        outputs |= {} if out_weight is None else {f"{name}weights": out_weight}
    return {**outputs, "counter": counter, "position": position, "rate": rate}


@case("count_nonfinite")
def _nonfinite(ops: Ops, rng: np.random.Generator, dtype: Any, n: int, batch: int) -> Outputs:
    X = rng.normal(size=(batch, n)).astype(dtype)
    count = ops.zeros(1, np.int64)
    ops.count_nonfinite(ops.asarray(X), count)
    none = ops.to_numpy(count).copy()
    X.reshape(-1)[::3] = np.nan
    X.reshape(-1)[1::5] = -np.inf
    ops.count_nonfinite(ops.asarray(X).T, count)
    return {"none": none, "some": count}
