"""Ten sigmoid layers starve the first of gradient; ReLU with He's weights, or residual connections, do not.

Each layer multiplies the gradient on its way back by f′ and by its weights, and σ′ ≤ ¼. This program builds networks of
ten hidden layers, makes one backward pass over the handwritten digits before any training, and prints the norm of
∂L/∂W of every layer: what the first layer gets to learn from.

    python examples/vanishing_gradients.py
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from rich.console import Console
from rich.table import Table

import fcnn_gpu as fcnn

WIDTH = 64
N_LAYERS = 10

HIDDEN_LAYERS: Mapping[str, Callable[[], fcnn.Layer]] = {
    "sigmoid": lambda: fcnn.Dense(WIDTH, activation="sigmoid"),
    "sigmoid, residual": lambda: fcnn.Residual([fcnn.Dense(WIDTH, activation="sigmoid")]),
    "ReLU, N(0, 0.01)": lambda: fcnn.Dense(WIDTH, activation="relu", init="normal"),
    "ReLU, He": lambda: fcnn.Dense(WIDTH, activation="relu", init="he_normal"),
}


def gradient_norms(make_layer: Callable[[], fcnn.Layer], n_layers: int = N_LAYERS, seed: int = 0) -> list[float]:
    """‖∂L/∂W‖ of each of `n_layers` hidden layers, from the first to the last, at the initial weights."""
    data = fcnn.datasets.load("digits")
    layers = [*(make_layer() for _ in range(n_layers)), fcnn.Dense(10)]
    model = fcnn.Sequential(layers, n_in=data.n_features, seed=seed, dtype="float64", backend="numpy")
    loss = fcnn.CrossEntropy()
    loss.forward(model.forward(data.X_train, training=True), data.y_train)
    model.backward(loss.backward())
    weights = [parameter for parameter in model.parameters if parameter.is_weight]
    return [float(np.linalg.norm(parameter.gradient)) for parameter in weights[:n_layers]]


def main() -> None:
    """Print one column per kind of layer, and the ratio of the first layer's gradient to the last's."""
    columns = {name: gradient_norms(make) for name, make in HIDDEN_LAYERS.items()}
    table = Table(title=f"‖∂L/∂W‖ of {N_LAYERS} hidden layers of {WIDTH} neurons, before training", show_footer=True)
    table.add_column("layer", footer="first / last", justify="right")
    for name, norms in columns.items():
        table.add_column(name, footer=f"{norms[0] / norms[-1]:.1e}", justify="right")
    for i in range(N_LAYERS):
        table.add_row(str(i + 1), *(f"{norms[i]:.2e}" for norms in columns.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
