"""Targets, and columns that give them away."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.tables import Table, TableError, infer_kinds
from fcnn_gpu.tables.leaks import find_leaks
from fcnn_gpu.tables.targets import Targets

N = 60
_RNG = np.random.default_rng(0)

FOUND: dict[str, tuple[list[Any], str, tuple[str, ...] | None, str]] = {
    "text": (["b", "a", None, "c"] * 15, "classification", ("a", "b", "c"), "3 different values, which are no numbers"),
    "booleans": ([True, False] * 30, "classification", ("False", "True"), "two different values"),
    "two numbers": ([5, 3] * 30, "classification", ("3", "5"), "two different values"),
    "two fractions": ([0.5, 1.5] * 30, "regression", None, "2 different numbers"),
    "whole numbers": (
        [10, 9, 2] * 20,
        "classification",
        ("2", "9", "10"),
        "3 different whole numbers, taken for classes",
    ),
    "many whole numbers": (list(range(21)) * 3, "regression", None, "21 different numbers"),
    "fractions": ([1.5, 2.5, 3.0] * 20, "regression", None, "3 different numbers"),
    "decimal commas": (["1,5", "2,5", "3"] * 20, "regression", None, "3 different numbers"),
    "spellings": (
        ["yes", "Yes", "no", "NO"] * 15,
        "classification",
        ("no", "yes"),
        "2 different values, which are no numbers",
    ),
}


@pytest.mark.parametrize("kind", FOUND)
def test_what_a_target_is(kind: str) -> None:
    values, task, names, reason = FOUND[kind]
    targets = Targets.of(Table.of({"y": values}), ["y"])
    assert (targets.task, targets.class_names, targets.reason) == (task, names, reason)
    y, rows = targets.encode(Table.of({"y": values}))
    assert len(y) == len(rows) == sum(value is not None for value in values)


def test_a_task_that_is_asked_for() -> None:
    table = Table.of({"y": [0, 1, 2] * 20, "z": ["0", "1", "2,5"] * 20})
    assert Targets.of(table, ["y"], "regression").task == "regression"
    assert Targets.of(Table.of({"y": list(range(30)) * 2}), ["y"], "classification").n_outputs == 30
    assert Targets.of(table, ["y", "z"], "regression").n_outputs == 2
    with pytest.raises(ValueError, match="Known names: classification, regression"):
        Targets.of(table, ["y"], "clustering")


FAULTS: dict[str, tuple[dict[str, list[Any]], list[str], str | None, str]] = {
    "not there": ({"price": [1, 2]}, ["prize"], None, "mapping has no column 'prize'. Did you mean 'price'?"),
    "no values": ({"y": [None, None]}, ["y"], None, "mapping: the target 'y' has no values."),
    "lists": ({"y": [[1], [2]]}, ["y"], None, "mapping: 'y' holds list values, and a target is a class or a number."),
    "dates": (
        {"y": [np.datetime64("2024-01-01")]},
        ["y"],
        None,
        "'y' holds dates, and a target is a class or a number.",
    ),
    "one class": ({"y": ["a", "a", ""]}, ["y"], None, "the target 'y' has only one value, 'a'."),
    "one number": ({"y": [5.0, 5.0]}, ["y"], "regression", "the target 'y' is always 5."),
    "too many classes": (
        {"y": [f"n{i}" for i in range(40)]},
        ["y"],
        None,
        "has 40 different values in 40 rows, which are too many for classes. Is it another column?",
    ),
    "numbers with a word": (
        {"y": [*(f"{i},5" for i in range(40)), "sold"]},
        ["y"],
        None,
        "too many for classes. If it is to be numbers: 'sold' is none.",
    ),
    "fractions as classes": (
        {"y": [i / 7 for i in range(40)]},
        ["y"],
        "classification",
        "with fractions, which are no classes. Say task='regression'.",
    ),
    "words as numbers": (
        {"y": [*(f"{i},5" for i in range(40)), "sold"]},
        ["y"],
        "regression",
        "the target 'y' is to be numbers, and has 'sold'. Correct these cells, or leave them empty.",
    ),
    "labels of three": (
        {"a": [0, 1, 0], "b": [0, 1, 2]},
        ["a", "b"],
        "classification",
        "several targets are labels of two values each, and 'b' has others.",
    ),
    "a mixture": (
        {"a": [0.5, 1, 0], "b": ["x", "y", "z"]},
        ["a", "b"],
        None,
        "several targets are all numbers, or all labels of two values; 'b' is neither.",
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_what_is_no_target_says_why(kind: str) -> None:
    table, names, task, message = FAULTS[kind]
    with pytest.raises(TableError) as caught:
        Targets.of(Table.of(table), names, task)
    assert message in str(caught.value)


def test_labels_are_the_same_whatever_they_come_from() -> None:
    targets = Targets.of(Table.of({"y": [1, 2, 10]}), ["y"], "classification")
    for values in (["10", "1.0", "2"], [10, 1, 2], [10.0, 1.0, 2.0], np.array([10, 1, 2], np.uint8)):
        assert targets.encode(Table.of({"y": values}))[0].tolist() == [2, 0, 1]
    truths = Targets.of(Table.of({"y": [True, False]}), ["y"])
    for truth in (["true", "FALSE", ""], [True, False, None], ["True", "False", "NA"]):
        y, rows = truths.encode(Table.of({"y": truth}))
        assert (y.tolist(), rows.tolist()) == ([1, 0], [0, 1])
    with pytest.raises(TableError, match="the target 'y' has '3', which is none of the classes '1', '2', '10'"):
        targets.encode(Table.of({"y": [1, 3]}))
    with pytest.raises(TableError, match="has '3', '4', which are none of the classes"):
        targets.encode(Table.of({"y": [4, 3]}))


def test_several_targets() -> None:
    labels = Targets.of(Table.of({"a": ["no", "yes", "no"], "b": [0, 1, None]}), ["a", "b"])
    assert (labels.multilabel, labels.class_names, labels.n_outputs) == (True, ("a", "b"), 2)
    y, rows = labels.encode(Table.of({"b": [1, 1, None], "a": ["yes", "yes", "no"]}))  # where each has one value only
    assert (y.tolist(), rows.tolist()) == ([[1, 1], [1, 1]], [0, 1])
    with pytest.raises(TableError, match="the target 'a' has 'maybe'"):
        labels.encode(Table.of({"a": ["maybe"], "b": [1]}))
    numbers = Targets.of(Table.of({"a": [1.5, 2, 3], "b": ["1,5 €", "2,5 €", "3,25 €"]}), ["a", "b"])
    y, rows = numbers.encode(Table.of({"a": [1, np.inf, 3], "b": ["7,5", "1", ""]}))
    assert (y.tolist(), rows.tolist()) == ([[1, 7.5]], [0])
    with pytest.raises(TableError, match="column 'b' held numbers in training"):
        numbers.encode(Table.of({"a": [1], "b": ["x"]}))


LEAKS: dict[str, tuple[list[Any], list[Any], str | None]] = {
    "equal": ([i * 1.5 for i in range(N)], [i * 1.5 for i in range(N)], "equals"),
    "a straight line": ([i**1.5 for i in range(N)], [3 - 2 * i**1.5 for i in range(N)], "is a linear function of"),
    "a straight line of huge numbers": (
        [1e200 * i**1.5 for i in range(N)],
        [i**1.5 for i in range(N)],
        "is a linear function of",
    ),
    "a curve": ([i**1.5 for i in range(N)], [i**1.4 for i in range(N)], None),
    "the same classes": (["a", "b"] * 30, ["no", "yes"] * 30, "has the same classes as"),
    "equal classes": (["a", "b"] * 30, ["a", "b"] * 30, "equals"),
    "other spellings": (["yes", "no", "Yes"] * 20, ["yes", "no", "yes"] * 20, "equals"),
    "swapped classes": (["a", "b"] * 30, ["b", "a"] * 30, "has the same classes as"),
    "numbers of classes": ([0, 1, 2] * 20, ["a", "b", "c"] * 20, "has the same classes as"),
    "text of numbers": ([f"{i},5" for i in range(N)], [i + 0.5 for i in range(N)], "equals"),
    "nearly": (["a", "b"] * 30, ["no", "yes"] * 29 + ["yes", "no"], None),
    "few in common": ([1.5, None] * 30, [None, 1.5] * 30, None),
    "gaps": ([i * 1.5 if i % 2 else None for i in range(N)], [i * 1.5 for i in range(N)], "equals"),
    "dates": ([np.datetime64("2024-01-01") + i for i in range(N)], [i**1.5 for i in range(N)], None),
}


@pytest.mark.parametrize("kind", LEAKS)
def test_what_gives_the_target_away(kind: str) -> None:
    values, target, how = LEAKS[kind]
    table = Table.of({"x": values, "other": _RNG.normal(size=N)})
    found = find_leaks(table, infer_kinds(table), Table.of({"y": target}))
    assert found == ([] if how is None else [f"'x' {how} the target 'y'"])


def test_few_rows_and_left_out_columns_are_no_leak() -> None:
    table = Table.of({"x": [1.5, 2.5, 4] * 6})
    assert find_leaks(table, infer_kinds(table), table) == []
    table = Table.of({"x": [1.5, 2.5, 4] * 16})
    assert find_leaks(table, infer_kinds(table, ignore="x"), table) == []
    assert find_leaks(table, infer_kinds(table), table) == ["'x' equals the target 'x'"]


KEPT = {
    "classes": Targets.of(Table.of({"y": ["b", "a", "c"]}), ["y"]),
    "labels": Targets.of(Table.of({"a": ["no", "yes"] * 2, "b": [True, False] * 2}), ["a", "b"]),
    "values": Targets.of(Table.of({"y": ["1.234,5 €", "7,25 €", "3,5 €"], "z": [1.5, 2.25, 4.0]}), ["y", "z"]),
}


@pytest.mark.parametrize("kind", KEPT)
def test_they_are_kept_as_plain_data(kind: str) -> None:
    assert Targets.from_plain(json.loads(json.dumps(KEPT[kind].plain()))) == KEPT[kind]


def test_what_is_kept_reads_a_few_rows_as_training_was_read() -> None:
    """Of which a part may have one label alone, or numbers that may as well be others."""
    labels, values = (Targets.from_plain(KEPT[kind].plain()) for kind in ("labels", "values"))
    y, _ = labels.encode(Table.of({"a": ["yes", "yes"], "b": [True, True]}))
    np.testing.assert_array_equal(y, [[1, 1], [1, 1]])
    y, _ = values.encode(Table.of({"y": ["1.234 €"], "z": [1.0]}))
    np.testing.assert_array_equal(y, [[1234.0, 1.0]])


def test_other_targets_than_in_training_are_named_with_their_table() -> None:
    values = Targets.of(Table.of({"y": [1.5, 2.5, 3.0]}), ["y"])
    classes = Targets.of(Table.of({"y": ["a", "b"]}), ["y"])
    with pytest.raises(TableError, match=r"^mapping: column 'y' held numbers in training .* and has 'x' \(row 0\)"):
        values.encode(Table.of({"y": ["x", "1"]}))
    for targets in (values, classes):
        with pytest.raises(TableError, match=r"^mapping: the target 'y' holds list values, and is a class or a number"):
            targets.encode(Table.of({"y": [[1], [2]]}))


@pytest.mark.parametrize("kind", KEPT)
@pytest.mark.parametrize(
    "change",
    [
        {"names": "y"},
        {"names": []},
        {"task": "guess"},
        {"multilabel": 1},
        {"labels": [["no", "yes"]] * 3},
        {"formats": []},
        {"formats": [{"decimal": "x", "affixes": []}] * 2},
        {"class_names": 3},
        {"reason": None},
    ],
    ids=str,
)
def test_changed_plain_data_is_refused(kind: str, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="targets are not whole"):
        Targets.from_plain(KEPT[kind].plain() | change)
    with pytest.raises(ValueError, match="targets are not whole"):
        Targets.from_plain({name: value for name, value in KEPT[kind].plain().items() if name not in change})
