"""The optimizers' updates over one flat buffer of parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..._types import Array
from ...backend import FlatParameters, Ops, Segment, StepControl
from ._bytes import of_parameters
from ._operation import Inputs, Operation, Side, TorchSide, Work

_SIZES = tuple({"n_parameters": n} for n in (8_970, 101_770, 669_706, 5_824_522))
"""64-64-64-10, 784-128-10, 784-512-512-10 and 784-2048-2048-10."""
_RATE = 1e-3

_Update = Callable[[Ops, FlatParameters, StepControl, list[Array]], None]


def _draw(rng: np.random.Generator, n_parameters: int) -> Inputs:
    # Small values: of a large one the change, which is what is compared, would keep few digits.
    return {"values": 0.01 * rng.normal(size=n_parameters), "gradients": rng.normal(size=n_parameters)}


def _control(ops: Ops, max_norm: float | None = None) -> StepControl:
    return StepControl(
        step=ops.zeros(1, np.int64),
        learning_rate=ops.asarray(np.array([_RATE])),
        clip_scale=ops.asarray(np.array([1.0])),
        failed_step=ops.asarray(np.array([-1])),
        max_norm=max_norm,
    )


def _ours(update: _Update) -> Callable[[Side, Inputs], Work]:
    def build(side: Side, given: Inputs) -> Work:
        ops, n = side.ops, given["values"].size
        segments = (Segment(0, n, decay=1.0),)
        low = None if side.dtype == side.wide else ops.empty(n, side.dtype)
        flat = FlatParameters(side.vector(given["values"]), side.vector(given["gradients"]), segments, low)
        state = [ops.zeros(n, side.wide) for _ in range(2)]
        control = _control(ops)

        def call() -> None:
            update(ops, flat, control, state)
            ops.finish_step(control)

        return Work(call, lambda: {"change": side.host(flat.values) - given["values"]})

    return build


def _torch(name: str, **settings: Any) -> Callable[[TorchSide, Inputs], Work]:
    def build(side: TorchSide, given: Inputs) -> Work:
        if side.dtype in (side.torch.float16, side.torch.bfloat16):
            raise NotImplementedError("its optimizers write no 16-bit copy of float32 parameters")
        values = side.torch.nn.Parameter(side.tensor(given["values"]))
        values.grad = side.tensor(given["gradients"])
        optimizer = getattr(side.torch.optim, name)([values], lr=_RATE, **settings)
        return Work(optimizer.step, lambda: {"change": side.host(values) - given["values"]})

    return build


def _peers(name: str, variants: tuple[str, ...], **settings: Any) -> dict[str, Callable[[TorchSide, Inputs], Work]]:
    return {variant: _torch(name, **settings, **{variant: True}) for variant in variants}


_BOTH = ("foreach", "fused")
_ADAM = {"betas": (0.9, 0.999), "eps": 1e-8}
_UPDATES: tuple[tuple[str, _Update, dict[str, Callable[..., Work]], int, int], ...] = (
    # name, update, peers, floating-point operations and numbers moved per parameter
    ("sgd", lambda o, f, c, s: o.sgd_update(f, c, 0.9, False, s[0]), _peers("SGD", _BOTH, momentum=0.9), 4, 5),
    ("adam", lambda o, f, c, s: o.adam_update(f, c, 0.9, 0.999, 1e-8, 0.0, *s), _peers("Adam", _BOTH, **_ADAM), 10, 7),
    (
        "adamw",
        lambda o, f, c, s: o.adam_update(f, c, 0.9, 0.999, 1e-8, 0.01, *s),
        _peers("AdamW", _BOTH, weight_decay=0.01, **_ADAM),
        11,
        7,
    ),
    (
        "rmsprop",
        lambda o, f, c, s: o.rmsprop_update(f, c, 0.99, 1e-8, 0.0, s[0], None),
        _peers("RMSprop", ("foreach",), alpha=0.99, eps=1e-8),
        9,
        5,
    ),
    ("adagrad", lambda o, f, c, s: o.adagrad_update(f, c, 0.0, 1e-10, s[0]), _peers("Adagrad", _BOTH, eps=1e-10), 7, 5),
    (
        "nadam",
        lambda o, f, c, s: o.update_by_rule(f, c, "nadam", (0.9, 0.999, 1e-8, 0.96**0.004), s),
        _peers("NAdam", ("foreach",), momentum_decay=0.004, **_ADAM),
        13,
        7,
    ),
)


def _per_parameter(each: int) -> Callable[..., float]:
    return lambda n_parameters: float(each * n_parameters)


UPDATES = [
    Operation(
        name,
        "optimizers",
        _SIZES,
        {"n_parameters": 1},
        _draw,
        _ours(update),
        torch,
        _per_parameter(flops),
        of_parameters(numbers, low=True),
        lambda n_parameters: n_parameters,
        checked_calls=3,
    )
    for name, update, torch, flops, numbers in _UPDATES
]


# What comes before an update: the penalty, the penalized gradient, and the check of losses and gradients with the norm

_LOSSES = 128


def _penalized(side: Side, given: Inputs) -> FlatParameters:
    segments = (Segment(0, given["values"].size, l2=1e-3),)
    return FlatParameters(side.vector(given["values"]), side.vector(given["gradients"]), segments)


def _penalty(side: Side, given: Inputs) -> Work:
    flat, total = _penalized(side, given), side.ops.zeros(1, np.float64)
    return Work(lambda: side.ops.penalty(flat, total), lambda: {"penalty": side.host(total)})


def _penalized_gradient(side: Side, given: Inputs) -> Work:
    flat = _penalized(side, given)
    out = side.ops.empty(flat.values.shape, side.wide)
    return Work(lambda: side.ops.penalized_gradient(flat, out), lambda: {"gradient": side.host(out)})


def _check_finite(side: Side, given: Inputs) -> Work:
    ops, flat = side.ops, _penalized(side, given)
    losses, control = ops.zeros(_LOSSES, side.wide), _control(ops, max_norm=0.5)
    return Work(
        lambda: ops.check_finite(losses, flat, control),
        lambda: {"clip_scale": side.host(control.clip_scale), "failed_step": side.host(control.failed_step)},
    )


CHECKS = [
    Operation(
        name,
        "optimizers",
        _SIZES,
        {"n_parameters": 1},
        _draw,
        ours,
        {},
        _per_parameter(flops),
        n_bytes,
        lambda n_parameters: n_parameters,
    )
    for name, ours, flops, n_bytes in (
        ("penalty", _penalty, 2, of_parameters(1)),
        ("penalized_gradient", _penalized_gradient, 2, of_parameters(3)),
        ("check_finite", _check_finite, 6, of_parameters(2, losses=_LOSSES)),
    )
]
"""PyTorch has no one call for any of them."""
