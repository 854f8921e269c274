"""What a run was made on: processor, memory, caches, instruction sets, BLAS, GPU, system and versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import asdict
from typing import Any

from ..backend import read_cpu
from ..backend._blas import numpy_blas, numpy_simd
from ..backend._probe import failing_link, probe_links
from ._worker import call_apart
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
_BUSY = 0.5
"""Load average per core above which other programs have a say in the times."""


def describe(settings: Settings | None = None, backend: str = "numpy") -> tuple[dict[str, Any], dict[str, str]]:
    """(machine, versions) as JSON data; BLAS and GPU as a worker of the benchmark sees them."""
    settings = Settings() if settings is None else settings
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    cpu = read_cpu()
    machine: dict[str, Any] = {
        "cpu": cpu.name,
        "architecture": cpu.architecture,
        "physical_cores": cpu.physical_cores,
        "logical_cpus": cpu.logical_cpus,
        "cpu_quota": cpu.quota,
        "caches": cpu.caches,
        "instruction_sets": cpu.instruction_sets,
        "memory_bytes": cpu.memory_bytes,
        "virtual": cpu.virtual,
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
    failed = failing_link(probe_links(0))
    return {
        "blas": [asdict(blas) for blas in numpy_blas()],
        "numpy_simd": numpy_simd(),
        "gpu": _gpu() if failed is None else None,
        "no_gpu_because": None if failed is None else failed.sentence(),
    }


def _gpu() -> str:
    from ..backend import resolve_backend

    return resolve_backend("cupy").describe()
