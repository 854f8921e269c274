"""The networks that are benchmarked: their shapes, what a step of them computes and moves, and the standard cases."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from .._checks import check_bool, check_choice, check_integer, check_real
from ..backend import Ops
from ..layers import Activation, BatchNorm, Dense, Dropout, Layer
from ..model import Sequential
from .results import Job

ACTIVATIONS = ("relu", "tanh")
"""Between the layers; the first need not be named."""

_MOVES_PER_PARAMETER = 8
"""θ, m and v are each read and written by Adam, the gradient is written by backward and read by Adam."""
_DROPOUT = re.compile(r"dropout\s*=?\s*(\d*\.?\d+)")


@dataclass(frozen=True)
class Net:
    """A fully-connected network with ReLU, or tanh, between its layers: n_in, the hidden layers' widths, n_out.

    A hidden layer is Dense → ReLU, or with `batch_norm` and `dropout` (its p) Dense → BatchNorm → ReLU → Dropout; the
    last Dense gives the logits.

    >>> net = Net.parse("784-512-512-10, batch norm, dropout 0.5")
    >>> net == Net((784, 512, 512, 10), batch_norm=True, dropout=0.5), net.n_parameters
    (True, 671754)
    >>> str(net)
    '784-512-512-10, batch norm, dropout 0.5'
    """

    widths: tuple[int, ...]
    batch_norm: bool = False
    dropout: float = 0.0
    activation: str = "relu"

    def __post_init__(self) -> None:
        widths = tuple(check_integer("Net(widths)", width, low=1) for width in self.widths)
        if len(widths) < 2:
            raise ValueError(f"Net expects at least two widths, n_in and n_out, got {widths}. Write Net((784, 10)).")
        object.__setattr__(self, "widths", widths)
        check_bool("Net(batch_norm)", self.batch_norm)
        object.__setattr__(self, "dropout", check_real("Net(dropout)", self.dropout, low=0.0, high=1.0, high_open=True))
        check_choice("Net(activation)", self.activation, ACTIVATIONS)

    @classmethod
    def parse(cls, text: str) -> Net:
        """The net that `name` writes: widths joined by "-", then, after commas, "tanh", "batch norm", "dropout p"."""
        widths, *parts = (part.strip().lower() for part in text.split(","))
        if not re.fullmatch(r"\d+(-\d+)+", widths):
            raise ValueError(
                f"A net is written as its widths joined by '-', such as '784-128-10' or "
                f"'784-512-10, batch norm, dropout 0.5', got {text!r}."
            )
        batch_norm, dropout, activation = False, 0.0, "relu"
        for part in parts:
            match = _DROPOUT.fullmatch(part)
            if match:
                dropout = float(match.group(1))
            elif part in ACTIVATIONS:
                activation = part
            elif re.fullmatch(r"batch[ _-]?norm", part):
                batch_norm = True
            else:
                raise ValueError(
                    f"The net {text!r} has {part!r}. After the widths come 'tanh', 'batch norm' and 'dropout p'."
                )
        return cls(tuple(map(int, widths.split("-"))), batch_norm, dropout, activation)

    @property
    def name(self) -> str:
        """Widths and extras in one phrase, the inverse of `parse`."""
        activation = [self.activation] if self.activation != "relu" else []
        batch_norm = ["batch norm"] if self.batch_norm else []
        dropout = [f"dropout {self.dropout:g}"] if self.dropout else []
        return ", ".join(["-".join(map(str, self.widths)), *activation, *batch_norm, *dropout])

    def __str__(self) -> str:
        return self.name

    @property
    def n_in(self) -> int:
        """Features of a sample."""
        return self.widths[0]

    @property
    def n_out(self) -> int:
        """Classes."""
        return self.widths[-1]

    @property
    def hidden(self) -> tuple[int, ...]:
        """The widths between input and output."""
        return self.widths[1:-1]

    @property
    def n_parameters(self) -> int:
        """Weights, biases, and with batch norm γ and β."""
        dense = sum((n_in + 1) * n_out for n_in, n_out in pairwise(self.widths))
        return dense + (2 * sum(self.hidden) if self.batch_norm else 0)

    def products(self, batch: int, job: Job) -> list[tuple[int, int, int]]:
        """(m, n, k) of every matrix product of one step, (m, k)·(k, n) each, in the order in which they are made.

        Forward Z = W·A₀; backward ∂L/∂W = dZ·A₀ᵀ and, except for the first layer, ∂L/∂A₀ = Wᵀ·dZ.
        """
        layers = list(pairwise(self.widths))
        shapes = [(n_out, batch, n_in) for n_in, n_out in layers]
        if job == "train":
            for i, (n_in, n_out) in reversed(list(enumerate(layers))):
                shapes.append((n_out, n_in, batch))
                if i:
                    shapes.append((n_in, batch, n_out))
        return shapes

    def flops(self, batch: int, job: Job) -> float:
        """Floating-point operations of the matrix products of one step, 2mnk each; all else is left out."""
        return float(sum(2 * m * n * k for m, n, k in self.products(batch, job)))

    def bytes(self, batch: int, job: Job, itemsize: int = 4, computed_itemsize: int | None = None) -> float:
        """The least that one step moves if nothing stays in cache between the passes that must wait for each other.

        Training: per parameter θ, m, v read and written, the gradient written and read; the batch read; the hidden
        activations written by forward and read by backward. Inference: parameters and batch read, outputs written.
        Where passes compute in a smaller type (`computed_itemsize`), they read a copy of the parameters in it, which
        Adam writes.
        """
        computed = itemsize if computed_itemsize is None else computed_itemsize
        if job == "infer":
            return float(computed * (self.n_parameters + batch * (self.n_in + self.n_out)))
        activations = batch * (self.n_in + 2 * sum(self.hidden))
        copies = 0 if computed == itemsize else 2 * self.n_parameters
        return float(itemsize * _MOVES_PER_PARAMETER * self.n_parameters + computed * (activations + copies))

    def without_dropout(self) -> Net:
        """The same net with p = 0: masks differ from library to library, so results are compared without them."""
        return replace(self, dropout=0.0)

    def hollow(self) -> Net:
        """The same layers of one unit each: its step makes the same calls and has next to nothing to compute."""
        return replace(self, widths=(1,) * (len(self.widths) - 1) + (2,))

    def model(
        self, backend: str | Ops = "numpy", seed: int = 0, dtype: Any = "float32", precision: str | None = None
    ) -> Sequential:
        """Our model of this net, with its initial weights."""
        layers: list[Layer] = []
        for width in self.hidden:
            if self.batch_norm:
                layers += [Dense(width, init="he_normal"), BatchNorm(), Activation(self.activation)]
            else:
                layers.append(Dense(width, activation=self.activation))
            if self.dropout:
                layers.append(Dropout(self.dropout))
        options: dict[str, Any] = {} if precision is None else {"precision": precision}
        layers.append(Dense(self.n_out))
        return Sequential(layers, self.n_in, seed=seed, backend=backend, dtype=dtype, **options)


@dataclass(frozen=True)
class Case:
    """A net and the batch size at which it is timed; `Problem.n_batches` says of how many batches its data is."""

    net: Net
    batch: int

    def __str__(self) -> str:
        return f"{self.net}, batch {self.batch}"


STANDARD_CASES = (
    Case(Net((64, 64, 64, 10)), 32),
    Case(Net((784, 128, 10)), 32),
    Case(Net((784, 128, 10)), 128),
    Case(Net((784, 512, 512, 10)), 256),
    Case(Net((784, 2048, 2048, 10)), 512),
    Case(Net((784, 512, 512, 10), batch_norm=True, dropout=0.5), 256),
    Case(Net((4, 32, 16, 4), activation="tanh"), 10_000),
)
"""From a net that is all calls to one that is all arithmetic, one with batch norm and dropout, and a tiny one.

The last is the network that SimpleChains.jl's authors train by Adam on all of 10,000 samples in each step:
https://pumasai.github.io/SimpleChains.jl/stable/examples/smallmlp/ (theirs are 2 × 2 matrices and their exponentials,
with a squared loss; here, as in every case, classes with a cross-entropy).
"""
