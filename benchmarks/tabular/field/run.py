"""A run: which jobs, in which order, each in a process of its own, its line appended as soon as it is there."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ..packages import MissingTable
from .measurement import Job, Measurement, append, from_line, is_done
from .models import MODELS, Model
from .tables import TABLES, Places

LONG = 1200.0
"""Fits of more seconds than that come last."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

Shapes = Mapping[str, tuple[int, int]]
"""By a table's name: samples and columns."""


def available(
    tables: Iterable[str], models: Iterable[str], places: Places, known: Mapping[str, Model] = MODELS
) -> tuple[Shapes, dict[str, str]]:
    """The shapes of the tables that are here, and why others, and models, are missing."""
    shapes: dict[str, tuple[int, int]] = {}
    missing: dict[str, str] = {}
    for name in tables:
        try:
            X = TABLES[name](places).X
        except MissingTable as reason:
            missing[name] = str(reason)
        else:
            shapes[name] = len(X), len(X.columns)
    for name in models:
        if not known[name].is_here():
            missing[name] = f"it is not installed: pip install {known[name].package}"
    return shapes, missing


def to_do(jobs: Iterable[Job], found: Sequence[Measurement], limit: float | None) -> list[Job]:
    """What the file has not yet. ValueError where it was measured with another number of threads."""
    jobs = list(jobs)
    others = {one.n_threads for one in found} - {job.n_threads for job in jobs}
    if others:
        raise ValueError(f"it was measured with --threads {others.pop()}: take that, or another folder.")
    return [job for job in jobs if not is_done(job, found, limit)]


def in_order(jobs: Iterable[Job], shapes: Shapes, models: Mapping[str, Model] = MODELS) -> list[Job]:
    """Seed by seed, cheap tables first, the models in turn; what takes very long behind all others.

    So a run that is stopped has compared as much as it could.
    """
    tables, names = list(TABLES), list(models)

    def place(job: Job) -> tuple[bool, int, int, int]:
        n, n_features = shapes[job.table]
        is_long = models[job.model].seconds(n, n_features) > LONG
        return is_long, job.seed, tables.index(job.table), names.index(job.model)

    return sorted(jobs, key=place)


def run(
    jobs: Sequence[Job],
    places: Places,
    path: Path,
    limit: float | None,
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> None:
    """Measure the jobs, one at a time."""
    for i, job in enumerate(jobs, 1):
        start = time.perf_counter()
        measurement = measured_apart(job, places, limit)
        append(path, measurement)
        tell(f"{i} of {len(jobs)}: {_told(measurement)} ({time.perf_counter() - start:.0f} s)")


def measured_apart(job: Job, places: Places, limit: float | None) -> Measurement:
    """The job in a process of its own, which is ended after `limit` seconds."""
    given = json.dumps({name: str(place) for name, place in places.items()})
    line = [sys.executable, "-m", "benchmarks.tabular.field.worker", json.dumps(dataclasses.asdict(job)), given]
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(job.n_threads))
    nothing = Measurement(**dataclasses.asdict(job), created=now())
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=limit, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return dataclasses.replace(nothing, stopped_after=limit)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return dataclasses.replace(nothing, failed=said[-1] if said else f"exit status {done.returncode}")
    return from_line(done.stdout.strip().splitlines()[-1])


def now() -> str:
    """The time, as all lines have it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _told(one: Measurement) -> str:
    head = f"{one.table}, seed {one.seed}, {one.model}:"
    if one.failed is not None:
        return f"{head} failed: {one.failed}"
    if one.stopped_after is not None:
        return f"{head} stopped after {one.stopped_after:.0f} s"
    return f"{head} error {one.error:.4f}, fit {one.fit_seconds:.1f} s"
