"""`fcnn-gpu evaluate`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from .._checks import check_choice, check_real
from .._types import HostArray
from ..datasets import CATALOGUE, Dataset
from . import _backend, _threads
from ._data import as_known, describe, load_data
from ._evaluation import evaluate_model, print_evaluation
from ._model import SavedModel

PARTS = ("test", "train", "all")


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model file, as train --out DIR writes: DIR/model.safetensors.")],
    data: Annotated[
        str | None,
        typer.Option(help="A data set or a file, as for train. (default: the data set that the model was trained on)"),
    ] = None,
    part: Annotated[
        str,
        typer.Option(
            help="test (what training held out, or the data's own test part), train, or all: for a file that the model "
            "has not seen at all."
        ),
    ] = "test",
    target: Annotated[
        str | None, typer.Option(help="As for train. (default: as it was for the model's training)")
    ] = None,
    header: Annotated[
        bool | None, typer.Option("--header/--no-header", help="CSV: whether the first line names the columns.")
    ] = None,
    test_fraction: Annotated[
        float | None, typer.Option(help="As for train. (default: as it was for the model's training)")
    ] = None,
    ignore_extra: Annotated[
        bool, typer.Option("--ignore-extra", help="CSV: leave out all columns that the model does not know.")
    ] = False,
    backend: Annotated[str | None, typer.Option(help=_backend.HELP)] = None,
    threads: Annotated[int | None, typer.Option(help=_threads.HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> int:
    """Measure a saved model: its loss, and accuracy with a table of the classes, or R², MAE and RMSE."""
    check_choice("--part", part, PARTS)
    if test_fraction is not None:
        check_real("--test-fraction", test_fraction, low=0, high=1, high_open=True)
    _threads.choose_threads(threads)
    saved = SavedModel(model, backend)
    fraction = 0.0 if part == "all" else test_fraction
    dataset = _load(saved, data, target, header, fraction, ignore_extra)
    X, y = _samples(saved, dataset, part)
    evaluation = evaluate_model(saved.model, saved.loss, X, y, saved.class_names, saved.metrics)
    if as_json:
        print(json.dumps({"model": str(model), "data": dataset.name, "part": part} | evaluation.plain(), indent=2))
    else:
        print(f"Data: {describe(dataset)}")
        print_evaluation(Console(), evaluation, {"test": "Test", "train": "Training part", "all": "All"}[part])
    return 0


def _load(
    saved: SavedModel,
    name: str | None,
    target: str | None,
    header: bool | None,
    test_fraction: float | None,
    ignore_extra: bool,
) -> Dataset:
    trained_on = saved.info.get("data")
    if name is None:
        if trained_on not in CATALOGUE:
            known = f"It was trained on {trained_on}." if trained_on else "It does not say what it was trained on."
            raise ValueError(f"Say which data {saved.path} is to be evaluated on: --data FILE. {known}")
        name = trained_on
    own_file = name not in CATALOGUE
    if own_file and target is None and Path(name).suffix != ".npz":
        target = saved.info.get("target")
    fraction = saved.info.get("test_fraction", 0.2) if test_fraction is None else test_fraction
    dataset = load_data(
        name,
        target=target,
        task=saved.task if own_file else None,
        header=header,
        test_fraction=fraction,
        class_names=saved.class_names if own_file else None,
    )
    dataset = as_known(dataset, saved.model, ignore_extra)
    _check_fit(saved, dataset)
    return dataset


def _check_fit(saved: SavedModel, dataset: Dataset) -> None:
    """A ValueError unless the data has the features and the targets that the model knows."""
    model = saved.model
    if dataset.n_features != model.n_in:
        raise ValueError(
            f"{dataset.name} has {dataset.n_features} features per sample, "
            f"and the model {saved.path} expects {model.n_in}."
        )
    if dataset.task != saved.task:
        raise ValueError(f"{dataset.name} is a {dataset.task}, and the model {saved.path} does {saved.task}.")
    n_known = model.n_out if saved.class_names is None else len(saved.class_names)
    if dataset.n_outputs != n_known:
        what = "targets" if saved.class_names is None else "classes"
        raise ValueError(f"{dataset.name} has {dataset.n_outputs} {what}, and the model {saved.path} knows {n_known}.")


def _samples(saved: SavedModel, dataset: Dataset, part: str) -> tuple[HostArray, HostArray]:
    if part == "test":
        X, y = dataset.X_test, dataset.y_test
        if len(X) == 0:
            raise ValueError(f"{dataset.name} has no test part. Evaluate on every sample with --part all.")
    elif part == "train":
        X, y = dataset.X_train, dataset.y_train
    else:
        X = np.concatenate([dataset.X_train, dataset.X_test])
        y = np.concatenate([dataset.y_train, dataset.y_test])
    if saved.multilabel and y.ndim == 1:  # a file in which every sample happens to have one label
        y = np.eye(saved.model.n_out, dtype=np.int64)[y]
    return X, y
