"""Recorded calls of every operation have the same bits elsewhere, and stay within their memory."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fcnn_gpu.backend._compiled import load_library
from fcnn_gpu.backend._compiled._build import BuildError, build

from .replaying import SOURCES, Toolchain, own

ELSEWHERE = {
    "clang": Toolchain(("clang",)),
    "aarch64": Toolchain(
        ("aarch64-linux-gnu-gcc",), ("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"), level="baseline"
    ),
    "windows": Toolchain(("x86_64-w64-mingw32-gcc",), ("wine",), library="fcnn_cpu.dll"),
}
"""Other compilers, architectures and systems, as far as they are here."""

on_posix = pytest.mark.skipif("sys.platform == 'win32'", reason="the flags are those of GCC and Clang on POSIX systems")


def own_level() -> str:
    levels = load_library().levels
    return "v3" if "v3" in levels else levels[0]


def test_any_number_of_parts_callers_and_children(recording: Path, tmp_path: Path) -> None:
    """With the library that Python uses, at each level that has fused multiply-add."""
    library = load_library()
    chain = own()
    program = chain.link(tmp_path, library.path)
    for level in set(library.levels) - {"v2"}:
        assert "calls agree" in chain.run(program, recording, 2, level)


@pytest.mark.slow
@on_posix
@pytest.mark.parametrize(
    ("sanitizers", "variables", "n_callers"),
    [
        ("address,undefined", {"ASAN_OPTIONS": "detect_leaks=0"}, 1),
        ("thread", {"TSAN_OPTIONS": "die_after_fork=0 halt_on_error=1"}, 2),
    ],
)
def test_sanitizers_find_nothing(
    sanitizers: str, variables: dict[str, str], n_callers: int, recording: Path, tmp_path: Path
) -> None:
    """-O2: below it GCC does not fuse products with sums, and bits are others."""
    chain = own(["-O2", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"])
    # TSan's memory lies where Linux may put a program's own; without randomization it does not.
    emulator = ("setarch", "-R") if sanitizers == "thread" and shutil.which("setarch") else ()
    chain = Toolchain(chain.command, emulator, own_level(), chain.flags)
    try:
        build(SOURCES, tmp_path / "probe.so", command=chain.command, flags=chain.flags, levels=[])
    except BuildError as error:
        pytest.skip(f"this compiler has no such sanitizer: {error}")
    assert "calls agree" in chain.run(chain.build(tmp_path), recording, n_callers, variables=variables)


@pytest.mark.slow
@pytest.mark.parametrize("name", ELSEWHERE)
def test_other_compilers_and_systems_give_the_same_bits(name: str, recording: Path, tmp_path: Path) -> None:
    chain = ELSEWHERE[name]
    reason = chain.missing()
    if reason:
        pytest.skip(reason)
    if name == "clang" and own_level() != "v3":
        pytest.skip("this CPU has no v3")
    variables = {"WINEDEBUG": "-all"}
    assert "calls agree" in chain.run(chain.build(tmp_path), recording, 1, variables=variables)
