"""Threads that help with work which is cut into parts, and sleep in between.

A part is taken by whoever is free. A helper that gets no core from a busy machine takes fewer of them, or none, and the
calling thread does the rest: nobody spins, and nobody waits for more than the part that another has begun.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue

import numpy as np

from .._blas_threads import OneBlasThread, one_blas_thread_from_here
from ._cores import threads

Call = Callable[[], object]


class _Job:
    """Calls, each made once, by the thread that needs them and by helpers; in it until it is closed."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self._left = list(reversed(calls))
        self._lock = threading.Lock()
        self._n_helping = 0
        self._closed = False
        self._alone = threading.Lock()
        self._alone.acquire()  # until the last helper has left
        self.error: BaseException | None = None

    def work(self) -> None:
        """Make calls until none is left to begin."""
        while self._left:
            try:
                call = self._left.pop()
            except IndexError:  # another thread has taken the last one
                return
            call()

    def help(self) -> None:
        """The same in a helper."""
        with self._lock:
            if self._closed:
                return
            self._n_helping += 1
        try:
            self.work()
        except BaseException as error:
            self.error = error
            self._left.clear()
        with self._lock:
            self._n_helping -= 1
            if self._closed and not self._n_helping:
                self._alone.release()

    def close(self) -> None:
        """No call begins any more, and those that have begun are waited for: they write into arrays of the caller's.

        Ctrl-C is raised after that. A part takes some milliseconds.
        """
        self._left.clear()
        with self._lock:
            self._closed = True
            waiting = self._n_helping > 0
        interrupt: KeyboardInterrupt | None = None
        while waiting:
            try:
                self._alone.acquire()
                waiting = False
            except KeyboardInterrupt as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt


_jobs: SimpleQueue[_Job] = SimpleQueue()
_starting = threading.Lock()
_n_helpers = 0


def share(calls: Sequence[Call]) -> None:
    """Make the calls, in as many threads as `threads()` says; each may run beside the others, on one BLAS thread.

    An error in one of them is raised here when none is running any more; the others may not have been made then.
    """
    n_helpers = _helpers(min(threads(), len(calls)) - 1)
    with OneBlasThread():
        job = _Job(calls)
        for _ in range(n_helpers):
            _jobs.put(job)
        try:
            job.work()
        finally:
            job.close()
    if job.error is not None:
        raise job.error


def _helpers(n: int) -> int:
    """Have `n` helpers; returns how many there are, at most `n`."""
    global _n_helpers
    while _n_helpers < n:
        with _starting:
            if _n_helpers >= n:
                break
            try:
                threading.Thread(target=_help, name="fcnn_gpu helper", daemon=True).start()
            except RuntimeError:  # the system gives no more threads, or Python is ending: the work is done without
                return _n_helpers
            _n_helpers += 1
    return n


def _help() -> None:
    one_blas_thread_from_here()
    with np.errstate(all="ignore"):
        while True:
            job = _jobs.get()
            job.help()
            del job  # its arrays, while there is nothing to do


def _after_fork() -> None:
    """A child has none of its parent's threads."""
    global _jobs, _starting, _n_helpers
    _jobs, _starting, _n_helpers = SimpleQueue(), threading.Lock(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
