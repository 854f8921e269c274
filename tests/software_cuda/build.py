"""The libraries of software CUDA and CuPy's runtime module, compiled once for each version of what they depend on.

CuPy's wheel reaches the CUDA runtime through one module, `cupy_backends.cuda.api.runtime`, which has NVIDIA's runtime
inside. It is built anew from CuPy's own source of the same version, against our library. Nothing of NVIDIA's is
changed: its headers give the prototypes, so that a function of ours whose signature differs does not compile.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cuda_on_cpu import host_device, missing_compiler

HERE = Path(__file__).parent
CUDA_ON_CPU = HERE.parent / "cuda_on_cpu"
CUBLAS = HERE.parent / "cublas_on_cpu" / "cublas.cpp"

_FLAGS = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-fvisibility=hidden")
_STANDARD = "-std=c++17"
_KERNEL_FLAGS = (
    *("-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno", "-O1", "-fno-gnu-unique"),
    *("-fno-threadsafe-statics", "-ftrivial-auto-var-init=pattern", "-w", "-fpermissive"),
    "-fsanitize=bounds,alignment,null,integer-divide-by-zero,shift,signed-integer-overflow",
)
"""Of the kernels, CuPy's own included: those of tests/cuda_on_cpu, but for warnings."""
_RUNTIME = "cupy_backends/cuda/api/runtime"


class NotBuildable(RuntimeError):
    """Something that the build needs is missing; the message says what, and how to get it."""


@dataclass(frozen=True)
class Built:
    """Where everything lies: `libraries` to be loaded before CuPy, and `overlay`, to stand first on Python's path."""

    folder: Path
    cuda: int

    @property
    def overlay(self) -> Path:
        return self.folder / "overlay"

    @property
    def libraries(self) -> list[Path]:
        names = ("libcuda.so.1", *(f"lib{name}.so.{self.cuda}" for name in ("cudart", "nvrtc", "cublasLt", "cublas")))
        return [self.folder / "lib" / name for name in names]


@dataclass(frozen=True)
class _Needed:
    """What the build is made from."""

    compiler: str
    cuda: int
    version: str
    package: Path
    headers: Path
    cuda_version: int
    """Of the headers, as 12090: the version of CUDA that our libraries say they are."""

    def source(self, scratch: Path) -> Path:
        """CuPy's source of this version: the folder or archive that FCNN_CUPY_SOURCE names, or a download by pip."""
        given = os.environ.get("FCNN_CUPY_SOURCE")
        archive = Path(given) if given else _downloaded(self.version, scratch)
        if archive.is_file():
            with tarfile.open(archive) as file:
                file.extractall(scratch, filter="data")
            archive = scratch / f"cupy-{self.version}"
        if not (archive / f"{_RUNTIME}.pyx").is_file():
            raise NotBuildable(
                f"CuPy {self.version}'s source is not in {given or archive}: FCNN_CUPY_SOURCE names the unpacked "
                f"source distribution or its archive, cupy-{self.version}.tar.gz."
            )
        return archive


def _downloaded(version: str, scratch: Path) -> Path:
    # CuPy's source distribution wants a CUDA installation before it is as much as looked at, unless a stub will do.
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary",
        "cupy",
        f"cupy=={version}",
    ]
    done = subprocess.run(
        [*command, "--dest", str(scratch)],
        env={**os.environ, "CUPY_INSTALL_USE_STUB": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise NotBuildable(
            f"`{' '.join(command[1:])}` fails: {done.stderr.strip()[-600:]}\nWithout a package index, let "
            "FCNN_CUPY_SOURCE name the source distribution."
        )
    return scratch / f"cupy-{version}.tar.gz"


@functools.cache
def missing() -> str | None:
    """Why software CUDA cannot be built here, or None if it can."""
    try:
        _needed()
    except NotBuildable as reason:
        return str(reason)
    return None


def _needed() -> _Needed:
    if sys.platform != "linux":
        raise NotBuildable("Software CUDA needs Linux.")
    without = missing_compiler()
    if without:
        raise NotBuildable(without)
    wheels = {12: "cupy-cuda12x", 13: "cupy-cuda13x"}
    found = {cuda: _version(wheel) for cuda, wheel in wheels.items()}
    cuda, version = next(((c, v) for c, v in found.items() if v), (0, None))
    if version is None:
        raise NotBuildable("Software CUDA needs CuPy: pip install '.[software-cuda12]' (or [software-cuda13]).")
    extra = f"pip install '.[software-cuda{cuda}]'"
    if importlib.util.find_spec("Cython") is None:
        raise NotBuildable(f"Software CUDA needs Cython, to build CuPy's runtime module: {extra}.")
    # The wheel's own: an import finds the overlay in a process that runs on software CUDA already, as pytest's workers
    # do, which would be built anew over that, as a second driver beside the one that is loaded.
    package = Path(str(importlib.metadata.distribution(wheels[cuda]).locate_file("cupy_backends")))
    headers = _headers("nvidia-cuda-runtime-cu12" if cuda == 12 else "nvidia-cuda-runtime", cuda)
    if headers is None:
        raise NotBuildable(f"Software CUDA needs the headers of the runtime of CUDA {cuda}: {extra}.")
    compiler = host_device._compiler()
    assert compiler is not None
    return _Needed(compiler, cuda, version, package, *headers)


def _version(wheel: str) -> str | None:
    try:
        return importlib.metadata.version(wheel)
    except importlib.metadata.PackageNotFoundError:
        return None


def _headers(wheel: str, cuda: int) -> tuple[Path, int] | None:
    """The folder of NVIDIA's headers in the wheel of the CUDA runtime, and their version. A toolkit may be of any."""
    try:
        files = importlib.metadata.files(wheel) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name == "cuda_runtime_api.h":
            found = Path(str(file.locate()))
            text = found.read_text(encoding="utf-8", errors="replace")
            version = re.search(r"#define\s+CUDART_VERSION\s+(\d+)", text)
            if version and int(version[1]) // 1000 == cuda:
                return found.parent, int(version[1])
    return None


def build() -> Built:
    """Build what has not been built yet; raises `NotBuildable`, or RuntimeError with the compiler's words."""
    needed = _needed()
    home = Path(tempfile.gettempdir()) / f"software_cuda-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    built = Built(home / _key(needed), needed.cuda)
    if not built.folder.exists():
        with tempfile.TemporaryDirectory(dir=home) as scratch:
            made = Path(scratch) / "built"
            _build_into(made, needed, Path(scratch), built.folder)
            try:
                made.rename(built.folder)
            except OSError:
                if not built.folder.exists():  # otherwise another process has been as quick
                    raise
    return built


def _key(needed: _Needed) -> str:
    key = hashlib.sha256(repr((HERE, needed, sys.version_info[:3], sysconfig.get_platform(), _FLAGS)).encode())
    here = (HERE / "driver", HERE / "compiler", CUDA_ON_CPU, CUBLAS.parent)
    for folder in here:
        for file in sorted(folder.rglob("*")):
            if file.suffix in (".cpp", ".hpp", ".h", ".inc"):
                key.update(file.name.encode() + file.read_bytes())
    key.update(Path(__file__).read_bytes())
    key.update((needed.headers / "cuda_runtime_api.h").read_bytes())
    return key.hexdigest()[:20]


def _build_into(out: Path, needed: _Needed, scratch: Path, final: Path) -> None:
    """Build into `out`, which will be moved to `final`."""
    lib, parts = out / "lib", out / "parts"
    for folder in (lib, parts):
        folder.mkdir(parents=True)
    include = (f"-I{HERE / 'driver' / 'include'}", f"-I{CUDA_ON_CPU}", "-isystem", str(needed.headers))
    defined = (
        f'-DCXX="{needed.compiler}"',
        f'-DFLAGS="{" ".join(_KERNEL_FLAGS)}"',
        f'-DCUDA_ON_CPU="{CUDA_ON_CPU}"',
        f'-DCOMPILER="{HERE / "compiler"}"',
        f'-DPARTS="{final / "parts"}"',
        f"-DNVRTC_MAJOR={needed.cuda}",
        f"-DNVRTC_MINOR={needed.cuda_version // 10 % 100}",
    )
    jobs: list[tuple[Path, Path, tuple[str, ...]]] = [
        (file, scratch / f"{file.stem}.o", (*_FLAGS, *include)) for file in sorted((HERE / "driver").glob("*.cpp"))
    ]
    driver = [job[1] for job in jobs]
    for name in ("scheduler", "races"):
        jobs.append(
            (CUDA_ON_CPU / f"{name}.cpp", parts / f"{name}.o", (*_FLAGS, "-fno-math-errno", "-ffp-contract=off"))
        )
    jobs.append((HERE / "compiler" / "nvrtc.cpp", scratch / "nvrtc.o", (*_FLAGS, *defined)))
    jobs.append((CUBLAS, scratch / "cublas.o", (*_FLAGS, f"-DSOFTWARE_CUDA={needed.cuda}")))
    runtime = scratch / "runtime.cpp"
    source = needed.source(scratch)

    def compiled(job: tuple[Path, Path, tuple[str, ...]]) -> None:
        file, target, flags = job
        _run([needed.compiler, *flags, "-c", str(file), "-o", str(target)])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pending: list[Future[Any]] = [pool.submit(compiled, job) for job in jobs]
        pending.append(pool.submit(_compile_runtime, source, runtime, needed))
        # A third of what a small kernel takes is the text before it. The compiler finds this beside the header's name.
        header = [f"-I{CUDA_ON_CPU / 'include'}", "-x", "c++-header", str(CUDA_ON_CPU / "cuda_on_cpu.hpp")]
        compiled_header = ["-o", str(parts / "cuda_on_cpu.hpp.gch")]
        pending.append(pool.submit(_run, [needed.compiler, _STANDARD, *_KERNEL_FLAGS, *header, *compiled_header]))
        for job in pending:
            job.result()

    # Each library's own templates of the standard library are bound to it, and at once: others of this process, such as
    # PyTorch's, have functions of the same names that are not the same.
    link = (needed.compiler, "-shared", "-Wl,-rpath,$ORIGIN", "-Wl,-Bsymbolic", "-Wl,-z,now")
    n = needed.cuda
    _run([*link, "-Wl,-soname,libcuda.so.1", *map(str, driver), "-ldl", "-lpthread", "-o", str(lib / "libcuda.so.1")])
    upon_driver = ("-Wl,--no-as-needed", f"-L{lib}", "-l:libcuda.so.1")
    # The runtime's functions lie in the driver's library: the two share their state.
    empty = scratch / "empty.cpp"
    empty.write_text("")
    _run([*link, f"-Wl,-soname,libcudart.so.{n}", str(empty), *upon_driver, "-o", str(lib / f"libcudart.so.{n}")])
    _run([*link, f"-Wl,-soname,libnvrtc.so.{n}", str(scratch / "nvrtc.o"), "-o", str(lib / f"libnvrtc.so.{n}")])
    _link_cublas(lib, scratch, link, upon_driver, needed)
    _overlay(out / "overlay", needed, scratch / "runtime.o", lib, final)


def _compile_runtime(source: Path, generated: Path, needed: _Needed) -> None:
    """CuPy's runtime module, as CuPy's own build makes it (install/cupy_builder/_command.py)."""
    # The module's numbers of CUDA's enumerations and structures are those of the headers at hand.
    for file in ("cuda_runtime_api.h", "cuda.h"):
        if not (needed.headers / file).is_file():
            raise NotBuildable(f"{file} is not in {needed.headers}: is the runtime's wheel complete?")
    settings = {
        "CUPY_USE_CUDA_PYTHON": False,
        "CUPY_CUFFT_STATIC": False,
        "CUPY_CYTHON_VERSION": repr(_version("cython")),
        "CUPY_CUDA_VERSION": needed.cuda_version,
        "CUPY_HIP_VERSION": 0,
    }
    directives = {
        "linetrace": False,
        "profile": False,
        "embedsignature": True,
        "binding": False,
        "c_api_binop_methods": True,
        "freethreading_compatible": True,
        "warn.deprecated.IF": False,
    }
    command = [sys.executable, "-m", "cython", "-3", "--cplus"]
    command += ["-E", ",".join(f"{name}={value}" for name, value in settings.items())]
    command += ["-X", ",".join(f"{name}={value}" for name, value in directives.items())]
    _run([*command, str(source / f"{_RUNTIME}.pyx"), "-o", str(generated)])
    include = [HERE / "driver" / "include", Path(sysconfig.get_path("include")), needed.headers]
    include += [source, source / "cupy_backends" / "cuda" / "api"]
    flags = ["-std=c++17", "-O1", "-w", "-fPIC", *(f"-I{folder}" for folder in include)]
    _run([needed.compiler, *flags, "-c", str(generated), "-o", str(generated.with_suffix(".o"))])


def _link_cublas(lib: Path, scratch: Path, link: Sequence[str], upon_driver: Sequence[str], needed: _Needed) -> None:
    """libcublas and libcublasLt, with the symbol versions of NVIDIA's; what CuPy links to beyond ours refuses."""
    defined = _run(["nm", "--defined-only", str(scratch / "cublas.o")])
    ours = {line.split()[-1] for line in defined.splitlines() if line}
    binding = next((needed.package / "cuda" / "libs").glob("cublas.*.so"))
    undefined = _run(["nm", "-D", "--undefined-only", str(binding)])
    wanted = {line.split()[-1] for line in undefined.splitlines() if line}
    names = sorted(name for symbol in wanted if (name := symbol.partition("@")[0]).startswith("cublas"))
    refusing = scratch / "refusing.cpp"
    refusing.write_text(
        "".join(
            f'extern "C" __attribute__((visibility("default"))) int {name}() {{ return 15; }}  // NOT_SUPPORTED\n'
            for name in names
            if name not in ours
        )
    )
    for library, prefix in (("cublas", "cublas[!L]*"), ("cublasLt", "cublasLt*")):
        soname = f"lib{library}.so.{needed.cuda}"
        versions = scratch / f"{library}.map"
        versions.write_text(f"{soname} {{ global: {prefix}; local: *; }};\n")
        _run(
            [
                *(*link, "-fPIC", f"-Wl,-soname,{soname}", f"-Wl,--version-script,{versions}"),
                *(str(scratch / "cublas.o"), str(refusing), *upon_driver, "-o", str(lib / soname)),
            ]
        )


def _overlay(overlay: Path, needed: _Needed, runtime: Path, lib: Path, final: Path) -> None:
    """cupy_backends as the wheel has it, but for the runtime module, and what children of this process load first."""
    inner = Path("cuda") / "api"
    for level in (Path(), Path("cuda"), inner):
        folder = overlay / "cupy_backends" / level
        folder.mkdir(parents=True, exist_ok=True)
        for entry in sorted((needed.package / level).iterdir()):
            replaced = entry.name.startswith("runtime.") and level == inner
            if not replaced and entry.name not in ("__pycache__", "cuda" if level == Path() else "api"):
                (folder / entry.name).symlink_to(entry)
    target = overlay / "cupy_backends" / inner / f"runtime{sysconfig.get_config_var('EXT_SUFFIX')}"
    _run(
        [
            *(needed.compiler, "-shared", f"-Wl,-rpath,{final / 'lib'}", str(runtime)),
            *("-Wl,--no-as-needed", f"-L{lib}", "-l:libcuda.so.1", "-o", str(target)),
        ]
    )
    shutil.copyfile(HERE / "children.py", overlay / "sitecustomize.py")


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command)}` fails:\n{(done.stderr + done.stdout)[-6000:]}")
    return done.stdout


if __name__ == "__main__":
    print(f"Software CUDA is in {build().folder}.")
