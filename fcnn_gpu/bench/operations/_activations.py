"""What stands between the products: bias and activation, their gradient, dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...backend import ELEMENTWISE
from ._bytes import moved
from ._operation import Inputs, Operation, Outputs, Side, TorchSide, Work, largest_deviation

LAYERS = tuple({"n": n, "batch": batch} for n, batch in ((64, 32), (128, 32), (128, 128), (512, 256), (2048, 512)))
"""Widths and batch sizes of the networks that the training benchmark runs."""
SMALLEST = {"n": 4, "batch": 8}  # enough samples and units for a normalization to leave something of them


def elements(n: int, batch: int) -> int:
    return n * batch


def operations(each: int) -> Callable[..., float]:
    """So many floating-point operations per element."""

    def count(n: int, batch: int) -> float:
        return float(each * n * batch)

    return count


# A = f(Z + b)


def _draw_forward(rng: np.random.Generator, n: int, batch: int) -> Inputs:
    return {"Z": rng.normal(size=(batch, n)), "b": rng.normal(size=n)}


def _forward(kind: str) -> Callable[[Side, Inputs], Work]:
    def build(side: Side, given: Inputs) -> Work:
        Z, b = side.samples(given["Z"]), side.column(given["b"])
        A = Z if ELEMENTWISE[kind].from_output else side.matrix(*Z.shape)
        return Work(
            lambda: side.ops.bias_activation(Z, b, kind, 0.0, A),
            lambda: {"A": side.host(A)},
            lambda: side.ops.fill(b, 0.0),  # the bias stays in Z: added a thousand times it would drive Z away
        )

    return build


def _torch_relu(side: TorchSide, given: Inputs) -> Work:
    Z, b = side.tensor(given["Z"]), side.tensor(given["b"])
    return Work(lambda: side.torch.relu_(Z.add_(b)), lambda: {"A": side.host(Z)}, lambda: b.zero_())


def _torch_gelu(side: TorchSide, given: Inputs) -> Work:
    Z, b = side.tensor(given["Z"]), side.tensor(given["b"])
    A, gelu = side.empty(*Z.shape), side.torch.ops.aten.gelu.out
    return Work(lambda: gelu(Z.add_(b), out=A), lambda: {"A": side.host(A)}, lambda: b.zero_())


# dZ = dA ⊙ f′, db = Σ dZ


def _draw_backward(kind: str) -> Callable[..., Inputs]:
    def draw(rng: np.random.Generator, n: int, batch: int) -> Inputs:
        Z = rng.normal(size=(batch, n))
        saved = np.maximum(Z, 0.0) if kind == "relu" else Z  # what its forward pass leaves
        return {"saved": saved, "dA": rng.normal(size=(batch, n))}

    return draw


def _backward(kind: str) -> Callable[[Side, Inputs], Work]:
    def build(side: Side, given: Inputs) -> Work:
        saved, dA = side.samples(given["saved"]), side.samples(given["dA"])
        dZ, db = side.matrix(*dA.shape), side.sums(dA.shape[0])
        return Work(
            lambda: side.ops.activation_backward(dA, saved, kind, 0.0, dZ, db),
            lambda: {"dZ": side.host(dZ), "db": side.host(db)},
        )

    return build


def _torch_backward(gradient: str) -> Callable[[TorchSide, Inputs], Work]:
    """`gradient`: the operator, called with (dA, saved, out) by the name of its out argument, grad_input."""

    def build(side: TorchSide, given: Inputs) -> Work:
        saved, dA = side.tensor(given["saved"]), side.tensor(given["dA"])
        dZ, db = side.empty(*dA.shape), side.empty(dA.shape[1])
        aten = side.torch.ops.aten
        arguments: tuple[Any, ...] = (dA, saved, 0) if gradient == "threshold_backward" else (dA, saved)
        operator = getattr(aten, gradient).grad_input

        def call() -> None:
            operator(*arguments, grad_input=dZ)
            side.torch.sum(dZ, 0, out=db)

        return Work(call, lambda: {"dZ": side.host(dZ), "db": side.host(db)})

    return build


def _activation(
    kind: str, torch: Callable[..., Work], gradient: str, flops_forward: int, flops_backward: int
) -> list[Operation]:
    arrays = 2 if ELEMENTWISE[kind].from_output else 3  # Z is read and written, and A apart where f′ needs Z
    forward, backward = _forward(kind), _backward(kind)
    return [
        Operation(
            f"bias_{kind}",
            "activation",
            LAYERS,
            SMALLEST,
            _draw_forward,
            forward,
            {"": torch},
            operations(flops_forward),
            moved(arrays, per_unit=1),
            elements,
        ),
        Operation(
            f"{kind}_backward",
            "activation",
            LAYERS,
            SMALLEST,
            _draw_backward(kind),
            backward,
            {"": _torch_backward(gradient)},
            operations(flops_backward),
            moved(3, per_unit=1),
            elements,
        ),
    ]


ACTIVATIONS = [
    *_activation("relu", _torch_relu, "threshold_backward", 2, 3),
    *_activation("gelu", _torch_gelu, "gelu_backward", 6, 12),
]


# A = Z + α ⊙ (f(Z) − Z), and its gradients


def _draw_parametric(rng: np.random.Generator, n: int, batch: int) -> Inputs:
    return {"Z": rng.normal(size=(batch, n)), "dA": rng.normal(size=(batch, n)), "p": rng.normal(size=n)}


def _parametric_forward(side: Side, given: Inputs) -> Work:
    Z, p = side.samples(given["Z"]), side.column(given["p"])
    A = side.matrix(*Z.shape)
    return Work(lambda: side.ops.parametric_activation(Z, p, "selu", 0.0, A), lambda: {"A": side.host(A)})


def _parametric_backward(side: Side, given: Inputs) -> Work:
    Z, dA, p = side.samples(given["Z"]), side.samples(given["dA"]), side.column(given["p"])
    dZ, dp = side.matrix(*Z.shape), side.sums(Z.shape[0])
    return Work(
        lambda: side.ops.parametric_activation_backward(dA, Z, p, "selu", 0.0, dZ, dp),
        lambda: {"dZ": side.host(dZ), "dp": side.host(dp)},
    )


def _torch_parametric_forward(side: TorchSide, given: Inputs) -> Work:
    Z, p = side.tensor(given["Z"]), side.tensor(given["p"])
    held: list[Any] = []

    def call() -> None:
        held[:] = [side.torch.lerp(Z, side.torch.nn.functional.selu(Z), p)]

    return Work(call, lambda: {"A": side.host(held[0])})


def _torch_parametric_backward(side: TorchSide, given: Inputs) -> Work:
    torch = side.torch
    Z, dA, p = side.tensor(given["Z"]).requires_grad_(), side.tensor(given["dA"]), side.tensor(given["p"])
    p.requires_grad_()
    A = torch.lerp(Z, torch.nn.functional.selu(Z), p)
    held: list[Any] = []

    def call() -> None:
        held[:] = torch.autograd.grad(A, (Z, p), dA, retain_graph=True)

    return Work(call, lambda: {"dZ": side.host(held[0]), "dp": side.host(held[1])})


PARAMETRIC = [
    Operation(
        name,
        "activation",
        LAYERS,
        SMALLEST,
        _draw_parametric,
        ours,
        {"": torch},
        operations(flops),
        moved(matrices, per_unit=vectors),
        elements,
    )
    for name, ours, torch, flops, matrices, vectors in (
        ("parametric_selu", _parametric_forward, _torch_parametric_forward, 5, 2, 1),
        ("parametric_selu_backward", _parametric_backward, _torch_parametric_backward, 9, 3, 2),
    )
]


# Inverted dropout, p = ½

_P = 0.5


def _draw_dropout(rng: np.random.Generator, n: int, batch: int) -> Inputs:
    return {"A": rng.normal(size=(batch, n)), "keep": (rng.random((batch, n)) >= _P).astype(np.uint8)}


def _dropout_forward(side: Side, given: Inputs) -> Work:
    A, out = side.samples(given["A"]), side.matrix(*given["A"].shape[::-1])
    mask, step = side.ops.matrix(A.shape[0], A.shape[1], np.uint8), side.ops.asarray(np.array([9]))
    return Work(
        lambda: side.ops.dropout_forward(A, _P, (1, 2), step, mask, out),
        lambda: {"A": side.host(A), "out": side.host(out)},
    )


def _torch_dropout_forward(side: TorchSide, given: Inputs) -> Work:
    A = side.tensor(given["A"])
    held: list[Any] = []

    def call() -> None:
        held[:] = [side.torch.dropout(A, _P, True)]

    return Work(call, lambda: {"A": side.host(A), "out": side.host(held[0])})


def _same_dropout(ours: Outputs, theirs: Outputs) -> float:
    """How far the kept ones are from A/(1 − p); infinite if their share is further from 1 − p than chance would have.

    Each library draws its own mask: which elements are kept is not compared.
    """
    A, out = theirs["A"], theirs["out"]
    kept = out != 0.0
    spread = np.sqrt(_P * (1.0 - _P) / kept.size)
    if abs(kept.mean() - (1.0 - _P)) > 6.0 * spread:
        return float("inf")
    expected = np.where(kept, A / (1.0 - _P), 0.0)
    return float(np.max(np.abs(out - expected)) / np.max(np.abs(expected), initial=1e-300))


def _dropout_backward(side: Side, given: Inputs) -> Work:
    dA, mask = side.samples(given["A"]), side.samples(given["keep"])
    out = side.matrix(*dA.shape)
    return Work(lambda: side.ops.dropout_backward(dA, _P, mask, out), lambda: {"dA": side.host(out)})


def _torch_dropout_backward(side: TorchSide, given: Inputs) -> Work:
    dA, mask = side.tensor(given["A"]), side.tensor(given["keep"]).bool()
    out, backward = side.empty(*dA.shape), side.torch.ops.aten.native_dropout_backward.out
    return Work(lambda: backward(dA, mask, 1.0 / (1.0 - _P), out=out), lambda: {"dA": side.host(out)})


DROPOUT = [
    Operation(
        name,
        "dropout",
        LAYERS,
        SMALLEST,
        _draw_dropout,
        ours,
        {"": torch},
        operations(2),
        moved(2, byte_matrices=1),
        elements,
        deviation=deviation,
    )
    for name, ours, torch, deviation in (
        ("dropout_forward", _dropout_forward, _torch_dropout_forward, _same_dropout),
        ("dropout_backward", _dropout_backward, _torch_dropout_backward, largest_deviation),
    )
]
