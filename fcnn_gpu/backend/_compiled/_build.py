"""Compiles kernels/cpu into a shared library, by the system's C compiler: some seconds, and no Python headers.

The build hook (hatch_build.py) loads this file by its path, before there is a package: it imports the standard library
alone. An installed package asks it for names only, so what takes time to load is imported where it is needed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
LIBRARY = f"fcnn_cpu{SUFFIX}"
"""The library's name, in the package or in a folder of its own."""
WHY_NOT = "fcnn_cpu.txt"
"""The file beside it, in a package without one, that says why."""

COMPILERS = ("cc", "gcc", "clang")
"""What a C compiler may be called; the variable CC goes before."""
COMMON = [
    *("-O3", "-std=gnu11", "-fno-fast-math", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"),
    *("-Wall", "-Wextra", "-Wshadow"),
]
"""Of every file. The kernels neither set errno nor look at floating-point exceptions. NaN and ∞ are theirs to find."""
_V2 = "-msse4.2 -mpopcnt"
_V3 = "-mavx2 -mfma -mbmi -mbmi2"
_V4 = f"{_V3} -mavx512f -mavx512bw -mavx512cd -mavx512dq -mavx512vl -mprefer-vector-width=512"
LEVELS = {"x86_64": {"v4": _V4, "v3": _V3, "v2": _V2}}
"""Instruction levels by architecture, best first (kernels/cpu/program.c asks the CPU for them)."""
ONLY_LEVEL = {"baseline": ""}
"""On any other: what the compiler takes itself."""

EXACT, FUSED = "-ffp-contract=off", "-ffp-contract=fast"
"""Whether the compiler may fuse products with sums."""
_OF_A_LEVEL = {"product": FUSED, "level": EXACT}
"""Files that are compiled for each level, beside `operation`, which is compiled for each operation as well."""
_ONCE = ("program", "threads")
_SLOWEST = ("parametric_activation_backward", "softmax_cross_entropy", "embed_numbers_backward", "elementwise_loss")
"""What compiles longest, and so begins first."""
_MACOS = {"aarch64": "11.0", "x86_64": "10.13"}
"""The first macOS that a library runs on, unless MACOSX_DEPLOYMENT_TARGET names it."""


class BuildError(Exception):
    """Why there is no library: the message is the compiler's first complaint, or that there is none."""


class Target(NamedTuple):
    """What a compiler compiles for: the architecture, the system, and whether it is GCC of MinGW-w64."""

    machine: str
    system: str
    mingw: bool

    @classmethod
    def parse(cls, triple: str) -> Target:
        """From what `cc -dumpmachine` says: x86_64-linux-gnu, arm64-apple-darwin23.1.0, x86_64-w64-mingw32."""
        named = {"linux": "linux", "darwin": "darwin", "macos": "darwin", "mingw": "win32", "windows": "win32"}
        system = next((system for part, system in named.items() if part in triple), "other")
        return cls(_machine(triple.partition("-")[0]), system, "mingw" in triple)

    @classmethod
    def of(cls, command: Sequence[str], flags: Sequence[str] = ()) -> Target:
        """What a compiler makes with these flags; `BuildError` where it is none."""
        target = cls.parse(_run([*command, *flags, "-dumpmachine"]).strip())
        named = _architectures(flags)
        return target._replace(machine=_machine(named[0])) if named else target


def _machine(name: str) -> str:
    """An architecture under the one of its names that is used here."""
    name = name.lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def compiler() -> list[str]:
    """The command of the C compiler: CC, else the first of `COMPILERS` that there is, else "cc"."""
    return shlex.split(os.environ.get("CC", "")) or [next(filter(shutil.which, COMPILERS), COMPILERS[0])]


def extra_flags() -> list[str]:
    """CFLAGS, and on a Mac the architecture that ARCHFLAGS ask for, which is one alone."""
    flags = shlex.split(os.environ.get("CFLAGS", ""))
    if sys.platform == "darwin":
        flags += shlex.split(os.environ.get("ARCHFLAGS", ""))
        if len(set(_architectures(flags))) > 1:
            raise BuildError("ARCHFLAGS name several architectures, and a library is compiled for one")
    return flags


def sources(folder: Path) -> list[Path]:
    """The files whose text makes the library what it is."""
    return sorted([*folder.glob("*.c"), *folder.glob("*.h")])


def settings() -> tuple[str, ...]:
    """What the environment says of the compiler and its flags."""
    return (*compiler(), *(os.environ.get(name, "") for name in ("CFLAGS", "ARCHFLAGS")))


def fingerprint(folder: Path) -> str:
    """Of the sources, how they are compiled and for what: a library made of others is another."""
    import sysconfig

    digest = hashlib.sha256(repr((sysconfig.get_platform(), settings())).encode())
    for path in [*sources(folder), Path(__file__)]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def library_in(checkout: Path) -> Path:
    """Where the library of a checkout lies, whether it has been compiled or not."""
    return checkout / "build" / f"cpu-{fingerprint(checkout / 'kernels' / 'cpu')}" / LIBRARY


def wheel_platform() -> str:
    """The platform tag of a wheel with a library for this Python: linux_x86_64, macosx_11_0_arm64, win_amd64."""
    import sysconfig

    if sys.platform != "darwin":
        return re.sub(r"[-.]", "_", sysconfig.get_platform())
    machine = (_architectures(extra_flags()) or [platform.machine()])[0]
    return f"macosx_{_deployment_target(_machine(machine)).replace('.', '_')}_{machine}"


def _deployment_target(machine: str) -> str:
    return os.environ.get("MACOSX_DEPLOYMENT_TARGET") or _MACOS[machine]


def build(
    folder: Path,
    out: Path,
    *,
    command: Sequence[str] | None = None,
    flags: Sequence[str] = (),
    levels: Sequence[str] | None = None,
) -> None:
    """Compile the sources in `folder` into the library `out`; `BuildError` where that cannot be.

    Args:
        command: the compiler, for whatever it compiles; by default `compiler()`, for what this Python runs on.
        flags: more flags for it, after all others.
        levels: the instruction levels to compile, of those that the architecture has; by default all.
    """
    given = extra_flags()
    if command is None:
        command = compiler()
        _check_fits(Target.of(command, given))
    target = Target.of(command, given)
    known = LEVELS.get(target.machine, ONLY_LEVEL)
    chosen = list(levels if levels is not None else known)
    common = [*command, *given, *COMMON, *_of_system(target)]  # ours come last: they decide what bits results have
    names = f"-DLEVELS(X)={' '.join(f'X({level})' for level in chosen)}"
    with tempfile.TemporaryDirectory() as temporary:
        objects: list[str] = []
        commands: list[list[str]] = []

        def compile_(stem: str, *options: str) -> None:
            objects.append(str(Path(temporary) / f"{len(objects)}.o"))
            commands.append([*common, *options, *flags, "-c", str(folder / f"{stem}.c"), "-o", objects[-1]])

        of_levels = [[*shlex.split(known[level]), f"-DLEVEL={level}"] for level in chosen]
        for stem, contraction in _OF_A_LEVEL.items():
            for options in of_levels:
                compile_(stem, *options, contraction)
        for name in operations(folder):
            for options in of_levels:
                compile_("operation", *options, EXACT, f"-DOPERATION_FILE={name}")
        for stem in _ONCE:
            compile_(stem, names)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_run, commands))
        made = Path(temporary) / out.name
        linked = ["-static-libgcc"] if target.system == "win32" else ["-pthread"]
        _run([*command, *given, *COMMON, "-shared", *linked, *flags, *objects, "-o", str(made)])
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = out.with_name(f"{out.name}.{os.getpid()}")
        shutil.copyfile(made, partial)
        partial.replace(out)


def operations(folder: Path) -> list[str]:
    """The operations that have a file, by its name, those first that compile longest."""
    others = {"operation", *_OF_A_LEVEL, *_ONCE}
    names = {path.stem for path in folder.glob("*.c")} - others
    return [*filter(names.__contains__, _SLOWEST), *sorted(names.difference(_SLOWEST))]


def _architectures(flags: Sequence[str]) -> list[str]:
    """What -arch names, Apple's option."""
    return re.findall(r"-arch (\S+)", " ".join(flags))


def _check_fits(target: Target) -> None:
    """Refuse what this Python could not load."""
    if sys.maxsize < 2**32:
        raise BuildError("a Python of 64 bits is needed, and this one has 32")
    if target.machine != _machine(platform.machine()):
        raise BuildError(f"the C compiler compiles for {target.machine}, and this Python runs on {platform.machine()}")


def _of_system(target: Target) -> list[str]:
    if target.mingw:  # it aligns no vectors on Windows' stack: https://gcc.gnu.org/bugzilla/show_bug.cgi?id=54412
        return ["-Wa,-muse-unaligned-vector-move"]
    if target.system == "win32":
        return []
    if target.system == "darwin":
        return ["-fPIC", "-pthread", f"-mmacosx-version-min={_deployment_target(target.machine)}"]
    return ["-fPIC", "-pthread"]


def _run(command: list[str]) -> str:
    import subprocess

    try:
        english = os.environ | {"LC_ALL": "C"}
        return subprocess.run(
            command, check=True, capture_output=True, encoding="utf-8", errors="replace", env=english, timeout=600
        ).stdout
    except FileNotFoundError:
        raise BuildError(f"there is no C compiler: {command[0]} was not found") from None
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "error" in line] or error.stderr.splitlines()
        complaint = lines[0].strip() if lines else f"exit status {error.returncode}, without a word"
        raise BuildError(f"{command[0]} failed: {complaint}") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"{command[0]} failed: {error}") from None
