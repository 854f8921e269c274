"""Columns of the history that callbacks go by."""

from __future__ import annotations

from typing import Any

from .._checks import suggest
from ._base import WatchedTrainer


def check_column(who: str, column: Any) -> None:
    """A TypeError unless it may be the name of a column."""
    if not isinstance(column, str):
        what = f"got {column!r} ({type(column).__name__})"
        raise TypeError(f"{who} expects the name of a column of the history, such as 'val_loss', {what}.")


def better_is_greater(column: str, trainer: WatchedTrainer) -> bool:
    """Whether more of a column is better: its metric knows; losses, penalties and errors are better when small."""
    for metric in trainer.metrics:
        if column in (metric.label, f"val_{metric.label}"):
            return metric.greater_is_better
    return False


def direction(column: str, greater_is_better: bool | None, trainer: WatchedTrainer) -> float:
    """+1 where more of the column is better, −1 where less is."""
    greater = better_is_greater(column, trainer) if greater_is_better is None else greater_is_better
    return 1.0 if greater else -1.0


def check_monitor(who: str, column: str, trainer: WatchedTrainer) -> None:
    """A ValueError if the run will not record `column`."""
    if column not in trainer.columns:
        hint = f" val_ columns need {trainer.held_out_by}." if column.startswith("val_") else ""
        raise ValueError(
            f"{who} monitors {column!r}, which this run does not record.{hint} {suggest(column, trainer.columns)}"
        )
