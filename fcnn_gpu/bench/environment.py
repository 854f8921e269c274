"""What the processes of a benchmark run in: environment variables, threads and CPUs, the same for every library."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend._blas import KERNEL_VARIABLES
from ..backend._cpu import physical_cpus, usable_cores
from .settings import Settings

RESTRICTING = (
    # which kernels a library takes for this CPU
    *KERNEL_VARIABLES,
    "ONEDNN_MAX_CPU_ISA",
    "ONEDNN_CPU_ISA_HINTS",
    "DNNL_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
    "XLA_FLAGS",
    # how its threads are placed and wait
    "GOTO_NUM_THREADS",
    "OPENBLAS_THREAD_TIMEOUT",
    "OMP_WAIT_POLICY",
    "OMP_PROC_BIND",
    "OMP_PLACES",
    "OMP_DYNAMIC",
    "OMP_THREAD_LIMIT",
    "GOMP_CPU_AFFINITY",
    "GOMP_SPINCOUNT",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    "MKL_DYNAMIC",
    "NPROC",
    "PJRT_NPROC",
    # what it computes with, and checks
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_DISABLE_JIT",
    "JAX_ENABLE_X64",
    "JAX_DEBUG_NANS",
    "JAX_PLATFORMS",
    "TORCH_COMPILE_DISABLE",
    "TORCHDYNAMO_DISABLE",
    "TORCHINDUCTOR_FREEZING",
    "TORCHINDUCTOR_MAX_AUTOTUNE",
    "PYTHONDEVMODE",
    "PYTHONMALLOC",
    "PYTHONTRACEMALLOC",
)
"""Variables that speed up or slow down one library alone. None of them reaches a worker, unless we set it for all."""

_THREAD_COUNTS = (
    "FCNN_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_COMPILING = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
"""More would be processes that outlive the compilation, and have a say in what is timed next."""
_AVX2 = {
    "OPENBLAS_CORETYPE": "Haswell",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
}


@dataclass(frozen=True)
class Environment:
    """What a worker starts with.

    Attributes:
        variables: its whole environment.
        changed: the variables that we set, and their values.
        removed: those that we took out, and the values they had.
        threads: of every library.
        cpus: the logical CPUs it may run on, one for each thread; None where the system cannot say.
        notes: what a reader of the results should know about it.
    """

    variables: dict[str, str]
    changed: dict[str, str]
    removed: dict[str, str]
    threads: int
    cpus: list[int] | None
    notes: list[str]

    def plain(self) -> dict[str, Any]:
        """As JSON data, without the variables that have nothing to do with the benchmark."""
        return {"threads": self.threads, "cpus": self.cpus, "set": self.changed, "removed": self.removed}


def worker_environment(
    settings: Settings, backend: str = "numpy", inherited: Mapping[str, str] | None = None
) -> Environment:
    """The environment of every worker of a run, from this process's own (or `inherited`).

    Raises ValueError for more threads than there are CPUs, and for "avx2" on a processor without x86's instructions.
    """
    inherited = os.environ if inherited is None else inherited
    notes = []
    cpus = physical_cpus()
    threads = usable_cores() if settings.threads is None else settings.threads
    usable = sorted(os.sched_getaffinity(0)) if cpus is not None else list(range(os.cpu_count() or 1))
    if threads > len(usable):
        raise ValueError(f"threads={threads} exceeds the {len(usable)} CPUs that this process may use.")
    if cpus is None:
        notes.append(
            "This system cannot bind a process to CPUs: JAX and XLA choose their number of threads by themselves."
        )
        chosen = None
    else:
        chosen = (cpus + [cpu for cpu in usable if cpu not in cpus])[:threads]

    changed = dict.fromkeys(_THREAD_COUNTS, str(threads)) | _COMPILING
    if not backend.startswith("cupy"):
        changed["JAX_PLATFORMS"] = "cpu"
    else:
        changed["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the libraries share the device's memory
        changed["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"  # float32 products in float32, as in the other libraries
    if settings.instructions == "avx2":
        if platform.machine().lower() not in ("x86_64", "amd64"):
            raise ValueError(f"instructions='avx2' needs an x86-64 processor, this one is {platform.machine()}.")
        changed |= _AVX2
        beyond = _numpy_features_beyond_avx2()
        if beyond:
            changed["NPY_DISABLE_CPU_FEATURES"] = " ".join(beyond)
        notes.append(
            "Every library was restricted to AVX2 (instructions='avx2') as far as it can be: JAX's matrix products "
            "come from a library that does not heed XLA's limit, so nothing follows from a comparison with JAX."
        )
    present = {name: inherited[name] for name in RESTRICTING if name in inherited}
    removed = {} if settings.keep_environment else {n: v for n, v in present.items() if changed.get(n) != v}
    if settings.keep_environment and present:
        kept = ", ".join(f"{name}={value}" for name, value in present.items())
        notes.append(f"Variables that restrict single libraries were kept: {kept}.")
    elif removed:
        listed = ", ".join(f"{name}={value}" for name, value in removed.items())
        notes.append(f"Variables that restrict single libraries were taken out of the workers' environment: {listed}.")
    variables = {name: value for name, value in inherited.items() if name not in removed} | changed
    return Environment(variables, changed, removed, threads, chosen, notes)


def _numpy_features_beyond_avx2() -> list[str]:
    """NumPy's names for the instruction sets past AVX2 that it was built with."""
    simd = np.show_config(mode="dicts")["SIMD Extensions"]
    names = [*simd.get("found", []), *simd.get("not found", [])]
    return [name for name in names if "AVX512" in name or name == "X86_V4"]
