"""Which backend a model gets, and why.

`backend="auto"` takes the GPU when a real probe on it succeeds and otherwise the CPU, saying once, in one line, why:
the compiled kernels there, as "cpu" does, and without them NumPy, saying so and what brings them. An explicit "cupy"
never falls back: it raises `BackendError`, which names the failing link and what mends it.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from typing import TYPE_CHECKING

import numpy as np

from .._arrays import refuse_masked
from .._checks import suggest
from .._types import Array, HostArray
from ._cores import is_worker, named_threads
from ._errors import BackendError
from ._ops import Ops

if TYPE_CHECKING:
    from ._compiled import NotCompiledError

logger = logging.getLogger("fcnn_gpu")

_OTHER_NAMES = {"host": "cpu", "compiled": "cpu", "gpu": "cupy", "cuda": "cupy", "nvidia": "cupy"}
"""What people write for a backend elsewhere; not all are near it by their letters."""
_CUPY = re.compile(r"cupy(?::(\d+))?")
_lock = threading.Lock()
_default: str | None = None
_inherited: str | None = None
"""In a worker process: the default of the process that it works for."""
_numpy: Ops | None = None
_compiled: Ops | None = None
_cupy: dict[int, Ops] = {}
_announced: set[str] = set()


def set_backend(backend: str) -> None:
    """Make `backend` ("auto", "cpu", "numpy", "cupy" or "cupy:<device>") the default of models built from now on.

    It goes before the environment variable FCNN_BACKEND, which it sets as well: processes that are started from now on
    (by joblib, multiprocessing, subprocess) take the same. Models that exist keep theirs.
    """
    global _default
    _check_name(backend, "set_backend")
    _default = backend
    os.environ["FCNN_BACKEND"] = backend


def default_backend() -> str | None:
    """The name that `backend=None` stands for in this process; None where nobody has said anything."""
    return _default_and_source()[0]


def check_default_backend() -> str:
    """The default's name. ValueError where FCNN_BACKEND, which has it, names no backend."""
    return _check_name(default_backend() or "auto", "The environment variable FCNN_BACKEND")[0]


def _default_and_source() -> tuple[str | None, str]:
    """That name, and who said so."""
    if _default is not None:
        return _default, "set_backend"
    if _inherited is not None:
        return _inherited, "the process that this one works for"
    named = os.environ.get("FCNN_BACKEND") or None
    return named, f"FCNN_BACKEND={named}"


def inherit_backend(backend: str | None) -> None:
    """In a worker process, take over the default of the process that gave the work; elsewhere nothing.

    A worker that was started before `set_backend` was called does not see what that sets.
    """
    global _inherited
    if backend is not None and is_worker():
        _check_name(backend, "inherit_backend")
        _inherited = backend


def _inherit_by_fork() -> None:
    """What the parent has set is inherited, and is no setting of the child's own: the parent may set another."""
    global _default, _inherited
    _default, _inherited = None, _default or _inherited


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_inherit_by_fork)


def resolve_backend(backend: str | Ops | None = None) -> Ops:
    """The primitives of a backend, one shared instance per device.

    `backend` None means the default: `set_backend`'s, else in a worker process that of the process that it works for,
    else FCNN_BACKEND's, else "auto". Raises ValueError for an unknown name and `BackendError` where an explicit "cupy"
    cannot be had.
    """
    if isinstance(backend, Ops):
        return backend
    ops, _, faults = _choose(backend, "backend")
    for fault in faults:
        _say_once(fault)
    return ops


def choose_backend(backend: str | None, who: str) -> tuple[Ops, str]:
    """What `resolve_backend` gives and why, in one clause, for a program that says so; `who` names its option."""
    ops, reason, _ = _choose(backend, who)
    return ops, reason


def _choose(backend: str | None, who: str) -> tuple[Ops, str, list[str]]:
    """(primitives, why these, what is to be said of what they are not)"""
    named_threads()  # a mistake in its variable shows now, and not in the first step that is worth several
    source = f"{who} {backend}"
    if backend is None:
        backend, source = _default_and_source()
        backend, who = backend or "auto", "The environment variable FCNN_BACKEND"  # the others have been checked
    name, device = _check_name(backend, who)
    with _lock:
        if name == "numpy":
            return _numpy_ops(), f"as {source} says", []
        if name == "cupy":
            return _cupy_ops(device), f"as {source} says", []
        reason, said = f"as {source} says", []
        if name == "auto":
            try:
                return _cupy_ops(device), "a CUDA device answers", []
            except BackendError as fault:
                reason, said = f"no CUDA device can be used: {fault}", [str(fault)]
        ops, missing = _cpu_ops()
        said = [f"fcnn_gpu computes on the {ops.describe()}: {text}" for text in said]
        if missing is not None:
            reason = f"{reason.rstrip('.')}; without compiled kernels: {missing}"
            said.append(f"fcnn_gpu computes on NumPy, without its compiled kernels: {missing}")
        return ops, reason, said


def ops_for(array: Array) -> Ops:
    """The primitives of the device that an array is on; TypeError for what is no array of a backend."""
    if isinstance(array, np.ndarray):
        refuse_masked(array, "The array")
        return resolve_backend("numpy")
    if not hasattr(getattr(array, "device", None), "id"):
        raise TypeError(f"Expected a NumPy or a CuPy array, got {type(array).__name__}.")
    return resolve_backend(f"cupy:{array.device.id}")


def to_numpy(array: Array) -> HostArray:
    """An array of any backend on the host."""
    return ops_for(array).to_numpy(array)


def _check_name(backend: object, who: str) -> tuple[str, int]:
    if isinstance(backend, str):
        if backend in ("auto", "cpu", "numpy"):
            return backend, 0
        match = _CUPY.fullmatch(backend)
        if match:
            return "cupy", int(match.group(1) or 0)
    meant = _OTHER_NAMES.get(str(backend).lower(), backend)
    hint = suggest(meant, ["auto", "cpu", "numpy", "cupy", "cupy:1"])
    raise ValueError(f"{who} does not know {backend!r}. {hint}")


def _numpy_ops() -> Ops:
    global _numpy
    if _numpy is None:
        _numpy = Ops()
    return _numpy


def _cpu_ops() -> tuple[Ops, NotCompiledError | None]:
    """The compiled primitives; where there are none, NumPy's, and why."""
    global _compiled
    if _compiled is None:
        from ._compiled import NotCompiledError, load_library
        from ._compiled_ops import CompiledOps

        try:
            _compiled = CompiledOps(load_library())
        except NotCompiledError as fault:
            return _numpy_ops(), fault
    return _compiled, None


def _cupy_ops(device: int) -> Ops:
    if device not in _cupy:
        from ._cupy import make_cupy_ops

        _cupy[device] = make_cupy_ops(device)
    return _cupy[device]


def _say_once(message: str) -> None:
    if message not in _announced:
        _announced.add(message)
        logger.warning(message)
