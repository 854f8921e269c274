"""Data sets as the command line names and describes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..datasets import CATALOGUE, Dataset, load

SPLIT_SEED = 0
"""Files without a test part are divided by this seed whatever --seed says, so that `evaluate` finds the same test part
as `train` did, and no sample that a model was trained on."""


def load_data(
    name: str,
    *,
    target: str | None = None,
    task: str | None = None,
    header: bool | None = None,
    test_fraction: float = 0.2,
    class_names: list[str] | None = None,
    progress: bool | None = None,
) -> Dataset:
    """`fcnn_gpu.datasets.load` with the options' text: a target may be a CSV column's name or its number."""
    if name in CATALOGUE:
        class_names = None  # a known data set has its own, and takes no others
    return load(
        name,
        target=column(target),
        task=task,  # type: ignore[arg-type]  # load checks it
        class_names=class_names,
        header=header,
        test_fraction=test_fraction,
        seed=SPLIT_SEED,
        progress=progress,
    )


def column(text: str | None) -> str | int | None:
    """A column given on the command line: a whole number counts from 0 (negative from the end), else it is a name.

    >>> column("-1"), column("species"), column(None)
    (-1, 'species', None)
    """
    if text is None:
        return None
    digits = text[1:] if text.startswith("-") else text
    return int(text) if digits.isascii() and digits.isdigit() else text


def describe(data: Dataset) -> str:
    """The data set in a line."""
    shape = "×".join(map(str, data.feature_shape))
    what = f"images of {shape}" if len(data.feature_shape) > 1 else f"samples of {data.n_features} features"
    if data.multilabel:
        targets = f"{data.n_outputs} labels, several per sample"
    elif data.class_names is not None:
        targets = f"{data.n_classes} classes"
    else:
        targets = f"regression of {data.n_outputs} target{'s' if data.n_outputs > 1 else ''}"
    licence = f"; {data.licence}" if data.licence else ""
    return f"{data.name}: {len(data.X_train):,} training and {len(data.X_test):,} test {what}, {targets}{licence}"


def info_of(data: Dataset, options: dict[str, Any]) -> dict[str, Any]:
    """What a saved model remembers of its data: enough to name classes and to find the same test part again.

    A file is remembered by its name without the folder: the model may travel, the folder does not.
    """
    return {
        "task": data.task,
        "multilabel": data.multilabel,
        "class_names": None if data.class_names is None else list(data.class_names),
        "feature_shape": list(data.feature_shape),
        "feature_names": None if data.feature_names is None else list(data.feature_names),
        "data": data.name if data.name in CATALOGUE else Path(data.name).name,
        **options,
    }
