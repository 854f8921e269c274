"""What `fcnn-gpu train` does where nobody says: by the kind of data, and how much of it there is."""

from __future__ import annotations

import math
from dataclasses import dataclass

SPLIT_SEED = 0
"""Files without a test part are divided by this seed whatever --seed says, so that `evaluate` finds the same test part
as `train` did, and no sample that a model was trained on."""

PLAIN = "plain"
"""The network of the options --layers, --activation and so on."""
PRESETS = ("default", "fast", "tabm", "best")
"""The recipes, which are for tables."""
OF_TABLES = PRESETS[0]
"""What a table is trained with unless --preset or an option of the plain network says otherwise, or it is small."""
SMALL = 1000
"""Tables of fewer training rows are soon learned by heart, and too small a part of them would choose the best epoch: by
default a plain network learns them, for fewer steps. The recipes were found on tables of 1,000 rows or more."""
HELD_OUT = 0.2
"""The share of a table's training rows that a preset's best epoch is chosen by, as in the estimators."""

BENCH_BATCH = 128
"""Of `bench --net`."""
THRESHOLDS = ("accuracy", "balanced_accuracy", "f1", "mcc")
"""Metrics that a threshold may be the best for, as in the estimators."""

_TABLE_BATCHES = (32, 256)
"""The smallest and the largest default batch of tables."""
_STEPS_AN_EPOCH = 100
"""What the batch of a table is chosen for, between those."""


@dataclass(frozen=True)
class _Table:
    """What suits tables: the hidden layers, and so many steps, but at least `few` and at most `many` epochs."""

    layers: str
    steps: int
    few: int
    many: int


_OF_FEW_SAMPLES, _OF_MORE = _Table("64", 400, 30, 100), _Table("128,128", 6000, 30, 60)


@dataclass(frozen=True)
class Defaults:
    """What the options of the plain network are by default; the first six depend on the data."""

    layers: str
    init: str | None
    bias_init: str | None
    dropout: float
    epochs: int
    batch_size: int
    activation: str = "relu"
    optimizer: str = "adam"
    schedule: str = "cosine"


def defaults_for(n_samples: int, is_image: bool) -> Defaults:
    """What suits images, and what suits all other samples, of a plain network.

    Images: 128 hidden units, He's weights, dropout 0.2, 20 epochs in batches of 32. Tables: two layers of 128, which
    start as PyTorch's do, dropout 0.1, batches of about a hundredth of the samples (32 to 256), 6,000 steps in 30 to 60
    epochs; of fewer than 1,000 samples, one layer of 64, and 400 steps in 30 to 100 epochs. benchmarks/tabular compares
    them with scikit-learn's defaults.
    """
    if is_image:
        return Defaults("128", None, None, 0.2, 20, 32)
    low, high = _TABLE_BATCHES
    batch = min(max(2 ** round(math.log2(max(1, n_samples / _STEPS_AN_EPOCH))), low), high)
    table = _OF_FEW_SAMPLES if n_samples < SMALL else _OF_MORE
    epochs = min(max(math.ceil(table.steps * batch / max(1, n_samples)), table.few), table.many)
    return Defaults(table.layers, "fan_in_uniform", "fan_in_uniform", 0.1, epochs, batch)
