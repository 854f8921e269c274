"""Running a part in a process of its own, and what a run and a whole report hold."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fcnn_gpu.bench._worker import Worker, WorkerError
from fcnn_gpu.bench.environment import worker_environment
from fcnn_gpu.bench.settings import Settings

from .clocks import Load, Watch
from .plan import Part, Plan
from .results import Compilation, Fault, PytestRun
from .setting import Setting

UNFINISHED = "the run was ended from outside while this part ran"
"""The failure of a part that has begun, until it has another or none: what a killed run leaves behind is true."""


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
    created: str = ""
    """When it began (UTC)."""
    load: Load | None = None
    """The device's clocks meanwhile."""

    def of(self, *kinds: type) -> list[Any]:
        """The results of these classes, in order."""
        return [result for result in self.results if isinstance(result, kinds)]

    @property
    def faults(self) -> list[str]:
        """What went wrong within it, a line each; its own early end first."""
        found = [f"ended early after {self.seconds:.0f} s: {self.failure}"] if self.failure else []
        found += [f"{fault.what}: {fault.message}" for fault in self.of(Fault)]
        return found + [result.fault for result in self.of(Compilation, PytestRun) if result.fault]


@dataclass
class Run:
    """One call of the command: what was asked for, on what, and each part's outcome so far."""

    created: str
    command: str
    setting: Setting
    plan: Plan
    planned: list[str]
    """The names of the parts it was to make."""
    outcomes: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0
    ended: str = UNFINISHED
    """What ended it before its last part, if something did."""

    @property
    def not_reached(self) -> list[str]:
        """The parts that it was to make and never began."""
        begun = {outcome.part.name for outcome in self.outcomes}
        return [name for name in self.planned if name not in begun]


@dataclass
class Report:
    """The runs whose parts stand on one page: on one kind of device, with the same code and the same rounds."""

    runs: list[Run]

    def clashes(self, run: Run) -> list[str]:
        """Why the parts of `run` cannot stand beside those that are here; nothing if they can."""
        last = self.runs[-1]
        found = run.setting.clashes(last.setting)
        if run.plan.quick != last.plan.quick:
            found.append(
                "its rounds are few and short, those here are not" if last.plan.quick else "it was no --quick run"
            )
        return found

    def shown(self) -> list[tuple[Run, Outcome]]:
        """Of each part the newest outcome, and before it the newest that came to its end, if that is another one."""
        found: dict[str, list[tuple[Run, Outcome]]] = {}
        for run in self.runs:
            for outcome in run.outcomes:
                found.setdefault(outcome.part.name, []).append((run, outcome))
        shown = []
        for same in found.values():
            whole = [pair for pair in same if not pair[1].failure]
            shown += ([whole[-1]] if whole and same[-1][1].failure else []) + [same[-1]]
        return shown

    def times(self, name: str) -> int:
        """How often the part was measured."""
        return sum(outcome.part.name == name for run in self.runs for outcome in run.outcomes)


def run_part(outcome: Outcome, plan: Plan, pci_bus_id: str, seconds: float, told: Callable[[Any], None]) -> None:
    """The outcome's part in a process of its own, ended after `seconds`. What it yields is kept and `told`, one by one.

    Whatever ends this process meanwhile, `outcome.failure` has said UNFINISHED since the beginning, when None is told.
    """
    outcome.failure = UNFINISHED
    told(None)
    name, start = outcome.part.name, time.perf_counter()
    plan = dataclasses.replace(plan, seconds=seconds)
    with Watch(pci_bus_id) as watch:
        try:
            with Worker(name, worker_environment(Settings(), plan.backend), seconds, seconds) as worker:
                for result in worker.stream(outcome.part.measure, plan):
                    outcome.results.append(result)
                    outcome.seconds, outcome.load = time.perf_counter() - start, watch.load()
                    told(result)
            outcome.failure = ""
        except WorkerError as error:
            outcome.failure, outcome.details = error.summary, error.details
        finally:
            outcome.seconds, outcome.load = time.perf_counter() - start, watch.load()
