"""The environment of the workers: threads, CPUs, and what may not restrict one library alone."""

from __future__ import annotations

import os

import pytest

from fcnn_gpu.backend._blas import numpy_blas, numpy_simd
from fcnn_gpu.bench import environment
from fcnn_gpu.bench._worker import call_apart
from fcnn_gpu.bench.environment import worker_environment
from fcnn_gpu.bench.settings import Settings

INHERITED = {"HOME": "/home/someone", "OPENBLAS_CORETYPE": "Haswell", "OMP_NUM_THREADS": "64", "XLA_FLAGS": "--x"}


def test_restrictions_of_single_libraries_are_taken_out_and_named() -> None:
    found = worker_environment(Settings(threads=1), inherited=INHERITED)
    assert found.removed == {"OPENBLAS_CORETYPE": "Haswell", "XLA_FLAGS": "--x"}
    assert "OPENBLAS_CORETYPE" not in found.variables
    assert found.variables["HOME"] == "/home/someone"
    assert any("OPENBLAS_CORETYPE=Haswell" in note for note in found.notes)


def test_every_library_gets_the_same_number_of_threads() -> None:
    found = worker_environment(Settings(threads=1), inherited=INHERITED)
    counts = {name: found.variables[name] for name in found.variables if name.endswith("_NUM_THREADS")}
    assert set(counts.values()) == {"1"}
    assert {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"} <= set(counts)
    assert found.variables["FCNN_THREADS"] == "1"
    assert found.cpus is None or len(found.cpus) == 1


def test_restrictions_stay_where_that_is_asked_for_and_are_named() -> None:
    found = worker_environment(Settings(threads=1, keep_environment=True), inherited=INHERITED)
    assert found.removed == {}
    assert found.variables["OPENBLAS_CORETYPE"] == "Haswell"
    assert any("were kept" in note and "OPENBLAS_CORETYPE=Haswell" in note for note in found.notes)


def test_avx2_restricts_every_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    found = worker_environment(Settings(threads=1, instructions="avx2"), inherited=INHERITED)
    assert found.changed["OPENBLAS_CORETYPE"] == "Haswell"
    assert found.changed["XLA_FLAGS"] == "--xla_cpu_max_isa=AVX2"
    assert {"ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS"} <= set(found.changed)
    assert found.removed == {"XLA_FLAGS": "--x"}  # OPENBLAS_CORETYPE had the value that all of them now have


def test_avx2_needs_such_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(ValueError, match="x86-64 processor, this one is aarch64"):
        worker_environment(Settings(instructions="avx2"))


def test_more_threads_than_cpus_are_refused() -> None:
    with pytest.raises(ValueError, match="threads=100000 exceeds the"):
        worker_environment(Settings(threads=100_000))


def test_compilers_leave_no_processes_behind() -> None:
    assert worker_environment(Settings(threads=2), inherited={}).changed["TORCHINDUCTOR_COMPILE_THREADS"] == "1"


def test_either_backend_for_the_cpu_keeps_jax_there() -> None:
    for backend in ("numpy", "cpu"):
        assert worker_environment(Settings(threads=1), backend, INHERITED).variables["JAX_PLATFORMS"] == "cpu"


def test_a_gpu_run_shares_its_memory_and_multiplies_in_float32() -> None:
    found = worker_environment(Settings(threads=1), "cupy", INHERITED)
    assert found.variables["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert found.variables["JAX_DEFAULT_MATMUL_PRECISION"] == "highest"
    assert "JAX_PLATFORMS" not in found.variables


def test_threads_go_to_cores_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "physical_cpus", lambda: [0, 1])
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    found = worker_environment(Settings(threads=3), inherited={})
    assert found.cpus == [0, 1, 2]  # then to their second threads


def test_a_system_without_affinity_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    found = worker_environment(Settings(threads=1), inherited={})
    assert found.cpus is None
    assert any("cannot bind" in note for note in found.notes)


def _numpy_features() -> tuple[list[str], list[str | None]]:
    return numpy_simd(), [blas.kernels for blas in numpy_blas() if blas.library == "openblas"]


def test_a_worker_restricted_to_avx2_uses_nothing_beyond() -> None:
    try:
        settings = Settings(threads=1, instructions="avx2", timeout=60)
        features, kernels = call_apart(_numpy_features, settings=settings)
    except ValueError:
        pytest.skip("not an x86-64 processor")
    assert not [name for name in features if "AVX512" in name or name == "X86_V4"]
    assert set(kernels) <= {"Haswell"}
