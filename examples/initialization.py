"""How large should initial weights be? So large that the signal neither dies nor explodes on its way through.

One weighted sum of n_in inputs has Var(z) = n_in · Var(w) · E[a²]. Xavier's weights (for tanh) and He's (for ReLU)
choose Var(w) such that the variance of the pre-activations Z stays of the same order from layer to layer; N(0, 0.01)
does not look at n_in, and the signal dies. This program measures it in twenty layers on standard normal inputs.

    python examples/initialization.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import fcnn_gpu as fcnn

WIDTH = 512
N_LAYERS = 20
BATCH = 1000

SCHEMES: dict[str, tuple[str, str]] = {
    "tanh, Xavier": ("tanh", "xavier_uniform"),
    "ReLU, He": ("relu", "he_normal"),
    "tanh, N(0, 0.01)": ("tanh", "normal"),
    "ReLU, N(0, 0.01)": ("relu", "normal"),
}
"""Activation and initializer."""

BANDS: dict[str, tuple[float, float]] = {
    # tanh(z)² < z², so the variance v goes down slowly by itself: v ← E[tanh² z] ≈ v − 2v², so 1/(2·20) after 20 layers
    "tanh, Xavier": (0.02, 1.2),
    # constant at 2 on average; a network of 512 neurons strays from it by a factor of about e^√(5·20/512) ≈ 1.6
    "ReLU, He": (0.5, 8.0),
}
"""Where the variance of Z stays, over all twenty layers."""


def preactivation_variances(
    activation: str, init: str, n_layers: int = N_LAYERS, width: int = WIDTH, seed: int = 0
) -> list[float]:
    """Var(Z) of each layer, over all neurons and a batch of standard normal inputs."""
    layers: list[Any] = []
    for _ in range(n_layers):
        layers += [fcnn.Dense(width, init=init), fcnn.Activation(activation)]
    model = fcnn.Sequential(layers, n_in=width, seed=seed, dtype="float64", backend="numpy")
    A = np.random.default_rng(seed).standard_normal((BATCH, width)).T
    variances = []
    for layer, cache in zip(model.layers, model.batch_arrays(BATCH, training=False).caches, strict=True):
        A = layer.forward(A, cache, training=False)
        if isinstance(layer, fcnn.Dense):  # without an activation of its own, its output is Z
            variances.append(float(A.var()))
    return variances


def main() -> None:
    """Print Var(Z) of every layer under each scheme."""
    columns = {name: preactivation_variances(*scheme) for name, scheme in SCHEMES.items()}
    table = Table(
        title=f"Var(Z) in networks of {N_LAYERS} layers of {WIDTH} neurons, before training", show_footer=True
    )
    table.add_column("layer", footer="band", justify="right")
    for name in columns:
        low, high = BANDS.get(name, (0.0, 0.0))
        table.add_column(name, footer=f"{low:g} ... {high:g}" if high else "dies out", justify="right")
    for i in range(N_LAYERS):
        table.add_row(str(i + 1), *(f"{variances[i]:.2e}" for variances in columns.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
