"""What NumPy multiplies with, and what in an environment slows it down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.backend._blas import (
    KERNEL_VARIABLES,
    Blas,
    build_time_blas,
    loop_slowdowns,
    numpy_blas,
    product_slowdowns,
)
from fcnn_gpu.backend._cpu import Cpu
from fcnn_gpu.bench._worker import call_apart
from fcnn_gpu.bench.environment import RESTRICTING
from fcnn_gpu.bench.settings import Settings

AVX2 = ["sse4_2", "avx", "fma", "avx2"]
AVX512 = [*AVX2, "avx512f", "avx512vl"]


def cpu(instruction_sets: list[str], cores: int = 4, quota: int | None = None) -> Cpu:
    return Cpu("a CPU", "x86_64", cores, 2 * cores, quota, {}, instruction_sets, None, False)


def openblas(kernels: str | None, threads: int = 4) -> Blas:
    return Blas("openblas", "0.3.31", kernels, threads)


MKL = Blas("mkl", "2025.0", None, 4)


class TestKernels:
    @pytest.mark.parametrize(
        ("kernels", "instruction_sets", "words"),
        [
            ("Haswell", AVX512, "products use AVX2 on a CPU with AVX-512, which can cost half"),
            ("Zen", AVX512, "products use AVX2 on a CPU with AVX-512"),
            ("Prescott", AVX2, "products use SSE on a CPU with AVX2, which can cost most"),
            ("Sandybridge", AVX512, "products use AVX on a CPU with AVX-512, which can cost most"),
            ("ARMV8", ["asimd", "sve"], "OpenBLAS does not choose its kernels by the CPU"),
            (None, AVX512, "OpenBLAS does not choose its kernels by the CPU"),
            ("Haswell", [], "OpenBLAS does not choose its kernels by the CPU"),
        ],
    )
    def test_openblas_kernels_of_an_older_cpu(self, kernels: str, instruction_sets: list[str], words: str) -> None:
        variables = {"OPENBLAS_CORETYPE": "Something", "HOME": "/home/someone"}
        (found,) = product_slowdowns(openblas(kernels), cpu(instruction_sets), variables)
        assert found.reason.startswith("With OPENBLAS_CORETYPE=Something, ")
        assert words in found.reason
        assert found.fix == "unset OPENBLAS_CORETYPE"

    @pytest.mark.parametrize(
        ("kernels", "instruction_sets", "variables"),
        [
            ("Haswell", AVX2, {"OPENBLAS_CORETYPE": "Haswell"}),  # what it would choose by itself
            ("Cooperlake", AVX512, {"OPENBLAS_CORETYPE": "Cooperlake"}),
            ("Haswell", [*AVX2, "avx512f"], {"OPENBLAS_CORETYPE": "Haswell"}),  # its AVX-512 kernels need avx512vl too
            ("Haswell", AVX512, {}),  # its own choice: nothing that a variable would mend
            ("Haswell", AVX512, {"OPENBLAS_CORETYPE": ""}),
            ("Haswell", AVX512, {"MKL_CBWR": "AVX2", "BLIS_ARCH_TYPE": "haswell"}),  # other libraries' variables
        ],
    )
    def test_openblas_kernels_that_suit(
        self, kernels: str, instruction_sets: list[str], variables: dict[str, str]
    ) -> None:
        assert product_slowdowns(openblas(kernels), cpu(instruction_sets), variables) == []

    def test_mkl(self) -> None:
        variables = {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "MKL_CBWR": "SSE4_2,STRICT", "OPENBLAS_CORETYPE": "Haswell"}
        (found,) = product_slowdowns(MKL, cpu(AVX512), variables)
        assert found.reason.startswith("With MKL_ENABLE_INSTRUCTIONS=AVX2 and MKL_CBWR=SSE4_2,STRICT, products use SSE")
        assert found.fix == "unset MKL_ENABLE_INSTRUCTIONS MKL_CBWR"
        (found,) = product_slowdowns(MKL, cpu(AVX512), {"MKL_CBWR": "COMPATIBLE"})
        assert "With MKL_CBWR=COMPATIBLE, MKL does not choose" in found.reason

    @pytest.mark.parametrize(
        "variables",
        [
            {"MKL_ENABLE_INSTRUCTIONS": "AVX512_E1"},
            {"MKL_CBWR": "off"},
            {"MKL_CBWR": "AUTO", "MKL_ENABLE_INSTRUCTIONS": "avx512"},
        ],
    )
    def test_mkl_unrestricted(self, variables: dict[str, str]) -> None:
        assert product_slowdowns(MKL, cpu(AVX512), variables) == []

    def test_blis(self) -> None:
        (found,) = product_slowdowns(Blas("blis", "1.0", "haswell", 4), cpu(AVX512), {"BLIS_ARCH_TYPE": "haswell"})
        assert "With BLIS_ARCH_TYPE=haswell, BLIS does not choose" in found.reason

    def test_a_library_without_such_variables(self) -> None:
        everything = dict.fromkeys(KERNEL_VARIABLES, "Haswell")
        assert product_slowdowns(Blas("flexiblas", "3.4", None, 4), cpu(AVX512), everything) == []

    def test_the_benchmark_takes_out_all_of_them(self) -> None:
        assert set(KERNEL_VARIABLES) <= set(RESTRICTING)


class TestThreads:
    def test_fewer_than_cores(self) -> None:
        (found,) = product_slowdowns(openblas("Haswell", 1), cpu(AVX2), {"OPENBLAS_NUM_THREADS": "1"})
        assert found.reason.startswith("With OPENBLAS_NUM_THREADS=1, 3 of 4 cores stay idle")
        assert found.fix == "unset OPENBLAS_NUM_THREADS"

    def test_every_limit_goes_at_once(self) -> None:
        """Without the first of them the next would count."""
        variables = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "1"}
        (found,) = product_slowdowns(openblas("Haswell", 1), cpu(AVX2), variables)
        assert found.fix == "unset OPENBLAS_NUM_THREADS OMP_NUM_THREADS"

    @pytest.mark.parametrize(
        ("threads", "variables"),
        [
            (4, {"OPENBLAS_NUM_THREADS": "4"}),  # one per core; the CPU has eight hyper-threads
            (8, {}),
            (1, {}),  # threadpoolctl or the build limits them: no variable to blame
            (4, {"OPENBLAS_NUM_THREADS": "8", "OMP_NUM_THREADS": "4,2", "GOTO_NUM_THREADS": "0"}),
            (4, {"OMP_NUM_THREADS": "1"}),  # set after the library was loaded
        ],
    )
    def test_enough(self, threads: int, variables: dict[str, str]) -> None:
        assert product_slowdowns(openblas("Haswell", threads), cpu(AVX2), variables) == []

    def test_more_than_a_control_group_grants(self) -> None:
        assert product_slowdowns(openblas("Haswell", 8), cpu(AVX2, quota=2), {}) == [], "of which products take two"
        (found,) = product_slowdowns(openblas("Haswell", 8), cpu(AVX2, quota=2), {"FCNN_THREADS": "8"})
        assert found.reason.startswith("With FCNN_THREADS=8: The control group grants the time of 2 CPUs to 8 threads")
        assert found.fix == "unset FCNN_THREADS"
        (found,) = product_slowdowns(openblas("Haswell", 8), cpu(AVX2, quota=1), {"FCNN_THREADS": "2"})
        assert "the time of 1 CPU to 2 threads" in found.reason

    def test_our_own_variable_goes_before_the_librarys(self) -> None:
        assert product_slowdowns(openblas("Haswell", 1), cpu(AVX2), {"FCNN_THREADS": "4", "OMP_NUM_THREADS": "1"}) == []
        (found,) = product_slowdowns(openblas("Haswell", 4), cpu(AVX2), {"FCNN_THREADS": "1"})
        assert found.reason.startswith("With FCNN_THREADS=1, 3 of 4 cores stay idle")
        variables = {"FCNN_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}
        (found,) = product_slowdowns(openblas("Haswell", 1), cpu(AVX2), variables)
        assert "2 of 4 cores stay idle" in found.reason
        assert found.fix == "unset FCNN_THREADS OPENBLAS_NUM_THREADS"

    def test_of_an_unknown_library(self) -> None:
        (found,) = product_slowdowns(Blas("flexiblas", None, None, 1), cpu(AVX2), {"OMP_NUM_THREADS": "1"})
        assert found.fix == "unset OMP_NUM_THREADS"

    def test_kernels_and_threads_are_both_named(self) -> None:
        variables = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "1"}
        found = product_slowdowns(openblas("Haswell", 1), cpu(AVX512), variables)
        assert [slowdown.fix for slowdown in found] == ["unset OPENBLAS_CORETYPE", "unset OPENBLAS_NUM_THREADS"]


def test_numpys_own_loops() -> None:
    assert loop_slowdowns({"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": " "}) == []
    (found,) = loop_slowdowns({"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD"})
    assert found.reason.startswith("With NPY_DISABLE_CPU_FEATURES=AVX512F AVX512CD, NumPy's own loops do without")
    assert found.fix == "unset NPY_DISABLE_CPU_FEATURES"


class TestLoaded:
    def test_here(self) -> None:
        assert all(blas.threads >= 1 and blas.library for blas in numpy_blas())

    def test_a_variable_is_seen_where_it_works(self) -> None:
        """In a real process: what OpenBLAS reads at its start is what the description says."""
        try:
            settings = Settings(threads=1, instructions="avx2", timeout=60)
            found = call_apart(numpy_blas, settings=settings)
        except ValueError:
            pytest.skip("not an x86-64 processor")
        for blas in found:
            assert blas.threads == 1
            assert blas.library != "openblas" or blas.kernels == "Haswell"

    @pytest.mark.parametrize("folder", ["numpy.libs", "numpy/.dylibs"])
    def test_numpys_own_library_among_others(self, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
        site = Path(np.__file__).resolve().parent.parent
        self.load(
            monkeypatch,
            pool("openblas", site / folder / "libopenblas.so", architecture="SkylakeX"),
            pool("openblas", site / "scipy.libs" / "libopenblas.so", version="0.3.28", architecture="Haswell"),
            pool("mkl", site / "torch" / "lib" / "libmkl.so"),
            pool("openmp", site / "torch" / "lib" / "libgomp.so", user_api="openmp"),
        )
        assert numpy_blas() == [Blas("openblas", "1.2", "SkylakeX", 4)]

    def test_a_library_of_the_system(self, monkeypatch: pytest.MonkeyPatch) -> None:
        one = pool("blis", Path("/usr/lib/libblis.so"))
        self.load(monkeypatch, one, one)
        assert numpy_blas() == [Blas("blis", "1.2", None, 4)]

    def test_none_that_is_known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.load(monkeypatch)
        assert numpy_blas() == []
        monkeypatch.setattr("numpy.show_config", lambda mode: {"Build Dependencies": {"blas": {"name": "accelerate"}}})
        assert build_time_blas() == "accelerate"
        monkeypatch.setattr("numpy.show_config", lambda mode: {})
        assert build_time_blas() == "unknown"

    @staticmethod
    def load(monkeypatch: pytest.MonkeyPatch, *pools: dict[str, Any]) -> None:
        monkeypatch.setattr("threadpoolctl.threadpool_info", lambda: list(pools))


def pool(library: str, path: Path, **more: Any) -> dict[str, Any]:
    """What threadpoolctl says of a library."""
    pool = {"user_api": "blas", "internal_api": library, "filepath": str(path), "version": "1.2", "num_threads": 4}
    return pool | more


@pytest.mark.parametrize(
    ("blas", "words"),
    [
        (openblas("SkylakeX", 1), "OpenBLAS 0.3.31 with its kernels for SkylakeX, 1 thread"),
        (MKL, "MKL 2025.0, 4 threads"),
        (Blas("other", None, None, 2), "other of unknown version, 2 threads"),
    ],
)
def test_in_words(blas: Blas, words: str) -> None:
    assert blas.describe() == words
