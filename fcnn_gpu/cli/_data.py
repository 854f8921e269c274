"""Data sets as the command line names and describes them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._checks import match_names
from .._console import counted
from .._types import HostArray
from ..data import SIGNED_SAMPLES, Signature
from ..datasets import CATALOGUE, Dataset, load
from ..datasets._user_files import FILE_SUFFIXES, kind_of
from ..files import MODEL_NAME
from ..model import Sequential
from ..tables import is_table_file
from ._defaults import SPLIT_SEED

if TYPE_CHECKING:
    from ._table import PreparedTable


def load_data(
    name: str,
    *,
    target: str | None = None,
    task: str | None = None,
    header: bool | None = None,
    test_fraction: float = 0.2,
    class_names: list[str] | None = None,
    test_data: str | None = None,
    progress: bool | None = None,
) -> Dataset:
    """`fcnn_gpu.datasets.load` with the options' text: a target may be a CSV column's name or its number.

    With `test_data`, a file of the same kind, all samples of the first are for training.
    """
    if name not in CATALOGUE and (Path(name) / MODEL_NAME).is_file():
        raise ValueError(
            f"--data: {name} is a folder that train --out has made, with a model and no samples. Give the file or the "
            "data set that it was trained on (run.json in it says which)."
        )
    if name in CATALOGUE:
        class_names = None  # a known data set has its own, and takes no others
    if test_data is not None:
        return _with_test_data(name, test_data, target, task, header)
    return load(
        name,
        target=None if target is None else column(target),
        task=task,  # type: ignore[arg-type]  # load checks it
        class_names=class_names,
        header=header,
        test_fraction=test_fraction,
        seed=SPLIT_SEED,
        progress=progress,
    )


def single_target(given: list[str] | None, name: str) -> str | None:
    """The one --target of data that is no table. ValueError for several."""
    if given is not None and len(given) > 1:
        raise ValueError(f"--target may be given several times for tables, not for {name}.")
    return given[0] if given else None


def _with_test_data(name: str, test_data: str, target: str | None, task: str | None, header: bool | None) -> Dataset:
    if name in CATALOGUE:
        raise ValueError(f"--test-data is for files of your own; {name} has a test part.")
    if target is not None and Path(name).suffix.lower() != ".npz":
        raise ValueError("--test-data goes with tables and .npz files, which hold their targets themselves.")
    data = load_data(name, target=target, task=task, header=header, test_fraction=0)
    if len(data.X_test):
        raise ValueError(f"--test-data: {name} has a test part already.")
    names = None if data.class_names is None else list(data.class_names)
    other = load_data(test_data, target=target, task=data.task, header=header, test_fraction=0, class_names=names)
    kinds = [(part.feature_shape, part.byte_scale, part.n_outputs) for part in (data, other)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"--test-data {test_data}: samples of {other.feature_shape} and {other.n_outputs} targets, and those of "
            f"{name} are of {data.feature_shape} and {data.n_outputs}."
        )
    return dataclasses.replace(data, X_test=other.X_train, y_test=other.y_train)


def is_table(name: str | Path) -> bool:
    """Whether a file holds a table, by its ending, or where that is none that is known, by being text."""
    path = Path(name)
    if is_table_file(path):
        return True
    is_known = path.suffix.lower() in FILE_SUFFIXES
    return not is_known and path.is_file() and path.stat().st_size > 0 and kind_of(path) == "csv"


def holds_images(data: Dataset) -> bool:
    """Whether samples have a shape, and pixels from 0 to 1."""
    return len(data.feature_shape) > 1 and bool(data.X_train.min() >= 0 and data.X_train.max() <= 1)


def column(text: str) -> str | int:
    """A column given on the command line: a whole number counts from 0 (negative from the end), else it is a name.

    >>> column("-1"), column("species")
    (-1, 'species')
    """
    digits = text[1:] if text.startswith("-") else text
    return int(text) if digits.isascii() and digits.isdigit() else text


def describe(data: Dataset) -> str:
    """The data set in a line."""
    shape = "×".join(map(str, data.feature_shape))
    what = f"images of {shape}" if len(data.feature_shape) > 1 else f"samples of {counted(data.n_features, 'feature')}"
    if data.multilabel:
        targets = f"{counted(data.n_outputs, 'label')}, several per sample"
    elif data.class_names is not None:
        targets = counted(len(data.class_names), "class")
    else:
        targets = f"regression of {counted(data.n_outputs, 'target')}"
    licence = f"; {data.licence}" if data.licence else ""
    return f"{data.name}: {len(data.X_train):,} training and {len(data.X_test):,} test {what}, {targets}{licence}"


def info_of(data: Dataset, options: dict[str, Any], digest: str | None = None) -> dict[str, Any]:
    """What a saved model remembers of its data beside its signature: enough to find the same test part again.

    A file is remembered by its name without the folder, since the model may travel and the folder does not, and by the
    digest of its content.
    """
    return {
        "task": data.task,
        "multilabel": data.multilabel,
        "feature_shape": list(data.feature_shape),
        "data": data.name if data.name in CATALOGUE else Path(data.name).name,
        **({} if digest is None else {"data_digest": digest}),
        **options,
        **({} if data.target_name is None else {"target": data.target_name}),
    }


def signature_of(data: Dataset, table: PreparedTable | None = None, clamps: bool = True) -> Signature:
    """What a model of this data's own numbers expects, and how it names its classes.

    Of a table, values stay within the range of training, unless the model is one that extrapolates (`clamps`).
    """
    some = data.X_train[:SIGNED_SAMPLES]
    bounds = (float(some.min()), float(some.max()))
    known = Signature(data.feature_names, data.class_names, byte_scale=data.byte_scale, input_range=bounds)
    if table is None:
        return known
    several = data.task == "regression" and len(table.targets.names) > 1
    ranges, names = None, table.targets.names if several else None
    if data.task == "regression" and clamps:
        y = data.y_train.reshape(len(data.y_train), -1).astype(np.float64)
        ranges = [(float(low), float(high)) for low, high in zip(y.min(axis=0), y.max(axis=0), strict=True)]
    return dataclasses.replace(
        known, input_range=None, target_names=names, preparation=table.preparation, target_range=ranges
    )


def as_known(data: Dataset, model: Sequential, ignore_extra: bool) -> Dataset:
    """The data with the columns and the scale that a model knows. ValueError where it has other columns."""
    known, names, X = model.signature.feature_names, data.feature_names, (data.X_train, data.X_test)
    if known is not None and names is not None:
        remedy = "Leave other columns out with ignore_extra=True" if set(known) <= set(names) else ""
        places = match_names(known, names, data.name, remedy, ignore_extra=ignore_extra)
        X, names = (X[0][:, places], X[1][:, places]), tuple(known)
    if data.byte_scale is None:
        for part in X:
            model.signature.check_scale(part, data.name)
    elif data.byte_scale != model.signature.byte_scale:
        as_bytes = [np.rint(part / data.byte_scale).astype(np.uint8) for part in X]
        scale = scale_of_bytes(model, np.concatenate(as_bytes), data.name)
        if scale != data.byte_scale:
            X = (scaled(as_bytes[0], scale), scaled(as_bytes[1], scale))
    return dataclasses.replace(data, X_train=X[0], X_test=X[1], feature_names=names)


def scale_of_bytes(model: Sequential, X: HostArray, who: str) -> float:
    """What a file's bytes are multiplied by for this model: by its signature, else not where it has a scale itself."""
    if model.signature == Signature() and model.input_scale != 1:
        return 1.0
    return model.signature.scale_of_bytes(X, who)


def scaled(X: HostArray, scale: float) -> HostArray:
    """Bytes times their scale, float32; at scale 1 they stay bytes."""
    return X if scale == 1 else np.divide(X, np.float32(1 / scale), dtype=np.float32)
