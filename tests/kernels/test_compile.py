"""Net 1: every kernel file, every template instance, compiled by NVRTC of both generations of CUDA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fcnn_gpu.backend import _nvrtc
from fcnn_gpu.backend._kernel_source import Instance, kernels, source, stems
from fcnn_gpu.backend._kernels import KernelCompileError

from .compilers import GENERATIONS, require_nvrtc
from .ptx import entries, open_sums

needs_nvrtc = pytest.mark.usefixtures("nvrtc")

REGISTERS_PER_BLOCK = 65_536  # of every architecture since sm_50
SHARED_BYTES_PER_BLOCK = 48 * 1024  # without opting in to more

CHECKED = [(12, "sm_75"), (12, "sm_120"), (13, "sm_80"), (13, "sm_90")]
"""The fewest that catch what all of _nvrtc.ARCHITECTURES catch, with both compilers.

The text of a kernel, CUDA's headers included, is one of three: below sm_80, below sm_90, and from there on; each
compiler has an old one and a new one. A block's shared memory and registers are the same everywhere. How many registers
a thread needs is not, and sm_120 is where that failed first. Measured with NVRTC 12.9 for the kernels that ever needed
too many, sm_86, sm_89 and sm_100 never need more than the most of these four by more than 2, and then no more than six
tenths of what is allowed. `python benchmarks/kernel_resources.py` shows all of them.
"""

HARDEST = (12, "sm_120")
"""Which of these compiles everything: registers run out there first."""

IN_FULL = 11
"""A kernel of more instances is the same text for each type and each rule or size, and the other three share them."""

LIBRARY = ("SOFTPLUS", "BINARY_CROSS_ENTROPY", "LOG_COSH", "softmax_cross_entropy", "matmul", "gaussian_noise")
"""What takes a logarithm. NVIDIA's own, in double, leaves sums to the compiler: nothing here can change that."""


def checked_instances(stem: str, generation: int, architecture: str) -> list[Instance]:
    """What one of CHECKED compiles of kernels/<stem>.cu.

    `HARDEST` compiles every instance. Of a kernel of more than `IN_FULL` the other three take turns, by the sum of
    the numbers of the template's arguments: each instance meets two compilations, and each argument (a type, a rule,
    a size) all four. What would not be seen is what one type has with one rule, elsewhere than on sm_120, and neither
    of them with another.
    """
    instances = _nvrtc.instances_for(stem, architecture)
    if (generation, architecture) == HARDEST:
        return instances
    turn = [pair for pair in CHECKED if pair != HARDEST].index((generation, architecture))
    return [i for i in instances if len(kernels(stem)[i.kernel].instances) <= IN_FULL or _number(i, stem) % 3 == turn]


def _number(instance: Instance, stem: str) -> int:
    """The sum of the numbers of an instance's arguments, each among the values that its place has."""
    places = zip(*(other.arguments for other in kernels(stem)[instance.kernel].instances), strict=True)
    return sum([*dict.fromkeys(values)].index(a) for a, values in zip(instance.arguments, places, strict=True))


@pytest.mark.parametrize("stem", stems())
def test_each_argument_of_a_template_meets_every_compiler(stem: str) -> None:
    known = [i for kernel in kernels(stem).values() for i in kernel.instances]
    arguments = {
        (i.kernel, place, a) for i in known for place, a in enumerate(i.arguments) if i.first_architecture <= 75
    }
    for pair in CHECKED:
        compiled = checked_instances(stem, *pair)
        assert arguments <= {(i.kernel, place, a) for i in compiled for place, a in enumerate(i.arguments)}
    assert set(known) == set(checked_instances(stem, *HARDEST))


@pytest.mark.parametrize(("generation", "architecture"), CHECKED, ids=lambda value: str(value))
@pytest.mark.parametrize("stem", stems())
def test_every_instance_compiles_and_can_be_launched(stem: str, generation: int, architecture: str) -> None:
    """It also says which of its products are rounded: see `multiply_add` in common.cuh."""
    require_nvrtc(generation)
    instances = checked_instances(stem, generation, architecture)
    compiled = _nvrtc.compile_instances(stem, source(stem), instances, architecture, generation)
    assert set(compiled.resources) == set(instances)
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
    blocks = entries(compiled.ptx)
    for instance, name in compiled.names.items():
        if "double" in instance.arguments and any(word in instance.expression for word in LIBRARY):
            continue
        left_open = open_sums(blocks[name])
        assert not left_open, (
            f"{instance.expression} on {architecture} leaves {len(left_open)} sums to the compiler, which may fuse a "
            f"product into them or not: {left_open[0]} Say which it is, with multiply_add or multiply_rounded."
        )


BARE_PRODUCTS = {
    "two products in a sum": ("multiply_add(decay2, second, multiply_rounded(g, g))", "decay2 * second + g * g"),
    "a product that one branch makes": (
        "multiply_rounded(theta, multiply_add(-pull",
        "(theta * multiply_add(-pull",
    ),
    "a product in another statement": ("multiply_rounded(penalized(", "(penalized("),
}


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("case", BARE_PRODUCTS)
def test_a_sum_that_is_left_to_the_compiler_is_seen(case: str, generation: int) -> None:
    require_nvrtc(generation)
    spelt_out, bare = BARE_PRODUCTS[case]
    text = source("adam").replace(spelt_out, bare)
    if case == "a product in another statement":
        text = text.replace("w, segment), clip_scale);", "w, segment)) * clip_scale;")
    assert text != source("adam")
    instance = Instance("adam", ("float", "float"))
    compiled = _nvrtc.compile_instances("adam", text, [instance], "sm_90", generation)
    assert open_sums(entries(compiled.ptx)[compiled.names[instance]])


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


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No NVRTC and no headers, wherever this process has found some before."""
    for variable in ("CUDA_PATH", "CUDA_HOME", _nvrtc.WHEELS):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(_nvrtc, "_wheel_folders", list)
    monkeypatch.setattr(_nvrtc, "SYSTEM", ())
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    for function in ("_loaded", "_headers"):
        monkeypatch.setattr(_nvrtc, function, getattr(_nvrtc, function).__wrapped__)


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize(
    ("generation", "words"),
    [
        (None, "pip install nvidia-cuda-nvrtc-cu12"),
        (13, "NVRTC 13.*pip install 'nvidia-cuda-nvrtc==13"),
        (11, "NVRTC 11"),
    ],
)
def test_a_missing_compiler_says_what_to_install(generation: int | None, words: str) -> None:
    with pytest.raises(_nvrtc.NvrtcNotFound, match=words):
        _nvrtc.find_compiler(generation)


@pytest.mark.usefixtures("nothing_installed")
def test_headers_of_another_generation_are_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library: Any = object()
    monkeypatch.setattr(_nvrtc, "_loaded", lambda: {13: (library, (13, 5))})
    folder = tmp_path / "nvidia" / "cuda_runtime"
    (folder / "include").mkdir(parents=True)
    (folder / "include" / "cuda_fp16.h").touch()
    header = folder / "include" / "cuda_runtime_api.h"
    monkeypatch.setattr(_nvrtc, "_wheel_folders", lambda: [folder])
    header.write_text("#define CUDART_VERSION  12090\n")
    with pytest.raises(_nvrtc.NvrtcNotFound, match=r"headers .* NVRTC 13's own version .*nvidia-cuda-runtime==13"):
        _nvrtc.find_compiler(13)
    header.write_text("#define CUDART_VERSION  13050\n")
    assert _nvrtc.find_compiler() == _nvrtc.Compiler(library, (13, 5), folder / "include")


def test_wheels_in_folders_of_their_own_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nvidia" / "cu13").mkdir(parents=True)
    monkeypatch.setenv(_nvrtc.WHEELS, str(tmp_path))
    assert tmp_path / "nvidia" / "cu13" in _nvrtc._wheel_folders()


@pytest.mark.usefixtures("nothing_installed")
def test_a_missing_compiler_is_a_failure_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="NVRTC 13"):
        require_nvrtc(13)
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="NVRTC 13"):
        require_nvrtc(13)
