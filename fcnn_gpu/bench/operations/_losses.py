"""Losses in one with their gradients, softmax; and the gathering of a batch, which comes before everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._bytes import of_logits, of_rows
from ._operation import Inputs, Operation, Side, TorchSide, Work


def per_logit(each: int) -> Callable[..., float]:
    """So many floating-point operations per output of the network."""
    return lambda n_classes, batch: float(each * n_classes * batch)


def per_feature(each: int) -> Callable[..., float]:
    """So many floating-point operations per number of the batch."""
    return lambda n_samples, n_features, batch: float(each * n_features * batch)


# ℓ_j = log Σ_c e^z_cj − z_yj, dZ = (softmax(Z) − Y)/batch


def _draw(rng: np.random.Generator, n_classes: int, batch: int) -> Inputs:
    return {"Z": rng.normal(size=(batch, n_classes)) * 3.0, "labels": rng.integers(0, n_classes, batch)}


def _cross_entropy(side: Side, given: Inputs) -> Work:
    Z, labels = side.samples(given["Z"]), side.ops.asarray(given["labels"])
    dZ, losses = side.matrix(*Z.shape), side.ops.empty(Z.shape[1], side.wide)
    return Work(
        lambda: side.ops.softmax_cross_entropy(Z, labels, None, None, 0.0, losses, dZ),
        lambda: {"loss": np.array(side.host(losses).mean()), "dZ": side.host(dZ)},
    )


def _torch_cross_entropy(side: TorchSide, given: Inputs) -> Work:
    Z, labels = side.tensor(given["Z"]).requires_grad_(), side.tensor(given["labels"])
    cross_entropy = side.torch.nn.functional.cross_entropy
    held: list[Any] = []

    def call() -> None:
        Z.grad = None
        loss = cross_entropy(Z, labels)
        loss.backward()
        held[:] = [loss]

    return Work(call, lambda: {"loss": side.host(held[0]), "dZ": side.host(Z.grad)})


# Softmax alone and its full Jacobian, as an output activation under another loss; the mean square error


def _draw_pair(rng: np.random.Generator, n_classes: int, batch: int) -> Inputs:
    return {"Z": rng.normal(size=(batch, n_classes)), "other": rng.normal(size=(batch, n_classes))}


def _softmax(side: Side, given: Inputs) -> Work:
    Z, out = side.samples(given["Z"]), side.matrix(*given["Z"].shape[::-1])
    return Work(lambda: side.ops.softmax(Z, out), lambda: {"A": side.host(out)})


def _torch_softmax(side: TorchSide, given: Inputs) -> Work:
    Z, softmax = side.tensor(given["Z"]), side.torch.ops.aten._softmax.out
    out = side.empty(*Z.shape)
    return Work(lambda: softmax(Z, 1, False, out=out), lambda: {"A": side.host(out)})


def _softmax_backward(side: Side, given: Inputs) -> Work:
    A, dA = side.samples(given["Z"]), side.samples(given["other"])
    dZ = side.matrix(*A.shape)
    return Work(lambda: side.ops.softmax_backward(dA, A, dZ), lambda: {"dZ": side.host(dZ)})


def _torch_softmax_backward(side: TorchSide, given: Inputs) -> Work:
    A, dA = side.tensor(given["Z"]), side.tensor(given["other"])
    dZ, backward = side.empty(*A.shape), side.torch.ops.aten._softmax_backward_data.out
    return Work(lambda: backward(dA, A, 1, A.dtype, grad_input=dZ), lambda: {"dZ": side.host(dZ)})


def _mse(side: Side, given: Inputs) -> Work:
    Z, Y = side.samples(given["Z"]), side.vector(given["other"]).T
    dZ, losses = side.matrix(*Z.shape), side.ops.empty(Z.shape[1], side.wide)
    return Work(
        lambda: side.ops.elementwise_loss(Z, Y, "mse", 0.0, None, losses, dZ),
        lambda: {"loss": np.array(side.host(losses).mean()), "dZ": side.host(dZ)},
    )


def _torch_mse(side: TorchSide, given: Inputs) -> Work:
    Z, Y = side.tensor(given["Z"]).requires_grad_(), side.tensor(given["other"])
    mse_loss = side.torch.nn.functional.mse_loss
    held: list[Any] = []

    def call() -> None:
        Z.grad = None
        loss = mse_loss(Z, Y)
        loss.backward()
        held[:] = [loss]

    return Work(call, lambda: {"loss": side.host(held[0]), "dZ": side.host(Z.grad)})


LOSSES = [
    Operation(
        name,
        "softmax_cross_entropy",
        tuple({"n_classes": n, "batch": b} for n, b in ((10, 32), (10, 128), (10, 512), (1000, 256))),
        {"n_classes": 2, "batch": 1},
        draw,
        ours,
        {"": torch},
        per_logit(flops),
        n_bytes,
        lambda n_classes, batch: 0,
    )
    for name, draw, ours, torch, flops, n_bytes in (
        ("softmax_cross_entropy", _draw, _cross_entropy, _torch_cross_entropy, 6, of_logits(2, labels=1, losses=1)),
        ("softmax", _draw, _softmax, _torch_softmax, 4, of_logits(2)),
        ("softmax_backward", _draw_pair, _softmax_backward, _torch_softmax_backward, 4, of_logits(3)),
        ("mse", _draw_pair, _mse, _torch_mse, 5, of_logits(2, targets=1, losses=1)),
    )
]


# out_j = X[order[cursor + j]]


def _draw_data(rng: np.random.Generator, n_samples: int, n_features: int, batch: int) -> Inputs:
    pixels = rng.integers(0, 128, (n_samples, n_features), np.uint8)
    # Whole numbers of seven bits are themselves in every dtype, and quick to draw for a whole data set.
    return {"X": pixels.astype(np.float32), "order": rng.permutation(n_samples), "batch": np.array(batch)}


def _gather(side: Side, given: Inputs, scale: float = 1.0, shift: float = 0.0) -> Work:
    ops, batch = side.ops, int(given["batch"])
    X, order, cursor = side.rows(given["X"]), ops.asarray(given["order"]), ops.zeros(1, np.int64)
    out = ops.empty((batch, X.shape[1]), side.dtype)
    n_batches, i = X.shape[0] // batch, 0

    def call() -> None:
        # Other rows each time: the same ones would be read from the cache. The place is set and not moved on, so that
        # calls recorded into a graph stay within the data however often that is launched.
        nonlocal i
        ops.fill(cursor, i * batch)
        i = (i + 1) % n_batches
        ops.gather_rows(X, order, cursor, out, scale, shift)

    return Work(call, lambda: {"X_batch": side.host(out.T)})


def _torch_gather(side: TorchSide, given: Inputs) -> Work:
    batch = int(given["batch"])
    X, order = side.tensor(given["X"]), side.tensor(given["order"])
    out = side.empty(batch, X.shape[1])
    n_batches = X.shape[0] // batch
    parts, i = [order[k * batch : (k + 1) * batch] for k in range(n_batches)], 0

    def call() -> None:
        nonlocal i
        side.torch.index_select(X, 0, parts[i], out=out)
        i = (i + 1) % n_batches

    return Work(call, lambda: {"X_batch": side.host(out)})


# out_j = X[order[cursor + j]]/255 − ½ of samples in bytes


def _draw_bytes(rng: np.random.Generator, n_samples: int, n_features: int, batch: int) -> Inputs:
    pixels = rng.integers(0, 256, (n_samples, n_features), np.uint8)
    return {"X": pixels, "order": rng.permutation(n_samples), "batch": np.array(batch)}


def _gather_bytes(side: Side, given: Inputs) -> Work:
    return _gather(side, given, 1 / 255, -0.5)


def _torch_gather_bytes(side: TorchSide, given: Inputs) -> Work:
    batch = int(given["batch"])
    X, order = side.tensor(given["X"]), side.tensor(given["order"])
    rows = side.torch.empty((batch, X.shape[1]), dtype=side.torch.uint8, device=side.device)
    out = side.empty(batch, X.shape[1])
    n_batches, i = X.shape[0] // batch, 0

    def call() -> None:
        nonlocal i
        side.torch.index_select(X, 0, order[i * batch : (i + 1) * batch], out=rows)
        out.copy_(rows).mul_(1 / 255).add_(-0.5)
        i = (i + 1) % n_batches

    return Work(call, lambda: {"X_batch": side.host(out)})


GATHERS = [
    Operation(
        name,
        "gather",
        tuple(
            {"n_samples": 20_000, "n_features": n, "batch": b} for n, b in ((64, 32), (784, 32), (784, 128), (784, 512))
        ),
        {"n_samples": 2, "n_features": 1, "batch": 1},
        draw,
        ours,
        {"": torch},
        per_feature(flops),
        n_bytes,
        lambda n_samples, n_features, batch: 0,
    )
    for name, draw, ours, torch, flops, n_bytes in (
        ("gather", _draw_data, _gather, _torch_gather, 0, of_rows(order=True)),
        ("gather_bytes", _draw_bytes, _gather_bytes, _torch_gather_bytes, 2, of_rows(source=1, order=True)),
    )
]
