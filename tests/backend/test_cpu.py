"""The CPU as a process sees it: cores, control groups, and systems that tell little."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from fcnn_gpu.backend import _cpu
from fcnn_gpu.backend._cpu import cpu_quota, physical_cpus, read_cpu, usable_cores

CPU_INFO = """processor\t: 0
model name\t: A Fast CPU: 2 GHz
flags\t\t: fpu avx hypervisor sse4_2 avx2 fma

processor\t: 1
model name\t: another
"""


def test_hyperthreads_count_as_one_core(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for cpu, core in ((0, 0), (1, 1), (2, 0), (3, 1)):
        topology = tmp_path / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text("0\n")
        (topology / "core_id").write_text(f"{core}\n")
    monkeypatch.setattr(_cpu, "_CPUS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    assert physical_cpus() == [0, 1]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 3}, raising=False)
    assert physical_cpus() == [1]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 7}, raising=False)
    assert physical_cpus() == [0, 7]  # a CPU without these files counts as a core


@pytest.mark.parametrize(("text", "cpus"), [("max 100000", 2**31), ("150000 100000", 2), ("50000 100000", 1)])
def test_a_quota_of_cpu_time_counts(text: str, cpus: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr(_cpu, "_QUOTA", tmp_path / "cpu.max")
    assert cpu_quota() == cpus
    assert read_cpu().quota == (None if cpus == 2**31 else cpus)


@pytest.mark.parametrize(("quota", "cpus"), [("-1", 2**31), ("150000", 2), ("50000", 1)])
def test_a_quota_of_the_first_control_groups(
    quota: str, cpus: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "quota").write_text(f"{quota}\n")
    (tmp_path / "period").write_text("100000\n")
    monkeypatch.setattr(_cpu, "_QUOTA", tmp_path / "absent")
    monkeypatch.setattr(_cpu, "_QUOTA_BEFORE", (tmp_path / "quota", tmp_path / "period"))
    assert cpu_quota() == cpus


def test_usable_cores_are_those_of_the_whole_report() -> None:
    assert usable_cores() == read_cpu().cores


def test_what_linux_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(CPU_INFO)
    for index, (level, kind, size) in enumerate(
        (("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "1M"))
    ):
        folder = tmp_path / "cpu0" / "cache" / f"index{index}"
        folder.mkdir(parents=True)
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(text + "\n")
    (tmp_path / "cpu0" / "cache" / "index3").mkdir()  # a cache that the system says nothing of
    monkeypatch.setattr(_cpu, "_CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(_cpu, "_CPUS", tmp_path)
    cpu = read_cpu()
    assert cpu.name == "A Fast CPU: 2 GHz"
    assert cpu.instruction_sets == ["sse4_2", "avx", "fma", "avx2"]
    assert cpu.virtual
    assert cpu.caches == {"L1d": "48K", "L2": "1M"}


def test_a_system_that_tells_little(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("_CPU_INFO", "_CPUS", "_QUOTA"):
        monkeypatch.setattr(_cpu, name, tmp_path / "absent")
    monkeypatch.setattr(_cpu, "_QUOTA_BEFORE", (tmp_path / "absent", tmp_path / "absent"))
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    cpu = read_cpu()
    assert cpu.name == cpu.architecture == "riscv64"
    assert (cpu.physical_cores, cpu.quota, cpu.memory_bytes, cpu.virtual) == (None, None, None, False)
    assert (cpu.caches, cpu.instruction_sets) == ({}, [])
    assert cpu.logical_cpus == cpu.cores == os.cpu_count()


def test_cores_are_those_that_can_run_at_once() -> None:
    cpu = replace(read_cpu(), physical_cores=8, logical_cpus=16, quota=None)
    assert cpu.cores == 8
    assert replace(cpu, quota=2).cores == 2
    assert replace(cpu, quota=12).cores == 8
    assert replace(cpu, physical_cores=None).cores == 16
