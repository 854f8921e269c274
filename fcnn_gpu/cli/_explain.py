"""One sample through a saved model, and what inputs have part in, for `fcnn-gpu explain`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._checks import check_choice, check_integer
from .._types import HostArray
from ..datasets import CATALOGUE
from ..explain import METHODS, Attributions, Importances, attribute, permutation_importance
from ..optimizers import OPTIMIZERS
from ..tables import read
from . import _threads
from ._data import as_known, holds_images, is_table, load_data
from ._model import SavedModel
from ._named import build

PERMUTATION = "permutation"
ATTRIBUTIONS = (*METHODS, PERMUTATION)
BASELINES = ("zero", "mean")
_COMPARING = ("integrated_gradients", "occlusion")


def run_explain(
    *,
    model: Path,
    data: str | None,
    row: int | None,
    output: str | None,
    attribution: str | None,
    baseline: str | None,
    optimizer: str | None,
    lr: float | None,
    training: bool,
    most: int | None,
    html: Path | None,
    out: Path | None,
    as_json: bool,
    target: str | None,
    header: bool | None,
    sheet: str | None,
    backend: str | None,
    threads: int | None,
) -> int:
    """Run `fcnn-gpu explain` with these options; returns its exit code."""
    check_integer("--row", 0 if row is None else row, low=0)
    check_integer("--most", 1 if most is None else most, low=1)
    path = _file(html, out, as_json)
    if attribution is None:
        _refuse("without --attribution", {"--baseline": baseline, "--json": as_json or None})
        if path is not None and path.suffix.lower() not in _PAGES and path == out:
            raise ValueError(f"--out: an explanation is a page, FILE.html; got {path}.")
    else:
        check_choice("--attribution", attribution, ATTRIBUTIONS)
        _refuse("with --attribution", {"--optimizer": optimizer, "--lr": lr, "--training": training or None})
        if html is not None and html.suffix.lower() not in _PAGES:
            raise ValueError(f"--html: a page of attributions is called FILE.html; got {html}.")
    if baseline is not None:
        check_choice("--baseline", baseline, BASELINES)
        if attribution not in _COMPARING:
            raise ValueError(f"--baseline is for {' and '.join(_COMPARING)}, not for {attribution}.")
    if attribution == PERMUTATION:
        _refuse("with --attribution permutation", {"--row": row, "--output": output})
    given = {} if lr is None else {"learning_rate": lr}
    rule = build("--optimizer", optimizer or "sgd", OPTIMIZERS, given=given, elsewhere={"learning_rate": "--lr"})
    _threads.choose_threads(threads)
    saved = SavedModel(model, backend)
    samples = _samples(saved, data, target, header, sheet)
    if attribution is not None:
        found = _attributions(saved, samples, attribution, row or 0, output, baseline)
        _hand_over(found, path, most or 15, as_json)
        return 0
    x, y = samples.take(row or 0)
    number = None if output is None else _number(saved, output)
    made = saved.model.explain(x, y, loss=saved.loss, optimizer=rule, output=number, training=training)
    if path is None:
        made.show(most or 8)
    else:
        made.save(path, most or 8)
        print(f"Wrote {path}")
    return 0


_PAGES = (".html", ".htm")


def _file(html: Path | None, out: Path | None, as_json: bool) -> Path | None:
    """The file that --html or --out names, in a folder that is there."""
    if (html is not None) + (out is not None) + as_json > 1:
        raise ValueError("Give one of --html, --out and --json.")
    for name, path in {"--html": html, "--out": out}.items():
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(f"{name}: there is no folder {path.parent}.")
    return out if html is None else html


def _refuse(where: str, options: dict[str, object]) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ValueError(f"{given[0]} has no meaning {where}. Leave it out.")


def _attributions(
    saved: SavedModel, samples: _Samples, method: str, row: int, output: str | None, baseline: str | None
) -> Attributions | Importances:
    """What the inputs of one sample, or the columns of all, have part in."""
    model = saved.model
    if method == PERMUTATION:
        return permutation_importance(model, samples.X, samples.y, loss=saved.loss)
    x, y = samples.take(row)
    target: str | int | None = output if output in (None, "loss") else _number(saved, output or "")
    by_mean = baseline == "mean" or (baseline is None and not samples.has_natural_zero)
    if by_mean and not isinstance(samples.X, np.ndarray):
        raise ValueError("--baseline mean: inputs made of a table's columns are standardized, and zero is their mean.")
    b = np.asarray(samples.X, np.float64).mean(axis=0) if by_mean and method in _COMPARING else None
    return attribute(model, x, y, method=method, target=target, baseline=b, loss=saved.loss)


def _hand_over(found: Attributions | Importances, path: Path | None, most: int, as_json: bool) -> None:
    """As a page or a picture, as JSON, or in the terminal."""
    of_sample = {"sample": 0} if isinstance(found, Attributions) else {}
    if path is not None:
        found.save(path, most=most, **of_sample)
        print(f"Wrote {path}")
    elif as_json:
        print(json.dumps(_plain(found), indent=2))
    else:
        found.show(most=most, **of_sample)


def _plain(found: Attributions | Importances) -> dict[str, Any]:
    """As JSON data."""
    if isinstance(found, Importances):
        columns = zip(found.names, found.mean.tolist(), found.std.tolist(), strict=True)
        rows = [{"name": name, "mean": mean, "std": std} for name, mean, std in columns]
        return {"attribution": PERMUTATION, "score": found.score, "columns": rows}
    plain: dict[str, Any] = {"attribution": found.method, "of": found.target_of(0), "value": found.outputs[0]}
    if found.baseline_outputs is not None:
        plain["baseline_value"] = found.baseline_outputs[0]
    pairs = zip(found.names, found.values[0].tolist(), strict=True)
    return plain | {"inputs": [{"name": name, "value": value} for name, value in pairs]}


def _number(saved: SavedModel, output: str) -> int:
    """The number of the output that --output names."""
    names = saved.class_names or []
    if output in names and len(names) == saved.model.n_out:
        return names.index(output)
    if output.isascii() and output.isdigit() and int(output) < saved.model.n_out:
        return int(output)
    known = f", or a class: {', '.join(names)}" if len(names) == saved.model.n_out else ""
    raise ValueError(f"--output expects a number from 0 to {saved.model.n_out - 1}{known}; got {output!r}.")


@dataclass(frozen=True)
class _Samples:
    """Where a sample is of: inputs X (an array or a table), targets y, and the rows of the file that they are in.

    Attributes:
        has_natural_zero: whether 0 says that there is nothing, as in images and in standardized columns.
    """

    name: str
    X: Any
    y: HostArray
    rows: HostArray
    n_rows: int
    has_natural_zero: bool
    unread: str = ""

    def take(self, row: int) -> tuple[Any, Any]:
        """The sample and the target of one row."""
        if row >= self.n_rows:
            raise ValueError(f"--row {row}: {self.name} has rows from 0 to {self.n_rows - 1}.")
        [places] = np.nonzero(self.rows == row)
        if not len(places):
            raise ValueError(f"--row {row}: this row of {self.name} has no value of {self.unread}.")
        x = self.X[places] if isinstance(self.X, np.ndarray) else self.X.take(places)
        return x, self.y[places]


def _samples(
    saved: SavedModel, data: str | None, target: str | None, header: bool | None, sheet: str | None
) -> _Samples:
    """The file's samples, or those of a data set's test part."""
    name = saved.training_data() if data is None else data
    if name is None:
        trained_on = saved.info.get("data")
        known = f" It was trained on {trained_on}." if trained_on else ""
        raise ValueError(f"Say which data the sample is of: --data FILE.{known}")
    if saved.model.preparation is not None and name not in CATALOGUE and is_table(name):
        return _of_table(saved, Path(name), target, header, sheet)
    if sheet is not None:
        raise ValueError(f"--sheet is for tables in Excel files, not for {name}.")
    own_file = name not in CATALOGUE
    if own_file and target is None and Path(name).suffix != ".npz":
        target = saved.info.get("target")
    dataset = load_data(
        name,
        target=target,
        task=saved.task if own_file else None,
        header=header,
        test_fraction=0.0 if own_file else 0.2,
        class_names=saved.class_names if own_file else None,
    )
    dataset = as_known(dataset, saved.model, ignore_extra=False)
    X, y = dataset.X_test, dataset.y_test
    if own_file:
        X, y = np.concatenate([dataset.X_train, X]), np.concatenate([dataset.y_train, y])
    if dataset.feature_shape:
        saved.model.info.setdefault("feature_shape", list(dataset.feature_shape))
    return _Samples(name, X, y, np.arange(len(X)), len(X), holds_images(dataset))


def _of_table(saved: SavedModel, path: Path, target: str | None, header: bool | None, sheet: str | None) -> _Samples:
    """The rows of a table as they are, which the model's preparation takes."""
    targets = saved.targets
    if targets is None:  # a model that a program has saved
        if target is None:
            raise ValueError(f"{saved.path} does not say which column it predicts. Say it: --target NAME.")
        targets = saved.targets_in(target)
    table = read(path, header=header, sheet=sheet)
    missing = [name for name in targets.names if name not in table]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(map(repr, missing))}, which is predicted.")
    y, rows = targets.encode(table)
    X = table.drop(*targets.names).take(rows)
    return _Samples(str(path), X, y, rows, len(table), True, ", ".join(targets.names))
