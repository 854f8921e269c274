"""What fits into a time limit."""

from __future__ import annotations


def affordable(
    seconds: float, per_epoch: float, epochs: int, n_folds: int, fewest: int = 2, at_once: int = 1
) -> tuple[int, int]:
    """(folds, epochs) that fit into a time: fewer folds first, `fewest` at least, then fewer epochs, two at least.

    (The first step of a run has the learning rate 0.) `per_epoch` seconds are an epoch's, and `at_once` networks are
    trained at the same time.

    >>> affordable(100.0, 0.1, epochs=256, n_folds=8)
    (3, 256)
    >>> affordable(30.0, 0.1, epochs=256, n_folds=8)
    (2, 150)
    """
    possible = min(n_folds, int(seconds / (per_epoch * epochs)) * at_once)
    if possible >= fewest:
        return possible, epochs
    least = min(n_folds, max(fewest, at_once))
    rounds = -(-least // at_once)
    return least, min(epochs, max(2, int(seconds / (per_epoch * rounds))))
