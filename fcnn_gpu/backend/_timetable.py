"""Settings that follow schedules: their numbers for each step of an epoch, in tables on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from .._types import Array
from ..schedules import Schedule, values_of_epoch
from ._ops import Ops, Scheduled

Key = tuple[int, float, Callable[[float], float] | None]
"""Settings of one schedule that take the same numbers share a table."""


@dataclass(frozen=True, eq=False)
class Setting:
    """A setting that follows a schedule, and within which bounds: 0 ≤ value < `below`.

    `realized`: what is taken for a value, where not any number will do.
    """

    what: str
    """For messages: "The dropout rate of layer 2"."""
    schedule: Schedule
    below: float
    realized: Callable[[float], float] | None = None

    @property
    def key(self) -> Key:
        """What it shares with other settings that have the same table."""
        return id(self.schedule), self.below, self.realized

    def at(self, epoch: float, n_epochs: float) -> float:
        """The value after `epoch` of `n_epochs` epochs."""
        return self.over([epoch], n_epochs)[0]

    def over(self, epochs: Iterable[float], n_epochs: float) -> list[float]:
        """The values at these times. ValueError or TypeError where one is out of bounds."""
        values = values_of_epoch(self.schedule, epochs, n_epochs, self.what, self.below)
        return values if self.realized is None else [self.realized(value) for value in values]


class Timetable:
    """The settings of one network and its training that follow schedules.

    `Trainer` says which they are at the beginning of a run, and fills their tables at the beginning of each epoch; a
    step reads its numbers at `position`, which it counts up when it is done. Outside of runs a setting has the number
    of the last step that was trained, or, before there was any, that of time 0.
    """

    def __init__(self, ops: Ops) -> None:
        self._ops = ops
        self.position: Array = ops.zeros(1, "int64")
        self._tables: dict[Key, tuple[Setting, Array]] = {}
        self._largest: dict[Key, float] = {}

    def __bool__(self) -> bool:
        """Whether any setting follows a schedule."""
        return bool(self._tables)

    def scheduled(self, setting: Setting) -> Scheduled:
        """What a primitive takes for the setting."""
        if setting.key not in self._tables:
            self._add(setting, 1)
        return Scheduled(self._tables[setting.key][1], self.position)

    def largest(self, setting: Setting) -> float:
        """No value of the epoch that has begun last is larger."""
        self.scheduled(setting)
        return self._largest[setting.key]

    def begin_run(self, settings: Iterable[Setting], n_steps: int, n_epochs: int) -> None:
        """Make tables for epochs of `n_steps` for these settings, and forget others.

        ValueError or TypeError, before anything has changed, where one is out of bounds as far as is known.
        """
        settings = list(settings)
        for setting in settings:
            setting.over([*map(float, range(n_epochs)), n_epochs - 1 / n_steps], float(n_epochs))
        self._tables, self._largest = {}, {}
        for setting in settings:
            self._add(setting, n_steps)

    def begin_epoch(self, number: int, n_steps: int, n_epochs: int) -> None:
        """Fill the tables for epoch `number`, from 1 on, whose first step comes next."""
        for key, (setting, table) in self._tables.items():
            values = setting.over([number - 1 + i / n_steps for i in range(n_steps)], float(n_epochs))
            self._ops.assign(table, np.array(values, np.float64))
            self._largest[key] = max(values)
        self.rewind(0)

    def rewind(self, n_taken: int) -> None:
        """The next step of the epoch is the one after `n_taken` of them."""
        if self._tables:
            self._ops.fill(self.position, n_taken)

    def observe(self, record: Mapping[str, float]) -> None:
        """The epoch's line of the history, for schedules that go by it: once for each, however often it is used."""
        for schedule in {id(setting.schedule): setting.schedule for setting, _ in self._tables.values()}.values():
            schedule.observe(record)

    def _add(self, setting: Setting, n_steps: int) -> None:
        table = self._ops.empty(n_steps, np.float64)
        first = setting.at(0.0, 1.0)
        self._ops.fill(table, first)
        self._tables[setting.key] = setting, table
        self._largest[setting.key] = first
