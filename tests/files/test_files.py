"""Numbers in files: what is written is read, at any position, and every fault is named."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcnn_gpu.files._numbers import NumberFile, StorageError, let_go_of_pages, place_in_file


@given(st.integers(0, 40), st.integers(0, 40), st.sampled_from(["C", "F"]), st.sampled_from(["f4", "f8", "u1"]))
def test_what_is_written_is_read(tmp_path_factory: Any, n: int, position: int, order: Any, dtype: str) -> None:
    path = tmp_path_factory.mktemp("files") / "numbers"
    values = np.asarray(np.random.default_rng(n).integers(0, 255, (n, 3)), dtype, order=order)
    found = np.full_like(values, 9)
    with NumberFile(path, "x") as file:
        file.write(position, values)
        file.read(position, found)
        assert file.nbytes == (position + values.nbytes if n else 0)
    assert np.array_equal(found, values)
    assert path.read_bytes()[position:] == values.tobytes("A")


def test_reserved_bytes_are_zero_and_taken_from_the_disk(tmp_path: Path) -> None:
    with NumberFile(tmp_path / "numbers", "x") as file:
        file.reserve(10_000)
        found = np.ones(10_000, np.uint8)
        file.read(0, found)
        file.sync()
        file.reserve(100)
        assert file.nbytes == 100
    assert not found.any()


def test_a_file_that_is_cut_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    path.write_bytes(bytes(100))
    with (
        NumberFile(path) as file,
        pytest.raises(StorageError, match=r"numbers ends at byte 100, but 64 bytes from byte"),
    ):
        file.read(80, np.empty(16, np.float32))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here that is always full")
def test_a_full_disk_says_what_to_do() -> None:
    with (
        NumberFile("/dev/full", "r+") as file,
        pytest.raises(
            StorageError, match=r"No space left on device\. 400 bytes were to be written. Free room"
        ) as raised,
    ):
        file.write(0, np.zeros(100, np.float32))
    assert raised.value.errno == errno.ENOSPC


def test_a_missing_file_and_one_that_is_there_already(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be opened: No such file"):
        NumberFile(tmp_path / "none")
    (tmp_path / "there").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be opened: File exists"):
        NumberFile(tmp_path / "there", "x")


def test_a_read_only_file_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "numbers").write_bytes(bytes(8))
    with NumberFile(tmp_path / "numbers") as file, pytest.raises(StorageError, match="cannot be written"):
        file.write(0, np.zeros(2, np.float32))


def test_strided_arrays_are_refused(tmp_path: Path) -> None:
    with NumberFile(tmp_path / "numbers", "x") as file, pytest.raises(ValueError, match="contiguous"):
        file.write(0, np.zeros((4, 4))[:, ::2])


def test_without_calls_that_take_a_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "preadv")
    monkeypatch.delattr(os, "pwrite")
    values, found = np.arange(10.0), np.zeros(10)
    with NumberFile(tmp_path / "numbers", "x") as file:
        file.write(16, values)
        file.read(16, found)
    assert np.array_equal(values, found)


def test_closing_twice_and_descriptors_are_given_back(tmp_path: Path) -> None:
    file = NumberFile(tmp_path / "numbers", "x")
    file.close()
    file.close()
    with pytest.raises(StorageError, match="cannot be read"):
        file.read(0, np.empty(1))


@given(st.integers(0, 6), st.integers(0, 9), st.booleans(), st.integers(0, 100))
def test_the_place_of_a_view_of_a_map(tmp_path_factory: Any, row: int, column: int, plain: bool, offset: int) -> None:
    path = tmp_path_factory.mktemp("maps") / "numbers"
    path.write_bytes(bytes(offset) + np.arange(70, dtype=np.float32).tobytes())
    view: Any = np.memmap(path, np.float32, "r", offset, (7, 10))[row:, column:]
    view = np.asarray(view) if plain else view
    place = place_in_file(view)
    assert place is not None
    found = np.empty(1, np.float32)
    with NumberFile(place[0]) as file:
        file.read(place[1], found)
    assert found[0] == 10 * row + column == view[0, 0]


def test_arrays_without_a_place(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(4))
    own = np.load(tmp_path / "x.npy", mmap_mode="c")
    own[0] = 1.0
    assert place_in_file(own) is None
    assert place_in_file(np.zeros(3)) is place_in_file([1.0]) is None
    let_go_of_pages(own)
    assert own[0] == 1.0, "what only the map has must stay"


def test_pages_that_are_let_go_of_keep_their_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(4))
    shared = np.load(tmp_path / "x.npy", mmap_mode="r+")
    shared[:] = 7.0
    let_go_of_pages(shared[1:])
    assert (shared == 7.0).all()
    let_go_of_pages(np.zeros(3))


def test_lines_that_lie_apart(tmp_path: Path) -> None:
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    with NumberFile(tmp_path / "numbers", "x") as file:
        file.reserve(100)
        file.write_lines(4, 32, rows)
        found = np.zeros_like(rows)
        file.read_lines(4, 32, found)
        np.testing.assert_array_equal(found, rows)
        whole = np.zeros(25, np.float32)
        file.read(0, whole)
        np.testing.assert_array_equal(whole[1:].reshape(3, 8)[:, :4], rows)
        assert not whole[1:].reshape(3, 8)[:, 4:].any()
        with pytest.raises(StorageError, match="numbers ends at byte 100"):
            file.read_lines(40, 32, found)
