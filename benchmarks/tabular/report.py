"""What a run yields, what it says about the goals, and its file."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fcnn_gpu.bench._json import ReportFileError, _plain, _read, parsed
from fcnn_gpu.files._replacement import write_atomically

from .contest import Outcome, Plan
from .models import OURS, RIVAL
from .paired import Paired

FORMAT, VERSION = "fcnn_gpu tables report", 1
TIME_GOAL = 0.4
"""The most that a fit of ours may take of scikit-learn's time."""


@dataclass
class Report:
    """One run of the command."""

    created: str
    command: str
    plan: Plan
    machine: dict[str, Any]
    versions: dict[str, str]
    notes: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    """By the name of a table that did not take part: why."""


@dataclass(frozen=True)
class Comparison(Paired):
    """One of ours against scikit-learn's on one table under one set of rules, seed by seed."""

    ours: Outcome
    rival: Outcome

    @property
    def time_ratio(self) -> float:
        """Our time of a fit over theirs, the median over the seeds."""
        return float(np.median(np.divide(self.ours.seconds, self.rival.seconds)))

    @property
    def is_as_good(self) -> bool:
        """Whether ours is lower by no more than one standard error."""
        return bool(self.difference >= -np.nan_to_num(self.error))

    @property
    def is_fast(self) -> bool:
        """Whether the goal of the time is reached."""
        return self.time_ratio <= TIME_GOAL

    @property
    def differences(self) -> list[float]:
        return [a - b for a, b in zip(self.ours.scores, self.rival.scores, strict=True)]


def comparisons(report: Report, rules: str, mine: str = OURS) -> list[Comparison]:
    """Those of the tables on which both took part, ours by its model's name."""
    by_name = {(o.table, o.model): o for o in report.outcomes if o.rules == rules}
    tables = dict.fromkeys(table for table, _ in by_name)
    pairs = [(by_name.get((table, mine)), by_name.get((table, RIVAL))) for table in tables]
    return [Comparison(ours, rival) for ours, rival in pairs if ours is not None and rival is not None]


def save(report: Report, page: str, folder: Path) -> None:
    """Write report.json and report.md; a reader finds each whole, the old one or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "report.json", to_json(report).encode())
    write_atomically(folder / "report.md", page.encode())


def to_json(report: Report) -> str:
    """The report as JSON text, every number as it was."""
    plain = {"format": FORMAT, "version": VERSION} | _plain(dataclasses.asdict(report))
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> Report:
    """The report that `to_json` wrote. Raises ReportFileError, a ValueError, for anything else."""
    data = parsed(text)
    if not isinstance(data, dict) or (data.pop("format", None), data.pop("version", None)) != (FORMAT, VERSION):
        raise ReportFileError(f"it is no {FORMAT} of version {VERSION}.")
    return _read(Report, data, "report")
