"""Who gives the model its weights at the end of a run: one callback at most, so that none replaces another's unseen."""

from __future__ import annotations

from collections.abc import Sequence

from ._base import Callback
from .early_stopping import EarlyStopping
from .keep_best import KeepBest
from .weight_averaging import EMA, SWA


def check_last_word(callbacks: Sequence[Callback]) -> None:
    """A ValueError where two callbacks would leave the model other weights than each other.

    A mean beside an epoch that is kept is no such case: validated by the mean, what is kept is the best epoch's mean.
    """
    means = [callback for callback in callbacks if isinstance(callback, EMA | SWA)]
    kept = [
        callback
        for callback in callbacks
        if isinstance(callback, KeepBest) or (isinstance(callback, EarlyStopping) and callback.restore_best)
    ]
    if len(means) > 1:
        raise ValueError(
            f"{_both(means)} each make a mean of the weights, and the model can have one of them at the end. Leave one "
            "out, or train twice."
        )
    if len(kept) > 1:
        how = " With EarlyStopping(restore_best=False) it ends the run alone."
        raise ValueError(
            f"{_both(kept)} each give the model the weights of their best epoch, and it can have one's. Leave one out."
            + (how if any(isinstance(callback, EarlyStopping) for callback in kept) else "")
        )
    if means and kept and not means[0].validate:
        name = type(means[0]).__name__
        raise ValueError(
            f"{name}(validate=False) makes a mean that {type(kept[0]).__name__} would replace by the weights of its "
            "best epoch. Take validate=True, by which the best epoch's mean is kept, or leave one of them out."
        )


def _both(callbacks: Sequence[Callback]) -> str:
    return " and ".join(type(callback).__name__ for callback in callbacks[:2])
