"""A run: which jobs, in which order, each in a process of its own, its line appended as soon as it is there."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from .measurement import Job, Measurement, append, from_line, is_done, read
from .models import MODELS, Model
from .tables import TABLES, Places

LONG = 1200.0
"""Fits of more seconds than that come last."""
SHAPES = {
    "german": (1000, 20),
    "ames": (2930, 73),
    "churn": (5000, 19),
    "splice": (3190, 60),
    "phoneme": (5404, 5),
    "spambase": (4597, 57),
    "satimage": (6435, 36),
    "penbased": (10992, 16),
    "magic": (19020, 10),
    "letter": (20000, 16),
    "diamonds": (53940, 9),
    "fashion_mnist": (70000, 784),
}
"""Of the tables, for the order of a run alone."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def in_order(jobs: Iterable[Job], models: Mapping[str, Model] = MODELS) -> list[Job]:
    """Seed by seed, cheap tables first, the models in turn; what takes very long behind all others.

    So a run that is stopped has compared as much as it could.
    """
    tables, names = list(TABLES), list(models)

    def place(job: Job) -> tuple[bool, int, int, int]:
        n, n_features = SHAPES[job.table]
        is_long = models[job.model].seconds(round(0.64 * n), n_features) > LONG
        return is_long, job.seed, tables.index(job.table), names.index(job.model)

    return sorted(jobs, key=place)


def run(
    jobs: Iterable[Job],
    places: Places,
    path: Path,
    limit: float | None,
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> None:
    """Measure what the file has not yet. One at a time."""
    found = read(path)
    todo = [job for job in in_order(jobs) if not is_done(job, found, limit)]
    for i, job in enumerate(todo, 1):
        start = time.perf_counter()
        measurement = measured_apart(job, places, limit)
        append(path, measurement)
        tell(f"{i} of {len(todo)}: {_told(measurement)} ({time.perf_counter() - start:.0f} s)")


def measured_apart(job: Job, places: Places, limit: float | None) -> Measurement:
    """The job in a process of its own, which is ended after `limit` seconds."""
    given = json.dumps({name: str(place) for name, place in places.items()})
    line = [sys.executable, "-m", "benchmarks.tabular.field.worker", json.dumps(dataclasses.asdict(job)), given]
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(job.n_threads))
    nothing = Measurement(**dataclasses.asdict(job), created=_now())
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=limit, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return dataclasses.replace(nothing, stopped_after=limit)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return dataclasses.replace(nothing, failed=said[-1] if said else f"exit status {done.returncode}")
    return from_line(done.stdout.strip().splitlines()[-1])


def _told(measurement: Measurement) -> str:
    one = measurement
    head = f"{one.table}, seed {one.seed}, {one.model}:"
    if one.failed is not None:
        return f"{head} failed: {one.failed}"
    if one.error is None:
        return f"{head} stopped after {one.stopped_after:.0f} s"
    return f"{head} error {one.error:.4f}, fit {one.fit_seconds:.1f} s"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
