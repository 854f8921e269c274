"""What measurements say together: means over seeds, paired comparisons, and ranks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from ..paired import Paired
from .measurement import Measurement
from .models import MODELS
from .tables import TABLES


@dataclass(frozen=True)
class Pair(Paired):
    """One model of ours and another's on one table, on the seeds that both have."""

    table: str
    ours: list[Measurement]
    theirs: list[Measurement]

    @property
    def times(self) -> float:
        """How many times as long theirs takes to fit: the median over the seeds."""
        return float(np.median([b.fit_time / a.fit_time for a, b in zip(self.ours, self.theirs, strict=True)]))  # type: ignore[operator]

    @property
    def is_worse(self) -> bool:
        """Whether ours has the higher error, beyond one standard error, which one seed has not."""
        return self.difference > self.error

    @property
    def is_better(self) -> bool:
        """Whether ours has the lower error, beyond one standard error."""
        return self.difference < -self.error

    @property
    def differences(self) -> list[float]:
        return [a.error - b.error for a, b in zip(self.ours, self.theirs, strict=True)]  # type: ignore[operator]


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of models over the tables and seeds that all of them have; 1 is the lowest error."""

    by_model: dict[str, float]
    tables: dict[str, int]
    """Over how many seeds each."""


class Summary:
    """Measurements by table, model and seed."""

    def __init__(self, measurements: Iterable[Measurement]) -> None:
        self._found: dict[tuple[str, str], dict[int, Measurement]] = {}
        self.without_numbers: list[Measurement] = []
        for one in measurements:
            if one.error is None:
                self.without_numbers.append(one)
            else:
                self._found.setdefault((one.table, one.model), {})[one.seed] = one
        self.tables = [name for name in TABLES if any(name == table for table, _ in self._found)]
        self.models = [name for name in MODELS if any(name == model for _, model in self._found)]

    def of(self, table: str, model: str) -> list[Measurement]:
        """By seed."""
        return [one for _, one in sorted(self._found.get((table, model), {}).items())]

    def pairs(self, ours: str, theirs: str) -> list[Pair]:
        """Of the tables on which both have a seed."""
        found = []
        for table in self.tables:
            a, b = self._found.get((table, ours), {}), self._found.get((table, theirs), {})
            if seeds := sorted(a.keys() & b.keys()):
                found.append(Pair(table, [a[s] for s in seeds], [b[s] for s in seeds]))
        return found

    def ranks(self, models: Sequence[str]) -> Ranks:
        """Of these models, without those that were not measured at all. Equal errors share their ranks."""
        names = [name for name in models if name in self.models]
        each, tables = [], {}
        for table in self.tables:
            of_models = [self._found.get((table, name), {}) for name in names]
            seeds = set.intersection(*(set(found) for found in of_models)) if of_models else set()
            if seeds:
                each.append(rankdata([np.mean([found[s].error for s in seeds]) for found in of_models]))
                tables[table] = len(seeds)
        means = np.mean(each, axis=0).tolist() if each else []
        return Ranks(dict(zip(names, means, strict=True)) if each else {}, tables)

    def shared_seeds(self, table: str, models: Iterable[str]) -> set[int]:
        """Those that all of these models have on a table, but for models that were not measured there."""
        found = [set(of) for name in models if (of := self._found.get((table, name)))]
        return set.intersection(*found) if found else set()

    def lowest(self, table: str, models: Iterable[str], seeds: set[int]) -> tuple[str, float] | None:
        """(model, mean error) of the one with the lowest on a table, over these seeds; None where none has them all."""
        found = {name: [one for one in self.of(table, name) if one.seed in seeds] for name in models}
        means = {name: mean_error(of) for name, of in found.items() if of and len(of) == len(seeds)}
        return min(means.items(), key=lambda item: item[1]) if means else None


def mean_error(found: Sequence[Measurement]) -> float:
    """Over the seeds."""
    return float(np.mean([one.error for one in found if one.error is not None]))


def median(found: Sequence[Measurement], name: str) -> float | None:
    """Of a number of the measurements, over those that have it; None where none has."""
    values: list[Any] = [value for one in found if (value := getattr(one, name)) is not None]
    return float(np.median(values)) if values else None
