"""Compiles kernels/cpu into a shared library, by the system's C compiler: a few seconds, and no Python headers.

pyproject's build hook loads this file by its path, before there is a package: it imports the standard library alone.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

COMMON = ["-O3", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden", "-Wall", "-Wextra"]
"""Of every file. The kernels neither set errno nor look at floating-point exceptions."""
_V3 = "-mavx2 -mfma -mbmi -mbmi2 -mf16c -mlzcnt -mmovbe"
_V4 = f"{_V3} -mavx512f -mavx512bw -mavx512cd -mavx512dq -mavx512vl -mprefer-vector-width=512"
LEVELS = {
    "x86_64": {"v2": "-msse4.2 -mpopcnt", "v3": _V3, "v4": _V4},
}
"""The instruction levels by architecture, named as those of x86-64; on any other, what the compiler takes itself."""
SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
LIBRARY = f"fcnn_cpu{SUFFIX}"
"""The file's name, within the package or in a folder of its own."""


class BuildError(Exception):
    """Why there is no library: the message is the compiler's first complaint, or that there is none."""


def compiler() -> list[str]:
    """The command of the C compiler: CC, else cc."""
    return shlex.split(os.environ.get("CC") or "cc")


def sources(folder: Path) -> list[Path]:
    """The files whose text makes the library what it is."""
    return sorted([*folder.glob("*.c"), *folder.glob("*.h")])


def fingerprint(folder: Path) -> str:
    """Of the sources and how they are compiled: a library made of others is another."""
    digest = hashlib.sha256(repr((COMMON, LEVELS, compiler(), os.environ.get("CFLAGS", ""))).encode())
    for path in [*sources(folder), Path(__file__)]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def build(folder: Path, out: Path) -> None:
    """Compile the sources in `folder` into the library `out`; `BuildError` where that cannot be."""
    machine = {"AMD64": "x86_64"}.get(platform.machine(), platform.machine())
    levels = LEVELS.get(machine, {"baseline": ""})
    extra = shlex.split(os.environ.get("CFLAGS", ""))
    position = [] if sys.platform == "win32" else ["-fPIC"]
    common = [*compiler(), *COMMON, *position, "-pthread"]
    with tempfile.TemporaryDirectory() as temporary:
        commands, objects = [], []
        for level, flags in levels.items():
            for stem, contraction in (("level", "off"), ("product", "fast")):
                objects.append(str(Path(temporary) / f"{stem}_{level}.o"))
                options = [*shlex.split(flags), f"-DLEVEL={level}", f"-ffp-contract={contraction}", *extra]
                commands.append([*common, *options, "-c", str(folder / f"{stem}.c"), "-o", objects[-1]])
        for stem in ("program", "threads"):
            objects.append(str(Path(temporary) / f"{stem}.o"))
            commands.append([*common, *extra, "-c", str(folder / f"{stem}.c"), "-o", objects[-1]])
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_run, commands))
        made = Path(temporary) / LIBRARY
        _run([*compiler(), "-shared", "-pthread", *extra, *objects, "-o", str(made)])
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = out.with_name(f"{out.name}.{os.getpid()}")
        partial.write_bytes(made.read_bytes())
        partial.replace(out)


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    except FileNotFoundError:
        raise BuildError(f"there is no C compiler: {command[0]} was not found") from None
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "error" in line] or error.stderr.splitlines() or ["?"]
        raise BuildError(f"{command[0]} failed: {lines[0].strip()}") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"{command[0]} failed: {error}") from None
