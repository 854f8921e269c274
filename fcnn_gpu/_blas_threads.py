"""NumPy's BLAS on one thread while this package computes, and on as many as it had before and after that.

The threads of OpenBLAS wait for each other by spinning. Where something else computes on the machine, one of them has
no core, and every product waits until the system gives it one: a step of one millisecond then takes sixty. So none of
our products has several BLAS threads. What is worth several threads is cut into parts that each have one
(`backend/_ops/_products.py`).

threadpoolctl finds the library. Its number of threads is read and set by the library's own functions: threadpoolctl's
take effect in one thread of the process alone, and we are called from any.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_FUNCTIONS = {
    "openblas": ("openblas_get_num_threads", "openblas_set_num_threads"),
    "mkl": ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads_Local"),
    "blis": ("bli_thread_get_num_threads", "bli_thread_set_num_threads"),
    "flexiblas": ("flexiblas_get_num_threads", "flexiblas_set_num_threads"),
}
"""By library, what reads and what sets its number of threads."""
_OPENMP = ("omp_get_max_threads", "omp_set_num_threads")
"""The same for an OpenBLAS whose threads are OpenMP's: it goes by them."""
_AFFIXES = tuple(itertools.product(("", "scipy_"), ("", "64_", "_64")))
"""What stands before and behind the names in builds of OpenBLAS: "scipy_openblas_set_num_threads64_"."""


@dataclass(frozen=True, eq=False)
class _Library:
    """A loaded BLAS.

    Attributes:
        path: its file.
        get: its number of threads.
        set: sets that, and may return what setting it again takes (MKL's does).
        of_process: whether that number is the process's; otherwise it is the calling thread's.
    """

    path: str
    get: Callable[[], int]
    set: Callable[[int], int | None]
    of_process: bool


_Found = dict[_Library, tuple[int, int]]
"""By library, how many threads it had, and what `set` takes to give it them back."""

_lock = threading.RLock()
"""Of all that follows."""
_libraries: list[_Library] | None = None
_numbers = itertools.count()
_calls: dict[int, _Call] = {}
"""By number, the calls that have begun and not ended, in the order in which they began."""


class _Call(NamedTuple):
    """What is remembered of a `OneBlasThread`, in which thread it began, and what it found."""

    itself: weakref.ref[OneBlasThread]
    thread: int
    found: _Found


class OneBlasThread:
    """A context in which BLAS computes on one thread, whichever thread of the process calls it.

    Any number may be under way, nested or side by side in several threads. After the last of them the library has as
    many threads as before the first. Who sets another number within keeps it.
    """

    __slots__ = ("__weakref__", "_number")

    def __init__(self) -> None:
        self._number = next(_numbers)

    def __enter__(self) -> None:
        call = _Call(weakref.ref(self), threading.get_ident(), {})
        try:
            with _lock:
                _end_of_the_dead()
                _calls[self._number] = call
                for library in _known():
                    n = library.get()
                    if n != 1:
                        call.found[library] = n, n
                        back = library.set(1)
                        if back is not None:
                            call.found[library] = n, back
        except BaseException:  # Ctrl-C: nobody will call __exit__
            _end(self._number)
            raise

    def __exit__(self, *_: object) -> None:
        try:
            _end(self._number)
        except BaseException:  # Ctrl-C: what is done is not done twice
            _end(self._number)
            raise
        if _calls:
            _end_of_the_dead()


def _end(number: int) -> None:
    """Give back what a call found; the process's number is left to a call that began later and has not ended."""
    with _lock:
        call = _calls.get(number)
        if call is None:
            return
        for library, (n, back) in list(call.found.items()):
            others = [other.found for later, other in _calls.items() if later > number and library not in other.found]
            if others and library.of_process:
                others[0][library] = n, back
            elif (library.of_process or call.thread == threading.get_ident()) and library.get() == 1:
                library.set(back)
            call.found.pop(library, None)
        _calls.pop(number, None)


def _end_of_the_dead() -> None:
    """End the calls that Ctrl-C has kept from ending, where it came as `__exit__` began."""
    with _lock:
        for number in [number for number, call in _calls.items() if call.itself() is None]:
            _end(number)


def blas_threads() -> int | None:
    """How many threads NumPy's BLAS has outside of our calls; None where threadpoolctl does not know it."""
    with _lock:
        libraries = _known()
        return min(map(_own_threads, libraries)) if libraries else None


def _own_threads(library: _Library) -> int:
    """What the last call has found; what there is, where none has found more than one thread."""
    for call in reversed(_calls.values()):
        if library in call.found and (library.of_process or call.thread == threading.get_ident()):
            return call.found[library][0]
    return library.get()


def one_blas_thread_from_here() -> None:
    """In a thread of ours, for as long as it lives: where each thread has its own number of BLAS threads, it is one."""
    with _lock:
        for library in _known():
            if not library.of_process:
                library.set(1)


def include_blas_of(init: str) -> None:
    """Hold the BLAS of another package, too, from now on. `init`: the package's `__file__`."""
    global _libraries
    with _lock:
        known = _known()
        paths = {library.path for library in known}
        pools = [pool for pool in _of_package(_pools(), init) if pool["filepath"] not in paths]
        _libraries = known + [library for pool in pools if (library := _opened(pool)) is not None]


def blas_pools() -> list[dict[str, Any]]:
    """What threadpoolctl says of the library behind NumPy's products; empty where it does not know that.

    It is one, unless several are loaded and none of them lies in NumPy's own folders: then any may be the one.
    """
    pools = _pools()
    return _of_package(pools, np.__file__) or pools


def _pools() -> list[dict[str, Any]]:
    from threadpoolctl import threadpool_info

    return [pool for pool in threadpool_info() if pool["user_api"] == "blas"]


def _of_package(pools: list[dict[str, Any]], init: str) -> list[dict[str, Any]]:
    """Those that lie in a package's folder, or in that of its wheel's libraries."""
    folder = Path(init).resolve().parent
    folders = {folder, folder.with_name(f"{folder.name}.libs")}
    return [pool for pool in pools if folders & set(Path(pool["filepath"]).parents)]


def _known() -> list[_Library]:
    """Found at the first use: that takes some milliseconds, and importing this package does not wait for it."""
    global _libraries
    if _libraries is None:
        _libraries = [library for pool in blas_pools() if (library := _opened(pool)) is not None]
    return _libraries


def _opened(pool: dict[str, Any]) -> _Library | None:
    """The library of a pool; None for one whose threads cannot be set."""
    kind, path = pool["internal_api"], pool["filepath"]
    by_openmp = kind == "openblas" and pool.get("threading_layer") == "openmp"
    names = _OPENMP if by_openmp else _FUNCTIONS.get(kind)
    if names is None:
        return None
    handle = ctypes.PyDLL(path)  # it keeps the interpreter lock, which busy threads give back after milliseconds
    for before, behind in _AFFIXES:
        get, set_ = (getattr(handle, f"{before}{name}{behind}", None) for name in names)
        if get is not None and set_ is not None:
            set_.restype = ctypes.c_int if kind == "mkl" else None
            return _Library(path, get, set_, of_process=kind == "openblas" and not by_openmp)
    return None


def _after_fork() -> None:
    """The other threads are not in the child, and their calls do not end there."""
    global _lock
    _lock = threading.RLock()
    for number in [number for number, call in _calls.items() if call.thread != threading.get_ident()]:
        _end(number)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
