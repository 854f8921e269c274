"""Plain passes over memory: sums, multiples and casts of matrices, sums over the samples, results to their place."""

from __future__ import annotations

import numpy as np

from ._activations import LAYERS, SMALLEST, elements, operations
from ._bytes import moved, of_stored_rows
from ._operation import Inputs, Operation, Side, TorchSide, Work

_SCALE, _SHIFT = 1 / 255, -0.5


def _draw(rng: np.random.Generator, n: int, batch: int) -> Inputs:
    return {
        "x": rng.normal(size=(batch, n)),
        "y": rng.normal(size=(batch, n)),
        "pixels": rng.integers(0, 256, (batch, n), np.uint8),
    }


def _add(side: Side, given: Inputs) -> Work:
    x, y = side.samples(given["x"]), side.samples(given["y"])
    out = side.matrix(*x.shape)
    return Work(lambda: side.ops.add(x, y, out), lambda: {"out": side.host(out)})


def _torch_add(side: TorchSide, given: Inputs) -> Work:
    x, y = side.tensor(given["x"]), side.tensor(given["y"])
    out = side.empty(*x.shape)
    return Work(lambda: side.torch.add(x, y, out=out), lambda: {"out": side.host(out)})


def _scale(side: Side, given: Inputs) -> Work:
    x = side.samples(given["x"])
    out = side.matrix(*x.shape)
    return Work(lambda: side.ops.scale(x, _SCALE, out), lambda: {"out": side.host(out)})


def _torch_scale(side: TorchSide, given: Inputs) -> Work:
    x = side.tensor(given["x"])
    out = side.empty(*x.shape)
    return Work(lambda: side.torch.mul(x, _SCALE, out=out), lambda: {"out": side.host(out)})


def _cast(side: Side, given: Inputs) -> Work:
    pixels = side.samples(given["pixels"])
    out = side.matrix(*pixels.shape)
    return Work(lambda: side.ops.cast(pixels, out, _SCALE, _SHIFT), lambda: {"out": side.host(out)})


def _torch_cast(side: TorchSide, given: Inputs) -> Work:
    pixels = side.tensor(given["pixels"])
    out = side.empty(*pixels.shape)
    return Work(lambda: out.copy_(pixels).mul_(_SCALE).add_(_SHIFT), lambda: {"out": side.host(out)})


def _row_sum(side: Side, given: Inputs) -> Work:
    x = side.samples(given["x"])
    out = side.sums(x.shape[0])
    return Work(lambda: side.ops.row_sum(x, out), lambda: {"out": side.host(out)})


def _torch_row_sum(side: TorchSide, given: Inputs) -> Work:
    x = side.tensor(given["x"])
    wide = side.torch.float64 if x.dtype == side.torch.float64 else side.torch.float32
    out = side.torch.empty(x.shape[1], dtype=wide, device=side.device)
    return Work(lambda: side.torch.sum(x, 0, dtype=wide, out=out), lambda: {"out": side.host(out)})


def _store_rows(side: Side, given: Inputs) -> Work:
    rows, cursor = side.rows(given["x"]), side.ops.zeros(1, np.int64)
    out = side.ops.empty(rows.shape, side.wide)
    return Work(lambda: side.ops.store_rows(rows, cursor, out), lambda: {"out": side.host(out.T)})


def _torch_store_rows(side: TorchSide, given: Inputs) -> Work:
    rows = side.tensor(given["x"])
    wide = side.torch.float64 if rows.dtype == side.torch.float64 else side.torch.float32
    out = side.torch.empty(rows.shape, dtype=wide, device=side.device)
    return Work(lambda: out[: rows.shape[0]].copy_(rows), lambda: {"out": side.host(out)})


ELEMENTWISE_PASSES = [
    Operation(name, "elementwise", LAYERS, SMALLEST, _draw, ours, {"": torch}, operations(flops), n_bytes, elements)
    for name, ours, torch, flops, n_bytes in (
        ("add", _add, _torch_add, 1, moved(3)),
        ("scale", _scale, _torch_scale, 1, moved(2)),
        ("cast_bytes", _cast, _torch_cast, 2, moved(1, byte_matrices=1)),
        ("row_sum", _row_sum, _torch_row_sum, 1, moved(1, per_unit=1)),
        ("store_rows", _store_rows, _torch_store_rows, 0, of_stored_rows),
    )
]
