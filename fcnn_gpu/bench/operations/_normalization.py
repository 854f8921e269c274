"""Batch, layer and RMS normalization, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._activations import LAYERS, SMALLEST, elements, operations
from ._bytes import moved
from ._operation import Inputs, Operation, Side, TorchSide, Work

_EPS = 1e-5
_MOMENTUM = 0.1


def _draw(axis: int) -> Any:
    """Inputs of both passes; statistics over the samples (axis 0, batch norm) or over the units (1, layer norm)."""

    def draw(rng: np.random.Generator, n: int, batch: int) -> Inputs:
        X = 3.0 + rng.normal(size=(batch, n))
        mean = X.mean(axis=axis, keepdims=True)
        inv_std = 1.0 / np.sqrt(X.var(axis=axis, keepdims=True) + _EPS)
        return {
            "X": X,
            "gamma": 1.0 + 0.1 * rng.normal(size=n),
            "beta": rng.normal(size=n),
            "running_mean": rng.normal(size=n),
            "running_var": rng.uniform(0.5, 2.0, size=n),
            "dY": rng.normal(size=(batch, n)),
            "mean": mean.reshape(-1),
            "inv_std": inv_std.reshape(-1),
            "x_hat": (X - mean) * inv_std,
        }

    return draw


def _draw_rms(rng: np.random.Generator, n: int, batch: int) -> Inputs:
    X = 1.0 + rng.normal(size=(batch, n))
    inv_rms = 1.0 / np.sqrt((X * X).mean(axis=1, keepdims=True) + _EPS)
    gamma, dY = 1.0 + 0.1 * rng.normal(size=n), rng.normal(size=(batch, n))
    return {"X": X, "gamma": gamma, "dY": dY, "inv_rms": inv_rms.reshape(-1), "x_hat": X * inv_rms}


def _batch_norm_forward(side: Side, given: Inputs) -> Work:
    X, gamma, beta = side.samples(given["X"]), side.column(given["gamma"]), side.column(given["beta"])
    mean, var = side.column(given["running_mean"]), side.column(given["running_var"])
    x_hat, inv_std, out = side.matrix(*X.shape), side.column(given["inv_std"]), side.matrix(*X.shape)
    return Work(
        lambda: side.ops.batch_norm_forward(X, gamma, beta, _EPS, _MOMENTUM, mean, var, x_hat, inv_std, out),
        lambda: {"out": side.host(out), "running_mean": side.host(mean), "running_var": side.host(var)},
    )


def _torch_batch_norm_forward(side: TorchSide, given: Inputs) -> Work:
    X, gamma, beta, mean, var = (side.tensor(given[k]) for k in ("X", "gamma", "beta", "running_mean", "running_var"))
    held: list[Any] = []

    def call() -> None:
        held[:] = side.torch.native_batch_norm(X, gamma, beta, mean, var, True, _MOMENTUM, _EPS)

    return Work(
        call, lambda: {"out": side.host(held[0]), "running_mean": side.host(mean), "running_var": side.host(var)}
    )


def _batch_norm_inference(side: Side, given: Inputs) -> Work:
    X, gamma, beta = side.samples(given["X"]), side.column(given["gamma"]), side.column(given["beta"])
    mean, var, out = side.column(given["running_mean"]), side.column(given["running_var"]), side.matrix(*X.shape)
    return Work(
        lambda: side.ops.batch_norm_inference(X, gamma, beta, _EPS, mean, var, out), lambda: {"out": side.host(out)}
    )


def _torch_batch_norm_inference(side: TorchSide, given: Inputs) -> Work:
    X, gamma, beta, mean, var = (side.tensor(given[k]) for k in ("X", "gamma", "beta", "running_mean", "running_var"))
    held: list[Any] = []

    def call() -> None:
        held[:] = [side.torch.native_batch_norm(X, gamma, beta, mean, var, False, _MOMENTUM, _EPS)[0]]

    return Work(call, lambda: {"out": side.host(held[0])})


def _backward(primitive: str, sample_statistics: bool) -> Any:
    def build(side: Side, given: Inputs) -> Work:
        dY, gamma, x_hat = side.samples(given["dY"]), side.column(given["gamma"]), side.samples(given["x_hat"])
        inv_std = side.vector(given["inv_std"].reshape(1, -1)) if sample_statistics else side.column(given["inv_std"])
        dgamma, dbeta = (side.sums(dY.shape[0]) for _ in range(2))
        dX, backward = side.matrix(*dY.shape), getattr(side.ops, primitive)
        return Work(
            lambda: backward(dY, gamma, x_hat, inv_std, dgamma, dbeta, dX),
            lambda: {"dX": side.host(dX), "dgamma": side.host(dgamma), "dbeta": side.host(dbeta)},
        )

    return build


def _torch_batch_norm_backward(side: TorchSide, given: Inputs) -> Work:
    names = ("dY", "X", "gamma", "running_mean", "running_var", "mean", "inv_std")
    arguments = [side.tensor(given[k]) for k in names]
    backward = side.torch.ops.aten.native_batch_norm_backward
    held: list[Any] = []

    def call() -> None:
        held[:] = backward(*arguments, True, _EPS, [True, True, True])

    return Work(call, lambda: dict(zip(("dX", "dgamma", "dbeta"), map(side.host, held), strict=True)))


def _layer_norm_forward(side: Side, given: Inputs) -> Work:
    X, gamma, beta = side.samples(given["X"]), side.column(given["gamma"]), side.column(given["beta"])
    x_hat, out = side.matrix(*X.shape), side.matrix(*X.shape)
    inv_std = side.vector(given["inv_std"].reshape(1, -1))
    return Work(
        lambda: side.ops.layer_norm_forward(X, gamma, beta, _EPS, x_hat, inv_std, out),
        lambda: {"out": side.host(out), "inv_std": side.host(inv_std)},
    )


def _torch_layer_norm_forward(side: TorchSide, given: Inputs) -> Work:
    X, gamma, beta = (side.tensor(given[k]) for k in ("X", "gamma", "beta"))
    shape = [X.shape[1]]
    held: list[Any] = []

    def call() -> None:
        held[:] = side.torch.native_layer_norm(X, shape, gamma, beta, _EPS)

    return Work(call, lambda: {"out": side.host(held[0]), "inv_std": side.host(held[2]).reshape(-1)})


def _torch_layer_norm_backward(side: TorchSide, given: Inputs) -> Work:
    dY, X, gamma, beta = (side.tensor(given[k]) for k in ("dY", "X", "gamma", "beta"))
    mean, inv_std = (side.tensor(given[k].reshape(-1, 1)) for k in ("mean", "inv_std"))
    shape, backward = [X.shape[1]], side.torch.ops.aten.native_layer_norm_backward
    held: list[Any] = []

    def call() -> None:
        held[:] = backward(dY, X, shape, mean, inv_std, gamma, beta, [True, True, True])

    return Work(call, lambda: dict(zip(("dX", "dgamma", "dbeta"), map(side.host, held), strict=True)))


def _rms_norm_forward(side: Side, given: Inputs) -> Work:
    X, gamma = side.samples(given["X"]), side.column(given["gamma"])
    x_hat, out, inv_rms = side.matrix(*X.shape), side.matrix(*X.shape), side.vector(given["inv_rms"].reshape(1, -1))
    return Work(lambda: side.ops.rms_norm_forward(X, gamma, _EPS, x_hat, inv_rms, out), lambda: {"out": side.host(out)})


def _torch_rms_norm_forward(side: TorchSide, given: Inputs) -> Work:
    X, gamma = side.tensor(given["X"]), side.tensor(given["gamma"])
    shape = [X.shape[1]]
    held: list[Any] = []

    def call() -> None:
        held[:] = [side.torch.rms_norm(X, shape, gamma, _EPS)]

    return Work(call, lambda: {"out": side.host(held[0])})


def _rms_norm_backward(side: Side, given: Inputs) -> Work:
    dY, gamma, x_hat = side.samples(given["dY"]), side.column(given["gamma"]), side.samples(given["x_hat"])
    inv_rms, dgamma = side.vector(given["inv_rms"].reshape(1, -1)), side.sums(dY.shape[0])
    dX = side.matrix(*dY.shape)
    return Work(
        lambda: side.ops.rms_norm_backward(dY, gamma, x_hat, inv_rms, dgamma, dX),
        lambda: {"dX": side.host(dX), "dgamma": side.host(dgamma)},
    )


def _torch_rms_norm_backward(side: TorchSide, given: Inputs) -> Work:
    X, gamma, dY = side.tensor(given["X"]).requires_grad_(), side.tensor(given["gamma"]), side.tensor(given["dY"])
    gamma.requires_grad_()
    out = side.torch.rms_norm(X, [X.shape[1]], gamma, _EPS)
    held: list[Any] = []

    def call() -> None:
        held[:] = side.torch.autograd.grad(out, (X, gamma), dY, retain_graph=True)

    return Work(call, lambda: dict(zip(("dX", "dgamma"), map(side.host, held), strict=True)))


# Forward keeps x̂ for backward: X is read, x̂ and the output are written. Backward reads dY and x̂ and writes dX. Per
# unit: γ and β, 1/σ, and the two running statistics, which are read and written, or dγ and dβ. Per sample: 1/σ.
NORMALIZATION = [
    Operation(
        name,
        "normalization",
        LAYERS,
        SMALLEST,
        draw,
        ours,
        {"": torch},
        operations(flops),
        moved(arrays, per_unit, per_sample),
        elements,
    )
    for name, draw, ours, torch, flops, arrays, per_unit, per_sample in (
        ("batch_norm_forward", _draw(0), _batch_norm_forward, _torch_batch_norm_forward, 7, 3, 7, 0),
        ("batch_norm_inference", _draw(0), _batch_norm_inference, _torch_batch_norm_inference, 3, 2, 4, 0),
        (
            "batch_norm_backward",
            _draw(0),
            _backward("batch_norm_backward", False),
            _torch_batch_norm_backward,
            8,
            3,
            4,
            0,
        ),
        ("layer_norm_forward", _draw(1), _layer_norm_forward, _torch_layer_norm_forward, 7, 3, 2, 1),
        (
            "layer_norm_backward",
            _draw(1),
            _backward("layer_norm_backward", True),
            _torch_layer_norm_backward,
            12,
            3,
            3,
            1,
        ),
        ("rms_norm_forward", _draw_rms, _rms_norm_forward, _torch_rms_norm_forward, 4, 3, 1, 1),
        ("rms_norm_backward", _draw_rms, _rms_norm_backward, _torch_rms_norm_backward, 9, 3, 2, 1),
    )
]
