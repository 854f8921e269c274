"""The data sets known by name, and `load`, the one way in."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from .._checks import suggest
from .._types import HostArray
from ._dataset import Dataset, Task, split_indices
from ._download import DownloadError, RemoteFile, download_file, progress_bar
from ._files import DataFileError, StrPath
from ._idx import idx_header, read_idx
from ._user_files import (
    BYTE_SCALE,
    FILE_SUFFIXES,
    IDX_STEMS,
    Options,
    as_features,
    find_idx,
    load_file,
    load_idx_folder,
)

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
"""Public mirrors of the original files: the one torchvision downloads from and TensorFlow Datasets' one."""

MNIST_FILES = (
    RemoteFile(
        name="train-images-idx3-ubyte.gz",
        n_bytes=47_040_016,
        n_bytes_gzip=9_912_422,
        md5="6bbc9ace898e44ae57da46a324031adb",
        sha256="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    RemoteFile(
        name="train-labels-idx1-ubyte.gz",
        n_bytes=60_008,
        n_bytes_gzip=28_881,
        md5="a25bea736e30d166cdddb491f175f624",
        sha256="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    RemoteFile(
        name="t10k-images-idx3-ubyte.gz",
        n_bytes=7_840_016,
        n_bytes_gzip=1_648_877,
        md5="2646ac647ad5339dbf082846283269ea",
        sha256="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    RemoteFile(
        name="t10k-labels-idx1-ubyte.gz",
        n_bytes=10_008,
        n_bytes_gzip=4_542,
        md5="27ae3e4e09519cfbb04c329615203637",
        sha256="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)

_MNIST_SOURCE = "MNIST database of handwritten digits, by Yann LeCun, Corinna Cortes and Christopher Burges"
_MNIST_LICENCE = "CC BY-SA 3.0 (https://creativecommons.org/licenses/by-sa/3.0/)"
_DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class _Request:
    """What `load` was asked for beside the name."""

    options: Options
    download: bool
    mirrors: Sequence[str]
    progress: bool | None


def load(
    name_or_path: StrPath,
    *,
    target: str | int | StrPath | None = None,
    task: Task | None = None,
    class_names: Sequence[str] | None = None,
    header: bool | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    download: bool = True,
    mirrors: Sequence[str] = MNIST_MIRRORS,
    progress: bool | None = None,
) -> Dataset:
    """A data set by name, or from the user's own file.

    Names:

    - "mnist-mini": the first 5,000 training and the first 1,000 test images of MNIST, 28×28; shipped with the package.
    - "mnist": 60,000 training and 10,000 test images. Looked for in `FCNN_DATA_DIR` (the folder itself, its mnist/
      or its MNIST/raw/), then in `cache_folder()`/mnist, then downloaded there. Every file's SHA-256 is checked.
    - "digits": scikit-learn's 1,797 images, 8×8, divided into training and test part as described below.

    Both MNISTs are by Yann LeCun, Corinna Cortes and Christopher Burges, under CC BY-SA 3.0; "digits" is by
    E. Alpaydin and C. Kaynak (UCI Machine Learning Repository), under CC BY 4.0.

    Files (a name with a folder or a known ending, or any `pathlib.Path`):

    - .npz with arrays X and y, or X_train and y_train, with X_test and y_test or without (upper or lower case;
      others are ignored).
    - .npy or IDX (plain or gzip) with the inputs, and `target` the file with the targets.
    - CSV (.csv, .tsv, .txt, .data): one row per sample, features and one target column.
    - a folder with IDX files named as MNIST's, for example Fashion-MNIST.

    Pickled content is never loaded. uint8 inputs are taken for pixels and divided by 255; others are not scaled.
    Inputs of more dimensions are flattened. Classes are text, booleans, a 0/1 matrix, or whole numbers of at most
    100 different values; other numbers make a regression; `task` overrules that. Classes are numbered in sorted
    order, or in the order of `class_names`.

    A file without a test part is divided by NumPy's PCG64 generator started at `seed`; for classes the division is
    stratified, and each class keeps a sample for training. Where the data has its own test part, `test_fraction` and
    `seed` have no effect.

    Args:
        name_or_path: a name, or the path of a file or a folder.
        target: CSV: the target column's name, or its number from 0; default the last. .npy and IDX: the file with y.
        task: "classification" or "regression"; None decides by the targets.
        class_names: the classes in the order a model knows them; a label that is not among them is an error.
        header: CSV: whether the first line names the columns; None: a line without numbers does, one of numbers does
            not, and where that is unclear (0,1,label), the error asks.
        test_fraction: the share of the samples that becomes the test part, in [0, 1).
        seed: of the division.
        download: whether "mnist" may be downloaded.
        mirrors: the base addresses that "mnist" is downloaded from, in order.
        progress: whether a download shows a progress bar; None: on a terminal.

    Raises:
        ValueError: an unknown name, or an argument that does not fit.
        FileNotFoundError: no such file; or MNIST is not on this machine and download=False.
        DataFileError: a malformed file; the message names it, the fault and, where there is one, the place. Or a file
            to be divided whose classes have too few samples for that, or are numbers that mostly occur once.
        DownloadError: MNIST is not on this machine and no mirror could be reached; the message says what to put where.

    >>> load("mnist-mini")
    Dataset('mnist-mini': 5000 training and 1000 test samples, features (28, 28), classification, 10 classes)
    """
    if task not in (None, "classification", "regression"):
        raise ValueError(f"task is 'classification', 'regression' or None, got {task!r}.")
    options = Options(target, task, class_names, header, test_fraction, seed)
    path = Path(name_or_path)
    if not isinstance(name_or_path, str) or name_or_path not in CATALOGUE:
        if _looks_like_path(name_or_path):
            return load_idx_folder(path, options) if path.is_dir() else load_file(path, options)
        raise ValueError(
            f"Unknown data set {name_or_path!r}. {suggest(name_or_path, CATALOGUE)} "
            "For a file of your own, give its path with its ending (.npz, .npy, .csv or IDX)."
        )
    for given, argument in ((target, "target"), (task, "task"), (header, "header"), (class_names, "class_names")):
        if given is not None:
            raise ValueError(f"{argument}= is for files of your own; {name_or_path!r} has its own.")
    return CATALOGUE[name_or_path](_Request(options, download, mirrors, progress))


def cache_folder() -> Path:
    """Where downloads are kept: `FCNN_CACHE_DIR`, or the platform's cache folder for fcnn_gpu.

    The platform's is ~/Library/Caches/fcnn_gpu on macOS, %LOCALAPPDATA%\\fcnn_gpu\\Cache on Windows and, elsewhere,
    $XDG_CACHE_HOME/fcnn_gpu or ~/.cache/fcnn_gpu.
    """
    if named := os.environ.get("FCNN_CACHE_DIR"):
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fcnn_gpu"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "fcnn_gpu" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fcnn_gpu"


def _looks_like_path(name_or_path: StrPath) -> bool:
    if not isinstance(name_or_path, str):
        return True
    separators = {"/", os.sep, os.altsep or os.sep}
    is_path = any(separator in name_or_path for separator in separators)
    return is_path or Path(name_or_path).suffix.lower() in FILE_SUFFIXES or Path(name_or_path).exists()


def _load_mnist_mini(request: _Request) -> Dataset:
    folder = resources.files(__package__).joinpath("mnist_mini")
    arrays = []
    for stem in IDX_STEMS:
        with resources.as_file(folder.joinpath(f"{stem}.gz")) as path:
            arrays.append((read_idx(path), path))
    source = f"{_MNIST_SOURCE}: its first 5,000 training and first 1,000 test images"
    return _image_dataset("mnist-mini", arrays, source)


def _load_mnist(request: _Request) -> Dataset:
    folders = _mnist_folders()
    arrays = []
    for file, stem in zip(MNIST_FILES, IDX_STEMS, strict=True):
        path = find_idx(stem, folders) or _fetch_mnist(file, folders, request)
        array = read_idx(path)
        _check_mnist(array, path, file)
        arrays.append((array, path))
    return _image_dataset("mnist", arrays, _MNIST_SOURCE)


def _mnist_folders() -> list[Path]:
    folders = []
    if named := os.environ.get("FCNN_DATA_DIR"):
        root = Path(named).expanduser()
        folders += [root, root / "mnist", root / "MNIST" / "raw"]
    return [*folders, cache_folder() / "mnist"]


def _fetch_mnist(file: RemoteFile, folders: Sequence[Path], request: _Request) -> Path:
    if not request.download:
        raise FileNotFoundError(f"MNIST is not on this machine and download=False. {_where_to_put(folders)}")
    try:
        with progress_bar(file.name, request.progress) as report:
            return download_file(file, folders[-1], request.mirrors, report=report)
    except DownloadError as error:
        raise DownloadError(f"MNIST is not on this machine. {error} {_where_to_put(folders)}") from error


def _where_to_put(folders: Sequence[Path]) -> str:
    lines = [
        f"  {file.name}  about {file.n_bytes_gzip} bytes; unpacked {file.n_bytes} bytes, MD5 {file.md5}, "
        f"SHA-256 {file.sha256}"
        for file in MNIST_FILES
    ]
    return "\n".join(
        [
            "Without a network: fetch these four files elsewhere, put them (gzip or unpacked) into one folder and set "
            "FCNN_DATA_DIR to that folder, or put them into the last folder looked in:",
            *lines,
            f"Looked in: {', '.join(str(folder) for folder in folders)}.",
            "The data set 'mnist-mini' is shipped with the package and needs no download.",
        ]
    )


def _check_mnist(array: HostArray, path: Path, file: RemoteFile) -> None:
    digest = hashlib.sha256(idx_header(array))
    digest.update(array.data)
    if digest.hexdigest() != file.sha256:
        raise DataFileError(
            path,
            f"is an IDX file of shape {array.shape}, but not MNIST's {file.name.removesuffix('.gz')} (SHA-256 of "
            f"the unpacked content {digest.hexdigest()}, expected {file.sha256}). Other data sets, such as "
            "Fashion-MNIST, use the same names: load those by their folder. If the file is damaged, remove it to "
            "have it downloaded again.",
        )


def _image_dataset(name: str, arrays: Sequence[tuple[HostArray, Path]], source: str) -> Dataset:
    (train_images, train_path), (y_train, _), (test_images, test_path), (y_test, _) = arrays
    X_train, feature_shape = as_features(train_images, train_path)
    X_test, _ = as_features(test_images, test_path)
    return Dataset(
        name=name,
        X_train=X_train,
        y_train=y_train.astype(np.int64),
        X_test=X_test,
        y_test=y_test.astype(np.int64),
        feature_shape=feature_shape,
        class_names=_DIGITS,
        task="classification",
        source=source,
        licence=_MNIST_LICENCE,
        byte_scale=BYTE_SCALE,
    )


def _load_digits(request: _Request) -> Dataset:
    from sklearn.datasets import load_digits

    images, y = load_digits(return_X_y=True)
    X = np.ascontiguousarray(images / 16, dtype=np.float32)  # 4×4 blocks of black and white pixels, counted: 0 to 16
    y = y.astype(np.int64)
    train, test = split_indices(len(X), request.options.test_fraction, request.options.seed, y)
    return Dataset(
        name="digits",
        X_train=X[train],
        y_train=y[train],
        X_test=X[test],
        y_test=y[test],
        feature_shape=(8, 8),
        class_names=_DIGITS,
        task="classification",
        source="Optical Recognition of Handwritten Digits, test set, by E. Alpaydin and C. Kaynak (1998), UCI Machine "
        "Learning Repository, as shipped with scikit-learn",
        licence="CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)",
        byte_scale=1 / 16,
    )


CATALOGUE: dict[str, Callable[[_Request], Dataset]] = {
    "mnist-mini": _load_mnist_mini,
    "mnist": _load_mnist,
    "digits": _load_digits,
}
"""The data sets that `load` knows by name."""
