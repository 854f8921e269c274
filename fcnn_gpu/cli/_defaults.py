"""What `fcnn-gpu train` does where nobody says: by the kind of data, and how much of it there is."""

from __future__ import annotations

import math
from dataclasses import dataclass

_TABLE_BATCHES = (32, 256)
"""The smallest and the largest default batch of tables."""
_STEPS_AN_EPOCH = 100
"""What the batch of a table is chosen for, between those."""
_TABLE_EPOCHS = (30, 60)
_TABLE_STEPS = 6000
"""What the epochs of a table add up to, between those."""


@dataclass(frozen=True)
class Defaults:
    """The options that depend on the data; `adam_lr` is the rate of adam and adamw."""

    layers: str
    init: str | None
    bias_init: str | None
    dropout: float
    epochs: int
    batch_size: int
    adam_lr: float


def defaults_for(n_samples: int, is_image: bool) -> Defaults:
    """What suits images, and what suits all other samples, tables above all.

    Images: 128 hidden units, He's weights, dropout 0.2, Adam with 0.003, 20 epochs in batches of 32. Tables: two layers
    of 128, which start as PyTorch's do, dropout 0.1, Adam with 0.002, batches of about a hundredth of the samples (32
    to 256), and 6,000 steps in 30 to 60 epochs: fewer would not learn small tables, more would learn them by heart.
    benchmarks/tabular compares them with scikit-learn's defaults.
    """
    if is_image:
        return Defaults("128", None, None, 0.2, 20, 32, 3e-3)
    low, high = _TABLE_BATCHES
    batch = min(max(2 ** round(math.log2(max(1, n_samples / _STEPS_AN_EPOCH))), low), high)
    few, many = _TABLE_EPOCHS
    epochs = min(max(math.ceil(_TABLE_STEPS * batch / max(1, n_samples)), few), many)
    return Defaults("128,128", "fan_in_uniform", "fan_in_uniform", 0.1, epochs, batch, 2e-3)
