"""Settings that change from step to step: numbers of a table, by a position that lives in an array."""

from __future__ import annotations

from typing import NamedTuple

from ..._types import Array


class Scheduled(NamedTuple):
    """A setting whose value in a step is table[position], the table's last number once the position is beyond its end.

    `table` float64 (n,), n ≥ 1, and `position` int64 (1,) are arrays of the device, so that a replayed step sees the
    value of its own; the step counts the position up when it is done.
    """

    table: Array
    position: Array


def scheduled_value(setting: float | Scheduled) -> float:
    """The number that a setting is in this step, from arrays of the host."""
    if not isinstance(setting, Scheduled):
        return setting
    return float(setting.table[min(int(setting.position[0]), setting.table.size - 1)])
