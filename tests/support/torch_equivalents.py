"""The same network, loss and optimizer in PyTorch, mapped by the definitions in the docstrings; needs PyTorch.

A member of a registry without an entry here fails the tests that walk the registry: there are no exemptions. What
PyTorch does not have is composed: Residual and Branches from their parts, Dropout from NumPy's Philox stream as the
docstring says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

import fcnn_gpu as fcnn
from fcnn_gpu.model._save_and_load import torch_state


class Elementwise(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


ACTIVATION_MODULES: dict[str, Callable[[Any], nn.Module]] = {
    "identity": lambda f: nn.Identity(),
    "sigmoid": lambda f: nn.Sigmoid(),
    "tanh": lambda f: nn.Tanh(),
    "relu": lambda f: nn.ReLU(),
    "leaky_relu": lambda f: nn.LeakyReLU(f.alpha),
    "elu": lambda f: nn.ELU(f.alpha),
    "selu": lambda f: nn.SELU(),
    "gelu": lambda f: nn.GELU(),
    "gelu_tanh": lambda f: nn.GELU(approximate="tanh"),
    "silu": lambda f: nn.SiLU(),
    "softplus": lambda f: nn.Softplus(threshold=700.0),  # PyTorch's 20 replaces f(z) by z, 2·10⁻⁹ off
    "mish": lambda f: nn.Mish(),
    "hardswish": lambda f: nn.Hardswish(),
    "sin": lambda f: Elementwise(torch.sin),
    "exp": lambda f: Elementwise(torch.exp),
    "softmax": lambda f: nn.Softmax(dim=1),
}


class PhiloxDropout(nn.Module):
    """Inverted dropout by the documented stream: pass t takes the 16-bit words of Philox(key, (0, t, 0, 0))."""

    def __init__(self, layer: fcnn.Dropout, seed: int) -> None:
        super().__init__()
        self.key = (seed, layer._index)
        p = np.repeat(layer.p, layer.n_in // np.size(layer.p))  # of each unit
        self.threshold = np.minimum(np.round(p * 65536), 65535)
        self.passes = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or not self.threshold.any():
            return x
        self.passes += 1
        stream = np.random.Philox(key=self.key, counter=(0, self.passes, 0, 0))
        draws = stream.random_raw(-(-x.numel() // 4)).view(np.uint16)[: x.numel()]
        return self.drop(x, torch.from_numpy(draws.reshape(x.shape) >= self.threshold).to(x.dtype))

    def drop(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return x * mask * torch.from_numpy(65536 / (65536 - self.threshold)).to(x.dtype)


class PhiloxAlphaDropout(PhiloxDropout):
    """Alpha dropout by the same stream: α′ for a dropped unit, then a·x + b."""

    def drop(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        p, value = self.threshold[0] / 65536, -1.0507009873554805 * 1.6732632423543772
        scale = ((1 - p) * (1 + p * value**2)) ** -0.5
        return scale * (x * mask + value * (1 - mask)) - scale * p * value


class PhiloxNoise(nn.Module):
    """Gaussian noise by the documented stream: two numbers for each word, by Box and Muller."""

    def __init__(self, layer: fcnn.GaussianNoise, seed: int) -> None:
        super().__init__()
        self.key, self.std, self.passes = (seed, layer._index), layer.std, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.std == 0:
            return x
        self.passes += 1
        words = np.random.Philox(key=self.key, counter=(0, self.passes, 0, 0)).random_raw(-(-x.numel() // 2))
        u, v = ((words >> np.uint64(40)).astype(float) + 1) / 2**24, (words >> np.uint64(8)) % 2**24 / 2**24
        complex_normals = np.sqrt(-2 * np.log(u)) * np.exp(2j * np.pi * v)
        normals = np.stack([complex_normals.real, complex_normals.imag], 1).ravel()[: x.numel()]
        return x + self.std * torch.from_numpy(normals.reshape(x.shape)).to(x.dtype)


class ResidualModule(nn.Module):
    """block(x) + x, or block(x) + projection(x)."""

    def __init__(self, block: nn.Module, projection: nn.Module | None) -> None:
        super().__init__()
        self.block = block
        self.projection = projection

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x) + (x if self.projection is None else self.projection(x))


class BranchesModule(nn.Module):
    """What each branch makes of x, one behind the other."""

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Factor(nn.Module):
    """weight·x, a factor for each unit."""

    def __init__(self, n: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n, dtype=dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


class BetweenInputAndActivation(Factor):
    """x + weight·(f(x) − x)"""

    def __init__(self, f: nn.Module, n: int, dtype: torch.dtype) -> None:
        super().__init__(n, dtype)
        self.f = f

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.weight * (self.f(x) - x)


class Repeated(nn.Module):
    """x for each of k members: (batch, k·n)."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat(1, self.k)


class SideBySide(nn.Module):
    """A Linear for each member: weight (n_out, k·n_in), bias (k·n_out,)."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.k, self.gain = layer.members, layer.gain
        self.weight = nn.Parameter(torch.empty(layer.units, layer.n_in, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(layer.n_out, dtype=dtype)) if layer.bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        W = self.gain * self.weight.unflatten(1, (self.k, -1))
        y = torch.einsum("bki,oki->bko", x.unflatten(1, (self.k, -1)), W).flatten(1)
        return y if self.bias is None else y + self.bias


class SharedWeights(nn.Module):
    """s·(W(r·x)) + b with one W for all members."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.k, self.gain = layer.members, layer.gain
        for name, shape in layer.shapes(layer.n_in)[1].items():
            kept = {"W": "weight", "b": "bias"}.get(name, name)
            self.register_parameter(kept, nn.Parameter(torch.empty(shape if name == "W" else shape[0], dtype=dtype)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        given = dict(self.named_parameters())
        x = x * given["r"] if "r" in given else x
        y = self.gain * (x.unflatten(1, (self.k, -1)) @ given["weight"].T)
        y = y * given["s"].reshape(self.k, -1) if "s" in given else y
        y = y + given["bias"].reshape(-1, y.shape[2]) if "bias" in given else y
        return y.flatten(1)


def _with_activation(module: nn.Module, layer: Any) -> list[nn.Module]:
    name = layer.activation.name
    return [module] if name == "identity" else [module, ACTIVATION_MODULES[name](layer.activation)]


class DividedByRootOfInputs(nn.Module):
    """W/√n_in"""

    def forward(self, W: torch.Tensor) -> torch.Tensor:
        return W / math.sqrt(W.shape[1])


class PBLDModule(nn.Module):
    """Holzmüller et al. (2024), with the arrays in the shapes that they have here."""

    def __init__(self, layer: fcnn.PBLD, dtype: torch.dtype) -> None:
        super().__init__()
        shapes = layer.shapes(layer.n_in)[1]
        self.order, self.n = layer.order(layer.n_in), len(layer.embedded(layer.n_in))
        self.w, self.phase, self.weight, self.bias = (
            nn.Parameter(torch.empty(shapes[name], dtype=dtype)) for name in ("w", "phase", "W", "b")
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        embedded, rest = x[:, self.order[: self.n], None], x[:, self.order[self.n :]]
        h = torch.cos(2 * torch.pi * embedded * self.w.T + self.phase.T)  # (batch, units, frequencies)
        W = self.weight.reshape(len(self.weight), self.n, -1)
        linear = torch.einsum("bfk,ofk->bfo", h, W) + self.bias.T
        return torch.cat([torch.cat([linear, embedded], 2).flatten(1), rest], 1)


class PeriodicModule(nn.Module):
    """Gorishniy et al. (2022), eq. 2, with the arrays in the shapes that they have here."""

    def __init__(self, layer: fcnn.PeriodicEmbedding, dtype: torch.dtype) -> None:
        super().__init__()
        shapes = layer.shapes(layer.n_in)[1]
        self.order, self.n, self.relu = layer.order(layer.n_in), len(layer.embedded(layer.n_in)), layer.relu
        self.w, self.weight, self.bias = (
            nn.Parameter(torch.empty(shapes[name], dtype=dtype)) for name in ("w", "W", "b")
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        angle = 2 * torch.pi * x[:, self.order[: self.n], None] * self.w.T
        h = torch.cat([torch.cos(angle), torch.sin(angle)], 2)
        W = self.weight.reshape(len(self.weight), -1, h.shape[2]).expand(-1, self.n, -1)  # lite: one for all
        z = torch.einsum("bfk,ofk->bfo", h, W) + self.bias.T
        return torch.cat([(z.relu() if self.relu else z).flatten(1), x[:, self.order[self.n :]]], 1)


class PiecewiseModule(nn.Module):
    """Gorishniy et al. (2022), eq. 1: bin by bin, as it is written there."""

    def __init__(self, layer: fcnn.PiecewiseLinearEmbedding, dtype: torch.dtype) -> None:
        super().__init__()
        shapes = layer.shapes(layer.n_in)[1]
        self.order, self.bins, self.relu = layer.order(layer.n_in), layer.bins, layer.relu
        self.weight, self.bias = (nn.Parameter(torch.empty(shapes[name], dtype=dtype)) for name in ("W", "b"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts, first = [], 0
        for f, edges in enumerate(self.bins):
            of_bins = []
            for t in range(len(edges) - 1):
                h = (x[:, self.order[f]] - edges[t]) / (edges[t + 1] - edges[t])
                h = h if t == 0 else h.clamp_min(0)
                of_bins.append(h if t == len(edges) - 2 else h.clamp_max(1))
            W = self.weight[:, first : first + len(of_bins)]
            first += len(of_bins)
            z = torch.stack(of_bins, 1) @ W.T + self.bias[:, f]
            parts.append(z.relu() if self.relu else z)
        return torch.cat([*parts, x[:, self.order[len(parts) :]]], 1)


class EmbeddingModule(nn.Module):
    """Tables one below the other, or one behind the other where their rows differ in length."""

    def __init__(self, layer: fcnn.Embedding, dtype: torch.dtype) -> None:
        super().__init__()
        self.order, tables = layer.order(layer.n_in), layer._on_device
        self.shapes, self.starts = tables.shapes(), tables.host_starts
        (shape,) = layer.shapes(layer.n_in)[1].values()
        self.weight = nn.Parameter(torch.empty(layer.shape_in_file("E", shape), dtype=dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = []
        for i, (n, width) in enumerate(self.shapes):
            table = self.weight.flatten()[self.starts[i] : self.starts[i + 1]].reshape(n, width)
            parts.append(functional.embedding(x[:, self.order[i]].long(), table))
        return torch.cat([*parts, x[:, self.order[len(parts) :]]], 1)


def _dense(layer: Any, seed: int, dtype: torch.dtype) -> list[nn.Module]:
    linear = nn.Linear(layer.n_in, layer.n_out, bias=layer.bias, dtype=dtype)
    if layer.parametrization == "ntk":
        parametrize.register_parametrization(linear, "weight", DividedByRootOfInputs())
    name = layer.activation.name
    return [linear] if name == "identity" else [linear, ACTIVATION_MODULES[name](layer.activation)]


def _residual(layer: Any, seed: int, dtype: torch.dtype) -> list[nn.Module]:
    projection = None if layer.projection is None else _dense(layer.projection, seed, dtype)[0]
    return [ResidualModule(_stack(layer.block, seed, dtype), projection)]


LAYER_MODULES: dict[str, Callable[[Any, int, torch.dtype], list[nn.Module]]] = {
    "dense": _dense,
    "activation": lambda layer, seed, dtype: [ACTIVATION_MODULES[layer.activation.name](layer.activation)],
    "dropout": lambda layer, seed, dtype: [PhiloxDropout(layer, seed)],
    "gaussian_noise": lambda layer, seed, dtype: [PhiloxNoise(layer, seed)],
    "alpha_dropout": lambda layer, seed, dtype: [PhiloxAlphaDropout(layer, seed)],
    "batch_norm": lambda layer, seed, dtype: [
        nn.BatchNorm1d(layer.n_in, eps=layer.eps, momentum=layer.momentum, dtype=dtype)
    ],
    "layer_norm": lambda layer, seed, dtype: [nn.LayerNorm(layer.n_in, eps=layer.eps, dtype=dtype)],
    "group_norm": lambda layer, seed, dtype: [nn.GroupNorm(layer.n_groups, layer.n_in, eps=layer.eps, dtype=dtype)],
    "rms_norm": lambda layer, seed, dtype: [nn.RMSNorm(layer.n_in, eps=layer.eps, dtype=dtype)],
    "pbld": lambda layer, seed, dtype: [PBLDModule(layer, dtype)],
    "periodic_embedding": lambda layer, seed, dtype: [PeriodicModule(layer, dtype)],
    "piecewise_linear_embedding": lambda layer, seed, dtype: [PiecewiseModule(layer, dtype)],
    "embedding": lambda layer, seed, dtype: [EmbeddingModule(layer, dtype)],
    "residual": _residual,
    "branches": lambda layer, seed, dtype: [BranchesModule([_stack(b, seed, dtype) for b in layer.branches])],
    "scale": lambda layer, seed, dtype: [Factor(layer.n_in, dtype)],
    "parametric_activation": lambda layer, seed, dtype: [
        BetweenInputAndActivation(ACTIVATION_MODULES[layer.activation.name](layer.activation), layer.n_in, dtype)
    ],
    "members": lambda layer, seed, dtype: [Repeated(layer.members)],
    "dense_ensemble": lambda layer, seed, dtype: _with_activation(SideBySide(layer, dtype), layer),
    "batch_ensemble": lambda layer, seed, dtype: _with_activation(SharedWeights(layer, dtype), layer),
    "prelu": lambda layer, seed, dtype: [nn.PReLU(layer.n_in, dtype=dtype)],
}


def _stack(layers: Sequence[fcnn.Layer], seed: int, dtype: torch.dtype) -> nn.Sequential:
    return nn.Sequential(*[module for layer in layers for module in LAYER_MODULES[layer.name](layer, seed, dtype)])


def to_torch(model: fcnn.Sequential) -> nn.Sequential:
    """The same network with the same weights, running statistics and masks to come."""
    module = _stack(model.layers, model.seed, getattr(torch, model.dtype.name))
    module.load_state_dict({name: torch.tensor(array) for name, array in torch_state(model).items()})
    return module.train()


def targets_to_torch(y: Any, dtype: torch.dtype) -> torch.Tensor:
    """Labels as int64, everything else as `dtype`."""
    array = np.asarray(y)
    return torch.tensor(array) if array.ndim == 1 and array.dtype.kind in "iu" else torch.tensor(array, dtype=dtype)


def _cross_entropy(loss: Any, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    weight = None if loss.class_weight is None else torch.tensor(loss.class_weight, dtype=z.dtype)
    return functional.cross_entropy(z, y, weight=weight, label_smoothing=loss.label_smoothing, reduction="none")


def _kl_divergence(loss: Any, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    y = functional.one_hot(y, z.shape[1]).to(z.dtype) if y.ndim == 1 else y
    return functional.kl_div(functional.log_softmax(z, dim=1), y, reduction="none").sum(dim=1)


def _focal(loss: Any, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """PyTorch has none: as its users write it. 0 ** γ has no slope there for γ < 1."""
    log_p = functional.log_softmax(z, dim=1).gather(1, y.reshape(-1, 1))[:, 0]
    alpha = torch.ones(z.shape[1]) if loss.alpha is None else torch.tensor(loss.alpha)
    q = -torch.expm1(log_p)
    return -alpha.to(z.dtype)[y] * q.clamp(min=torch.finfo(z.dtype).tiny) ** loss.gamma * log_p


def _mean_of_outputs(rule: Callable[..., torch.Tensor]) -> Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]:
    def losses(loss: Any, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        extra: dict[str, Any] = {"delta": loss.delta} if isinstance(loss, fcnn.Huber) else {}
        y = y.reshape(z.shape).to(z.dtype)
        if isinstance(loss, fcnn.BinaryCrossEntropy):
            y = (1 - loss.label_smoothing) * y + loss.label_smoothing / 2
            extra |= {} if loss.pos_weight is None else {"pos_weight": torch.tensor(loss.pos_weight, dtype=z.dtype)}
        u = 1.0 if loss.output_weight is None else torch.tensor(loss.output_weight, dtype=z.dtype)
        return (u * rule(z, y, reduction="none", **extra)).mean(dim=1)

    return losses


def _quantile(loss: Any, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """PyTorch has no pinball loss: as its users write it."""
    q = torch.tensor(loss.quantiles, dtype=z.dtype)
    e = y.reshape(len(z), -1, 1).to(z.dtype) - z.reshape(len(z), -1, len(q))
    return torch.maximum(q * e, (q - 1) * e).mean(dim=(1, 2))


def _log_cosh(loss: Any, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    e = z - y.reshape(z.shape).to(z.dtype)
    return (e.abs() + functional.softplus(-2 * e.abs()) - math.log(2)).mean(dim=1)


def _hinge(loss: Any, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    margin = functional.relu(1 - (2 * y.reshape(z.shape).to(z.dtype) - 1) * z)
    return (margin**2 if loss.squared else margin).mean(dim=1)


LOSS_FUNCTIONS: dict[str, Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "cross_entropy": _cross_entropy,
    "kl_divergence": _kl_divergence,
    "focal": _focal,
    "mse": _mean_of_outputs(functional.mse_loss),
    "mae": _mean_of_outputs(functional.l1_loss),
    "huber": _mean_of_outputs(functional.huber_loss),
    "log_cosh": _log_cosh,
    "quantile": _quantile,
    "poisson": _mean_of_outputs(functional.poisson_nll_loss),
    "hinge": _hinge,
    "binary_cross_entropy": _mean_of_outputs(functional.binary_cross_entropy_with_logits),
}
"""ℓ_j of each sample; the mean over the batch, and the sample weights, are taken by `data_loss`."""


def data_loss(loss: fcnn.Loss, z: torch.Tensor, y: torch.Tensor, sample_weight: torch.Tensor | None) -> torch.Tensor:
    """L = (1/batch) Σ_j w_j ℓ_j."""
    losses = LOSS_FUNCTIONS[loss.name](loss, z, y)
    return (losses if sample_weight is None else sample_weight * losses).mean()


def penalty(model: fcnn.Sequential, module: nn.Sequential) -> torch.Tensor:
    """Σ λ₁|w| + λ₂w² as terms of PyTorch's loss, λ from the layers of `model`, w from the module."""
    total = torch.zeros((), dtype=next(module.parameters()).dtype)
    for ours, theirs in zip(penalized_layers(model), linear_modules(module), strict=True):
        W = learned_weight(theirs)
        total = total + ours.l1 * W.abs().sum() + ours.l2 * W.square().sum()
    return total


def penalized_layers(model: fcnn.Sequential) -> list[fcnn.Dense]:
    """All Dense layers, projections of residual layers included, in the order of `walk`."""
    return [layer for layer in model.walk() if isinstance(layer, fcnn.Dense)]


def learned_weight(linear: nn.Module) -> torch.Tensor:
    """What is learned of a Linear's weight: what it is computed from, if it is."""
    return next(p for name, p in linear.named_parameters() if name != "bias")


def linear_modules(module: nn.Module) -> list[nn.Linear]:
    """All Linear modules in the same order: a block's before its projection."""
    return [part for part in module.modules() if isinstance(part, nn.Linear)]


def to_torch_optimizer(optimizer: fcnn.optimizers.Optimizer, module: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of the same name over the module's parameters, whose weights decay, or all that it has."""
    o: Any = optimizer
    weights = [learned_weight(part) for part in linear_modules(module)]
    known = {id(w) for w in weights}
    others = [p for p in module.parameters() if id(p) not in known]
    groups: list[dict[str, Any]] = [
        {"params": weights, "decay": o.weight_decay},
        {"params": others, "decay": o.weight_decay if o.decay_all else 0.0},
    ]
    rate = float(optimizer.schedule(0.0, 1.0))
    betas: Any = (o.beta1, o.beta2) if hasattr(o, "beta1") else ()
    makers: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "sgd": lambda: torch.optim.SGD(groups, lr=rate, momentum=o.momentum, nesterov=o.nesterov),
        "adam": lambda: torch.optim.Adam(groups, lr=rate, betas=betas, eps=o.eps, amsgrad=o.amsgrad),
        "adamw": lambda: torch.optim.AdamW(
            [{"params": group["params"], "weight_decay": group["decay"]} for group in groups],
            lr=rate,
            betas=betas,
            eps=o.eps,
            amsgrad=o.amsgrad,
        ),
        "rmsprop": lambda: torch.optim.RMSprop(
            groups, lr=rate, alpha=o.alpha, eps=o.eps, momentum=o.momentum, centered=o.centered
        ),
        "adagrad": lambda: torch.optim.Adagrad(groups, lr=rate, lr_decay=o.lr_decay, eps=o.eps),
        "nadam": lambda: torch.optim.NAdam(groups, lr=rate, betas=betas, eps=o.eps, momentum_decay=o.momentum_decay),
        "radam": lambda: torch.optim.RAdam(groups, lr=rate, betas=betas, eps=o.eps),
        "adamax": lambda: torch.optim.Adamax(groups, lr=rate, betas=betas, eps=o.eps),
        "adadelta": lambda: torch.optim.Adadelta(groups, lr=rate, rho=o.rho, eps=o.eps),
        "lion": lambda: Lion(groups, lr=rate, betas=betas),
        "muon": lambda: MuonAndAdamW(groups, rate, o, weights),
    }
    made = makers[optimizer.name]()
    if optimizer.name == "nadam":
        made.register_step_pre_hook(_begin_in_double)
    if optimizer.name not in ("adamw", "muon"):
        made.register_step_pre_hook(_decay)
    return made


def _begin_in_double(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """NAdam's product of momenta in float64, of which PyTorch keeps float32."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            if not optimizer.state[p]:
                ones = {name: torch.ones((), dtype=torch.float64) for name in ("step", "mu_product")}
                optimizer.state[p] |= ones | {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
                optimizer.state[p]["step"] -= 1


def _decay(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """θ ← θ(1 − ηλ), which PyTorch has in AdamW and few others."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            steps = float(optimizer.state[p]["step"]) if "lr_decay" in group else 0.0
            with torch.no_grad():
                p.mul_(1.0 - float(group["lr"] / (1.0 + steps * group.get("lr_decay", 0.0))) * group.get("decay", 0.0))


class MuonAndAdamW(torch.optim.Optimizer):
    """`torch.optim.Muon` of the weights that are made orthogonal, `torch.optim.AdamW` of all else.

    PyTorch's Muon multiplies in bfloat16, and here in the dtype of the parameters.
    """

    def __init__(self, groups: Any, lr: float, ours: Any, weights: list[torch.Tensor]) -> None:
        super().__init__(groups, {"lr": lr})
        self._ours, names = ours, [f"{i}.W" for i in range(len(weights))]  # of the first layer, the name of ours
        chosen = names[1:-1] if ours.orthogonalize is None else fnmatched(names, ours.orthogonalize)
        self._matrices = {id(w) for name, w in zip(names, weights, strict=True) if name in chosen}
        self._made: dict[int, torch.optim.Optimizer] = {}

    def _make(self, p: torch.Tensor) -> torch.optim.Optimizer:
        o = self._ours
        if id(p) not in self._matrices:
            return torch.optim.AdamW([p], betas=(o.adam_beta1, o.adam_beta2), eps=o.adam_eps)
        return torch.optim.Muon(
            [p],
            momentum=o.momentum,
            nesterov=o.nesterov,
            ns_coefficients=o.ns_coefficients,
            eps=o.eps,
            ns_steps=o.ns_steps,
            adjust_lr_fn=o.adjust_lr_fn,
        )

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                made = self._made.setdefault(id(p), self._make(p))
                factor = 1.0 if id(p) in self._matrices else self._ours.adam_rate_factor
                made.param_groups[0] |= {"lr": group["lr"] * factor, "weight_decay": group["decay"]}
                with mock.patch.object(torch.Tensor, "bfloat16", torch.Tensor.clone):
                    made.step()


def fnmatched(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


class Lion(torch.optim.Optimizer):
    """Chen et al. (2023), algorithm 2, which PyTorch does not have."""

    def __init__(self, groups: Any, lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p -= group["lr"] * torch.sign(beta1 * m + (1 - beta1) * p.grad)
                m.copy_(beta2 * m + (1 - beta2) * p.grad)


def torch_step(
    model: fcnn.Sequential,
    module: nn.Sequential,
    loss: fcnn.Loss,
    optimizer: fcnn.optimizers.Optimizer,
    torch_optimizer: torch.optim.Optimizer,
    X: Any,
    y: Any,
    sample_weight: Any = None,
) -> float:
    """One training step in PyTorch, written as its users write it; returns the data loss."""
    dtype = next(module.parameters()).dtype
    weight = None if sample_weight is None else torch.tensor(sample_weight, dtype=dtype)
    torch_optimizer.zero_grad()
    value = data_loss(loss, module(torch.tensor(X, dtype=dtype)), targets_to_torch(y, dtype), weight)
    (value + penalty(model, module)).backward()
    if optimizer.clip_norm is not None:
        nn.utils.clip_grad_norm_(module.parameters(), optimizer.clip_norm)
    if optimizer.clip_value is not None:
        nn.utils.clip_grad_value_(module.parameters(), optimizer.clip_value)
    torch_optimizer.step()
    return float(value.detach())
