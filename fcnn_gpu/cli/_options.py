"""What `fcnn-gpu train` was asked for, checked before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .._checks import check_choice, check_integer, check_real
from ..activations import ACTIVATIONS
from ..backend import PRECISIONS
from ..layers import Activation, BatchNorm, Dense, Dropout, Layer
from ..optimizers import OPTIMIZERS, Optimizer
from ..schedules import SCHEDULES

SCHEDULE_NAMES = ("constant", "cosine", "linear", "exponential", "one_cycle")
"""The schedules that need nothing but a learning rate."""

LEARNING_RATES = {"adam": 3e-3, "adamw": 3e-3}
"""What --lr is unless given; for other optimizers, the class's own default."""


@dataclass(frozen=True)
class TrainOptions:
    """The options of `fcnn-gpu train`; a ValueError or TypeError names the one that cannot be."""

    data: str
    target: str | None
    task: str | None
    header: bool | None
    test_fraction: float
    standardize: bool | None
    layers: str
    activation: str
    dropout: float
    batch_norm: bool
    l1: float
    l2: float
    optimizer: str
    lr: float | None
    schedule: str
    clip_norm: float | None
    epochs: int
    batch_size: int
    validation_split: float
    early_stopping: int | None
    backend: str | None
    threads: int | None
    seed: int
    dtype: str
    precision: str | None
    out: str | None
    progress: bool

    def __post_init__(self) -> None:
        _ = self.widths
        check_choice("--activation", self.activation, ACTIVATIONS)
        check_real("--dropout", self.dropout, low=0, high=1, high_open=True)
        check_real("--l1", self.l1, low=0)
        check_real("--l2", self.l2, low=0)
        check_choice("--optimizer", self.optimizer, OPTIMIZERS)
        if self.lr is not None:
            check_real("--lr", self.lr, low=0)
        check_choice("--schedule", self.schedule, SCHEDULE_NAMES)
        if self.clip_norm is not None:
            check_real("--clip-norm", self.clip_norm, low=0, low_open=True)
        check_integer("--epochs", self.epochs, low=1)
        check_integer("--batch-size", self.batch_size, low=1)
        check_real("--test-fraction", self.test_fraction, low=0, high=1, high_open=True)
        check_real("--validation-split", self.validation_split, low=0, high=1, high_open=True)
        if self.early_stopping is not None:
            check_integer("--early-stopping", self.early_stopping, low=1)
            if not self.validation_split:
                raise ValueError("--early-stopping watches the validation loss: add --validation-split 0.1.")
        if self.threads is not None:
            check_integer("--threads", self.threads, low=1)
        check_integer("--seed", self.seed, low=0)
        check_choice("--dtype", self.dtype, ("float32", "float64"))
        if self.precision is not None:
            check_choice("--precision", self.precision, PRECISIONS)
        if self.task is not None:
            check_choice("--task", self.task, ("classification", "regression"))

    @property
    def widths(self) -> list[int]:
        """The widths of the hidden layers.

        A ValueError if --layers is no list of positive whole numbers.
        """
        if self.layers.strip().lower() in ("", "none"):
            return []
        parts = [part.strip() for part in self.layers.split(",")]
        if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
            raise ValueError(
                f"--layers expects the hidden layers' widths, as in 128 or 512,512 (or none), got {self.layers!r}."
            )
        return [int(part) for part in parts]

    def network(self, n_outputs: int, standardized: bool) -> list[Layer]:
        """Per hidden width Dense → batch norm → activation → dropout, as far as asked for; then a linear last layer."""
        layers: list[Layer] = []
        for width in self.widths:
            if self.batch_norm:
                # batch norm subtracts whatever a bias adds; only the folding of standardized features needs one
                bias = standardized and not layers
                init = ACTIVATIONS[self.activation].default_init
                layers += [
                    Dense(width, init=init, bias=bias, l1=self.l1, l2=self.l2),
                    BatchNorm(),
                    Activation(self.activation),
                ]
            else:
                layers.append(Dense(width, activation=self.activation, l1=self.l1, l2=self.l2))
            if self.dropout:
                layers.append(Dropout(self.dropout))
        return [*layers, Dense(n_outputs, l1=self.l1, l2=self.l2)]

    def make_optimizer(self) -> Optimizer:
        """The optimizer with its schedule."""
        kind, schedule = OPTIMIZERS[self.optimizer], SCHEDULES[self.schedule]
        rate = self.lr
        if rate is None:
            rate = LEARNING_RATES.get(self.optimizer, kind().learning_rate)  # type: ignore[call-arg]
        return kind(schedule(rate), clip_norm=self.clip_norm)  # type: ignore[call-arg]

    def loss(self, task: str, multilabel: bool) -> str:
        """The loss that a task calls for."""
        if task == "regression":
            return "mse"
        return "binary_cross_entropy" if multilabel else "cross_entropy"

    def model_info(self) -> dict[str, Any]:
        """Which of the options `evaluate` needs to find the same test part."""
        return {"target": self.target, "test_fraction": self.test_fraction}
