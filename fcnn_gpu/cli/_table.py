"""A table as the command line trains on it: read, understood, divided, and prepared by its training part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from .._console import counted
from .._types import HostArray
from ..data import split_validation
from ..datasets import Dataset
from ..datasets._dataset import TooFewSamples, check_shares, split_indices
from ..estimators import Recipe
from ..tables import Table, TableError, TablePreparation, Targets, find_leaks, read
from ..tables.kinds import joined
from ..tables.show import print_kinds
from ._defaults import SPLIT_SEED
from ._rows import known_rows, row_marks
from ._stdout import print_error

_MOST_RARE = 5
"""Different words that are no numbers in a column of numbers."""
_MOSTLY_UNSEEN = 0.01
"""A column is named when more than this share of the rows have values that training did not have."""


@dataclass(frozen=True)
class TablePlan:
    """How a table is prepared for what is to be trained on it.

    Attributes:
        preparation: how the inputs are made: arguments of `TablePreparation`.
        recipe: what is trained, where that is not a plain network.
        held_out: the share of the training rows that are held out of training, and of the preparation's fit as well.
    """

    preparation: Mapping[str, Any]
    recipe: Recipe | None
    held_out: float


@dataclass(frozen=True)
class TableOptions:
    """How a table is to be read and understood.

    Attributes:
        target: the columns to predict, names or numbers from 0, each text one or several with commas between them;
            None: the last column.
        task: "classification", "regression" or None.
        header, sheet: as `tables.read` takes them.
        columns: what columns are, by name or number.
        ignore: columns to leave out.
        plan: for a task and a number of training rows.
        test_fraction, test_data: the test part: a share of the rows, or a file.
        seed: of what is held out.
        dtype: of the inputs.
    """

    target: Sequence[str] | None
    task: str | None
    header: bool | None
    sheet: str | None
    columns: Mapping[str, str]
    ignore: Sequence[str]
    plan: Callable[[str, int], TablePlan]
    test_fraction: float
    test_data: str | None
    seed: int
    dtype: str


@dataclass(frozen=True)
class PreparedTable:
    """What `load_table` makes: the data as a network takes it, and how it came of the table.

    Attributes:
        data: inputs and targets of the training and the test part.
        preparation: fitted on the training part, without what is held out for validation.
        targets: what is predicted.
        plan: what it was prepared for.
        said: what there is to say: rows without a target, leaks.
    """

    data: Dataset
    preparation: TablePreparation
    targets: Targets
    plan: TablePlan
    said: list[str]

    def show(self, console: Console) -> None:
        """Print the columns' kinds, and what there is to say."""
        print(f"Target: {', '.join(self.targets.names)}: {self.targets.task} ({self.targets.reason})")
        kinds = self.preparation.kinds_
        print_kinds(console, kinds, self.preparation.n_inputs_)
        nested = [kind.name for kind in kinds if kind.kind == "other"]
        if nested:
            print(f"Left out, since its cells are no single values: {', '.join(nested)}. To use it, make columns of it")
        text = [kind.name for kind in kinds if kind.kind == "text"]
        if text:
            print(
                f"Left out, since nothing here makes numbers of it: {', '.join(text)}. To use it, encode it before (as "
                "scikit-learn's TfidfVectorizer does text), or say --column NAME=category"
            )
        for line in self.said:
            print(line)


def load_table(path: Path, options: TableOptions) -> PreparedTable:
    """The table in a file, ready for training.

    Raises what `tables.read` raises, and TableError where its columns are not what the options say, or are nothing that
    can be learned from.
    """
    table = read(path, header=options.header, sheet=options.sheet)
    with _naming_sheets(table):
        names = target_names(table, options.target)
        targets = Targets.of(table, names, options.task)
        if len(names) == len(table.columns):
            raise TableError(f"{path} has no column beside {', '.join(map(repr, names))}, so nothing to learn from.")
    y, rows = targets.encode(table)
    said = [f"Note: {note}" for note in table.notes]
    if len(rows) < len(table):
        said.append(f"Left out: {counted(len(table) - len(rows), 'row')} without a value of {', '.join(names)}")
    inputs = table.drop(*names).take(rows)
    train, test = _divided(table.source, y, targets, options)
    X_train, y_train = inputs.take(train), y[train]
    fitted_on, of = X_train, rows[train]
    plan = options.plan(targets.task, len(train))
    if plan.held_out:
        kept, _ = split_validation(len(train), plan.held_out, y_train, options.seed, else_use="0")
        fitted_on, of = X_train.take(kept), of[kept]
    preparation = TablePreparation(columns=_said(table, names, options), dtype=options.dtype, **plan.preparation).fit(
        fitted_on
    )
    said += _rare_words(preparation, inputs)
    said += [
        f"Warning: {leak}: what is learned from it is worth nothing on new rows (to leave it out: --ignore)"
        for leak in find_leaks(fitted_on, preparation.kinds_, table.select(names).take(of))
    ]
    made = _made(preparation, table.drop(*names), rows[train])
    if options.test_data is None:
        y_test = y[test]
        none = np.empty((0, preparation.n_outputs_), np.dtype(options.dtype))
        made_test = _made(preparation, table.drop(*names), rows[test]) if len(test) else none
    else:
        made_test, y_test, more = _test_part(Path(options.test_data), preparation, targets, options)
        said += more
        known = known_rows(row_marks(made_test, y_test), row_marks(made, y_train))
        if len(known):
            n = f"{len(known):,} of the {len(y_test):,} rows of {options.test_data}"
            said.append(f"Warning: {n} also occur in the training data, and say nothing about new ones")
    data = Dataset(
        name=path.name,
        X_train=made,
        y_train=y_train,
        X_test=made_test,
        y_test=y_test,
        feature_shape=(preparation.n_outputs_,),
        class_names=targets.class_names,
        task=targets.task,
        source=f"file {path}",
        feature_names=tuple(preparation.get_feature_names_out().tolist()),
        target_name=",".join(names),
    )
    return PreparedTable(data, preparation, targets, plan, said)


@contextmanager
def _naming_sheets(table: Table) -> Iterator[None]:
    """Say in errors which sheets there are besides the one that was read: the table may be on another."""
    try:
        yield
    except ValueError as error:
        for note in table.notes:
            if note.startswith("sheet "):
                error.add_note(f"({note[0].upper()}{note[1:]}: --sheet.)")
        raise


def _said(table: Table, targets: Sequence[str], options: TableOptions) -> dict[str, str]:
    """What --column and --ignore say of columns, by name. TableError with all that cannot be."""
    said: dict[str, str] = {}
    faults: list[str] = []
    for spec, kind in [*options.columns.items(), *((spec, "ignore") for spec in options.ignore)]:
        try:
            name = table.name_of(spec)
        except ValueError as error:
            faults.append(str(error).removeprefix(f"{table.source} "))
            continue
        if name in targets:
            faults.append(f"{name!r} is the target, and --column and --ignore are for the inputs.")
        elif said.setdefault(name, kind) != kind:
            faults.append(f"column {name!r} is to be both {said[name]!r} and {kind!r}. Say one of them.")
    if faults:
        raise TableError(joined(table.source, faults))
    return said


def _rare_words(preparation: TablePreparation, inputs: Table) -> list[str]:
    """Count as missing what is no number or date in rows that the preparation was not fitted on, and say so.

    A word that some of the other rows had would have been counted so, too; one that most rows have is refused later.
    """
    found = preparation.unreadable(inputs)
    rare = {name: words for name, words in found.items() if len(words) <= _MOST_RARE}
    preparation.count_as_missing(rare)
    said = []
    for name, words in rare.items():
        verb = "counts" if len(words) == 1 else "count"
        said.append(f"Note: {', '.join(map(repr, words))} in {name!r}, not in the training rows, {verb} as missing")
    return said


def target_names(table: Table, target: Sequence[str] | None) -> list[str]:
    """The columns that --target names: all of a text if there is such a column, else its parts between commas."""
    if target is None:
        return [table.names[-1]]
    parts = [part for text in target for part in ([text] if text in table else map(str.strip, text.split(",")))]
    names = [table.name_of(part, "target") for part in parts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"--target names {', '.join(map(repr, twice))} twice.")
    return names


def prepared_rows(
    path: Path,
    preparation: TablePreparation,
    targets: Targets,
    *,
    header: bool | None = None,
    sheet: str | None = None,
    option: str = "",
) -> tuple[HostArray, HostArray, HostArray, int]:
    """(inputs, targets, the numbers of the rows that have one, how many rows there are) of a file, as in training.

    `option` is what names the file, for errors.
    """
    table = read(path, header=header, sheet=sheet)
    missing = [name for name in targets.names if name not in table]
    if missing:
        raise TableError(f"{option}{path} has no column {', '.join(map(repr, missing))}, which is predicted.")
    y, rows = targets.encode(table)
    if not len(rows):
        raise TableError(f"{option}{path} has no row with a value of {', '.join(targets.names)}.")
    inputs = table.drop(*targets.names)
    say_unseen(preparation, inputs.take(rows), str(path))
    return _made(preparation, inputs, rows), y, rows, len(table)


def _made(preparation: TablePreparation, table: Table, rows: HostArray) -> HostArray:
    """The inputs of these rows of a table; errors name rows as the whole table counts them."""
    try:
        return preparation.inputs(table.take(rows))
    except TableError:
        preparation.inputs(table.blank(np.setdiff1d(np.arange(len(table)), rows)))
        raise


def say_unseen(preparation: TablePreparation, table: Table, source: str) -> None:
    """Name, on standard error, the columns of which more than a few rows have values that training did not have."""
    for name, share in preparation.unseen(table).items():
        if share > _MOSTLY_UNSEEN:
            rarely = ", or too rarely" if name in preparation.n_rare_ else ""
            what = f"values of {name!r} that training did not have{rarely}"
            print_error(f"Note: {source}: {share:.0%} of the rows have {what}")


def _divided(source: str, y: HostArray, targets: Targets, options: TableOptions) -> tuple[HostArray, HostArray]:
    """The numbers of the training and of the test rows."""
    if options.test_data is not None:
        return np.arange(len(y)), np.arange(0)
    labels = y if targets.task == "classification" and y.ndim == 1 else None
    if labels is not None and options.test_fraction:
        try:
            check_shares(labels, options.test_fraction, targets.class_names if options.task is None else None)
        except TooFewSamples as error:
            raise TableError(f"{source}: {error}") from error
    return training_and_test(source, y, targets, options.test_fraction)


def training_and_test(source: str, y: HostArray, targets: Targets, test_fraction: float) -> tuple[HostArray, HostArray]:
    """The numbers of the training and of the test rows: always the same for the same targets."""
    labels = y if targets.task == "classification" and y.ndim == 1 else None
    try:
        return split_indices(len(y), test_fraction, SPLIT_SEED, labels)
    except TooFewSamples as error:
        raise TableError(f"{source}: {error}") from error


def _test_part(
    path: Path, preparation: TablePreparation, targets: Targets, options: TableOptions
) -> tuple[HostArray, HostArray, list[str]]:
    """(inputs, targets, what there is to say) of the file of --test-data."""
    made, y, rows, n_rows = prepared_rows(
        path, preparation, targets, header=options.header, sheet=options.sheet, option="--test-data "
    )
    left_out = n_rows - len(rows)
    return made, y, [f"Left out: {counted(left_out, 'row')} of {path} without a target"] if left_out else []
