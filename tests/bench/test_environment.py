"""The environment of the workers: threads, CPUs, and what may not restrict one library alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fcnn_gpu.bench import environment
from fcnn_gpu.bench._worker import call_apart
from fcnn_gpu.bench.environment import cpu_quota, physical_cpus, worker_environment
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


def test_a_gpu_run_shares_its_memory_and_multiplies_in_float32() -> None:
    found = worker_environment(Settings(threads=1), "cupy", INHERITED)
    assert found.variables["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert found.variables["JAX_DEFAULT_MATMUL_PRECISION"] == "highest"
    assert "JAX_PLATFORMS" not in found.variables


def test_hyperthreads_count_as_one_core(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for cpu, core in ((0, 0), (1, 1), (2, 0), (3, 1)):
        topology = tmp_path / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text("0\n")
        (topology / "core_id").write_text(f"{core}\n")
    monkeypatch.setattr(environment, "_CPUS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    assert physical_cpus() == [0, 1]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 3}, raising=False)
    assert physical_cpus() == [1]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 7}, raising=False)
    assert physical_cpus() == [0, 7]  # a CPU without these files counts as a core
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    found = worker_environment(Settings(threads=3), inherited={})
    assert found.cpus == [0, 1, 2]  # cores first, then their second threads


def test_a_system_without_affinity_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    found = worker_environment(Settings(threads=1), inherited={})
    assert found.cpus is None
    assert any("cannot bind" in note for note in found.notes)


@pytest.mark.parametrize(("text", "cpus"), [("max 100000", 2**31), ("150000 100000", 2), ("50000 100000", 1)])
def test_a_quota_of_cpu_time_counts(text: str, cpus: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr(environment, "_QUOTA", tmp_path / "cpu.max")
    assert cpu_quota() == cpus


def _numpy_features() -> tuple[list[str], list[str]]:
    import numpy as np
    from threadpoolctl import threadpool_info

    kernels = [pool.get("architecture", "") for pool in threadpool_info() if pool["internal_api"] == "openblas"]
    return list(np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])), kernels


def test_a_worker_restricted_to_avx2_uses_nothing_beyond() -> None:
    try:
        settings = Settings(threads=1, instructions="avx2", timeout=60)
        features, kernels = call_apart(_numpy_features, settings=settings)
    except ValueError:
        pytest.skip("not an x86-64 processor")
    assert not [name for name in features if "AVX512" in name or name == "X86_V4"]
    assert set(kernels) <= {"Haswell"}
