"""Cases for every layer, activation, loss, regularizer, optimizer and schedule: for tests that walk the registries.

A new member without a case here fails `tests/test_gradient_check.py::test_every_member_has_a_case` by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import fcnn_gpu as fcnn
from fcnn_gpu._registry import Registry
from fcnn_gpu._types import HostArray
from fcnn_gpu.activations import ACTIVATIONS
from fcnn_gpu.layers import LAYERS
from fcnn_gpu.losses import LOSSES
from fcnn_gpu.optimizers import OPTIMIZERS
from fcnn_gpu.regularizers import REGULARIZERS
from fcnn_gpu.schedules import SCHEDULES

Targets = Callable[[np.random.Generator, int], Any]


@dataclass(frozen=True)
class LayerCase:
    """A layer with its input width; `make` gives a fresh one each time, because a layer belongs to one model."""

    label: str
    make: Callable[[], fcnn.Layer]
    n_in: int = 4
    needs_two_samples: bool = False
    n_categories: dict[int, int] = field(default_factory=dict)
    """Columns that number categories, and how many."""

    def before(self) -> list[fcnn.Layer]:
        """What may stand in front of the layer in a network: it has to leave categories as they are."""
        return [] if self.n_categories else [fcnn.Dense(self.n_in, activation="tanh")]

    def inputs(self, rng: np.random.Generator, batch: int, n_in: int | None = None) -> HostArray:
        """Samples for a network that begins with `before`, of n_in features, or for the layer by itself."""
        X = rng.standard_normal((batch, self.n_in if n_in is None or self.n_categories else n_in))
        for column, n in self.n_categories.items():
            X[:, column] = rng.integers(0, n, batch)
        return X


@dataclass(frozen=True)
class LossCase:
    """A loss, the number of outputs that it is tried with, and valid targets for a batch."""

    label: str
    loss: fcnn.Loss
    n_outputs: int
    targets: Targets


LAYER_CASES: dict[str, list[LayerCase]] = {
    "dense": [
        LayerCase("plain", lambda: fcnn.Dense(3)),
        LayerCase("biasless", lambda: fcnn.Dense(3, activation="tanh", bias=False)),
        LayerCase("square", lambda: fcnn.Dense(4, activation="sigmoid")),
        LayerCase("drawn biases", lambda: fcnn.Dense(3, activation="tanh", bias_init="fan_in_uniform")),
        LayerCase("penalties", lambda: fcnn.Dense(3, activation="silu", l1=0.03, l2=0.2)),
        LayerCase("width 1", lambda: fcnn.Dense(1, activation="gelu"), n_in=1),
        LayerCase("ntk", lambda: fcnn.Dense(3, activation="tanh", parametrization="ntk", l2=0.1)),
        LayerCase("odd", lambda: fcnn.Dense(13, activation="softplus"), n_in=7),
    ],
    "activation": [
        LayerCase("tanh", lambda: fcnn.Activation("tanh")),
        LayerCase("gelu width 1", lambda: fcnn.Activation("gelu"), n_in=1),
        LayerCase("softmax", lambda: fcnn.Activation("softmax")),
    ],
    "dropout": [
        LayerCase("0.5", lambda: fcnn.Dropout(0.5)),
        LayerCase("0.2", lambda: fcnn.Dropout(0.2), n_in=7),
        LayerCase("0", lambda: fcnn.Dropout(0.0)),
        LayerCase("of members", lambda: fcnn.Dropout([0.5, 0.0, 0.2]), n_in=6),
    ],
    "alpha_dropout": [
        LayerCase("0.5", lambda: fcnn.AlphaDropout(0.5)),
        LayerCase("0", lambda: fcnn.AlphaDropout(0.0)),
        LayerCase("0.2", lambda: fcnn.AlphaDropout(0.2), n_in=7),
    ],
    "gaussian_noise": [
        LayerCase("0", lambda: fcnn.GaussianNoise(0)),
        LayerCase("0.3", lambda: fcnn.GaussianNoise(0.3), n_in=7),
    ],
    "batch_norm": [
        LayerCase("default", lambda: fcnn.BatchNorm(), needs_two_samples=True),
        LayerCase("options", lambda: fcnn.BatchNorm(eps=0.1, momentum=0.5), n_in=1, needs_two_samples=True),
    ],
    "layer_norm": [
        LayerCase("default", lambda: fcnn.LayerNorm()),
        LayerCase("eps", lambda: fcnn.LayerNorm(eps=0.1), n_in=7),
        LayerCase("width 1", lambda: fcnn.LayerNorm(), n_in=1),
    ],
    "group_norm": [
        LayerCase("one group", lambda: fcnn.GroupNorm(1), n_in=5),
        LayerCase("three", lambda: fcnn.GroupNorm(3, eps=0.1), n_in=12),
    ],
    "rms_norm": [
        LayerCase("default", lambda: fcnn.RMSNorm()),
        LayerCase("width 1", lambda: fcnn.RMSNorm(eps=1.0), n_in=1),
        LayerCase("eps", lambda: fcnn.RMSNorm(eps=0.1), n_in=7),
    ],
    "scale": [
        LayerCase("default", lambda: fcnn.Scale()),
        LayerCase("drawn", lambda: fcnn.Scale(fcnn.initializers.Normal(2.0)), n_in=7),
    ],
    "parametric_activation": [
        LayerCase("selu", lambda: fcnn.ParametricActivation(alpha=0.7), n_in=7),
        LayerCase("from output", lambda: fcnn.ParametricActivation("tanh", alpha=-0.4)),
        LayerCase("slope", lambda: fcnn.ParametricActivation(fcnn.activations.LeakyReLU(0.3), alpha=1.5)),
        LayerCase("width 1", lambda: fcnn.ParametricActivation("gelu"), n_in=1),
    ],
    "prelu": [
        LayerCase("default", lambda: fcnn.PReLU()),
        LayerCase("negative", lambda: fcnn.PReLU(-0.5), n_in=7),
    ],
    "pbld": [
        LayerCase("all columns", lambda: fcnn.PBLD(frequencies=3)),
        LayerCase("some", lambda: fcnn.PBLD([3, 0], frequencies=2, outputs=3, sigma=0.7), n_in=5),
        LayerCase("one column", lambda: fcnn.PBLD([0], frequencies=1, outputs=2, sigma=1.0), n_in=1),
    ],
    "periodic_embedding": [
        LayerCase("all columns", lambda: fcnn.PeriodicEmbedding(frequencies=3, outputs=2, sigma=0.5)),
        LayerCase("some", lambda: fcnn.PeriodicEmbedding([2, 0], 2, 5, 0.3, activation=None), n_in=5),
        LayerCase("lite", lambda: fcnn.PeriodicEmbedding([1, 3, 0], 2, 3, 0.4, lite=True)),
    ],
    "piecewise_linear_embedding": [
        LayerCase("all columns", lambda: fcnn.PiecewiseLinearEmbedding([[-1, 0, 0.6], [-0.4, 0.3]], outputs=3), n_in=2),
        LayerCase(
            "some", lambda: fcnn.PiecewiseLinearEmbedding([[-0.5, 0.1], [-1, -0.2, 0.3, 0.5, 2]], [2, 0], 2, "relu")
        ),
    ],
    "embedding": [
        LayerCase("one table", lambda: fcnn.Embedding([1], 3, 2), n_categories={1: 3}),
        LayerCase(
            "several", lambda: fcnn.Embedding([3, 0], [2, 5], 3, init="fan_in_uniform"), n_categories={3: 2, 0: 5}
        ),
        LayerCase("widths", lambda: fcnn.Embedding([0, 2], [4, 1], [1, 3]), n_in=3, n_categories={0: 4, 2: 1}),
        LayerCase("nothing else", lambda: fcnn.Embedding(None, 4), n_in=2, n_categories={0: 4, 1: 4}),
    ],
    "members": [LayerCase("three", lambda: fcnn.Members(3)), LayerCase("one", lambda: fcnn.Members(1))],
    "dense_ensemble": [
        LayerCase("kept output", lambda: fcnn.DenseEnsemble(3, 2, activation="tanh", bias_init="fan_in_uniform")),
        LayerCase("kept input", lambda: fcnn.DenseEnsemble(2, 3, activation="gelu", parametrization="ntk"), n_in=6),
        LayerCase("biasless", lambda: fcnn.DenseEnsemble(1, 4, bias=False)),
    ],
    "batch_ensemble": [
        LayerCase("scales", lambda: fcnn.BatchEnsemble(3, 2, "tanh", scale_in="he_normal", scale_out="random_signs")),
        LayerCase("kept input", lambda: fcnn.BatchEnsemble(2, 3, "gelu", scale_out=None, parametrization="ntk"), 6),
        LayerCase("shared bias", lambda: fcnn.BatchEnsemble(3, 2, "silu", scale_in=None, bias="shared")),
        LayerCase("no scales", lambda: fcnn.BatchEnsemble(3, 2, "gelu", None, None, None, "shared", "normal")),
        LayerCase("no bias", lambda: fcnn.BatchEnsemble(3, 2, scale_out=0.5, bias="none")),
    ],
    "branches": [
        LayerCase(
            "widths", lambda: fcnn.Branches([[fcnn.Dense(3, activation="tanh")], [fcnn.Dense(5, l2=0.1), "silu"]])
        ),
        LayerCase("one", lambda: fcnn.Branches([[fcnn.Dense(3, "gelu"), fcnn.Dense(2)]]), n_in=7),
        LayerCase(
            "nested",
            lambda: fcnn.Branches(
                [[fcnn.Branches([["tanh"], [fcnn.Dense(1)]]), fcnn.Dense(3)], [fcnn.Residual([fcnn.Dense(4, "gelu")])]]
            ),
        ),
        LayerCase("without parameters", lambda: fcnn.Branches([["tanh"], [fcnn.Dropout(0.3)], [fcnn.Dropout(0.0)]])),
        LayerCase(
            "batch norm",
            lambda: fcnn.Branches([[fcnn.BatchNorm(), "gelu"], [fcnn.Dense(3), fcnn.BatchNorm()], ["identity"]]),
            needs_two_samples=True,
        ),
    ],
    "residual": [
        LayerCase("identity", lambda: fcnn.Residual([fcnn.Dense(4, activation="tanh")])),
        LayerCase("projection", lambda: fcnn.Residual([fcnn.Dense(5, activation="tanh", l2=0.1), fcnn.Dense(3)])),
        LayerCase("nested", lambda: fcnn.Residual([fcnn.Residual([fcnn.Dense(6), "silu"]), fcnn.Dense(4)])),
        LayerCase("without parameters", lambda: fcnn.Residual(["tanh", fcnn.Dropout(0.3)])),
        LayerCase(
            "batch norm",
            lambda: fcnn.Residual([fcnn.BatchNorm(), "gelu", fcnn.Dense(4, bias=False)]),
            needs_two_samples=True,
        ),
    ],
}

ACTIVATION_CASES: dict[str, list[fcnn.activations.Activation]] = {
    "identity": [fcnn.activations.Identity()],
    "sigmoid": [fcnn.activations.Sigmoid()],
    "tanh": [fcnn.activations.Tanh()],
    "relu": [fcnn.activations.ReLU()],
    "leaky_relu": [
        fcnn.activations.LeakyReLU(),
        fcnn.activations.LeakyReLU(0.0),
        fcnn.activations.LeakyReLU(0.3),
        fcnn.activations.LeakyReLU(1.0),
    ],
    "elu": [fcnn.activations.ELU(), fcnn.activations.ELU(0.0), fcnn.activations.ELU(2.5)],
    "selu": [fcnn.activations.SELU()],
    "gelu": [fcnn.activations.GELU()],
    "gelu_tanh": [fcnn.activations.GELUTanh()],
    "silu": [fcnn.activations.SiLU()],
    "softplus": [fcnn.activations.Softplus()],
    "mish": [fcnn.activations.Mish()],
    "hardswish": [fcnn.activations.Hardswish()],
    "sin": [fcnn.activations.Sin()],
    "exp": [fcnn.activations.Exp()],
    "softmax": [fcnn.activations.Softmax()],
}


def _labels(n_classes: int) -> Targets:
    return lambda rng, batch: rng.integers(0, n_classes, batch)


def _one_hot(n_classes: int) -> Targets:
    return lambda rng, batch: np.eye(n_classes)[rng.integers(0, n_classes, batch)]


def _soft(n_classes: int) -> Targets:
    return lambda rng, batch: rng.dirichlet(np.ones(n_classes), batch)


def _values(n_outputs: int, scale: float = 1.0) -> Targets:
    return lambda rng, batch: scale * rng.standard_normal((batch, n_outputs))


def _in_unit_interval(n_outputs: int) -> Targets:
    return lambda rng, batch: rng.uniform(0.0, 1.0, (batch, n_outputs))


def _counts(n_outputs: int) -> Targets:
    return lambda rng, batch: rng.poisson(2.0, (batch, n_outputs))


def _bits(n_outputs: int) -> Targets:
    return lambda rng, batch: rng.integers(0, 2, (batch, n_outputs))


_V3 = [0.5, 2.0, 1.25]

LOSS_CASES: dict[str, list[LossCase]] = {
    "cross_entropy": [
        LossCase("labels", fcnn.CrossEntropy(), 3, _labels(3)),
        LossCase("two classes", fcnn.CrossEntropy(), 2, _labels(2)),
        LossCase("one-hot", fcnn.CrossEntropy(), 3, _one_hot(3)),
        LossCase("soft", fcnn.CrossEntropy(), 5, _soft(5)),
        LossCase("smoothed labels", fcnn.CrossEntropy(label_smoothing=0.1), 3, _labels(3)),
        LossCase("smoothed fully", fcnn.CrossEntropy(label_smoothing=1.0), 3, _labels(3)),
        LossCase("weighted labels", fcnn.CrossEntropy(class_weight=_V3), 3, _labels(3)),
        LossCase("weighted soft", fcnn.CrossEntropy(class_weight=_V3), 3, _soft(3)),
        LossCase("smoothed and weighted", fcnn.CrossEntropy(0.2, _V3), 3, _labels(3)),
        LossCase("smoothed and weighted soft", fcnn.CrossEntropy(0.2, [0.0, 2.0, 1.25]), 3, _soft(3)),
    ],
    "kl_divergence": [
        LossCase("soft", fcnn.KLDivergence(), 4, _soft(4)),
        LossCase("one-hot", fcnn.KLDivergence(), 3, _one_hot(3)),
        LossCase("labels", fcnn.KLDivergence(), 3, _labels(3)),
    ],
    "focal": [
        LossCase("labels", fcnn.Focal(), 3, _labels(3)),
        LossCase("two weighted classes", fcnn.Focal(0.5, [0.25, 0.75]), 2, _labels(2)),
        LossCase("gamma 0", fcnn.Focal(0.0, _V3), 3, _labels(3)),
    ],
    "mse": [LossCase("three outputs", fcnn.MSE(), 3, _values(3)), LossCase("one output", fcnn.MSE(), 1, _values(1))],
    "mae": [LossCase("weighted outputs", fcnn.MAE(output_weight=_V3), 3, _values(3))],
    "huber": [
        LossCase("delta 1", fcnn.Huber(), 3, _values(3, 2.0)),
        LossCase("delta 0.3", fcnn.Huber(0.3), 2, _values(2)),
    ],
    "binary_cross_entropy": [
        LossCase("one output", fcnn.BinaryCrossEntropy(), 1, _labels(2)),
        LossCase("multi-label", fcnn.BinaryCrossEntropy(), 4, _bits(4)),
        LossCase("probabilities", fcnn.BinaryCrossEntropy(), 3, _in_unit_interval(3)),
        LossCase("smoothed", fcnn.BinaryCrossEntropy(0.2), 2, _bits(2)),
        LossCase("smoothed and weighted", fcnn.BinaryCrossEntropy(0.1, _V3, output_weight=_V3), 3, _bits(3)),
        LossCase("one weight", fcnn.BinaryCrossEntropy(pos_weight=4.0), 3, _in_unit_interval(3)),
    ],
    "log_cosh": [LossCase("three outputs", fcnn.LogCosh(), 3, _values(3, 2.0))],
    "quantile": [
        LossCase("median", fcnn.Quantile(), 2, _values(2)),
        LossCase("three quantiles of two targets", fcnn.Quantile([0.1, 0.5, 0.8]), 6, _values(2)),
    ],
    "poisson": [LossCase("two counts", fcnn.Poisson(), 2, _counts(2))],
    "hinge": [
        LossCase("one output", fcnn.Hinge(), 1, _labels(2)),
        LossCase("squared", fcnn.Hinge(squared=True), 3, _bits(3)),
    ],
}

REGULARIZER_CASES: dict[str, list[fcnn.regularizers.Regularizer]] = {
    "l1": [fcnn.regularizers.L1(), fcnn.regularizers.L1(0.7)],
    "l2": [fcnn.regularizers.L2(), fcnn.regularizers.L2(0.7)],
    "l1_l2": [fcnn.regularizers.L1L2(), fcnn.regularizers.L1L2(0.7, 0.3), fcnn.regularizers.L1L2(0.0, 0.0)],
}

OPTIMIZER_CASES: dict[str, list[Callable[..., fcnn.optimizers.Optimizer]]] = {
    "sgd": [
        lambda **clip: fcnn.SGD(0.05, **clip),
        lambda **clip: fcnn.SGD(0.02, momentum=0.9, **clip),
        lambda **clip: fcnn.SGD(0.02, momentum=0.8, nesterov=True, weight_decay=0.3, **clip),
    ],
    "adam": [
        lambda **clip: fcnn.Adam(0.01, **clip),
        lambda **clip: fcnn.Adam(0.01, beta1=0.8, beta2=0.95, eps=1e-4, **clip),
        lambda **clip: fcnn.Adam(0.01, beta1=0.0, **clip),
        lambda **clip: fcnn.Adam(0.01, beta2=0.9, amsgrad=True, weight_decay=0.3, **clip),
    ],
    "adamw": [
        lambda **clip: fcnn.AdamW(0.01, **clip),
        lambda **clip: fcnn.AdamW(0.01, weight_decay=0.3, eps=1e-6, **clip),
        lambda **clip: fcnn.AdamW(0.01, weight_decay=0.3, decay_all=True, **clip),
    ],
    "rmsprop": [
        lambda **clip: fcnn.RMSprop(0.003, **clip),
        lambda **clip: fcnn.RMSprop(0.003, alpha=0.9, eps=1e-5, momentum=0.7, weight_decay=0.3, **clip),
        lambda **clip: fcnn.RMSprop(0.003, alpha=0.9, eps=1e-2, centered=True, weight_decay=0.3, **clip),
        lambda **clip: fcnn.RMSprop(0.003, eps=1e-2, momentum=0.7, centered=True, **clip),
    ],
    "adagrad": [
        lambda **clip: fcnn.Adagrad(0.05, **clip),
        lambda **clip: fcnn.Adagrad(0.05, lr_decay=0.1, eps=1e-6, **clip),
        lambda **clip: fcnn.Adagrad(0.05, lr_decay=0.1, weight_decay=0.3, **clip),
    ],
    "nadam": [
        lambda **clip: fcnn.NAdam(0.01, **clip),
        lambda **clip: fcnn.NAdam(0.01, beta1=0.8, beta2=0.95, eps=1e-4, momentum_decay=0.5, weight_decay=0.3, **clip),
        lambda **clip: fcnn.NAdam(0.01, beta1=0.0, momentum_decay=0.0, **clip),
    ],
    "radam": [
        lambda **clip: fcnn.RAdam(0.1, **clip),
        lambda **clip: fcnn.RAdam(0.05, beta1=0.8, beta2=0.8, eps=1e-4, weight_decay=0.3, **clip),
        lambda **clip: fcnn.RAdam(0.1, beta2=0.5, **clip),
    ],
    "adamax": [
        lambda **clip: fcnn.Adamax(0.01, **clip),
        lambda **clip: fcnn.Adamax(0.01, beta1=0.8, beta2=0.9, eps=1e-4, weight_decay=0.3, **clip),
    ],
    "adadelta": [
        lambda **clip: fcnn.Adadelta(5.0, **clip),
        lambda **clip: fcnn.Adadelta(2.0, rho=0.8, eps=1e-4, weight_decay=0.3, **clip),
    ],
    "lion": [
        lambda **clip: fcnn.Lion(0.003, **clip),
        lambda **clip: fcnn.Lion(0.003, beta1=0.5, beta2=0.8, weight_decay=0.3, **clip),
    ],
    "muon": [
        lambda **clip: fcnn.Muon(0.01, **clip),
        lambda **clip: fcnn.Muon(
            0.01, orthogonalize=["*.W"], nesterov=False, adjust_lr_fn="original", adam_rate_factor=0.5, **clip
        ),
        lambda **clip: fcnn.Muon(
            0.01, 0.3, momentum=0.5, orthogonalize=["0.*"], ns_coefficients=(1.5, -0.5, 0.0), ns_steps=3, **clip
        ),
    ],
}

SCHEDULE_CASES: dict[str, list[fcnn.schedules.Schedule]] = {
    "constant": [fcnn.schedules.Constant(0.1)],
    "step": [fcnn.schedules.StepDecay(0.1, every=3, factor=0.5)],
    "exponential": [fcnn.schedules.Exponential(0.1, factor=0.8)],
    "cosine": [fcnn.schedules.Cosine(0.1, final=0.01), fcnn.schedules.Cosine(0.1, epochs=7.0)],
    "linear": [fcnn.schedules.Linear(0.1, final=0.02), fcnn.schedules.Linear(0.02, final=0.1, epochs=5.0)],
    "polynomial": [fcnn.schedules.Polynomial(0.1), fcnn.schedules.Polynomial(0.1, 2.0, final=0.01, epochs=6.0)],
    "invscaling": [fcnn.schedules.InverseScaling(0.1), fcnn.schedules.InverseScaling(0.1, power=1.0, per_epoch=3.0)],
    "piecewise_constant": [
        fcnn.schedules.PiecewiseConstant(0.1, [2.0, 5.0]),
        fcnn.schedules.PiecewiseConstant(0.1, [3.0], factor=[0.5]),
    ],
    "cosine_restarts": [
        fcnn.schedules.CosineRestarts(0.1, epochs=3.0),
        fcnn.schedules.CosineRestarts(0.1, epochs=1.0, multiplier=2.0, final=0.01),
    ],
    "adaptive": [fcnn.schedules.Adaptive(0.1, patience=2)],
    "warmup": [fcnn.schedules.Warmup(fcnn.schedules.Constant(0.1), epochs=4.0, start=0.25)],
    "one_cycle": [fcnn.schedules.OneCycle(0.1)],
    "flat_cos": [fcnn.schedules.FlatCos(0.1), fcnn.schedules.FlatCos(0.1, flat=0.25, final=0.01)],
    "coslog4": [fcnn.schedules.CosLog4(0.1), fcnn.schedules.CosLog4(0.1, cycles=1)],
    "reduce_on_plateau": [fcnn.schedules.ReduceOnPlateau(0.1, factor=0.5, patience=2)],
}


@dataclass(frozen=True)
class Family:
    """A registry with the cases of its members."""

    registry: Registry[Any]
    cases: dict[str, list[Any]] = field(repr=False)

    def all_cases(self) -> list[tuple[str, Any]]:
        """(member's name, case) for every case of every member."""
        return [(name, case) for name in self.registry for case in self.cases.get(name, ())]


FAMILIES: dict[str, Family] = {
    "layer": Family(LAYERS, LAYER_CASES),
    "activation": Family(ACTIVATIONS, ACTIVATION_CASES),
    "loss": Family(LOSSES, LOSS_CASES),
    "regularizer": Family(REGULARIZERS, REGULARIZER_CASES),
    "optimizer": Family(OPTIMIZERS, OPTIMIZER_CASES),
    "schedule": Family(SCHEDULES, SCHEDULE_CASES),
}


def labelled(family: str) -> list[Any]:
    """(name, case) pairs of a family with readable test ids."""
    import pytest

    pairs = FAMILIES[family].all_cases()
    ids = [f"{name}-{getattr(case, 'label', i)}".replace(" ", "-") for i, (name, case) in enumerate(pairs)]
    return [pytest.param(name, case, id=label) for (name, case), label in zip(pairs, ids, strict=True)]


def away_from_kinks(rng: np.random.Generator, shape: tuple[int, ...], distance: float = 1e-3) -> HostArray:
    """Normal random numbers whose absolute value is at least `distance`, so that a small step crosses no kink at 0."""
    x = rng.standard_normal(shape)
    return np.where(np.abs(x) < distance, np.copysign(distance, x), x)
