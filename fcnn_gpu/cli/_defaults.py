"""What `fcnn-gpu train` does where nobody says: by the kind of data, and how much of it there is."""

from __future__ import annotations

import math
from dataclasses import dataclass

_TABLE_BATCHES = (32, 256)
"""The smallest and the largest default batch of tables."""
_STEPS_AN_EPOCH = 100
"""What the batch of a table is chosen for, between those."""
_TABLE_EPOCHS = (30, 400)
_TABLE_STEPS = 6000
"""What the epochs of a table add up to, between those."""


@dataclass(frozen=True)
class Defaults:
    """The options that depend on the data. `kind` is what the data is called when they are told."""

    kind: str
    layers: str
    init: str | None
    bias_init: str | None
    dropout: float
    epochs: int
    batch_size: int

    def describe(self) -> str:
        """Those that decide how long it takes, in a line."""
        return f"{self.kind}: hidden layers {self.layers}, {self.epochs} epochs in batches of {self.batch_size}"


def defaults_for(n_samples: int, is_image: bool) -> Defaults:
    """Images: 128 hidden units, He's weights, dropout 0.2, 20 epochs in batches of 32.

    Tables: weights and biases drawn alike, no dropout, batches of n/100 (32 to 256) and as many epochs as make 6,000
    steps (30 to 400), so that a table of 150 rows is learned as well as one of 100,000. benchmarks/tabular compares
    them with scikit-learn's.
    """
    if is_image:
        return Defaults("images", "128", None, None, 0.2, 20, 32)
    low, high = _TABLE_BATCHES
    batch = min(max(2 ** round(math.log2(max(1, n_samples / _STEPS_AN_EPOCH))), low), high)
    few, many = _TABLE_EPOCHS
    epochs = min(max(math.ceil(_TABLE_STEPS * batch / max(1, n_samples)), few), many)
    return Defaults("table", "128,128", "xavier_uniform", "xavier_uniform", 0.0, epochs, batch)
