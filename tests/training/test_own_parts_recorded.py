"""What users write stands in a recorded step as a call in Python: the run is, bit for bit, that of calls made anew."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.backend import Ops, resolve_backend
from fcnn_gpu.layers import Layer
from fcnn_gpu.losses import CrossEntropy
from fcnn_gpu.optimizers import SGD

from ..support.small_runs import N_CLASSES, N_IN, assert_same, fit, values


class Scaled(Layer):
    """A = 1.5·A₀ by way of new arrays."""

    name = "scaled"

    def allocate(self, plan: Any, training: bool) -> SimpleNamespace:
        return SimpleNamespace()

    def forward(self, A0: Any, cache: SimpleNamespace, training: bool) -> Any:
        return np.asfortranarray(1.5 * A0)

    def backward(self, dA: Any, cache: SimpleNamespace, needs_input_gradient: bool) -> Any:
        return np.asfortranarray(1.5 * dA)


class EverySecond(Layer):
    """In every second pass A₀ itself, in the others its half: the array that comes back is another each time."""

    name = "every_second"
    n_passes = 0

    def allocate(self, plan: Any, training: bool) -> SimpleNamespace:
        return SimpleNamespace(halved=False)

    def forward(self, A0: Any, cache: SimpleNamespace, training: bool) -> Any:
        if training:
            EverySecond.n_passes += 1
        cache.halved = training and EverySecond.n_passes % 2 == 0
        return 0.5 * A0 if cache.halved else A0

    def backward(self, dA: Any, cache: SimpleNamespace, needs_input_gradient: bool) -> Any:
        return 0.5 * dA if cache.halved else dA


class Doubled(CrossEntropy):
    """Twice the cross-entropy, by NumPy."""

    def compute(
        self, ops: Any, Z: Any, targets: Any, sample_weight: Any, losses: Any, dZ: Any, loss_scale: Any = None
    ) -> None:
        super().compute(ops, Z, targets, sample_weight, losses, dZ, loss_scale)
        losses *= 2
        dZ *= 2


class Signs(SGD):
    """θ ← θ − η sign(g), by NumPy."""

    def step(self) -> None:
        _, flat, control, _ = self._require()
        flat.values -= float(control.learning_rate[0]) * np.sign(flat.gradients)
        control.step += 1


def _parts(which: str) -> tuple[list[Layer], Any, Any]:
    own: dict[str, Callable[[], Layer]] = {"layer": Scaled, "changing layer": EverySecond}
    middle = [own[which]()] if which in own else []
    loss = Doubled() if which == "loss" else "cross_entropy"
    return middle, loss, Signs(0.01) if which == "optimizer" else "adam"


def _run(which: str, backend: Ops, capture: bool) -> dict[str, Any]:
    EverySecond.n_passes = 0
    middle, loss, optimizer = _parts(which)
    layers = [fcnn.Dense(8, activation="tanh"), *middle, fcnn.Dropout(0.2), fcnn.Dense(N_CLASSES)]
    model = fcnn.Sequential(layers, n_in=N_IN, seed=0, backend=backend)
    trainer = fcnn.Trainer(model, loss=loss, optimizer=optimizer)
    fit(trainer, capture=capture)
    return values(trainer) | {"outputs": model(np.ones((3, N_IN)))}


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@pytest.mark.parametrize("which", ["layer", "changing layer", "loss", "optimizer"])
def test_a_recorded_run_is_the_run_of_calls(which: str, backend: str) -> None:
    ops = resolve_backend(backend)
    assert_same(_run(which, ops, capture=True), _run(which, ops, capture=False))


def test_the_part_is_called_in_every_step() -> None:
    _run("changing layer", resolve_backend("numpy"), capture=True)
    assert EverySecond.n_passes == 3 * 4  # epochs, batches of 16 among 50 samples
