"""A thread that reads what will be needed next while the caller computes on what it has."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

J = TypeVar("J")
R = TypeVar("R")


class ReadAhead(Generic[J, R]):
    """`for result in ReadAhead(jobs, load)`, inside a `with`: load(job, slot) for each job in order, in a thread.

    Args:
        jobs: what to load, in order; looked at in the thread.
        load: fills buffer number `slot` (0 ... n_slots − 1, in turn) and returns what the caller iterates over.
        n_slots: buffers. A result may be used until the next one is asked for: then its slot may be filled again.

    An error in `load` is raised from the iteration, in the job's place. When the `with` is left, however that comes
    about, the thread has ended. One pass.

    >>> with ReadAhead(range(4), lambda job, slot: (job, slot)) as results:
    ...     print(list(results))
    [(0, 0), (1, 1), (2, 0), (3, 1)]
    """

    def __init__(
        self, jobs: Iterable[J], load: Callable[[J, int], R], n_slots: int = 2, name: str = "fcnn_gpu prefetch"
    ) -> None:
        self._jobs, self._load, self._n_slots = jobs, load, n_slots
        self._stopped = False
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()
        """One item for each slot that the thread may fill."""
        self._loaded: queue.SimpleQueue[_Loaded[R]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Iterator[R]:
        for _ in range(self._n_slots):
            self._free.put(None)
        try:
            self._thread.start()
        except BaseException:  # Ctrl-C while it begins: nobody else would end it
            with contextlib.suppress(RuntimeError):  # not begun yet: it ends as soon as it has
                self.__exit__()
            raise
        return self._results()

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._free.put(None)
        self._thread.join()

    def _results(self) -> Iterator[R]:
        while True:
            loaded = self._loaded.get()
            if loaded.error is not None:
                raise loaded.error
            if not loaded.values:
                return
            yield loaded.values[0]
            self._free.put(None)

    def _run(self) -> None:
        try:
            for k, job in enumerate(self._jobs):
                self._free.get()
                if self._stopped:
                    return
                self._loaded.put(_Loaded([self._load(job, k % self._n_slots)]))
        except BaseException as error:
            self._loaded.put(_Loaded([], error))
        else:
            self._loaded.put(_Loaded([]))


class _Loaded(Generic[R]):
    """One result in `values`, or none at the end, or the error that ended the reading."""

    def __init__(self, values: list[R], error: BaseException | None = None) -> None:
        self.values, self.error = values, error
