"""The launcher refuses every argument that a raw launch would misread; what a kernel declares is read right."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fcnn_gpu.backend import _kernel_source, _kernels
from fcnn_gpu.backend._kernel_source import (
    Instance,
    Kernel,
    KernelSourceError,
    all_instances,
    kernel_folder,
    kernels,
    parse_kernels,
    source,
    stems,
)
from fcnn_gpu.backend._kernels import ArchitectureError, Argument, CudaDevice, KernelCompileError, Launcher
from fcnn_gpu.backend._nvrtc import instances_for

TEXT = """
enum Kind { PLAIN = 0, FANCY = 4, FANCIER };

// A comment that belongs to nothing.

// y = a·x + b
// instances: T in float, double, __half, __nv_bfloat16; KIND in enum Kind; FLAG in false, true
template <typename T, int KIND, bool FLAG>
__global__ void __launch_bounds__(256, (FLAG ? 2 : 1)) scale(
    long long n, long long batch,  // sizes, (with) brackets,
    Accumulator<T> a, int kind, bool flag, unsigned char level,
    const T* __restrict__ x /* F (n, batch) */, const Accumulator<T>* b /* any (n), may be null */,
    T* __restrict__ y /* F (n, batch) */, const long long* __restrict__ step /* any (1) */) {}

// block: 128
// instances: ORDER in C_ORDER, F_ORDER
template <MatrixOrder ORDER>
__global__ void strided(long long m, long long k, long long lda, float* A /* ORDER leading lda (m, k) */) {}

// block: at most 512
__global__ void plain(long long n, float* x /* any (n*2) */, int* y /* C (_, n) */) {}
"""


@dataclasses.dataclass
class Recorder:
    """A device that runs nothing and keeps what it was asked to."""

    array_type: type = np.ndarray
    launches: list[tuple[str, int, int, int, list[Any]]] = dataclasses.field(default_factory=list)
    prepared: list[str] = dataclasses.field(default_factory=list)

    def address(self, array: Any) -> int:
        return int(array.ctypes.data)

    def prepare(self, kernel: Kernel, instance: Instance) -> None:
        self.prepared.append(instance.expression)

    def run(
        self, kernel: Kernel, instance: Instance, grid: int, block: int, shared: int, arguments: Sequence[Argument]
    ) -> None:
        self.launches.append((instance.expression, grid, block, shared, [a.value for a in arguments]))


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def recording(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> Launcher:
    """A launcher that knows the kernels of TEXT only."""
    known = {kernel.name: kernel for kernel in parse_kernels("text", TEXT)}
    monkeypatch.setattr(_kernels, "kernels", lambda stem: known)
    return Launcher(recorder)


def good(dtype: Any = np.float32) -> dict[str, Any]:
    """Valid arguments of `scale` by name."""
    wide = np.float64 if dtype is np.float64 else np.float32
    return {
        "n": 3,
        "batch": 4,
        "a": 0.5,
        "kind": 2,
        "flag": True,
        "level": 255,
        "x": np.zeros((3, 4), dtype, order="F"),
        "b": np.zeros((3, 1), wide),
        "y": np.zeros((3, 4), dtype, order="F"),
        "step": np.zeros(1, np.int64),
    }


def launch(launcher: Launcher, dtype: Any = np.float32, **changes: Any) -> None:
    launcher.launch("text", "scale", (dtype, "PLAIN", False), list((good(dtype) | changes).values()), threads=12)


# ---- what is read from the text --------------------------------------------------------------------------------------


def test_signatures_are_read_from_the_text() -> None:
    scale, strided, plain = parse_kernels("text", TEXT)
    assert [k.name for k in (scale, strided, plain)] == ["scale", "strided", "plain"]
    assert scale.template == ("T", "KIND", "FLAG")
    assert len(scale.instances) == 4 * 3 * 2
    assert scale.instances[0].expression == "scale<float, PLAIN, false>"
    assert scale.enumerators == (("PLAIN", 0), ("FANCY", 4), ("FANCIER", 5))
    x, b, y = scale.parameters[6:9]
    assert (x.c_type, x.is_const, x.is_restrict, x.order, x.shape) == ("T", True, True, "F", ("n", "batch"))
    assert (b.c_type, b.may_be_null, b.is_restrict) == ("Accumulator<T>", True, False)
    assert not y.is_const
    assert (strided.block, strided.parameters[3].leading) == (128, "lda")
    assert (plain.block, plain.largest_block, plain.instances) == (None, 512, (Instance("plain", ()),))


def test_instances_of_later_architectures_say_so() -> None:
    text = """
    // instances: T in float
    // instances from sm_80: T in __half, float
    template <typename T>
    __global__ void f(T* x /* any (1) */) {}"""
    (kernel,) = parse_kernels("text", text)
    assert [(i.arguments, i.first_architecture) for i in kernel.instances] == [(("float",), 0), (("__half",), 80)]
    old, new = (instances_for("fused_mlp", architecture) for architecture in ("sm_75", "sm_80"))
    assert {i.arguments[0] for i in old} == {"float", "__half"}
    assert {i.arguments[0] for i in new} == {"float", "__half", "__nv_bfloat16"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("template <typename T> __global__ void f(T* x /* any (1) */) {}", "needs a line `// instances: T in"),
        (
            "// instances: S in float\ntemplate <typename T> __global__ void f(T* x /* any (1) */) {}",
            "template parameters T",
        ),
        (
            "// instances: T = float\ntemplate <typename T> __global__ void f(T* x /* any (1) */) {}",
            "expected `NAME in value",
        ),
        ("// instances: K in enum E\ntemplate <int K> __global__ void f(int* x /* any (1) */) {}", "no enum E"),
        ("__global__ void f(float* x) {}", "pointer x needs its memory order and shape"),
        ("__global__ void f(float* x /* row major */) {}", "pointer x needs its memory order and shape"),
        ("__global__ void f(float* x /* D (1) */) {}", "memory order of x is 'D'"),
        (
            "__global__ void f(float* x /* any (n) */) {}",
            "the shape of x names n, which is none of its scalar parameters",
        ),
        (
            "__global__ void f(long long l, float* x /* any leading l (2, 2) */) {}",
            "needs two dimensions and order C or F",
        ),
        ("__global__ void f(float* x", "No closing parenthesis"),
    ],
)
def test_a_kernel_that_breaks_a_convention_is_an_error(text: str, message: str) -> None:
    with pytest.raises(KernelSourceError, match=message):
        parse_kernels("text", text)


def test_includes_are_put_in_place_once() -> None:
    text = source("matmul")
    assert '#include "' not in text
    assert text.count("struct Philox4x64 {") == 1
    assert text.count("enum Activation {") == 1
    assert "#pragma once" not in text
    assert text.startswith('#line 1 "kernels/matmul.cu"')


def test_a_missing_include_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.cu").write_text('// broken\n#include "nowhere.cuh"\n')
    monkeypatch.setattr(_kernel_source, "kernel_folder", lambda: tmp_path)
    with pytest.raises(KernelSourceError, match=r"broken\.cu:2 includes nowhere\.cuh"):
        source("broken")


def test_a_file_without_kernels_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hollow.cu").write_text("// nothing\n")
    monkeypatch.setattr(_kernel_source, "kernel_folder", lambda: tmp_path)
    with pytest.raises(KernelSourceError, match=r"hollow\.cu defines no __global__"):
        kernels("hollow")


def test_the_folder_is_found_in_a_checkout_and_in_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (kernel_folder() / "common.cuh").is_file()
    module = tmp_path / "fcnn_gpu" / "backend" / "_kernel_source.py"
    monkeypatch.setattr(_kernel_source, "__file__", str(module))
    with pytest.raises(FileNotFoundError, match="cannot find its CUDA kernels"):
        kernel_folder.__wrapped__()
    for folder in (tmp_path / "kernels", tmp_path / "fcnn_gpu" / "kernels"):
        folder.mkdir(parents=True)
        (folder / "common.cuh").touch()
        assert kernel_folder.__wrapped__() == folder


def test_unknown_files_and_kernels_suggest_the_nearest(recorder: Recorder) -> None:
    with pytest.raises(ValueError, match=r"no kernel file dropuot\.cu\. Did you mean 'dropout'"):
        source("dropuot")
    with pytest.raises(ValueError, match=r"dropout\.cu has no kernel 'dropout_foward'. Did you mean 'dropout_forward'"):
        Launcher(recorder).prepare("dropout", "dropout_foward", (np.float32,))


def test_every_instance_can_be_planned(recorder: Recorder) -> None:
    """Every parameter of every shipped instance has a type that the launcher can pass."""
    launcher = Launcher(recorder)
    for stem, instance in all_instances():
        launcher.prepare(stem, instance.kernel, instance.arguments)
    assert len(recorder.prepared) == len(list(all_instances())) >= len(stems())


# ---- template arguments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "expression"),
    [
        ((np.float32, "PLAIN", False), "scale<float, PLAIN, false>"),
        ((np.dtype(np.float64), 4, True), "scale<double, FANCY, true>"),
        (("float16", "FANCIER", False), "scale<__half, FANCIER, false>"),
        ((ml_dtypes.bfloat16, 5, True), "scale<__nv_bfloat16, FANCIER, true>"),
        (("double", "0", "false"), "scale<double, PLAIN, false>"),
    ],
)
def test_template_arguments(
    recording: Launcher, recorder: Recorder, template: tuple[Any, ...], expression: str
) -> None:
    recording.prepare("text", "scale", template)
    assert recorder.prepared == [expression]


@pytest.mark.parametrize(
    "template", [(np.int32, "PLAIN", False), (np.float32, 1, False), (np.float32, "PLAIN"), (np.float32, "PLAIN", 1)]
)
def test_undeclared_instances_are_refused(recording: Launcher, template: tuple[Any, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"has no instance <.*It takes <T, KIND, FLAG>: <float, PLAIN, false>.* and 12 more"
    ):
        recording.prepare("text", "scale", template)


def test_a_dtype_without_a_c_type_is_refused(recording: Launcher) -> None:
    with pytest.raises(ValueError, match="No kernel takes elements of dtype complex64"):
        parse_kernels("text", TEXT)[0].instance((np.complex64, "PLAIN", False))
    with pytest.raises(ValueError, match="no instance <complex64, PLAIN, false>"):
        recording.prepare("text", "scale", (np.complex64, "PLAIN", False))


# ---- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_good_arguments_arrive_with_their_exact_types(recording: Launcher, recorder: Recorder, dtype: Any) -> None:
    launch(recording, dtype, b=None)
    expression, grid, block, shared, values = recorder.launches[0]
    assert expression.startswith(f"scale<{_kernel_source.C_TYPES[np.dtype(dtype).name]}, PLAIN")
    assert (grid, block, shared) == (1, 256, 0)
    wide = np.float64 if dtype is np.float64 else np.float32
    assert [type(v) for v in values[:6]] == [np.int64, np.int64, wide, np.int32, np.bool_, np.uint8]
    assert values[7] is None


def other(array: Any, dtype: Any) -> Any:
    return array.astype(dtype, order="K")


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"n": 4}, ValueError, r"x expects shape \(n, batch\) = \(4, 4\), got \(3, 4\)"),
    ({"n": 4, "batch": 3}, ValueError, r"x expects shape \(n, batch\) = \(4, 3\), got \(3, 4\)"),
    ({"n": 3.0}, TypeError, r"n expects an integer \(int64\), got 3\.0"),
    ({"n": True}, TypeError, "n expects an integer"),
    ({"n": np.zeros(3)}, TypeError, r"n expects an integer \(int64\), got a float64 array of shape \(3,\)"),
    ({"a": "0.5"}, TypeError, r"a expects a number \(float32\), got '0.5'"),
    ({"a": True}, TypeError, "a expects a number"),
    ({"a": 1e39}, ValueError, "a expects a float32, and 1e.39 is beyond"),
    ({"kind": 2**31}, ValueError, r"kind expects an int32 from -2147483648 to 2147483647, got 2147483648"),
    ({"flag": 1}, TypeError, "flag expects True or False, got 1"),
    ({"level": 256}, ValueError, "level expects an uint8 from 0 to 255, got 256"),
    ({"level": -1}, ValueError, "level expects an uint8 from 0 to 255"),
    (
        {"x": 0.5},
        TypeError,
        r"x expects a numpy array \(float32 array of order F, shape \(n, batch\)\), got builtins.float",
    ),
    ({"x": None}, TypeError, "x expects a float32 array .* got None"),
    ({"x": [[0.0] * 4] * 3}, TypeError, "x expects a numpy array"),
    ({"x": np.zeros((3, 4), np.float64, order="F")}, TypeError, "x expects a float32 array .*got dtype float64"),
    ({"x": np.zeros((3, 4), np.int32, order="F")}, TypeError, "x expects a float32 array .*got dtype int32"),
    ({"x": np.zeros((3, 4), np.float32)}, ValueError, r"x expects a contiguous .*order F.* strides \(16, 4\)"),
    ({"x": np.zeros((4, 3), np.float32)}, ValueError, r"x expects shape .* got \(4, 3\)"),
    ({"x": np.zeros(12, np.float32)}, ValueError, r"x expects shape .* got \(12,\)"),
    ({"x": np.zeros((6, 4), np.float32, order="F")[::2]}, ValueError, r"x expects a contiguous .*strides \(8, 24\)"),
    ({"b": np.zeros(4, np.float32)}, ValueError, r"b expects 3 elements \(n\), got shape \(4,\)"),
    ({"b": np.zeros(6, np.float32)[::2]}, ValueError, r"b expects a contiguous .*strides \(8,\)"),
    ({"step": np.zeros(1, np.int32)}, TypeError, "step expects a int64 array .*got dtype int32"),
    ({"step": np.zeros(2, np.int64)}, ValueError, r"step expects 1 elements \(1\), got shape \(2,\)"),
]


@pytest.mark.parametrize(("changes", "error", "message"), BAD)
def test_a_wrong_argument_is_refused_by_name(
    recording: Launcher, recorder: Recorder, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=r"Kernel scale<float, PLAIN, false> \(text\.cu\): " + message):
        launch(recording, **changes)
    assert not recorder.launches


def test_any_two_swapped_arguments_are_refused(recording: Launcher, recorder: Recorder) -> None:
    """Except two that mean the same to the machine: arrays of one type and shape, small integers."""
    values = good()
    names = list(values)
    refused = 0
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            swapped = values | {first: values[second], second: values[first]}
            if {first, second} in ({"x", "y"}, {"kind", "level"}):
                continue
            arguments = [swapped[name] for name in names]
            with pytest.raises((TypeError, ValueError), match="scale"):
                recording.launch("text", "scale", (np.float32, 0, False), arguments, threads=12)
            refused += 1
    assert refused == len(names) * (len(names) - 1) // 2 - 2
    assert not recorder.launches


@pytest.mark.parametrize("count", [0, 9, 11])
def test_a_wrong_count_is_refused(recording: Launcher, count: int) -> None:
    with pytest.raises(TypeError, match=f"takes 10 arguments .n, batch, a, .*, got {count}"):
        recording.launch("text", "scale", (np.float32, 0, False), [0] * count, threads=12)


def test_written_arrays_are_writable_and_apart(recording: Launcher, recorder: Recorder) -> None:
    values = good()
    with pytest.raises(ValueError, match=r"x and y overlap in memory, but the kernel declares x as __restrict__"):
        launch(recording, x=values["x"], y=values["x"])
    frozen = np.zeros((3, 4), np.float32, order="F")
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="y is written by the kernel, got a read-only array"):
        launch(recording, y=frozen)
    launch(recording, x=frozen)
    whole = np.zeros((3, 8), np.float32, order="F")
    launch(recording, x=whole[:, :4], y=whole[:, 4:])
    with pytest.raises(ValueError, match="overlap"):
        launch(recording, x=whole[:, :4], y=whole[:, 3:7])
    assert len(recorder.launches) == 2


def test_a_batch_slice_of_an_f_ordered_matrix_is_contiguous(recording: Launcher, recorder: Recorder) -> None:
    whole = np.zeros((3, 9), np.float32, order="F")
    launch(recording, x=whole[:, :4])
    launch(recording, n=0, x=whole[:0, :4].copy(order="F"), y=np.zeros((0, 4), np.float32), b=None)
    assert len(recorder.launches) == 2


@pytest.mark.parametrize(
    ("order", "array", "lda", "fits"),
    [
        ("C_ORDER", np.zeros((5, 7), np.float32), 7, True),
        ("C_ORDER", np.zeros((5, 9), np.float32)[:, 1:8], 9, True),
        ("C_ORDER", np.zeros((5, 9), np.float32)[:, 1:8], 7, False),
        ("C_ORDER", np.zeros((5, 14), np.float32)[:, ::2], 14, False),
        ("C_ORDER", np.zeros((5, 7), np.float32, order="F"), 7, False),
        ("C_ORDER", np.zeros((5, 7), np.float32, order="F"), 5, False),
        ("F_ORDER", np.zeros((5, 7), np.float32, order="F"), 5, True),
        ("F_ORDER", np.zeros((6, 7), np.float32, order="F")[1:], 6, True),
        ("F_ORDER", np.zeros((6, 7), np.float32, order="F")[1:], 4, False),
        ("F_ORDER", np.zeros((5, 7), np.float32)[::-1], 5, False),
    ],
)
def test_leading_dimensions(
    recording: Launcher, recorder: Recorder, order: str, array: Any, lda: int, fits: bool
) -> None:
    def attempt() -> None:
        recording.launch("text", "strided", (order,), [5, 7, lda, array], blocks=1)

    if fits:
        attempt()
    else:
        with pytest.raises(ValueError, match=rf"A expects order {order[0]} with lda={lda} elements from one"):
            attempt()
    assert len(recorder.launches) == fits


def test_products_and_unchecked_dimensions(recording: Launcher, recorder: Recorder) -> None:
    y = np.zeros((9, 3), np.int32)
    recording.launch("text", "plain", (), [3, np.zeros((2, 3), np.float32), y], blocks=1)
    with pytest.raises(ValueError, match=r"x expects 6 elements \(n\*2\), got shape \(5,\)"):
        recording.launch("text", "plain", (), [3, np.zeros(5, np.float32), y], blocks=1)
    with pytest.raises(ValueError, match=r"y expects shape \(_, n\) = \(any, 3\), got \(3, 9\)"):
        recording.launch("text", "plain", (), [3, np.zeros(6, np.float32), y.reshape(3, 9)], blocks=1)
    assert len(recorder.launches) == 1


# ---- grids -----------------------------------------------------------------------------------------------------------


def plain(launcher: Launcher, **options: Any) -> None:
    launcher.launch("text", "plain", (), [1, np.zeros(2, np.float32), np.zeros((1, 1), np.int32)], **options)


@pytest.mark.parametrize(
    ("settings", "options", "grid", "block"),
    [
        ({}, {"threads": 1}, 1, 256),
        ({}, {"threads": 256}, 1, 256),
        ({}, {"threads": 257}, 2, 256),
        ({"block": 64}, {"threads": 257}, 5, 64),
        ({"block": 64}, {"threads": 257, "block": 32}, 9, 32),
        ({"block": 1024}, {"threads": 1025}, 3, 512),
        ({}, {"blocks": 257}, 257, 256),
        ({"max_blocks": 7}, {"blocks": 257}, 7, 256),
        ({}, {"threads": 2**40}, 65_536, 256),
    ],
)
def test_grids(
    recording: Launcher,
    recorder: Recorder,
    settings: dict[str, int],
    options: dict[str, int],
    grid: int,
    block: int,
) -> None:
    plain(Launcher(recorder, **settings), **options)
    assert recorder.launches[0][1:3] == (grid, block)


def test_no_work_is_no_launch_but_arguments_are_checked(recording: Launcher, recorder: Recorder) -> None:
    plain(recording, threads=0)
    plain(recording, blocks=0)
    assert not recorder.launches
    with pytest.raises(TypeError, match="takes 3 arguments"):
        recording.launch("text", "plain", (), [], threads=0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, TypeError, "give either threads= or blocks=, got threads=None, blocks=None"),
        ({"threads": 1, "blocks": 1}, TypeError, "give either threads= or blocks="),
        ({"threads": -1}, ValueError, "an integer of at least 0, got -1"),
        ({"threads": 1.5}, ValueError, "an integer of at least 0, got 1.5"),
        ({"threads": 1, "block": 48}, ValueError, "multiple of 32 from 32 to 1024, got 48"),
        ({"threads": 1, "block": 2048}, ValueError, "multiple of 32 from 32 to 1024"),
        ({"threads": 1, "block": 64.0}, TypeError, "the block size is an integer"),
        ({"threads": 1, "block": 1024}, ValueError, "at most 512 threads, got block=1024"),
    ],
)
def test_wrong_grids_are_refused(
    recording: Launcher, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        plain(recording, **options)


def test_a_fixed_block_size_wins_and_is_not_to_be_changed(recording: Launcher, recorder: Recorder) -> None:
    arguments = [5, 7, 7, np.zeros((5, 7), np.float32)]
    recording.launch("text", "strided", ("C_ORDER",), arguments, blocks=1)
    assert recorder.launches[0][2] == 128
    with pytest.raises(ValueError, match="works with blocks of only 128 threads, got block=256"):
        recording.launch("text", "strided", ("C_ORDER",), arguments, blocks=1, block=256)


@pytest.mark.parametrize(("options", "error"), [({"block": 100}, ValueError), ({"max_blocks": 0}, ValueError)])
def test_launcher_settings(recorder: Recorder, options: dict[str, int], error: type[Exception]) -> None:
    with pytest.raises(error, match="Launcher"):
        Launcher(recorder, **options)


# ---- the CUDA device, over a stand-in for CuPy -----------------------------------------------------------------------


class FakeArray:
    def __init__(self, array: Any) -> None:
        self.array = array
        self.data = types.SimpleNamespace(ptr=array.ctypes.data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.array, name)


class CompileException(Exception):
    pass


def fake_cupy(broken: Exception | None = None) -> tuple[Any, list[Any]]:
    log: list[Any] = []

    class RawModule:
        def __init__(self, **options: Any) -> None:
            log.append(("compile", options))

        def get_function(self, name: str) -> Any:
            if broken is not None:
                raise broken

            class Function:
                max_dynamic_shared_size_bytes = 0

                def __call__(self, grid: Any, block: Any, values: Any, shared_mem: int) -> None:
                    log.append(("launch", name, grid, block, values, shared_mem, self.max_dynamic_shared_size_bytes))

            return Function()

    device = types.SimpleNamespace(current=0, architecture="90")
    cuda = types.SimpleNamespace(
        runtime=types.SimpleNamespace(getDevice=lambda: device.current),
        compiler=types.SimpleNamespace(CompileException=CompileException),
        device=device,
        Device=lambda: types.SimpleNamespace(compute_capability=device.architecture),
    )
    return types.SimpleNamespace(ndarray=FakeArray, RawModule=RawModule, cuda=cuda), log


def test_cupy_gets_the_text_the_options_and_exact_values() -> None:
    module, log = fake_cupy()
    launcher = Launcher(CudaDevice(module))
    x, mask, out = (FakeArray(np.zeros(100, t)) for t in (np.float32, np.uint8, np.float32))
    arguments = [100, 0, 0.5, None, None, x, mask, out]
    for _ in range(2):
        launcher.launch("dropout", "dropout_backward", (np.float32, False), arguments, threads=100, shared=64)
    (compiled, options), first, second = log
    assert compiled == "compile"
    assert options["code"].isascii(), "CuPy writes it to a file in the locale's encoding, which may know no Greek"
    assert options["code"].encode().decode("unicode_escape") == source("dropout")
    assert options["options"] == ("-std=c++17",)
    assert options["name_expressions"] == ("dropout_backward<float, false>",)
    assert first == second
    assert first[1:4] == ("dropout_backward<float, false>", (1,), (256,))
    assert [type(v) for v in first[4][:5]] == [np.int64, np.int64, np.float64, np.uint64, np.uint64]
    assert first[4][5:] == (x, mask, out)
    assert first[5:] == (64, 0)


def test_null_pointers_large_shared_memory_and_several_devices() -> None:
    module, log = fake_cupy()
    launcher = Launcher(CudaDevice(module))
    A = FakeArray(np.zeros((4, 4), np.float32, order="F"))
    B, C = FakeArray(np.zeros((4, 4), np.float32, order="F")), FakeArray(np.zeros((4, 4), np.float32, order="F"))
    template = (np.float32, np.float32, 64, "F_ORDER", "F_ORDER")
    arguments = [4, 4, 4, 4, 4, 4, 0, 0.0, A, B, None, None, C]
    launcher.launch("matmul", "matmul", template, arguments, blocks=1, shared=100_000)
    module.cuda.device.current = 1
    launcher.launch("matmul", "matmul", template, arguments, blocks=1)
    assert [entry[0] for entry in log] == ["compile", "launch", "compile", "launch"]
    assert log[1][4][10] == 0
    assert type(log[1][4][10]) is np.uint64
    assert log[1][6] == 100_000


def test_host_arrays_are_refused_on_a_gpu() -> None:
    module, _ = fake_cupy()
    with pytest.raises(TypeError, match=r"dOut expects a .* array .*got numpy\.ndarray"):
        Launcher(CudaDevice(module)).launch(
            "dropout",
            "dropout_backward",
            (np.float32, False),
            [3, 0, 0.5, None, None, np.zeros(3, np.float32), None, None],
            threads=3,
        )


def test_a_kernel_that_cannot_be_kept_says_where_it_was_to_go() -> None:
    full = OSError(28, "No space left on device", "/home/somebody/.cupy/kernel_cache/tmp")
    module, _ = fake_cupy(broken=full)
    with pytest.raises(KernelCompileError, match=r"No space left .*kernel_cache.*export CUPY_CACHE_DIR") as caught:
        Launcher(CudaDevice(module)).prepare("dropout", "dropout_backward", (np.float32, False))
    assert caught.value.__cause__ is full


def test_a_compiler_error_points_to_the_doctor() -> None:
    module, _ = fake_cupy(broken=CompileException("cuda_fp16.h: no such file"))
    with pytest.raises(
        KernelCompileError, match=r"(?s)dropout_backward<float, false> of kernels/dropout\.cu.*doctor.*cuda_fp16"
    ):
        Launcher(CudaDevice(module)).prepare("dropout", "dropout_backward", (np.float32, False))


@pytest.mark.parametrize(("architecture", "fits"), [("75", False), ("80", True), ("120", True)])
def test_an_instance_from_a_later_architecture_is_refused(architecture: str, fits: bool) -> None:
    module, log = fake_cupy()
    module.cuda.device.architecture = architecture
    launcher = Launcher(CudaDevice(module))
    launcher.prepare("fused_mlp", "fused_mlp", ("float16", 64, 16))
    if fits:
        launcher.prepare("fused_mlp", "fused_mlp", ("bfloat16", 64, 16))
    else:
        with pytest.raises(ArchitectureError, match=r"fused_mlp<__nv_bfloat16, 64, 16> .*sm_80 or later.*is sm_75"):
            launcher.prepare("fused_mlp", "fused_mlp", ("bfloat16", 64, 16))
    assert len(log) == 1 + fits


def test_cupy_is_imported_only_when_a_device_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(name: str) -> Any:
        asked.append(name)
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(ImportError, match="cupy"):
        CudaDevice()
    assert asked == ["cupy"]


def test_the_two_devices_share_the_launchers_interface(make_launcher: Callable[..., Launcher]) -> None:
    host = make_launcher().device
    for name in ("address", "prepare", "run"):
        assert callable(getattr(host, name))
        assert callable(getattr(CudaDevice, name))
