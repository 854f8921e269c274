"""IDX files: what is written is read back, and whatever is wrong with a file is said."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fcnn_gpu._types import HostArray
from fcnn_gpu.datasets import DataFileError, read_idx, write_idx
from tests.support.limited import file_size_limit, needs_file_limits

DTYPES = ("uint8", "int8", "int16", "int32", "float32", "float64")
LABELS = np.array([7, 2, 1, 0], dtype=np.uint8)
PLAIN = b"\x00\x00\x08\x01" + struct.pack(">I", 4) + LABELS.tobytes()


@settings(deadline=None, max_examples=60)
@given(
    array=st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))
    ),
    name=st.sampled_from(["plain", "packed.gz"]),
)
def test_round_trip_over_types_and_shapes(
    array: HostArray, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("idx") / name
    write_idx(path, array)
    back = read_idx(path)
    assert back.dtype == array.dtype
    assert back.dtype.isnative
    np.testing.assert_array_equal(back, array)


def test_bytes_on_disk_are_those_of_the_format(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", np.array([[1, -2]], dtype=np.int16))
    assert (tmp_path / "a").read_bytes() == bytes.fromhex("00000b02 00000001 00000002 0001 fffe")


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_order_and_byte_order_do_not_matter(tmp_path: Path, order: str) -> None:
    array = np.asarray(np.arange(12, dtype=">i4").reshape(3, 4), order=order)  # type: ignore[call-overload]
    write_idx(tmp_path / "a", array)
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), np.arange(12).reshape(3, 4))


def test_gzip_is_recognized_by_content_not_by_name(tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(gzip.compress(PLAIN))
    (tmp_path / "labels.gz").write_bytes(PLAIN)
    for name in ("labels", "labels.gz"):
        np.testing.assert_array_equal(read_idx(tmp_path / name), LABELS)


def test_gzip_files_are_reproducible(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        write_idx(tmp_path / name, LABELS)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert (tmp_path / "a.gz").read_bytes()[4:8] == b"\0\0\0\0"  # the header's time


def test_result_is_writeable(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", LABELS)
    array = read_idx(tmp_path / "a")
    array[0] = 9
    assert array[0] == 9


PACKED = gzip.compress(PLAIN, mtime=0)
MALFORMED = {
    "empty file": (b"", "is empty; expected an IDX file"),
    "short magic": (PLAIN[:3], "truncated: 3 bytes"),
    "wrong zero bytes": (b"\x01" + PLAIN[1:], r"wrong magic number 0x01000801.*two zero bytes"),
    "unknown type": (b"\0\0\x0a\x01" + PLAIN[4:], "wrong magic number 0x00000a01"),
    "no dimension": (b"\0\0\x08\x00" + PLAIN[4:], "wrong magic number"),
    "too many dimensions": (b"\0\0\x08\x41" + PLAIN[4:], "wrong magic number"),
    "text": (b"label\n5\n", "wrong magic number"),
    "cut in the sizes": (PLAIN[:6], "truncated: its 1 dimension sizes take 4 bytes, got 2"),
    "cut in the elements": (PLAIN[:-1], "truncated: the header promises 4 elements of uint8 = 4 bytes, .* holds 3"),
    "trailing bytes": (PLAIN + b"\0", "trailing bytes: the header promises 4 elements of uint8 = 4 bytes"),
    "count too high": (PLAIN.replace(b"\0\0\0\x04", b"\0\0\0\x05"), "promises 5 elements .* holds 4"),
    "count too low": (PLAIN.replace(b"\0\0\0\x04", b"\0\0\0\x03"), "trailing bytes: the header promises 3"),
    "impossible count": (b"\0\0\x0e\x03" + b"\xff" * 12, "wrong counts: .*which no memory can hold"),
    "impossible count beside a zero": (b"\0\0\x0e\x04" + b"\xff" * 12 + b"\0" * 4, "wrong counts"),
    "gzip cut off": (PACKED[:-9], "truncated: the gzip stream ends"),
    "gzip cut in its header": (PACKED[:5], "truncated: the gzip stream ends"),
    "gzip with a wrong checksum": (PACKED[:-8] + b"abcd" + PACKED[-4:], "bad gzip data .*CRC"),
    "gzip with damaged data": (PACKED[:10] + b"\xff\xff\xff" + PACKED[13:], "bad gzip data"),
    "gzip of trailing bytes": (gzip.compress(PLAIN + b"\0"), "trailing bytes"),
    "bytes after the gzip stream": (PACKED + b"abc", "bad gzip data"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_file_is_named_with_its_fault(case: str, tmp_path: Path) -> None:
    content, fault = MALFORMED[case]
    path = tmp_path / "labels-idx1-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=fault) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert caught.value.path == path
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("compress", [False, True])
def test_memory_follows_the_content_not_the_header(tmp_path: Path, compress: bool) -> None:
    lie = b"\0\0\x08\x02" + struct.pack(">II", 2**31, 1000) + bytes(10_000)
    path = tmp_path / "lie"
    path.write_bytes(gzip.compress(lie) if compress else lie)
    tracemalloc.start()
    with pytest.raises(DataFileError, match="holds 10000"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_gzip_bomb_is_read_no_further_than_its_header_says(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(PLAIN + bytes(64 << 20), compresslevel=1))
    tracemalloc.start()
    with pytest.raises(DataFileError, match="trailing bytes"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", LABELS)
    with pytest.raises(FileNotFoundError, match=r"There is no file .*Did you mean 'train-labels-idx1-ubyte.gz'"):
        read_idx(tmp_path / "train-labels-idx1-ubyte")
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        read_idx(tmp_path / "nowhere" / "labels")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read_idx(tmp_path)


@pytest.mark.parametrize("dtype", ["int64", "uint16", "float16", "bool", "complex64", "U3", "object"])
def test_types_without_an_idx_code_are_refused(dtype: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="IDX has no type for"):
        write_idx(tmp_path / "a", np.zeros(3).astype(dtype))
    assert list(tmp_path.iterdir()) == []


def test_shapes_without_an_idx_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 to 64 dimensions, got 0"):
        write_idx(tmp_path / "a", np.array(3, dtype=np.uint8))
    with pytest.raises(ValueError, match="less than 2³²"):
        write_idx(tmp_path / "a", np.broadcast_to(np.uint8(0), (2**32,)))


@needs_file_limits
@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_idx(path, LABELS)
    before = path.read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, 100_000).astype(np.uint8)
    with file_size_limit(50_000), pytest.raises(OSError, match="File too large"):
        write_idx(path, noise)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [name]
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        write_idx(tmp_path / "nowhere" / "a", LABELS)
