"""A first layer far larger than the memory: measured on the process, which cannot have more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.backend._ops import Ops
from tests.support.counted import counted_numpy_memory

from ..support.limited import needs_limits, run_limited
from ..support.placement_cases import PLACES

_STEPS = """
import sys, time
import numpy as np
import fcnn_gpu as fcnn

n_in, n_out, batch, memory_limit = map(int, sys.argv[2:6])
folder = sys.argv[6]
began = time.perf_counter()
layers = [
    fcnn.Dense(n_out, activation="relu", init="he_normal", l2=1e-6, placement="auto"),
    fcnn.Dropout(0.5),
    fcnn.Dense(10),
]
model = fcnn.Sequential(layers, n_in, seed=0, backend="numpy", memory_limit=memory_limit, storage=folder)
built = time.perf_counter()
optimizer = fcnn.Adam(1e-3).bind(model)
loss = fcnn.losses.CrossEntropy()
rng = np.random.default_rng(0)
rows, columns = rng.integers(0, n_out, 40), rng.integers(0, n_in, 40)
layer = model.layers[0]
moments, gradient_error, update_error, steps = np.zeros((2, 40)), 0.0, 0.0, []
for step in (1, 2):
    X = rng.random((batch, n_in), dtype="float32")
    y = rng.integers(0, 10, batch)
    start = time.perf_counter()
    outputs = model.forward(X, training=True)
    loss.forward(outputs, y)
    model.backward(loss.backward())
    before = layer.W[rows, columns].astype(float)
    data_gradient = layer.dW[rows, columns].astype(float)

    # Directly: dZ from the last layer's weights, the mask and the sign of the activations, sample by sample.
    weight = model.stored.weights[0]
    dZ, A0 = weight.factors
    assert np.shares_memory(A0, X)
    Z = np.array([X.astype(float) @ layer.W[row].astype(float) for row in rows]) + layer.b[rows]
    scores = np.asarray(outputs, float)
    P = np.exp(scores - scores.max(axis=1, keepdims=True))
    P /= P.sum(axis=1, keepdims=True)
    P[np.arange(batch), y] -= 1.0
    dA = model.layers[2].W[:, rows].astype(float).T @ P.T / batch
    masked = np.where(dZ[rows] != 0.0, 2.0, 0.0)  # dropout: what is left counts twice
    kept = (Z > 0) & (masked > 0)
    direct = ((dA * 2.0 * kept) * X[:, columns].T).sum(axis=1)
    scale = np.abs(direct).max()
    assert scale > 0
    gradient_error = max(gradient_error, float(np.abs(data_gradient - direct).max() / scale))

    optimizer.step()
    steps.append(time.perf_counter() - start)
    g = data_gradient + 2.0 * 1e-6 * before
    moments[0] = 0.9 * moments[0] + 0.1 * g
    moments[1] = 0.999 * moments[1] + 0.001 * g * g
    m, v = moments[0] / (1 - 0.9**step), moments[1] / (1 - 0.999**step)
    expected = before - 1e-3 * m / (np.sqrt(v) + 1e-8)
    update_error = max(update_error, float(np.abs(layer.W[rows, columns] - expected).max()))
result = {
    "placed": model.stored.store.place,
    "bytes": model.stored.size * 4,
    "gradient_error": gradient_error,
    "update_error": update_error,
    "moved": float(np.abs(layer.W[rows, columns] - before).max()),
    "build_seconds": built - began,
    "step_seconds": steps,
    "report": vars(model.memory_report(batch)),
}
"""


def train_limited(folder: Path, n_in: int, n_out: int, batch: int, memory_limit: int, data_limit: int) -> Any:
    done = run_limited(_STEPS, n_in, n_out, batch, memory_limit, folder, limit=data_limit, timeout=3000)
    result = done.result
    print(f"peak {done.peak / 1e6:,.0f} MB; {result}")
    assert result["placed"] == "disk"
    assert result["gradient_error"] < 1e-4
    assert result["update_error"] < 1e-6
    assert result["moved"] > 5e-4
    return done


@needs_limits
@pytest.mark.large
def test_two_steps_of_a_layer_of_ten_gigabytes_within_two(tmp_path: Path) -> None:
    """150,528 inputs (an image of 224×224×3) into 4,096 units: 2.5 GB of weights, as much twice again in moments."""
    done = train_limited(tmp_path / "net", 150_528, 4096, 32, 10**9, 2 * 10**9)
    assert done.peak <= 2 * 10**9


@needs_limits
def test_two_steps_of_a_layer_five_times_the_memory(tmp_path: Path) -> None:
    """The same ratio of weights, gradient and moments to memory, beside what Python and NumPy take by themselves."""
    imports = "from fcnn_gpu import *; import numpy, safetensors.numpy"
    empty = run_limited(f"{imports}; numpy.ones((64, 64)) @ numpy.ones((64, 64))")
    budget = 40 * 10**6
    done = train_limited(tmp_path / "net", 15_000, 820, 32, budget // 2, empty.peak + budget + 100 * 10**6)
    assert done.result["bytes"] * 4 > 4.9 * budget
    assert done.peak - empty.peak <= budget


@pytest.mark.parametrize("place", PLACES)
def test_the_host_memory_is_what_the_report_says(place: str) -> None:
    with counted_numpy_memory() as nbytes:
        layers = [
            fcnn.Dense(300, activation="relu", placement=place, l2=1e-3),
            fcnn.Dropout(0.5),
            fcnn.Dense(64, placement=place, activation="tanh"),
            fcnn.Dense(3),
        ]
        model = fcnn.Sequential(layers, 900, seed=0, backend=Ops(), memory_limit=1_000_000)
        report = model.memory_report(16, "adam", data=32)
        found: list[int] = []

        class AtTheEnd(fcnn.Callback):
            def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
                found.append(nbytes())

        X = np.random.default_rng(0).normal(size=(32, 900)).astype("float32")
        trainer = fcnn.Trainer(model, optimizer="adam")
        options: dict[str, Any] = {"callbacks": [AtTheEnd()], "progress": False}
        trainer.fit(X, np.arange(32) % 3, epochs=1, batch_size=16, **options)
    assert abs(report.total - found[0]) <= 0.02 * found[0] + 3072, f"{found[0]:,} bytes used\n{report}"
    assert ("on disk" in str(report)) == (place == "disk")
