"""The primitives that `fcnn-gpu bench operations` leaves out: no peer has a counterpart, or they are small."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fcnn_gpu.backend._ops import FlatParameters, Segment, StepControl
from fcnn_gpu.bench.operations import Operation, Work
from fcnn_gpu.bench.operations._operation import Inputs, Side

_SIZES = tuple({"n": n, "batch": batch} for n, batch in ((10, 128), (128, 128), (1024, 1024)))
_SMALLEST = {"n": 4, "batch": 8}
_PARAMETERS = tuple({"n_parameters": n} for n in (101_770, 5_824_522))
_RATE = 1e-3

Build = Callable[[Side, Inputs], Work]


def _draw(rng: np.random.Generator, n: int, batch: int) -> Inputs:
    return {"Z": rng.normal(size=(batch, n)), "Y": rng.uniform(0.0, 1.0, size=(batch, n))}


def _draw_parameters(rng: np.random.Generator, n_parameters: int) -> Inputs:
    return {"values": 0.01 * rng.normal(size=n_parameters), "gradients": rng.normal(size=n_parameters)}


def _row_sum(side: Side, given: Inputs) -> Work:
    Z = side.samples(given["Z"])
    out = side.ops.empty((Z.shape[0], 1), side.wide)
    return Work(lambda: side.ops.row_sum(Z, out), lambda: {"out": side.host(out)})


def _softmax(side: Side, given: Inputs) -> Work:
    Z = side.samples(given["Z"])
    out = side.matrix(*Z.shape)
    return Work(lambda: side.ops.softmax(Z, out), lambda: {"out": side.host(out)})


def _softmax_backward(side: Side, given: Inputs) -> Work:
    A, dA = side.samples(given["Y"] / given["Y"].sum(axis=1, keepdims=True)), side.samples(given["Z"])
    dZ = side.matrix(*dA.shape)
    return Work(lambda: side.ops.softmax_backward(dA, A, dZ), lambda: {"dZ": side.host(dZ)})


def _loss(kind: str) -> Build:
    def build(side: Side, given: Inputs) -> Work:
        Z = side.samples(given["Z"])
        Y = side.ops.asarray(np.array(given["Y"], side.wide)).T
        dZ, losses = side.matrix(*Z.shape), side.ops.empty(Z.shape[1], side.wide)
        return Work(
            lambda: side.ops.elementwise_loss(Z, Y, kind, 1.0, None, losses, dZ),
            lambda: {"losses": side.host(losses), "dZ": side.host(dZ)},
        )

    return build


def _store_rows(side: Side, given: Inputs) -> Work:
    rows, cursor = side.rows(given["Z"]), side.ops.zeros(1, np.int64)
    out = side.ops.zeros(rows.shape, side.wide)
    return Work(lambda: side.ops.store_rows(rows, cursor, out), lambda: {"out": side.host(out.T)})


def _cast(side: Side, given: Inputs) -> Work:
    """Pixels of one byte to activations, as `Trainer` maps stored samples."""
    pixels = side.ops.asarray((255 * given["Y"]).astype(np.uint8))
    out = side.ops.empty(pixels.shape, side.dtype)
    return Work(lambda: side.ops.cast(pixels, out, 1 / 255, -0.5), lambda: {"out": side.host(out.T)})


def _flat(side: Side, given: Inputs, penalized: bool) -> FlatParameters:
    n = given["values"].size
    values, gradients = (side.ops.asarray(np.array(given[name], side.wide)) for name in ("values", "gradients"))
    penalty = {"l1": 1e-4, "l2": 1e-4} if penalized else {}
    return FlatParameters(values, gradients, (Segment(0, n, decays=True, **penalty),))


def _check_finite(penalized: bool) -> Build:
    """The look at a step's health; with a penalty and a limit of the norm it reads the parameters too."""

    def build(side: Side, given: Inputs) -> Work:
        ops, flat = side.ops, _flat(side, given, penalized)
        losses = ops.zeros(8, side.wide)
        control = StepControl(
            step=ops.zeros(1, np.int64),
            learning_rate=ops.asarray(np.array([_RATE])),
            clip_scale=ops.asarray(np.array([1.0])),
            failed_step=ops.asarray(np.array([-1])),
            max_norm=1.0 if penalized else None,
        )
        return Work(
            lambda: ops.check_finite(losses, flat, control),
            lambda: {"failed": side.host(control.failed_step), "clip_scale": side.host(control.clip_scale)},
        )

    return build


def _penalized_gradient(side: Side, given: Inputs) -> Work:
    flat = _flat(side, given, True)
    return Work(
        lambda: side.ops.penalized_gradient(flat, flat.gradients), lambda: {"gradients": side.host(flat.gradients)}
    )


def _nothing(n: int, batch: int) -> float:
    return 0.0


def _arrays(count: float, wide: float = 0.0) -> Callable[..., float]:
    """So many (n, batch) arrays in the number type, and `wide` more in the parameters'."""
    return lambda itemsize, n, batch: (count * itemsize + wide * max(itemsize, 4)) * n * batch


def _numbers(count: int) -> Callable[..., float]:
    return lambda itemsize, n_parameters: float(count * max(itemsize, 4) * n_parameters)


MORE: dict[str, Operation] = {
    name: Operation(name, "more", _SIZES, _SMALLEST, _draw, build, {}, _nothing, moved, lambda n, batch: 0)
    for name, build, moved in (
        ("row_sum", _row_sum, _arrays(1)),
        ("softmax", _softmax, _arrays(2)),
        ("softmax_backward", _softmax_backward, _arrays(3)),
        ("mse", _loss("mse"), _arrays(2, 1)),
        ("binary_cross_entropy", _loss("binary_cross_entropy"), _arrays(2, 1)),
        ("store_rows", _store_rows, _arrays(1, 1)),
        ("cast_pixels", _cast, lambda itemsize, n, batch: (1.0 + itemsize) * n * batch),
    )
} | {
    name: Operation(
        name,
        "more",
        _PARAMETERS,
        {"n_parameters": 1},
        _draw_parameters,
        build,
        {},
        lambda n_parameters: 0.0,
        moved,
        lambda n_parameters: 0,
    )
    for name, build, moved in (
        ("check_finite", _check_finite(False), _numbers(1)),
        ("check_finite_and_norm", _check_finite(True), _numbers(2)),
        ("penalized_gradient", _penalized_gradient, _numbers(3)),
    )
}
"""By name, in the order of a training step."""
