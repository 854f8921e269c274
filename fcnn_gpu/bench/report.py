"""A run of the benchmark: which sections, on which backends, and the report that grows as results come in."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import importlib.util
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from .. import __version__
from .._checks import check_choice, check_integer
from ..backend import BackendError, choose_backend
from ..files import replaced_together, write_atomically
from ..training import drawing
from . import _numbers as show
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
from .libraries import backends_here
from .nets import STANDARD_CASES, Case
from .results import Ceilings, Crossover, EpochResult, Job, OperationResult, Report
from .settings import Settings

SECTIONS = ("nets", "operations", "epoch", "crossover")
JOBS: tuple[Job, ...] = ("train", "infer")
QUICK = {"rounds": 5, "round_seconds": 0.03}
"""What `--quick` sets unless it is given: enough to see that all works, not to quote."""

JSON_NAME, _PAGE = "report.json", "report.md"
_GPU_DTYPES: tuple[str, ...] = ("float32", "tf32", "bfloat16", "float16")


class Listener:
    """Told of a run's progress; by itself it keeps quiet."""

    def doing(self, what: str, done: int, total: int) -> None:
        """`done` of `total` parts are over, and now comes `what`."""

    def found(self, line: str) -> None:
        """A result in one line."""


@dataclass(frozen=True)
class _Place:
    """A device, and the settings with the number of threads there."""

    device: str
    """A backend's name; "numpy" stands for the CPU with every backend for it."""
    settings: Settings
    name: str
    """As progress names it."""

    @property
    def backends(self) -> tuple[str, ...]:
        """Ours there."""
        return backends_here() if self.device == "numpy" else (self.device,)

    @property
    def threads(self) -> int | None:
        """What computes there; None on a GPU."""
        return worker_environment(self.settings, self.device).threads if self.device == "numpy" else None


class Benchmark:
    """What is to be measured, and `report`: what has been measured so far.

    Args:
        sections: out of `SECTIONS`; None for all that this machine can run.
        settings: threads, rounds, peers, ...
        cases: nets and batch sizes of the section "nets".
        jobs: "train", "infer" or both.
        backend: "numpy" or "cpu" for the CPU, with both; "cupy", "cupy:N"; None or "auto" for the CPU and, where there
            is one, the GPU.
        threads: numbers of threads, each measured by itself on the CPU; a GPU is measured beside the largest. Empty
            for the settings' own.
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
        threads: Sequence[int] = (),
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
        counts = tuple(sorted({check_integer("--threads", n, low=1) for n in threads})) or (self.settings.threads,)
        self._by_threads = tuple(dataclasses.replace(self.settings, threads=n) for n in counts)
        self._places = [place for name in self.backends for place in self._places_of(name)]
        self._ceilings: dict[tuple[str, int | None], Ceilings] = {}
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

    def _places_of(self, device: str) -> Iterator[_Place]:
        settings = self._by_threads if device == "numpy" else self._by_threads[-1:]
        for one in settings:
            name = device if one.threads is None or len(settings) == 1 else f"{device}, {show.threads(one.threads)}"
            yield _Place(device, one, name)

    def _parts(self) -> Iterator[tuple[str, Callable[..., None]]]:
        """What there is to do, in order: a phrase and what does it, given whom to tell of progress and of results."""
        yield "looking at the machine", self._look_at_machine
        for place in self._places:
            yield f"ceilings, {place.name}", functools.partial(self._measure_ceilings, place)
        for section in self.sections:
            if section == "crossover":
                yield "CPU against GPU", self._measure_crossover
            elif section == "nets":
                for case in self.cases:
                    for place in self._places:
                        what = str(case) if len(self._places) == 1 else f"{case}, {place.name}"
                        yield what, functools.partial(self._time_case, case, place)
            else:
                measure, what = (
                    (self._time_operations, "operations") if section == "operations" else (self._time_epochs, "epochs")
                )
                for place in self._places:
                    yield f"{what}, {place.name}", functools.partial(measure, place)

    def _look_at_machine(self, doing: Callable[[str], None], found: Callable[[str], None]) -> None:
        described, versions = machine.describe(self._by_threads[-1], self.backends[-1])
        self.report.machine.update(described)
        self.report.versions.update({"fcnn_gpu": __version__} | versions)
        environments = [worker_environment(settings, self.backends[-1]) for settings in self._by_threads]
        several = len(environments) > 1
        threads, plain = [one.threads for one in environments], [one.plain() for one in environments]
        self.report.settings["threads"] = threads if several else threads[0]
        self.report.settings["environment"] = plain if several else plain[0]
        for note in (*machine.notes(described), *(note for one in environments for note in one.notes)):
            self._note(note)

    def _measure_ceilings(self, place: _Place, doing: Callable[[str], None], found: Callable[[str], None]) -> None:
        for backend in place.backends:
            measured = dataclasses.replace(ceilings.measure_apart(place.settings, backend), threads=place.threads)
            self._ceilings[backend, place.settings.threads] = measured
            self.report.ceilings.append(measured)
            found(one_line(measured))

    def _time_case(self, case: Case, place: _Place, doing: Callable[[str], None], found: Callable[[str], None]) -> None:
        results = rounds.time_case(
            case.net,
            case.batch,
            self.jobs,
            place.device,
            place.settings,
            ceilings=max(
                (self._ceilings[backend, place.settings.threads] for backend in place.backends),
                key=lambda ceiling: ceiling.product_flops_per_second,
            ),
            progress=doing,
        )
        for result in results:
            self.report.cases.append(result)
            found(one_line(result))

    def _time_operations(self, place: _Place, doing: Callable[[str], None], found: Callable[[str], None]) -> None:
        options: dict[str, Any] = {"quick": True, "rounds": 3, "round_seconds": 0.005} if self.quick else {}
        dtypes: tuple[str, ...] = (self.settings.dtype,)
        if place.device != "numpy" and self.settings.dtype == "float32":
            dtypes = _GPU_DTYPES
            self._note("Operations in tf32, bfloat16 and float16 are held against the ceilings of float32.")
        for backend in place.backends:
            measured = self._ceilings[backend, place.settings.threads]
            measure = functools.partial(
                operations.run,
                # kernels add up in float32 whatever they read, and a byte is a byte: products alone would have others
                [dataclasses.replace(measured, dtype=dtype) for dtype in dtypes],
                backend=backend,
                dtypes=dtypes,
                peers="torch" in self.settings.libraries,
                seed=self.settings.seed,
                **options,
            )
            self._keep(measure, backend, place.settings, place.threads, found)

    def _time_epochs(self, place: _Place, doing: Callable[[str], None], found: Callable[[str], None]) -> None:
        options: dict[str, Any] = {"rounds": 2} if self.quick else {}
        for backend in place.backends:
            measure = functools.partial(epoch.run, backend=backend, seed=self.settings.seed, **options)
            self._keep(measure, backend, place.settings, place.threads, found)

    def _measure_crossover(self, doing: Callable[[str], None], found: Callable[[str], None]) -> None:
        assert self._gpu is not None
        options: dict[str, Any] = {"rounds": 2} if self.quick else {}
        measure = functools.partial(crossover.run, gpu_backend=self._gpu, seed=self.settings.seed, **options)
        settings = self._by_threads[-1]
        threads = worker_environment(settings, self._gpu).threads
        self._keep(measure, self._gpu, settings, threads, found)

    def _keep(
        self,
        measure: Callable[..., Iterator[Any]],
        backend: str,
        settings: Settings,
        threads: int | None,
        found: Callable[[str], None],
    ) -> None:
        """Put what a generator yields, in a process of its own, where it belongs; a text is a note."""
        stream = cast("Generator[Any]", stream_apart(measure, settings=settings, backend=backend))
        with contextlib.closing(stream):
            for result in stream:
                if isinstance(result, str):
                    self._note(result)
                    found(result)
                else:
                    kept = dataclasses.replace(result, threads=threads)
                    self._list_for(kept).append(kept)
                    found(one_line(kept))

    def _list_for(self, result: OperationResult | EpochResult | Crossover) -> list[Any]:
        report = self.report
        if isinstance(result, OperationResult):
            return report.operations
        return report.epochs if isinstance(result, EpochResult) else report.crossovers

    def _note(self, note: str) -> None:
        if note not in self.report.notes:
            self.report.notes.append(note)


def run(sections: Sequence[str] | None = None, settings: Settings | None = None, **options: Any) -> Report:
    """`Benchmark(sections, settings, **options).run()`: what was asked for, measured.

    Raises KeyboardInterrupt, and whatever goes wrong, without a report; keep a `Benchmark` to have its part of one.
    """
    return Benchmark(sections, settings, **options).run()


def backends_for(wanted: str | None) -> tuple[tuple[str, ...], str]:
    """The devices that `--backend` (None: the variable FCNN_BACKEND, else "auto") stands for, and why no others.

    The CPU, with each backend for it, is "numpy".
    """
    ops, reason = choose_backend(wanted, "--backend")
    on_cpu = ops.describe().startswith("CPU")
    if (wanted or os.environ.get("FCNN_BACKEND") or "auto") == "auto":
        return ("numpy",) if on_cpu else ("numpy", "cupy"), reason
    return ("numpy" if on_cpu else wanted or os.environ["FCNN_BACKEND"],), reason


def write(report: Report, folder: Path) -> list[str]:
    """Write report.json, report.md and, with matplotlib, the pictures; the names of the files.

    The numbers come first and take the place of all that an earlier run has left, so that the folder never holds files
    of two. `PictureError` where a picture cannot be drawn: then the report is there without it.
    """
    with replaced_together(
        folder, JSON_NAME, lambda name: name in (JSON_NAME, _PAGE) or bool(FILE_NAME.fullmatch(name))
    ) as new:
        save(report, new / JSON_NAME)
        write_atomically(new / _PAGE, to_markdown(report, {}).encode())
    if not importlib.util.find_spec("matplotlib"):
        return [JSON_NAME, _PAGE]
    with drawing("the pictures of the report"):
        pictures = write_pictures(report, folder)
    write_atomically(folder / _PAGE, to_markdown(report, pictures).encode())
    return [JSON_NAME, _PAGE, *pictures]


def _plain_settings(settings: Settings, quick: bool) -> dict[str, Any]:
    plain = dataclasses.asdict(settings) | {"libraries": list(settings.libraries)}
    return plain | ({"quick": True} if quick else {})
