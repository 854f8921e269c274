"""The process of one measurement: loads a table, fits a model, and prints the line.

python -m benchmarks.tabular.field.worker JOB PLACES     # both as JSON
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from fcnn_gpu._types import HostArray

from .measurement import Job, Measurement, to_line
from .models import MODELS
from .run import now
from .splits import split
from .tables import TABLES, Places

PREDICTIONS, ENOUGH_SECONDS = 5, 5.0
"""A prediction is repeated so often, or until they took so long."""
T = TypeVar("T")


def main(arguments: Sequence[str]) -> int:
    job, places = (json.loads(text) for text in arguments)
    print(to_line(measure(Job(**job), {name: Path(place) for name, place in places.items()})))
    return 0


def measure(job: Job, places: Places) -> Measurement:
    """All numbers of a job, in this process."""
    model = MODELS[job.model]
    table = TABLES[job.table](places)
    part = split(table, job.seed)
    shape = table.X.shape
    del table
    model.load(job.n_threads)
    baseline = _start_of_peak()
    fitted, seconds, cpu_seconds = _timed(lambda: model.fit(part, job.seed, job.n_threads))
    predictions = [_timed(lambda: fitted.predict(part.X_test))]
    while len(predictions) < PREDICTIONS and sum(one[1] for one in predictions) < ENOUGH_SECONDS:
        predictions.append(_timed(lambda: fitted.predict(part.X_test)))
    peak = _peak()
    found = predictions[0][0]
    if not np.isfinite(found).all():
        raise ValueError(f"{job.model} on {job.table} predicts numbers that are not finite.")
    error, log_loss = scores(found, part.y_test)
    return Measurement(
        **dataclasses.asdict(job),
        created=now(),
        task=part.task,
        n_samples=shape[0],
        n_features=shape[1],
        error=error,
        log_loss=log_loss,
        rounds=fitted.rounds,
        fit_seconds=seconds,
        fit_cpu_seconds=cpu_seconds,
        predict_seconds=statistics.median(one[1] for one in predictions),
        predict_cpu_seconds=statistics.median(one[2] for one in predictions),
        n_test=len(part.y_test),
        model_bytes=fitted.n_bytes(),
        peak_bytes=None if baseline is None or peak is None else peak - baseline,
        baseline_bytes=baseline,
        versions=model.versions(),
    )


def scores(found: HostArray, y: HostArray) -> tuple[float, float | None]:
    """(error, log loss) of probabilities (n, n_classes) for classes y, or (RMSE, None) of values (n,) for values y."""
    if found.ndim == 1:
        return float(np.sqrt(np.mean((found - y) ** 2))), None
    of_right = found[np.arange(len(y)), y].astype(np.float64)
    return float(np.mean(found.argmax(axis=1) != y)), float(-np.log(np.maximum(of_right, 1e-15)).mean())


def _timed(call: Callable[[], T]) -> tuple[T, float, float]:
    """(result, seconds on the clock, seconds of the processor)."""
    start, cpu_start = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - start, time.process_time() - cpu_start


def _start_of_peak() -> int | None:
    """Bytes that this process has now, from which on the kernel looks for the most. None where it does not."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def _peak() -> int | None:
    return _status("VmHWM")


def _status(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
