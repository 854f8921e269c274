"""Softmax, cross-entropy and their gradient in one; and the gathering of a batch, which comes before everything."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._operation import Inputs, Operation, Side, TorchSide, Work

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


CROSS_ENTROPY = Operation(
    "softmax_cross_entropy",
    "softmax_cross_entropy",
    tuple({"n_classes": n, "batch": b} for n, b in ((10, 32), (10, 128), (10, 512), (1000, 256))),
    {"n_classes": 2, "batch": 1},
    _draw,
    _cross_entropy,
    {"": _torch_cross_entropy},
    lambda n_classes, batch: 6.0 * n_classes * batch,
    lambda itemsize, n_classes, batch: 2.0 * itemsize * n_classes * batch + (8.0 + itemsize) * batch,
    lambda n_classes, batch: 0,
)


# out_j = X[order[cursor + j]]


def _draw_data(rng: np.random.Generator, n_samples: int, n_features: int, batch: int) -> Inputs:
    pixels = rng.integers(0, 128, (n_samples, n_features), np.uint8)
    # Whole numbers of seven bits are themselves in every dtype, and quick to draw for a whole data set.
    return {"X": pixels.astype(np.float32), "order": rng.permutation(n_samples), "batch": np.array(batch)}


def _gather(side: Side, given: Inputs) -> Work:
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
        ops.gather_rows(X, order, cursor, out)

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


GATHER = Operation(
    "gather",
    "gather",
    tuple({"n_samples": 20_000, "n_features": n, "batch": b} for n, b in ((64, 32), (784, 32), (784, 128), (784, 512))),
    {"n_samples": 2, "n_features": 1, "batch": 1},
    _draw_data,
    _gather,
    {"": _torch_gather},
    lambda n_samples, n_features, batch: 0.0,
    lambda itemsize, n_samples, n_features, batch: 2.0 * itemsize * n_features * batch + 8.0 * batch,
    lambda n_samples, n_features, batch: 0,
)
