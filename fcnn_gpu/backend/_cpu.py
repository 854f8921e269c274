"""The CPU as the operating system shows it to this process: name, cores, caches, instruction sets."""

from __future__ import annotations

import math
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

INSTRUCTION_SETS = (
    "sse4_2",
    "avx",
    "fma",
    "avx2",
    "avx512f",
    "avx512vl",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "asimd",
    "sve",
)
"""Those that matrix products gain by, under Linux's names."""

_CPU_INFO = Path("/proc/cpuinfo")
_MEMORY_INFO = Path("/proc/meminfo")
_CPUS = Path("/sys/devices/system/cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_QUOTA_BEFORE = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
"""The same in the first version of control groups; -1 is no limit."""


@dataclass(frozen=True)
class Cpu:
    """What there is to compute with.

    Attributes:
        name: the model, or the architecture where the system names no model.
        architecture: "x86_64", "aarch64", ...
        physical_cores: that this process may use; None where the system cannot say.
        logical_cpus: that this process may use, two per core where there is hyper-threading.
        quota: CPUs' worth of time that the control group of this process grants, rounded up; None without a limit.
        caches: size by level, of the first CPU: {"L1d": "48K", "L2": "1024K", "L3": "32768K"}.
        instruction_sets: those of `INSTRUCTION_SETS` that it has; empty where the system does not list them.
        memory_bytes: the machine's memory; None where the system cannot say.
        virtual: whether this is known to be a virtual machine.
    """

    name: str
    architecture: str
    physical_cores: int | None
    logical_cpus: int
    quota: int | None
    caches: dict[str, str]
    instruction_sets: list[str]
    memory_bytes: int | None
    virtual: bool

    @property
    def cores(self) -> int:
        """How many threads of arithmetic can run at full speed: cores, as far as the quota lets them run."""
        return min(self.physical_cores or self.logical_cpus, self.quota or self.logical_cpus)


def read_cpu() -> Cpu:
    """The CPU of this process, read anew."""
    cores, quota, flags = physical_cpus(), cpu_quota(), _info("flags", "Features").split()
    return Cpu(
        name=_info("model name") or platform.processor() or platform.machine(),
        architecture=platform.machine(),
        physical_cores=None if cores is None else len(cores),
        logical_cpus=(os.cpu_count() or 1) if cores is None else len(os.sched_getaffinity(0)),
        quota=quota if quota < 2**31 else None,
        caches=_caches(),
        instruction_sets=[name for name in INSTRUCTION_SETS if name in flags],
        memory_bytes=_memory_bytes(),
        virtual="hypervisor" in flags,
    )


def physical_cpus() -> list[int] | None:
    """One logical CPU for each physical core that this process may use; None where the system cannot say."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores: dict[tuple[str, str], int] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        topology = _CPUS / f"cpu{cpu}" / "topology"
        try:
            core = (topology / "physical_package_id").read_text(), (topology / "core_id").read_text()
        except OSError:  # no such files in some containers: then every CPU counts as a core
            core = "", str(cpu)
        cores.setdefault(core, cpu)
    return list(cores.values())


def cpu_quota() -> int:
    """How many CPUs' worth of time the control group of this process grants, rounded up; no limit gives a large number.

    A container may see 64 CPUs and be stopped after using two of them.
    """
    try:
        quota, period = _QUOTA.read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = (path.read_text().strip() for path in _QUOTA_BEFORE)
        except OSError:
            return 2**31
    return 2**31 if quota in ("max", "-1") else max(1, math.ceil(int(quota) / int(period)))


def usable_cores() -> int:
    """How many threads of arithmetic this process can run at full speed: `Cpu.cores`, without reading all the rest."""
    cores = physical_cpus()
    return min((os.cpu_count() or 1) if cores is None else len(cores), cpu_quota())


def available_memory() -> int | None:
    """Bytes of memory that programs can have without swapping; None where the system does not say."""
    if not _MEMORY_INFO.is_file():
        return None
    lines = _MEMORY_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    found = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    kilobytes = next(found, None)
    return None if kilobytes is None else 1024 * int(kilobytes)


def _info(*names: str) -> str:
    """The first line of /proc/cpuinfo with one of these names, after its colon."""
    if not _CPU_INFO.is_file():
        return ""
    lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    found = (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() in names)
    return next(found, "")


def _caches() -> dict[str, str]:
    caches = {}
    for folder in sorted((_CPUS / "cpu0" / "cache").glob("index*")):
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
