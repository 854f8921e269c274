"""Files of one run, and never some of two, whenever the process that writes them is killed."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fcnn_gpu.files import _replaced_together, replaced_together
from tests.support.interrupted import CHECKOUT, POSIX

FILES = ("model", "history", "picture")


def ours(name: str) -> bool:
    return name in FILES


@pytest.fixture(params=["exchanged", "moved"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder with other files in it, on a system with the call that exchanges folders and on one without."""
    if request.param == "moved":
        monkeypatch.setattr(_replaced_together, "_exchange_call", lambda: None)
    elif _replaced_together._exchange_call() is None:
        pytest.skip("this system cannot exchange folders")
    path = tmp_path / "run of σ"
    path.mkdir(mode=0o750)
    path.chmod(0o750)
    for name in FILES:
        (path / name).write_text("old")
    (path / "notes").write_text("mine")
    return path


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_the_new_files_take_the_place_of_all_the_old_ones(folder: Path) -> None:
    notes = (folder / "notes").stat()
    with replaced_together(folder, "model", ours) as fresh:
        for name in ("history", "model"):
            (fresh / name).write_text("new")
        before = content(folder) if fresh.parent != folder else None
    assert before in (None, dict.fromkeys(FILES, "old") | {"notes": "mine"})
    assert content(folder) == {"model": "new", "history": "new", "notes": "mine"}
    assert os.path.samestat(notes, (folder / "notes").stat())
    assert list(folder.parent.iterdir()) == [folder]
    assert folder.stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_the_block_leaves_the_old_files(folder: Path, error: type[BaseException]) -> None:
    def write_half() -> None:
        with replaced_together(folder, "model", ours) as fresh:
            (fresh / "model").write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert content(folder) == dict.fromkeys(FILES, "old") | {"notes": "mine"}
    assert list(folder.parent.iterdir()) == [folder]


def test_an_error_names_the_file_in_its_folder(folder: Path) -> None:
    with pytest.raises(OSError) as caught, replaced_together(folder, "model", ours) as fresh:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(fresh / "model"))
    assert caught.value.filename == str(folder / "model")


def test_a_folder_with_a_files_name_is_not_replaced(folder: Path) -> None:
    (folder / "picture").unlink()
    (folder / "picture").mkdir()
    (folder / "picture" / "mine").write_text("mine")
    with pytest.raises(IsADirectoryError, match="picture is a folder, and a file of that name is to be written"):
        replaced_together(folder, "model", ours).__enter__()
    assert (folder / "model").read_text() == "old"
    assert (folder / "picture" / "mine").read_text() == "mine"
    assert list(folder.parent.iterdir()) == [folder]


@POSIX
@pytest.mark.parametrize("what", ["a folder within", "the working directory", "a link to it", "a link in it"])
def test_folders_that_are_not_exchanged(folder: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is the same folder afterwards: somebody is in it, or has it by another name."""
    before, path = folder.stat(), folder
    if what == "a folder within":
        (folder / "data").mkdir()
        (folder / "data" / "file").write_text("mine")
    elif what == "the working directory":
        monkeypatch.chdir(folder)
        path = Path()
    elif what == "a link in it":
        (folder / "model").rename(folder.parent / "elsewhere")
        (folder / "model").symlink_to(Path("..", "elsewhere"))
    else:
        path = folder.parent / "link"
        path.symlink_to(folder)
    with replaced_together(path, "model", ours) as fresh:
        (fresh / "model").write_text("new")
    assert what == "a link to it" or os.path.samestat(before, folder.stat())
    assert path.is_symlink() == (what == "a link to it")
    assert (folder / "model").read_text() == "new"
    assert not (folder / "picture").exists()
    assert what != "a link in it" or (folder.parent / "elsewhere").read_text() == "new"
    assert what != "a folder within" or (folder / "data" / "file").read_text() == "mine"


_WRITES = """
import sys
from pathlib import Path
from fcnn_gpu.files import _replaced_together, replaced_together

folder, exchanges = Path(sys.argv[1]), sys.argv[2] == "exchanged"
if not exchanges:
    _replaced_together._exchange_call = lambda: None
print("begun", flush=True)
n = int(sys.argv[3])
while True:
    n += 1
    with replaced_together(folder, "model", lambda name: name in ("model", "history", "picture")) as fresh:
        for name in ("model", "history", "picture")[: 2 + n % 2]:
            (fresh / name).write_text(str(n))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="nothing kills so")
def test_kills_at_random_moments(folder: Path, request: pytest.FixtureRequest) -> None:
    """Exchanged, all files of one run are there; moved, those that are there are of one run. Notes are never lost."""
    how = request.node.callspec.params["folder"]
    rng, n, seen = np.random.default_rng(0), 0, set()
    for name in FILES:
        (folder / name).write_text("1")
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITES, folder, how, str(n)],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(float(rng.uniform(0, 0.05)))
            process.kill()
        found = (
            content(folder)
            if how == "exchanged"
            else {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
        )
        assert found.pop("notes") == "mine"
        values = set(found.values())
        assert len(values) <= 1
        if how == "exchanged":
            (value,) = values
            assert set(found) == set(FILES[: 2 + int(value) % 2])
        else:
            assert "model" in found
        n = int(found["model"])
        seen.add(n)
    assert len(seen) > 1
    with replaced_together(folder, "model", ours) as fresh:
        (fresh / "model").write_text("last")
    assert content(folder) == {"model": "last", "notes": "mine"}
    assert list(folder.parent.iterdir()) == [folder], "what was left over is gone"


def test_what_a_killed_process_had_not_put_back_comes_back(folder: Path) -> None:
    """The folder that had the place before, with a file that came into it in the last moment."""
    old = folder.parent / f".{folder.name}.{'0' * 16}.run"
    shutil.copytree(folder, old)
    (old / "late").write_text("mine, too")
    (old / f".model.{'1' * 16}.part").write_text("half")
    with replaced_together(folder, "model", ours) as fresh:
        (fresh / "model").write_text("new")
    found = content(folder)
    assert (found["model"], found["notes"], found["late"]) == ("new", "mine", "mine, too")
    assert not any(name.endswith(".part") for name in found)


@POSIX
def test_the_fresh_folder_of_a_process_that_is_writing_is_left_alone(folder: Path) -> None:
    with replaced_together(folder, "model", ours) as first:
        (first / "model").write_text("first")
        with replaced_together(folder, "model", ours) as second:
            (second / "model").write_text("second")
        assert (folder / "model").read_text() == "second"
        assert (first / "model").read_text() == "first"
    assert content(folder) == {"model": "first", "notes": "mine"}
