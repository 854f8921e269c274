"""Draws the pictures of the documentation: python docs/images/draw.py (needs matplotlib)."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

FORWARD, BACKWARD, BOX = "#24292f", "#b3261e", "#eaf1fb"


def box(ax: Axes, x: float, text: str, width: float) -> None:
    style = "round,pad=0,rounding_size=0.12"
    ax.add_patch(FancyBboxPatch((x - width / 2, 1.55), width, 0.9, boxstyle=style, fc=BOX, ec=FORWARD))
    ax.text(x, 2.0, text, ha="center", va="center", size=12, color=FORWARD)


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    line = "--" if color == BACKWARD else "-"
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=12, color=color, ls=line, lw=1.2))


def one_neuron(path: Path) -> None:
    """z = w·x + b, ŷ = σ(z), L = ½(y − ŷ)²: values forward, derivatives backward."""
    x, w, b, y = 2.0, 0.5, -0.5, 1.0
    z = w * x + b
    y_hat = 1 / (1 + math.exp(-z))
    loss = 0.5 * (y - y_hat) ** 2
    d_y_hat = y_hat - y
    dz = d_y_hat * y_hat * (1 - y_hat)

    fig, ax = plt.subplots(figsize=(9.6, 3.1))
    ax.set(xlim=(0, 12), ylim=(-0.15, 3.7))
    ax.axis("off")
    for height, name, value in ((3.2, "x", x), (2.0, "w", w), (0.8, "b", b)):
        ax.text(0.75, height, f"{name} = {value:g}".replace("-", "−"), ha="center", va="center", size=12)
        arrow(ax, (1.4, height), (2.6, 2.0 + (height - 2.0) * 0.25), FORWARD)
    box(ax, 3.55, "z = w·x + b", 1.9)
    box(ax, 6.9, "ŷ = σ(z)", 1.5)
    box(ax, 10.45, "L = ½(y − ŷ)²", 2.1)
    ax.text(10.45, 3.2, f"y = {y:g}", ha="center", va="center", size=12)
    arrow(ax, (10.45, 3.0), (10.45, 2.5), FORWARD)
    for start, end, text in ((4.5, 6.15, f"{z:g}"), (7.65, 9.4, f"{y_hat:.4f}")):
        arrow(ax, (start, 2.2), (end, 2.2), FORWARD)
        arrow(ax, (end, 1.8), (start, 1.8), BACKWARD)
        ax.text((start + end) / 2, 2.33, text, ha="center", size=11)
    ax.text(11.65, 2.0, f"{loss:.4f}", ha="left", va="center", size=11)
    arrow(ax, (3.55, 1.55), (3.55, 0.75), BACKWARD)

    def derivative(at: float, height: float, formula: str, value: float) -> None:
        text = f"{formula} = {value:.4f}".replace("-", "−")
        ax.text(at, height, text, ha="center", va="top", size=11, color=BACKWARD)

    derivative(8.55, 1.45, "∂L/∂ŷ = ŷ − y", d_y_hat)
    derivative(6.0, 0.95, "∂L/∂z = ∂L/∂ŷ · ŷ(1 − ŷ)", dz)
    derivative(3.55, 0.6, "∂L/∂w = ∂L/∂z · x", dz * x)
    derivative(3.55, 0.2, "∂L/∂b = ∂L/∂z", dz)
    fig.savefig(path, bbox_inches="tight", metadata={"Date": None}, facecolor="white")
    plt.close(fig)


if __name__ == "__main__":
    plt.rcParams["svg.hashsalt"] = "fcnn_gpu"
    one_neuron(Path(__file__).with_name("one_neuron.svg"))
