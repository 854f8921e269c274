"""The training step call by call and as CUDA graphs of one step and of several."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from fcnn_gpu.backend import quiet_arithmetic
from fcnn_gpu.bench.libraries import Problem
from fcnn_gpu.bench.libraries.ours import OurNet
from fcnn_gpu.bench.nets import Net

from .plan import Plan
from .results import StepTiming
from .timing import warm_up

CASES = (
    (Net((64, 64, 64, 10)), 256),
    (Net((784, 128, 10)), 128),
    (Net((784, 512, 512, 10)), 1024),
)
SMALL_CASES = ((Net((20, 16, 5)), 32),)
STEPS = (0, 1, 2, 4, 8, 16)
"""Of one graph; 0 is eager."""
_ROUND_SECONDS = 0.05
_TRIAL_CALLS = 20


def measure(plan: Plan, cases: Sequence[tuple[Net, int]] = CASES, steps: Sequence[int] = STEPS) -> Iterator[StepTiming]:
    """For each case, all of them in turn, round by round, from the same weights."""
    if plan.small:
        cases, steps = SMALL_CASES, (0, 1, 4)
    warm_up(plan.ops(), plan, 0.5)
    rounds, seconds = (3, 0.01) if plan.quick else (7, _ROUND_SECONDS)
    for net, batch in cases:
        n_batches = Problem(net, batch).n_batches
        entrants = [_Entrant(plan, net, batch, n) for n in steps if n <= n_batches]
        for entrant in entrants:
            entrant.settle(seconds)
        for r in range(rounds):
            first = r % len(entrants)
            for entrant in entrants[first:] + entrants[:first]:
                entrant.take()
        for entrant in entrants:
            yield entrant.result()


class _Entrant:
    """One way to queue the step."""

    def __init__(self, plan: Plan, net: Net, batch: int, n_steps: int) -> None:
        self._name, self._batch, self._at_once = net.name, batch, n_steps
        self._net = OurNet(Problem(net, batch, plan.backend, seed=plan.seed))
        self._program: Callable[[], None] = self._net.program(max(1, n_steps), capture=n_steps > 0)
        self._n_calls = 1
        self._per_epoch = max(1, self._net.n_batches // max(1, n_steps))
        self.seconds: list[float] = []
        self.host: list[float] = []
        self.device: list[float] = []

    def settle(self, seconds: float) -> None:
        """Record the graph, and find how many calls take about so many seconds."""
        self._run(3)
        self._net.wait()
        start = time.perf_counter()
        self._run(_TRIAL_CALLS)
        self._net.wait()
        self._n_calls = max(1, round(_TRIAL_CALLS * seconds / (time.perf_counter() - start)))

    def take(self) -> None:
        net, n = self._net, self._n_calls
        net.reset()
        self._run(min(2, n))
        net.wait()
        read = net.stopwatch()
        start = time.perf_counter()
        self._run(n)
        queued = time.perf_counter()
        device = read() if read is not None else float("nan")
        net.wait()
        end = time.perf_counter()
        net.check()
        n_steps = n * max(1, self._at_once)
        self.seconds.append((end - start) / n_steps)
        self.host.append((queued - start) / n_steps)
        self.device.append(device / n_steps)

    def _run(self, n_calls: int) -> None:
        """Calls of the program, beginning the data anew before its end."""
        with quiet_arithmetic():
            for i in range(n_calls):
                if i % self._per_epoch == 0:
                    self._net.restart_data()
                self._program()

    def result(self) -> StepTiming:
        return StepTiming(self._name, self._batch, "float32", self._at_once, self.seconds, self.host, self.device)
