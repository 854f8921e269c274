"""What a run of the report was made on: the device, the code and the versions, and how two of them differ."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fcnn_gpu.backend import resolve_backend
from fcnn_gpu.backend._probe import failing_link, probe_links
from fcnn_gpu.bench import machine
from fcnn_gpu.bench._worker import WorkerError, call_apart
from fcnn_gpu.bench.settings import Settings

from .clocks import NoClocks, Nvml

ROOT = Path(__file__).parents[2]
START_SECONDS = 45.0
"""For looking at the device: the first import of CuPy, a context, a trial kernel."""
_CODE = ("fcnn_gpu", "kernels", "benchmarks", "tests")
_SUFFIXES = {".py", ".cu", ".cuh", ".cpp", ".hpp", ".h"}


class NoDevice(RuntimeError):
    """There is no CUDA device to report on; the message is the link that fails."""


@dataclass(frozen=True)
class Setting:
    """One device, and the code and software that ran on it."""

    device: str
    """Its name, as the CUDA runtime has it."""
    uuid: str
    """Of this very device."""
    pci_bus_id: str
    compute_capability: str
    code: str
    """A digest of the repository's code: the same wherever the files are, in a checkout or a copy of it."""
    commit: str
    """Of the checkout, and whether files differ from it; empty in a copy without git."""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def is_software(self) -> bool:
        """Whether the device is a program that computes on the CPU under CUDA's names (tests/software_cuda)."""
        return "software" in self.device.lower()

    def clashes(self, other: Setting) -> list[str]:
        """Why measurements of both cannot stand in one report; nothing if they can."""
        fixed = {"device": "the device", "compute_capability": "its compute capability", "code": "the code"}
        return [
            f"{name} is {getattr(other, attribute)} there and {getattr(self, attribute)} here"
            for attribute, name in fixed.items()
            if getattr(self, attribute) != getattr(other, attribute)
        ]

    def differences(self, other: Setting) -> list[str]:
        """What else is not the same: another device of the same kind, other versions."""
        found = []
        if self.uuid != other.uuid:
            found.append(f"another {self.device} ({other.uuid}; here {self.uuid})")
        for name in sorted(self.versions.keys() | other.versions.keys()):
            ours, theirs = (versions.get(name, "not there") for versions in (self.versions, other.versions))
            if ours != theirs:
                found.append(f"{name} {theirs} (here {ours})")
        return found


def find(number: int) -> Setting:
    """The setting of CUDA device `number`, looked at in a process of its own: a driver may crash.

    Raises NoDevice, which says which link fails.
    """
    try:
        found = call_apart(look, number, settings=Settings(timeout=START_SECONDS), backend=f"cupy:{number}")
    except WorkerError as error:
        raise NoDevice(f"looking at the device failed: {error.summary}") from error
    if isinstance(found, str):
        raise NoDevice(found)
    return dataclasses.replace(found, code=code_digest(), commit=commit())


def look(number: int) -> Setting | str:
    """The device and the versions in this process, or the link that fails."""
    failed = failing_link(probe_links(number))
    if failed is not None:
        return failed.sentence()
    cuda: Any = resolve_backend(f"cupy:{number}").xp.cuda
    properties = cuda.runtime.getDeviceProperties(number)
    bus: str = cuda.Device(number).pci_bus_id
    driver, uuid = _told_by_nvml(bus)
    return Setting(
        device=properties["name"].decode(),
        uuid=uuid or f"GPU-{properties['uuid'].hex()}",  # CuPy's ends at the first zero byte
        pci_bus_id=bus,
        compute_capability=f"{properties['major']}.{properties['minor']}",
        code="",
        commit="",
        versions=machine.versions() | _cuda_versions(cuda) | ({"driver": driver} if driver else {}),
    )


def _told_by_nvml(bus: str) -> tuple[str, str]:
    """The driver's version and the device's UUID; empty where NVML does not answer, which the parts' clocks say."""
    try:
        nvml = Nvml(bus)
    except NoClocks:
        return "", ""
    return nvml.driver(), nvml.uuid()


def _cuda_versions(cuda: Any) -> dict[str, str]:
    from cupy_backends.cuda.libs import nvrtc

    return {
        "CUDA of the driver": cuda_version(cuda.runtime.driverGetVersion()),
        "CUDA runtime": cuda_version(cuda.runtime.runtimeGetVersion()),
        "NVRTC": ".".join(map(str, nvrtc.getVersion())),
    }


def cuda_version(number: int) -> str:
    """12090 → "12.9"."""
    return f"{number // 1000}.{number % 1000 // 10}"


def code_digest() -> str:
    """The first 12 digits of SHA-256 over the names and bytes of all code, in the order of the names."""
    digest = hashlib.sha256()
    files = (path for folder in _CODE for path in (ROOT / folder).rglob("*") if path.suffix in _SUFFIXES)
    for path in sorted(files, key=lambda path: path.relative_to(ROOT).as_posix()):
        content = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.relative_to(ROOT).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


def commit() -> str:
    """ "abc123", "abc123 with changes" of a checkout; else nothing."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return ""
    parts = []
    for arguments in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
        if done.returncode:
            return ""
        parts.append(done.stdout.strip())
    return f"{parts[0]}{' with changes' if parts[1] else ''}"
