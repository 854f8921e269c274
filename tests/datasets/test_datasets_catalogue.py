"""The named data sets: what they hold, where they are looked for, and downloads from a server of our own."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fcnn_gpu import datasets
from fcnn_gpu.datasets import DataFileError, DownloadError, read_idx, write_idx
from fcnn_gpu.datasets import _catalogue as catalogue
from fcnn_gpu.datasets import _download as downloads
from fcnn_gpu.datasets._dataset import split_indices
from fcnn_gpu.datasets._download import RemoteFile, download_file
from fcnn_gpu.datasets._idx import idx_header
from fcnn_gpu.datasets._user_files import IDX_STEMS

MINI = {
    "train-images-idx3-ubyte": "1e3ffdb2f57e22d9e5363dde25c2d057542c2e72baa312f0f3b03948bb3802b7",
    "train-labels-idx1-ubyte": "685aeb7baef68233efa643639a5e9c15bb48be09a628f96fb7f606ca2a1ea7bc",
    "t10k-images-idx3-ubyte": "de7c252b04f05e1f8309634180ccdf286dc6dbac8c579b74e76e02ae0331ca52",
    "t10k-labels-idx1-ubyte": "832c0d20f0dc42e575488c75a83a970787d4c8d4d05831b2ef03701b4a478a90",
}


def assert_image_classes(data: datasets.Dataset, n_train: int, n_test: int, shape: tuple[int, int]) -> None:
    n_features = shape[0] * shape[1]
    for X, y, n in ((data.X_train, data.y_train, n_train), (data.X_test, data.y_test, n_test)):
        assert X.shape == (n, n_features)
        assert X.dtype == np.float32
        assert X.flags.c_contiguous
        assert X.min() == 0
        assert X.max() == 1
        assert y.shape == (n,)
        assert y.dtype == np.int64
        assert set(np.unique(y)) == set(range(10))
    assert data.feature_shape == shape
    assert data.class_names == tuple("0123456789")
    assert (data.n_features, data.n_classes, data.n_outputs) == (n_features, 10, 10)
    assert data.task == "classification"
    assert not data.multilabel
    assert data.licence is not None


# mnist-mini


def test_mnist_mini_is_shipped_and_complete() -> None:
    data = datasets.load("mnist-mini")
    assert_image_classes(data, 5000, 1000, (28, 28))
    assert "CC BY-SA 3.0" in str(data.licence)
    for author in ("Yann LeCun", "Corinna Cortes", "Christopher Burges"):
        assert author in data.source
    assert list(data.y_train[:10]) == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]  # MNIST's famous first ten
    assert list(data.y_test[:5]) == [7, 2, 1, 0, 4]


def test_mnist_mini_files_are_the_documented_ones() -> None:
    folder = Path(datasets.__file__).parent / "mnist_mini"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "CC BY-SA 3.0" in readme
    for stem, sha256 in MINI.items():
        packed = (folder / f"{stem}.gz").read_bytes()
        assert hashlib.sha256(gzip.decompress(packed)).hexdigest() == sha256
        assert packed[4:8] == b"\0\0\0\0"  # no time in the gzip header: reproducible
        assert sha256 in readme
    assert sum(file.stat().st_size for file in folder.glob("*.gz")) < 1_100_000


def test_arguments_for_files_are_refused_for_names() -> None:
    for argument, value in (("target", "y"), ("task", "regression"), ("header", True), ("class_names", ["a"])):
        with pytest.raises(ValueError, match=f"{argument}= is for files of your own; 'mnist-mini'"):
            datasets.load("mnist-mini", **{argument: value})  # type: ignore[arg-type]


# digits


def test_digits_are_divided_by_class_and_by_seed() -> None:
    data = datasets.load("digits")
    assert_image_classes(data, 1438, 359, (8, 8))
    whole = np.bincount(np.concatenate([data.y_train, data.y_test]))
    assert np.abs(np.bincount(data.y_test) - 0.2 * whole).max() < 1
    again, other = datasets.load("digits"), datasets.load("digits", seed=1, test_fraction=0.5)
    np.testing.assert_array_equal(data.X_train, again.X_train)
    assert len(other.y_test) == 898
    assert not np.array_equal(data.y_train[:100], other.y_train[:100])
    assert list(data.y_train[:8]) == [8, 7, 8, 7, 7, 1, 8, 1]  # the division is fixed: published numbers rest on it


# the split


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.37, 0.99])
@pytest.mark.parametrize("counts", [(50, 50), (90, 9, 1), (2, 2, 2, 94), (100,)])
def test_split_is_a_partition_with_each_class_in_proportion(fraction: float, counts: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    train, test = split_indices(len(labels), fraction, 3, labels)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(len(labels)))
    taken = np.bincount(labels[test], minlength=len(counts))
    room = np.array(counts) - 1
    assert len(test) == min(max(round(fraction * len(labels)), 1), int(room.sum()))
    assert (taken <= room).all()  # every class keeps a training sample
    if (np.array(counts) * fraction <= room).all():
        assert np.abs(taken - fraction * np.array(counts)).max() <= 1


def test_split_without_labels_and_without_test_part() -> None:
    train, test = split_indices(10, 0.3, 0)
    assert len(test) == 3
    assert sorted([*train, *test]) == list(range(10))
    train, test = split_indices(10, 0, 0)
    assert list(train) == list(range(10))
    assert len(test) == 0


def test_split_refuses_what_cannot_be_divided() -> None:
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        split_indices(1, 0.2, 0)
    with pytest.raises(ValueError, match="No class has 2 samples"):
        split_indices(3, 0.2, 0, np.arange(3))
    for fraction in (-0.1, 1, float("nan")):
        with pytest.raises(ValueError, match="test_fraction"):
            split_indices(10, fraction, 0)
    with pytest.raises(ValueError, match="seed"):
        split_indices(10, 0.2, -1)


# names and paths


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"Unknown data set 'mnits'. Did you mean 'mnist'\?.*\.csv"):
        datasets.load("mnits")
    with pytest.raises(ValueError, match="task is 'classification'"):
        datasets.load("mnist-mini", task="ranking")  # type: ignore[arg-type]


def test_missing_file_says_what_was_looked_for(tmp_path: Path) -> None:
    for path in (str(tmp_path / "measurements"), tmp_path / "mnist", "no-such-file.csv"):
        with pytest.raises(FileNotFoundError, match=f"There is no file .*{Path(path).name}"):
            datasets.load(path)


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FCNN_CACHE_DIR", str(tmp_path / "own"))
    assert datasets.cache_folder() == tmp_path / "own"
    monkeypatch.delenv("FCNN_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    expected = {
        "linux": tmp_path / ".cache" / "fcnn_gpu",
        "darwin": tmp_path / "Library" / "Caches" / "fcnn_gpu",
        "win32": tmp_path / "AppData" / "Local" / "fcnn_gpu" / "Cache",
    }
    for platform, folder in expected.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert datasets.cache_folder() == folder
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert datasets.cache_folder() == tmp_path / "xdg" / "fcnn_gpu"


# MNIST itself


@pytest.mark.skipif("FCNN_DATA_DIR" not in os.environ, reason="FCNN_DATA_DIR does not name a folder with MNIST")
def test_real_mnist_is_whole_and_mini_is_its_beginning() -> None:
    data = datasets.load("mnist", download=False)
    assert_image_classes(data, 60_000, 10_000, (28, 28))
    assert "CC BY-SA 3.0" in str(data.licence)
    mini = datasets.load("mnist-mini")
    np.testing.assert_array_equal(mini.X_train, data.X_train[:5000])
    np.testing.assert_array_equal(mini.y_train, data.y_train[:5000])
    np.testing.assert_array_equal(mini.X_test, data.X_test[:1000])
    np.testing.assert_array_equal(mini.y_test, data.y_test[:1000])


@pytest.fixture
def small_mnist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, bytes]:
    """A four-file data set of a few images in MNIST's place; its gzip files by name. No variable, an empty cache."""
    rng = np.random.default_rng(0)
    arrays = []
    for n in (30, 20):
        arrays += [rng.integers(0, 256, (n, 4, 4)).astype(np.uint8), (np.arange(n) % 10).astype(np.uint8)]
    files, packed = [], {}
    for stem, array in zip(IDX_STEMS, arrays, strict=True):
        content = idx_header(array) + array.tobytes()
        name = f"{stem}.gz"
        packed[name] = gzip.compress(content, mtime=0)
        sha256, md5 = hashlib.sha256(content).hexdigest(), hashlib.md5(content).hexdigest()
        files.append(RemoteFile(name, len(content), len(packed[name]), md5, sha256))
    monkeypatch.setattr(catalogue, "MNIST_FILES", tuple(files))
    monkeypatch.setenv("FCNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("FCNN_DATA_DIR", raising=False)
    return packed


def put(folder: Path, packed: dict[str, bytes], rename: Callable[[str], str] = str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in packed.items():
        new = rename(name)
        (folder / new).write_bytes(content if new.endswith(".gz") else gzip.decompress(content))


@pytest.mark.parametrize("below", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("rename", [str, lambda name: name[:-3], lambda name: name[:-3].replace("-idx", ".idx")])
def test_mnist_is_found_in_the_data_folder(
    small_mnist: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    below: str,
    rename: Callable[[str], str],
) -> None:
    put(tmp_path / "data" / below, small_mnist, rename)
    monkeypatch.setenv("FCNN_DATA_DIR", str(tmp_path / "data"))
    data = datasets.load("mnist", download=False)
    assert data.X_train.shape == (30, 16)
    assert data.feature_shape == (4, 4)


def test_mnist_is_found_in_the_cache(small_mnist: dict[str, bytes], tmp_path: Path) -> None:
    put(tmp_path / "cache" / "mnist", small_mnist)
    assert datasets.load("mnist", download=False).X_test.shape == (20, 16)


def test_other_images_under_mnists_names_are_refused(small_mnist: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "mnist"
    put(folder, small_mnist)
    write_idx(folder / "train-images-idx3-ubyte.gz", np.zeros((30, 4, 4), dtype=np.uint8))
    with pytest.raises(DataFileError, match=r"train-images.*but not MNIST's.*SHA-256.*Fashion-MNIST"):
        datasets.load("mnist", download=False)


def test_offline_message_says_which_files_to_put_where(small_mnist: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        datasets.load("mnist", download=False)
    assert_says_what_to_do(str(caught.value), tmp_path)


def assert_says_what_to_do(message: str, tmp_path: Path) -> None:
    for file in catalogue.MNIST_FILES:
        for part in (file.name, str(file.n_bytes), str(file.n_bytes_gzip), file.md5, file.sha256):
            assert part in message
    assert "FCNN_DATA_DIR" in message
    assert str(tmp_path / "cache" / "mnist") in message
    assert "mnist-mini" in message


# downloads, from a server on this machine


class Server(http.server.ThreadingHTTPServer):
    """Serves bytes by path, and misbehaves on request."""

    def __init__(self, content: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = {f"/m/{name}": data for name, data in content.items()}
        self.cut_after: int | None = None  # bytes of a body after which the connection closes
        self.cuts_left = 0
        self.honours_ranges = True
        self.announce: int | None = None  # a Content-Length that lies
        self.chunked = False
        self.requests: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/m/"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.requests.append((self.path, wanted))
        body = server.content.get(self.path)
        if body is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.honours_ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if not server.chunked:
            self.send_header("Content-Length", str(server.announce or len(body) - start))
        self.end_headers()
        part = body[start:]
        if server.cut_after is not None and server.cuts_left > 0:
            server.cuts_left -= 1
            part = part[: server.cut_after]
        with contextlib.suppress(ConnectionError):  # the client may hang up on a lie
            self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(small_mnist: dict[str, bytes]) -> Iterator[Server]:
    with Server(dict(small_mnist)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(server: Server, folder: Path, **options: object) -> Path:
    return download_file(catalogue.MNIST_FILES[0], folder, [server.url], **options)  # type: ignore[arg-type]


def assert_nothing_left(folder: Path) -> None:
    assert not folder.exists() or list(folder.iterdir()) == []


def test_download_fills_the_cache_once(server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = datasets.load("mnist", mirrors=[server.url])
    assert data.X_train.shape == (30, 16)
    assert [path.rpartition("/")[2] for path, _ in server.requests] == [file.name for file in catalogue.MNIST_FILES]
    names = sorted(file.name for file in (tmp_path / "cache" / "mnist").iterdir())
    assert names == sorted(file.name for file in catalogue.MNIST_FILES)
    datasets.load("mnist", mirrors=[server.url])
    assert len(server.requests) == 4
    assert capfd.readouterr() == ("", "")  # quiet when not on a terminal


def test_progress_bar_shows_the_file(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    datasets.load("mnist", mirrors=[server.url], progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "train-images-idx3-ubyte.gz" in err


def test_only_what_is_missing_is_downloaded(
    server: Server, small_mnist: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FCNN_DATA_DIR", str(tmp_path))
    put(tmp_path, {name: data for name, data in small_mnist.items() if "labels" in name})
    datasets.load("mnist", mirrors=[server.url])
    assert [path for path, _ in server.requests] == [f"/m/{name}" for name in small_mnist if "images" in name]


def test_report_counts_the_bytes(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = fetch(server, tmp_path, report=lambda received, total: seen.append((received, total)))
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)
    assert read_idx(path).shape == (30, 4, 4)


@pytest.mark.parametrize("honours_ranges", [True, False])
def test_broken_connection_is_resumed(server: Server, tmp_path: Path, honours_ranges: bool) -> None:
    server.cut_after, server.cuts_left, server.honours_ranges = 100, 2, honours_ranges
    path = fetch(server, tmp_path)
    assert read_idx(path).shape == (30, 4, 4)
    ranges = [wanted for _, wanted in server.requests]
    assert ranges == [None, "bytes=100-", "bytes=200-" if honours_ranges else "bytes=100-"]


def test_connection_that_keeps_breaking_is_given_up(server: Server, tmp_path: Path) -> None:
    server.cut_after, server.cuts_left = 10, 99
    with pytest.raises(DownloadError, match=r"connection closed after 30 of .* \(3 attempts\)"):
        fetch(server, tmp_path)
    assert_nothing_left(tmp_path)


def test_next_mirror_is_asked_when_the_first_has_no_file(server: Server, tmp_path: Path) -> None:
    mirrors = [server.url + "elsewhere", server.url]
    path = download_file(catalogue.MNIST_FILES[0], tmp_path / "new" / "folder", mirrors)
    assert path.is_file()
    assert len(server.requests) == 2


CORRUPT = {
    "other content": (lambda data: gzip.compress(b"something else"), "wrong checksum"),
    "not gzip": (lambda data: b"<html>Sign in to the network</html>", "no whole gzip file"),
    "cut gzip": (lambda data: data[:-12], "no whole gzip file"),
    "one flipped byte": (lambda data: gzip.compress(gzip.decompress(data)[:-1] + b"\xff"), "wrong checksum"),
    "gzip bomb": (lambda data: gzip.compress(bytes(1 << 24)), "wrong checksum"),
    "endless body": (lambda data: bytes(1 << 20), "announces 1048576 bytes, more than"),
}


@pytest.mark.parametrize("case", CORRUPT)
def test_corrupt_download_is_refused_and_removed(server: Server, tmp_path: Path, case: str) -> None:
    change, fault = CORRUPT[case]
    name = catalogue.MNIST_FILES[0].name
    server.content[f"/m/{name}"] = change(server.content[f"/m/{name}"])
    with pytest.raises(DownloadError, match=fault):
        fetch(server, tmp_path)
    assert_nothing_left(tmp_path)


def test_body_without_a_length_is_limited_too(server: Server, tmp_path: Path) -> None:
    server.chunked = True
    assert fetch(server, tmp_path / "good").is_file()
    name = catalogue.MNIST_FILES[0].name
    server.content[f"/m/{name}"] = bytes(1 << 20)
    with pytest.raises(DownloadError, match="sends more than"):
        fetch(server, tmp_path / "bad")
    assert_nothing_left(tmp_path / "bad")


def test_failed_download_says_what_each_mirror_answered_and_what_to_do(server: Server, tmp_path: Path) -> None:
    server.content.clear()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: a connection is refused
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(DownloadError, match="HTTP 404") as caught:
            datasets.load("mnist", mirrors=[server.url, nobody])
    assert "not reachable" in str(caught.value)
    assert_says_what_to_do(str(caught.value), tmp_path)
    assert_nothing_left(tmp_path / "cache" / "mnist")


def test_silent_server_times_out(small_mnist: dict[str, bytes], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(DownloadError, match=r"no answer|not reachable"):
            download_file(catalogue.MNIST_FILES[0], tmp_path, [url], timeout=0.05)
    assert_nothing_left(tmp_path)


def test_connection_reset_while_reading_is_another_attempt(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [ConnectionResetError("reset by peer")]
    real = downloads._open

    @contextlib.contextmanager
    def flaky(url: str, headers: dict[str, str], timeout: float) -> Iterator[object]:
        with real(url, headers, timeout) as response:
            if faults:
                fault = faults.pop()

                def fail(_: int) -> bytes:
                    raise fault

                monkeypatch.setattr(response, "read", fail)
            yield response

    monkeypatch.setattr(downloads, "_open", flaky)
    assert fetch(server, tmp_path).is_file()
    assert len(server.requests) == 2


def test_unwritable_cache_names_the_variable(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DownloadError, match=r"Cannot write .*FCNN_CACHE_DIR"):
        fetch(server, tmp_path / "file")


def test_mirrors_are_http_addresses(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"http or https address, got 'file:///etc'"):
        download_file(catalogue.MNIST_FILES[0], tmp_path, ["file:///etc"])
    with pytest.raises(TypeError, match="mirrors is a list of addresses"):
        download_file(catalogue.MNIST_FILES[0], tmp_path, "https://example.org")
    with pytest.raises(DownloadError, match="no mirror was given"):
        download_file(catalogue.MNIST_FILES[0], tmp_path, [])
    assert all(mirror.startswith("https://") for mirror in datasets.MNIST_MIRRORS)
