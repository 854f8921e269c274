"""The page of a run, for `fcnn-gpu report`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..datasets import CATALOGUE
from ..files import ModelFileError, write_atomically
from . import _threads
from ._data import is_table
from ._evaluation import evaluate_model
from ._model import SavedModel
from ._output import HISTORY

if TYPE_CHECKING:
    from ..report import Measured

PAGE = "report.html"
_SETTINGS_LEFT_OUT = {"out", "overwrite", "as_json", "progress", "watch", "watch_port"}


def run_report(
    *,
    run: Path,
    data: str | None,
    target: list[str] | None,
    out: Path | None,
    backend: str | None,
    threads: int | None,
) -> int:
    """Run `fcnn-gpu report` with these options; returns its exit code."""
    from ..report import ReportedRun, report_page

    _threads.choose_threads(threads)
    saved = SavedModel(run, backend)
    noted = saved.run
    given = data is not None
    data = data or saved.training_data()
    named = None if target is None else ",".join(target)
    measured, scored = (None, []) if data is None else _measured(saved, data, named)
    reported = ReportedRun(
        title=f"{saved.path.parent.name}: {noted['data']['name']}" if noted else saved.path.name,
        model=saved.model,
        histories=_histories(saved.path.parent),
        facts=_facts(noted),
        options=_settings(noted),
        best_epoch=noted.get("best_epoch") if noted else None,
        units=noted.get("units", {}),
        class_names=saved.class_names,
        multilabel=saved.multilabel,
        target_names=saved.model.signature.target_names if saved.targets is None else saved.targets.names,
        measured=measured,
        path=str(saved.path),
    )
    page = report_page(reported, saved.loss, scored, _peak(saved, noted))
    written = saved.path.parent / PAGE if out is None else out
    write_atomically(written, page.encode())
    print(f"Written: {written}")
    if measured is None and not given:
        print("It has no samples, since the training data is not where it was: --data FILE measures on others.")
    return 0


def _measured(saved: SavedModel, data: str, target: str | None) -> tuple[Measured, list[Any]]:
    from ..report import Measured
    from ._evaluate import samples_to_report  # what `evaluate` measures

    samples, part = samples_to_report(saved, data, target)
    evaluation = evaluate_model(saved.model, saved.loss, samples.X, samples.y, saved.class_names, saved.metrics)
    what = "the test part of" if part == "test" else "all of"
    found = Measured(
        what=f"{what} {samples.description} ({len(samples.X):,} samples)",
        X=samples.X,
        y=samples.y,
        predictions=saved.model.infer(samples.X, saved.model.link, prepared=True),
        results=evaluation.results,
        rows=samples.rows,
        values=_cells(saved, data, target, samples.rows),
    )
    return found, [*evaluation.classes, *evaluation.means]


def _cells(saved: SavedModel, data: str, target: str | None, rows: Any) -> dict[str, list[str]] | None:
    """The cells of these rows of a table, column by column; None for what is no table."""
    if rows is None or saved.model.preparation is None or data in CATALOGUE or not is_table(data):
        return None
    from ..tables import read

    table = read(data, sheet=saved.info.get("sheet")).take(rows)
    named: Sequence[str] = saved.targets.names if saved.targets is not None else (target or "").split(",")
    kept = [column for column in table.columns if column.name not in named and column.storage != "other"]
    return {c.name: ["" if value is None else str(value) for value in c.as_text().to_numpy()] for c in kept}


def _histories(folder: Path) -> list[dict[str, list[float]]]:
    """The columns of history.csv, of each network by itself."""
    try:
        with open(folder / HISTORY, newline="", encoding="utf-8") as file:
            records = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise ModelFileError(f"{folder / HISTORY} is not what `fcnn-gpu train` wrote ({error}). Remove it.") from error
    numbers = sorted({record.get("network", 1.0) for record in records})
    of_each = [[record for record in records if record.get("network", 1.0) == number] for number in numbers]
    return [{name: [record[name] for record in rows] for name in rows[0]} for rows in of_each]


def _facts(noted: dict[str, Any]) -> list[tuple[str, str]]:
    if not noted:
        return []
    data = noted["data"]
    epochs = noted["epochs"]  # of several networks, a list
    facts = [("training samples", f"{data['train']:,}")]
    if isinstance(epochs, list):
        low, high = min(epochs), max(epochs)
        facts += [
            ("networks", f"{len(epochs):,}"),
            ("epochs each", f"{high:,}" if low == high else f"{low:,} to {high:,}"),
        ]
    else:
        facts.append(("epochs", f"{epochs:,}"))
    facts.append(("seconds of training", f"{noted['seconds']:,.1f}"))
    facts.append(("backend", noted["backend"].split(" (")[0]))
    return facts


def _settings(noted: dict[str, Any]) -> dict[str, Any]:
    """The options of the run that say something, and the versions that computed it."""
    if not noted:
        return {}
    options = {k: v for k, v in noted["options"].items() if v not in (None, False) and k not in _SETTINGS_LEFT_OUT}
    versions = {k: noted[k] for k in ("fcnn_gpu", "python", "numpy", "platform") if k in noted}
    return options | {"backend": noted["backend"]} | versions


def _peak(saved: SavedModel, noted: dict[str, Any]) -> float | None:
    """FLOP/s of a large product now, where the run was computed on the same device; else nothing can be compared."""
    ops = saved.model.ops
    if not noted or noted["backend"] != ops.describe():
        return None
    from ..backend import threads
    from ..bench.ceilings import measure

    return measure(ops, saved.model.dtype.name, 0.2, threads(), copies=(2**20,)).product_flops_per_second
