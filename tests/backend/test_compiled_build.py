"""How kernels/cpu is compiled: by which compiler, for what, under which name; and what is said where it fails."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fcnn_gpu.backend._compiled._build import (
    BuildError,
    Target,
    build,
    compiler,
    fingerprint,
    operations,
    wheel_platform,
)

from ..conftest import compiled_ops

KERNELS = Path(__file__).parents[2] / "kernels" / "cpu"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CFLAGS", "ARCHFLAGS", "MACOSX_DEPLOYMENT_TARGET"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("triple", "target"),
    [
        ("x86_64-linux-gnu", Target("x86_64", "linux", False)),
        ("x86_64-redhat-linux", Target("x86_64", "linux", False)),
        ("aarch64-alpine-linux-musl", Target("aarch64", "linux", False)),
        ("arm64-apple-darwin23.1.0", Target("aarch64", "darwin", False)),
        ("x86_64-w64-mingw32", Target("x86_64", "win32", True)),
        ("x86_64-w64-windows-gnu", Target("x86_64", "win32", False)),
        ("x86_64-pc-windows-msvc", Target("x86_64", "win32", False)),
        ("amd64-unknown-freebsd14.1", Target("x86_64", "other", False)),
        ("riscv64-linux-gnu", Target("riscv64", "linux", False)),
    ],
)
def test_what_a_compiler_compiles_for(triple: str, target: Target) -> None:
    assert Target.parse(triple) == target


def test_which_compiler_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"clang", "gcc"}
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: name if name in there else None)
    assert compiler() == ["gcc"]
    there.add("cc")
    assert compiler() == ["cc"]
    there.clear()
    assert compiler() == ["cc"]
    monkeypatch.setenv("CC", "ccache 'my gcc'")
    assert compiler() == ["ccache", "my gcc"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("no-such-compiler", "^there is no C compiler: no-such-compiler was not found$"),
        (f"{sys.executable} -c 'raise SystemExit(3)'", "failed: exit status 3, without a word$"),
        (f"{sys.executable} -c 'raise SystemExit(\"cc1: error: no\")'", "failed: cc1: error: no$"),
        (
            f"{sys.executable} -c 'print(\"s390x-linux-gnu\")'",
            "^the C compiler compiles for s390x, and this Python runs",
        ),
    ],
)
def test_a_compiler_that_does_not_do(command: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", command)
    with pytest.raises(BuildError, match=words):
        build(KERNELS, tmp_path / "fcnn_cpu.so")
    assert not list(tmp_path.iterdir())


def test_the_table_has_every_operation_that_is_compiled() -> None:
    """And `operation.c` is not asked for a file that is something else."""
    table = re.findall(r"\bX\((\w+)\)", (KERNELS / "operations.h").read_text(encoding="utf-8"))
    products = {"gradient_of_blocks", "product_of_samples", "product_of_weights"}
    assert sorted({*operations(KERNELS), *products}) == table


def test_what_the_compiler_says_first_is_the_reason(tmp_path: Path) -> None:
    compiled_ops()
    folder = tmp_path / "kernels"
    shutil.copytree(KERNELS, folder)
    with (folder / "threads.c").open("a", encoding="utf-8") as file:
        file.write("int broken = nothing;\n")
    with pytest.raises(BuildError, match=r"threads\.c:.*error.*nothing"):
        build(folder, tmp_path / "out" / "fcnn_cpu.so", levels=[])
    assert not (tmp_path / "out").exists()


def test_a_fingerprint_is_of_sources_and_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "kernels"
    shutil.copytree(KERNELS, folder)
    monkeypatch.setenv("CC", "cc")
    first = fingerprint(KERNELS)
    assert fingerprint(folder) == first
    monkeypatch.setenv("CFLAGS", "-march=native")
    assert fingerprint(folder) != first
    monkeypatch.delenv("CFLAGS")
    monkeypatch.setenv("CC", "another")
    assert fingerprint(folder) != first
    monkeypatch.setenv("CC", "cc")
    (folder / "new.h").write_text("", encoding="utf-8")
    assert fingerprint(folder) != first


@pytest.mark.parametrize(
    ("platform", "system", "machine", "variables", "tag"),
    [
        ("linux", "linux-x86_64", "x86_64", {}, "linux_x86_64"),
        ("win32", "win-amd64", "AMD64", {}, "win_amd64"),
        ("darwin", "macosx-10.9-universal2", "arm64", {}, "macosx_11_0_arm64"),
        ("darwin", "macosx-10.9-universal2", "x86_64", {}, "macosx_10_13_x86_64"),
        ("darwin", "macosx-14.0-arm64", "arm64", {"ARCHFLAGS": "-arch x86_64"}, "macosx_10_13_x86_64"),
        ("darwin", "macosx-14.0-arm64", "arm64", {"MACOSX_DEPLOYMENT_TARGET": "13.3"}, "macosx_13_3_arm64"),
    ],
)
def test_a_wheels_platform(
    platform: str,
    system: str,
    machine: str,
    variables: dict[str, str],
    tag: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr("sysconfig.get_platform", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert wheel_platform() == tag


def test_one_architecture_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setenv("ARCHFLAGS", "-arch arm64 -arch x86_64")
    with pytest.raises(BuildError, match="ARCHFLAGS name several architectures"):
        build(KERNELS, tmp_path / "fcnn_cpu.dylib")


def test_flags_of_the_environment_do_not_decide_how_numbers_are_rounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GCC makes of -ffast-math at linking a library that flushes subnormal numbers to 0 when it is loaded."""
    compiled_ops()
    monkeypatch.setenv("CFLAGS", "-ffast-math -Ofast")
    build(KERNELS, tmp_path / "fcnn_cpu.so", levels=[])
    code = "import ctypes, sys; ctypes.CDLL(sys.argv[1]); assert sys.float_info.min / 2"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "fcnn_cpu.so")], check=True)
