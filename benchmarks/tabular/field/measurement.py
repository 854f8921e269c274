"""One measurement: one model on one split of one table, as a line of results.jsonl."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fcnn_gpu.bench._json import ReportFileError, _read, parsed


@dataclass(frozen=True)
class Job:
    """What is to be measured."""

    table: str
    seed: int
    model: str
    n_threads: int = 1


@dataclass(frozen=True)
class Measurement:
    """What came of it. Where there are no numbers, `stopped_after` or `failed` says why."""

    table: str
    seed: int
    model: str
    n_threads: int
    created: str
    task: str = ""
    n_samples: int = 0
    n_features: int = 0
    error: float | None = None
    """Of the test part: 1 − accuracy, or the RMSE of values standardized by the training part."""
    log_loss: float | None = None
    """Of the test part, for classes."""
    rounds: int = 0
    """Epochs or trees of what predicts; 0 where that has no meaning."""
    fit_seconds: float | None = None
    """On the clock."""
    fit_cpu_seconds: float | None = None
    """Of the processor, which other work on the machine has less part in."""
    predict_seconds: float | None = None
    """Of the test part, on the clock: the median of several."""
    predict_cpu_seconds: float | None = None
    n_test: int = 0
    model_bytes: int | None = None
    peak_bytes: int | None = None
    """The most memory that fit and predictions took beyond `baseline_bytes`; None where the system does not tell."""
    baseline_bytes: int | None = None
    """Memory of the process with all that it imports and the data, before the fit."""
    versions: dict[str, str] = field(default_factory=dict)
    stopped_after: float | None = None
    """Seconds that the process was given."""
    failed: str | None = None
    """The last line that it wrote."""

    @property
    def job(self) -> Job:
        """What was measured."""
        return Job(self.table, self.seed, self.model, self.n_threads)

    @property
    def fit_time(self) -> float | None:
        """Seconds: with one thread those of the processor, since others may have it meanwhile; else on the clock."""
        return self.fit_cpu_seconds if self.n_threads == 1 else self.fit_seconds

    @property
    def predict_time(self) -> float | None:
        """As `fit_time`."""
        return self.predict_cpu_seconds if self.n_threads == 1 else self.predict_seconds


NOTHING = Measurement("", -1, "", 0, "")
"""What is in a line only where it differs."""


def to_line(measurement: Measurement) -> str:
    """As JSON, without what it has not."""
    nothing = dataclasses.asdict(NOTHING)
    kept = {name: value for name, value in dataclasses.asdict(measurement).items() if value != nothing.get(name)}
    return json.dumps(kept, ensure_ascii=False, allow_nan=False)


def from_line(line: str) -> Measurement:
    """What `to_line` wrote. Raises ReportFileError, a ValueError, for anything else."""
    data = parsed(line)
    if not isinstance(data, dict):
        raise ReportFileError(f"it is no measurement: {line[:80]}")
    return _read(Measurement, dataclasses.asdict(NOTHING) | data, "measurement")


def read(path: Path) -> list[Measurement]:
    """All of a file, the last of each job, in the order of the file. None where there is no file."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    found: dict[Job, Measurement] = {}
    for number, line in enumerate(lines, 1):
        try:
            measurement = from_line(line)
        except ReportFileError as fault:
            raise ReportFileError(f"{path}, line {number}: {fault}") from None
        found[measurement.job] = measurement
    return list(found.values())


def append(path: Path, measurement: Measurement) -> None:
    """Add a line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(to_line(measurement) + "\n")


def is_done(job: Job, found: Iterable[Measurement], limit: float | None) -> bool:
    """Whether a job need not be run: it has numbers, or was stopped after no less than is given now."""
    for one in found:
        if one.job == job:
            stopped = one.stopped_after is not None and limit is not None and one.stopped_after >= limit
            return one.error is not None or stopped
    return False
