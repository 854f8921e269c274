"""What a worker does in a contest: build its net, show what it computes, and run stretches against the clock.

These functions are called in a worker's process, which holds one contestant.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass

from .._types import HostArray
from ._quiet import wait_until_idle
from .libraries import LIBRARIES, Contestant, Entrant, Problem, Unavailable

_SETTLE_SECONDS = 5.0

_contestant: Contestant | None = None


@dataclass(frozen=True)
class Stretch:
    """Seconds per repetition of a job: all of them, what the host needed to queue it, and between device events."""

    seconds: float
    host_seconds: float
    device_seconds: float | None


def build(entrant: Entrant, problem: Problem) -> str | None:
    """Make this process's contestant; the reason if it cannot be had."""
    global _contestant
    try:
        _contestant = LIBRARIES[entrant.key].build(problem, entrant.variant)
    except Unavailable as reason:
        return str(reason)
    _contestant.wait()
    return None


def jobs() -> list[str]:
    """What the contestant can be timed at."""
    return list(_present().jobs())


def prepare() -> None:
    """Have the contestant compile what longer stretches need, once its first step has been timed."""
    contestant = _present()
    contestant.prepare()
    contestant.wait()
    _settle()


def computed(entrant: Entrant, problem: Problem, n_steps: int) -> dict[str, HostArray]:
    """Weights after so many training steps without dropout, and the first batch's "outputs", of mean 0 per sample."""
    contestant = _present()
    if problem.net.dropout:
        contestant = LIBRARIES[entrant.key].build(problem.without_dropout(), entrant.variant)
    contestant.reset()
    contestant.train(n_steps)
    contestant.wait()
    contestant.check()
    outputs = contestant.outputs()
    centred = outputs - outputs.mean(axis=1, keepdims=True)  # what a softmax behind them sees
    arrays = contestant.weights() | {"outputs": centred}
    contestant.reset()
    _settle()
    return arrays


def device() -> str:
    """Our contestant's device in one phrase."""
    from .libraries.ours import OurNet

    contestant = _present()
    assert isinstance(contestant, OurNet)
    return contestant.ops.describe()


def repetitions(job: str, seconds: float) -> int:
    """How often to repeat a job for about so many seconds, from trials that grow until one takes a quarter of them."""
    contestant = _present()
    run = contestant.jobs()[job]
    run(1)
    contestant.wait()
    n = 1
    while True:
        start = time.perf_counter()
        run(n)
        contestant.wait()
        elapsed = time.perf_counter() - start
        if elapsed >= seconds / 4:
            _settle()
            return max(1, round(n * seconds / elapsed))
        n *= 2


def stretch(job: str, untimed: int, n: int) -> Stretch:
    """Time `n` repetitions from the initial weights, after `untimed` ones. No garbage collection comes in between.

    Each stretch starts from the same weights: a faster library does not get further, to where gradients vanish. It ends
    when this process's threads sleep: one that still spins would slow the next library's.
    """
    contestant = _present()
    run = contestant.jobs()[job]
    contestant.reset()
    gc.collect()
    gc.disable()
    try:
        if untimed:
            run(untimed)
        contestant.wait()
        read = contestant.stopwatch()
        start = time.perf_counter()
        run(n)
        queued = time.perf_counter()
        device = None if read is None else read()
        contestant.wait()
        end = time.perf_counter()
    finally:
        gc.enable()
    contestant.check()
    _settle()
    return Stretch((end - start) / n, (queued - start) / n, None if device is None else device / n)


def _settle() -> None:
    """Give the cores up before answering: threads that still spin would slow whoever is timed next."""
    if not wait_until_idle(_SETTLE_SECONDS):
        raise RuntimeError(f"its threads still keep the CPU busy {_SETTLE_SECONDS:g} s after its work is done")


def _present() -> Contestant:
    assert _contestant is not None, "build comes first"
    return _contestant
