"""How good a saved model is, for `fcnn-gpu evaluate`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from .._checks import check_choice, check_real
from .._console import counted
from .._types import HostArray
from ..datasets import CATALOGUE, Dataset
from . import _threads
from ._data import as_known, describe, is_table, load_data
from ._evaluation import Evaluation, evaluate_model, headline, print_evaluation
from ._model import SavedModel
from ._output import ROWS
from ._rows import digest_of, known_rows, row_marks

PARTS = ("test", "train", "all")
_MOST_NAMED = 10


def run_evaluate(
    *,
    model: Path,
    data: str | None,
    part: str | None,
    target: list[str] | None,
    header: bool | None,
    sheet: str | None,
    test_fraction: float | None,
    ignore_extra: bool,
    loss: str | None,
    backend: str | None,
    threads: int | None,
    as_json: bool,
) -> int:
    """Run `fcnn-gpu evaluate` with these options; returns its exit code."""
    if part is not None:
        check_choice("--part", part, PARTS)
    if test_fraction is not None:
        check_real("--test-fraction", test_fraction, low=0, high=1, high_open=True)
    _threads.choose_threads(threads)
    saved = SavedModel(model, backend, loss)
    name = _name(saved, data)
    trained_on = _is_training_data(saved, name)
    if trained_on and sheet is None:
        sheet = saved.info.get("sheet")
    elif trained_on and sheet != saved.info.get("sheet"):
        trained_on = False  # another table of the same file
    if part is None:
        part = "all" if trained_on is False and test_fraction is None else "test"
    by_rows = trained_on is False and part != "all" and test_fraction is None
    named_target = None if target is None else ",".join(target)
    if saved.model.preparation is not None and name not in CATALOGUE and is_table(name):
        samples = _of_table(saved, name, "all" if by_rows else part, named_target, header, sheet, test_fraction)
    else:
        fraction = 0.0 if part == "all" or by_rows else test_fraction
        dataset = _load(saved, name, named_target, header, sheet, fraction, ignore_extra)
        by_rows = by_rows and not len(dataset.X_test)
        samples = _of_dataset(saved, dataset, "all" if by_rows else part)
    if by_rows:
        samples = _part_by_rows(saved, samples, part)
    looks = not by_rows and _may_hold_known(saved, trained_on, part, test_fraction)
    known = _trained_rows(saved, samples) if looks else None
    evaluation = _measured(saved, samples.X, samples.y)
    new = np.setdiff1d(np.arange(len(samples.X)), [] if known is None else known)
    of_new = _measured(saved, samples.X[new], samples.y[new]) if 0 < len(new) < len(samples.X) else None
    named = None if known is None else np.sort(known if samples.rows is None else samples.rows[known]).tolist()
    if as_json:
        about: dict[str, Any] = {"model": str(saved.path), "data": samples.name, "part": part}
        if named is not None:
            about |= {"training_rows": named, "other_rows": None if of_new is None else of_new.plain()}
        print(json.dumps(about | evaluation.plain(), indent=2))
    else:
        print(f"Data: {samples.description}")
        print_evaluation(Console(), evaluation, {"test": "Test", "train": "Training part", "all": "All"}[part])
        _say_known(named, len(samples.X), of_new)
    return 0


def _measured(saved: SavedModel, X: HostArray, y: HostArray) -> Evaluation:
    return evaluate_model(saved.model, saved.loss, X, y, saved.class_names, saved.metrics)


@dataclass(frozen=True)
class _Samples:
    """What is measured: inputs and targets, and the rows of the file that they are of."""

    name: str
    description: str
    X: HostArray
    y: HostArray
    rows: HostArray | None = None


def samples_to_report(saved: SavedModel, data: str | None, target: str | None = None) -> tuple[_Samples, str]:
    """(the samples that say how good the model is, which part of the data they are).

    That is the test part of the data that it was trained on, and all of any other file.
    """
    name = _name(saved, data)
    trained_on = _is_training_data(saved, name)
    part = "all" if trained_on is False else "test"
    if saved.model.preparation is not None and name not in CATALOGUE and is_table(name):
        sheet = saved.info.get("sheet") if trained_on else None
        return _of_table(saved, name, part, target, None, sheet, None), part
    fraction = 0.0 if part == "all" else None
    return _of_dataset(saved, _load(saved, name, target, None, None, fraction, False), part), part


def _part_by_rows(saved: SavedModel, samples: _Samples, part: str) -> _Samples:
    """Of a file that is not the training file, though it may hold its rows: those trained on, or for "test" the others.

    ValueError where nothing tells them apart, or there are none.
    """
    known = _trained_rows(saved, samples)
    if known is None:
        raise ValueError(
            f"--part {part}: {samples.name} is not what {saved.path} was trained on, and {ROWS}, which tells its rows, "
            "is not beside it. Say --part all, or --test-fraction 0.2 to draw a part anew."
        )
    n = len(samples.X)
    picked = known if part == "train" else np.setdiff1d(np.arange(n), known)
    if not len(picked):
        what = "none of its rows was trained on" if part == "train" else "all of its rows were trained on"
        raise ValueError(f"--part {part} of {samples.name}: {what}.")
    which = "that training had" if part == "train" else "that training did not have"
    rows = picked if samples.rows is None else samples.rows[picked]
    said = f"{samples.description}; of these the {len(picked):,} {which}"
    return _Samples(samples.name, said, samples.X[picked], samples.y[picked], rows)


def _name(saved: SavedModel, data: str | None) -> str:
    name = saved.training_data() if data is None else data
    if name is None:
        trained_on = saved.info.get("data")
        known = f"It was trained on {trained_on}." if trained_on else "It does not say what it was trained on."
        raise ValueError(f"Say which data {saved.path} is to be evaluated on: --data FILE. {known}")
    return name


def _is_training_data(saved: SavedModel, name: str) -> bool | None:
    """Whether this is what the model was trained on; None for data that has a test part of its own."""
    if name in CATALOGUE or Path(name).is_dir():
        return None
    known = saved.info.get("data_digest")
    if known is None:  # a model of an earlier release notes a name, and one of a program's own nothing
        return Path(name).name == saved.info.get("data")
    return digest_of(name) == known


def _may_hold_known(saved: SavedModel, trained_on: bool | None, part: str, test_fraction: float | None) -> bool:
    """Whether samples that are measured as new may be training samples, so that they are looked for."""
    if part == "all":
        return not trained_on
    another_share = test_fraction not in (None, saved.info.get("test_fraction", 0.2))
    return part == "test" and (trained_on is False or bool(trained_on and another_share))


def _of_table(
    saved: SavedModel,
    name: str,
    part: str,
    target: str | None,
    header: bool | None,
    sheet: str | None,
    test_fraction: float | None,
) -> _Samples:
    from ._table import prepared_rows, training_and_test

    preparation, targets = saved.model.preparation, saved.targets
    assert preparation is not None
    if targets is None:  # a model that a program has saved
        if target is None:
            raise ValueError(f"{saved.path} does not say which column it predicts. Say it: --target NAME.")
        targets = saved.targets_in(target)
    elif target is not None and target != saved.info["target"]:
        raise ValueError(f"--target {target}: the model {saved.path} predicts {saved.info['target']}.")
    X, y, rows, n_rows = prepared_rows(Path(name), preparation, targets, header=header, sheet=sheet)
    if part != "all":
        fraction = saved.info.get("test_fraction", 0.2) if test_fraction is None else test_fraction
        train, test = training_and_test(name, y, targets, fraction)
        picked = train if part == "train" else test
        if not len(picked):
            raise ValueError(f"{name} has no test part, all was trained on. Say --part train, or give --data NEW.")
        X, y, rows = X[picked], y[picked], rows[picked]
    left_out = f", {n_rows - len(rows):,} of {n_rows:,} left out" if part == "all" and len(rows) < n_rows else ""
    return _Samples(Path(name).name, f"{name}: {counted(len(X), 'row')}{left_out}", X, y, rows)


def _of_dataset(saved: SavedModel, dataset: Dataset, part: str) -> _Samples:
    return _Samples(dataset.name, describe(dataset), *_samples(saved, dataset, part))


def _load(
    saved: SavedModel,
    name: str,
    target: str | None,
    header: bool | None,
    sheet: str | None,
    test_fraction: float | None,
    ignore_extra: bool,
) -> Dataset:
    if sheet is not None:
        raise ValueError(f"--sheet is for tables in Excel files, not for {name}.")
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
            f"{dataset.name} has {counted(dataset.n_features, 'feature')} per sample, "
            f"and the model {saved.path} expects {model.n_in}."
        )
    if dataset.task != saved.task:
        raise ValueError(f"{dataset.name} is a {dataset.task}, and the model {saved.path} does {saved.task}.")
    n_known = saved.n_targets if saved.class_names is None else len(saved.class_names)
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
        y = np.eye(saved.model.n_predictions, dtype=np.int64)[y]
    return X, y


def _trained_rows(saved: SavedModel, samples: _Samples) -> HostArray | None:
    """Which of the samples the model was trained on, by number; None where nothing tells."""
    marks = saved.training_rows()
    return None if marks is None else known_rows(row_marks(samples.X, samples.y), marks)


def _say_known(known: list[int] | None, n: int, of_new: Evaluation | None) -> None:
    """Name the rows that the model was trained on, and say how good it is on the others."""
    if not known:
        return
    named = ", ".join(map(str, known[:_MOST_NAMED])) + (", ..." if len(known) > _MOST_NAMED else "")
    rows = "row" if len(known) == 1 else "rows"
    print(f"{len(known):,} of these {n:,} also occur in the training data ({rows} {named}, from 0).")
    if of_new is None:
        print("None is left to say how good the model is on rows that it has not seen.")
    else:
        print(headline(of_new, "The others"))
