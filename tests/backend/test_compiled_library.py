"""The library of compiled operations: what does not fit is refused with a word about what to do, and never used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fcnn_gpu.backend._compiled import NotCompiledError, _installation, load_library
from fcnn_gpu.backend._compiled._build import LIBRARY, compiler
from fcnn_gpu.backend._compiled._library import Library, LibraryFault

from ..conftest import compiled_ops

ROOT = Path(__file__).parents[2]

STUB = """
#include <stdint.h>
#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT
#endif
#if defined(INTERFACE)
EXPORT int fcnn_interface(void) { return INTERFACE; }
#endif
EXPORT int fcnn_n_levels(void) { return 2; }
EXPORT const char *fcnn_level_name(int level) { return level ? "slow" : "quick"; }
EXPORT int fcnn_level_is_supported(int level) { return level >= SUPPORTED; }
EXPORT int fcnn_n_operations(void) { return 1; }
EXPORT const char *fcnn_operation_name(int operation) { return operation ? "" : "advance"; }
EXPORT const char *fcnn_operation_parameters(int operation) { return operation ? "" : "SERIAL: int64_t by;"; }
EXPORT int64_t fcnn_scratch_bytes(void) { return 64; }
EXPORT int64_t fcnn_record_bytes(void) { return RECORD; }
EXPORT int64_t fcnn_run(const void *given) { return given != 0; }
"""
"""A library with other interfaces and levels than there are."""


@pytest.fixture
def library() -> Library:
    compiled_ops()
    return load_library()


def stub(folder: Path, **settings: int) -> Path:
    compiled_ops()  # there is a compiler
    source, path = folder / "stub.c", folder / "stub.so"
    source.write_text(STUB, encoding="utf-8")
    given = [
        f"-D{name}={value}" for name, value in ({"INTERFACE": 2, "RECORD": 216, "SUPPORTED": 0} | settings).items()
    ]
    position = [] if sys.platform == "win32" else ["-fPIC"]
    subprocess.run([*compiler(), "-shared", *position, *given, str(source), "-o", str(path)], check=True)
    return path


def test_a_library_that_fits(library: Library, tmp_path: Path) -> None:
    found = Library(stub(tmp_path))
    assert (found.levels, found.level_name, found.level) == (["quick", "slow"], "quick", 0)
    assert Library(stub(tmp_path), "slow").level == 1
    assert set(library.operations) == _installation._operations()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"INTERFACE": 0}, r"of another version of fcnn_gpu \(interface 0 and records of 27 words, not 2 and 27\)"),
        ({"RECORD": 136}, r"of another version of fcnn_gpu \(interface 2 and records of 17 words, not 2 and 27\)"),
        ({"SUPPORTED": 2}, "this CPU has none of the instruction levels that they are for, quick, slow"),
    ],
)
def test_another_version_or_another_cpu(settings: dict[str, int], words: str, tmp_path: Path) -> None:
    with pytest.raises(LibraryFault, match=words):
        Library(stub(tmp_path, **settings))


def test_operations_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(LibraryFault, match=r"of another version of fcnn_gpu \(it lacks adam, sum\)"):
        Library(stub(tmp_path), needed=["sum", "advance", "adam"])


def test_a_library_of_something_else(tmp_path: Path) -> None:
    source, path = tmp_path / "other.c", tmp_path / "other.so"
    compiled_ops()
    source.write_text("int nothing;\n", encoding="utf-8")
    subprocess.run([*compiler(), "-shared", str(source), "-o", str(path)], check=True)
    with pytest.raises(LibraryFault, match=r"of another version of fcnn_gpu \(.*fcnn_"):
        Library(path)


@pytest.mark.parametrize("kept", [0, 40, 1000, 0.3, 0.7, 0.999])
@pytest.mark.skipif(sys.platform != "linux", reason="other systems look for themselves")
def test_a_file_that_is_cut_off(kept: float, library: Library, tmp_path: Path) -> None:
    """The system would load most of these and kill the process for a missing page."""
    whole = library.path.read_bytes()
    damaged = tmp_path / "fcnn_cpu.so"
    damaged.write_bytes(whole[: int(kept if kept >= 1 else kept * len(whole))])
    with pytest.raises(
        LibraryFault, match=r"library (is damaged \(.*fcnn_cpu.so has \d+ bytes of \d+|cannot be loaded)"
    ):
        Library(damaged)


def test_what_is_no_library(tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("no library", encoding="utf-8")
    with pytest.raises(LibraryFault, match="their library cannot be loaded"):
        Library(tmp_path / "text.so")
    with pytest.raises(LibraryFault, match="their library cannot be loaded"):
        Library(tmp_path / "missing.so")


@pytest.mark.parametrize("level", ["v9", "V4", "avx2", ""])
def test_a_level_that_there_is_not(level: str, library: Library) -> None:
    with pytest.raises(ValueError, match=f"this CPU has, {' or '.join(library.levels)}, got {level!r}"):
        Library(library.path, level)


class TestInstallation:
    """A package in a folder of its own, installed or as a checkout."""

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Of the package."""
        package = tmp_path / "site" / "fcnn_gpu"
        package.mkdir(parents=True)
        monkeypatch.setattr(_installation, "_PACKAGE", package)
        monkeypatch.setattr(_installation, "_origin", lambda: "fcnn_gpu")
        load_library.cache_clear()
        return package

    @pytest.fixture
    def compiler(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """There is one."""
        monkeypatch.setenv("CC", sys.executable)

    @pytest.fixture
    def no_compiler(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CC", "no-such-compiler")

    def failure(self) -> NotCompiledError:
        with pytest.raises(NotCompiledError) as caught:
            load_library()
        assert str(caught.value) == f"{caught.value.reason}. {caught.value.fix}"
        return caught.value

    @pytest.mark.usefixtures("compiler")
    def test_without_a_library(self, folder: Path) -> None:
        failure = self.failure()
        assert failure.reason == "the package was installed without them"
        assert failure.fix == "Run: pip install --force-reinstall --no-deps --no-cache-dir fcnn_gpu"
        (folder / "fcnn_cpu.txt").write_text("there is no C compiler: cc was not found\n", encoding="utf-8")
        reason = "the package was installed without them (there is no C compiler: cc was not found)"
        assert self.failure().reason == reason

    @pytest.mark.usefixtures("no_compiler")
    @pytest.mark.parametrize(
        ("platform", "manager", "command"),
        [
            ("linux", "apt-get", "apt install gcc libc6-dev"),
            ("linux", "dnf", "dnf install gcc"),
            ("linux", None, "GCC or Clang, and the C library's headers"),
            ("darwin", None, "xcode-select --install"),
            ("win32", None, "winget install BrechtSanders.WinLibs.POSIX.UCRT"),
        ],
    )
    def test_what_brings_a_compiler(
        self, platform: str, manager: str | None, command: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.platform", platform)
        monkeypatch.setattr("shutil.which", lambda name: name if name == manager else None)
        fix = _installation.remedy()
        assert fix.startswith(f"Install a C compiler ({command}), then run: pip install --force-reinstall ")

    def test_a_library_that_does_not_fit(self, folder: Path, tmp_path: Path) -> None:
        kernels = folder / "kernels" / "cpu"
        kernels.mkdir(parents=True)
        (kernels / "operations.h").write_text(
            "#define OPERATIONS(X) \\\n    X(advance) \\\n    X(jump)\n", encoding="utf-8"
        )
        stub(tmp_path).rename(folder / LIBRARY)
        failure = self.failure()
        assert failure.reason == "their library is of another version of fcnn_gpu (it lacks jump)"
        assert failure.fix.startswith("Run: pip install --force-reinstall")

    @pytest.mark.usefixtures("compiler")
    def test_a_checkout_is_known_by_its_sources(self, folder: Path) -> None:
        kernels = folder.parent / "kernels" / "cpu"
        kernels.mkdir(parents=True)
        (kernels / "program.c").write_text("int x;\n", encoding="utf-8")
        _installation._library_in.cache_clear()
        path = _installation.library_path()
        assert path.is_relative_to(folder.parent / "build")
        assert self.failure().reason == "this checkout's kernels are not compiled as they are now"
        assert self.failure().fix == "Run: python -m fcnn_gpu.backend._compiled"
        (kernels / "program.c").write_text("int y;\n", encoding="utf-8")
        _installation._library_in.cache_clear()
        assert _installation.library_path() != path
        (folder / LIBRARY).write_bytes(b"")
        assert _installation.library_path() == folder / LIBRARY

    def test_an_installed_package_is_not_compiled_here(self) -> None:
        from fcnn_gpu.backend._compiled import BuildError, build_in_checkout

        with pytest.raises(BuildError, match=r"is an installed package\. .*pip install --force-reinstall"):
            build_in_checkout()


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ({"url": "file:///home/me/fcnn_gpu", "dir_info": {}}, "/home/me/fcnn_gpu"),
        ({"url": "file:///home/me/my%20nets", "dir_info": {}}, "'/home/me/my nets'"),
        (
            {"url": "https://example.org/fcnn_gpu-0.1.0.tar.gz", "archive_info": {}},
            "https://example.org/fcnn_gpu-0.1.0.tar.gz",
        ),
        (
            {"url": "https://example.org/f.git", "vcs_info": {"vcs": "git"}},
            "'fcnn_gpu @ git+https://example.org/f.git'",
        ),
        (None, "fcnn_gpu"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="paths of POSIX systems")
def test_the_command_installs_from_where_the_package_came(
    url: dict[str, Any] | None, origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Distribution:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return None if url is None else json.dumps(url)

    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Distribution())
    assert _installation._install_command().split("--no-cache-dir ")[1] == origin


def test_neither_the_import_nor_the_command_loads_it() -> None:
    code = """
import sys
from fcnn_gpu import *
from fcnn_gpu.cli import run
assert run(["--help"]) == 0
assert not [name for name in sys.modules if name.startswith("fcnn_gpu.backend._compiled")]
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def test_the_developers_command_compiles_and_says_where(library: Library) -> None:
    command = [sys.executable, "-m", "fcnn_gpu.backend._compiled"]
    out = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8").stdout
    assert out.startswith(f"{library.path}: compiled; this CPU takes ")
    failed = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"CC": "no-such-compiler"}, stderr=subprocess.PIPE, encoding="utf-8"
    )
    assert failed.returncode == 1
    expected = "fcnn_gpu: the kernels are not compiled: there is no C compiler: no-such-compiler was not found\n"
    assert failed.stderr == expected
