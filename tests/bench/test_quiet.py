"""Waiting for threads that spin."""

from __future__ import annotations

import pytest

from fcnn_gpu.bench import _quiet
from fcnn_gpu.bench._quiet import wait_until_idle


class Clock:
    """Time that passes only in `sleep`, while so many cores are busy until a moment."""

    def __init__(self, busy_until: float, share: float = 1.0) -> None:
        self.now, self.used, self.busy_until, self.share = 0.0, 0.0, busy_until, share

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.used

    def sleep(self, seconds: float) -> None:
        self.used += self.share * max(0.0, min(seconds, self.busy_until - self.now))
        self.now += seconds


@pytest.mark.parametrize("busy", [0.0, 0.1, 0.4])
def test_waits_as_long_as_a_thread_spins_and_no_longer(monkeypatch: pytest.MonkeyPatch, busy: float) -> None:
    clock = Clock(busy)
    monkeypatch.setattr(_quiet, "time", clock)
    assert wait_until_idle()
    assert busy < clock.now <= busy + 5 * 0.005


def test_gives_up_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(1e9)
    monkeypatch.setattr(_quiet, "time", clock)
    assert not wait_until_idle(0.25)
    assert clock.now == pytest.approx(0.25, abs=0.006)


def test_a_thread_that_blinks_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(1e9, share=0.05)
    monkeypatch.setattr(_quiet, "time", clock)
    assert wait_until_idle()


def test_a_thread_that_is_held_up_for_a_moment_is_not_taken_for_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(0.1)
    used = clock.process_time
    monkeypatch.setattr(clock, "process_time", lambda: used() if not 0.012 < clock.now < 0.021 else 0.01)
    monkeypatch.setattr(_quiet, "time", clock)
    assert wait_until_idle()
    assert clock.now > 0.1


def test_this_process_becomes_idle() -> None:
    assert wait_until_idle(60.0)
