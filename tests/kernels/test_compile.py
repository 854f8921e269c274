"""Net 1: every kernel file, every template instance, compiled by NVRTC for every architecture."""

from __future__ import annotations

import pytest

from fcnn_gpu.backend import _nvrtc
from fcnn_gpu.backend._kernel_source import Instance, kernels, stems
from fcnn_gpu.backend._kernels import KernelCompileError

needs_nvrtc = pytest.mark.skipif(_nvrtc.missing_nvrtc() is not None, reason=str(_nvrtc.missing_nvrtc()))

REGISTERS_PER_BLOCK = 65_536  # of every architecture since sm_50
SHARED_BYTES_PER_BLOCK = 48 * 1024  # without opting in to more


@needs_nvrtc
@pytest.mark.parametrize("architecture", _nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("stem", stems())
def test_every_instance_compiles_and_can_be_launched(stem: str, architecture: str) -> None:
    compiled = _nvrtc.compile_check(stem, architecture)
    assert set(compiled.resources) == set(_nvrtc.instances_for(stem, architecture))
    assert compiled.cubin.startswith(b"\x7fELF")
    for instance, need in compiled.resources.items():
        largest_block = kernels(stem)[instance.kernel].largest_block
        assert need.registers * largest_block <= REGISTERS_PER_BLOCK, (
            f"{instance.expression} on {architecture}: {need.registers} registers in a block of {largest_block} "
            "threads are more than a block has. Bound them (__launch_bounds__) or the block (`// block: at most`)."
        )
        assert need.static_shared_bytes <= SHARED_BYTES_PER_BLOCK
        assert need.spill_store_bytes == need.spill_load_bytes == 0, (
            f"{instance.expression} on {architecture} spills registers to memory: {need}."
        )


@needs_nvrtc
def test_an_error_names_the_file_and_shows_the_compilers_words() -> None:
    text = '#line 1 "kernels/wrong.cu"\ntemplate <typename T> __global__ void wrong(T* x) { *x = nonsense; }'
    with pytest.raises(KernelCompileError, match=r"(?s)wrong\.cu, sm_90.*kernels/wrong\.cu\(1\).*nonsense"):
        _nvrtc.compile_instances("wrong", text, [Instance("wrong", ("float",))], "sm_90")


@needs_nvrtc
def test_spills_are_seen() -> None:
    text = """template <typename T> __global__ void __launch_bounds__(1024, 2) greedy(const T* x, T* y) {
        T kept[64];
        for (int i = 0; i < 64; ++i) kept[i] = x[threadIdx.x * 64 + i];
        __syncthreads();
        for (int i = 0; i < 64; ++i) y[threadIdx.x * 64 + i] = kept[i] * kept[63 - i];
    }"""
    instance = Instance("greedy", ("double",))
    need = _nvrtc.compile_instances("greedy", text, [instance], "sm_90").resources[instance]
    assert need.spill_store_bytes > 0
    assert need.registers <= 32


@needs_nvrtc
def test_an_unknown_architecture_is_an_error() -> None:
    with pytest.raises(KernelCompileError, match="sm_1"):
        _nvrtc.compile_check("dropout", "sm_1")


def test_a_missing_compiler_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CUDA_PATH", "CUDA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(_nvrtc, "_wheel_folders", list)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    _nvrtc._nvrtc.cache_clear()
    try:
        reason = _nvrtc.missing_nvrtc()
    finally:
        _nvrtc._nvrtc.cache_clear()
    assert reason is not None
    assert "pip install nvidia-cuda-nvrtc-cu12" in reason
