"""The user's own data: .npz, .npy, CSV and IDX files, and folders of IDX files named as MNIST's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np

from .._checks import match_names
from .._types import HostArray
from ._arrays import NpzArrays, read_npy, read_npz
from ._csv_reader import CsvReader, read_csv
from ._csv_source import read_whole
from ._dataset import Dataset, Task, TooFewSamples, check_shares, split_indices
from ._digits import exactly_narrowed, narrowed
from ._files import DataFileError, StrPath, existing_file, naming
from ._idx import IDX_TYPES, read_idx
from ._targets import RowName, encode_targets

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
_OTHERS = {
    ".parquet": "Write it as .csv, or read it in a program: fcnn_gpu.datasets.open_parquet.",
    ".xlsx": "Save the table as .csv.",
    ".xls": "Save the table as .csv.",
    ".json": "Write the table as .csv.",
    ".csv.gz": "Unpack it first.",
    ".tsv.gz": "Unpack it first.",
}
"""Files that tables often come in, and what to do with them."""
FILE_SUFFIXES = tuple(_KINDS)
IDX_STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
"""What MNIST and its relatives (Fashion-MNIST, KMNIST, ...) call their four files."""
BYTE_SCALE = 1 / 255
"""Unsigned bytes are pixels, which become numbers from 0 to 1."""


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
    kind = kind_of(path)
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
    inputs = _read_array(path)
    X, feature_shape = as_features(inputs, path)
    target = Path(options.target)
    existing_file(target, "a file with the targets (.npy or IDX)")
    values = _read_array(target)
    scale = _byte_scale(inputs)
    return _assemble(path.name, path, X, values, feature_shape, options, targets_in=target, byte_scale=scale)


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
    inputs = read_idx(paths[0])
    X, feature_shape = as_features(inputs, paths[0])
    y = read_idx(paths[1])
    about: dict[str, Any] = {"targets_in": paths[1], "byte_scale": _byte_scale(inputs)}
    if len(paths) == 2:
        return _assemble(folder.name, paths[0], X, y, feature_shape, options, **about)
    test_inputs = read_idx(paths[2])
    _check_same_kind(inputs, test_inputs, paths[2])
    X_test, test_shape = as_features(test_inputs, paths[2])
    if test_shape != feature_shape:
        raise DataFileError(paths[2], f"samples have shape {test_shape}, the training samples {feature_shape}.")
    test = (X_test, read_idx(paths[3]))
    return _assemble(folder.name, paths[0], X, y, feature_shape, options, test=test, **about)


def find_idx(stem: str, folders: Sequence[Path]) -> Path | None:
    """The first of a file's usual names (plain or .gz, "-idx3" or ".idx3") in the first folder that has one."""
    names = [name + ending for name in (stem, stem.replace("-idx", ".idx")) for ending in ("", ".gz")]
    return next((folder / name for folder in folders for name in names if (folder / name).is_file()), None)


def read_features(
    path: StrPath,
    *,
    drop: str | int | Sequence[str | int] | None = None,
    header: bool | None = None,
    n_features: int | None = None,
    feature_names: Sequence[str] | None = None,
    ignore_extra: bool = False,
    scale_bytes: bool = True,
) -> HostArray:
    """The inputs in a file that has no targets, as `load` would scale and flatten them.

    Args:
        path: IDX (plain or gzip), .npy, .npz (an array X, or a single array of any name) or CSV.
        drop: CSV columns to leave out, by name or by number from 0: the target, if the file has one.
        header: whether a CSV file's first line names its columns; None: a line without numbers does, one of numbers
            does not, and where that is unclear (0,1,label), the error asks.
        n_features: how many numbers per sample are expected.
        feature_names: of a CSV file with a header, the columns to take, in this order, wherever they stand. Without a
            header, and in other files, columns have no names and are taken as they stand.
        ignore_extra: whether the file may have columns beside those of `feature_names`.
        scale_bytes: whether unsigned bytes, which are pixels, become numbers from 0 to 1; otherwise they stay bytes.

    Returns:
        (n_samples, n_features), C-contiguous: float32, or float64 where float32 does not hold every number exactly (or
        uint8, see `scale_bytes`).

    Raises:
        FileNotFoundError: there is no such file.
        DataFileError: the file is malformed, or has other features.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "inputs.csv"
    >>> _ = path.write_text("width,height\\n1,2\\n3,4\\n")
    >>> read_features(path, feature_names=["height", "width"])
    array([[2., 1.],
           [4., 3.]], dtype=float32)
    """
    path = existing_file(path, "a file of inputs (.npz, .npy, .csv or IDX)")
    kind = kind_of(path)
    if kind != "csv" and (drop not in (None, [], ()) or header is not None):
        raise ValueError(f"drop= and header= are for CSV files; {path} is read as {kind}.")
    if kind == "csv":
        dropped = [] if drop is None else [drop] if isinstance(drop, str | int) else list(drop)
        table = read_csv(path, header=header)
        columns = _feature_columns(table, dropped, feature_names, ignore_extra)
        if n_features is not None and len(columns) != n_features:
            hint = " If one column is the target, leave it out with drop=." if len(columns) == n_features + 1 else ""
            _refuse_width(path, len(columns), n_features, hint)
        return exactly_narrowed(table.numbers(columns))
    if kind == "npz":
        arrays = read_npz(path)
        keys = {key.lower(): key for key in arrays}
        if "x" not in keys and len(arrays) != 1:
            raise DataFileError(path, f"has the arrays {_shown(arrays)}; expected one named X, or a single array.")
        X, _ = as_features(arrays[keys["x"] if "x" in keys else next(iter(arrays))], path, scale_bytes=scale_bytes)
    else:
        X, _ = as_features(_read_array(path), path, scale_bytes=scale_bytes)
    if n_features is not None and X.shape[1] != n_features:
        _refuse_width(path, X.shape[1], n_features)
    return X


def _feature_columns(
    table: CsvReader, drop: Sequence[str | int], feature_names: Sequence[str] | None, ignore_extra: bool
) -> list[int]:
    """The numbers of the columns to take, in order; those of `feature_names` where both have names."""
    dropped = {table.column(column, "the column to drop") for column in drop}
    columns = [i for i in range(table.n_columns) if i not in dropped]
    if not columns:
        raise DataFileError(table.path, "has no column left.")
    if table.names is None or feature_names is None:
        return columns
    names = [table.names[i] for i in columns]
    times = Counter(names)
    for name in feature_names:
        if times[name] > 1:
            raise DataFileError(table.path, f"has two columns {name!r}. Rename or remove one.")
    all_there = set(feature_names) <= set(names)
    remedy = "Leave other columns out with drop=, or all with ignore_extra=True" if all_there else ""
    try:
        places = match_names(feature_names, names, "", remedy, ignore_extra=ignore_extra)
    except ValueError as error:
        raise DataFileError(table.path, str(error).strip()) from None
    return [columns[place] for place in places]


def _refuse_width(path: Path, n_found: int, n_expected: int, hint: str = "") -> NoReturn:
    raise DataFileError(path, f"has {n_found} features per sample, expected {n_expected}.{hint}")


def _byte_scale(inputs: HostArray) -> float | None:
    return BYTE_SCALE if inputs.dtype == np.uint8 else None


def _check_same_kind(training: HostArray, test: HostArray, path: Path) -> None:
    """DataFileError where one part would be scaled as pixels and the other not."""
    if (training.dtype == np.uint8) != (test.dtype == np.uint8):
        raise DataFileError(
            path,
            f"the training inputs are {training.dtype} and the test inputs {test.dtype}: one would be scaled as "
            "pixels, the other not. Save both in one dtype.",
        )


def as_features(
    array: HostArray, path: Path, what: str = "the inputs", *, scale_bytes: bool = True
) -> tuple[HostArray, tuple[int, ...]]:
    """An array as (n_samples, n_features), and the shape of one sample; uint8 is divided by 255, or stays.

    Others become float32, or float64 where float32 does not hold every number exactly.
    """
    if array.dtype.kind not in "biuf":
        raise DataFileError(path, f"{what} are {array.dtype}; expected real numbers.")
    if array.ndim < 2 or array.size == 0:
        raise DataFileError(
            path, f"{what} have shape {array.shape}; expected (n_samples, n_features) or (n_samples, height, width), "
            "none of them 0."
        )  # fmt: skip
    flat = array.reshape(len(array), -1)
    if array.dtype == np.uint8:
        if not scale_bytes:
            return np.ascontiguousarray(flat), array.shape[1:]
        X = np.divide(flat, np.float32(255), dtype=np.float32, order="C")
    else:
        X = np.ascontiguousarray(exactly_narrowed(flat))
        finite = np.abs(X) <= np.finfo(np.float32).max
        if not finite.all():
            row, column = divmod(int(np.argmin(finite)), X.shape[1])
            raise DataFileError(
                path,
                f"{what}: sample {row}, feature {column} is {flat[row, column]}; expected a finite number that "
                "float32 can hold.",
            )
    return X, array.shape[1:]


def kind_of(path: Path) -> Kind:
    """What a file is read as: by its name, or else by its first bytes. DataFileError for what is not read here."""
    if "ubyte" in path.name:
        return "idx"
    for ending, remedy in _OTHERS.items():
        if path.name.lower().endswith(ending):
            raise DataFileError(path, f"{ending} files are not read here, but .npz, .npy, .csv and IDX. {remedy}")
    if path.suffix.lower() in _KINDS:
        return _KINDS[path.suffix.lower()]
    with naming(path), open(path, "rb") as file:
        start = file.read(6)
    if start == b"\x93NUMPY":
        return "npy"
    if start[:2] == b"PK":
        return "npz"
    is_idx = start[:2] == b"\x1f\x8b" or (start[:2] == b"\0\0" and len(start) > 2 and start[2] in IDX_TYPES)
    return "idx" if is_idx else "csv"


def _read_array(path: Path) -> HostArray:
    kind = kind_of(path)
    if kind == "npy":
        return read_npy(path)
    if kind == "idx":
        return read_idx(path)
    raise ValueError(f"{path} is read as {kind}; expected a .npy or an IDX file here.")


def _load_csv(path: Path, options: Options) -> Dataset:
    target = -1 if options.target is None else options.target
    if not isinstance(target, str | int):
        raise TypeError(f"The target of a CSV file is a column's name or number, got {target!r}.")
    data = read_whole(path, target, header=options.header, task=options.task, class_names=options.class_names)
    return _divided(
        path.name, path, data.X, data.y, (data.X.shape[1],), data.task, data.class_names, options,
        feature_names=data.feature_names, target_name=data.target_name,
    )  # fmt: skip


def _load_npz(path: Path, options: Options) -> Dataset:
    arrays = read_npz(path)
    by_key: dict[str, str] = {}
    for key in arrays:
        if key.lower() in by_key:
            raise DataFileError(path, f"has two arrays named {key!r} but for upper and lower case.")
        by_key[key.lower()] = key
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
    inputs = arrays[by_key[X_key]]
    X, feature_shape = as_features(inputs, path, X_key)
    scale = _byte_scale(inputs)
    test = None
    if "x_test" in needed:
        test_inputs = arrays[by_key["x_test"]]
        _check_same_kind(inputs, test_inputs, path)
        X_test, test_shape = as_features(test_inputs, path, "x_test")
        if test_shape != feature_shape:
            raise DataFileError(path, f"X_test's samples have shape {test_shape}, X_train's {feature_shape}.")
        test = (X_test, arrays[by_key["y_test"]])
    return _assemble(path.name, path, X, arrays[by_key[y_key]], feature_shape, options, test=test, byte_scale=scale)


def _shown(arrays: NpzArrays) -> str:
    return ", ".join(f"{key} {arrays.shape(key)}" for key in arrays) or "(none)"


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
    byte_scale: float | None = None,
) -> Dataset:
    """Check the lengths, encode the targets (training and test together), split where there is no test part."""
    targets_in = targets_in or path
    row_name: RowName = "sample {}".format
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
    tested = None if test is None else (test[0], y[n_train:])
    return _divided(
        name, path, X, y[:n_train], feature_shape, task, class_names, options,
        test=tested, targets_in=targets_in, byte_scale=byte_scale,
    )  # fmt: skip


def _divided(
    name: str,
    path: Path,
    X: HostArray,
    y: HostArray,
    feature_shape: tuple[int, ...],
    task: Task,
    class_names: tuple[str, ...] | None,
    options: Options,
    *,
    test: tuple[HostArray, HostArray] | None = None,
    targets_in: Path | None = None,
    feature_names: tuple[str, ...] | None = None,
    target_name: str | None = None,
    byte_scale: float | None = None,
) -> Dataset:
    """The data set of samples whose targets are encoded, split where there is no test part."""
    parts = [(X, y), *([] if test is None else [test])]
    X, *other_X = narrowed([X for X, _ in parts], str(path), feature_names)
    if task == "regression":
        y, *other_y = narrowed([y for _, y in parts], f"{targets_in or path}, targets")
        test = None if test is None else (other_X[0], other_y[0])
    elif test is not None:
        test = other_X[0], test[1]
    if test is not None:
        X_train, y_train, (X_test, y_test) = X, y, test
    else:
        labels = y if task == "classification" and y.ndim == 1 else None
        if labels is not None and options.test_fraction:
            names = None if options.class_names is not None else class_names
            try:
                check_shares(labels, options.test_fraction, names)
            except TooFewSamples as error:
                raise DataFileError(path, str(error)) from None
        try:
            train_rows, test_rows = split_indices(len(X), options.test_fraction, options.seed, labels)
        except TooFewSamples as error:
            raise DataFileError(path, str(error)) from None
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
        target_name=target_name,
        byte_scale=byte_scale,
    )
