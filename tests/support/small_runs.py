"""A small network with every kind of layer, samples for it, and runs of it to compare bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np

import fcnn_gpu as fcnn
from fcnn_gpu.schedules import Schedule

N, N_IN, N_CLASSES = 50, 5, 3
X = np.random.default_rng(0).normal(size=(N, N_IN)).astype(np.float32)
Y = np.argmax(X[:, :3] + 0.1 * X[:, 3:4], axis=1)


def network(seed: int = 0, **options: Any) -> fcnn.Sequential:
    layers = [
        fcnn.Dense(8, activation="tanh", l2=1e-3),
        fcnn.BatchNorm(),
        fcnn.Dropout(0.2),
        fcnn.Residual([fcnn.Dense(8, activation="gelu")]),
        fcnn.Dense(N_CLASSES),
    ]
    return fcnn.Sequential(layers, n_in=N_IN, seed=seed, backend="numpy", **options)


def trainer(seed: int = 0, optimizer: Any = None, **options: Any) -> fcnn.Trainer:
    return fcnn.Trainer(network(seed), optimizer=optimizer or fcnn.Adam(0.01), **options)


def fit(t: fcnn.Trainer, x: Any = X, y: Any = Y, **options: Any) -> fcnn.History:
    return t.fit(x, y, **({"epochs": 3, "batch_size": 16, "progress": False} | options))


def values(t: fcnn.Trainer) -> dict[str, Any]:
    """Everything that a run changes, copied."""
    state = {f"optimizer.{name}": array.copy() for name, array in t.optimizer.state.items()}
    counters = {"step": int(t.optimizer.control.step[0]), "random_step": int(t.model.random_step[0])}
    return t.model.snapshot() | state | counters | {"epochs": t.epochs_trained}


def assert_same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


class TooMuch(Schedule):
    """A rate at which every first update overflows; as a number it would be refused."""

    def __call__(self, epoch: float, n_epochs: float) -> float:
        return 1e300
