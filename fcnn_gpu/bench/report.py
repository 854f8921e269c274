"""A run of the benchmark: which sections, on which backends, and the report that grows as results come in."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import importlib.util
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from .. import __version__
from .._checks import check_choice
from ..backend import BackendError, choose_backend
from ..files import replaced_together, write_atomically
from ..training import drawing
from . import ceilings, crossover, epoch, machine, operations, rounds
from ._json import ReportFileError as ReportFileError
from ._json import from_json as from_json
from ._json import load as load
from ._json import save as save
from ._json import to_json as to_json
from ._plots import FILE_NAME, write_pictures
from ._reading import one_line
from ._render import to_markdown
from ._worker import stream_apart
from .environment import worker_environment
from .nets import STANDARD_CASES, Case
from .results import Ceilings, Crossover, EpochResult, Job, OperationResult, Report
from .settings import Settings

SECTIONS = ("nets", "operations", "epoch", "crossover")
JOBS: tuple[Job, ...] = ("train", "infer")
QUICK = {"rounds": 5, "round_seconds": 0.03}
"""What `--quick` sets unless it is given: enough to see that all works, not to quote."""

_JSON, _PAGE = "report.json", "report.md"
_GPU_DTYPES: tuple[str, ...] = ("float32", "tf32", "bfloat16", "float16")


class Listener:
    """Told of a run's progress; by itself it keeps quiet."""

    def doing(self, what: str, done: int, total: int) -> None:
        """`done` of `total` parts are over, and now comes `what`."""

    def found(self, line: str) -> None:
        """A result in one line."""


class Benchmark:
    """What is to be measured, and `report`: what has been measured so far.

    Args:
        sections: out of `SECTIONS`; None for all that this machine can run.
        settings: threads, rounds, peers, ...
        cases: nets and batch sizes of the section "nets".
        jobs: "train", "infer" or both.
        backend: "numpy", "cupy", "cupy:N"; None or "auto" for the CPU and, where there is one, the GPU.
        quick: fewer rounds and sizes in the other sections too.
        command: how to run the same again.

    Raises ValueError for a name that nobody knows, and BackendError for a GPU that was asked for and cannot be had.
    """

    def __init__(
        self,
        sections: Sequence[str] | None = None,
        settings: Settings | None = None,
        *,
        cases: Sequence[Case] = STANDARD_CASES,
        jobs: Sequence[str] = JOBS,
        backend: str | None = None,
        quick: bool = False,
        command: str = "",
    ) -> None:
        for section in sections or ():
            check_choice("fcnn-gpu bench", section, SECTIONS)
        for job in jobs:
            check_choice("--job", job, JOBS)
        self.settings = Settings() if settings is None else settings
        self.cases, self.jobs = tuple(cases), tuple(job for job in JOBS if job in jobs)
        self.quick = quick
        self.backends, fault = backends_for(backend)
        self._gpu = next((name for name in self.backends if name != "numpy"), None)
        can_cross = self._gpu is not None and "numpy" in self.backends
        if sections and "crossover" in sections and not can_cross:
            raise BackendError(f"crossover compares a CPU with a GPU, and one of them is left out: {fault}")
        chosen = SECTIONS if sections is None else tuple(dict.fromkeys(sections))
        self.sections = tuple(name for name in chosen if name != "crossover" or can_cross)
        self.report = Report(
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            command=command,
            machine={},
            versions={},
            settings=_plain_settings(self.settings, quick),
            ceilings=[],
        )
        if self._gpu is None:
            self._note(f"No GPU took part: {fault}")

    def run(self, listener: Listener | None = None) -> Report:
        """Measure everything. Whatever ends it early, `report` holds the results until then, whole ones only."""
        told = Listener() if listener is None else listener
        parts = list(self._parts())
        try:
            for i, (what, part) in enumerate(parts):
                told.doing(what, i, len(parts))
                part(functools.partial(told.doing, done=i, total=len(parts)), told.found)
        except KeyboardInterrupt:
            self.report = dataclasses.replace(self.report, interrupted=True)
            raise
        return self.report

    def _parts(self) -> Iterator[tuple[str, Callable[..., None]]]:
        """What there is to do, in order: a phrase and what does it, given whom to tell of progress and of results."""
        yield "looking at the machine", self._look_at_machine
        for backend in self.backends:
            yield f"ceilings, {backend}", functools.partial(self._measure_ceilings, backend)
        for section in self.sections:
            if section == "crossover":
                yield "CPU against GPU", self._measure_crossover
                continue
            for backend in self.backends:
                if section == "nets":
                    for case in self.cases:
                        yield str(case), functools.partial(self._time_case, case, backend)
                elif section == "operations":
                    yield f"operations, {backend}", functools.partial(self._time_operations, backend)
                else:
                    yield f"epochs, {backend}", functools.partial(self._time_epochs, backend)

    def _look_at_machine(self, doing: Callable[[str], None], found: Callable[[str], None]) -> None:
        described, versions = machine.describe(self.settings, self.backends[-1])
        self.report.machine.update(described)
        self.report.versions.update({"fcnn_gpu": __version__} | versions)
        environment = worker_environment(self.settings, self.backends[-1])
        self.report.settings["threads"] = environment.threads
        self.report.settings["environment"] = environment.plain()
        for note in (*machine.notes(described), *environment.notes):
            self._note(note)

    def _measure_ceilings(self, backend: str, doing: Callable[[str], None], found: Callable[[str], None]) -> None:
        measured = ceilings.measure_apart(self.settings, backend)
        self.report.ceilings.append(measured)
        found(one_line(measured))

    def _time_case(self, case: Case, backend: str, doing: Callable[[str], None], found: Callable[[str], None]) -> None:
        results = rounds.time_case(
            case.net,
            case.batch,
            self.jobs,
            backend,
            self.settings,
            ceilings=self._ceilings(backend),
            progress=doing,
        )
        for result in results:
            self.report.cases.append(result)
            found(one_line(result))

    def _time_operations(self, backend: str, doing: Callable[[str], None], found: Callable[[str], None]) -> None:
        options: dict[str, Any] = {"quick": True, "rounds": 3, "round_seconds": 0.005} if self.quick else {}
        dtypes: tuple[str, ...] = (self.settings.dtype,)
        measured = self._ceilings(backend)
        if backend != "numpy" and self.settings.dtype == "float32":
            dtypes = _GPU_DTYPES
            self._note("Operations in tf32, bfloat16 and float16 are held against the ceilings of float32.")
        measure = functools.partial(
            operations.run,
            # kernels add up in float32 whatever they read, and a byte is a byte: products alone would have other peaks
            [dataclasses.replace(measured, dtype=dtype) for dtype in dtypes],
            backend=backend,
            dtypes=dtypes,
            peers="torch" in self.settings.libraries,
            seed=self.settings.seed,
            **options,
        )
        self._keep(measure, backend, doing, found)

    def _time_epochs(self, backend: str, doing: Callable[[str], None], found: Callable[[str], None]) -> None:
        options: dict[str, Any] = {"rounds": 2} if self.quick else {}
        measure = functools.partial(epoch.run, backend=backend, seed=self.settings.seed, **options)
        self._keep(measure, backend, doing, found)

    def _measure_crossover(self, doing: Callable[[str], None], found: Callable[[str], None]) -> None:
        assert self._gpu is not None
        options: dict[str, Any] = {"rounds": 2} if self.quick else {}
        measure = functools.partial(crossover.run, gpu_backend=self._gpu, seed=self.settings.seed, **options)
        self._keep(measure, self._gpu, doing, found)

    def _keep(
        self,
        measure: Callable[..., Iterator[Any]],
        backend: str,
        doing: Callable[[str], None],
        found: Callable[[str], None],
    ) -> None:
        """Put what a generator yields, in a process of its own, where it belongs; a text is a note."""
        stream = cast("Generator[Any]", stream_apart(measure, settings=self.settings, backend=backend))
        with contextlib.closing(stream):
            for result in stream:
                if isinstance(result, str):
                    self._note(result)
                    found(result)
                else:
                    self._list_for(result).append(result)
                    found(one_line(result))

    def _list_for(self, result: OperationResult | EpochResult | Crossover) -> list[Any]:
        report = self.report
        if isinstance(result, OperationResult):
            return report.operations
        return report.epochs if isinstance(result, EpochResult) else report.crossovers

    def _ceilings(self, backend: str) -> Ceilings:
        return self.report.ceilings[self.backends.index(backend)]

    def _note(self, note: str) -> None:
        if note not in self.report.notes:
            self.report.notes.append(note)


def run(sections: Sequence[str] | None = None, settings: Settings | None = None, **options: Any) -> Report:
    """`Benchmark(sections, settings, **options).run()`: what was asked for, measured.

    Raises KeyboardInterrupt, and whatever goes wrong, without a report; keep a `Benchmark` to have its part of one.
    """
    return Benchmark(sections, settings, **options).run()


def backends_for(wanted: str | None) -> tuple[tuple[str, ...], str]:
    """The backends that `--backend` (None: the variable FCNN_BACKEND, else "auto") stands for, and why no others."""
    ops, reason = choose_backend(wanted, "--backend")
    name = wanted or os.environ.get("FCNN_BACKEND") or "auto"
    if name != "auto":
        return (name,), reason
    on_cpu = ops.describe().startswith("CPU")
    return ("numpy",) if on_cpu else ("numpy", "cupy"), reason


def write(report: Report, folder: Path) -> list[str]:
    """Write report.json, report.md and, with matplotlib, the pictures; the names of the files.

    The numbers come first and take the place of all that an earlier run has left, so that the folder never holds files
    of two. `PictureError` where a picture cannot be drawn: then the report is there without it.
    """
    with replaced_together(
        folder, _JSON, lambda name: name in (_JSON, _PAGE) or bool(FILE_NAME.fullmatch(name))
    ) as new:
        save(report, new / _JSON)
        write_atomically(new / _PAGE, to_markdown(report, {}).encode())
    if not importlib.util.find_spec("matplotlib"):
        return [_JSON, _PAGE]
    with drawing("the pictures of the report"):
        pictures = write_pictures(report, folder)
    write_atomically(folder / _PAGE, to_markdown(report, pictures).encode())
    return [_JSON, _PAGE, *pictures]


def _plain_settings(settings: Settings, quick: bool) -> dict[str, Any]:
    plain = dataclasses.asdict(settings) | {"libraries": list(settings.libraries)}
    return plain | ({"quick": True} if quick else {})
