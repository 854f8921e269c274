"""The library that multiplies NumPy's matrices, and what in the environment keeps it, or NumPy, from full speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._blas_threads import blas_pools
from ._cores import VARIABLE, named_threads
from ._cpu import Cpu

KERNEL_VARIABLES = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "BLIS_ARCH_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "NVPL_BLAS_DEBUG_CPU_TYPE",
    "NPY_DISABLE_CPU_FEATURES",
    "NPY_ENABLE_CPU_FEATURES",
)
"""By which a BLAS, or NumPy, takes other kernels than those it would choose for this CPU."""
THREAD_VARIABLES = {
    "openblas": ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"),
    "mkl": ("MKL_NUM_THREADS", "OMP_NUM_THREADS"),
    "blis": ("BLIS_NUM_THREADS", "OMP_NUM_THREADS"),
}
"""By library, what limits its threads; the first that is set counts. So it does for our own, without FCNN_THREADS."""

_CHOOSE_KERNELS = {
    "openblas": ("OPENBLAS_CORETYPE",),
    "mkl": ("MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR"),
    "blis": ("BLIS_ARCH_TYPE",),
}
"""OPENBLAS_L2_SIZE is not among them: it also mends a cache size that OpenBLAS reads wrongly in virtual machines.
MKL_DEBUG_CPU_TYPE has no effect since MKL 2020.1."""
_NAMES = {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS", "flexiblas": "FlexiBLAS"}
_WIDTHS = ("SSE", "AVX", "AVX2", "AVX-512")
"""Of x86-64's vector instructions, from the narrowest."""
_NEEDED = {"SSE": {"sse4_2"}, "AVX": {"avx"}, "AVX2": {"avx2", "fma"}, "AVX-512": {"avx512f", "avx512vl"}}
_OPENBLAS_WIDTHS = {
    "AVX-512": {"skylakex", "cooperlake", "sapphirerapids"},
    "AVX2": {"haswell", "zen", "excavator"},
    "AVX": {"sandybridge", "bulldozer", "piledriver", "steamroller"},
    "SSE": {"prescott", "core2", "penryn", "dunnington", "nehalem", "atom", "nano", "opteron", "barcelona", "bobcat"},
}
"""What OpenBLAS's kernels for x86-64 are called, by the instructions that they use (its driver/others/dynamic.c)."""


@dataclass(frozen=True)
class Blas:
    """A library that multiplies matrices.

    Attributes:
        library: "openblas", "mkl", "blis" or "flexiblas".
        version: its own, where it tells.
        kernels: the CPU family whose kernels it took ("SkylakeX"), where it tells.
        threads: that one product may use.
    """

    library: str
    version: str | None
    kernels: str | None
    threads: int

    def describe(self) -> str:
        """In words.

        >>> Blas("openblas", "0.3.30", "Haswell", 2).describe()
        'OpenBLAS 0.3.30 with its kernels for Haswell, 2 threads'
        """
        kernels = f" with its kernels for {self.kernels}" if self.kernels else ""
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        return f"{self.name} {self.version or 'of unknown version'}{kernels}, {threads}"

    @property
    def name(self) -> str:
        """As its makers write it."""
        return _NAMES.get(self.library, self.library)


@dataclass(frozen=True)
class Slowdown:
    """What makes NumPy slower than it could be on this CPU: `reason` is a sentence, `fix` a command."""

    reason: str
    fix: str


def numpy_blas() -> list[Blas]:
    """The library behind NumPy's products, as it is in this process; empty where threadpoolctl does not know it."""
    np.ones((2, 2)) @ np.ones((2, 2))  # some libraries choose their kernels at the first call
    pools = blas_pools()
    found = [Blas(p["internal_api"], p["version"], p.get("architecture"), p["num_threads"]) for p in pools]
    return list(dict.fromkeys(found))


def build_time_blas() -> str:
    """The BLAS that NumPy was built for: what is left to say where the loaded one is not known.

    >>> isinstance(build_time_blas(), str)
    True
    """
    dependencies: Any = np.show_config(mode="dicts").get("Build Dependencies", {})
    return str(dependencies.get("blas", {}).get("name", "unknown"))


def numpy_simd() -> list[str]:
    """The instruction sets beyond its baseline that NumPy's own loops use here."""
    return list(np.show_config(mode="dicts")["SIMD Extensions"].get("found", []))


def product_slowdowns(blas: Blas, cpu: Cpu, variables: Mapping[str, str]) -> list[Slowdown]:
    """What in the environment keeps matrix products from the speed that they could have."""
    found = [_kernels(blas, cpu, variables), _threads(blas, cpu, variables)]
    return [slowdown for slowdown in found if slowdown is not None]


def loop_slowdowns(variables: Mapping[str, str]) -> list[Slowdown]:
    """What in the environment keeps NumPy's element by element loops from the instructions of this CPU."""
    names = [n for n in ("NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES") if variables.get(n, "").strip()]
    if not names:
        return []
    reason = f"With {_assignments(names, variables)}, NumPy's own loops do without instruction sets of this CPU."
    return [Slowdown(reason, _unset(names))]


def _kernels(blas: Blas, cpu: Cpu, variables: Mapping[str, str]) -> Slowdown | None:
    """What fixes the library's kernels, unless they are known to be as wide as the CPU's instructions."""
    best = _width(cpu)
    widths: dict[str, str | None] = {}
    for name in _CHOOSE_KERNELS.get(blas.library, ()):
        value = variables.get(name, "").upper()
        if value in ("", "OFF", "AUTO"):  # the latter two are MKL_CBWR's
            continue
        width = _openblas_width(blas) if blas.library == "openblas" else _mkl_width(value)
        if best is None or width is None or _WIDTHS.index(width) < _WIDTHS.index(best):
            widths[name] = width
    if not widths:
        return None
    names = list(widths)
    given = _assignments(names, variables)
    known = [width for width in widths.values() if width is not None]
    if best is None or not known:
        return Slowdown(f"With {given}, {blas.name} does not choose its kernels by the CPU.", _unset(names))
    used = min(known, key=_WIDTHS.index)
    lost = "half" if (used, best) == ("AVX2", "AVX-512") else "most"
    reason = f"With {given}, products use {used} on a CPU with {best}, which can cost {lost} of their speed."
    return Slowdown(reason, _unset(names))


def _threads(blas: Blas, cpu: Cpu, variables: Mapping[str, str]) -> Slowdown | None:
    named = named_threads(variables)
    if named is not None and cpu.quota is not None and named > cpu.quota:
        granted = f"{cpu.quota} CPU{'' if cpu.quota == 1 else 's'}"
        reason = f"The control group grants the time of {granted} to {named} threads: they wait for each other."
        return Slowdown(f"With {_assignments([VARIABLE], variables)}: {reason}", _unset([VARIABLE]))
    threads = blas.threads if named is None else named
    # A variable that is not the first counts once those before it are gone: all that limit go together.
    names = (VARIABLE, *THREAD_VARIABLES.get(blas.library, ("OMP_NUM_THREADS",)))
    limiting = [name for name in names if variables.get(name, "").isdigit() and 0 < int(variables[name]) < cpu.cores]
    if threads >= cpu.cores or not limiting:
        return None
    given, idle = _assignments(limiting, variables), cpu.cores - threads
    reason = f"With {given}, {idle} of {cpu.cores} cores stay idle, unless several such processes share them."
    return Slowdown(reason, _unset(limiting))


def _width(cpu: Cpu) -> str | None:
    """The widest of x86-64's vector instructions that the CPU has; None on other CPUs, and where nothing is known."""
    have = set(cpu.instruction_sets)
    return next((width for width in reversed(_WIDTHS) if _NEEDED[width] <= have), None)


def _openblas_width(blas: Blas) -> str | None:
    kernels = (blas.kernels or "").lower()
    return next((width for width, names in _OPENBLAS_WIDTHS.items() if kernels in names), None)


def _mkl_width(value: str) -> str | None:
    """Of a value of MKL's variables: "AVX2", "AVX512_E1", "SSE4_2", "AVX2,STRICT"; None for another."""
    return next((width for width in reversed(_WIDTHS) if value.startswith(width.replace("-", ""))), None)


def _assignments(names: list[str], variables: Mapping[str, str]) -> str:
    return " and ".join(f"{name}={variables[name]}" for name in names)


def _unset(names: list[str]) -> str:
    return f"unset {' '.join(names)}"
