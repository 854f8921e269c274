"""Every kernel compiled into CuPy's cache on the disk, by several processes at once, before anything waits for it."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from fcnn_gpu.backend._kernel_source import all_instances, kernels
from fcnn_gpu.backend._kernels import ArchitectureError, CudaDevice, Device, KernelCompileError

from .plan import Plan
from .results import Compilation

_MOST_PROCESSES = 16
"""Each has a context on the device, some hundred MB."""
_AT_ONCE = 8
"""Instances that a process takes at a time: of one file take longer than of another."""


def n_cpus() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure(plan: Plan) -> Iterator[Compilation]:
    """One line: how many, how long, what failed."""
    yield compile_all(plan.device)


def compile_all(device: int = 0, n_processes: int | None = None) -> Compilation:
    """Every instance that this device may have through `CudaDevice.prepare`, as its first launch would."""
    instances = [(stem, instance.kernel, instance.arguments) for stem, instance in all_instances()]
    n = n_processes or max(1, min(_MOST_PROCESSES, n_cpus()))
    parts = [instances[i : i + _AT_ONCE] for i in range(0, len(instances), _AT_ONCE)]
    start = time.perf_counter()
    # Spawned: a process that has touched CUDA must not be forked.
    with ProcessPoolExecutor(n, mp_context=get_context("spawn")) as pool:
        found = [done.result() for done in as_completed(pool.submit(compile_some, device, part) for part in parts)]
    failures = sorted(failure for _, some in found for failure in some)
    folder = os.environ.get("CUPY_CACHE_DIR") or "~/.cupy/kernel_cache"
    if os.environ.get("CUPY_CACHE_IN_MEMORY") == "1":
        folder = "nowhere (CUPY_CACHE_IN_MEMORY=1)"
    elif Path(folder).is_absolute():
        folder = "the folder that CUPY_CACHE_DIR names"  # this machine's alone
    return Compilation(sum(count for count, _ in found), n, time.perf_counter() - start, failures, folder)


def compile_some(number: int, instances: Sequence[tuple[str, str, tuple[str, ...]]]) -> tuple[int, list[str]]:
    """How many of them are for CUDA device `number`, and the first lines of the errors."""
    cupy: Any = importlib.import_module("cupy")
    with cupy.cuda.Device(number):
        return compile_with(CudaDevice(cupy), instances)


def compile_with(device: Device, instances: Sequence[tuple[str, str, tuple[str, ...]]]) -> tuple[int, list[str]]:
    """The same for what compiles them, on the current device."""
    n_compiled, failures = len(instances), []
    for stem, name, arguments in instances:
        kernel = kernels(stem)[name]
        try:
            device.prepare(kernel, kernel.instance(arguments))
        except ArchitectureError:
            n_compiled -= 1
        except KernelCompileError as error:
            failures.append(str(error).splitlines()[0])
        except Exception as error:  # CuPy's own: a line of the report, and the other kernels are compiled all the same
            said = " ".join(str(error).split())
            failures.append(f"{name}<{', '.join(arguments)}>: {type(error).__name__}: {said}")
    return n_compiled, failures
