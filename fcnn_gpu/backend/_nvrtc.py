"""Compile the kernels for any GPU architecture with NVIDIA's run-time compiler alone: no driver, GPU or CuPy.

Two wheels are enough, compiler and headers, so every machine that tests this project can tell whether each kernel
compiles for each architecture, and with what registers. CUDA 12's are `nvidia-cuda-nvrtc-cu12` and
`nvidia-cuda-runtime-cu12`, CUDA 13's `nvidia-cuda-nvrtc` and `nvidia-cuda-runtime`. Both can be loaded side by side.
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

HOW_TO_INSTALL = {
    12: "pip install nvidia-cuda-nvrtc-cu12 nvidia-cuda-runtime-cu12",
    13: "pip install 'nvidia-cuda-nvrtc==13.*' 'nvidia-cuda-runtime==13.*'",
}

WHEELS = "FCNN_NVRTC_PATH"
"""Names folders that NVIDIA's wheels were installed into with `pip install --target`, beside the environment's own."""


SYSTEM = (Path("/usr/local/cuda"), Path("/usr"))
"""Whose include/ may have CUDA's headers where neither wheels nor a toolkit's variable name any."""


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
    names: dict[Instance, str]  # in the PTX and the cubin
    log: str
    ptx: str


@dataclasses.dataclass(frozen=True)
class Compiler:
    """NVRTC, and the headers of its own generation of CUDA: those of another may not compile."""

    library: ctypes.CDLL
    version: tuple[int, int]
    headers: Path


def _wheel_folders() -> list[Path]:
    """The folders of NVIDIA's wheels: nvidia/cuda_nvrtc, nvidia/cuda_runtime (CUDA 12), nvidia/cu13 (CUDA 13)."""
    spec = importlib.util.find_spec("nvidia")
    roots = [Path(p) for p in spec.submodule_search_locations or ()] if spec else []
    roots += [Path(p) / "nvidia" for p in os.environ.get(WHEELS, "").split(os.pathsep) if p]
    folders = sorted(folder for root in roots if root.is_dir() for folder in root.iterdir() if folder.is_dir())
    return list(dict.fromkeys(folders))


def _toolkits() -> list[Path]:
    return [Path(os.environ[v]) for v in ("CUDA_PATH", "CUDA_HOME") if v in os.environ]


def _libraries() -> list[str]:
    """Where NVRTC may be: wheels first, then a toolkit, then wherever the system looks."""
    names = [
        str(path)
        for folder in _wheel_folders()
        for pattern in ("lib/libnvrtc.so.*", "bin/nvrtc64_*_0.dll", "bin/*/nvrtc64_*_0.dll")
        for path in sorted(folder.glob(pattern))
        if ".alt." not in path.name
    ]
    names += [str(p) for toolkit in _toolkits() for p in sorted(toolkit.glob("lib64/libnvrtc.so"))]
    found = ctypes.util.find_library("nvrtc")
    return names + ([found] if found else [])


@functools.cache
def _headers() -> dict[int, Path]:
    """The folder that holds cuda_fp16.h, by CUDA's major version."""
    folders = [folder / "include" for folder in (*_wheel_folders(), *_toolkits(), *SYSTEM)]
    found: dict[int, Path] = {}
    for folder in folders:
        runtime = folder / "cuda_runtime_api.h"
        if not runtime.is_file() or not (folder / "cuda_fp16.h").is_file():
            continue
        version = re.search(r"#define\s+CUDART_VERSION\s+(\d+)", runtime.read_text(encoding="utf-8", errors="replace"))
        if version:
            found.setdefault(int(version[1]) // 1000, folder)
    return found


@functools.cache
def _loaded() -> dict[int, tuple[ctypes.CDLL, tuple[int, int]]]:
    """NVRTC by CUDA's major version."""
    found: dict[int, tuple[ctypes.CDLL, tuple[int, int]]] = {}
    for name in _libraries():
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        if library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)) == 0:
            found.setdefault(major.value, (library, (major.value, minor.value)))
    return found


def find_compiler(generation: int | None = None) -> Compiler:
    """NVRTC with its headers.

    Args:
        generation: CUDA's major version, 12 or 13; None takes the first that is complete.

    Raises:
        NvrtcNotFound: compiler or headers are missing; the message says how to get them.
    """
    wanted = sorted({*HOW_TO_INSTALL, *_loaded()}) if generation is None else [generation]
    for major in wanted:
        if major in _loaded() and major in _headers():
            library, version = _loaded()[major]
            return Compiler(library, version, _headers()[major])
    advice = HOW_TO_INSTALL.get(wanted[0], f"install CUDA {wanted[0]}")
    which = "" if generation is None else f" {generation}"
    if any(major in _loaded() for major in wanted):
        raise NvrtcNotFound(
            f"CUDA's headers (cuda_runtime_api.h, cuda_fp16.h) of NVRTC{which}'s own version are not installed. "
            f"Install them: {advice}"
        )
    tried = _libraries()
    looked_at = f" (tried {', '.join(tried)})" if tried else ""
    raise NvrtcNotFound(f"NVRTC{which}, CUDA's run-time compiler, is not installed{looked_at}. Install it: {advice}")


def missing_nvrtc(generation: int | None = None) -> str | None:
    """Why kernels cannot be compiled here, or None if they can; see `find_compiler`."""
    try:
        find_compiler(generation)
    except NvrtcNotFound as error:
        return str(error)
    return None


def compile_check(stem: str, architecture: str, generation: int | None = None) -> CompiledFile:
    """Compile every instance of kernels/<stem>.cu that an architecture can have.

    Args:
        stem: the kernel file.
        architecture: such as "sm_90".
        generation: NVRTC's major version; see `find_compiler`.

    Raises:
        KernelCompileError: with the compiler's log.
        NvrtcNotFound: the compiler or CUDA's headers are not installed.

    >>> compile_check("dropout", "sm_90").architecture  # doctest: +SKIP
    'sm_90'
    """
    return compile_instances(stem, source(stem), instances_for(stem, architecture), architecture, generation)


def instances_for(stem: str, architecture: str) -> list[Instance]:
    """The instances of kernels/<stem>.cu that are declared for an architecture such as "sm_75"."""
    number = int(re.sub(r"\D", "", architecture))
    return [i for kernel in kernels(stem).values() for i in kernel.instances if number >= i.first_architecture]


def compile_instances(
    stem: str, text: str, instances: Sequence[Instance], architecture: str, generation: int | None = None
) -> CompiledFile:
    """Compile the given instances of kernel source `text`; see `compile_check`."""
    compiler = find_compiler(generation)
    nvrtc = compiler.library
    options = [*COMPILE_OPTIONS, f"-arch={architecture}", f"-I{compiler.headers}", "--ptxas-options=-v"]
    # CuPy compiles with these, so what is checked is what runs.
    options += ["-ftz=true", "-default-device"]
    program = ctypes.c_void_p()

    def check(status: int) -> None:
        if status:
            what = nvrtc.nvrtcGetErrorString(status).decode()
            version = ".".join(map(str, compiler.version))
            raise KernelCompileError(f"{stem}.cu, {architecture}, NVRTC {version}: {what}\n{log()}")

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
    return CompiledFile(stem, architecture, cubin.raw, resources, names, text_log, ptx.value.decode())


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
