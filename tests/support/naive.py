"""Networks in the plainest NumPy there is, written from the equations: what the layers are compared with."""

from __future__ import annotations

from typing import Any

import numpy as np

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray


def activate(name: str, z: HostArray) -> HostArray:
    functions: dict[str, Any] = {
        "identity": lambda: z,
        "relu": lambda: np.maximum(z, 0),
        "tanh": lambda: np.tanh(z),
        "sigmoid": lambda: 1 / (1 + np.exp(-z)),
        "softplus": lambda: np.log1p(np.exp(z)),
        "silu": lambda: z / (1 + np.exp(-z)),
        "softmax": lambda: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True),
    }
    return functions[name]()


def forward(layer: Any, X: HostArray, training: bool) -> HostArray:
    """The layer's output (batch, n_out) for X (batch, n_in), in rows as users see them. No dropout."""
    if isinstance(layer, fcnn.Dense):
        return activate(layer.activation.name, X @ layer.W.T + (layer.b.T if layer.bias else 0))
    if isinstance(layer, fcnn.Activation):
        return activate(layer.activation.name, X)
    if isinstance(layer, fcnn.BatchNorm):
        mean = X.mean(axis=0) if training else layer.running_mean.ravel()
        var = X.var(axis=0) if training else layer.running_var.ravel()
        return layer.gamma.T * (X - mean) / np.sqrt(var + layer.eps) + layer.beta.T
    if isinstance(layer, fcnn.LayerNorm):
        mean, var = X.mean(axis=1, keepdims=True), X.var(axis=1, keepdims=True)
        return layer.gamma.T * (X - mean) / np.sqrt(var + layer.eps) + layer.beta.T
    if isinstance(layer, fcnn.GroupNorm):
        groups = X.reshape(len(X), layer.n_groups, -1)
        mean, var = groups.mean(axis=2, keepdims=True), groups.var(axis=2, keepdims=True)
        return layer.gamma.T * ((groups - mean) / np.sqrt(var + layer.eps)).reshape(X.shape) + layer.beta.T
    if isinstance(layer, fcnn.RMSNorm):
        return layer.gamma.T * X / np.sqrt((X * X).mean(axis=1, keepdims=True) + layer.eps)
    if isinstance(layer, fcnn.Residual):
        out = X
        for inner in layer.block:
            out = forward(inner, out, training)
        return out + (X if layer.projection is None else X @ layer.projection.W.T)
    raise AssertionError(f"no naive form of {layer}")


def outputs(model: fcnn.Sequential, X: HostArray, training: bool = False) -> HostArray:
    for layer in model.layers:
        X = forward(layer, X, training)
    return X
