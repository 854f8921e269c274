"""What a run was made on: processor, memory, caches, instruction sets, BLAS, GPU, system and versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..backend._probe import failing_link, probe_links
from ._worker import call_apart
from .environment import cpu_quota, physical_cpus
from .settings import Settings

_PACKAGES = (
    "fcnn_gpu",
    "numpy",
    "scipy",
    "scikit-learn",
    "torch",
    "jax",
    "jaxlib",
    "cupy-cuda11x",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "cupy",
)
_INSTRUCTION_SETS = (
    "sse4_2",
    "avx",
    "fma",
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "asimd",
    "sve",
)
_BUSY = 0.5
"""Load average per core above which other programs have a say in the times."""


def describe(settings: Settings | None = None, backend: str = "numpy") -> tuple[dict[str, Any], dict[str, str]]:
    """(machine, versions) as JSON data; BLAS and GPU as a worker of the benchmark sees them."""
    settings = Settings() if settings is None else settings
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    cores = physical_cpus()
    quota = cpu_quota()
    machine: dict[str, Any] = {
        "cpu": _cpu_name(),
        "architecture": platform.machine(),
        "physical_cores": None if cores is None else len(cores),
        "logical_cpus": len(os.sched_getaffinity(0)) if cores is not None else os.cpu_count(),
        "cpu_quota": quota if quota < 2**31 else None,
        "caches": _caches(),
        "instruction_sets": _instruction_sets(),
        "memory_bytes": _memory_bytes(),
        "virtual": "hypervisor" in _cpu_flags(),
        "system": f"{platform.system()} {platform.release()}",
        "load_average": load,
    }
    machine |= call_apart(_seen_by_a_worker, settings=settings, backend=backend)
    return machine, versions()


def notes(machine: dict[str, Any]) -> list[str]:
    """What about the machine a reader must know to read the numbers right."""
    found = []
    load, cores = machine["load_average"], machine["physical_cores"] or machine["logical_cpus"] or 1
    if load is not None and load > _BUSY * cores:
        found.append(f"The machine was busy when the run began: load average {load:.2f} on {cores} cores.")
    if machine["virtual"]:
        found.append("This is a virtual machine: its neighbours may take time from it, unseen.")
    if machine["cpu_quota"] is not None:
        found.append(f"A control group limits the process to {machine['cpu_quota']} CPUs' worth of time.")
    return found


def versions() -> dict[str, str]:
    """Python and the packages that are installed, by name."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _seen_by_a_worker() -> dict[str, Any]:
    from threadpoolctl import threadpool_info

    np.ones((2, 2)) @ np.ones((2, 2))  # some BLAS libraries choose their kernels at the first call
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    failed = failing_link(probe_links(0))
    return {
        "blas": [
            {
                "library": pool["internal_api"],
                "version": pool["version"],
                "kernels": pool.get("architecture"),
                "threads": pool["num_threads"],
            }
            for pool in pools
        ],
        "numpy_simd": list(np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])),
        "gpu": _gpu() if failed is None else None,
        "no_gpu_because": None if failed is None else failed.sentence(),
    }


def _gpu() -> str:
    from ..backend import resolve_backend

    return resolve_backend("cupy").describe()


def _cpu_info(*names: str) -> str:
    """The first line of /proc/cpuinfo with one of these names, after its colon."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    found = (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() in names)
    return next(found, "")


def _cpu_name() -> str:
    return _cpu_info("model name") or platform.processor() or platform.machine()


def _cpu_flags() -> list[str]:
    return _cpu_info("flags", "Features").split()


def _instruction_sets() -> list[str]:
    flags = _cpu_flags()
    return [name for name in _INSTRUCTION_SETS if name in flags]


def _caches() -> dict[str, str]:
    """Size by level, as the first CPU has them: {"L1d": "48K", "L2": "1024K", "L3": "32768K"}."""
    caches = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            caches[f"L{level}{'d' if kind == 'Data' else ''}"] = size
    return caches


def _memory_bytes() -> int | None:
    if sys.platform == "win32" or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
