"""What the parts of a GPU report find: plain data, which the page and the JSON file are made from."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from fcnn_gpu.bench.results import CaseResult


@dataclass(frozen=True)
class Fact:
    """One line about the machine or the software."""

    name: str
    value: str


@dataclass(frozen=True)
class Fault:
    """Something that went wrong where the part could go on: the report's exit status says so."""

    what: str
    message: str


@dataclass(frozen=True)
class Choice:
    """What the autotuner took for one layer at one batch size and precision."""

    layer: str
    chosen: str
    times: str
    """Each candidate's, the fastest first, and why others were not tried."""


@dataclass(frozen=True)
class Compilation:
    """Every instance of every kernel compiled for this device, by several processes side by side."""

    n_instances: int
    n_processes: int
    seconds: float
    failures: list[str]
    """The first line of each error, with the instance it came from."""
    folder: str = ""
    """Where CuPy keeps what was compiled, for this machine's later processes."""

    @property
    def fault(self) -> str:
        """What is wrong with it, if anything is."""
        return f"{len(self.failures)} kernel instances do not compile" if self.failures else ""


@dataclass(frozen=True)
class FileResults:
    """The tests of one file."""

    file: str
    passed: int
    failed: int
    skipped: int
    seconds: float


@dataclass(frozen=True)
class TestFailure:
    """One test that failed, or did not come to its end."""

    __test__ = False  # no test of pytest's

    test: str
    message: str
    """The first lines of the error."""
    details: str = ""
    """The end of its traceback."""


@dataclass(frozen=True)
class PytestRun:
    """One run of pytest."""

    command: str
    exit_status: int
    """pytest's own: 0 all passed, 1 some failed, 5 none were found; −n: ended by signal n."""
    seconds: float
    files: list[FileResults]
    failures: list[TestFailure]
    skips: dict[str, int]
    """How many tests were skipped for each reason."""
    last_lines: str = ""
    """What pytest printed last, where it did not come to its end by itself."""
    n_processes: int = 1
    n_collected: int | None = None
    """Tests that were to run; None where pytest did not come to say so."""

    @property
    def passed(self) -> int:
        return sum(file.passed for file in self.files)

    @property
    def failed(self) -> int:
        return sum(file.failed for file in self.files)

    @property
    def skipped(self) -> int:
        return sum(file.skipped for file in self.files)

    @property
    def fault(self) -> str:
        """What is wrong with it, if anything is. A run in which no test passed is no success, whatever pytest says."""
        n_run = self.passed + self.failed + self.skipped
        if self.failures:
            return f"{len({failure.test for failure in self.failures})} tests failed"
        if self.exit_status:
            said = next((line.strip() for line in reversed(self.last_lines.splitlines()) if line.strip()), "")
            return f"pytest ended with exit status {self.exit_status}{f' ({said[:300]})' if said else ''}"
        if not self.passed:
            return "no test passed: " + (f"all {n_run} were skipped" if n_run else "none ran")
        if self.n_collected is not None and n_run < self.n_collected:
            return f"only {n_run} of {self.n_collected} tests ran"
        return ""


@dataclass(frozen=True)
class KernelUse:
    """One kernel that an operation launches, and what the driver says of it."""

    expression: str
    grid: int
    block: int
    registers: int | None
    """Per thread; None where the device does not say."""
    local_bytes: int | None
    """Per thread in local memory: registers that did not fit, and arrays that are indexed."""
    shared_bytes: int | None
    """Per block, the dynamic share included."""


@dataclass(frozen=True)
class KernelTiming:
    """One primitive of the backend in one number type at one size."""

    operation: str
    dtype: str
    size: str
    """"small", which fits the device's caches, or "large", which does not."""
    shape: str
    seconds: list[float]
    """Of one call, by round, between two events of the stream."""
    timed_as: str
    """"graph": calls recorded into a CUDA graph; "loop": calls queued one by one, so that the host may be the limit."""
    bytes: float
    """The least to move: every input read once, every output written once."""
    copy_bytes_per_second: float
    """Of the copy it is held against: a large one, or for a small size the fastest."""
    launch_seconds: float
    """Of the smallest kernel within a graph, times the kernels that the operation launches."""
    kernels: list[KernelUse]

    @property
    def floor_seconds(self) -> float:
        """The larger of the time that a copy of as many bytes takes and that of as many empty launches."""
        return max(self.bytes / self.copy_bytes_per_second, self.launch_seconds)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def share(self) -> float:
        """Of the time, what the floor takes: 1 is all that the memory allows."""
        return self.floor_seconds / self.median


@dataclass(frozen=True)
class ProductTiming:
    """One matrix product in one precision."""

    precision: str
    what: str
    """Which product of which net: "forward", "weight gradient" or "input gradient", and the layer."""
    m: int
    n: int
    k: int
    seconds: list[float]
    """Of one product, by round."""
    timed_as: str
    ceiling_flops_per_second: float
    """The best of the large products in this precision, in the same run."""

    @property
    def flops(self) -> float:
        """2mnk."""
        return 2.0 * self.m * self.n * self.k

    @property
    def flops_per_second(self) -> float:
        return self.flops / statistics.median(self.seconds)


@dataclass(frozen=True)
class StepTiming:
    """One training step, eager or as a graph of so many steps."""

    net: str
    batch: int
    precision: str
    steps_per_graph: int
    """0: every step queued call by call."""
    seconds: list[float]
    """Of one step, by round, from the first call until the device is done."""
    host_seconds: list[float]
    """Of one step: what the host needed to queue it. Where it is nearly all of `seconds`, the host is the limit."""
    device_seconds: list[float]
    """Of one step, between two events of the stream."""


@dataclass(frozen=True)
class FusedTiming:
    """The forward pass of one network at one batch size, hidden activations kept."""

    net: str
    batch: int
    precision: str
    fused_seconds: list[float]
    """Of a pass in one kernel, by round, between two events of the stream around many of them in a CUDA graph."""
    separate_seconds: list[float]
    """Of the same layers one by one."""


@dataclass(frozen=True)
class LargeProduct:
    """One product in chunks of operands that lie in host memory, and so does the result."""

    precision: str
    m: int
    n: int
    k: int
    memory_limit: int
    """Bytes that it may take of the device."""
    tile: list[int]
    """Rows of the result, its columns, and of the inner dimension, of one product on the device."""
    bytes_in: int
    bytes_out: int
    predicted_seconds: float
    seconds: list[float]
    """Of the whole call, by round."""
    ceiling_flops_per_second: float
    """Of a large product of arrays on the device, in the same run."""
    to_device: float
    """Bytes/s of a copy from page-locked memory, in the same run."""
    from_device: float

    @property
    def flops(self) -> float:
        """2mnk."""
        return 2.0 * self.m * self.n * self.k

    @property
    def arithmetic_seconds(self) -> float:
        return self.flops / self.ceiling_flops_per_second

    @property
    def transfer_seconds(self) -> float:
        """The larger of both directions, which go on at a time."""
        return max(self.bytes_in / self.to_device, self.bytes_out / self.from_device)

    @property
    def share(self) -> float:
        """Of the slower of the two ceilings."""
        return max(self.arithmetic_seconds, self.transfer_seconds) / statistics.median(self.seconds)


@dataclass(frozen=True)
class Goal:
    """A target, and what a case of the contest makes of it."""

    case: CaseResult
    best_wanted: float | None = None
    """Times as fast as the best peer."""
    eager_wanted: float | None = None
    """Times as fast as PyTorch's eager mode at its best."""
    product_share_wanted: float | None = None
    """Of the measured rate of a large product."""
    product_ceiling: float = 0.0
    """FLOP/s of a large product in this precision."""


@dataclass(frozen=True)
class Fit:
    """`Trainer.fit` over data that lies on the device already."""

    data: str
    """"MNIST", or what took its place."""
    net: str
    batch: int
    precision: str
    epochs: int
    n_samples: int
    first_seconds: float
    """Wall time of the first call of `fit`: kernels loaded, products tuned, graphs recorded."""
    seconds: list[float] = field(default_factory=list)
    """Of the calls after it, each with a new model."""
    epoch_seconds: list[float] = field(default_factory=list)
    """Of every epoch of the last call, as the history has them."""
    accuracy: float | None = None
    """On the test images, of the last call's model."""
