"""A large network and a small training set: how well does it do on digits that it has not seen, and what helps?

Four hidden layers of 512 neurons have 1.2 million weights. Trained on 500 images, the network learns every one of them
by heart and is wrong on every ninth new one. It is trained again with L2, with L2 and dropout, and with batch
normalization besides; everything else (images, learning rate, epochs) stays. The settings were chosen by the validation
accuracy; the test images had no part in that.

    python examples/regularization.py --out docs/images/regularization.png
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

import fcnn_gpu as fcnn
from fcnn_gpu.training import make_figure, saved

WIDTHS = (512, 512, 512, 512)
N_TRAINING = 500
N_VALIDATION = 2000
EPOCHS = 80
BATCH_SIZE = 50
LEARNING_RATE = 5e-3
SEEDS = range(5)
CURVE_EVERY = 8


@dataclass(frozen=True)
class Regularization:
    """What keeps a network from learning its training set by heart.

    l2: λ of the penalty λΣw². dropout: p for hidden units. input_dropout: p for pixels. batch_norm: whether hidden
    layers are normalized over the batch.
    """

    l2: float = 0.0
    dropout: float = 0.0
    input_dropout: float = 0.0
    batch_norm: bool = False


VARIANTS: dict[str, Regularization] = {
    "none": Regularization(),
    "L2": Regularization(l2=1e-4),
    "L2 + dropout": Regularization(l2=1e-4, dropout=0.3, input_dropout=0.5),
    "L2 + dropout + batch norm": Regularization(l2=1e-4, dropout=0.3, input_dropout=0.5, batch_norm=True),
}


@dataclass(frozen=True)
class Result:
    """One variant over all seeds: accuracies (n_seeds,), and the validation accuracy's curves (n_seeds, n_points)."""

    training: np.ndarray[Any, Any]
    validation: np.ndarray[Any, Any]
    test: np.ndarray[Any, Any]
    curves: np.ndarray[Any, Any]

    @property
    def gap(self) -> float:
        """Training minus validation accuracy, mean over the seeds."""
        return float(np.mean(self.training - self.validation))


def make_model(regularization: Regularization, seed: int) -> fcnn.Sequential:
    """784–512–512–512–512–10 with ReLU, regularized."""
    r = regularization
    layers: list[fcnn.Layer] = [fcnn.Dropout(r.input_dropout)] if r.input_dropout else []
    for width in WIDTHS:
        if r.batch_norm:
            dense = fcnn.Dense(width, init="he_normal", bias=False, l2=r.l2)
            layers += [dense, fcnn.BatchNorm(), fcnn.Activation("relu")]
        else:
            layers.append(fcnn.Dense(width, activation="relu", l2=r.l2))
        if r.dropout:
            layers.append(fcnn.Dropout(r.dropout))
    return fcnn.Sequential([*layers, fcnn.Dense(10, l2=r.l2)], n_in=784, seed=seed)


class Curve(fcnn.Callback):
    """The accuracy on held-out samples after every eighth epoch."""

    def __init__(self, X: Any, y: Any) -> None:
        self.X, self.y = X, y
        self.values: list[float] = []

    def on_epoch_end(self, trainer: fcnn.Trainer, record: dict[str, float]) -> None:
        if record["epoch"] % CURVE_EVERY == 0:
            self.values.append(trainer.evaluate(self.X, self.y)["accuracy"])


def train_once(regularization: Regularization, seed: int) -> tuple[list[float], list[float]]:
    """(training, validation and test accuracy, validation curve); the seed also draws the images."""
    data = fcnn.datasets.load("mnist-mini")
    order = np.random.default_rng(seed).permutation(len(data.X_train))
    train, validation = order[:N_TRAINING], order[N_TRAINING : N_TRAINING + N_VALIDATION]
    X, y = data.X_train[train], data.y_train[train]
    held_out = data.X_train[validation], data.y_train[validation]
    optimizer = fcnn.Adam(fcnn.schedules.Cosine(LEARNING_RATE))
    trainer = fcnn.Trainer(make_model(regularization, seed), optimizer=optimizer, metrics=["accuracy"])
    curve = Curve(*held_out)
    trainer.fit(X, y, epochs=EPOCHS, batch_size=BATCH_SIZE, progress=False, callbacks=[curve])
    parts = (X, y), held_out, (data.X_test, data.y_test)
    return [trainer.evaluate(*part)["accuracy"] for part in parts], curve.values  # at inference: nothing is dropped


def measure(regularization: Regularization, seeds: Sequence[int] = SEEDS) -> Result:
    """Train with each seed; the seeds share the processor's cores, one thread each."""
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = list(pool.map(lambda seed: train_once(regularization, seed), seeds))
    training, validation, test = np.array([accuracies for accuracies, _ in runs]).T
    return Result(training, validation, test, np.array([curve for _, curve in runs]))


def table_of(results: dict[str, Result]) -> Table:
    """Accuracies in percent, means over the seeds; of the validation also the standard deviation and the change."""
    table = Table("", title=f"784–512–512–512–512–10 on {N_TRAINING} images, mean of {len(SEEDS)} seeds: accuracy in %")
    for name in ("training", "validation", "gap", "test", "change"):
        table.add_column(name, justify="right")
    baseline = results["none"].validation
    for name, result in results.items():
        table.add_row(
            name,
            f"{100 * result.training.mean():.1f}",
            f"{100 * result.validation.mean():.1f} ± {100 * result.validation.std():.1f}",
            f"{100 * result.gap:.1f}",
            f"{100 * result.test.mean():.1f}",
            "" if name == "none" else f"{100 * np.mean(result.validation - baseline):+.1f}",
        )
    return table


def plot(results: dict[str, Result], path: str) -> None:
    """Left: validation accuracy over the epochs, mean of the seeds. Right: where training and validation end."""
    styles = dict(zip(results, ["-", "--", "-.", "-"], strict=True))
    colors = dict(zip(results, ["#000000", "#e69f00", "#0072b2", "#d55e00"], strict=True))
    figure = make_figure(11, 4.2)
    curves, ends = figure.subplots(1, 2, width_ratios=[1.25, 1])
    for name, result in results.items():
        mean = 100 * result.curves.mean(axis=0)
        epochs = CURVE_EVERY * np.arange(1, len(mean) + 1)
        curves.plot(epochs, mean, color=colors[name], linestyle=styles[name], marker="o", markersize=3, label=name)
    curves.set(xlabel="epoch", ylabel="validation accuracy in %", ylim=(80, 92))
    curves.legend(facecolor="white", framealpha=0.85, edgecolor="none", loc="lower right")
    names = list(results)[::-1]
    for i, name in enumerate(names):
        result = results[name]
        validation, training = 100 * result.validation, 100 * result.training
        ends.plot([validation.mean(), training.mean()], [i, i], color="#bbbbbb", linewidth=3, zorder=1)
        ends.scatter(validation, np.full(len(validation), i), color=colors[name], s=14, alpha=0.6, zorder=2)
        ends.scatter(validation.mean(), i, color=colors[name], s=60, zorder=3)
        ends.scatter(training.mean(), i, facecolor="white", edgecolor=colors[name], s=60, zorder=3)
        ends.annotate(f"{validation.mean():.1f}", (validation.mean(), i + 0.2), ha="center", fontsize=9)
    ends.set(xlabel="accuracy in %: validation (filled) and training (ring)", ylim=(-0.6, len(names) - 0.4))
    ends.set_yticks(range(len(names)), names)
    for axes in (curves, ends):
        axes.grid(alpha=0.3, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    saved(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every variant, print the table and draw the picture."""
    parser = argparse.ArgumentParser(description="The effect of regularization on a large network with little data.")
    parser.add_argument("--out", help="the picture's file; needs the plot extra")
    options = parser.parse_args(arguments)
    results = {}
    for name, regularization in VARIANTS.items():
        print(f"Training: {name}", flush=True)
        results[name] = measure(regularization)
    Console().print(table_of(results))
    if options.out:
        plot(results, options.out)


if __name__ == "__main__":
    main()
