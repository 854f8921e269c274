"""The three matrix products of a Dense layer: nearly all the arithmetic of a network."""

from __future__ import annotations

import numpy as np

from ._operation import Inputs, Operation, Side, TorchSide, Work

_SIZES = tuple(
    {"n_out": n_out, "n_in": n_in, "batch": batch}
    for n_out, n_in, batch in (
        (64, 64, 32),
        (10, 128, 128),
        (128, 784, 32),
        (128, 784, 128),
        (512, 512, 256),
        (512, 784, 256),
        (2048, 2048, 512),
    )
)
"""Layers of the networks that the training benchmark runs."""
_SMALLEST = {"n_out": 1, "n_in": 1, "batch": 1}


def _draw(rng: np.random.Generator, n_out: int, n_in: int, batch: int) -> Inputs:
    return {
        "W": rng.normal(size=(n_out, n_in)) / np.sqrt(n_in),
        "X": rng.normal(size=(batch, n_in)),
        "dZ": rng.normal(size=(batch, n_out)),
    }


def _flops(n_out: int, n_in: int, batch: int) -> float:
    return 2.0 * n_out * n_in * batch


def _bytes(itemsize: int, n_out: int, n_in: int, batch: int) -> float:
    return itemsize * float(n_out * n_in + n_in * batch + n_out * batch)


def _not_tiled(n_out: int, n_in: int, batch: int) -> int:
    return 0


# Z = W A₀


def _forward(side: Side, given: Inputs) -> Work:
    W, A0 = side.weights(given["W"]), side.samples(given["X"])
    Z = side.matrix(W.shape[0], A0.shape[1])
    return Work(lambda: side.ops.gemm(W, A0, Z), lambda: {"Z": side.host(Z)})


def _torch_forward(side: TorchSide, given: Inputs) -> Work:
    Wt, X = side.tensor(given["W"]).T, side.tensor(given["X"])
    Z = side.empty(X.shape[0], Wt.shape[1])
    return Work(lambda: side.torch.mm(X, Wt, out=Z), lambda: {"Z": side.host(Z)})


# dW = dZ A₀ᵀ


def _weight_gradient(side: Side, given: Inputs) -> Work:
    A0t, dZ = side.rows(given["X"]), side.samples(given["dZ"])
    dW = side.ops.empty((A0t.shape[1], dZ.shape[0]), side.dtype).T
    return Work(lambda: side.ops.gemm(dZ, A0t, dW), lambda: {"dW": side.host(dW)})


def _torch_weight_gradient(side: TorchSide, given: Inputs) -> Work:
    X, dZt = side.tensor(given["X"]), side.tensor(given["dZ"]).T
    dW = side.empty(dZt.shape[0], X.shape[1])
    return Work(lambda: side.torch.mm(dZt, X, out=dW), lambda: {"dW": side.host(dW.T)})


# dA₀ = Wᵀ dZ


def _input_gradient(side: Side, given: Inputs) -> Work:
    Wt, dZ = side.weights(given["W"]).T, side.samples(given["dZ"])
    dA0 = side.matrix(Wt.shape[0], dZ.shape[1])
    return Work(lambda: side.ops.gemm(Wt, dZ, dA0), lambda: {"dA0": side.host(dA0)})


def _torch_input_gradient(side: TorchSide, given: Inputs) -> Work:
    W, dZ = side.tensor(given["W"]), side.tensor(given["dZ"])
    dA0 = side.empty(dZ.shape[0], W.shape[1])
    return Work(lambda: side.torch.mm(dZ, W, out=dA0), lambda: {"dA0": side.host(dA0)})


PRODUCTS = [
    Operation(name, "gemm", _SIZES, _SMALLEST, _draw, ours, {"": torch}, _flops, _bytes, _not_tiled)
    for name, ours, torch in (
        ("gemm_forward", _forward, _torch_forward),
        ("gemm_weight_gradient", _weight_gradient, _torch_weight_gradient),
        ("gemm_input_gradient", _input_gradient, _torch_input_gradient),
    )
]
