"""The binding itself: where the libraries are found, and every number and structure against NVIDIA's."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import sys
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fcnn_gpu.backend._cublas import CublasError, LibraryError, _enums, load_cublas
from fcnn_gpu.backend._cublas._library import HeuristicResult, MatmulAlgorithm

from ..cublas_on_cpu import cublas_on_cpu, cublas_path
from ..cuda_on_cpu import missing_compiler

needs_compiler = pytest.mark.skipif(missing_compiler() is not None, reason=str(missing_compiler()))


class NotFound(RuntimeError):
    """What cuda-pathfinder raises for a library that is nowhere."""


def pathfinder(monkeypatch: pytest.MonkeyPatch, paths: dict[str, Path | str]) -> None:
    """Let cuda-pathfinder find these libraries and no others."""

    def load(name: str) -> Any:
        if name not in paths:
            raise NotFound(f'Failure finding "lib{name}.so"\nwhere it looked\nand looked')
        return SimpleNamespace(abs_path=str(paths[name]))

    module = SimpleNamespace(load_nvidia_dynamic_lib=load, DynamicLibNotFoundError=NotFound)
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", module)


@needs_compiler
def test_the_libraries_are_those_that_pathfinder_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    pathfinder(monkeypatch, {"cublas": cublas_path(), "cublasLt": cublas_path()})
    library = load_cublas(12)
    assert (library.version, library.lt_version) == ("12.9.3", 120903)


def test_without_pathfinder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
    with pytest.raises(LibraryError, match=r"cuda-pathfinder.* is not installed\. Run: pip install .*cuda-pathfinder"):
        load_cublas(12)


@needs_compiler
@pytest.mark.parametrize("missing", ["cublas", "cublasLt"])
def test_a_library_that_is_missing_is_named_with_its_remedy(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pathfinder(monkeypatch, {name: cublas_path() for name in ("cublas", "cublasLt") if name != missing})
    name = {"cublas": "cuBLAS", "cublasLt": "cuBLASLt"}[missing]
    remedy = rf"^{name} does not load \(Failure finding .*\)\. Run: pip install 'cupy-cuda13x"
    with pytest.raises(LibraryError, match=remedy) as caught:
        load_cublas(13)
    assert "\n" not in str(caught.value)


@needs_compiler
def test_a_library_that_does_not_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "libcublas.so.12"
    broken.write_text("no library")
    pathfinder(monkeypatch, {"cublas": broken, "cublasLt": cublas_path()})
    with pytest.raises(LibraryError, match="cuBLAS does not load"):
        load_cublas(12)


@needs_compiler
def test_a_library_of_another_cuda_version(monkeypatch: pytest.MonkeyPatch) -> None:
    pathfinder(monkeypatch, {"cublas": cublas_path(), "cublasLt": cublas_path()})
    with pytest.raises(LibraryError, match=r"CuPy uses CUDA 13, but the libraries found are cuBLAS 12\.9\.3 .*12"):
        load_cublas(13)


def test_a_library_that_lacks_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    other = ctypes.util.find_library("c")
    if other is None:
        pytest.skip("no library to be found")
    pathfinder(monkeypatch, {"cublas": other, "cublasLt": other})
    with pytest.raises(LibraryError, match=r"is too old: it lacks a function .*cublasCreate_v2"):
        load_cublas(12)


@needs_compiler
def test_an_error_says_which_call_what_happened_and_what_to_do() -> None:
    with pytest.raises(CublasError, match=r"cublasDestroy_v2: CUBLAS_STATUS_NOT_INITIALIZED. .*doctor") as caught:
        cublas_on_cpu().call("cublasDestroy_v2", 0)
    assert caught.value.status == _enums.Status.NOT_INITIALIZED
    assert not caught.value.unsupported


def test_every_status_has_its_advice() -> None:
    for status in _enums.Status:
        if status:
            assert len(str(CublasError("f", status))) > len(f"f: CUBLAS_STATUS_{status.name}. ")
    assert str(CublasError("f", 99, "of x")) == "f: status 99. of x. Is this version of cuBLAS newer than 13?"
    assert CublasError("f", 15).unsupported
    assert CublasError("f", 8).unsupported


def test_structures_are_those_of_the_headers() -> None:
    assert ctypes.sizeof(MatmulAlgorithm) == 64  # uint64_t data[8]
    offsets = {name: getattr(HeuristicResult, name).offset for name, _ in HeuristicResult._fields_}
    assert offsets == {"algorithm": 0, "workspace_size": 64, "state": 72, "waves_count": 76, "reserved": 80}
    assert ctypes.sizeof(HeuristicResult) == 96


OFFICIAL = {
    "Status": "bindings.cublas.Status",
    "Operation": "bindings.cublas.Operation",
    "DataType": "CudaDataType",
    "ComputeType": "bindings.cublas.ComputeType",
    "MathMode": "bindings.cublas.Math",
    "PointerMode": "bindings.cublas.PointerMode",
    "Algorithm": "bindings.cublas.GemmAlgo",
    "Property": "LibraryPropertyType",
    "Epilogue": "bindings.cublasLt.Epilogue",
    "DescriptorAttribute": "bindings.cublasLt.MatmulDescAttribute",
    "PreferenceAttribute": "bindings.cublasLt.MatmulPreferenceAttribute",
    "ReductionScheme": "bindings.cublasLt.ReductionScheme",
}
"""Where nvmath-python, NVIDIA's own binding, has each enumeration."""

needs_nvmath = pytest.mark.skipif(importlib.util.find_spec("nvmath") is None, reason="nvmath-python is not installed")


@needs_nvmath
@pytest.mark.parametrize("name", OFFICIAL)
def test_enumerations_are_nvidias(name: str) -> None:
    module, _, official_name = f"nvmath.{OFFICIAL[name]}".rpartition(".")
    official = getattr(importlib.import_module(module), official_name)
    ours: type[IntEnum] = getattr(_enums, name)
    prefix = {"ComputeType": "COMPUTE_", "DataType": "CUDA_"}.get(name, "")
    for member in ours:
        label = prefix + (member.name.removeprefix("C_") if name == "ComputeType" else member.name)
        assert member.value == official[label].value, label


def test_every_enumeration_is_compared() -> None:
    ours = {name for name, value in vars(_enums).items() if isinstance(value, type) and issubclass(value, IntEnum)}
    assert ours - {"IntEnum"} == OFFICIAL.keys()


@needs_nvmath
def test_structures_are_nvidias() -> None:
    official = importlib.import_module("nvmath.bindings.cublasLt").matmul_heuristic_result_dtype
    assert official.itemsize == ctypes.sizeof(HeuristicResult)
    ours = [getattr(HeuristicResult, name).offset for name, _ in HeuristicResult._fields_]
    assert [official.fields[name][1] for name in official.names] == ours
