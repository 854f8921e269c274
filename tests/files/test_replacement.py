"""Atomic replacement: whatever happens while a file is written, the old one or the new one is there, and whole."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fcnn_gpu.files._numbers import StorageError
from fcnn_gpu.files._replacement import atomic_replacement, leftovers, write_atomically
from tests.support.limited import file_size_limit, needs_file_limits

OLD = b"the old content"
POSIX = pytest.mark.skipif(os.name != "posix", reason="a promise about POSIX")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A file with OLD, alone in its folder."""
    path = tmp_path / "file of σ[1]"
    path.write_bytes(OLD)
    return path


def assert_untouched(target: Path) -> None:
    assert target.read_bytes() == OLD
    assert list(target.parent.iterdir()) == [target]


# What is written


@pytest.mark.parametrize("durable", [True, False])
def test_the_new_file_appears_when_the_block_ends(target: Path, durable: bool) -> None:
    with atomic_replacement(target, durable=durable) as beside:
        assert beside.parent == target.parent
        assert beside.read_bytes() == b""
        beside.write_bytes(b"new")
        assert target.read_bytes() == OLD
    assert target.read_bytes() == b"new"
    target.unlink()
    with atomic_replacement(str(target), durable=durable) as beside:
        beside.write_bytes(b"first")
        assert not target.exists()
    write_atomically(target, b"")
    assert target.read_bytes() == b""
    assert list(target.parent.iterdir()) == [target]


def test_a_name_without_a_folder_is_in_the_current_one(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(target.parent)
    write_atomically(target.name, b"new")
    assert target.read_bytes() == b"new"


@POSIX
def test_a_reader_of_the_old_file_reads_it_to_its_end(target: Path) -> None:
    with open(target, "rb") as file:
        assert file.read(7) == OLD[:7]
        write_atomically(target, b"new")
        assert file.read() == OLD[7:]


@POSIX
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_permissions_are_those_of_any_new_file(target: Path, mode: int) -> None:
    target.chmod(mode)
    mask = os.umask(0o027)
    try:
        write_atomically(target, b"new")
    finally:
        os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o640


@POSIX
@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_is_replaced_and_what_it_points_to_stays(target: Path, dangling: bool) -> None:
    link = target.with_name("link")
    link.symlink_to("nothing" if dangling else target)
    write_atomically(link, b"new")
    assert not link.is_symlink()
    assert (link.read_bytes(), target.read_bytes()) == (b"new", OLD)
    assert sorted(target.parent.iterdir()) == sorted([target, link])


@POSIX
@pytest.mark.parametrize("durable", [True, False])
def test_the_content_is_on_the_disk_before_the_name_is(
    target: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(number: int) -> None:
        (part,) = leftovers(target) if "replace" not in events else [target.parent]
        assert os.path.samestat(os.fstat(number), part.stat())
        assert part.is_dir() or part.read_bytes() == b"new"
        events.append("folder" if part.is_dir() else "content")
        fsync(number)

    def spy_replace(source: Any, to: Any) -> None:
        events.append("replace")
        replace(source, to)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    write_atomically(target, b"new", durable=durable)
    assert events == (["content", "replace", "folder"] if durable else ["replace"])


# What goes wrong


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_in_the_block_leaves_the_old_file(target: Path, error: type[BaseException]) -> None:
    def write_half() -> None:
        with atomic_replacement(target) as beside:
            beside.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert_untouched(target)


@needs_file_limits
@pytest.mark.parametrize("room", [0, 1, 99_999])
def test_a_disk_without_room_leaves_the_old_file(target: Path, room: int) -> None:
    with file_size_limit(room), pytest.raises(OSError) as caught:
        write_atomically(target, bytes(100_000))
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(target))
    assert_untouched(target)
    with file_size_limit(100_000):
        write_atomically(target, bytes(100_000))
    assert target.read_bytes() == bytes(100_000)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_is_found_full_at_the_end_leaves_the_old_file(
    target: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError) as caught:
            write_atomically(target, b"new")
    assert caught.value.errno == errno.ENOSPC
    assert call == "replace" or caught.value.filename == str(target)
    assert_untouched(target)


@POSIX
def test_the_first_error_is_told_where_cleaning_up_fails_too(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def write() -> None:
        with atomic_replacement(target):
            raise ValueError("first")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail)
        with pytest.raises(ValueError, match="first"):
            write()
    assert target.read_bytes() == OLD


def test_an_interrupt_right_after_the_replacement_keeps_the_new_file(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def interrupted(source: Any, to: Any) -> None:
        replace(source, to)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(target, b"new")
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


@POSIX
def test_a_folder_that_cannot_be_forced_to_the_disk(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system has no such call there is nothing to say; another fault is said, and the new file stays."""
    fsync, answer = os.fsync, errno.EIO

    def answered(number: int) -> None:
        if os.path.samestat(os.fstat(number), target.parent.stat()):
            raise OSError(answer, os.strerror(answer))
        fsync(number)

    monkeypatch.setattr(os, "fsync", answered)
    with pytest.raises(StorageError, match=r"has been replaced, but its folder cannot be forced .*Input/output error"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"new"
    answer = errno.EINVAL
    write_atomically(target, b"newer")
    assert target.read_bytes() == b"newer"
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_that_does_not_exist_is_named(target: Path) -> None:
    for folder in (target.parent / "nowhere", target):
        with pytest.raises(FileNotFoundError) as caught:
            write_atomically(folder / "m", b"new")
        assert str(caught.value) == f"There is no folder {folder} to write m into. Create it first."
    assert_untouched(target)


def test_a_folder_in_the_files_place_is_refused(target: Path) -> None:
    folder = target.with_name("folder")
    folder.mkdir()
    with pytest.raises(OSError) as caught:
        write_atomically(folder, b"new")
    assert caught.value.filename2 == str(folder)
    assert sorted(target.parent.iterdir()) == sorted([target, folder])


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Root may write everywhere; for a while this process is somebody else."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@POSIX
def test_a_folder_without_permission_is_left_as_it_was() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders let nobody else in
        folder = Path(name)
        target = folder / "m"
        target.write_bytes(OLD)
        target.chmod(0o666)
        folder.chmod(0o555)
        try:
            with as_nobody(), pytest.raises(PermissionError, match="Permission denied"):
                write_atomically(target, b"new")
            assert_untouched(target)
        finally:
            folder.chmod(0o755)


# Kills and other writers

_WRITES = """
import sys
from fcnn_gpu.files._replacement import atomic_replacement

for n in range(50):
    with atomic_replacement(sys.argv[1], durable=False) as beside, open(beside, "wb", buffering=0) as file:
        for part in range(10):
            file.write(bytes([n]) * 100_000)
            if (n, part) == (49, 5):
                print("in the middle", flush=True)
                sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="nothing kills so")
def test_a_process_that_is_killed_in_the_middle_leaves_the_last_whole_file(target: Path) -> None:
    """A reader looks all the while; the part that is left over is found, and is in nobody's way."""
    target.write_bytes(bytes(1_000_000))
    seen: set[int] = set()
    with subprocess.Popen(
        [sys.executable, "-c", _WRITES, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said: list[str] = []
        waiting = threading.Thread(target=lambda out: said.append(out.readline()), args=(process.stdout,))
        waiting.start()
        while waiting.is_alive():
            content = target.read_bytes()
            assert content == content[:1] * 1_000_000
            seen.add(content[0])
        process.kill()
    assert said == ["in the middle\n"]
    assert len(seen) > 1
    assert process.returncode == -signal.SIGKILL
    assert target.read_bytes() == bytes([48]) * 1_000_000
    (part,) = set(target.parent.iterdir()) - {target}
    assert list(leftovers(target)) == [part]
    assert part.read_bytes() == bytes([49]) * 600_000
    write_atomically(target, b"new")
    assert target.read_bytes() == b"new"


def test_two_writers_do_not_mix(target: Path) -> None:
    contents = [bytes([n]) * 1_000_000 for n in range(4)]

    def write(content: bytes) -> None:
        for _ in range(10):
            write_atomically(target, content, durable=False)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() in contents
    assert list(target.parent.iterdir()) == [target]
