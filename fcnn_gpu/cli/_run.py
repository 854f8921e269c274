"""A training run of the command line: data, network, training, and what is kept and said of it."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from rich.console import Console

from .._console import counted
from .._types import HostArray
from ..backend import Ops
from ..datasets import CATALOGUE, Dataset
from ..losses import LOSSES, Huber, Loss
from ..metrics import METRICS, Metric
from ..model import Sequential, Standardization
from ..training import degrees_of, interruptible
from . import _backend, _threads
from ._data import describe, info_of, load_data, signature_of, single_target
from ._evaluation import Evaluation, evaluate_model, print_evaluation
from ._options import TrainOptions
from ._output import HOW_TO_PLOT, MODEL, RunFolder, can_plot, check_free, holds_run, prepare_folder, versions
from ._plain import PlainTraining
from ._rows import digest_of, row_marks
from ._stdout import outlive_output, print_error, told_apart
from ._trained import Trained

if TYPE_CHECKING:
    from ._preset import PresetTraining
    from ._table import PreparedTable

INTERRUPTED = 130
_Training: TypeAlias = "PlainTraining | PresetTraining"


def run_training(options: TrainOptions) -> int:
    """Do what the options say; returns the exit code. For a program, standard output has what run.json says alone."""
    if not options.as_json:
        return _run(options)[0]
    with told_apart():
        code, run = _run(options)
    print(json.dumps(versions() | run, indent=2))
    return code


def _run(options: TrainOptions) -> tuple[int, dict[str, Any]]:
    if options.out == "":
        raise ValueError("--out expects a folder, got ''.")
    if options.out is not None:
        outlive_output()
        replaced = check_free(Path(options.out), options.overwrite)
        if replaced is not None:
            print(replaced)
    _threads.choose_threads(options.threads)
    ops, reason = _backend.choose_backend(options.backend)
    print(f"Backend: {ops.describe()}, {reason}")
    data, table = _load(options)
    print(f"Data: {describe(data)}")
    if table is not None:
        table.show(Console())
    training = _training(options, data, table, ops)
    options = training.options
    folder = None if options.out is None else RunFolder(Path(options.out))
    if folder is not None:
        prepare_folder(folder.path)
    for line in training.announce():
        print(line)
    _say_held_out(training, options.share_held_out)
    _say_standardization(training, data)
    measured = _in_own_units(training.measured, training.targets)
    with interruptible() as interrupted:  # Ctrl-C right after the training must not lose it
        started = time.perf_counter()
        trained = training.train()
        model = trained.model
        run = _run_of(training, trained, data, time.perf_counter() - started)
        signature = signature_of(data, table, not training.extrapolates)
        model.signature = dataclasses.replace(signature, threshold=trained.threshold)
        noted = options.model_info() | _measures(measured, training.metrics)
        noted |= {} if table is None else {"targets": table.targets.plain()}
        noted |= {} if options.sheet is None else {"sheet": options.sheet}
        model.info = info_of(data, noted, None if data.name in CATALOGUE else digest_of(options.data))
        kept = folder is not None and _keep(
            folder, trained, run, row_marks(data.X_train, data.y_train), options.overwrite
        )
    return _tell(folder if kept else None, training, trained, measured, data, run, interrupted()), run


def _training(options: TrainOptions, data: Dataset, table: PreparedTable | None, ops: Ops) -> _Training:
    """What the options ask for, of this data."""
    if table is None:
        return PlainTraining(options, data, None, ops)
    suited = options.for_rows(len(data.X_train))
    if suited.is_plain:
        return PlainTraining(suited, data, options.why_plain, ops)
    from ._folds import FoldsTraining  # with scikit-learn, as what reads tables
    from ._preset import PresetTraining

    return FoldsTraining(suited, table, ops) if suited.bags else PresetTraining(suited, table, ops)


def _load(options: TrainOptions) -> tuple[Dataset, PreparedTable | None]:
    """The data, and how it was made where it is a table."""
    if options.has_table:
        from ._preset import plan_of  # with scikit-learn, which takes a while to import
        from ._table import TableOptions, load_table

        table = load_table(
            Path(options.data),
            TableOptions(
                target=options.target,
                task=options.task,
                header=options.header,
                sheet=options.sheet,
                columns=options.columns,
                ignore=options.ignore or (),
                plan=lambda task, n: plan_of(options.for_rows(n), task),
                test_fraction=options.test_fraction,
                test_data=options.test_data,
                seed=options.seed,
                dtype=options.dtype,
            ),
        )
        return table.data, table
    if options.of_tables:
        raise ValueError(f"{', '.join(options.of_tables)} is for tables (.csv, .parquet, ...), not for {options.data}.")
    return load_data(
        options.data,
        target=single_target(options.target, options.data),
        task=options.task,
        header=options.header,
        test_fraction=options.test_fraction,
        test_data=options.test_data,
        progress=None if options.progress else False,
    ), None


def _say_held_out(training: _Training, share: float) -> None:
    """Say where the classes could not give as many validation samples as were asked for."""
    n = training.n_held_out
    asked = round(share * (n + training.n_train))
    if n < asked:
        print(f"Validation: {counted(n, 'sample')} instead of {asked:,}, since every class keeps one for training")


def _say_standardization(training: _Training, data: Dataset) -> None:
    what = [counted(data.n_features, "feature")] if training.features is not None else []
    what += ["the targets"] if training.targets is not None else []
    if what:
        print(f"Standardized: {' and '.join(what)}, to mean 0 and standard deviation 1{_units(training)}")


def _units(training: _Training) -> str:
    """What losses and metrics are measured in during training, where that is not what the test is measured in."""
    if training.targets is None:
        return ""
    if degrees_of(training.measured, len(training.targets.scale)) is not None:
        return "; losses and metrics are in the target's own units"
    return "; losses and metrics during training are those of the standardized targets"


def _in_own_units(loss: Loss, targets: Standardization | None) -> Loss:
    """The loss of targets that are no longer standardized: δ of Huber's counts in their standard deviations.

    Where there are several, in the root mean square of these.
    """
    if targets is None or not isinstance(loss, Huber):
        return loss
    own = dataclasses.replace(loss, delta=loss.delta * float(np.sqrt(np.mean(targets.scale**2))))
    print(f"Huber: δ is {loss.delta:g} standard deviations of the targets, {own.delta:.4g} in their own units")
    return own


def _measures(loss: Loss, metrics: list[Metric]) -> dict[str, Any]:
    """What `evaluate` measures."""
    return {"loss": LOSSES.config(loss), "metrics": [METRICS.config(metric) for metric in metrics]}


def _run_of(training: _Training, trained: Trained, data: Dataset, seconds: float) -> dict[str, Any]:
    """What run.json says, as long as nothing is measured."""
    return {
        "options": dataclasses.asdict(training.options),
        **training.plain(),
        "backend": trained.model.ops.describe(),
        "data": {"name": data.name, "source": data.source, "train": len(data.X_train), "test": len(data.X_test)},
        "n_parameters": trained.model.n_parameters,
        **trained.plain(),
        "seconds": seconds,
        "test": None,
    }


def _keep(folder: RunFolder, trained: Trained, run: dict[str, Any], rows: HostArray, overwrite: bool) -> bool:
    """Write the model before anything is said or measured of it, which may fail. False where an earlier one stays."""
    if trained.is_empty and holds_run(folder.path):
        return False
    if not overwrite:
        folder.step_aside()
    folder.keep(trained, run, rows)
    outlive_output(_where(folder))
    return True


def _where(folder: RunFolder) -> str:
    return f"The trained model is in {folder.path / MODEL}."


def _tell(
    folder: RunFolder | None,
    training: _Training,
    trained: Trained,
    loss: Loss,
    data: Dataset,
    run: dict[str, Any],
    interrupted: bool,
) -> int:
    """Measure, print and draw; where that fails, the error says where the trained model is. Returns the exit code."""
    try:
        print(trained.said(run["seconds"]))
        if interrupted and not trained.interrupted:
            raise KeyboardInterrupt  # it came between the last step and the model's file
        for line in training.report():
            print(line)
        if training.options.best_for is not None:
            found = f"{trained.threshold:.3g}, for which {training.options.best_for} is best on samples held out"
            print(f"Threshold: {found}")
        evaluation = _report(Console(), trained.model, loss, training.metrics, data, training.without_test)
        run["test"] = None if evaluation is None else evaluation.plain()
        _say_kept(folder, training.options, trained, run, evaluation, data)
    except KeyboardInterrupt:
        if folder is not None:
            print_error(_where(folder))
        return INTERRUPTED
    except Exception as error:
        if folder is not None:
            error.add_note(_where(folder))
        raise
    return INTERRUPTED if trained.interrupted else 0


def _report(
    console: Console, model: Sequential, loss: Loss, metrics: list[Metric], data: Dataset, without_test: str
) -> Evaluation | None:
    """Measure the test part, if there is one, and print what came out."""
    if len(data.X_test) == 0:
        print(f"Test: this data has no test part{without_test}")
        return None
    names = None if data.class_names is None else list(data.class_names)
    evaluation = evaluate_model(model, loss, data.X_test, data.y_test, names, metrics)
    print_evaluation(console, evaluation, "Test")
    return evaluation


def _say_kept(
    folder: RunFolder | None,
    options: TrainOptions,
    trained: Trained,
    run: dict[str, Any],
    evaluation: Evaluation | None,
    data: Dataset,
) -> None:
    """Complete the run's folder, or say how to have one."""
    if folder is None and options.out is not None:
        print(f"No epoch was done: the earlier run in {options.out} stays as it was")
        return
    if folder is None:
        print("Nothing is kept. Add --out DIR for the model, the history and pictures.")
        return
    names = None if data.class_names is None else list(data.class_names)
    written = folder.add(trained, run, evaluation, names)
    print(f"Written to {folder.path}: {', '.join(written)}")
    if not can_plot():
        print(f"No pictures, since matplotlib is not installed: {HOW_TO_PLOT}")
