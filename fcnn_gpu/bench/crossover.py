"""From which batch size and which width on a GPU trains a network faster than this machine's CPU."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from .._checks import check_integer
from ..backend import BackendError, resolve_backend
from ._quiet import wait_until_idle
from .libraries._base import Problem
from .libraries.ours import OurNet
from .nets import Net
from .results import Crossover, CrossoverPoint

Timer = Callable[[Net, int], float]
"""(net, batch size) → seconds per training step."""

BATCHES = tuple(2**k for k in range(13))
"""1 to 4096."""
WIDTHS = tuple(2**k for k in range(4, 13))
"""16 to 4096."""

_SETTLE_STEPS = 3


def run(
    *,
    net: str | Net = "784-512-512-10",
    batches: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
    batch: int = 128,
    gpu_backend: str = "cupy",
    rounds: int = 5,
    seed: int = 0,
    cpu: Timer | None = None,
    gpu: Timer | None = None,
) -> Iterator[Crossover | str]:
    """Two crossovers, over the batch size and over the width of the hidden layers; a str says why there are none.

    Args:
        net: over the batch size as it is; over the width with every hidden layer as wide.
        batches: the batch sizes; None takes `BATCHES`. An empty one leaves this crossover out.
        widths: the widths of the hidden layers; None takes `WIDTHS`. An empty one leaves this crossover out.
        batch: the batch size of the crossover over the width.
        gpu_backend: "cupy" or "cupy:<device>".
        rounds: stretches of steps per point, of which the median counts.
        seed: of weights and data.
        cpu: times a step on the CPU instead of the backend "cpu".
        gpu: times a step on the GPU instead of `gpu_backend`.
    """
    net = Net.parse(net) if isinstance(net, str) else net
    batches = [check_integer("crossover(batches)", b, low=1) for b in (BATCHES if batches is None else batches)]
    widths = [check_integer("crossover(widths)", w, low=1) for w in (WIDTHS if widths is None else widths)]
    if widths and len(net.widths) < 3:
        raise ValueError(f"The crossover over the width expects a net with a hidden layer, got {net}.")
    if gpu is None:
        try:
            resolve_backend(gpu_backend)
        except BackendError as fault:
            yield f"CPU against GPU was not measured: {fault}"
            return
        gpu = StepTimer(gpu_backend, rounds=rounds, seed=seed)
    if cpu is None:
        cpu = StepTimer("cpu", rounds=rounds, seed=seed)
    if batches:
        if net.batch_norm:
            batches = [b for b in batches if b > 1]  # its variance over one sample is 0
        yield _crossover("batch", f"net {net}", [(net, b) for b in batches], cpu, gpu)
    if widths:
        yield _crossover(
            "width", f"net {_pattern(net)}, batch {batch}", [(_widened(net, w), batch) for w in widths], cpu, gpu
        )


def _crossover(
    axis: Literal["batch", "width"], fixed: str, places: Sequence[tuple[Net, int]], cpu: Timer, gpu: Timer
) -> Crossover:
    points = [
        CrossoverPoint(net.name, batch, max(net.widths[1:-1], default=0), cpu(net, batch), gpu(net, batch))
        for net, batch in places
    ]
    return Crossover(axis, fixed, points)


def _widened(net: Net, width: int) -> Net:
    return dataclasses.replace(net, widths=(net.widths[0], *[width] * (len(net.widths) - 2), net.widths[-1]))


def _pattern(net: Net) -> str:
    """The net's name with n for the widths that vary: "784-n-n-10"."""
    widths = "-".join(map(str, net.widths))
    varied = "-".join([str(net.widths[0]), *["n"] * (len(net.widths) - 2), str(net.widths[-1])])
    return net.name.replace(widths, varied, 1)


class StepTimer:
    """Seconds per training step on one backend, data in its memory: the median of several stretches."""

    def __init__(self, backend: str, *, rounds: int = 5, round_seconds: float = 0.1, seed: int = 0) -> None:
        self._backend, self._rounds, self._round_seconds, self._seed = backend, rounds, round_seconds, seed

    def __call__(self, net: Net, batch: int) -> float:
        ours = OurNet(Problem(net, batch, self._backend, seed=self._seed))

        def steps(n: int) -> float:
            """Seconds of one of n steps."""
            ours.wait()
            start = time.perf_counter()
            ours.train(n)
            ours.wait()
            return (time.perf_counter() - start) / n

        wait_until_idle()  # the CPU's threads must not spin beside the host of the GPU
        steps(_SETTLE_STEPS)
        n_steps = max(1, round(self._round_seconds / steps(_SETTLE_STEPS)))
        seconds = statistics.median(steps(n_steps) for _ in range(self._rounds))
        ours.check()
        return seconds
