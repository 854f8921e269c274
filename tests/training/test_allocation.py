"""On NumPy a training step in its steady state allocates no array memory, whatever the layers' width."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.activations import ACTIVATIONS
from fcnn_gpu.backend import quiet_arithmetic
from fcnn_gpu.data._device_data import DeviceData, epoch_order
from fcnn_gpu.losses import LOSSES
from fcnn_gpu.optimizers import OPTIMIZERS
from fcnn_gpu.training._run import Run

KIBIBYTE = 1024
LARGEST_GROWTH = 1 * KIBIBYTE
"""Python objects come and go; nothing may stay."""
LARGEST_PEAK = 24 * KIBIBYTE
"""Objects of the step under way (more of them under coverage), and either NumPy's buffer for an operand that it
broadcasts (4 KiB, 8 in float64) or a chunk of random words (16 KiB)."""

BATCH = 16


def _memory(
    layers: list[Any],
    *,
    n_in: int = 24,
    loss: Any = "cross_entropy",
    optimizer: Any = "sgd",
    weighted: bool = False,
    dtype: str = "float32",
    targets: Callable[[np.random.Generator, int, int], HostArray] | None = None,
) -> tuple[int, int]:
    """(growth, peak) in bytes that 100 steps trace beyond what was there before them.

    Memory of the whole process is traced, other threads' and what is left of other tests too: where it is too much,
    another 100 steps show whether it is the steps' own.
    """
    model = fcnn.Sequential(layers, n_in=n_in, seed=0, backend="numpy", dtype=dtype)
    trainer = fcnn.Trainer(model, loss=loss, optimizer=optimizer, metrics=["accuracy"])
    rng = np.random.default_rng(0)
    n = 2 * BATCH + BATCH // 2  # the last batch is a smaller one
    X = rng.normal(size=(n, n_in)).astype(dtype)
    if model.categories is not None:
        X[:, model.categories.columns] = rng.integers(0, model.categories.counts)
    y = rng.integers(0, model.n_out, n) if targets is None else targets(rng, n, model.n_out)
    prepared = trainer.loss.prepare_targets(y, model.n_out, model.dtype)
    weights = rng.uniform(0.5, 2.0, n).astype(dtype) if weighted else None
    data = DeviceData(model.ops, X, prepared, weights, BATCH)
    trainer.n_epochs, trainer.steps_per_epoch = 1, 3
    run = Run(trainer, data, prepared, None, trainer._evaluator, True, False, True)
    run._epoch.begin(1)
    whole, smaller = (run._step.program(n, scheduled=run._epoch.scheduled) for n in (BATCH, BATCH // 2))
    data.start_epoch(epoch_order(n, 0, 0, True))

    def steps(n_steps: int) -> None:
        for i in range(n_steps):
            if i % 3 == 0:
                model.ops.fill(data.cursor, 0)
            (smaller if i % 3 == 2 else whole)()

    with quiet_arithmetic():
        gc.collect()
        tracemalloc.start()
        try:
            steps(60)  # scratch grows to its size, and NumPy's own small caches fill
            for _ in range(3):
                before = tracemalloc.get_traced_memory()[0]
                tracemalloc.reset_peak()
                steps(100)
                after, peak = tracemalloc.get_traced_memory()
                growth, peak = after - before, peak - before
                if growth < LARGEST_GROWTH and peak < LARGEST_PEAK:
                    break
        finally:
            tracemalloc.stop()
    assert trainer.optimizer.control.failed_step[0] == -1  # the steps did their work
    return growth, peak


def _assert_steady(memory: tuple[int, int]) -> None:
    growth, peak = memory
    assert growth < LARGEST_GROWTH
    assert peak < LARGEST_PEAK


@pytest.mark.parametrize("width", [8, 128, 1024, 2048])
def test_any_width(width: int) -> None:
    layers = [fcnn.Dense(width, activation="relu"), fcnn.Dense(64, activation="tanh"), fcnn.Dense(10)]
    _assert_steady(_memory(layers, optimizer="adam"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_every_activation(activation: str, dtype: str) -> None:
    layers = [fcnn.Dense(600, activation=activation), fcnn.Activation(activation), fcnn.Dense(10)]
    _assert_steady(_memory(layers, dtype=dtype))


LAYERS: dict[str, Callable[[], list[fcnn.Layer]]] = {
    "dense": lambda: [fcnn.Dense(500, bias=False), fcnn.Dense(400, parametrization="ntk")],
    "activation": lambda: [fcnn.Activation("silu")],
    "dropout": lambda: [fcnn.Dropout(0.3)],
    "batch_norm": lambda: [fcnn.BatchNorm()],
    "layer_norm": lambda: [fcnn.LayerNorm()],
    "alpha_dropout": lambda: [fcnn.AlphaDropout(0.3)],
    "gaussian_noise": lambda: [fcnn.GaussianNoise(0.3)],
    "group_norm": lambda: [fcnn.GroupNorm(3)],
    "rms_norm": lambda: [fcnn.RMSNorm()],
    "scale": lambda: [fcnn.Scale()],
    "parametric_activation": lambda: [fcnn.ParametricActivation("selu"), fcnn.ParametricActivation("tanh")],
    "prelu": lambda: [fcnn.PReLU()],
    "members": lambda: [fcnn.Dense(100), fcnn.Members(3), fcnn.Dropout([0.1, 0.2, 0.3])],
    "dense_ensemble": lambda: [fcnn.Members(3), fcnn.DenseEnsemble(150, 3, "relu"), fcnn.DenseEnsemble(100, 3, "gelu")],
    "batch_ensemble": lambda: [fcnn.Members(3), fcnn.BatchEnsemble(150, 3, "relu"), fcnn.BatchEnsemble(100, 3, "gelu")],
    "pbld": lambda: [fcnn.PBLD(range(20))],
    "periodic_embedding": lambda: [fcnn.PeriodicEmbedding(range(9), lite=True)],
    "piecewise_linear_embedding": lambda: [fcnn.PiecewiseLinearEmbedding([[0, 1, 3, 4]] * 9, range(9))],
    "embedding": lambda: [fcnn.Embedding([2, 0], [5, 300])],
    "residual": lambda: [fcnn.Residual([fcnn.Dense(300, activation="relu"), fcnn.Dropout(0.1)])],
    "branches": lambda: [fcnn.Branches([[fcnn.Dense(200, activation="relu"), fcnn.Dropout(0.1)], [fcnn.Dense(100)]])],
}


def test_every_layer_type_is_measured() -> None:
    assert set(LAYERS) == set(fcnn.layers.LAYERS)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", list(LAYERS))
def test_every_layer(name: str, dtype: str) -> None:
    before = [] if name == "embedding" else [fcnn.Dense(300, activation="relu")]  # its inputs are categories
    _assert_steady(_memory([*before, *LAYERS[name](), fcnn.Dense(10)], dtype=dtype))


def test_a_residual_layer_with_a_projection() -> None:
    block = [fcnn.BatchNorm(), fcnn.Dense(200, activation="gelu"), fcnn.LayerNorm()]
    _assert_steady(_memory([fcnn.Dense(300), fcnn.Residual(block), fcnn.Dense(10)]))


@pytest.mark.parametrize("clip", [{}, {"clip_norm": 1e-3}, {"clip_value": 1e-4}], ids=["free", "norm", "value"])
@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_optimizer_with_penalties_and_clipping(name: str, clip: dict[str, Any]) -> None:
    optimizer = OPTIMIZERS[name](**clip)
    _assert_steady(_memory([fcnn.Dense(900, l1=1e-4, l2=1e-4), fcnn.Dense(10, l2=0.1)], optimizer=optimizer))


@pytest.mark.parametrize("optimizer", [fcnn.SGD(momentum=0.9, nesterov=True), fcnn.RMSprop(momentum=0.9)], ids=repr)
def test_momentum(optimizer: Any) -> None:
    _assert_steady(_memory([fcnn.Dense(900), fcnn.Dense(10)], optimizer=optimizer))


def test_a_schedule() -> None:
    optimizer = fcnn.SGD(fcnn.schedules.Warmup(fcnn.schedules.Cosine(0.1), epochs=0.5))
    _assert_steady(_memory([fcnn.Dense(900), fcnn.Dense(10)], optimizer=optimizer))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", list(LOSSES))
def test_every_loss(name: str, weighted: bool) -> None:
    values: Any = lambda rng, n, n_out: rng.integers(0, 2, (n, n_out)).astype(float)  # noqa: E731
    if name == "kl_divergence":
        values = lambda rng, n, n_out: rng.dirichlet(np.ones(n_out), n)  # noqa: E731
    elif LOSSES[name].link == "softmax":
        values = None
    _assert_steady(_memory([fcnn.Dense(64), fcnn.Dense(500)], loss=name, targets=values, weighted=weighted))


@pytest.mark.parametrize("soft", [False, True], ids=["labels", "soft"])
@pytest.mark.parametrize("options", [{"label_smoothing": 0.1}, {"class_weight": [0.5] * 500}, {}], ids=str)
def test_every_option_of_the_cross_entropy(options: dict[str, Any], soft: bool) -> None:
    if "class_weight" in options:
        options = options | {"label_smoothing": 0.1}
    values = (lambda rng, n, n_out: rng.dirichlet(np.ones(n_out), n)) if soft else None
    loss = fcnn.CrossEntropy(**options)
    _assert_steady(_memory([fcnn.Dense(64), fcnn.Dense(500)], loss=loss, targets=values, weighted=True))
