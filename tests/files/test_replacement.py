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
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o400, 0o777])
def test_permissions_stay(target: Path, mode: int) -> None:
    """Until all is written nobody else may read what takes the place of a private file."""
    target.chmod(mode)
    with atomic_replacement(target) as beside:
        assert beside.stat().st_mode & 0o777 == 0o600
        beside.write_bytes(b"new")
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == mode


@POSIX
def test_a_new_file_has_the_permissions_of_any(target: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_atomically(target.with_name("new"), b"new")
    finally:
        os.umask(mask)
    assert target.with_name("new").stat().st_mode & 0o777 == 0o640


@POSIX
@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_stays(target: Path) -> None:
    os.chown(target, 65534, 65533)
    write_atomically(target, b"new")
    assert (target.stat().st_uid, target.stat().st_gid) == (65534, 65533)


@POSIX
@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_stays_and_what_it_points_to_is_replaced(target: Path, dangling: bool) -> None:
    """A link to a link in another folder: the part is beside the file, which a rename reaches."""
    other = target.parent / "other"
    other.mkdir()
    final = target.with_name("nothing yet") if dangling else target
    (other / "second").symlink_to(Path("..") / final.name)
    link = target.with_name("link")
    link.symlink_to(other / "second")
    with atomic_replacement(link) as beside:
        assert beside.parent == final.parent
        beside.write_bytes(b"new")
    assert link.is_symlink()
    assert (other / "second").is_symlink()
    assert not final.is_symlink()
    assert final.read_bytes() == b"new"
    assert sorted(target.parent.iterdir()) == sorted({target, final, link, other})


@POSIX
def test_links_in_a_circle_are_an_error_that_names_the_target(target: Path) -> None:
    link = target.with_name("link")
    link.symlink_to(link)
    with pytest.raises(OSError) as caught:
        write_atomically(link, b"new")
    assert (caught.value.errno, caught.value.filename) == (errno.ELOOP, str(link))


@pytest.mark.parametrize("name", ["σ" * 127 + "x", "n" * 251 + ".csv", "a" * 104])
def test_a_name_of_any_length_that_the_file_system_takes(target: Path, name: str) -> None:
    long, similar = target.with_name(name), target.with_name(name[:-1] + "y")
    for content in (b"first", b"second"):
        with atomic_replacement(long) as beside, atomic_replacement(similar) as other:
            assert list(leftovers(long)) == [beside]
            assert list(leftovers(similar)) == [other]
            beside.write_bytes(content)
        assert long.read_bytes() == content
    with pytest.raises(OSError) as caught:
        write_atomically(target.with_name("n" * 256), b"new")
    assert (caught.value.errno, caught.value.filename) == (errno.ENAMETOOLONG, str(target.with_name("n" * 256)))
    assert sorted(target.parent.iterdir()) == sorted([target, long, similar])


# What is no regular file


@POSIX
def test_a_device_stays_a_device(tmp_path: Path) -> None:
    link = tmp_path / "nowhere"
    link.symlink_to(os.devnull)
    for name in (os.devnull, link):
        write_atomically(name, b"new")
        assert Path(os.devnull).is_char_device()
    assert link.is_symlink()
    with pytest.raises(OSError) as caught:
        write_atomically("/dev/full", b"new")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "/dev/full")


@POSIX
def test_a_pipe_gets_the_content_once_it_is_whole(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    content = os.urandom(300_000)
    write_atomically(pipe, content)
    reader.join()
    assert read == [content]
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


@POSIX
def test_a_pipe_without_a_reader_is_named(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: open(pipe, "rb").close())
    reader.start()
    with pytest.raises(StorageError, match=rf"{pipe}: whoever reads this pipe has gone"):
        write_atomically(pipe, bytes(10_000_000))
    reader.join()


@POSIX
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("into", ["file", "pipe"])
def test_what_a_process_has_open_goes_on_behind_what_is_written(tmp_path: Path, name: str, into: str) -> None:
    """A shell's redirection stays the same file, and all that is printed is in its order."""
    if not Path(name).parent.exists():
        pytest.skip("another system")
    code = f"""
import sys
from fcnn_gpu.files._replacement import write_atomically
print("before")
write_atomically({name!r}, b"content\\n")
print("after")
"""
    command = [sys.executable, "-c", code.replace("\\\\", "\\")]
    if into == "pipe":
        out = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    else:
        (tmp_path / "out").write_bytes(b"earlier\n")
        with open(tmp_path / "out", "ab") as file:
            subprocess.run(command, stdout=file, check=True)
        out = (tmp_path / "out").read_bytes().removeprefix(b"earlier\n")
    assert out == b"before\ncontent\nafter\n"


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
    assert caught.value.filename == str(target)
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
    assert (caught.value.errno, caught.value.filename) == (errno.EISDIR, str(folder))
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
            with as_nobody(), pytest.raises(PermissionError) as caught:
                write_atomically(target, b"new")
            assert caught.value.filename == str(target)
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
    """A reader looks all the while; the part that is left over is found, and the next writer removes it."""
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
    assert list(target.parent.iterdir()) == [target]


@POSIX
def test_the_part_of_a_process_that_is_writing_is_left_alone(target: Path) -> None:
    """Of another process, and of another block in this one; and what merely has a similar name."""
    similar = [target.with_name(f".{target.name}.{name}.part") for name in ("0123", "x" * 16)]
    for path in similar:
        path.write_bytes(b"not ours")
    with subprocess.Popen(
        [sys.executable, "-c", _WRITES, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with atomic_replacement(target) as beside:
            write_atomically(target, b"new")
            beside.write_bytes(b"newer")
        assert target.read_bytes() == b"newer"
        assert len(list(leftovers(target))) == 1
        process.communicate("go on")
    assert target.read_bytes() == bytes([49]) * 1_000_000
    assert sorted(target.parent.iterdir()) == sorted([target, *similar])


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
