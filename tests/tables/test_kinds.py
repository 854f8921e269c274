"""What columns are taken for, why, and how that is overruled."""

from __future__ import annotations

import io
import uuid
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from fcnn_gpu.tables import Table, TableError, TablePreparation, infer_kinds
from fcnn_gpu.tables.kinds import GIVEN
from fcnn_gpu.tables.show import print_kinds

N = 60
_RNG = np.random.default_rng(0)
_PART = _RNG.permutation(200)[:150]
_WORDS = ["red", "blue", "green"] * 20

INFERRED: dict[str, tuple[str, Any, str, str]] = {
    "no values": ("x", [None, "", "NA"], "constant", "no values"),
    "infinite only": ("x", [np.inf, -np.inf], "constant", "no values"),
    "lists": ("x", [[1], None], "other", "list values, of which nothing here makes numbers"),
    "bytes and numbers": ("x", [b"a", 1], "other", "bytes values, of which nothing here makes numbers"),
    "complex numbers": ("x", np.ones(3, complex), "other", "complex128 values, of which nothing here makes numbers"),
    "one number": ("x", [5, 5.0], "constant", "always 5"),
    "one number and gaps": ("x", [5, None], "yes_no", "5 or missing"),
    "one date": ("x", [date(2024, 1, 5)] * 2, "constant", "always 2024-01-05 00:00:00"),
    "one text": ("x", ["red", "red "], "constant", "always red"),
    "one text and gaps": ("x", ["red", "-"], "yes_no", "red or missing"),
    "one value, spelled in two ways": ("x", ["Yes", "yes"], "constant", "always Yes"),
    "two numbers": ("x", [7.5, 2, 2], "yes_no", "2 or 7.5"),
    "two numbers in text": ("x", ["9,5 €", "10,50 €"], "yes_no", "9,5 € or 10,50 €"),
    "booleans": ("x", [True, False], "yes_no", "False or True"),
    "booleans and gaps": ("x", [True, False, None], "yes_no", "False or True"),
    "booleans in text": ("x", ["TRUE", "false", "True", "N/A"], "yes_no", "false or TRUE"),
    "two words": ("x", ["no", "yes", "YES"], "yes_no", "no or yes"),
    "a number and a word": ("x", ["5", "unknown"], "yes_no", "5 or unknown"),
    "numbers": ("x", [1.5, -2.25, 1e6], "number", "-2.25 to 1,000,000"),
    "decimals": ("x", [Decimal("1.5"), Decimal("2"), Decimal("3")], "number", "1.5 to 3"),
    "infinities": ("x", [1.5, 2, np.inf, 7], "number", "1.5 to 7; 1 infinite value counts as missing"),
    "spans of time": ("x", [timedelta(hours=h) for h in (1, 2, 4)], "number", "3,600 to 14,400"),
    "counts of the rows": ("x", list(range(5)), "number", "counts the rows, and is the only input"),
    "days as numbers": (
        "x", [20240101, 20240229, 20231231, 20200101, 20200102], "date",
        "20200101 to 20240229, all of them days (YYYYMMDD)",
    ),
    "numbers like days": (
        "x", [20240101, 20240230, 20231231, 20200101, 20200102], "number",
        "20,200,101 to 20,240,230",
    ),
    "years": ("x", list(range(1961, 2021)), "number", "1961 to 2020"),
    "IDs by name": ("user_id", [i * i + 7 for i in range(N)], "id", "its name, and every value is different"),
    "IDs by name that repeat": (
        "CustomerID", [i * i % 70 * 3 for i in range(N)] * 3 + [10**6 + i for i in range(40)], "id",
        "its name, and 64 different values in 220",
    ),
    "few IDs": ("store id", [i % 7 * 11 for i in range(N)], "category", "its name: 7 different values"),
    "no ID": ("heat index", [i * i + 7 for i in range(N)], "number", "7 to 3,488"),
    "invoices": ("Invoice No.", [i * i for i in range(N)], "id", "its name, and every value is different"),
    "a part of counted rows": ("x", _PART, "number", "counts the rows, and is the only input"),
    "huge numbers": (
        "x", [2**60 + i * i for i in range(N)], "id",
        "every value is different, and too large for a number",
    ),
    "huge fractions": ("x", [1e300 * i for i in range(N)], "number", "0 to 5.9e+301"),
    "texts that differ": ("x", [str(uuid.UUID(int=i << 64)) for i in range(N)], "id", "every value is different"),
    "texts that nearly differ": ("x", [f"A{i * 2 // 3}" for i in range(N)], "id", "40 different values in 60"),
    "few texts that differ": ("x", ["a", "b", "c", "d"], "category", "4 different values"),
    "text IDs by name": (
        "order-id", [f"A{i % 55}" for i in range(3 * N)], "id",
        "its name, and 55 different values in 180",
    ),
    "sentences": ("x", [f"this is the text number {i % 30}" for i in range(N)], "text", "6 words a cell"),
    "categories": ("x", _WORDS, "category", "3 different values"),
    "spellings": ("x", ["New York", "New  York", "Oslo", "Rome"], "category", "3 different values"),
    "codes": ("x", ["01", "10", "02"] * 20, "category", "3 different codes, some with leading zeros"),
    "codes that differ": ("x", [f"{i:04d}" for i in range(N)], "id", "every value is different"),
    "currencies": ("x", ["$1,000", "$2,500.50", "$3"], "number", "3 to 2,500.5, in $"),
    "percents": (
        "x", ["1,5 %", "12 %", "100 %", "n.v."] * 9 + ["3 %"] * 90, "number",
        "1.5 to 100, in %, with decimal commas; n.v. counts as missing",
    ),
    "a word in a third of the rows": (
        "x", [*map(str, range(3, 40)), *["unknown"] * 17], "number",
        "3 to 39; unknown counts as missing",
    ),
    "words in a third of the rows": (
        "x", [*map(str, range(3, 40)), *["a", "b", "c"] * 6], "id",
        "40 different values in 55",
    ),
    "dates and a word": (
        "x", [*(f"2024-01-{i:02d}" for i in range(1, 25)), *["never"] * 9], "date",
        "2024-01-01 to 2024-01-24 (ISO 8601); never counts as missing",
    ),
    "units": ("x", [f"{i} kg" for i in range(5)], "number", "0 to 4, in kg"),
    "clear by others": ("x", ["1,234", "2,345", "3,4"], "number", "1.234 to 3.4, with decimal commas"),
    "unclear": (
        "x", ["1,234", "2,345", "3,456"], "number",
        "1,234 to 3,456; 1,234 is read as 1234 (else: decimal_comma)",
    ),
    "dates": ("x", [datetime(2024, 1, 5, 10), date(2024, 2, 1)], "date", "2024-01-05 to 2024-02-01"),
    "dates in text": (
        "x", ["24.12.2023", "31.12.2023", "soon"] + ["1.1.2024"] * 9, "date",
        "2023-12-24 to 2024-01-01 (DD.MM.YYYY); soon counts as missing",
    ),
    "unclear dates": (
        "x", ["1/2/2024", "3/4/2024"], "date",
        "2024-01-02 to 2024-03-04 (MM/DD/YYYY); nothing tells days from months (else: day_first)",
    ),
    "clocks": ("x", ["10:30", "9:15", "23:59"], "date", "09:15 to 23:59 (hh:mm)"),
    "numbers beside text": ("x", [1, "a", 2.5, True], "category", "4 different values"),
}  # fmt: skip


@pytest.mark.parametrize("case", INFERRED)
def test_what_a_column_is_taken_for(case: str) -> None:
    name, values, kind, reason = INFERRED[case]
    (found,) = infer_kinds(Table.of({name: values}))
    assert (found.kind, found.reason) == (kind, reason)
    assert not found.given


def test_a_column_that_counts_the_rows_is_no_input_beside_others() -> None:
    table = Table.of({"n": range(1, 7), "x": [1.5, 2, 7, 9, 11, 12]})
    assert [kind.kind for kind in infer_kinds(table)] == ["id", "number"]
    shuffled = Table.of({"rank": [3, 1, 2, 5, 4, 6], "x": [1.5, 2, 7, 9, 11, 12]})
    assert [kind.kind for kind in infer_kinds(shuffled)] == ["number", "number"]
    part = Table.of({"n": _PART, "x": _RNG.normal(size=150)})
    assert [kind.kind for kind in infer_kinds(part)] == ["id", "number"]
    unnamed = Table.of(np.arange(40).reshape(20, 2))
    assert [kind.kind for kind in infer_kinds(unnamed)] == ["number", "number"]


OVERRULED: list[tuple[Any, str, str, str]] = [
    ([1, 2, 3], "category", "category", "as given: 3 different values"),
    ([1, 2, 2], "number", "number", "as given"),
    (["1,234", "2,345"], "decimal_comma", "number", "as given: 1.234 to 2.345"),
    (["1,234", "2,345"], "decimal_point", "number", "as given: 1,234 to 2,345"),
    (["1,234", "x"], "number", "number", "as given: 1,234 to 1,234; x counts as missing"),
    (["1/2/2024", "3/4/2024"], "day_first", "date", "as given: 2024-02-01 to 2024-04-03 (DD/MM/YYYY)"),
    (["1/2/2024", "3/4/2024"], "month_first", "date", "as given: 2024-01-02 to 2024-03-04 (MM/DD/YYYY)"),
    ([20240105, 20240106], "date", "date", "as given: 2024-01-05 to 2024-01-06 (YYYYMMDD)"),
    ([date(2024, 1, 5)], "date", "date", "as given"),
    (["a", "b", ""], "yes_no", "yes_no", "as given"),
    ([f"{i:04d}" for i in range(9)], "category", "category", "as given: 9 different values"),
    ([True, False], "number", "number", "as given"),
    ([[1]], "ignore", "ignored", "as given"),
]


@pytest.mark.parametrize(("values", "given", "kind", "reason"), OVERRULED)
def test_a_column_is_what_it_is_said_to_be(values: Any, given: str, kind: str, reason: str) -> None:
    for spec in ("x", 0, -1, "0"):
        (found,) = infer_kinds(Table.of({"x": values}), {spec: given})  # type: ignore[dict-item]
        assert (found.kind, found.reason, found.given) == (kind, reason, True)


def test_all_that_cannot_be_is_said_at_once() -> None:
    table = Table.of(
        {
            "a": ["red", "blue", "green"],
            "b": ["1", "2", "3"],
            "c": [[1], [2], [3]],
            "d": [None, None, None],
            "e": [date(2024, 1, 5)] * 3,
            "f": ["1e999", "x", "y"],
        }
    )
    said = {"a": "number", "b": "yes_no", "c": "category", "d": "date", "e": "number", "f": "decimal_point"}
    with pytest.raises(TableError) as caught:
        infer_kinds(table, said)
    assert str(caught.value).splitlines() == [
        "mapping:",
        "- column 'a' cannot be 'number': 3 of its 3 different values are no numbers (red, blue, green).",
        "- column 'b' cannot be 'yes_no': it has 3 different values (1, 2, 3).",
        "- column 'c' cannot be 'category': it holds list values.",
        "- column 'd' cannot be 'date': it has no values.",
        "- column 'e' cannot be 'number': it holds dates.",
        "- column 'f' cannot be 'decimal_point': 2 of its 3 different values are no numbers (x, y).",
    ]
    with pytest.raises(TableError, match=r"column 'a' cannot be 'date': its values are no dates \(red, blue, green\)"):
        infer_kinds(table, {"a": "date"})


def test_what_is_said_of_columns_must_make_sense() -> None:
    table = Table.of({"age": [1, 2], "town": ["a", "b"]})
    with pytest.raises(TableError) as caught:
        infer_kinds(table, {"agee": "number", "town": "categorical", "age": "number"}, ignore=["age", 7, "x"])
    message = str(caught.value)
    assert "has no column 'agee'. Did you mean 'age'?" in message
    assert "a column cannot be 'categorical' (for 'town'). Did you mean 'category'?" in message
    assert "column 'age' is to be both 'number' and 'ignore'. Say one of them." in message
    assert "has 2 columns, and no column 7." in message
    assert "has no column 'x'." in message
    with pytest.raises(TableError, match="a column cannot be None"):
        infer_kinds(table, {"age": None})  # type: ignore[dict-item]
    with pytest.raises(
        TypeError, match=r"columns are a mapping of names to kinds \(\{'age': 'number'\}\), got \['age'\]"
    ):
        infer_kinds(table, ["age"])  # type: ignore[arg-type]
    assert [kind.kind for kind in infer_kinds(table, ignore="age")] == ["ignored", "yes_no"]
    with pytest.raises(TableError, match="Its columns have no names: give their numbers from 0"):
        infer_kinds(Table.of([[1, 2]]), {"age": "number"})


def test_kinds_are_shown_as_a_table() -> None:
    table = Table.of({"a[b]": [1.5, 2, 4], "always": [1, 1, 1], "town": ["x", "y", "z"]})
    console = Console(width=80, record=True, file=io.StringIO())
    print_kinds(console, infer_kinds(table), {"a[b]": 1, "town": 3})
    shown = " ".join(console.export_text().split())
    assert "a[b] number 1 1.5 to 4" in shown
    assert "always constant – always 1" in shown


def test_every_kind_that_can_be_given_is_tried() -> None:
    assert {given for _, given, *_ in OVERRULED} == set(GIVEN)


def test_a_table_without_inputs_says_what_each_column_is() -> None:
    with pytest.raises(TableError) as caught:
        TablePreparation().fit({"id": [3, 9, 12, 14, 15, 31], "always": [1] * 6})
    message = str(caught.value)
    assert message.startswith("mapping has no column that can be an input (n_samples = 6): 'id' is id (its name, and ")
    assert message.endswith("'always' is constant (always 1). Say what a column is: columns={'id': 'number'}.")
