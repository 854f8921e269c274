"""On what a report was made: device, driver, libraries, clocks, and the code itself."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fcnn_gpu import __version__
from fcnn_gpu.backend import resolve_backend
from fcnn_gpu.backend._probe import failing_link, probe_links
from fcnn_gpu.bench import machine
from fcnn_gpu.bench._worker import WorkerError, call_apart
from fcnn_gpu.bench.settings import Settings

from .plan import Plan
from .results import Fact

ROOT = Path(__file__).parents[2]

QUERIES = {
    "name": "nvidia-smi: device",
    "driver_version": "driver",
    "pstate": "performance state",
    "clocks.sm": "clock of the multiprocessors now",
    "clocks.max.sm": "clock of the multiprocessors at most",
    "clocks.mem": "clock of the memory now",
    "clocks.max.mem": "clock of the memory at most",
    "power.limit": "power limit",
    "temperature.gpu": "temperature, °C",
    "utilization.gpu": "use by others and us",
    "ecc.mode.current": "ECC",
    "compute_mode": "compute mode",
    "persistence_mode": "persistence mode",
}


def find_device(number: int) -> tuple[str, str]:
    """(what the device is, "") or ("", the link that fails), looked at in a process of its own: a driver may crash."""
    try:
        return call_apart(describe, number, settings=Settings(timeout=180.0), backend=f"cupy:{number}")
    except WorkerError as error:
        return "", f"looking at the device failed: {error.summary}"


def describe(number: int) -> tuple[str, str]:
    """The same in this process."""
    failed = failing_link(probe_links(number))
    if failed is not None:
        return "", failed.sentence()
    return resolve_backend(f"cupy:{number}").describe().partition(" (")[0], ""


def measure(plan: Plan) -> Iterator[Fact]:
    """The chain from package to kernel, the device's properties, nvidia-smi's view, the host, versions, the commit."""
    device = int(plan.backend.partition(":")[2] or 0)
    for link in probe_links(device):
        if not link.ok:
            yield Fact(link.name, link.sentence())
        elif not Path(link.detail).is_absolute():  # folders are this machine's alone
            yield Fact(link.name, link.detail)
    yield from properties(plan)
    xp: Any = plan.ops().xp
    yield from nvidia_smi(xp.cuda.Device(device).pci_bus_id if hasattr(xp, "cuda") else str(device))
    described, versions = machine.describe(Settings(), "numpy")
    yield Fact("processor", f"{described['cpu']}, {described['physical_cores']} cores for this process")
    yield Fact("system", f"{described['system']}, Python {platform.python_version()}")
    for note in machine.notes(described):
        yield Fact("note", note)
    yield Fact("fcnn_gpu", f"{__version__}{commit()}")
    for name, version in versions.items():
        if name not in ("python", "fcnn_gpu"):
            yield Fact(name, version)


def properties(plan: Plan) -> Iterator[Fact]:
    """What the CUDA runtime says of the device; nothing where it is not CuPy's."""
    xp: Any = plan.ops().xp
    if not hasattr(xp, "cuda"):
        return
    found = xp.cuda.runtime.getDeviceProperties(int(plan.backend.partition(":")[2] or 0))
    yield Fact("compute capability", f"{found['major']}.{found['minor']}")
    yield Fact("multiprocessors", str(found["multiProcessorCount"]))
    yield Fact("L2 cache", f"{found['l2CacheSize'] / 2**20:.0f} MiB")
    yield Fact("memory", f"{found['totalGlobalMem'] / 2**30:.1f} GiB")
    yield Fact("driver supports CUDA", _cuda_version(xp.cuda.runtime.driverGetVersion()))
    yield Fact("CUDA runtime", _cuda_version(xp.cuda.runtime.runtimeGetVersion()))


def nvidia_smi(device: str, queries: Mapping[str, str] = QUERIES) -> Iterator[Fact]:
    """Clocks and limits as far as the driver knows them; a fact that says so where there is no nvidia-smi.

    Args:
        device: its PCI bus id, which CUDA_VISIBLE_DEVICES does not renumber.
        queries: what nvidia-smi calls a property, and what we call it.
    """
    command = shutil.which("nvidia-smi")
    if command is None:
        yield Fact("nvidia-smi", "not found, so clocks and power limit are not known")
        return
    arguments = [command, f"--query-gpu={','.join(queries)}", "--format=csv,noheader", f"--id={device}"]
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Fact("nvidia-smi", f"failed: {error}")
        return
    values = [value.strip() for value in done.stdout.strip().split(",")]
    if done.returncode or len(values) != len(queries):
        yield Fact("nvidia-smi", f"failed: {(done.stdout or done.stderr).strip()[:200]}")
        return
    for name, value in zip(queries.values(), values, strict=True):
        if value not in ("[N/A]", "N/A", "[Not Supported]"):
            yield Fact(name, value)


def commit() -> str:
    """ ", commit abc123" and whether files differ from it, in a checkout; else nothing."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return ""
    parts = []
    for arguments in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
        if done.returncode:
            return ""
        parts.append(done.stdout.strip())
    return f", commit {parts[0]}{' with changes' if parts[1] else ''}"


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
