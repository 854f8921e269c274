"""What a thread reads ahead: everything once, in order, never into a buffer that is still in use."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcnn_gpu.files._read_ahead import ReadAhead
from fcnn_gpu.large_matrix._write_behind import WriteBehind


@given(st.integers(0, 30), st.integers(1, 5))
def test_everything_once_and_in_order(n: int, n_slots: int) -> None:
    buffers: list[int | None] = [None] * n_slots

    def load(job: int, slot: int) -> int:
        buffers[slot] = job
        return slot

    with ReadAhead(range(n), load, n_slots) as slots:
        found = [buffers[slot] for slot in slots]  # a slot filled too early would hold a later job
    assert found == list(range(n))


def test_it_reads_while_the_caller_computes() -> None:
    second = threading.Event()

    def load(job: int, slot: int) -> int:
        if job == 1:
            second.set()
        return job

    with ReadAhead(range(2), load) as results:
        assert next(results) == 0
        assert second.wait(10)
        assert list(results) == [1]


def test_an_error_comes_in_its_place() -> None:
    def load(job: int, slot: int) -> int:
        if job == 2:
            raise ValueError("the third")
        return job

    found: list[int] = []
    with pytest.raises(ValueError, match="the third"), ReadAhead(range(5), load) as results:
        found.extend(results)
    assert found in ([0, 1], [])
    with ReadAhead(range(5), load) as results:
        assert [next(results), next(results)] == [0, 1]


def test_leaving_early_ends_the_thread() -> None:
    before = threading.active_count()
    loaded = []
    with ReadAhead(range(100), lambda job, slot: loaded.append(job), 3) as results:
        next(results)
    assert threading.active_count() == before
    assert len(loaded) <= 4


def test_leaving_before_the_first_result() -> None:
    with ReadAhead(range(100), lambda job, slot: job):
        pass


@pytest.mark.parametrize("make", [lambda: ReadAhead(range(9), lambda job, slot: job), lambda: WriteBehind(print, 2)])
def test_an_interrupt_while_the_thread_begins_ends_it(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before, start = threading.active_count(), threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), make():
        pass
    assert threading.active_count() == before
