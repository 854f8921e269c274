"""The user's own data: .npz, .npy, CSV and IDX files, and folders of IDX files named as MNIST's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from .._types import HostArray
from ._arrays import read_npy, read_npz
from ._csv import read_csv
from ._dataset import Dataset, Task, split_indices
from ._files import DataFileError, StrPath, existing_file
from ._idx import IDX_TYPES, read_idx
from ._targets import RowName, encode_targets, parse_cells

Kind = Literal["npz", "npy", "csv", "idx"]

_KINDS: dict[str, Kind] = {
    ".npz": "npz",
    ".npy": "npy",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".data": "csv",
    ".idx": "idx",
    ".gz": "idx",
}
FILE_SUFFIXES = tuple(_KINDS)
IDX_STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
"""What MNIST and its relatives (Fashion-MNIST, KMNIST, ...) call their four files."""


@dataclass(frozen=True)
class Options:
    """How to read the user's file: the arguments of `load` of the same names."""

    target: str | int | StrPath | None = None
    task: Task | None = None
    class_names: Sequence[str] | None = None
    header: bool | None = None
    test_fraction: float = 0.2
    seed: int = 0


def load_file(path: Path, options: Options) -> Dataset:
    """The data set in a file, of the kind that its name (or, failing that, its first bytes) tells."""
    existing_file(path, "a data file (.npz, .npy, .csv or IDX)")
    kind = _kind(path)
    if kind != "csv" and options.header is not None:
        raise ValueError(f"header= is for CSV files; {path} is read as {kind}.")
    if kind == "csv":
        return _load_csv(path, options)
    if kind == "npz":
        if options.target is not None:
            raise ValueError(f"target= is for .npy, IDX and CSV files; {path} names its own targets (y).")
        return _load_npz(path, options)
    if not isinstance(options.target, str | Path):
        raise ValueError(
            f"{path} holds one array, the inputs: pass the file with the targets, target='y.npy' (.npy or IDX)."
        )
    X, feature_shape = as_features(_read_array(path), path)
    target = Path(options.target)
    existing_file(target, "a file with the targets (.npy or IDX)")
    values = _read_array(target)
    return _assemble(path.name, path, X, values, feature_shape, options, targets_in=target)


def load_idx_folder(folder: Path, options: Options) -> Dataset:
    """The data set in a folder of IDX files named as MNIST's; the two test files may be missing."""
    found = [find_idx(stem, [folder]) for stem in IDX_STEMS]
    missing = [stem for stem, path in zip(IDX_STEMS, found, strict=True) if path is None]
    if any(stem.startswith("train") for stem in missing) or len(missing) == 1:
        raise FileNotFoundError(
            f"The folder {folder.absolute()} lacks {', '.join(missing)} (plain or .gz). A data folder holds "
            f"{', '.join(IDX_STEMS)}."
        )
    if options.target is not None:
        raise ValueError(f"target= is for single files; the folder {folder} names its own targets.")
    paths = [path for path in found if path is not None]
    X, feature_shape = as_features(read_idx(paths[0]), paths[0])
    y = read_idx(paths[1])
    if len(paths) == 2:
        return _assemble(folder.name, paths[0], X, y, feature_shape, options, targets_in=paths[1])
    X_test, test_shape = as_features(read_idx(paths[2]), paths[2])
    if test_shape != feature_shape:
        raise DataFileError(paths[2], f"samples have shape {test_shape}, the training samples {feature_shape}.")
    test = (X_test, read_idx(paths[3]))
    return _assemble(folder.name, paths[0], X, y, feature_shape, options, test=test, targets_in=paths[1])


def find_idx(stem: str, folders: Sequence[Path]) -> Path | None:
    """The first of a file's usual names (plain or .gz, "-idx3" or ".idx3") in the first folder that has one."""
    names = [name + ending for name in (stem, stem.replace("-idx", ".idx")) for ending in ("", ".gz")]
    return next((folder / name for folder in folders for name in names if (folder / name).is_file()), None)


def read_features(
    path: StrPath, *, drop: str | int | None = None, header: bool | None = None, n_features: int | None = None
) -> HostArray:
    """The inputs in a file that has no targets, as `load` would scale and flatten them.

    Args:
        path: IDX (plain or gzip), .npy, .npz (an array X, or a single array of any name) or CSV.
        drop: a CSV column to leave out, by name or by number from 0: the target, if the file has one.
        header: whether a CSV file's first line names its columns; None: it does if none of its cells is a number.
        n_features: how many numbers per sample are expected.

    Returns:
        (n_samples, n_features) float32, C-contiguous. Unsigned bytes are pixels and become [0, 1].

    Raises:
        FileNotFoundError: there is no such file.
        DataFileError: the file is malformed, or has another number of features.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "inputs.csv"
    >>> _ = path.write_text("width,height\\n1,2\\n3,4\\n")
    >>> read_features(path)
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    """
    path = existing_file(path, "a file of inputs (.npz, .npy, .csv or IDX)")
    kind = _kind(path)
    if kind != "csv" and (drop is not None or header is not None):
        raise ValueError(f"drop= and header= are for CSV files; {path} is read as {kind}.")
    if kind == "csv":
        table = read_csv(path, header=header)
        dropped = None if drop is None else table.column(drop, "the column to drop")
        columns = [i for i in range(table.n_columns) if i != dropped]
        if not columns:
            raise DataFileError(path, "has no column left.")
        X = table.numbers(columns)
    elif kind == "npz":
        arrays = read_npz(path)
        keys = {key.lower(): key for key in arrays}
        if "x" not in keys and len(arrays) != 1:
            raise DataFileError(path, f"has the arrays {_shown(arrays)}; expected one named X, or a single array.")
        X, _ = as_features(arrays[keys["x"] if "x" in keys else next(iter(arrays))], path)
    else:
        X, _ = as_features(_read_array(path), path)
    if n_features is not None and X.shape[1] != n_features:
        hint = ""
        if kind == "csv" and drop is None and X.shape[1] == n_features + 1:
            hint = " If one column is the target, leave it out with drop=."
        raise DataFileError(path, f"has {X.shape[1]} features per sample, expected {n_features}.{hint}")
    return X


def as_features(array: HostArray, path: Path, what: str = "the inputs") -> tuple[HostArray, tuple[int, ...]]:
    """An array as (n_samples, n_features) float32, and the shape of one sample; uint8 is divided by 255."""
    if array.dtype.kind not in "biuf":
        raise DataFileError(path, f"{what} are {array.dtype}; expected real numbers.")
    if array.ndim < 2 or array.size == 0:
        raise DataFileError(
            path, f"{what} have shape {array.shape}; expected (n_samples, n_features) or (n_samples, height, width), "
            "none of them 0."
        )  # fmt: skip
    flat = array.reshape(len(array), -1)
    if array.dtype == np.uint8:
        X = np.divide(flat, np.float32(255), dtype=np.float32, order="C")
    else:
        with np.errstate(over="ignore", invalid="ignore"):  # both show below
            X = np.ascontiguousarray(flat, dtype=np.float32)
        finite = np.isfinite(X)
        if not finite.all():
            row, column = (int(i) for i in np.argwhere(~finite)[0])
            raise DataFileError(
                path,
                f"{what}: sample {row}, feature {column} is {flat[row, column]}; expected a finite number that "
                "float32 can hold.",
            )
    return X, array.shape[1:]


def _kind(path: Path) -> Kind:
    if "ubyte" in path.name:
        return "idx"
    if path.suffix.lower() in _KINDS:
        return _KINDS[path.suffix.lower()]
    with open(path, "rb") as file:
        start = file.read(6)
    if start == b"\x93NUMPY":
        return "npy"
    if start[:2] == b"PK":
        return "npz"
    is_idx = start[:2] == b"\x1f\x8b" or (start[:2] == b"\0\0" and len(start) > 2 and start[2] in IDX_TYPES)
    return "idx" if is_idx else "csv"


def _read_array(path: Path) -> HostArray:
    kind = _kind(path)
    if kind == "npy":
        return read_npy(path)
    if kind == "idx":
        return read_idx(path)
    raise ValueError(f"{path} is read as {kind}; expected a .npy or an IDX file here.")


def _load_csv(path: Path, options: Options) -> Dataset:
    target = -1 if options.target is None else options.target
    if not isinstance(target, str | int):
        raise TypeError(f"The target of a CSV file is a column's name or number, got {target!r}.")
    table = read_csv(path, header=options.header)
    if table.n_columns < 2:
        raise DataFileError(path, "has a single column; expected features and a target.")
    target_column = table.column(target, "the target column")
    columns = [i for i in range(table.n_columns) if i != target_column]
    values = parse_cells(table.text(target_column))
    X = table.numbers(columns)
    names = None if table.names is None else tuple(table.names[i] for i in columns)

    def row_name(row: int) -> str:
        return f"line {table.line_numbers[row]}, {table.column_name(target_column)}"

    return _assemble(path.name, path, X, values, (len(columns),), options, row_name=row_name, feature_names=names)


def _load_npz(path: Path, options: Options) -> Dataset:
    arrays = read_npz(path)
    by_key: dict[str, HostArray] = {}
    for key, array in arrays.items():
        if key.lower() in by_key:
            raise DataFileError(path, f"has two arrays named {key!r} but for upper and lower case.")
        by_key[key.lower()] = array
    whole = {"x", "y"} & by_key.keys()
    parts = {"x_train", "y_train", "x_test", "y_test"} & by_key.keys()
    if whole and not parts:
        needed, X_key, y_key = {"x", "y"}, "x", "y"
    else:
        needed, X_key, y_key = {"x_train", "y_train"}, "x_train", "y_train"
        if parts & {"x_test", "y_test"}:
            needed |= {"x_test", "y_test"}
    if (whole and parts) or not needed <= by_key.keys():
        raise DataFileError(
            path,
            f"has the arrays {_shown(arrays)}; expected X and y, or X_train and y_train, with X_test and y_test or "
            "without.",
        )
    X, feature_shape = as_features(by_key[X_key], path, X_key)
    test = None
    if "x_test" in needed:
        X_test, test_shape = as_features(by_key["x_test"], path, "x_test")
        if test_shape != feature_shape:
            raise DataFileError(path, f"X_test's samples have shape {test_shape}, X_train's {feature_shape}.")
        test = (X_test, by_key["y_test"])
    return _assemble(path.name, path, X, by_key[y_key], feature_shape, options, test=test)


def _shown(arrays: dict[str, HostArray]) -> str:
    return ", ".join(f"{key} {array.shape}" for key, array in arrays.items()) or "(none)"


def _assemble(
    name: str,
    path: Path,
    X: HostArray,
    values: HostArray,
    feature_shape: tuple[int, ...],
    options: Options,
    *,
    test: tuple[HostArray, HostArray] | None = None,
    targets_in: Path | None = None,
    row_name: RowName = "sample {}".format,
    feature_names: tuple[str, ...] | None = None,
) -> Dataset:
    """Check the lengths, encode the targets (training and test together), split where there is no test part."""
    targets_in = targets_in or path
    for part, inputs, targets in [("training ", X, values)] + ([("test ", *test)] if test else []):
        length = len(targets) if targets.ndim else 0
        if length != len(inputs):
            which = part if test else ""
            raise DataFileError(
                targets_in, f"there are {length} {which}targets for {len(inputs)} {which}samples; expected as many."
            )
    n_train = len(X)
    if test is not None:
        if values.shape[1:] != test[1].shape[1:] or (values.dtype.kind in "US") != (test[1].dtype.kind in "US"):
            raise DataFileError(
                targets_in, "the training and the test targets are of different kinds: "
                f"{values.dtype} {values.shape} and {test[1].dtype} {test[1].shape}."
            )  # fmt: skip
        values = np.concatenate([values, test[1]])

        def row_name(row: int) -> str:
            return f"training sample {row}" if row < n_train else f"test sample {row - n_train}"

    y, task, class_names = encode_targets(values, targets_in, row_name, options.task, options.class_names)
    if test is not None:
        X_train, y_train, X_test, y_test = X, y[:n_train], test[0], y[n_train:]
    else:
        labels = y if task == "classification" and y.ndim == 1 else None
        train_rows, test_rows = split_indices(len(X), options.test_fraction, options.seed, labels)
        X_train, y_train, X_test, y_test = X[train_rows], y[train_rows], X[test_rows], y[test_rows]
    return Dataset(
        name=name,
        X_train=X_train,
        y_train=y_train,
        X_test=X_test,
        y_test=y_test,
        feature_shape=feature_shape,
        class_names=class_names,
        task=task,
        source=f"file {path}",
        feature_names=feature_names,
    )
