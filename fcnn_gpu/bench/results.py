"""What a benchmark run found: plain data, which the tables, the plots and the JSON file are made from."""

from __future__ import annotations

import dataclasses
import math
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
    device_seconds: list[float] | None = None
    """On a GPU, where the library has them: the time of one step between two events of the device's stream."""

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
    """How far the array that comes nearest to its limit deviates from ours, before anything is timed (agreement.py)."""

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
    hollow_seconds: float = math.nan
    """Our step on the same layers of one unit each: the calls and the interpreter, without the work."""
    threads: int | None = None
    """Of every library alike; None in reports from before it was kept here."""

    @property
    def ours(self) -> Timing:
        """Our variant with the smallest median, which all ratios and parts of our time are of."""
        return min((t for t in self.timings if t.library == OURS), key=lambda timing: timing.warm.median)

    @property
    def peers(self) -> list[Timing]:
        return [timing for timing in self.timings if timing.library != OURS]

    def ratio(self, peer: Timing) -> Spread:
        """How many times as long the peer takes as our fastest variant, round by round: above 1 we are faster."""
        return Spread.of([theirs / ours for theirs, ours in zip(peer.seconds, self.ours.seconds, strict=True)])

    @property
    def best_peer(self) -> Timing | None:
        """The variant of another library with the smallest median."""
        return min(self.peers, key=lambda timing: timing.warm.median, default=None)


@dataclass(frozen=True)
class OperationResult:
    """One primitive of the backend at one shape. `seconds` holds the device's time of one call in each round."""

    operation: str
    shape: str
    device: str
    dtype: str
    flops: float
    """Elementary floating-point operations: 2mnk of a product; elsewhere each +, ×, ÷, √ or comparison counts one."""
    bytes: float
    """The least to move: every input read once, every output written once."""
    seconds: list[float]
    cold_seconds: float
    """The first call: what is compiled, loaded or touched for the first time included."""
    bound: Bound
    bound_because: str
    deviation: float
    """From the NumPy reference in float64 on the same input before the timing, relative to the largest value."""
    peers: list[Timing] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)
    threads: int | None = None

    @property
    def warm(self) -> Spread:
        return Spread.of(self.seconds)

    def ratio(self, peer: Timing) -> Spread:
        """How many times as long the peer takes, round by round: above 1 we are faster."""
        return Spread.of([theirs / ours for theirs, ours in zip(peer.seconds, self.seconds, strict=True)])


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
    """What the validation passes within `fit` took by themselves, their metrics included."""
    preparation_seconds: list[float]
    """What one call of `fit` took outside its epochs: checking the data, starting and stopping the progress bar."""
    threads: int | None = None

    @property
    def overhead(self) -> Spread:
        """fit/bare − 1, epoch by epoch, validation's own passes left out: they are work that was asked for."""
        parts = zip(self.fit_seconds, self.bare_seconds, self.validation_seconds, strict=True)
        return Spread.of([(fit - validation) / bare - 1.0 for fit, bare, validation in parts])

    @property
    def overhead_with_validation(self) -> Spread:
        """fit/bare − 1, epoch by epoch, with all that an epoch of `fit` does."""
        return Spread.of([fit / bare - 1.0 for fit, bare in zip(self.fit_seconds, self.bare_seconds, strict=True)])


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
    threads: int | None = None
    """Of the CPU."""

    def _gains(self) -> list[tuple[float, float]]:
        """(log position on the axis, log of how many times faster the GPU is), in the order of the axis."""
        points = sorted(self.points, key=lambda point: getattr(point, self.axis))
        return [
            (math.log(getattr(point, self.axis)), math.log(point.cpu_seconds / point.gpu_seconds)) for point in points
        ]

    @property
    def at(self) -> float | None:
        """The batch size or width from which the GPU stays faster: log-linearly between the points around it.

        With r = cpu/gpu at neighbouring points a < b, r(a) ≤ 1 < r(b) and r > 1 from b on: the place x where log r,
        drawn as a line over log x, is 0. None if one of the two is faster throughout, or the CPU at the largest point.
        """
        gains = self._gains()
        last = max((i for i, (_, gain) in enumerate(gains) if gain <= 0.0), default=None)
        if last is None or last == len(gains) - 1:
            return None
        (x0, y0), (x1, y1) = gains[last], gains[last + 1]
        return math.exp(x0 + (x1 - x0) * -y0 / (y1 - y0))

    @property
    def conclusion(self) -> str:
        """What the points say, in one clause."""
        if not self.points:
            return "nothing was measured"
        places = sorted(getattr(point, self.axis) for point in self.points)
        span = f"{self.axis} from {places[0]} to {places[-1]}"
        if self.at is not None:
            return f"below {self.axis} {self.at:.0f} the CPU is faster"
        gains = [gain for _, gain in self._gains()]
        if min(gains) > 0.0:
            return f"the GPU is faster at every {span}"
        if max(gains) <= 0.0:
            return f"the CPU is at least as fast at every {span}"
        return f"no crossover within {span}: the CPU is as fast again at the largest"


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
    copy_rates: list[tuple[int, float]] = field(default_factory=list)
    """(bytes, bytes per second) of copies from small to large: what fits a cache moves faster."""
    threads: int | None = None

    def copy_rate(self, n_bytes: float) -> float:
        """Bytes per second of the smallest copy measured that moves at least so many bytes, else of the large one."""
        return next((rate for size, rate in self.copy_rates if size >= n_bytes), self.copy_bytes_per_second)


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
    interrupted: bool = False
    """Ended by Ctrl-C: what was done until then is here."""

    def plain(self) -> dict[str, Any]:
        """Nested dicts and lists, for JSON."""
        return dataclasses.asdict(self)
