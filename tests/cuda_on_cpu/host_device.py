"""`HostDevice`: compiles a kernel file with the host C++ compiler and executes it on NumPy arrays.

What a launch checks beyond its results: every read and write outside an argument array (they lie between guard
pages and poisoned red zones), writes to const arrays, indices outside shared arrays, misaligned vector accesses,
barriers and warp collectives that not every thread reaches, undefined integer arithmetic. Shared memory starts as
NaN in every block; blocks, warps and lanes run in an order shuffled by `seed`; data races are found (races.hpp).
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Executor, wait
from pathlib import Path
from typing import Any

import numpy as np

from fcnn_gpu._types import Array
from fcnn_gpu.backend._kernel_source import Instance, Kernel, kernels, source, stems
from fcnn_gpu.backend._kernels import Argument, KernelCompileError

HERE = Path(__file__).parent

_COMMON_FLAGS = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno")
_PART_FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror")
# Checks of the kernel's own arithmetic and indices; scheduler.cpp has the functions that they call. Uninitialized
# variables hold a pattern instead of a lucky zero. Templates' statics stay private to their library.
_KERNEL_FLAGS = (
    "-O1",
    "-Wall",
    "-Werror",
    "-Wno-unknown-pragmas",
    "-Wno-unused-variable",  # constants that only a pragma names
    "-fno-gnu-unique",
    "-fno-threadsafe-statics",  # shared arrays of 16-bit types: there is one thread
    "-ftrivial-auto-var-init=pattern",
    "-fsanitize=bounds,alignment,integer-divide-by-zero,shift,signed-integer-overflow",
)
# The calls before loads and stores are defined in races.cpp. As functions are linked without the sanitizer's library,
# the compiler is told not to note their beginnings and ends.
_RACE_FLAGS = ("-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0")


class KernelFault(RuntimeError):
    """A kernel did what would crash, hang or read garbage on a GPU; the message says which thread did what, where."""


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("host", ctypes.c_void_p),
        ("bytes", ctypes.c_uint64),
        ("alignment_offset", ctypes.c_uint64),
        ("writable", ctypes.c_int32),
    )


class _Argument(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("buffer", ctypes.c_int64),
        ("offset", ctypes.c_uint64),
        ("value", ctypes.c_void_p),
        ("size", ctypes.c_uint64),
    )


class _SharedArray(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("begin", ctypes.c_void_p), ("bytes", ctypes.c_uint64))


class _Launch(ctypes.Structure):
    _fields_ = (
        ("entry", ctypes.c_uint64),
        ("grid", ctypes.c_uint32),
        ("block", ctypes.c_uint32),
        ("dynamic_shared", ctypes.c_uint64),
        ("seed", ctypes.c_uint64),
        ("check_races", ctypes.c_uint64),
        ("n_buffers", ctypes.c_uint64),
        ("buffers", ctypes.POINTER(_Buffer)),
        ("n_arguments", ctypes.c_uint64),
        ("arguments", ctypes.POINTER(_Argument)),
        ("n_static_shared", ctypes.c_uint64),
        ("static_shared", ctypes.POINTER(_SharedArray)),
        ("stacks", ctypes.c_void_p),
    )


def missing_compiler() -> str | None:
    """Why kernels cannot be executed here, or None if they can."""
    if os.name != "posix":
        return "CUDA on the CPU needs a POSIX system (signals and guard pages)."
    if _compiler() is None:
        return "CUDA on the CPU needs g++ 12 or later: install it, or name a compiler in the variable CXX."
    return None


def _compiler() -> str | None:
    return shutil.which(os.environ.get("CXX", "g++"))


class _Library:
    """The compiled instances of one kernel file."""

    def __init__(self, path: Path, expressions: Sequence[str]) -> None:
        library = ctypes.CDLL(str(path), mode=os.RTLD_LOCAL | os.RTLD_NOW)
        self.launch = library.cuda_on_cpu_launch
        self.launch.argtypes = (ctypes.POINTER(_Launch), ctypes.c_char_p, ctypes.c_size_t)
        self.launch.restype = ctypes.c_int
        self.make_stacks = library.cuda_on_cpu_make_stacks
        self.make_stacks.restype = ctypes.c_void_p
        self.index = {expression: i for i, expression in enumerate(expressions)}
        self.static_shared = self._static_shared(path)

    def _static_shared(self, path: Path) -> Any:
        # A static variable of a function has a local name (_ZZ...). Kernels have no other than their shared arrays.
        listing = subprocess.run(
            ["nm", "-S", "--defined-only", str(path)], check=True, capture_output=True, text=True
        ).stdout
        symbols = [line.split() for line in listing.splitlines()]
        entry = ctypes.cast(self.launch, ctypes.c_void_p).value
        assert entry is not None
        base = entry - next(int(s[0], 16) for s in symbols if s[-1] == "cuda_on_cpu_launch")
        shared = [s for s in symbols if len(s) == 4 and s[2] in "bBvVuU" and s[3].startswith("_ZZ")]
        arrays = [
            _SharedArray(_last_name(s[3]).encode(), base + int(s[0], 16), int(s[1], 16))
            for s in shared
            if "cuda_on_cpu" not in s[3]
        ]
        return (_SharedArray * len(arrays))(*arrays)


def _last_name(mangled: str) -> str:
    """The variable's name at the end of a mangled one: `of_warp` of `_ZZ12block_reduceI...EvE7of_warp`."""
    for match in reversed(list(re.finditer(r"(?<!\d)\d+", mangled))):
        name = mangled[match.end() : match.end() + int(match[0])]
        if len(name) == int(match[0]) and name.isidentifier():
            return name
    return mangled


class HostDevice:
    """Executes kernels on NumPy arrays.

    Args:
        seed: the order of blocks, warps and lanes; with 0, blocks run in their order.
        check_races: look at every access, and stop a launch at the first data race or read of shared memory that
            nothing was written to (races.hpp). A launch takes about three times as long.
        sources: kernel text by stem, for kernels that are not files (tests of the emulation itself).
    """

    array_type: type = np.ndarray

    def __init__(
        self,
        *,
        seed: int = 1,
        check_races: bool = True,
        sources: dict[str, tuple[str, dict[str, Kernel]]] | None = None,
    ) -> None:
        self.seed = seed
        self.check_races = check_races
        self._sources = sources or {}
        self._libraries: dict[str, _Library] = {}

    def address(self, array: Array) -> int:
        return int(array.ctypes.data)

    def prepare(self, kernel: Kernel, instance: Instance) -> None:
        self._library(kernel.stem)

    def _library(self, stem: str) -> _Library:
        if stem not in self._libraries:
            text, found = self._sources[stem] if stem in self._sources else (source(stem), kernels(stem))
            self._libraries[stem] = _load(stem, text, _expressions(found), self.check_races)
        return self._libraries[stem]

    def _looks_for_races(self, instance: Instance, grid: int, block: int, arguments: Sequence[Argument]) -> bool:
        """Whether this launch is watched, where the kernels were compiled to be."""
        return self.check_races

    def run(
        self,
        kernel: Kernel,
        instance: Instance,
        grid: int,
        block: int,
        shared: int,
        arguments: Sequence[Argument],
    ) -> None:
        library = self._library(kernel.stem)
        regions = merged_regions(arguments)
        buffers = (_Buffer * max(1, len(regions)))(*(region.buffer() for region in regions))
        numbers = ctypes.create_string_buffer(16 * max(1, len(arguments)))
        marshalled = (_Argument * max(1, len(arguments)))(*_marshalled(arguments, regions, numbers))
        launch = _Launch(
            library.index[instance.expression],
            grid,
            block,
            shared,
            self.seed,
            self._looks_for_races(instance, grid, block, arguments),
            len(regions),
            buffers,
            len(arguments),
            marshalled,
            len(library.static_shared),
            library.static_shared,
            _stacks(library),
        )
        message = ctypes.create_string_buffer(2048)
        with _ONE_AT_A_TIME:
            failed = library.launch(ctypes.byref(launch), message, len(message))
        if failed:
            raise KernelFault(f"{instance.expression} ({kernel.stem}.cu): {message.value.decode(errors='replace')}")


_ONE_AT_A_TIME = threading.Lock()  # a library's scheduler is one


_STACKS: list[int] = []


def _stacks(library: _Library) -> int:
    """The address of the process's thread stacks, made by whichever library comes first."""
    if not _STACKS:
        address = library.make_stacks()
        if not address:
            raise MemoryError("There is no memory for the stacks of 1024 threads (132 MiB of address space).")
        _STACKS.append(address)
    return _STACKS[0]


class Region:
    """A stretch of host memory that one or several arguments lie in: `offsets` by the arguments' numbers."""

    def __init__(self, begin: int, array: Array) -> None:
        self.begin = self.end = begin
        self.names: dict[str, None] = {}
        self.offsets: dict[int, int] = {}
        self.writable = False
        base = array
        while isinstance(base.base, np.ndarray):
            base = base.base
        # A device allocation is aligned to 256 bytes or more; a view into it has the alignment of its offset.
        self.alignment_offset = 0 if base is array else (begin - _address(base)) % 256

    def add(self, number: int, argument: Argument, begin: int, end: int) -> None:
        self.end = max(self.end, end)
        self.names[argument.parameter.name] = None
        self.offsets[number] = begin - self.begin
        self.writable |= not argument.parameter.is_const

    def buffer(self) -> _Buffer:
        name = " and ".join(self.names).encode()
        return _Buffer(name, self.begin, self.end - self.begin, self.alignment_offset, self.writable)


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def merged_regions(arguments: Sequence[Argument]) -> list[Region]:
    """One region per stretch of memory: arrays that overlap share it, as they would on a device."""
    spans = []
    for number, argument in enumerate(arguments):
        array = argument.value
        if isinstance(array, np.ndarray):
            begin = _address(array)
            last = sum((n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)) if array.size else 0
            spans.append((begin, begin + (last + array.itemsize if array.size else 0), number, argument))
    regions: list[Region] = []
    for begin, end, number, argument in sorted(spans, key=lambda s: s[:2]):
        if not regions or begin >= regions[-1].end:
            regions.append(Region(begin, argument.value))
        regions[-1].add(number, argument, begin, end)
    return regions


def _marshalled(arguments: Sequence[Argument], regions: list[Region], numbers: Any) -> list[_Argument]:
    """The arguments for C; those that are no arrays are written to `numbers`, 16 bytes for each."""
    places = {number: (i, offset) for i, region in enumerate(regions) for number, offset in region.offsets.items()}
    start = ctypes.addressof(numbers)
    out = []
    for number, argument in enumerate(arguments):
        name = argument.parameter.name.encode()
        if number in places:
            region, offset = places[number]
            out.append(_Argument(name, region, offset, None, 8))
        else:
            value = np.uint64(0) if argument.value is None else np.asarray(argument.value)
            numbers[16 * number : 16 * number + value.nbytes] = value.tobytes()
            out.append(_Argument(name, -1, 0, start + 16 * number, value.nbytes))
    return out


def build_kernels(pool: Executor) -> None:
    """Compile every kernel file that is not in the cache yet, several at a time: whoever needs one finds it."""
    for name in ("scheduler", "races"):
        _part(name)
    _header(HostDevice().check_races)
    largest_first = sorted(stems(), key=lambda stem: -sum(len(k.instances) for k in kernels(stem).values()))
    jobs = [
        pool.submit(_compiled, stem, source(stem), _expressions(kernels(stem)), HostDevice().check_races)
        for stem in largest_first
    ]
    if wait(jobs, timeout=2).not_done:
        print("Compiling the kernels for the CPU, which later runs need not do ...", flush=True)
    for job in jobs:
        job.result()


def _expressions(found: dict[str, Kernel]) -> tuple[str, ...]:
    return tuple(i.expression for k in found.values() for i in k.instances)


@functools.cache
def _load(stem: str, text: str, expressions: tuple[str, ...], check_races: bool) -> _Library:
    return _Library(_compiled(stem, text, expressions, check_races), expressions)


def _compiled(stem: str, text: str, expressions: tuple[str, ...], check_races: bool) -> Path:
    # g++ has no counterpart of `extern __shared__`: the scheduler defines the one array that it may name.
    body = text.replace("extern __shared__", "extern")
    header = _header(check_races)
    entries = ",\n    ".join(f"EntryOf<&::{e}>::entry()" for e in expressions)
    program = (
        f'#include "{header.name}"\n{body}\n#undef __shared__\n'
        f"namespace cuda_on_cpu {{\nconst Entry entries[] = {{\n    {entries}}};\n"
        f"const size_t n_entries = {len(expressions)};\n}}\n"
    )
    kernels_object = built(f"{stem}.o", (*_flags(check_races), "-c", f"-I{header.parent}"), program)
    # Linked without the sanitizers' flags, which would bring their libraries.
    return built(f"{stem}.so", ("-shared",), kernels_object, *map(_part, ("scheduler", "races")))


def _flags(check_races: bool) -> tuple[str, ...]:
    return (*_COMMON_FLAGS, *_KERNEL_FLAGS, *(_RACE_FLAGS if check_races else ()))


@functools.cache
def _header(check_races: bool) -> Path:
    """A header that includes cuda_on_cpu.hpp, beside its precompiled form: g++ takes that if the flags are the same."""
    text = '#include "cuda_on_cpu.hpp"\n'
    header = built("cuda_on_cpu.hpp.gch", (*_flags(check_races), "-x", "c++-header"), text).with_suffix("")
    if not header.exists():
        written = header.with_name(f"{header.name}.{os.getpid()}")
        written.write_text(text, encoding="utf-8")
        written.replace(header)
    return header


@functools.cache
def _part(name: str) -> Path:
    """A part of the emulation itself, compiled."""
    return built(f"{name}.o", (*_COMMON_FLAGS, *_PART_FLAGS, "-c"), (HERE / f"{name}.cpp").read_text(encoding="utf-8"))


def built(name: str, flags: Sequence[str], *inputs: str | Path) -> Path:
    """The compiler's output for program texts and objects, cached in a folder under the hash of what it depends on."""
    compiler = _compiler()
    if compiler is None:
        raise FileNotFoundError(missing_compiler())
    extra = tuple(os.environ.get("CXXFLAGS", "").split())
    key = hashlib.sha256(repr((tuple(flags), compiler, extra)).encode())
    for header in (*sorted(HERE.glob("*.hpp")), *sorted((HERE / "include").glob("*.h"))):
        key.update(header.read_bytes())
    for part in inputs:
        key.update(part.encode() if isinstance(part, str) else part.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"cuda_on_cpu-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / f"{key.hexdigest()[:24]}-{name}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            files = []
            for part in inputs:
                file = part if isinstance(part, Path) else Path(scratch) / "program.cpp"
                if isinstance(part, str):
                    file.write_text(part, encoding="utf-8")
                files.append(str(file))
            output = Path(scratch) / name
            command = [compiler, *flags, *extra, f"-I{HERE}", f"-I{HERE / 'include'}", *files, "-o", str(output)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise KernelCompileError(f"{name} does not compile for the CPU:\n{done.stderr[-6000:]}")
            output.replace(target)
    return target
