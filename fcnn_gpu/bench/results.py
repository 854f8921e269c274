"""What a benchmark run found: plain data, which the tables, the plots and the JSON file are made from."""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass, field
from typing import Any, Literal

Job = Literal["train", "infer"]
"""One training step over a batch, or the raw outputs of one batch at inference."""

Bound = Literal["arithmetic", "memory", "launches", "Python"]
"""What keeps a case from being faster: the products, memory bandwidth, kernel launches or the interpreter."""

OURS = "fcnn_gpu"


@dataclass(frozen=True)
class Spread:
    """Median and quartiles over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """First quartile, median and third quartile of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Timing:
    """One library in one case. `seconds` holds the time of one step in each round; cold is the very first step."""

    library: str
    variant: str
    seconds: list[float]
    cold_seconds: float
    transfer_seconds: list[float] | None = None
    """On a GPU, the same step with the batch copied from the host and the outputs or the loss copied back."""

    @property
    def label(self) -> str:
        return f"{self.library} {self.variant}".strip()

    @property
    def warm(self) -> Spread:
        return Spread.of(self.seconds)


@dataclass(frozen=True)
class Absent:
    """A library or variant that was not timed, and why: not installed, no such layer, its results did not agree."""

    library: str
    variant: str
    reason: str


@dataclass(frozen=True)
class Agreement:
    """The largest deviation from our results before anything was timed, relative to the largest value, and its limit."""

    library: str
    variant: str
    deviation: float
    limit: float


@dataclass(frozen=True)
class CaseResult:
    """One net, batch size and job, for every library that could run it. Round r of every timing ran side by side."""

    net: str
    batch: int
    job: Job
    device: str
    dtype: str
    n_parameters: int
    flops: float
    """Floating-point operations of the matrix products of one step, 2mnk each; all else is left out."""
    bytes: float
    """The least that one step must move to and from memory: parameters, moments, gradients and activations once."""
    timings: list[Timing]
    agreements: list[Agreement]
    absent: list[Absent]
    bound: Bound
    bound_because: str
    """One phrase with the numbers behind `bound`."""
    products_seconds: float
    """The step's matrix products alone, in the backend's own library: the floor for everything around them."""

    @property
    def ours(self) -> Timing:
        return next(timing for timing in self.timings if timing.library == OURS)

    @property
    def peers(self) -> list[Timing]:
        return [timing for timing in self.timings if timing.library != OURS]

    def ratio(self, peer: Timing) -> Spread:
        """How many times as long the peer takes, round by round: above 1 we are faster."""
        return Spread.of([theirs / ours for theirs, ours in zip(peer.seconds, self.ours.seconds, strict=True)])

    @property
    def best_peer(self) -> Timing | None:
        """The peer with the smallest median."""
        return min(self.peers, key=lambda timing: timing.warm.median, default=None)


@dataclass(frozen=True)
class OperationResult:
    """One primitive of the backend at one shape."""

    operation: str
    shape: str
    device: str
    dtype: str
    flops: float
    bytes: float
    seconds: list[float]
    cold_seconds: float
    bound: Bound
    peers: list[Timing] = field(default_factory=list)


@dataclass(frozen=True)
class EpochResult:
    """`Trainer.fit` on full MNIST against the bare steps of the same epoch, in turn."""

    net: str
    batch: int
    device: str
    n_samples: int
    fit_seconds: list[float]
    bare_seconds: list[float]
    """Of as many epochs; metrics, validation and progress are on in `fit` and not here."""
    validation_seconds: list[float]
    """What the validation passes within `fit` took by themselves."""

    @property
    def overhead(self) -> Spread:
        """fit/bare − 1, epoch by epoch, validation's own passes left out."""
        parts = zip(self.fit_seconds, self.bare_seconds, self.validation_seconds, strict=True)
        return Spread.of([(fit - validation) / bare - 1.0 for fit, bare, validation in parts])


@dataclass(frozen=True)
class CrossoverPoint:
    """CPU and GPU seconds per training step of one net at one batch size or width."""

    net: str
    batch: int
    width: int
    cpu_seconds: float
    gpu_seconds: float


@dataclass(frozen=True)
class Crossover:
    """Where the GPU overtakes the CPU along one axis, all else fixed."""

    axis: Literal["batch", "width"]
    fixed: str
    points: list[CrossoverPoint]

    @property
    def at(self) -> float | None:
        """The batch size or width at which both take the same time, log-linearly between the points around it."""
        raise NotImplementedError  # helper B


@dataclass(frozen=True)
class Ceilings:
    """What the device can do, measured in the same run."""

    device: str
    dtype: str
    product_flops_per_second: float
    product_shape: str
    copy_bytes_per_second: float
    copy_bytes: int
    call_seconds: float
    """The shortest call into the library: one NumPy call on one element, or one kernel launch."""


@dataclass(frozen=True)
class Report:
    """Everything that one run of the benchmark measured, and on what."""

    created: str
    """UTC, ISO 8601."""
    command: str
    machine: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any]
    """Seed, threads, rounds, environment of the workers, instruction sets."""
    ceilings: list[Ceilings]
    cases: list[CaseResult] = field(default_factory=list)
    operations: list[OperationResult] = field(default_factory=list)
    epochs: list[EpochResult] = field(default_factory=list)
    crossovers: list[Crossover] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What a reader must know to read the numbers right: a loaded machine, a restricted BLAS, what is missing."""

    def plain(self) -> dict[str, Any]:
        """Nested dicts and lists, for JSON."""
        return dataclasses.asdict(self)
