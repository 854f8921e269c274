"""Files of a folder that are damaged, exchanged or of another step: refused, with file, place and fault."""

from __future__ import annotations

import copy
import json
import os
import shutil
import tracemalloc
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu import StorageError
from fcnn_gpu.placement import _saved
from fcnn_gpu.placement._record import RECORD, Record
from fcnn_gpu.placement._stamp import Stamp, row_sums

from ..support.placement_cases import assert_equal, moments

X = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
Y = np.arange(8) % 3


def train(model: fcnn.Sequential, epochs: int = 1) -> fcnn.Trainer:
    trainer = fcnn.Trainer(model, optimizer=fcnn.Adam(0.01))
    trainer.fit(X, Y, epochs=epochs, batch_size=8, progress=False)
    return trainer


def network(folder: Path) -> fcnn.Sequential:
    layers = [fcnn.Dense(6, activation="tanh", placement="disk") for _ in range(2)]
    return fcnn.Sequential([*layers, fcnn.Dense(3)], 6, seed=0, backend="numpy", storage=folder)


def load(folder: Path, **options: Any) -> fcnn.Sequential:
    return fcnn.load(folder, backend="numpy", **options)


def counting(folder: Path, name: str) -> Path:
    """The file of a matrix that counts."""
    generation = Record.unpack(folder / RECORD).data["generations"][name]
    return folder / f"{name}.generation{generation}.npy"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    train(network(tmp_path / "net"), epochs=2).model.close()
    return tmp_path / "net"


# Whose file it is


def exchange(a: Path, b: Path) -> None:
    aside = a.with_name("aside")
    a.rename(aside)
    b.rename(a)
    aside.rename(b)


@pytest.mark.parametrize("names", [("0.W", "1.W"), ("0.W.m", "0.W.v"), ("1.W.m", "0.W"), ("0.W", "1.W.v")])
def test_files_that_have_been_exchanged(folder: Path, names: tuple[str, str]) -> None:
    exchange(counting(folder, names[0]), counting(folder, names[1]))
    with pytest.raises(
        StorageError, match=rf"generation\d\.npy holds ({names[0]} and.*{names[1]}|{names[1]} and.*{names[0]})"
    ):
        load(folder)


def test_a_file_of_another_step(folder: Path, tmp_path: Path) -> None:
    """Both generations, put back from a copy of two steps before."""
    before = shutil.copytree(folder, tmp_path / "before")
    train(load(folder), epochs=2).model.close()
    for path in before.glob("0.W.m.generation*.npy"):
        shutil.copy(path, folder)
    numbers = [Record.unpack(place / RECORD).data["number"] for place in (before, folder)]
    with pytest.raises(
        StorageError, match=rf"0\.W\.m\.generation\d\.npy holds 0\.W\.m of commit {numbers[0]} .*of commit {numbers[1]}"
    ):
        load(folder)


def test_a_record_of_another_step(folder: Path, tmp_path: Path) -> None:
    before = (folder / RECORD).read_bytes()
    train(load(folder), epochs=2).model.close()
    (folder / RECORD).write_bytes(before)
    with pytest.raises(
        StorageError, match=r"of commit \d+ .* should hold that of commit \d+: it belongs to another step"
    ):
        load(folder)


def test_a_file_of_another_folder(folder: Path, tmp_path: Path) -> None:
    train(network(tmp_path / "other"), epochs=2).model.close()
    ids = [Record.unpack(place / RECORD).data["network"] for place in (tmp_path / "other", folder)]
    shutil.copy(counting(tmp_path / "other", "0.W"), counting(folder, "0.W"))
    with pytest.raises(StorageError, match=rf"holds 0\.W of another network \({ids[0]}\) .*this one \({ids[1]}\)"):
        load(folder)


def test_a_file_of_a_copy_that_trained_differently(folder: Path, tmp_path: Path) -> None:
    twin = shutil.copytree(folder, tmp_path / "twin")
    for place in (folder, twin):
        train(load(place)).model.close()
    shutil.copy(counting(twin, "1.W"), counting(folder, "1.W"))
    with pytest.raises(StorageError, match="of another copy of the network, which has trained differently"):
        load(folder)


def test_a_whole_copy_is_a_network(folder: Path, tmp_path: Path) -> None:
    twin = shutil.copytree(folder, tmp_path / "twin")
    assert_equal(moments(train(load(twin))), moments(train(load(folder, verify=True))))


# What is in it


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_anywhere_is_noticed(folder: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["0.W", "1.W", "0.W.m", "1.W.v"]))
    path = counting(folder, name)
    content = path.read_bytes()
    at, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    if content[at] == ord(" ") or content[at : at + 2] in (b"}\n", b"\n"):  # padding of the two texts
        return
    flipped = bytearray(content)
    flipped[at] ^= 1 << bit
    path.write_bytes(flipped)
    for options in ({}, {"verify": True}):  # a small matrix is compared at once
        with pytest.raises(StorageError, match=path.name):
            load(folder, **options)
    path.write_bytes(content)
    load(folder, verify=True).close()


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 5), columns=st.integers(1, 3000), dtype=st.sampled_from(["float32", "float64"]), data=st.data()
)
def test_a_row_sum_changes_with_any_word_and_with_the_place_of_rows_and_pieces(
    rows: int, columns: int, dtype: str, data: st.DataObject
) -> None:
    values = np.random.default_rng(0).normal(size=(rows, columns)).astype(dtype)
    sums = row_sums(values)
    row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    other = values.copy()
    word = other.view(f"u{other.itemsize}")
    word[row, column] ^= word.dtype.type(data.draw(st.integers(1, 2 ** (8 * other.itemsize) - 1)))
    assert (row_sums(other) != sums).tolist() == [i == row for i in range(rows)]
    per_piece = 512 * 8 // other.itemsize if columns * other.itemsize % 8 == 0 else 512
    if columns >= 2 * per_piece:
        swapped = values.copy()
        swapped[row, :per_piece], swapped[row, per_piece : 2 * per_piece] = (
            values[row, per_piece : 2 * per_piece],
            values[row, :per_piece],
        )
        assert row_sums(swapped)[row] != sums[row]
    assert not row_sums(np.zeros_like(values)).any()


def test_a_large_matrix_is_compared_in_part_and_the_rest_when_it_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_saved, "_LOOKED_AT", 2 * 6 * 4)  # the first row and the last
    path = counting(folder, "0.W")
    content = bytearray(path.read_bytes())
    content[128 + 3 * 24 + 5] ^= 64
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"damaged: row 3 \(bytes 200 to 223\) does not have the sum"):
        load(folder, verify=True)
    model: Any = load(folder)
    assert model.layers[0].W[2].shape == (6,)
    for read in (lambda: model.layers[0].W[3], lambda: model.predict(X), lambda: train(model)):
        with pytest.raises(StorageError, match=r"0\.W\.generation\d\.npy is damaged: row 3"):
            read()
    content[128 + 3 * 24 + 5] ^= 64
    model.close()
    path.write_bytes(content)
    train(load(folder))


def test_rows_that_are_written_in_place_have_their_sums(folder: Path) -> None:
    model: Any = load(folder)
    model.layers[0].W[[1, 4], 2] = 7.0
    model.close()
    again: Any = load(folder, verify=True)
    assert again.layers[0].W[4, 2] == 7.0
    again.layers[0].W[...] = 0.25
    again.layers[0].W[2] = 0.5
    train(again).model.close()
    load(folder, verify=True)


def test_a_row_whose_writing_was_cut_short_is_taken_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sum says so beforehand; nobody has promised more of what is written in place."""
    model: Any = load(folder)
    rows = model.stored.weights[0].rows
    real, calls = rows._files[rows.generation].write, []

    def write(position: int, values: Any) -> None:
        calls.append(position)
        if len(calls) == 2:
            real(position, values[:, :3].copy())
            raise KeyboardInterrupt
        real(position, values)

    monkeypatch.setattr(rows._files[rows.generation], "write", write)
    with pytest.raises(KeyboardInterrupt):
        model.layers[0].W[1] = 9.0
    model.close()
    again: Any = load(folder, verify=True)
    assert again.layers[0].W[1, :3].tolist() == [9.0] * 3


def test_verify_is_true_or_false(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"load\(verify\)"):
        load(folder, verify=1)
    load(folder).save(tmp_path / "model.safetensors")
    fcnn.load(tmp_path / "model.safetensors", backend="numpy", verify=True)


# Folders of releases that wrote neither stamps nor sums


def make_old(folder: Path) -> None:
    """What the release before would have written."""
    record = Record.unpack(folder / RECORD)
    for name, generation in record.data["generations"].items():
        shape = np.load(folder / f"{name}.generation{generation}.npy").shape
        record.data["sizes"][name] = 128 + 4 * shape[0] * shape[1]
        for path in folder.glob(f"{name}.generation[01].npy"):
            os.truncate(path, record.data["sizes"][name])
    for name in ("stamps", "network", "number"):
        del record.data[name]
    put(folder, record.arrays, record.data, version=1)


def put(folder: Path, arrays: dict[str, Any], data: Any, version: Any = 2, described: Any = None) -> None:
    """A record with a right checksum."""
    content = b"".join(np.ascontiguousarray(x).tobytes() for x in arrays.values())
    if described is None:
        described = [[name, x.dtype.str, list(x.shape)] for name, x in arrays.items()]
    head = {"format": "fcnn_gpu network in a folder", "version": version, "arrays": described, "data": data}
    seal(folder, json.dumps(head).encode(), content)


def seal(folder: Path, text: bytes, content: bytes = b"") -> None:
    (folder / RECORD).write_bytes(b"%08x " % zlib.crc32(text, zlib.crc32(content)) + text + b"\n" + content)


@pytest.mark.parametrize("upgraded", ["0", "all", "moments left"])
def test_an_old_folder_is_opened_and_gets_sums(folder: Path, upgraded: str) -> None:
    model = load(folder)
    expected = moments(fcnn.Trainer(model, optimizer=fcnn.Adam(0.01)))
    model.close()
    make_old(folder)
    with pytest.raises(StorageError, match=r"written by an older fcnn_gpu, which kept no sums.*without verify=True"):
        load(folder, verify=True)
    model = load(folder)
    if upgraded == "moments left":
        model.layers[0].W[...] = np.asarray(model.layers[0].W)  # type: ignore[attr-defined]
        assert Record.unpack(folder / RECORD).data["stamps"].keys() == {"0.W", "1.W"}
    elif upgraded == "all":
        assert_equal(moments(fcnn.Trainer(model, optimizer=fcnn.Adam(0.01))), expected)
        model.close()
        load(folder, verify=True).close()
    model.close()
    trainer = fcnn.Trainer(load(folder), optimizer=fcnn.Adam(0.01))
    assert_equal(moments(trainer), expected)
    train(trainer.model)


def test_a_newer_record_is_refused(folder: Path) -> None:
    put(folder, {}, {}, version=3)
    with pytest.raises(StorageError, match="another version of fcnn_gpu"):
        load(folder)


# Records with a right checksum and wrong values


def data_of(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    record = Record.unpack(folder / RECORD)
    return record.arrays, record.data


def without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda data: data.pop(name)


def set_to(value: Any, *path: str) -> Callable[[dict[str, Any]], Any]:
    def change(data: dict[str, Any]) -> None:
        for name in path[:-1]:
            data = data[name]
        data[path[-1]] = value

    return change


def each(values: Iterable[Any], *path: str) -> list[Callable[[dict[str, Any]], Any]]:
    return [set_to(value, *path) for value in values]


def renamed(name: str) -> Callable[[dict[str, Any]], Any]:
    """Another name for a matrix, everywhere."""

    def change(data: dict[str, Any]) -> None:
        for part in ("generations", "sizes", "stamps"):
            data[part][name] = data[part].pop("0.W.m")

    return change


SIGNATURES: list[Any] = [5, [[]], "x", {"x": 1}, {"feature_names": [1]}, {"feature_names": ["a"]}, {"byte_scale": -1}]
WRONG: list[Callable[[dict[str, Any]], Any]] = [
    *each(SIGNATURES, "signature"),
    *(
        without(name)
        for name in (
            "config",
            "info",
            "random_step",
            "stored",
            "generations",
            "sizes",
            "step",
            "stamps",
            "network",
            "number",
        )
    ),
    *each((None, 5, [], "x", [{}]), "config"),
    *each((None, 5, [], "x", [{}]), "info"),
    *each((None, 5, [], "x", [{}]), "stored"),
    *each((None, 5, [], "x", [{}]), "generations"),
    *each((None, 5, [], "x", [{}]), "sizes"),
    *each((None, 5, [], "x", [{}]), "stamps"),
    *(set_to({}, name) for name in ("config", "stored", "generations", "sizes")),
    *each((None, "5", -1, 2**70, 1.5, True), "random_step"),
    *each((None, "5", -1, 2**70, 1.5, True), "number"),
    *each((None, "5", -1, 2**70, 1.5, True), "step"),
    *each((5, [], "elsewhere"), "network"),
    *each((5, {}, {"kind": 5}, "adam"), "optimizer"),
    *each((2, -1, True, None, "0", [0]), "generations", "0.W"),
    *each((-1, 10**30, None, 0, 1.0), "sizes", "0.W"),
    *each((None, [], [1], ["a", "b"], [1, 2], [10**40, "x"]), "stamps", "0.W"),
    *each((0, -5, None, "4", 1e9), "stored", "0.W"),
    *(set_to(0, "generations", name) for name in ("unknown", "../../elsewhere", "a\0b", "/etc/passwd", "")),
    set_to(4, "stored", "7.W"),
    *(renamed(name) for name in ("../0.W", "..", "9.W.m", "x" * 5000, "a\0", "\ud800")),
    *each((0, -1, None, "6", 10**9, 10**30, 7, 6.5), "config", "n_in"),
    *each((None, [], 5, [5], [{}], [{"name": "x"}], {"a": 1}), "config", "layers"),
    *each(("float16", None, "object", 5, "float64"), "config", "dtype"),
    *each(("x", -1, 1.5, []), "config", "seed"),
    *each(("x", 5), "config", "link"),
    lambda data: data["config"]["layers"][0].update(n_out=10**10),
    lambda data: data["config"]["layers"][2].update(n_out=10**9),
    lambda data: data["config"]["layers"][0].update(activation="no such"),
    lambda data: data["config"]["layers"].insert(0, {"name": "batch_norm"}),
]


@pytest.mark.parametrize("change", WRONG)
def test_a_record_with_a_wrong_value_is_refused(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    arrays, data = data_of(folder)
    files = {path.name for path in folder.iterdir()}
    change(data)
    put(folder, arrays, data)
    tracemalloc.start()
    try:
        with pytest.raises(StorageError, match=RECORD.replace(".", r"\.") + "|generation"):
            fcnn.Adam(0.01).bind(load(folder))
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert {path.name for path in folder.iterdir()} == files


DESCRIBED: list[Any] = [
    None,
    5,
    [5],
    [[]],
    [["flat", "<f4"]],
    [[5, "<f4", [1]]],
    [["flat", "|O", [1]]],
    [["flat", "<f4,<f4", [1]]],
    [["flat", "<f3", [1]]],
    [["flat", "<U4", [1]]],
    [["flat", 5, [1]]],
    [["flat", "|f8", [10**12]]],
    [["flat", "<f8", [10**30, 10**30]]],
    [["flat", "<f4", [-1, -1]]],
    [["flat", "<f4", [1] * 100]],
    [["flat", "<f4", [True]]],
    [["flat", "<f4", [1.0]]],
    [["flat", "<f4", ["1"]]],
    [["flat", "<f4", [1]], ["flat", "<f4", [1]]],
    [["flat", "<f4", [2]]],
    [["flat", "<i8", [0]]],
]


@pytest.mark.parametrize("described", DESCRIBED)
def test_arrays_that_a_record_does_not_hold(folder: Path, described: Any) -> None:
    _, data = data_of(folder)
    put(folder, {"x": np.zeros(1)}, data, described=described)
    with pytest.raises(StorageError, match=r"network\.state (cannot be (read|used))"):
        load(folder)


@pytest.mark.parametrize("name", ["flat", "optimizer m"])
@pytest.mark.parametrize("array", [None, np.zeros(3, "float32"), np.zeros(57, "float64"), np.zeros((1, 57), "float32")])
def test_an_array_of_another_network(folder: Path, name: str, array: Any) -> None:
    arrays, data = data_of(folder)
    if array is None:
        del arrays[name]
    else:
        arrays[name] = array
    put(folder, arrays, data)
    with pytest.raises(StorageError, match=rf"the network needs '{name}', float32 \("):
        fcnn.Adam(0.01).bind(load(folder))


TEXTS = [
    b"",
    b"{",
    b"[" * 100_000,
    b"5",
    b"null",
    b"[]",
    b'{"format": "fcnn_gpu network in a folder", "version": 2}',
    b'{"format": "fcnn_gpu network in a folder", "version": "2", "arrays": [], "data": {}}',
    b'{"format": "another", "version": 2, "arrays": [], "data": {}}',
    b"\xff\xfe{}",
    b"9" * 10_000,
    b'{"a": ' * 2000,
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_first_line_that_is_no_record(folder: Path, text: bytes) -> None:
    seal(folder, text)
    with pytest.raises(StorageError, match=r"network\.state (cannot be read|was written)"):
        load(folder)


def test_a_line_of_brackets_takes_no_more_memory_than_it_may(folder: Path) -> None:
    text = b'{"format": 1, "data": [' + b"[]," * 6_000_000 + b"0]}"
    seal(folder, text)
    tracemalloc.start()
    try:
        with pytest.raises(StorageError, match="nearly all brackets"):
            load(folder)
        assert tracemalloc.get_traced_memory()[1] < 16 * len(text)
    finally:
        tracemalloc.stop()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_stands_in_a_record_the_error_is_typed(folder: Path, data: st.DataObject) -> None:
    arrays, fields = data_of(folder)
    saved = (folder / RECORD).read_bytes()
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    )
    place: Any = fields
    for _ in range(data.draw(st.integers(0, 4))):
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys)) if keys else None
        if key is None or not isinstance(place[key], dict | list) or not place[key]:
            break
        place = place[key]
    keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
    place[data.draw(st.sampled_from(keys))] = data.draw(values)
    put(folder, arrays, copy.deepcopy(fields))
    try:
        model = load(folder)
        said = str(folder)
        fcnn.Adam(0.01).bind(model)  # a value that does no harm, or one of the moments
        model.close()
    except StorageError as error:
        said = str(error)
    assert str(folder) in said
    (folder / RECORD).write_bytes(saved)


@pytest.mark.parametrize("end", [b"", b"\n", b"\n" * 9, b"no stamp", b"\n00000000 {}\n"])
def test_no_stamp(end: bytes) -> None:
    assert Stamp.unpack(end) is None


def test_a_stamp_comes_back() -> None:
    stamp = Stamp("0123", 'a "quoted" name, ü', 2**62, "token")
    packed = stamp.pack().tobytes()
    assert Stamp.unpack(b"\n\n\n" + packed) == stamp
    assert Stamp.unpack(packed.replace(b"token", b"tokeN")) is None


@pytest.mark.parametrize(("name", "commit"), [("0.W", "3"), ("0.W", None), (["0.W"], 3), ("0.W", True)])
def test_a_stamp_of_other_types_is_none(name: Any, commit: Any) -> None:
    assert Stamp.unpack(Stamp("network", "0.W", 3, "token").pack().tobytes()) is not None
    assert Stamp.unpack(Stamp("network", name, commit, "token").pack().tobytes()) is None


def test_weights_that_are_not_finite(folder: Path) -> None:
    """They were written so, sum and all, by a release that kept the overflow of an update."""
    model: Any = load(folder)
    rows = model.stored.weights[1].rows
    values = np.array(model.layers[1].W)
    values[3, 2] = np.nan
    rows.replace([(0, values)])
    model.stored.commit()
    model.close()
    with pytest.raises(StorageError, match=r"1.W.generation\d\.npy holds NaN or infinity in row 3, as it was saved"):
        load(folder)
