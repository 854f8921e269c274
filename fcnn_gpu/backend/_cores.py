"""How many threads a process computes with on the CPU, and who has said so."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from .._blas_threads import blas_threads
from .._checks import check_integer
from ._cpu import usable_cores

VARIABLE = "FCNN_THREADS"

_within = threading.local()
"""`n` is what `computing_with` says in this thread."""
_chosen: int | None = None
_inherited: int | None = None
"""In a worker process: what the process that it works for has chosen."""


def set_threads(n: int | None) -> None:
    """Compute on the CPU with `n` threads from now on, exactly; None: with one for each core of this process.

    They share what is large enough to be worth several threads; small steps have one (docs/internals/threads.md).
    Results are the same bits with any number. On a GPU it changes nothing.

    It goes before the environment variable FCNN_THREADS, which it sets as well: processes that are started from now on
    (by joblib, multiprocessing, subprocess) take the same, or fewer where they are allowed fewer.

    Raises TypeError for what is no integer, and ValueError for one below 1.
    """
    global _chosen
    if n is not None:
        n = check_integer("set_threads", n, low=1)
    _chosen = n
    if n is None:
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = str(n)


def threads() -> int:
    """How many threads compute on the CPU.

    It is what `set_threads` or else FCNN_THREADS says. Without either it is one for each core that this process may
    use (by its affinity, without hyper-threads, and as far as the time reaches that a control group grants it), but no
    more than NumPy's BLAS has, which OPENBLAS_NUM_THREADS, OMP_NUM_THREADS and threadpoolctl limit. In a worker process
    that limit holds for what it has inherited, too: joblib sets it so that its workers share the cores.

    Raises ValueError where FCNN_THREADS is no number of threads.
    """
    return _decide()[0]


def threads_and_reason() -> tuple[int, str]:
    """That number, and why it is this, in one clause."""
    n, reason = _decide()
    return n, reason.format(VARIABLE, os.environ.get(VARIABLE))


def _decide() -> tuple[int, str]:
    """The number, and the reason with places for the variable and its value: this is called for each large product."""
    within: int | None = getattr(_within, "n", None)
    if within is not None:
        return within, "as threads= says"
    if _chosen is not None:
        return _chosen, "as set_threads says"
    wanted, reason = _inherited, "as the process that this one works for says"
    if wanted is None:
        wanted, reason = named_threads(), "as {}={} says"
    if wanted is not None and not is_worker():
        return wanted, reason
    if wanted is None:
        wanted, reason = _cores(), "one for each core of this process"
    limit = blas_threads()
    if limit is not None and limit < wanted:
        return limit, "as many as NumPy's BLAS has"
    return wanted, reason


@contextmanager
def computing_with(n: int | None) -> Iterator[None]:
    """Within, what this thread calls computes with exactly n threads; None: with as many as without."""
    before = getattr(_within, "n", None)
    _within.n = before if n is None else n
    try:
        yield
    finally:
        _within.n = before


def chosen_threads() -> int | None:
    """What `threads` is because somebody has said so, and not for this machine's cores; None where nobody has."""
    return _chosen or _inherited or named_threads()


def named_threads(variables: Mapping[str, str] | None = None) -> int | None:
    """The number in FCNN_THREADS, of this process or of `variables`; None without one, ValueError where it is none."""
    return _number((os.environ if variables is None else variables).get(VARIABLE, ""))


def inherit_threads(n: int | None) -> None:
    """In a worker process, take over what the process that gave the work has chosen; elsewhere nothing."""
    global _inherited
    if is_worker():
        _inherited = None if n is None else check_integer("inherit_threads", n, low=1)


@functools.lru_cache(maxsize=8)
def _number(text: str) -> int | None:
    text = text.strip()
    if not text:
        return None
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise ValueError(
        f"The environment variable {VARIABLE} expects a number of threads, at least 1, got {text!r}. Leave it out for "
        "one thread per core."
    )


@functools.cache
def _cores() -> int:
    """Read once per process."""
    return usable_cores()


def is_worker() -> bool:
    """Whether this process works for another one, which started it by multiprocessing or joblib."""
    if "multiprocessing" not in sys.modules:  # as it is where it has started the process
        return False
    import multiprocessing

    return multiprocessing.parent_process() is not None


def _inherit_by_fork() -> None:
    """What the parent has set is inherited, and is no setting of the child's own."""
    global _chosen, _inherited
    _chosen, _inherited = None, _chosen or _inherited
    _cores.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_inherit_by_fork)
