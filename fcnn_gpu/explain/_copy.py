"""A network of its own to look at: the same weights on the same device, whose passes change nothing of the first."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from .._types import Array
from ..initializers import without_drawing
from ..layers import BatchNorm, Layer, Parameter, Plan
from ..model import Sequential


def copy_of(model: Sequential, training: bool) -> Sequential:
    """The network with all weights on the device and every activation kept.

    Unless `training`, its training passes compute what inference does, so that `backward` gives the gradients of what
    the network predicts: nothing is dropped, and batch norm takes its running statistics.
    """
    config = model.config()
    config |= {"layers": [_on_device(layer) for layer in config["layers"]], "recompute": False}
    config["share_workspace"] = False
    with without_drawing():
        copy = Sequential.from_config(config, model.ops)
    copy.restore(model.named_arrays())
    copy.ops.assign(copy.random_step, model.ops.to_numpy(model.random_step))
    copy.info, copy.signature = dict(model.info), model.signature
    for layer in () if training else list(copy.walk()):
        layer.stop_drawing()
        if isinstance(layer, BatchNorm):
            RunningNorm.take_over(layer)
    return copy


def _on_device(config: Any) -> Any:
    """A layer's configuration without the place of its weights."""
    if isinstance(config, dict):
        return {key: _on_device(value) for key, value in config.items() if key != "placement"}
    return [_on_device(inner) for inner in config] if isinstance(config, list) else config


class RunningNorm(Layer):
    """Batch norm at inference, with gradients: out = γ x̂ + β, x̂ = (x − μ)/√(σ² + ε) of the running μ and σ².

    Gradients: dβ = Σ dy, dγ = Σ dy x̂, dx = γ/√(σ² + ε) dy. What a `BatchNorm` of a copied network becomes; its arrays
    are the same.
    """

    name = BatchNorm.name
    eps: float
    running_mean: Array
    running_var: Array
    _factor: Array
    _unit: tuple[Array, Array]

    @classmethod
    def take_over(cls, layer: BatchNorm) -> None:
        """Make the layer one of these."""
        ops, dtype = layer.ops, layer.gamma.dtype
        gamma, variance = ops.to_numpy(layer.gamma), ops.to_numpy(layer.running_var)
        factor = gamma / np.sqrt(variance.astype(np.float64) + layer.eps)
        own: Any = layer
        own.__class__ = cls
        own._factor = ops.asarray(factor.astype(dtype))
        own._unit = ops.asarray(np.ones_like(gamma)), ops.asarray(np.zeros_like(gamma))

    def parameters(self) -> list[Parameter]:
        of: Any = self
        return [of._gamma, of._beta]

    def state(self) -> dict[str, Array]:
        return {"running_mean": self.running_mean, "running_var": self.running_var}

    def allocate(self, plan: Plan, training: bool) -> SimpleNamespace:
        return SimpleNamespace(Y=plan.matrix(self.n_out), x_hat=plan.matrix(self.n_out))

    def forward(self, A0: Array, cache: SimpleNamespace, training: bool) -> Array:
        running = self.running_mean, self.running_var
        gamma, beta = (parameter.value for parameter in self.parameters())
        self.ops.batch_norm_inference(A0, *self._unit, self.eps, *running, cache.x_hat)
        self.ops.batch_norm_inference(A0, gamma, beta, self.eps, *running, cache.Y)
        return cache.Y

    def backward(self, dA: Array, cache: SimpleNamespace, needs_input_gradient: bool) -> Array | None:
        dgamma, dbeta = (parameter.gradient for parameter in self.parameters())
        self.ops.row_sum(dA, dbeta)  # dβ = Σ dy
        self.ops.parametric_activation_backward(dA, cache.x_hat, self._factor, "scale", 0.0, dA, dgamma)
        return dA
