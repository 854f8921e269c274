"""Where the library of the compiled operations lies, why there is none, and what brings it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

from ._build import LIBRARY, WHY_NOT, library_in, settings
from ._library import LEVEL_VARIABLE, Library, LibraryFault

_PACKAGE = Path(__file__).parents[2]

BUILD_COMMAND = "python -m fcnn_gpu.backend._compiled"
"""What compiles the library of a checkout."""

_INSTALLERS = {
    "apt-get": "apt install gcc libc6-dev",
    "dnf": "dnf install gcc",
    "apk": "apk add gcc musl-dev",
    "pacman": "pacman -S gcc",
    "zypper": "zypper install gcc",
}
"""How the package managers of Linux bring a C compiler and the C library's headers."""


class NotCompiledError(Exception):
    """Why the compiled kernels cannot be used, `reason`, and what to do, `fix`."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(f"{reason}. {fix}")
        self.reason, self.fix = reason, fix


@cache
def load_library() -> Library:
    """The library; `NotCompiledError` where there is none that fits, ValueError for a wrong FCNN_CPU_LEVEL."""
    path = library_path()
    if not path.exists():
        raise NotCompiledError(why_not(), remedy())
    try:
        return Library(path, os.environ.get(LEVEL_VARIABLE) or None, _operations())
    except (LibraryFault, OSError) as fault:
        raise NotCompiledError(str(fault), remedy()) from None


def library_path() -> Path:
    """Where the library lies if there is one: in the installed package; in a checkout, under build/ by its sources."""
    installed = _PACKAGE / LIBRARY
    checkout = None if installed.exists() else _checkout()
    return installed if checkout is None else _library_in(checkout, settings())


def build_in_checkout() -> Path:
    """The library of a checkout, compiled unless that has been done. Raises `BuildError`."""
    from ._build import BuildError, build

    checkout, path = _checkout(), library_path()
    if not path.exists():
        if checkout is None:
            raise BuildError(f"{_PACKAGE} is an installed package. {remedy()}")
        build(checkout / "kernels" / "cpu", path)
    return path


def why_not() -> str:
    """Why there is no library, in a clause."""
    if _checkout() is not None:
        return "this checkout's kernels are not compiled as they are now"
    note = _PACKAGE / WHY_NOT
    reason = note.read_text(encoding="utf-8").strip() if note.exists() else ""
    return "the package was installed without them" + (f" ({reason})" if reason else "")


def remedy() -> str:
    """What brings a library that fits, in a sentence."""
    from ._build import compiler

    command = BUILD_COMMAND if _checkout() is not None else _install_command()
    if shutil.which(compiler()[0]):
        return f"Run: {command}"
    return f"Install a C compiler ({_compiler_command()}), then run: {command}"


def _compiler_command() -> str:
    if sys.platform == "darwin":
        return "xcode-select --install"
    if sys.platform == "win32":
        return "winget install BrechtSanders.WinLibs.POSIX.UCRT"
    found = (command for manager, command in _INSTALLERS.items() if shutil.which(manager))
    return next(found, "GCC or Clang, and the C library's headers")


def _install_command() -> str:
    """What installs the package anew, from where it came."""
    return f"pip install --force-reinstall --no-deps --no-cache-dir {_origin()}"


def _origin() -> str:
    try:
        text = metadata.distribution("fcnn_gpu").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return "fcnn_gpu"
    if not text:
        return "fcnn_gpu"
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    found = json.loads(text)
    url, source = urlsplit(found["url"]), found.get("vcs_info")
    if source:
        return _quoted(f"fcnn_gpu @ {source['vcs']}+{found['url']}")
    return _quoted(url2pathname(url.path) if url.scheme == "file" else found["url"])


def _quoted(text: str) -> str:
    """As one word of a command line."""
    if sys.platform == "win32":
        return f'"{text}"' if " " in text else text
    return shlex.quote(text)


def _operations() -> set[str]:
    """Those that this version's kernels/cpu/operations.h lists."""
    installed = _PACKAGE / "kernels" / "cpu"
    folder = installed if installed.is_dir() else _PACKAGE.parent / "kernels" / "cpu"
    return set(re.findall(r"X\((\w+)\)", (folder / "operations.h").read_text(encoding="utf-8")))


def _checkout() -> Path | None:
    """The folder of the checkout that this package is used from; None where it is installed."""
    folder = _PACKAGE.parent
    return folder if (folder / "kernels" / "cpu" / "program.c").exists() else None


@cache
def _library_in(checkout: Path, settings: tuple[str, ...]) -> Path:
    """Worked out once for each of the settings that it depends on."""
    return library_in(checkout)
