"""The samples that are held out for validation."""

from __future__ import annotations

import numpy as np

from .._types import HostArray
from ..datasets._dataset import class_shares


def split_validation(
    n_samples: int,
    share: float,
    targets: HostArray,
    seed: int,
    option: str = "validation_split",
    else_use: str = "validation_data",
) -> tuple[HostArray, HostArray]:
    """(training, validation) indices, round(share·n_samples) of the latter.

    Integer labels are split class by class: each gives its share, rounded so that the whole adds up, and keeps one.
    For messages, `option` is what the user calls the share, and `else_use` what may take its place.
    """
    rng = np.random.default_rng([seed, 0x5E1EC7])
    n_held_out = round(share * n_samples)
    if targets.ndim == 1 and targets.dtype.kind in "iu":
        labels, counts = np.unique(targets, return_counts=True)
        parts = [rng.permutation(np.flatnonzero(targets == label)) for label in labels]
        sizes = class_shares(counts, n_held_out)
        held_out = np.concatenate([part[:size] for part, size in zip(parts, sizes, strict=True)])
        if n_held_out and not len(held_out):
            raise ValueError(
                f"{option}={share:g} of {n_samples} samples leaves none for validation: each of the {len(labels)} "
                "classes keeps a sample to train on, and has no other. Are these classes, and not values? Use more "
                f"data of each class, or {else_use}."
            )
    else:
        held_out = rng.permutation(n_samples)[:n_held_out]
    if not 0 < len(held_out) < n_samples:
        raise ValueError(
            f"{option}={share:g} of {n_samples} samples leaves {n_samples - len(held_out)} for training and "
            f"{len(held_out)} for validation. Both need at least one: use more data, another share or {else_use}."
        )
    chosen = np.zeros(n_samples, bool)
    chosen[held_out] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def check_parts(
    training: HostArray | None, held_out: HostArray | None, share: float, option: str, else_use: str
) -> None:
    """ValueError where all samples that have a weight greater than 0 are in one of the parts; None: all have one."""
    for part, others, weights in (("training", "validation", training), ("validation", "training", held_out)):
        if weights is not None and not weights.any():
            raise ValueError(
                f"{option}={share:g} leaves {len(weights)} samples for {part}, and the weight of each of them is 0: "
                f"all that count are among the {others} samples. Use another share or seed, or {else_use}, or give "
                "more samples a weight."
            )
