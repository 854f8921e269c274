"""loops.c, compiled for each instruction level: a loop over each function of elementary.h and activation.h."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._compiled._build import COMMON, EXACT, LEVELS, compiler
from fcnn_gpu.backend._cpu import read_cpu

from ..support.compiled import missing_c_compiler

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "kernels" / "cpu"
FLAGS = LEVELS.get({"AMD64": "x86_64"}.get(platform.machine(), platform.machine()), {"baseline": ""})
"""The compiler's flags by instruction level, of this machine's architecture."""
_NEEDED = {"v2": {"sse4_2"}, "v3": {"avx2", "fma"}, "v4": {"avx512f", "avx512vl"}}
_NO_LIBM = ["-nostdlib", "-Wl,-z,defs", "-lc"] if sys.platform.startswith("linux") else []
"""A function of libm that is called is an error of the linker. memcpy is libc's."""

DTYPES = [
    np.float32,
    pytest.param(
        np.float64,
        marks=pytest.mark.skipif(
            np.finfo(np.longdouble).nmant < 63, reason="long double is no more precise than double here"
        ),
    ),
]
"""The types, the second one where there is a wider one to compare it in."""


class Loops:
    """The functions, compiled for one level.

    Attributes:
        has_fma: whether the level has fused multiply-add.
        vectorized: what GCC has noted on loops, by the number of their line; None from another compiler.
    """

    def __init__(self, level: str, path: Path, vectorized: dict[int, list[str]] | None) -> None:
        self.level = level
        self.vectorized = vectorized
        self._library = ctypes.CDLL(str(path))
        self.has_fma = bool(ctypes.c_int.in_dll(self._library, "has_fma").value)

    def compute(self, name: str, x: HostArray, alpha: float = 0.0) -> HostArray:
        """f(x), for x (n,) of float32 or float64."""
        assert x.flags.c_contiguous
        out = np.full_like(x, 12345.0)
        function = getattr(self._library, f"each_{name}_f{8 * x.itemsize}_{self.level}")
        function.restype = None
        pointers = (ctypes.c_void_p(array.ctypes.data) for array in (x, out))
        x_pointer, out_pointer = pointers
        function(ctypes.c_ssize_t(x.size), x_pointer, ctypes.c_double(alpha), out_pointer)
        return out


@functools.cache
def _lacking(level: str) -> set[str]:
    return _NEEDED.get(level, set()) - set(read_cpu().instruction_sets)


def available_levels() -> list[str]:
    """The levels that this CPU has; skips the test where there is none."""
    levels = [level for level in FLAGS if not _lacking(level)]
    return levels if levels else pytest.skip("the system does not say which instruction sets this CPU has")


@functools.cache
def loops(level: str) -> Loops:
    """The functions for a level; skips the test where it cannot be compiled or this CPU does not have it."""
    lacking = _lacking(level)
    if lacking:
        pytest.skip(f"this CPU has no {', '.join(sorted(lacking))}, as far as its system says")
    built = _built(level)
    assert isinstance(built, Path), built
    notes = built.with_suffix(".txt")
    return Loops(level, built, _vectorized(notes.read_text(encoding="utf-8")) if notes.exists() else None)


@functools.cache
def _built(level: str) -> Path | str:
    """The library, beside it GCC's notes; or what the compiler says, once: it is not asked again for every test."""
    reason = missing_c_compiler()
    if reason:
        pytest.skip(reason)
    command = compiler()
    about = subprocess.run([*command, "--version"], check=True, capture_output=True, text=True).stdout
    is_gcc = "Free Software Foundation" in about
    options = [*COMMON, *FLAGS[level].split(), f"-DLEVEL={level}", EXACT, "-Werror", "-shared"]
    options += [] if sys.platform == "win32" else ["-fPIC"]
    options += ["-fopt-info-vec-optimized"] if is_gcc else []
    command = [*command, *options, f"-I{KERNELS}", f"-I{HERE}", str(HERE / "loops.c"), *_NO_LIBM]
    key = hashlib.sha256(repr((command, about)).encode())
    for source in (HERE / "loops.c", *sorted(KERNELS.glob("*.h"))):
        key.update(source.read_bytes())
    built = Path(tempfile.gettempdir()) / f"fcnn_gpu-loops-{level}-{key.hexdigest()[:16]}{_user()}.so"
    if not built.exists():
        with tempfile.TemporaryDirectory(dir=built.parent) as folder:
            library, notes = Path(folder) / "library", Path(folder) / "notes"
            done = subprocess.run([*command, "-o", str(library)], capture_output=True, text=True, check=False)
            if done.returncode:
                return f"loops.c does not compile for {level}:\n{done.stderr}"
            if is_gcc:
                notes.write_text(done.stderr, encoding="utf-8")
                notes.replace(built.with_suffix(".txt"))
            library.replace(built)
    return built


def _user() -> str:
    return f"-{os.getuid()}" if hasattr(os, "getuid") else ""


def _vectorized(notes: str) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for line in notes.splitlines():
        place, _, note = line.partition(": optimized: loop vectorized using ")
        if note:
            found.setdefault(int(place.split(":")[-2]), []).append(note)
    return found


def line_of(function: str) -> int:
    """The number of the line in loops.c that the loop over a function has."""
    lines = (HERE / "loops.c").read_text(encoding="utf-8").splitlines()
    return next(i for i, line in enumerate(lines, 1) if line.startswith((f"LOOP({function})", f"LOOP({function},")))


def same_bits(a: HostArray, b: HostArray) -> bool:
    """Whether all numbers are the same, −0 and 0 being two; NaN is NaN, whatever its payload."""
    words = f"u{a.itemsize}"
    return bool(((a.view(words) == b.view(words)) | (np.isnan(a) & np.isnan(b))).all())
