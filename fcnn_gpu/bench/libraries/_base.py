"""What every library in the benchmark does: build one net, train it on given batches, infer, show its weights."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ..._types import HostArray
from ...layers import BatchNorm, Dense
from ...model import Sequential
from ..nets import Net
from ..settings import Settings

LEARNING_RATE, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8
"""Adam, with the defaults of all four libraries."""
BATCH_NORM_MOMENTUM, BATCH_NORM_EPS = 0.1, 1e-5
"""PyTorch's and ours."""
_SAMPLES = 8192
_MIN_BATCHES, _MAX_BATCHES = 8, 256


class Unavailable(Exception):
    """A library or variant cannot run a case here; the message says why and, where there is one, the remedy."""


@dataclass(frozen=True)
class Problem:
    """A net to train at one batch size, on data that the seed fixes: the same numbers in every process."""

    net: Net
    batch: int
    backend: str = "numpy"
    dtype: str = "float32"
    seed: int = 0
    threads: int = 1
    precision: str | None = None

    @property
    def arithmetic(self) -> str:
        """The number type in one word: the precision where one is asked for, else the dtype."""
        return self.precision or self.dtype

    @property
    def half(self) -> str | None:
        """The 16-bit type of the activations, or None: then they have the parameters' own."""
        return self.precision if self.precision in ("bfloat16", "float16") else None

    @property
    def gpu(self) -> int | None:
        """The number of the CUDA device, or None on the CPU."""
        name, _, index = self.backend.partition(":")
        return int(index or 0) if name == "cupy" else None

    @property
    def n_batches(self) -> int:
        """Batches in the data set: 8192 samples' worth, at least 8 and at most 256; a larger batch is all the data."""
        if self.batch > _SAMPLES:
            return 1
        return min(max(_MIN_BATCHES, _SAMPLES // self.batch), _MAX_BATCHES)

    def data(self) -> tuple[HostArray, HostArray]:
        """X (n_samples, n_in), standard normal, and y (n_samples,), random classes as int64."""
        rng = np.random.default_rng([self.seed, 1])
        n_samples = self.n_batches * self.batch
        X = rng.standard_normal((n_samples, self.net.n_in), dtype=np.float32)
        return X.astype(self.dtype, copy=False), rng.integers(0, self.net.n_out, n_samples)

    def order(self) -> HostArray:
        """The order in which the samples are visited, a permutation."""
        n_samples = self.n_batches * self.batch
        return np.random.default_rng([self.seed, 2]).permutation(n_samples).astype(np.int64, copy=False)

    def ordered_data(self) -> tuple[HostArray, HostArray]:
        """X and y in the order of the visits: batch k is rows k·batch ... (k + 1)·batch − 1."""
        X, y = self.data()
        order = self.order()
        return X[order], y[order]

    def initial_weights(self) -> dict[str, HostArray]:
        """What `weights_of` says of our model before its first step."""
        return weights_of(self.net.model("numpy", self.seed, self.dtype))  # NumPy has no other precision, nor needs it

    def without_dropout(self) -> Problem:
        """The same with p = 0."""
        return replace(self, net=self.net.without_dropout())

    def hollow(self) -> Problem:
        """The same layers of one unit each and the smallest batch that trains: calls without work."""
        return replace(self, net=self.net.hollow(), batch=2 if self.net.batch_norm else 1)


def weights_of(model: Sequential) -> dict[str, HostArray]:
    """Copies of what layer i learned: W{i} (n_out, n_in), b{i} (n_out,), gamma{i}, beta{i}, running_mean{i}, ..."""
    host = model.ops.to_numpy
    arrays: dict[str, HostArray] = {}
    dense = -1
    for layer in model.layers:
        if isinstance(layer, Dense):
            dense += 1
            arrays |= {f"W{dense}": host(layer.W), f"b{dense}": host(layer.b)[:, 0]}
        elif isinstance(layer, BatchNorm):
            arrays |= {f"gamma{dense}": host(layer.gamma)[:, 0], f"beta{dense}": host(layer.beta)[:, 0]}
            arrays |= {f"{name}{dense}": host(value)[:, 0] for name, value in layer.state().items()}
    return {name: array.copy() for name, array in arrays.items()}


class Contestant(ABC):
    """One net, built by one library in one variant, with its data in that library's memory.

    `train` and `infer` may leave work queued on a device; `wait` returns when it is done. Each goes through the
    batches in order, from the first one on after `reset`.
    """

    @abstractmethod
    def train(self, n_steps: int) -> None:
        """As many training steps: forward, loss, backward, Adam."""

    @abstractmethod
    def infer(self, n_batches: int) -> None:
        """The raw outputs of as many batches, at inference."""

    def prepare(self) -> None:  # noqa: B027 - most have nothing to prepare
        """Compile what only longer stretches need: after the first step, whose time is kept, and before all others."""

    @abstractmethod
    def outputs(self) -> HostArray:
        """The raw outputs (batch, n_out) of the first batch at inference, up to a constant for each sample."""

    @abstractmethod
    def weights(self) -> dict[str, HostArray]:
        """As `weights_of` names and shapes them."""

    @abstractmethod
    def reset(self) -> None:
        """Back to the initial weights, moments of 0 and the first batch."""

    def wait(self) -> None:  # noqa: B027 - most have nothing to wait for
        """Until the device has done what it was given. On a CPU it has."""

    def check(self) -> None:  # noqa: B027 - most have nothing to check
        """Raise ArithmeticError if training has stopped doing its work, which a clock would take for speed."""

    def stopwatch(self) -> Callable[[], float] | None:
        """Start a stopwatch on the device, which its call reads in seconds; None where the clock of the host does."""
        return None

    def jobs(self) -> dict[str, Callable[[int], None]]:
        """Everything that can be timed, by name: each repeats its work a number of times.

        A variant that differs from another in training alone has no job "infer", and the other way round.
        """
        return {"train": self.train, "infer": self.infer}


class Library(ABC):
    """One library: whether it is here, its variants for a case, and how it builds a contestant.

    Attributes:
        key: what the command line calls it.
        name: what tables call it.
        module: what it is imported as.
        package: what pip calls it.
    """

    key: ClassVar[str]
    name: ClassVar[str]
    module: ClassVar[str]
    package: ClassVar[str]

    def missing(self) -> str | None:
        """Why it cannot be used at all, or None. Looks for it without importing it."""
        if importlib.util.find_spec(self.module) is None:
            return f"not installed (pip install {self.package})"
        return None

    def lacks(self, problem: Problem) -> str | None:
        """What of this net or device it does not have, or None."""
        return None

    @abstractmethod
    def variants(self, problem: Problem, settings: Settings) -> dict[str, str | None]:
        """Its variants for this case; one that is left out, with the reason, instead of None."""

    @abstractmethod
    def build(self, problem: Problem, variant: str) -> Contestant:
        """The contestant, in this process. Raises `Unavailable` for what shows only when the library is imported."""


class Batches:
    """The numbers 0 ... n − 1 of the batches, over and over."""

    def __init__(self, n_batches: int) -> None:
        self._n = n_batches
        self._next = 0

    def restart(self) -> None:
        """Begin with batch 0 again."""
        self._next = 0

    def next(self) -> int:
        """The number of the next batch."""
        k = self._next
        self._next = k + 1 if k + 1 < self._n else 0
        return k

    @property
    def at_start(self) -> bool:
        """Whether batch 0 is next."""
        return self._next == 0

    @property
    def left(self) -> int:
        """How many batches there are before batch 0 comes again."""
        return self._n - self._next

    def skip(self, n: int) -> None:
        """Go on by n batches, at most `left`."""
        self._next = (self._next + n) % self._n
