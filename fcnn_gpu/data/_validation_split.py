"""The samples that are held out for validation."""

from __future__ import annotations

import numpy as np

from .._types import HostArray
from ..datasets._dataset import class_shares


def split_validation(n_samples: int, share: float, targets: HostArray, seed: int) -> tuple[HostArray, HostArray]:
    """(training, validation) indices, round(share·n_samples) of the latter.

    Integer labels are split class by class: each gives its share, rounded so that the whole adds up, and keeps one.
    """
    rng = np.random.default_rng([seed, 0x5E1EC7])
    n_held_out = round(share * n_samples)
    if targets.ndim == 1 and targets.dtype.kind in "iu":
        labels, counts = np.unique(targets, return_counts=True)
        parts = [rng.permutation(np.flatnonzero(targets == label)) for label in labels]
        sizes = class_shares(counts, n_held_out)
        held_out = np.concatenate([part[:size] for part, size in zip(parts, sizes, strict=True)])
    else:
        held_out = rng.permutation(n_samples)[:n_held_out]
    if not 0 < len(held_out) < n_samples:
        raise ValueError(
            f"validation_split={share:g} of {n_samples} samples leaves {n_samples - len(held_out)} for training and "
            f"{len(held_out)} for validation. Both need at least one: use more data, another share or validation_data."
        )
    chosen = np.zeros(n_samples, bool)
    chosen[held_out] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)
