"""Compiling replay.c with the library for any system and with any flags, and running it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fcnn_gpu.backend._compiled._build import build, compiler

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "kernels" / "cpu"
STRICT = ["-Werror"]
"""Of every compilation in the tests: no compiler has anything to remark."""


@dataclass(frozen=True)
class Toolchain:
    """A compiler, what its programs run under, the level that they compute with, and whether they may fork."""

    command: tuple[str, ...]
    emulator: tuple[str, ...] = ()
    level: str = "v3"
    flags: tuple[str, ...] = ()
    forks: bool = True
    library: str = "libfcnn_cpu.so"

    def missing(self) -> str | None:
        """Which of its programs is not here."""
        needed = [self.command[0], *self.emulator[:1]]
        return next((f"{name} is not installed" for name in needed if shutil.which(name) is None), None)

    def build(self, folder: Path) -> Path:
        """The program, in `folder` with its library."""
        library = folder / self.library
        build(SOURCES, library, command=self.command, flags=[*STRICT, *self.flags], levels=[self.level])
        return self.link(folder, library)

    def link(self, folder: Path, library: Path) -> Path:
        """The program, with a library that there is."""
        program = folder / "replay.exe"
        warnings = ["-Wall", "-Wextra", "-Wshadow", *STRICT]
        system = [] if library.suffix == ".dll" else ["-pthread", f"-Wl,-rpath,{library.parent}"]
        flags = ["-O1", "-g", "-std=gnu11", *warnings, *self.flags, f"-I{SOURCES}", *system]
        files = [str(Path(__file__).with_name("replay.c")), str(library), "-o", str(program)]
        subprocess.run([*self.command, *flags, *files], check=True)
        return program

    def run(self, program: Path, recording: Path, level: str = "", variables: Mapping[str, str] | None = None) -> str:
        """What it says of the calls; AssertionError where they differ or it dies."""
        result = subprocess.run(
            [*self.emulator, str(program), str(recording), level or self.level, str(int(self.forks))],
            env=os.environ | dict(variables or {}),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=900,
        )
        assert result.returncode == 0, f"{program}: exit code {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result.stdout


def own(flags: Sequence[str] = ()) -> Toolchain:
    """This machine's compiler."""
    return Toolchain(tuple(compiler()), flags=tuple(flags))
