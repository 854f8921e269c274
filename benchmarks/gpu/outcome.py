"""Running a part in a process of its own, and the report as JSON."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fcnn_gpu.bench._json import _plain
from fcnn_gpu.bench._worker import Worker, WorkerError
from fcnn_gpu.bench.environment import worker_environment
from fcnn_gpu.bench.settings import Settings
from fcnn_gpu.serialization import write_atomically

from .plan import Part, Plan

FORMAT, VERSION = "fcnn_gpu GPU report", 1


@dataclass
class Outcome:
    """What a part yielded, and what ended it before its end, if something did."""

    part: Part
    seconds: float = 0.0
    results: list[Any] = field(default_factory=list)
    failure: str = ""
    """One line; empty if the part came to its end."""
    details: str = ""
    """The end of what its process printed, or its traceback."""

    def of(self, *kinds: type) -> list[Any]:
        """The results of these classes, in order."""
        return [result for result in self.results if isinstance(result, kinds)]


@dataclass
class Report:
    """A whole run: what was asked for, and each part's outcome so far."""

    created: str
    command: str
    device: str
    plan: Plan
    outcomes: list[Outcome] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run_part(part: Part, plan: Plan, seconds: float, told: Callable[[Any], None]) -> Outcome:
    """The part in a process of its own, ended after `seconds`. What it yields is kept and `told`, one by one."""
    outcome = Outcome(part)
    start = time.perf_counter()
    try:
        with Worker(part.name, worker_environment(Settings(), plan.backend), seconds, seconds) as worker:
            for result in worker.stream(part.measure, plan):
                outcome.results.append(result)
                told(result)
    except WorkerError as error:
        outcome.failure, outcome.details = error.summary, error.details
    outcome.seconds = time.perf_counter() - start
    return outcome


def to_json(report: Report) -> str:
    """Every number of the report; each result says what kind it is."""
    parts = [
        {
            "name": outcome.part.name,
            "title": outcome.part.title,
            "seconds": outcome.seconds,
            "failure": outcome.failure,
            "details": outcome.details,
            "results": [_named(result) for result in outcome.results],
        }
        for outcome in report.outcomes
    ]
    whole = {
        "format": FORMAT,
        "version": VERSION,
        "created": report.created,
        "command": report.command,
        "device": report.device,
        "plan": dataclasses.asdict(report.plan),
        "seconds": report.seconds,
        "notes": report.notes,
        "parts": parts,
    }
    return json.dumps(_plain(whole), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _named(result: Any) -> dict[str, Any]:
    if isinstance(result, str):
        return {"kind": "Note", "text": result}
    return {"kind": type(result).__name__} | dataclasses.asdict(result)


def save(report: Report, page: str, folder: Path) -> None:
    """Write report.json and report.md."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "report.json", to_json(report).encode())
    write_atomically(folder / "report.md", page.encode())
