"""What stands between this Python and a CUDA device, link by link: each is fine, or says what is wrong and its fix.

`probe_links` never raises and needs neither a GPU nor CuPy. The selector refuses a device whose probe fails, and
`fcnn-gpu doctor` prints the whole chain.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._extras import how_to_install
from ._cublas import LibraryError, load_cublas

_FITTING = ("cupy-cuda12x", "cupy-cuda13x", "cupy")
"""The packages of CuPy that can be used: two wheels, and what conda or a build from source installs."""
_OLD_CUDA = ["11x", "102", "110", "111", "112", "113", "114", "115", "116", "117"]
_OTHER_CUDA = tuple(f"cupy-cuda{name}" for name in _OLD_CUDA)
_OTHER_GPUS = (*(f"cupy-rocm-{name}" for name in ["4-0", "4-2", "4-3", "5-0", "7-0", "7-1", "7-14"]), "amd-cupy")
"""Like the others', the names that CuPy itself looks for: cupy/_environment.py, `_detect_duplicate_installation`."""
_FIRST_VERSION, _TOO_NEW = (14, 2), (15, 0)
_BOUNDS = ">=14.2,<15"
_TRIAL_BYTES = 2**20
_TRIAL_CACHE_BYTES = 2**18
"""More than a compiled kernel: a full disk fails here."""
_BFLOAT16_CAPABILITY = (8, 0)
"""Of the first devices that compute in bfloat16."""
_TRIAL_KERNEL = r"""
#include <cuda_bf16.h>
#include <cuda_fp16.h>
extern "C" __global__ void fcnn_gpu_probe(int n, int* out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = i * i + 1;
}
"""


_NOT_LOADED = ("UNSUPPORTED_PTX_VERSION", "UnsupportedPtxVersion", "NO_BINARY_FOR_GPU", "NoKernelImageForDevice")
"""How CUDA says that a driver cannot load a kernel."""


_WITHOUT_GRAPHS = "Update the driver (https://www.nvidia.com/drivers), or train with trainer.fit(..., capture=False)."


@dataclass(frozen=True)
class Link:
    """One link of the chain. `ok` is None where an earlier failure made checking it impossible.

    One that is in order and has a fix all the same stands for something that training can do without.
    """

    name: str
    ok: bool | None
    detail: str
    fix: str = ""

    def sentence(self) -> str:
        """The link in one line: name, what is the matter, what to do."""
        return " ".join(f"{self.name}: {self.detail} {self.fix}".split())


class _Fault(Exception):
    """A link that fails, with what mends it."""

    def __init__(self, detail: str, fix: str) -> None:
        super().__init__(detail)
        self.fix = fix


class _Limit(_Fault):
    """Something that is missing and that training on the device can do without."""


def probe_links(device: int = 0) -> list[Link]:
    """Every link from the CuPy package to a kernel's answer on CUDA device `device`, in the order to mend them."""
    probe = _Probe(device)
    links: list[Link] = []
    sound: set[str] = set()
    for name, needs, check in probe.chain():
        missing = next((need for need in needs if need not in sound), None)
        link = _not_checked(name, missing) if missing else _checked(name, check)
        if link.ok:
            sound.add(name)
        links.append(link)
    return links


def failing_link(links: Sequence[Link]) -> Link | None:
    """The first link that is not in order, or None."""
    return next((link for link in links if link.ok is False), None)


def _not_checked(name: str, missing: str) -> Link:
    return Link(name, None, f"not checked: it needs {missing} first.")


def _checked(name: str, check: Callable[[], str]) -> Link:
    try:
        return Link(name, True, check())
    except _Fault as fault:
        return Link(name, isinstance(fault, _Limit), _one_line(fault), fault.fix)
    except Exception as error:  # a link that nobody foresaw still becomes a line of the report
        fix = "Run `fcnn-gpu doctor`, and search for this message in CuPy's installation guide."
        return Link(name, False, f"{type(error).__name__}: {_one_line(error)}.", fix)


def _one_line(error: BaseException | str) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 400 else text[:397] + "..."


class _Probe:
    """The checks. Each returns a detail when all is well and raises `_Fault` when not."""

    def __init__(self, device: int) -> None:
        self.device = device
        self.cupy: Any = None
        self.wheel = ""

    def chain(self) -> list[tuple[str, tuple[str, ...], Callable[[], str]]]:
        """(name, names of the links it needs, check)"""
        package, imported, driver, devices = "CuPy package", "CuPy import", "NVIDIA driver", "CUDA device"
        memory, libraries, headers = "device memory", "CUDA libraries", "CUDA headers"
        cache, kernel = "kernel cache folder", "kernel"
        return [
            (package, (), self.package),
            (cache, (package,), self.cache_folder),  # CuPy makes the folder when it is imported, or fails
            (imported, (package, cache), self.importing),
            (driver, (imported,), self.driver),
            (devices, (driver,), self.device_index),
            (memory, (devices,), self.memory),
            (libraries, (imported,), self.libraries),
            (headers, (imported,), self.headers),
            (kernel, (memory, libraries, headers), self.kernel),
            ("matrix product", (kernel,), self.product),
            ("CUDA graph", (kernel,), self.graph),
            ("bfloat16", (devices,), self.bfloat16),
        ]

    @property
    def extra(self) -> str:
        """The command that installs CuPy with the CUDA libraries, for the CUDA version of the CuPy at hand."""
        return how_to_install(f"cuda{self.cupy.cuda.runtime.runtimeGetVersion() // 1000}")

    def package(self) -> str:
        found = []
        for wheel in (*_FITTING, *_OTHER_CUDA, *_OTHER_GPUS):
            try:
                found.append((wheel, importlib.metadata.version(wheel)))
            except importlib.metadata.PackageNotFoundError:
                continue
        either = f"{how_to_install('cuda12')}, or with cupy-cuda13x for a driver of CUDA 13."
        if not found:
            raise _Fault("CuPy is not installed.", f"Run: {either}")
        if len(found) > 1:
            names = " and ".join(name for name, _ in found)
            uninstall = " ".join(name for name, _ in found)
            raise _Fault(
                f"{names} are installed together and overwrite each other's files.",
                f"Run: pip uninstall -y {uninstall} && {how_to_install('cuda12')}, or with cupy-cuda13x.",
            )
        self.wheel, version = found[0]
        if self.wheel not in _FITTING:
            other = "GPUs that are not NVIDIA's" if self.wheel in _OTHER_GPUS else "CUDA older than 12"
            raise _Fault(f"{self.wheel} is for {other}.", f"Run: pip uninstall -y {self.wheel} && {either}")
        numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
        if not _FIRST_VERSION <= numbers < _TOO_NEW:
            why = (
                "older than 14.2, the first that keeps instances of templates in its kernel cache"
                if numbers < _FIRST_VERSION
                else "15 or later, which fcnn_gpu does not know"
            )
            raise _Fault(f"{self.wheel} {version} is {why}.", f"Run: pip install '{self.wheel}{_BOUNDS}'")
        return f"{self.wheel} {version}"

    def importing(self) -> str:
        try:
            self.cupy = importlib.import_module("cupy")
        except Exception as error:
            raise _Fault(
                f"`import cupy` fails with {type(error).__name__}: {_one_line(error)}.",
                f"Run: pip install --force-reinstall '{self.wheel}{_BOUNDS}'",
            ) from error
        return f"CuPy {self.cupy.__version__}, built for CUDA {_version(self.cupy.cuda.runtime.runtimeGetVersion())}"

    def driver(self) -> str:
        runtime = self.cupy.cuda.runtime
        needed, present = runtime.runtimeGetVersion(), runtime.driverGetVersion()
        if not present:
            why = _driver_library_fault()
            raise _Fault(
                f"no NVIDIA driver answers ({why}).",
                "Install one (https://www.nvidia.com/drivers; start a container with --gpus all) and run: nvidia-smi",
            )
        if present // 1000 < needed // 1000:
            older = f", or run: pip uninstall -y {self.wheel} && {how_to_install('cuda12')}"
            raise _Fault(
                f"the driver supports CUDA {_version(present)}, older than the CUDA {needed // 1000}.0 that "
                f"{self.wheel} needs.",
                f"Update it (https://www.nvidia.com/drivers){older if present // 1000 == 12 else ''}.",
            )
        return f"supports CUDA {_version(present)}"

    def device_index(self) -> str:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = f" CUDA_VISIBLE_DEVICES={visible!r} decides which are visible." if visible is not None else ""
        try:
            count = self.cupy.cuda.runtime.getDeviceCount()
        except self.cupy.cuda.runtime.CUDARuntimeError as error:
            if "NoDevice" not in str(error):
                raise _Fault(
                    f"counting the devices fails: {_one_line(error)}.", "Check the driver with: nvidia-smi"
                ) from error
            count = 0
        if count == 0:
            fix = "Run: unset CUDA_VISIBLE_DEVICES" if visible is not None else "Check with: nvidia-smi"
            raise _Fault(f"the driver shows no device.{hidden}", fix)
        if not 0 <= self.device < count:
            numbers = "0" if count == 1 else f"0 to {count - 1}"
            raise _Fault(
                f"there is no device {self.device}; device numbers are {numbers}.{hidden}",
                "Choose one of these, as in backend='cupy:0'.",
            )
        properties = self.cupy.cuda.runtime.getDeviceProperties(self.device)
        capability = f"{properties['major']}.{properties['minor']}"
        return f"{self.device} of {count}: {properties['name'].decode()}, compute capability {capability}"

    def memory(self) -> str:
        with self.cupy.cuda.Device(self.device):
            free, total = self.cupy.cuda.runtime.memGetInfo()
            amounts = f"{free / 2**30:.2f} GiB of {total / 2**30:.2f} GiB free"
            try:
                self.cupy.empty(_TRIAL_BYTES, "uint8").fill(0)
            except self.cupy.cuda.memory.OutOfMemoryError as error:
                raise _Fault(
                    f"device {self.device} has no memory left ({amounts}).",
                    "See who uses it with nvidia-smi and end that process, or choose another device.",
                ) from error
        return amounts

    def libraries(self) -> str:
        """NVRTC and cuBLAS, loaded as CuPy loads them.

        CuPy's modules of NVIDIA's libraries must be taken from their package, as attributes: its `__getattr__` lets
        cuda-pathfinder load the library from NVIDIA's wheel first. Imported by their full names they find only what the
        system's loader finds, which looks into no wheel.
        """
        try:
            from cupy_backends.cuda.libs import nvrtc

            compiler = "NVRTC " + ".".join(map(str, nvrtc.getVersion()))
        except Exception as error:
            raise self._not_loaded("NVRTC", error) from error
        try:
            ours = load_cublas(self.cupy.cuda.runtime.runtimeGetVersion() // 1000)
        except LibraryError as error:
            raise _Fault(_one_line(error.detail), error.fix) from error
        try:
            from cupy_backends.cuda.libs import cublas  # noqa: F401 - CuPy's own products need it
        except Exception as error:
            raise self._not_loaded("cuBLAS", error) from error
        return f"{compiler}, cuBLAS {ours.version}"

    def _not_loaded(self, library: str, error: Exception) -> _Fault:
        first = str(error).strip().partition("\n")[0]  # where cuda-pathfinder looked, folder by folder, follows
        return _Fault(
            f"{library} does not load ({_one_line(first)}).",
            f"Run: {self.extra}, which brings the CUDA libraries ([ctk]).",
        )

    def headers(self) -> str:
        """The folder that CuPy names to NVRTC: the one that cuda-pathfinder finds, and no other."""
        from cuda import pathfinder

        found = pathfinder.find_nvidia_header_directory("cudart")
        if found and all((Path(found) / name).is_file() for name in ("cuda_fp16.h", "cuda_bf16.h")):
            return str(found)
        raise _Fault(
            f"cuda_fp16.h and cuda_bf16.h are not in {found or 'any folder that cuda-pathfinder knows'}.",
            f"Run: {self.extra}, which brings the headers ([ctk]); or name a CUDA toolkit in CUDA_PATH.",
        )

    def cache_folder(self) -> str:
        setting = os.environ.get("CUPY_CACHE_DIR")
        if setting == "":
            raise _Fault("CUPY_CACHE_DIR is set to nothing, with which CuPy fails.", "Run: unset CUPY_CACHE_DIR")
        folder = Path(setting or Path.home() / ".cupy" / "kernel_cache")
        in_memory = os.environ.get("CUPY_CACHE_IN_MEMORY") == "1"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not in_memory:
                with tempfile.TemporaryFile(dir=folder) as file:
                    file.write(bytes(_TRIAL_CACHE_BYTES))
        except OSError as error:
            alone = "" if in_memory or not folder.is_dir() else " (or CUPY_CACHE_IN_MEMORY=1)"
            raise _Fault(
                f"{folder} cannot be written ({error.strerror or error}).",
                f"Run: export CUPY_CACHE_DIR=<a folder of yours>{alone}.",
            ) from error
        if in_memory:
            return "in memory (CUPY_CACHE_IN_MEMORY=1): kernels are compiled anew in each process"
        return str(folder)

    def kernel(self) -> str:
        with self.cupy.cuda.Device(self.device):
            try:
                function = self._trial_kernel()
                out = self.cupy.zeros(70, "int32")
                function((3,), (32,), (np.int32(70), out))
                answer = self.cupy.asnumpy(out)
            except self.cupy.cuda.compiler.CompileException as error:
                headers = "could not open source file" in str(error) or "cannot open source file" in str(error)
                what = "the CUDA headers are missing" if headers else "NVRTC cannot compile a small kernel"
                raise _Fault(
                    f"{what} ({_one_line(error)}).", f"Run: {self.extra}, which brings the headers ([ctk])."
                ) from error
            except Exception as error:
                if not any(code in str(error) for code in _NOT_LOADED):
                    raise
                raise _Fault(
                    f"the driver cannot load what this NVRTC compiles ({_one_line(error)}).",
                    "Update the driver (https://www.nvidia.com/drivers), or install CUDA libraries no newer than it.",
                ) from error
        if not np.array_equal(answer, np.arange(70) ** 2 + 1):
            raise _Fault(
                f"a small kernel ran and gave wrong numbers on device {self.device}.",
                "Check the hardware and driver with: nvidia-smi -q -d ECC",
            )
        return "compiled, ran and gave the right numbers"

    def _trial_kernel(self) -> Any:
        return self.cupy.RawKernel(_TRIAL_KERNEL, "fcnn_gpu_probe", options=("-std=c++17",))

    def graph(self) -> str:
        """Record a launch and replay it."""
        cuda = self.cupy.cuda
        with cuda.Device(self.device):
            function, out = self._trial_kernel(), self.cupy.zeros(70, "int32")
            function((3,), (32,), (np.int32(70), out))  # compiled and loaded before recording, which allows neither
            out.fill(0)
            cuda.Device(self.device).synchronize()  # that was on another stream
            try:
                stream = cuda.Stream(non_blocking=True)
                with stream:
                    stream.begin_capture()
                    function((3,), (32,), (np.int32(70), out))
                    graph = stream.end_capture()
                    graph.launch(stream)
                    stream.synchronize()
                answer = self.cupy.asnumpy(out)
            except Exception as error:
                raise _Limit(
                    f"recording a small graph fails ({_one_line(error)}).",
                    _WITHOUT_GRAPHS,
                ) from error
        if not np.array_equal(answer, np.arange(70) ** 2 + 1):
            raise _Limit(
                f"a small graph gave wrong numbers on device {self.device}.",
                _WITHOUT_GRAPHS,
            )
        return "recorded, replayed and gave the right numbers"

    def bfloat16(self) -> str:
        properties = self.cupy.cuda.runtime.getDeviceProperties(self.device)
        capability = properties["major"], properties["minor"]
        name = f"compute capability {capability[0]}.{capability[1]}"
        if capability < _BFLOAT16_CAPABILITY:
            raise _Limit(f"{name} has no tensor cores for it.", "Use precision='float16' instead of 'bfloat16'.")
        try:
            version = importlib.import_module("ml_dtypes").__version__
        except ImportError as error:
            raise _Limit(
                f"the package ml_dtypes, which has the dtype, does not load ({_one_line(error)}).",
                "For precision='bfloat16' run: pip install ml_dtypes",
            ) from error
        return f"ml_dtypes {version}, {name}"

    def product(self) -> str:
        with self.cupy.cuda.Device(self.device):
            x = self.cupy.arange(6, dtype="float32").reshape(2, 3)
            try:
                answer = self.cupy.asnumpy(self.cupy.matmul(x, x.T))
            except Exception as error:
                raise _Fault(
                    f"cuBLAS cannot multiply two small matrices ({_one_line(error)}).",
                    f"Run: {self.extra}, which brings a cuBLAS that fits ([ctk]).",
                ) from error
        if not np.array_equal(answer, [[5, 14], [14, 50]]):
            raise _Fault(
                f"cuBLAS multiplied two small matrices wrongly on device {self.device}.",
                "Check the hardware and driver with: nvidia-smi -q -d ECC",
            )
        return "cuBLAS gave the right numbers"


def _driver_library_fault() -> str:
    """Why the driver does not answer: its library is missing, or it is there and finds no driver."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(name)
    except OSError:
        return f"{name} is not on this machine"
    return f"{name} is there, but the driver behind it is not loaded"


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
