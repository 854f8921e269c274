"""Compile the kernels for any GPU architecture with NVIDIA's run-time compiler alone: no driver, GPU or CuPy.

The two wheels `nvidia-cuda-nvrtc-cu12` and `nvidia-cuda-runtime-cu12` (compiler and headers) are enough, so every
machine that tests this project can tell whether each kernel compiles for each architecture, and with what registers.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import dataclasses
import functools
import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ._kernel_source import Instance, kernels, source
from ._kernels import COMPILE_OPTIONS, KernelCompileError

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
"""Turing, Ampere (data centre, consumer), Ada, Hopper, Blackwell (data centre, consumer)."""

HOW_TO_INSTALL = "pip install nvidia-cuda-nvrtc-cu12 nvidia-cuda-runtime-cu12"


class NvrtcNotFound(RuntimeError):
    """NVRTC or CUDA's headers are missing; the message says how to get them."""


@dataclasses.dataclass(frozen=True)
class Resources:
    """What one compiled instance needs per thread (registers, stack, spills) and per block (shared memory)."""

    registers: int
    stack_bytes: int
    spill_store_bytes: int
    spill_load_bytes: int
    static_shared_bytes: int


@dataclasses.dataclass(frozen=True)
class CompiledFile:
    """One kernel file compiled for one architecture."""

    stem: str
    architecture: str
    cubin: bytes
    resources: dict[Instance, Resources]
    log: str
    ptx: str


@functools.cache
def find_headers() -> Path:
    """The folder that holds cuda_fp16.h."""
    candidates = [folder / "include" for folder in _wheel_folders()]
    candidates += [Path(os.environ[v]) / "include" for v in ("CUDA_PATH", "CUDA_HOME") if v in os.environ]
    candidates += [Path("/usr/local/cuda/include"), Path("/usr/include")]
    for folder in candidates:
        if (folder / "cuda_fp16.h").is_file():
            return folder
    raise NvrtcNotFound(f"CUDA's headers (cuda_fp16.h) are not installed. Install them: {HOW_TO_INSTALL}")


def _wheel_folders() -> list[Path]:
    """The folders of NVIDIA's wheels: nvidia/cuda_nvrtc, nvidia/cuda_runtime (CUDA 12), nvidia/cu13 (CUDA 13)."""
    spec = importlib.util.find_spec("nvidia")
    roots = [Path(p) for p in spec.submodule_search_locations or ()] if spec else []
    return sorted(folder for root in roots if root.is_dir() for folder in root.iterdir() if folder.is_dir())


@functools.cache
def _nvrtc() -> ctypes.CDLL:
    names = [
        str(path)
        for folder in _wheel_folders()
        for pattern in ("lib/libnvrtc.so.*", "bin/nvrtc64_*_0.dll", "bin/*/nvrtc64_*_0.dll")
        for path in sorted(folder.glob(pattern))
        if ".alt." not in path.name
    ]
    for variable in ("CUDA_PATH", "CUDA_HOME"):
        if variable in os.environ:
            names += [str(p) for p in sorted(Path(os.environ[variable]).glob("lib64/libnvrtc.so"))]
    found = ctypes.util.find_library("nvrtc")
    names += [found] if found else []
    for name in names:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        return library
    looked_at = f" (tried {', '.join(names)})" if names else ""
    raise NvrtcNotFound(f"NVRTC, CUDA's run-time compiler, is not installed{looked_at}. Install it: {HOW_TO_INSTALL}")


def missing_nvrtc() -> str | None:
    """Why kernels cannot be compiled here, or None if they can."""
    try:
        _nvrtc()
        find_headers()
    except NvrtcNotFound as error:
        return str(error)
    return None


def compile_check(stem: str, architecture: str) -> CompiledFile:
    """Compile every instance of kernels/<stem>.cu that an architecture can have.

    Args:
        stem: the kernel file.
        architecture: such as "sm_90".

    Raises:
        KernelCompileError: with the compiler's log.
        NvrtcNotFound: the compiler or CUDA's headers are not installed.

    >>> compile_check("dropout", "sm_90").architecture  # doctest: +SKIP
    'sm_90'
    """
    return compile_instances(stem, source(stem), instances_for(stem, architecture), architecture)


def instances_for(stem: str, architecture: str) -> list[Instance]:
    """The instances of kernels/<stem>.cu that are declared for an architecture such as "sm_75"."""
    number = int(re.sub(r"\D", "", architecture))
    return [i for kernel in kernels(stem).values() for i in kernel.instances if number >= i.first_architecture]


def compile_instances(stem: str, text: str, instances: Sequence[Instance], architecture: str) -> CompiledFile:
    """Compile the given instances of kernel source `text`; see `compile_check`."""
    nvrtc = _nvrtc()
    options = [*COMPILE_OPTIONS, f"-arch={architecture}", f"-I{find_headers()}", "--ptxas-options=-v"]
    # CuPy compiles with these, so what is checked is what runs.
    options += ["-ftz=true", "-default-device"]
    program = ctypes.c_void_p()

    def check(status: int) -> None:
        if status:
            what = nvrtc.nvrtcGetErrorString(status).decode()
            raise KernelCompileError(f"{stem}.cu, {architecture}: {what}\n{log()}")

    def log() -> str:
        size = ctypes.c_size_t()
        if nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)):
            return ""
        buffer = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, buffer)
        return buffer.value.decode(errors="replace")

    check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), f"{stem}.cu".encode(), 0, None, None))
    try:
        for instance in instances:
            check(nvrtc.nvrtcAddNameExpression(program, instance.expression.encode()))
        encoded = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
        check(nvrtc.nvrtcCompileProgram(program, len(options), encoded))
        size = ctypes.c_size_t()
        check(nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size)))
        cubin = ctypes.create_string_buffer(size.value)
        check(nvrtc.nvrtcGetCUBIN(program, cubin))
        check(nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size)))
        ptx = ctypes.create_string_buffer(size.value)
        check(nvrtc.nvrtcGetPTX(program, ptx))
        names = {}
        for instance in instances:
            lowered = ctypes.c_char_p()
            check(nvrtc.nvrtcGetLoweredName(program, instance.expression.encode(), ctypes.byref(lowered)))
            names[instance] = (lowered.value or b"").decode()
        text_log = log()
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    by_name = parse_resources(text_log)
    missing = [i.expression for i, name in names.items() if name not in by_name]
    if missing:
        raise KernelCompileError(f"{stem}.cu, {architecture}: no code for {', '.join(missing)}.\n{text_log}")
    resources = {instance: by_name[name] for instance, name in names.items()}
    return CompiledFile(stem, architecture, cubin.raw, resources, text_log, ptx.value.decode())


def parse_resources(log: str) -> dict[str, Resources]:
    """Each entry function's resources, from what `--ptxas-options=-v` makes the assembler print.

    >>> parse_resources('''ptxas info    : Compiling entry function 'f' for 'sm_90'
    ... ptxas info    : Function properties for f
    ...     8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
    ... ptxas info    : Used 32 registers, used 1 barriers, 128 bytes smem''')
    {'f': Resources(registers=32, stack_bytes=8, spill_store_bytes=4, spill_load_bytes=12, static_shared_bytes=128)}
    """
    result = {}
    for part in re.split(r"Compiling entry function '", log)[1:]:
        name = part.partition("'")[0]
        # A function that is called and not inlined has a block of properties of its own, before or after the entry's.
        own = re.search(rf"Function properties for {re.escape(name)}\n(.*)", part)
        frame = (
            re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", own[1])
            if own
            else None
        )
        used = re.search(r"Used (\d+) registers", part)
        shared = re.search(r"(\d+) bytes smem", part)
        if frame and used:
            result[name] = Resources(
                int(used[1]), int(frame[1]), int(frame[2]), int(frame[3]), int(shared[1]) if shared else 0
            )
    return result
