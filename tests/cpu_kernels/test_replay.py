"""Recorded calls of every operation have the same bits elsewhere, and stay within their memory."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fcnn_gpu.backend._compiled import load_library
from fcnn_gpu.backend._compiled._build import BuildError, build

from .conftest import Recordings
from .replaying import SOURCES, Toolchain, own

ELSEWHERE = {
    "clang": Toolchain(("clang",)),
    "aarch64": Toolchain(
        ("aarch64-linux-gnu-gcc",),
        ("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"),
        level="baseline",
        forks=False,  # QEMU aborts in a child that is forked beside other threads
    ),
    "windows": Toolchain(("x86_64-w64-mingw32-gcc",), ("wine",), library="fcnn_cpu.dll"),
}
"""Other compilers, architectures and systems, as far as they are here."""

SANITIZERS = {
    "address,undefined": {"ASAN_OPTIONS": "detect_leaks=0"},
    "thread": {"TSAN_OPTIONS": "die_after_fork=0 halt_on_error=1"},
}


def own_level() -> str:
    levels = load_library().levels
    return "v3" if "v3" in levels else levels[0]


def test_any_number_of_parts_callers_and_children(recordings: Recordings, tmp_path: Path) -> None:
    """With the library that Python uses, at each level that has fused multiply-add."""
    library = load_library()
    chain = own()
    program = chain.link(tmp_path, library.path)
    for level in set(library.levels) - {"v2"}:
        for recording in (recordings.all, recordings.blocks):
            assert "calls agree" in chain.run(program, recording, level)


@pytest.mark.slow
@pytest.mark.skipif("sys.platform == 'win32'", reason="the flags are those of GCC and Clang on POSIX systems")
@pytest.mark.parametrize("sanitizers", SANITIZERS)
def test_sanitizers_find_nothing(sanitizers: str, recordings: Recordings, tmp_path: Path) -> None:
    """With -O2: below it GCC does not fuse products with sums, and bits are others."""
    flags = ("-O2", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all")
    # Linux may put a program where TSan wants its own memory to be; without randomization it does not.
    emulator = ("setarch", "-R") if sanitizers == "thread" and shutil.which("setarch") else ()
    # A child that is forked beside other threads may find the sanitizers' own memory locked, and wait for good.
    chain = Toolchain(own().command, emulator, own_level(), flags, forks=False)
    try:
        build(SOURCES, tmp_path / "probe.so", command=chain.command, flags=flags, levels=[])
    except BuildError as error:
        pytest.skip(f"this compiler has no such sanitizer: {error}")
    program = chain.build(tmp_path)
    for recording in (recordings.one_of_each, recordings.blocks):
        assert "calls agree" in chain.run(program, recording, variables=SANITIZERS[sanitizers])


@pytest.mark.slow
@pytest.mark.parametrize("name", ELSEWHERE)
def test_other_compilers_and_systems_give_the_same_bits(name: str, recordings: Recordings, tmp_path: Path) -> None:
    chain = ELSEWHERE[name]
    reason = chain.missing()
    if reason:
        pytest.skip(reason)
    if name != "aarch64" and own_level() != "v3":
        pytest.skip("this CPU has no v3")
    program = chain.build(tmp_path)
    for recording in (recordings.all, recordings.blocks):
        assert "calls agree" in chain.run(program, recording, variables={"WINEDEBUG": "-all"})
