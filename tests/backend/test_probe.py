"""The probe of a CUDA device: every link that can fail is made to fail, on a CuPy that is a few fakes."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import ml_dtypes
import numpy as np
import pytest

from fcnn_gpu.backend import BackendError, _select, resolve_backend
from fcnn_gpu.backend._cupy import CupyOps, CupyRuntime, make_cupy_ops
from fcnn_gpu.backend._probe import Link, failing_link, probe_links

from ..conftest import compiled_ops
from ..cublas_on_cpu import cublas_path
from ..cuda_on_cpu import missing_compiler

NAMES = [
    "CuPy package",
    "kernel cache folder",
    "CuPy import",
    "NVIDIA driver",
    "CUDA device",
    "device memory",
    "CUDA libraries",
    "CUDA headers",
    "kernel",
    "matrix product",
    "CUDA graph",
    "bfloat16",
]


class CUDARuntimeError(RuntimeError):
    pass


class OutOfMemoryError(Exception):
    pass


class CompileException(Exception):
    pass


def raiser(error: Exception) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        raise error

    return call


class Device:
    def __init__(self, number: int) -> None:
        self.number = number
        self.synchronized = 0

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def synchronize(self) -> None:
        self.synchronized += 1

    @property
    def compute_capability(self) -> str:
        return "90"


class Stream:
    """Queues nothing, but records what is launched between `begin_capture` and `end_capture`."""

    recording: ClassVar[list[Callable[[], None]] | None] = None

    def __init__(self, non_blocking: bool) -> None:
        assert non_blocking  # the default stream cannot be captured

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exception: object) -> None:
        Stream.recording = None

    def begin_capture(self) -> None:
        Stream.recording = []

    def end_capture(self) -> Any:
        recorded, Stream.recording = Stream.recording or [], None
        return SimpleNamespace(launch=lambda stream: [work() for work in recorded])

    def synchronize(self) -> None:
        pass


def fake_kernel(grid: Any, block: Any, arguments: Any) -> None:
    n, out = arguments
    if Stream.recording is None:
        out[:] = np.arange(n) ** 2 + 1
    else:
        Stream.recording.append(lambda: fake_kernel(grid, block, arguments))


def fake_cupy() -> Any:
    """A machine where all is well: one H100 and CuPy for CUDA 12.9."""
    runtime = SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        runtimeGetVersion=lambda: 12090,
        driverGetVersion=lambda: 12080,
        getDeviceCount=lambda: 1,
        getDevice=lambda: 0,
        getDeviceProperties=lambda number: {
            "name": b"NVIDIA H100",
            "major": 9,
            "minor": 0,
            "totalGlobalMem": 80 * 2**30,
        },
        memGetInfo=lambda: (60 * 2**30, 80 * 2**30),
    )
    cuda = SimpleNamespace(
        runtime=runtime,
        Device=Device,
        Stream=Stream,
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        compiler=SimpleNamespace(CompileException=CompileException),
        device=SimpleNamespace(get_cublas_handle=lambda: 1234),
        get_cuda_path=lambda: None,
    )
    return SimpleNamespace(
        __version__="14.2.0",
        ndarray=np.ndarray,
        cuda=cuda,
        empty=np.empty,
        zeros=np.zeros,
        arange=np.arange,
        matmul=np.matmul,
        asnumpy=lambda x, order="C": np.array(x, order=order),
        asarray=np.asarray,
        RawKernel=lambda code, name, options: fake_kernel,
    )


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The fake, installed as the modules and packages that the probe looks for; its cuBLAS is that on the CPU."""
    reason = missing_compiler()
    if reason:
        pytest.skip(reason)
    module = fake_cupy()
    monkeypatch.setitem(sys.modules, "cupy", module)
    libs = {
        "nvrtc": SimpleNamespace(getVersion=lambda: (12, 9)),
        "cublas": SimpleNamespace(CUBLAS_OP_N=0, CUBLAS_OP_T=1, sgemm=None, dgemm=None),
    }
    parents = ("cupy_backends", "cupy_backends.cuda", "cupy_backends.cuda.libs")
    for name in parents:
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(__path__=[], **(libs if name.endswith("libs") else {})))
    for name, library in libs.items():
        monkeypatch.setitem(sys.modules, f"cupy_backends.cuda.libs.{name}", library)
    wheels(monkeypatch, tmp_path, {"cupy-cuda12x": "14.2.0"})
    include = tmp_path / "include"
    include.mkdir()
    for name in ("cuda_fp16.h", "cuda_bf16.h"):
        (include / name).touch()
    pathfinder = SimpleNamespace(
        find_nvidia_header_directory=lambda library: str(include),
        load_nvidia_dynamic_lib=lambda library: SimpleNamespace(abs_path=str(cublas_path())),
        DynamicLibNotFoundError=FileNotFoundError,
    )
    monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace(__path__=[], pathfinder=pathfinder))
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", pathfinder)
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("CUPY_CACHE_IN_MEMORY", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(_select, "_cupy", {})
    return module


def wheels(monkeypatch: pytest.MonkeyPatch, folder: Path, installed: dict[str, str]) -> None:
    """Let these packages of these versions be all that is installed."""
    site = Path(tempfile.mkdtemp(dir=folder))
    for name, version in installed.items():
        metadata = site / f"{name.replace('-', '_')}-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(site)])


def failed(device: int = 0) -> Link:
    links = probe_links(device)
    assert [link.name for link in links] == NAMES
    link = failing_link(links)
    assert link is not None
    assert "\n" not in link.sentence()
    assert link.fix
    return link


def test_all_is_well(cupy: Any) -> None:
    links = probe_links(0)
    assert [link.name for link in links] == NAMES
    assert all(link.ok for link in links), links
    details = {link.name: link.detail for link in links}
    assert details["NVIDIA driver"] == "supports CUDA 12.8"
    assert details["CUDA device"] == "0 of 1: NVIDIA H100, compute capability 9.0"
    assert details["device memory"] == "60.00 GiB of 80.00 GiB free"
    assert details["CUDA libraries"] == "NVRTC 12.9, cuBLAS 12.9.3"
    assert details["CUDA graph"] == "recorded, replayed and gave the right numbers"
    assert details["bfloat16"] == f"ml_dtypes {ml_dtypes.__version__}, compute capability 9.0"
    assert not any(link.fix for link in links)
    assert failing_link(links) is None


def test_no_cupy(cupy: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wheels(monkeypatch, tmp_path, {})
    links = probe_links(0)
    assert links[0] == Link(
        "CuPy package",
        False,
        "CuPy is not installed.",
        "Run: pip install 'cupy-cuda12x[ctk]>=14.2,<15', or with cupy-cuda13x for a driver of CUDA 13.",
    )
    assert [link.ok for link in links[1:]] == [None] * (len(NAMES) - 1)
    assert links[1].detail == "not checked: it needs CuPy package first."


def test_two_wheels(cupy: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wheels(monkeypatch, tmp_path, {"cupy-cuda12x": "14.2.0", "cupy-cuda13x": "14.2.0"})
    link = failed()
    assert "cupy-cuda12x and cupy-cuda13x are installed together" in link.detail
    assert link.fix.startswith("Run: pip uninstall -y cupy-cuda12x cupy-cuda13x && pip install")


@pytest.mark.parametrize(
    ("wheel", "version", "said", "fix"),
    [
        ("cupy-cuda12x", "14.1.1", "is older than 14.2, the first that", "pip install 'cupy-cuda12x>=14.2,<15'"),
        ("cupy", "13.6.0", "is older than 14.2, the first that", "pip install 'cupy>=14.2,<15'"),
        ("cupy-cuda13x", "15.0.0a1", "is 15 or later", "pip install 'cupy-cuda13x>=14.2,<15'"),
        ("cupy-cuda11x", "13.6.0", "is for CUDA older than 12.", "pip uninstall -y cupy-cuda11x && pip install"),
        ("cupy-rocm-7-0", "14.2.0", "is for GPUs that are not NVIDIA's.", "pip uninstall -y cupy-rocm-7-0 && pip"),
    ],
)
def test_a_package_that_does_not_fit(
    cupy: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wheel: str, version: str, said: str, fix: str
) -> None:
    wheels(monkeypatch, tmp_path, {wheel: version})
    link = failed()
    assert link.name == "CuPy package"
    assert link.detail.startswith(wheel)
    assert said in link.detail
    assert link.fix.startswith(f"Run: {fix}")


@pytest.mark.parametrize("version", ["14.2.0", "14.2.0rc1", "14.10.1"])
def test_a_package_that_fits(cupy: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str) -> None:
    wheels(monkeypatch, tmp_path, {"cupy-cuda13x": version})
    assert probe_links(0)[0] == Link("CuPy package", True, f"cupy-cuda13x {version}")


@pytest.mark.parametrize(("library", "said"), [(True, "the driver behind it is not loaded"), (False, "is not on this")])
def test_no_driver(cupy: Any, monkeypatch: pytest.MonkeyPatch, library: bool, said: str) -> None:
    cupy.cuda.runtime.driverGetVersion = lambda: 0
    monkeypatch.setattr(ctypes, "CDLL", (lambda name: None) if library else raiser(OSError("no such file")))
    link = failed()
    assert link.name == "NVIDIA driver"
    assert said in link.detail
    assert "nvidia-smi" in link.fix


def test_driver_too_old(cupy: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cupy.cuda.runtime.driverGetVersion = lambda: 11080
    link = failed()
    assert link.detail == "the driver supports CUDA 11.8, older than the CUDA 12.0 that cupy-cuda12x needs."
    assert "cuda12" not in link.fix
    wheels(monkeypatch, tmp_path, {"cupy-cuda13x": "14.2.0"})
    cupy.cuda.runtime.runtimeGetVersion = lambda: 13000
    cupy.cuda.runtime.driverGetVersion = lambda: 12040
    link = failed()
    assert "supports CUDA 12.4, older than the CUDA 13.0 that cupy-cuda13x needs" in link.detail
    assert "pip uninstall -y cupy-cuda13x && pip install 'cupy-cuda12x[ctk]>=14.2,<15'" in link.fix


def test_no_device(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cupy.cuda.runtime.getDeviceCount = raiser(CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device"))
    link = failed()
    assert (link.name, link.detail, link.fix) == (
        "CUDA device",
        "the driver shows no device.",
        "Check with: nvidia-smi",
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    link = failed()
    assert "CUDA_VISIBLE_DEVICES=''" in link.detail
    assert link.fix == "Run: unset CUDA_VISIBLE_DEVICES"


def test_counting_devices_fails(cupy: Any) -> None:
    cupy.cuda.runtime.getDeviceCount = raiser(CUDARuntimeError("cudaErrorUnknown: unknown error"))
    link = failed()
    assert "counting the devices fails: cudaErrorUnknown" in link.detail


@pytest.mark.parametrize(("count", "numbers"), [(1, "are 0."), (4, "are 0 to 3.")])
def test_device_number_out_of_range(cupy: Any, count: int, numbers: str) -> None:
    cupy.cuda.runtime.getDeviceCount = lambda: count
    link = failed(device=7)
    assert "there is no device 7" in link.detail
    assert numbers in link.detail


def test_no_memory(cupy: Any) -> None:
    cupy.cuda.runtime.memGetInfo = lambda: (2**20, 80 * 2**30)
    cupy.empty = raiser(OutOfMemoryError("out of memory"))
    link = failed()
    assert link.name == "device memory"
    assert link.detail == "device 0 has no memory left (0.00 GiB of 80.00 GiB free)."


def test_headers_that_are_nowhere(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A toolkit on this machine would be found by the real cuda-pathfinder."""
    monkeypatch.setattr(sys.modules["cuda.pathfinder"], "find_nvidia_header_directory", lambda library: None)
    link = failed()
    assert link.name == "CUDA headers"
    assert link.detail == "cuda_fp16.h and cuda_bf16.h are not in any folder that cuda-pathfinder knows."


def test_headers_that_the_compiler_does_not_find(cupy: Any) -> None:
    cupy.RawKernel = raiser(CompileException('error: could not open source file "cuda_fp16.h"\n1 error detected'))
    link = failed()
    assert link.name == "kernel"
    assert "the CUDA headers are missing" in link.detail
    assert "headers ([ctk])" in link.fix


def test_compiler_refuses(cupy: Any) -> None:
    cupy.RawKernel = raiser(CompileException("invalid value for --gpu-architecture " + "x" * 1000))
    link = failed()
    assert "NVRTC cannot compile a small kernel (invalid value" in link.detail
    assert len(link.detail) < 500


def test_wrong_numbers(cupy: Any) -> None:
    cupy.RawKernel = lambda *args, **kwargs: lambda *launch: None
    link = failed()
    assert "gave wrong numbers on device 0" in link.detail


def test_cublas_fails_or_is_wrong(cupy: Any) -> None:
    cupy.matmul = raiser(RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED"))
    link = failed()
    assert link.name == "matrix product"
    assert "CUBLAS_STATUS_NOT_INITIALIZED" in link.detail
    cupy.matmul = lambda x, y: x
    assert "wrongly on device 0" in failed().detail


def test_cache_folder(cupy: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    occupied = tmp_path / "a-file"
    occupied.write_text("")
    monkeypatch.setenv("CUPY_CACHE_DIR", str(occupied / "cache"))
    link = failed()
    assert link.name == "kernel cache folder"
    assert f"{occupied / 'cache'} cannot be written" in link.detail
    assert "CUPY_CACHE_DIR" in link.fix
    assert "CUPY_CACHE_IN_MEMORY" not in link.fix  # CuPy makes the folder when it is imported, whatever that says
    monkeypatch.setenv("CUPY_CACHE_IN_MEMORY", "1")
    assert failed() == link
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    links = {link.name: link for link in probe_links(0)}
    assert links["kernel cache folder"].ok
    assert links["kernel cache folder"].detail.startswith("in memory (CUPY_CACHE_IN_MEMORY=1)")
    monkeypatch.setenv("CUPY_CACHE_DIR", "")
    link = failed()
    assert link.detail == "CUPY_CACHE_DIR is set to nothing, with which CuPy fails."
    assert link.fix == "Run: unset CUPY_CACHE_DIR"


def test_a_cache_folder_on_a_full_disk(cupy: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *exception: object) -> None:
            pass

        def write(self, text: bytes) -> None:
            assert len(text) > 10_000
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: Full())
    link = failed()
    assert link.detail == f"{tmp_path / 'cache'} cannot be written (No space left on device)."
    assert link.fix == "Run: export CUPY_CACHE_DIR=<a folder of yours> (or CUPY_CACHE_IN_MEMORY=1)."
    monkeypatch.setenv("CUPY_CACHE_IN_MEMORY", "1")
    assert failing_link(probe_links(0)) is None


@pytest.mark.parametrize("code", ["CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "cudaErrorNoKernelImageForDevice"])
def test_a_kernel_that_the_driver_cannot_load(cupy: Any, code: str) -> None:
    cupy.RawKernel = raiser(CUDARuntimeError(f"{code}: the provided PTX was compiled with an unsupported toolchain."))
    link = failed()
    assert link.name == "kernel"
    assert link.detail.startswith(f"the driver cannot load what this NVRTC compiles ({code}")
    assert "Update the driver" in link.fix


def test_an_odd_error_of_a_kernel(cupy: Any) -> None:
    cupy.RawKernel = raiser(CUDARuntimeError("cudaErrorUnknown"))
    assert failed().detail == "CUDARuntimeError: cudaErrorUnknown."


def limited(name: str) -> Link:
    """A link that lacks something, with all else in order."""
    links = probe_links(0)
    assert failing_link(links) is None
    (found,) = (link for link in links if link.fix)
    assert (found.name, found.ok) == (name, True)
    return found


def test_graphs_that_cannot_be_recorded(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stream, "begin_capture", raiser(CUDARuntimeError("cudaErrorNotSupported")))
    link = limited("CUDA graph")
    assert link.detail == "recording a small graph fails (cudaErrorNotSupported)."
    assert "fit(..., capture=False)" in link.fix
    assert resolve_backend("cupy").name == "cupy:0"


def test_graphs_that_do_nothing(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stream, "end_capture", lambda self: SimpleNamespace(launch=lambda stream: None))
    assert limited("CUDA graph").detail == "a small graph gave wrong numbers on device 0."


def test_no_bfloat16(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    cupy.cuda.runtime.getDeviceProperties = lambda number: {**properties, "major": 7, "minor": 5}
    link = limited("bfloat16")
    assert link.detail == "compute capability 7.5 has no tensor cores for it."
    assert "precision='float16'" in link.fix
    cupy.cuda.runtime.getDeviceProperties = lambda number: properties
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    link = limited("bfloat16")
    assert link.detail.startswith("the package ml_dtypes, which has the dtype, does not load (")
    assert link.fix == "For precision='bfloat16' run: pip install ml_dtypes"


def test_the_unforeseen_becomes_a_line_too(cupy: Any) -> None:
    cupy.cuda.runtime.memGetInfo = raiser(ZeroDivisionError("odd"))
    link = failed()
    assert link.detail == "ZeroDivisionError: odd."


def test_explicit_cupy_raises_and_auto_falls_back(
    cupy: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cupy.cuda.runtime.driverGetVersion = lambda: 11080
    monkeypatch.setattr(_select, "_announced", set())
    with pytest.raises(BackendError, match=r"^NVIDIA driver: the driver supports CUDA 11\.8.*Update it") as caught:
        resolve_backend("cupy")
    assert "\n" not in str(caught.value)
    with caplog.at_level("WARNING", logger="fcnn_gpu"):
        assert resolve_backend("auto") is resolve_backend("auto")
        assert resolve_backend("auto").name == compiled_ops().name
    assert len(caplog.records) == 1
    assert "NVIDIA driver" in caplog.records[0].message


def test_a_sound_device_makes_ops(cupy: Any) -> None:
    ops = make_cupy_ops(0)
    assert isinstance(ops, CupyOps)
    assert ops.name == "cupy:0"
    assert resolve_backend("cupy") is resolve_backend("cupy:0")
    assert ops.describe() == "NVIDIA H100 (device 0, 80 GiB, CuPy 14.2.0)"


def test_runtime_over_cupy(cupy: Any) -> None:
    runtime = CupyRuntime(cupy, 0)
    assert runtime.is_current()
    cupy.cuda.runtime.getDevice = lambda: 1
    assert not CupyRuntime(cupy, 0).is_current()
    with runtime.activate() as device:
        assert device.number == 0
    assert runtime.is_device_array(np.ones(3))  # the fake has NumPy arrays for its own
    assert not runtime.is_device_array([1.0])
    assert runtime.is_device_array(SimpleNamespace(__cuda_array_interface__={}))
    x = np.ones((2, 3), order="F")
    assert runtime.to_device(x) is x
    assert runtime.to_host(x).flags.f_contiguous


def test_synchronizing_waits_for_the_current_stream_alone(cupy: Any) -> None:
    """CUDA breaks off the graph that another thread is recording when anyone waits for the whole device."""
    waits: list[int] = []
    cupy.cuda.get_current_stream = lambda: SimpleNamespace(synchronize=lambda: waits.append(1))
    runtime = CupyRuntime(cupy, 0)
    runtime.synchronize()
    assert waits == [1]
    assert runtime.activate().synchronized == 0


def test_a_copy_on_the_device_is_one_asynchronous_copy_of_memory(cupy: Any) -> None:
    """A capture may hold it; an assignment of CuPy would compile and launch a kernel. Of nothing, nothing is copied."""
    log: list[tuple[Any, int]] = []

    def array(nbytes: int, memory: Any = None) -> Any:
        return SimpleNamespace(size=nbytes // 4, nbytes=nbytes, data=memory)

    target = SimpleNamespace(copy_from_device_async=lambda source, nbytes: log.append((source, nbytes)))
    runtime = CupyRuntime(cupy, 0)
    runtime.copy(array(24, "source"), array(24, target))
    runtime.copy(array(0), array(0))
    assert log == [("source", 24)]


def test_what_the_products_ask_of_cupy(cupy: Any) -> None:
    runtime = CupyRuntime(cupy, 0)
    cupy.cuda.get_current_stream = lambda: SimpleNamespace(ptr=77)
    assert runtime.stream_address() == 77
    assert runtime.compute_capability() == 90
    assert runtime.hardware() == "NVIDIA H100"
    memory = runtime.allocate(4096)
    assert (memory.nbytes, memory.dtype) == (4096, np.uint8)
    assert runtime.address(SimpleNamespace(data=SimpleNamespace(ptr=512))) == 512


def test_the_stopwatch_reads_two_events_of_the_current_stream(cupy: Any) -> None:
    log: list[str] = []

    class Event:
        def record(self, stream: str) -> None:
            log.append(f"record on {stream}")

        def synchronize(self) -> None:
            log.append("wait")

    def elapsed_milliseconds(start: Event, end: Event) -> float:
        assert start is not end
        return 2.5

    cupy.cuda.Event, cupy.cuda.get_elapsed_time = Event, elapsed_milliseconds
    cupy.cuda.get_current_stream = lambda: "stream 7"
    seconds = CupyRuntime(cupy, 0).stopwatch()
    assert log == ["record on stream 7"]
    cupy.cuda.get_current_stream = lambda: "another"
    assert seconds() == pytest.approx(2.5e-3)
    assert log == ["record on stream 7", "record on stream 7", "wait"]


def test_this_machine_says_something_sensible() -> None:
    links = probe_links(0)
    assert [link.name for link in links] == NAMES
    for link in links:
        assert link.detail
        assert link.fix or link.ok is not False


WITHOUT_CUPY = """
import importlib.metadata, logging, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("cupy", "cupy_backends", "cupyx"):
            raise ModuleNotFoundError(name)

def version(name, real=importlib.metadata.version):
    if name.startswith("cupy"):
        raise importlib.metadata.PackageNotFoundError(name)
    return real(name)

sys.meta_path.insert(0, Block())
importlib.metadata.version = version
logging.basicConfig(format="%(message)s")
from fcnn_gpu.backend import BackendError, resolve_backend
print(resolve_backend("auto").name)
try:
    resolve_backend("cupy")
except BackendError as error:
    print(error)
assert not any(name.partition(".")[0].startswith("cupy") for name in sys.modules)
"""


def test_without_cupy() -> None:
    described = compiled_ops().describe()
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", WITHOUT_CUPY]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert run.returncode == 0, run.stderr
    reason = (
        "CuPy package: CuPy is not installed. "
        "Run: pip install 'cupy-cuda12x[ctk]>=14.2,<15', or with cupy-cuda13x for a driver of CUDA 13."
    )
    assert run.stdout.splitlines() == ["cpu", reason]
    assert run.stderr.splitlines() == [f"fcnn_gpu computes on the {described}: {reason}"]
