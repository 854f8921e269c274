"""On what a report was made: device, driver, libraries, the clock at rest, and what each part needs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fcnn_gpu import __version__
from fcnn_gpu.backend._probe import probe_links
from fcnn_gpu.bench import machine
from fcnn_gpu.bench._worker import WorkerError, call_apart
from fcnn_gpu.bench.settings import Settings
from fcnn_gpu.datasets import DataFileError, load

from . import sanitizer
from .plan import Plan
from .results import Fact
from .setting import code_digest, commit, cuda_version

_USE = "use of the device before the first kernel"
_OF_THE_MOMENT = (
    "performance state",
    "clock of the multiprocessors",
    "clock of the memory",
    "power",
    "temperature, °C",
)
QUERIES = {
    "name": "nvidia-smi: device",
    "driver_version": "driver",
    "utilization.gpu": _USE,
    "pstate": "performance state",
    "clocks.sm": "clock of the multiprocessors",
    "clocks.max.sm": "clock of the multiprocessors at most",
    "clocks.mem": "clock of the memory",
    "clocks.max.mem": "clock of the memory at most",
    "power.draw": "power",
    "power.limit": "power limit",
    "temperature.gpu": "temperature, °C",
    "ecc.mode.current": "ECC",
    "compute_mode": "compute mode",
    "persistence_mode": "persistence mode",
}


_PEER_SECONDS = 25.0
"""For importing PyTorch or JAX and asking it for its device."""
_FOR_TESTS = (
    "pytest",
    "hypothesis",
    "pytest-xdist",
    "ml_dtypes",
    "pandas",
    "pyarrow",
    "matplotlib",
    "build",
    "hatchling",
)


def measure(plan: Plan) -> Iterator[Fact]:
    """nvidia-smi's view before anything runs, the chain from package to kernel, the device, the host, what is there."""
    yield from at_rest(nvidia_smi(plan.pci_bus_id))
    links = probe_links(plan.device)
    for link in links:
        if not link.ok:
            yield Fact(link.name, link.sentence())
        elif not Path(link.detail).is_absolute():  # folders are this machine's alone
            yield Fact(link.name, link.detail)
    yield from properties(plan)
    described, versions = machine.describe(Settings(), "numpy")
    yield Fact("processor", f"{described['cpu']}, {described['physical_cores']} cores for this process")
    yield Fact("system", f"{described['system']}, Python {platform.python_version()}")
    for note in machine.notes(described):
        yield Fact("note", note)
    checkout = commit()
    yield Fact("fcnn_gpu", f"{__version__}, code {code_digest()}{', commit ' if checkout else ''}{checkout}")
    for name, version in versions.items():
        if name not in ("python", "fcnn_gpu"):
            yield Fact(name, version)
    yield from needs(plan)


def at_rest(facts: Iterator[Fact]) -> Iterator[Fact]:
    """The same, what changes from moment to moment marked as idle, or with the share of time that kernels ran."""
    use = ""
    for fact in facts:
        if fact.name == _USE:
            use = fact.value
        if fact.name not in _OF_THE_MOMENT:
            yield fact
        elif use.startswith("0 "):
            yield Fact(f"{fact.name}, idle", fact.value)
        else:
            yield Fact(f"{fact.name}, {f'{use} busy' if use else 'idle or not'}", fact.value)


def needs(plan: Plan) -> Iterator[Fact]:
    """A line for each part that needs more than CuPy: whether it is there, else what to install."""
    missing = [name for name in _FOR_TESTS if _version(name) is None]
    there = "all packages are there" if not missing else f"pip install {' '.join(missing)} (tests that need them fail)"
    yield Fact("needed for tests", there)
    for name, ask in (("torch", ask_torch), ("jax", ask_jax)) if plan.peers else ():
        yield Fact(f"needed for peers, {name}", _peer(name, ask, plan))
    try:
        load("mnist", download=False)
    except FileNotFoundError:
        yield Fact("needed for mnist", "its four files, which are absent: name their folder in FCNN_DATA_DIR")
    except DataFileError as error:
        yield Fact("needed for mnist", f"its four files: {str(error).splitlines()[0]}")
    else:
        yield Fact("needed for mnist", "its files are there")
    compiler = next((name for name in (os.environ.get("CXX"), "g++", "clang++") if name and shutil.which(name)), None)
    yield Fact("needed for torch.compile", f"a C++ compiler: {compiler or 'none, so install g++'}")
    tool = "compute-sanitizer is there" if sanitizer.find() else sanitizer.HOW_TO_INSTALL
    yield Fact("needed for --sanitizer", tool)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _peer(name: str, ask: Any, plan: Plan) -> str:
    if _version(name) is None:
        return f"not installed. For CUDA: pip install {'torch' if name == 'torch' else 'jax[cuda12]'} (or its CUDA 13)"
    try:
        found: str = call_apart(ask, plan.device, settings=Settings(timeout=_PEER_SECONDS), backend=plan.backend)
    except WorkerError as error:
        return f"{name} {_version(name)} fails: {error.summary}"
    return f"{name} {_version(name)}: {found}"


def ask_torch(device: int) -> str:
    """What PyTorch in this process says of the device."""
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda
        return "sees no CUDA device" + ("; it was built without CUDA: pip install torch for CUDA" if not built else "")
    return f"built for CUDA {torch.version.cuda}, sees {torch.cuda.get_device_name(device)}"


def ask_jax(device: int) -> str:
    """What JAX in this process says of the device."""
    import jax

    found = jax.devices()
    if found[0].platform != "gpu":
        return "sees no CUDA device: pip install 'jax[cuda12]' (or [cuda13])"
    return f"sees {found[device].device_kind}"


def properties(plan: Plan) -> Iterator[Fact]:
    """What the CUDA runtime says of the device; nothing where it is not CuPy's."""
    xp: Any = plan.ops().xp
    if not hasattr(xp, "cuda"):
        return
    found = xp.cuda.runtime.getDeviceProperties(plan.device)
    yield Fact("compute capability", f"{found['major']}.{found['minor']}")
    yield Fact("multiprocessors", str(found["multiProcessorCount"]))
    yield Fact("L2 cache", f"{found['l2CacheSize'] / 2**20:.0f} MiB")
    yield Fact("memory", f"{found['totalGlobalMem'] / 2**30:.1f} GiB")
    yield Fact("driver supports CUDA", cuda_version(xp.cuda.runtime.driverGetVersion()))
    yield Fact("CUDA runtime", cuda_version(xp.cuda.runtime.runtimeGetVersion()))


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
