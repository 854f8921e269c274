"""The doctor: a chain of links that is complete, never raises, and tells what to mend first."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fcnn_gpu.doctor as doctor
from fcnn_gpu.backend._blas import KERNEL_VARIABLES, THREAD_VARIABLES, Blas
from fcnn_gpu.backend._compiled import NotCompiledError, load_library
from fcnn_gpu.backend._cpu import Cpu
from fcnn_gpu.backend._probe import Link
from fcnn_gpu.cli import run
from fcnn_gpu.doctor import Report, examine, print_report

from .conftest import compiled_ops

FINE = [Link("CuPy package", True, "cupy-cuda12x 14.2.0"), Link("kernel", True, "ran")]
NO_DRIVER = [
    Link("CuPy package", True, "cupy-cuda12x 14.2.0"),
    Link("NVIDIA driver", False, "no NVIDIA driver answers.", "Install [one]."),
    Link("CUDA device", None, "not checked: it needs NVIDIA driver first."),
]

SETS = ["sse4_2", "avx", "fma", "avx2", "avx512f", "avx512vl"]
QUICK = Cpu("Quick 9000", "x86_64", 8, 16, None, {"L2": "1024K"}, SETS, 2**34, False)


@pytest.fixture(autouse=True)
def quick_products(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled_ops()
    monkeypatch.setattr(doctor, "_PRODUCT", 64)
    monkeypatch.setattr(doctor, "_PRODUCT_SECONDS", 0.001)


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Link]], None]:
    """Sets what the probe of the CUDA device finds."""

    def set_links(links: list[Link]) -> None:
        monkeypatch.setattr(doctor, "probe_links", lambda device: links)

    return set_links


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*arguments: Any) -> Any:
        raise error

    return fail


def test_this_machine() -> None:
    report = examine()
    assert report.cpu_works
    names = ["Python", "processor", "NumPy", "matrix products", "compiled kernels", "variables", "training step"]
    assert [link.name for link in report.cpu] == names
    assert report.gpu[0].name == "kernel files"
    assert report.gpu[0].ok
    assert "GFLOP/s" in report.cpu[3].detail
    for link in report.gpu:
        assert link.detail
        assert link.ok is not False or link.fix, f"{link.name} says no fix"


def test_variables(probe: Callable[[list[Link]], None], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FCNN_")]:
        monkeypatch.delenv(name)
    probe(FINE)
    assert examine().cpu[5] == Link("variables", True, "none of fcnn_gpu's is set.")
    monkeypatch.setenv("FCNN_THREADS", "1")
    monkeypatch.setenv("FCNN_BACKED", "cpu")
    detail = examine().cpu[5].detail
    assert detail.startswith("FCNN_THREADS=1; FCNN_BACKED is none of fcnn_gpu's. Did you mean 'FCNN_BACKEND'?")
    monkeypatch.setenv("FCNN_BACKEND", "foo")
    report = examine()
    assert report.cpu[5].fix == "unset FCNN_BACKEND, or set it to auto, cpu, numpy or cupy"
    assert report.verdict.startswith(
        "Training does not work here. First mend this: variables: The environment variable"
    )
    assert "does not know 'foo'" in report.verdict
    monkeypatch.setenv("FCNN_BACKEND", "cpu")
    monkeypatch.setenv("FCNN_AUTOTUNE", "perhaps")
    assert examine().cpu[5].fix == "unset FCNN_AUTOTUNE"
    monkeypatch.delenv("FCNN_AUTOTUNE")
    monkeypatch.setenv("FCNN_BACKEND", "cupy")
    assert examine().cpu[5].ok
    probe([*FINE[:-1], Link("CUDA graph", False, "it fails.", "mend it")])
    assert examine().cpu[5].detail == "FCNN_BACKEND=cupy asks for a GPU, and none can be used."
    assert not examine().cpu_works


def test_the_variables_that_it_knows_are_those_that_the_package_reads() -> None:
    package = Path(doctor.__file__).parent
    text = "\n".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    assert set(re.findall(r"\bFCNN_[A-Z_]+\b", text)) == set(doctor.VARIABLES)


def test_a_sound_machine(probe: Callable[[list[Link]], None], capsys: pytest.CaptureFixture[str]) -> None:
    probe(FINE)
    assert examine().gpu_works
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "Training works on the CPU and on the GPU."
    assert " no " not in out


def test_a_machine_without_a_driver(probe: Callable[[list[Link]], None], capsys: pytest.CaptureFixture[str]) -> None:
    probe(NO_DRIVER)
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "→ Install [one]." in out  # rich takes brackets for markup unless told otherwise
    assert out.splitlines()[-1] == (
        "Training works on the CPU. For a GPU, first mend this: NVIDIA driver: no NVIDIA driver answers. Install [one]."
    )


def test_a_gpu_that_lacks_something(probe: Callable[[list[Link]], None], capsys: pytest.CaptureFixture[str]) -> None:
    probe([*FINE, Link("bfloat16", True, "the package ml_dtypes does not load.", "Run: pip install ml_dtypes")])
    report = examine()
    assert report.gpu_works
    assert [link.name for link in report.limited] == ["bfloat16"]
    assert run(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = (i for i, text in enumerate(lines) if text.startswith("  part "))
    assert "→ Run: pip install ml_dtypes" in lines[line + 1]
    assert lines[-1] == "Training works on the CPU and on the GPU."


def test_a_device_has_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--device", "-1"]) == 2
    assert capsys.readouterr().err == "fcnn-gpu: error: --device expects an integer of at least 0, got -1.\n"


def test_json(probe: Callable[[list[Link]], None], capsys: pytest.CaptureFixture[str]) -> None:
    probe(NO_DRIVER)
    assert run(["doctor", "--json", "--device", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["cpu_works"], found["gpu_works"]) == (True, False)
    assert found["gpu"][2] == {
        "name": "NVIDIA driver",
        "ok": False,
        "detail": "no NVIDIA driver answers.",
        "fix": "Install [one].",
    }
    assert found["gpu"][3]["ok"] is None


def test_the_device_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def probe_links(device: int) -> list[Link]:
        asked.append(device)
        return FINE

    monkeypatch.setattr(doctor, "probe_links", probe_links)
    examine(3)
    assert asked == [3]


def test_a_machine_that_cannot_train(
    probe: Callable[[list[Link]], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    probe(FINE)
    monkeypatch.setattr("fcnn_gpu.training.trainer.Trainer.fit", lambda *arguments, **options: None)
    report = examine()
    assert not report.cpu_works
    assert not report.gpu_works
    assert run(["doctor"]) == 1
    assert "Training does not work here. First mend this: training step: ArithmeticError" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name",
    ["probe_links", "stems", "_python", "_processor", "_numpy", "_products", "_compiled_kernels", "_training_step"],
)
def test_it_never_raises(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, name, raising(RuntimeError("out of\nthe blue")))
    report = examine()
    broken = [link for link in report.cpu + report.gpu if "out of the blue" in " ".join(link.detail.split())]
    assert len(broken) == 1
    assert broken[0].ok is False
    print_report(report)


class TestSpeed:
    """On a CPU with AVX-512, eight cores and OpenBLAS, whatever this one is."""

    @pytest.fixture(autouse=True)
    def machine(self, probe: Callable[[list[Link]], None], monkeypatch: pytest.MonkeyPatch) -> None:
        probe(FINE)
        monkeypatch.setattr(doctor, "read_cpu", lambda: QUICK)
        self.set_blas(monkeypatch, Blas("openblas", "0.3.31", "SkylakeX", 8))
        for name in {*KERNEL_VARIABLES, *(name for names in THREAD_VARIABLES.values() for name in names)}:
            monkeypatch.delenv(name, raising=False)

    @staticmethod
    def set_blas(monkeypatch: pytest.MonkeyPatch, *blas: Blas) -> None:
        monkeypatch.setattr(doctor, "numpy_blas", lambda: list(blas))

    def test_nothing_in_the_way(self, capsys: pytest.CaptureFixture[str]) -> None:
        report = examine()
        assert report.slow == []
        assert report.hint == ""
        assert report.cpu[1].detail == (
            "Quick 9000, 16 cores for this process, 16 GiB of memory; sse4_2, avx, fma, avx2, avx512f, avx512vl"
        )
        assert report.cpu[3].detail.startswith("OpenBLAS 0.3.31 with its kernels for SkylakeX, 8 threads: ")
        print_report(report)
        assert " slow " not in capsys.readouterr().out

    def test_variables_in_the_way(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.set_blas(monkeypatch, Blas("openblas", "0.3.31", "Haswell", 2))
        monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
        monkeypatch.setenv("NPY_DISABLE_CPU_FEATURES", "X86_V4")
        assert run(["doctor"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert sum(line.startswith("  slow ") for line in lines) == 2
        assert lines[-2] == (
            "Training on the CPU could be faster: "
            "unset NPY_DISABLE_CPU_FEATURES; unset OPENBLAS_CORETYPE; unset OPENBLAS_NUM_THREADS"
        )
        assert lines[-1] == "Training works on the CPU and on the GPU."
        text = " ".join(" ".join(lines).split())
        assert "With OPENBLAS_CORETYPE=Haswell, products use AVX2 on a CPU with AVX-512" in text
        assert "With OPENBLAS_NUM_THREADS=2, 6 of 8 cores stay idle" in text

    def test_json(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.set_blas(monkeypatch, Blas("openblas", "0.3.31", "Haswell", 8))
        monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
        assert run(["doctor", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["cpu_works"]
        assert found["hint"] == "Training on the CPU could be faster: unset OPENBLAS_CORETYPE"
        assert found["blas"] == [{"library": "openblas", "version": "0.3.31", "kernels": "Haswell", "threads": 8}]
        assert found["processor"]["instruction_sets"] == SETS
        assert found["processor"]["caches"] == {"L2": "1024K"}
        products = found["cpu"][3]
        assert (products["name"], products["ok"], products["fix"]) == (
            "matrix products",
            True,
            "unset OPENBLAS_CORETYPE",
        )

    def test_kernels_that_are_not_compiled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fault = NotCompiledError("the package was installed without them (no cc)", "Run: make")
        monkeypatch.setattr("fcnn_gpu.backend._compiled.load_library", raising(fault))
        report = examine()
        (link,) = (link for link in report.cpu if link.name == "compiled kernels")
        reason = "none: the package was installed without them (no cc). Networks are trained on NumPy."
        assert link == Link("compiled kernels", True, reason, "Run: make")
        assert report.hint == "Training on the CPU could be faster: Run: make"
        assert report.cpu_works

    def test_a_lower_level_than_the_best(self, monkeypatch: pytest.MonkeyPatch) -> None:
        library = load_library()
        detail = f"for {library.level_name}, of this CPU's {', '.join(library.levels)}: {library.path}."
        assert examine().cpu[4] == Link("compiled kernels", True, detail)
        monkeypatch.setattr(library, "levels", ["v5", *library.levels])
        found = examine().cpu[4]
        assert found.detail.endswith(" It is not the best of them.")
        assert found.fix == "unset FCNN_CPU_LEVEL"

    def test_a_level_that_this_cpu_has_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        levels = " or ".join(load_library().levels)
        expected = f"FCNN_CPU_LEVEL expects an instruction level that this CPU has, {levels}, got 'v9'."
        load_library.cache_clear()
        monkeypatch.setenv("FCNN_CPU_LEVEL", "v9")
        monkeypatch.setattr("fcnn_gpu.backend._select._compiled", None)
        report = examine()
        (link,) = (link for link in report.cpu if link.name == "compiled kernels")
        assert link == Link("compiled kernels", False, expected, "unset FCNN_CPU_LEVEL")
        assert report.verdict == "Training does not work here. First mend this: " + link.sentence()
        assert report.cpu[-1] == Link("training step", None, "not checked: it needs compiled kernels first.")

    def test_a_library_that_nobody_knows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.set_blas(monkeypatch)
        monkeypatch.setattr(doctor, "build_time_blas", lambda: "accelerate")
        report = examine()
        assert report.cpu[3].ok
        assert report.cpu[3].detail.startswith("accelerate, unknown to threadpoolctl: ")
        assert report.plain()["blas"] == []

    def test_a_container_with_a_quota(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cpu = replace(QUICK, quota=2, memory_bytes=None, instruction_sets=[])
        monkeypatch.setattr(doctor, "read_cpu", lambda: cpu)
        report = examine()
        assert report.cpu[1].detail == (
            "Quick 9000, 16 cores for this process, of which a control group grants the time of 2"
        )
        assert report.cpu[3].fix == ""
        monkeypatch.setenv("FCNN_THREADS", "4")
        assert examine().cpu[3].fix == "unset FCNN_THREADS"

    @pytest.mark.parametrize(
        ("name", "broken"), [("read_cpu", ["processor", "matrix products"]), ("numpy_blas", ["matrix products"])]
    )
    def test_what_cannot_be_read_is_a_link_that_says_so(
        self, name: str, broken: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(doctor, name, raising(OSError("no such luck")))
        report = examine()
        assert [link.name for link in report.cpu if not link.ok] == broken
        assert all(link.detail == "OSError: no such luck" for link in report.cpu if not link.ok)
        assert json.loads(json.dumps(report.plain()))["processor" if name == "read_cpu" else "blas"] in (None, [])


def test_without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    report = examine()
    assert report.cpu_works
    assert not report.gpu_works
    assert "For a GPU, first mend this" in report.verdict


def test_wrong_arithmetic_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcnn_gpu.doctor.np.array_equal", lambda a, b: False)
    assert "NumPy multiplied two small matrices wrongly" in Report(examine().cpu, []).verdict
