"""`Trainer.fit` on full MNIST that lies on the device: ten epochs of 784-128-10 in batches of 128."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcnn_gpu import Adam, Trainer
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.bench.nets import Net
from fcnn_gpu.datasets import DataFileError, load

from .plan import Plan
from .results import Fit
from .timing import warm_up

NET, BATCH, EPOCHS = Net((784, 128, 10)), 128, 10
WANTED_SECONDS = 1.0
"""For the ten epochs."""
WANTED_ACCURACY = 0.97
"""Of the test images; nets of this size reach 97.5 to 98.3 %. A fast training that learns nothing is no success."""


@dataclass(frozen=True)
class Samples:
    """What is trained on, on the host: X (n, n_in) float32, y (n,); and for MNIST the test images."""

    name: str
    X: HostArray
    y: HostArray
    X_test: HostArray | None = None
    y_test: HostArray | None = None


def measure(plan: Plan, epochs: int = EPOCHS, samples: Samples | None = None) -> Iterator[Fit | str]:
    """MNIST if its files are here, otherwise, and named so, random numbers of its shape."""
    ops = plan.ops()
    if plan.small:
        samples, epochs = random_samples(plan.seed, 2 * BATCH), 1
    if samples is None:
        try:
            samples = mnist()
        except (FileNotFoundError, DataFileError) as error:
            yield (
                f"MNIST is absent ({str(error).splitlines()[0]}), so random numbers of its shape took its place; the "
                "target is about MNIST. Put its four files into a folder and name that in FCNN_DATA_DIR."
            )
            samples = random_samples(plan.seed)
    warm_up(ops, plan, 0.5)
    yield time_fits(ops, samples, epochs, 2 if plan.quick else 5, plan.seed, NET)


def mnist() -> Samples:
    """The 60,000 and 10,000 images. Raises FileNotFoundError or DataFileError; downloads nothing."""
    data = load("mnist", download=False)
    return Samples("MNIST", data.X_train, data.y_train, data.X_test, data.y_test)


def random_samples(seed: int, n: int = 60_000) -> Samples:
    """Uniform pixels and labels: the same work, nothing to learn."""
    rng = np.random.default_rng(seed)
    X = rng.random((n, NET.n_in), np.float32)
    return Samples("random numbers of MNIST's shape", X, rng.integers(0, NET.n_out, n))


def time_fits(ops: Ops, samples: Samples, epochs: int, rounds: int, seed: int, net: Net) -> Fit:
    """The first call of `fit`, then `rounds` more, each with a model of its own; the data is on the device before."""
    X: Any = ops.asarray(samples.X)
    y: Any = ops.asarray(samples.y)
    seconds: list[float] = []
    for _ in range(1 + rounds):
        model = net.model(ops, seed)
        trainer = Trainer(model, optimizer=Adam(1e-3), seed=seed)
        ops.synchronize()
        start = time.perf_counter()
        history = trainer.fit(X, y, epochs=epochs, batch_size=BATCH, progress=False)
        ops.synchronize()
        seconds.append(time.perf_counter() - start)
    accuracy = None
    if samples.X_test is not None and samples.y_test is not None:
        accuracy = float(np.mean(model.predict_classes(samples.X_test) == samples.y_test))
    return Fit(
        data=samples.name,
        net=net.name,
        batch=BATCH,
        precision="float32",
        epochs=epochs,
        n_samples=len(samples.X),
        first_seconds=seconds[0],
        seconds=seconds[1:],
        epoch_seconds=[float(s) for s in history["seconds"]],
        accuracy=accuracy,
    )
