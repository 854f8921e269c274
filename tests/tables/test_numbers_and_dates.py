"""Numbers and dates as people write them: what was written is what is read."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcnn_gpu.tables import Table, TableError, TablePreparation, infer_kinds
from fcnn_gpu.tables._dates import DateFormat, all_formats, date_writing_of
from fcnn_gpu.tables._numbers import NumberFormat, writing_of


def ones(words: list[str]) -> Any:
    return np.ones(len(words), np.int64)


NUMBERS = st.integers(-(10**11), 10**11).map(lambda i: i / 100)
GROUPS = {".": (",", " ", "\u00a0", "\u202f", "'", "’", "_", ""), ",": (".", " ", "\u00a0", "\u2009", "'", "")}
AFFIXES = (
    ("", ""),
    ("$", ""),
    ("€ ", ""),
    ("", " €"),
    ("", "%"),
    ("", " %"),
    ("US$", ""),
    ("CHF ", ""),
    ("", " kr"),
    ("", " cm"),
)


@st.composite
def number_columns(draw: st.DrawFn) -> tuple[list[float], list[str], str]:
    decimal = draw(st.sampled_from(".,"))
    group, (before, after) = draw(st.sampled_from(GROUPS[decimal])), draw(st.sampled_from(AFFIXES))
    minus = draw(st.sampled_from(["-", "−", "("]))
    values, words = draw(st.lists(NUMBERS, min_size=3, max_size=8, unique=True)), []
    for value in values:
        digits = f"{abs(value):,.2f}".replace(",", "G").replace(".", decimal).replace("G", group)
        word = f"{before}{digits}{after}"
        words.append(word if value >= 0 else f"({word})" if minus == "(" and after != " cm" else f"-{word}")
    return values, words, decimal


@given(number_columns())
@settings(max_examples=200, deadline=None)
def test_a_number_comes_back_in_every_convention(made: tuple[list[float], list[str], str]) -> None:
    values, words, decimal = made
    writing = writing_of(words, ones(words))
    assert (writing.share, writing.format.decimal, writing.odd, writing.ambiguous) == (1.0, decimal, (), None)
    np.testing.assert_array_equal(writing.format.parse(words), values)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_programs_write_is_read_to_the_bit(value: float) -> None:
    assert NumberFormat().parse([repr(value), f"{value!r}".replace("e", "E"), f"{value:.17g}"]).tolist() == [value] * 3


READ = [
    (["1,234", "5,678"], None, [1234, 5678], "1,234"),  # thousands, unless somebody says otherwise
    (["1,234", "5,678"], ",", [1.234, 5.678], None),
    (["1.234", "5.678"], None, [1.234, 5.678], None),  # what every program reads it as
    (["1.234", "5.678"], ",", [1234, 5678], None),
    (["1,234", "5,67"], None, [1.234, 5.67], None),
    (["1.234", "5.678.901"], None, [1234, 5678901], None),
    (["1,234", "5,678,901"], None, [1234, 5678901], None),
    (["0,123", "0,456"], None, [0.123, 0.456], None),
    (["1,23,456", "12,34,567.5"], None, [123456, 1234567.5], None),  # lakhs
    (["1e3", "1.5E-2", "+7", "5.", ".5"], None, [1000, 0.015, 7, 5, 0.5], None),
    (["$-5", "-$5", "($5)", "$5"], None, [-5, -5, -5, 5], None),
]


@pytest.mark.parametrize(("words", "hint", "values", "ambiguous"), READ)
def test_what_marks_mean(words: list[str], hint: str | None, values: list[float], ambiguous: str | None) -> None:
    writing = writing_of(words, ones(words), hint)
    assert writing.format.parse(words).tolist() == values
    assert writing.ambiguous == ambiguous


NONE = [
    "",
    "-",
    "1.2.3",
    "1,2,3",
    "12.34.567",
    "--5",
    "5-",
    "(5",
    "5)",
    "-(5)",
    "1 2",
    "$",
    "1e",
    "abc",
    "5 apples",
    "0x10",
]
NONE += ["1,23", "1'23", "192.168.1.1", "５", "²", "inf", "nan", "1-2", "10:30", "$5$5 x"]


@pytest.mark.parametrize("word", NONE)
def test_what_is_no_number(word: str) -> None:
    assert np.isnan(NumberFormat().parse([word])).all()


@pytest.mark.parametrize(
    "word", ["(" + " " * 5000 + "x", "5" + " " * 5000 + "x", "5" * 5000 + "x", "1," * 3000, "$" * 5000]
)
def test_long_cells_take_no_time(word: str) -> None:
    start = time.process_time()
    writing_of([word, "5"], ones(["", ""]))
    date_writing_of([word, "5"], ones(["", ""]))
    assert time.process_time() - start < 0.5


def test_semicolons_between_cells_make_commas_likely(tmp_path: Any) -> None:
    from fcnn_gpu.tables import read

    rows = "\n".join(f"1.{i:03d};{i}" for i in range(100, 130))
    (tmp_path / "a.csv").write_text(f"a;b\n{rows}\n")
    kinds = infer_kinds(read(tmp_path / "a.csv"))
    assert kinds[0].reason == "1,100 to 1,129, with decimal commas"
    (tmp_path / "a.csv").write_text(f"a;b;c\n{rows.replace(chr(10), ';0.5' + chr(10))};0.25\n")
    assert infer_kinds(read(tmp_path / "a.csv"), {"a": "decimal_point"})[0].reason == "as given: 1.1 to 1.129"


def test_new_text_among_numbers_is_named_for_all_columns() -> None:
    train = {
        "a": ["1,5", "2,5", "x"] * 9 + [f"{i},5" for i in range(99)],
        "b": [i * i for i in range(126)],
        "c": [f"{i % 28 + 1}.{i % 12 + 1}.2024" for i in range(126)],
    }
    preparation = TablePreparation().fit(train)
    with pytest.raises(TableError) as caught:
        preparation.transform({"a": ["1,5", "1.5", "x"], "b": ["7", "seven", "8"], "c": ["1.1.2024", "", "2024"]})
    remedy = "Correct these cells, or leave them empty."
    assert str(caught.value).splitlines() == [
        "mapping:",
        f"- column 'a' held numbers in training (with decimal commas) and has '1.5' (row 1). {remedy}",
        f"- column 'b' held numbers in training (with decimal points) and has 'seven' (row 1). {remedy}",
        f"- column 'c' held dates in training (with DD.MM.YYYY) and has '2024' (row 2). {remedy}",
    ]


FORMATS = sorted({form.pattern for form in all_formats()} - {"ISO 8601"})
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2060, 1, 1))


@pytest.mark.parametrize("pattern", FORMATS)
@settings(max_examples=5, deadline=None)
@given(times=st.lists(TIMES, min_size=6, max_size=9, unique=True))
def test_a_date_comes_back_in_every_format(pattern: str, times: list[datetime]) -> None:
    times = [*times, datetime(2033, 10, 29, 22, 58, 57, 123456), datetime(2034, 3, 30, 1, 2, 3, 4)]
    times = [t.replace(tzinfo=timezone(timedelta(hours=2))) if "%z" in pattern else t for t in times]
    words = list(dict.fromkeys(t.strftime(pattern) for t in times))
    expected = [datetime.strptime(word, pattern) for word in words]
    expected = [t if t.tzinfo is None else t.astimezone(UTC).replace(tzinfo=None) for t in expected]
    writing = date_writing_of(words, ones(words))
    assert writing is not None
    assert writing.share == 1
    np.testing.assert_array_equal(writing.format.parse(words), np.array(expected, "datetime64[us]"))


ISO = {
    "2024-02": "2024-02-01",
    "2024-02-29": "2024-02-29",
    "2024-02-29 23:59": "2024-02-29T23:59",
    "2024-02-29T23:59:01": "2024-02-29T23:59:01",
    "2024-02-29 23:59:01.5": "2024-02-29T23:59:01.5",
    "2024-02-29 23:59:01,123456789": "2024-02-29T23:59:01.123456",
    "2024-02-29T23:59:01Z": "2024-02-29T23:59:01",
    "2024-02-29T23:59:01+01:00": "2024-02-29T22:59:01",
    "2024-02-29 23:59:01 -0530": "2024-03-01T05:29:01",
    "2024-02-29 23:59:01+02": "2024-02-29T21:59:01",
    "2024-02-29 23:59:01 UTC": "2024-02-29T23:59:01",
    "2023-02-29": "NaT",
    "2024-13-01": "NaT",
    "0000-01-01": "NaT",
    "2024-02-29 24:00:01": "NaT",
    "2024-02-29x23:59": "NaT",
    "2024-W05": "NaT",
}


@pytest.mark.parametrize("word", ISO)
def test_iso_8601(word: str) -> None:
    expected = np.datetime64(ISO[word], "us")
    for words in ([word], [word, "x"], ["2024-01-05"[: len(word)], word]):
        np.testing.assert_array_equal(DateFormat().parse(words)[words.index(word)], expected)


@given(st.lists(TIMES, min_size=1))
def test_iso_8601_by_the_thousand_is_read_as_one_by_one(times: list[datetime]) -> None:
    for words in ([t.isoformat(sep=" ", timespec="seconds") for t in times], [t.date().isoformat() for t in times]):
        np.testing.assert_array_equal(DateFormat().parse(words), DateFormat().parse([*words, ""])[:-1])


DAYS = [
    (["03/04/2025", "05/06/2025"], None, "%m/%d/%Y", True),
    (["03/04/2025", "05/06/2025"], True, "%d/%m/%Y", True),
    (["03/04/2025", "25/06/2025"], None, "%d/%m/%Y", False),
    (["03/04/2025", "06/25/2025"], True, "%m/%d/%Y", False),
    (["03-04-2025", "05-06-2025"], None, "%d-%m-%Y", True),
    (["03-04-2025", "05-26-2025"], None, "%m-%d-%Y", False),
    (["03.04.2025", "05.06.2025"], None, "%d.%m.%Y", False),
    (["3/4/25 10:30", "5/6/25 11:00"], False, "%m/%d/%y %H:%M", True),
]


@settings(max_examples=60, deadline=None)
@given(
    pattern=st.sampled_from(FORMATS),
    times=st.lists(st.datetimes(datetime(1000, 1, 1), datetime(2200, 1, 1)), min_size=1, max_size=5),
    data=st.data(),
)
def test_many_words_are_read_as_one_by_one(pattern: str, times: list[datetime], data: st.DataObject) -> None:
    """Whether they are days and times, or letters of them have been changed."""
    words = [time.strftime(pattern) for time in times] * 40
    for _ in range(data.draw(st.integers(0, 3))):
        i = data.draw(st.integers(0, len(words) - 1))
        at = data.draw(st.integers(0, len(words[i]) - 1))
        words[i] = words[i][:at] + data.draw(st.sampled_from("0123456789 .:/-aPX٣")) + words[i][at + 1 :]
    form = DateFormat(pattern)
    alone = np.array([form._time(word) for word in words], "datetime64[us]")
    np.testing.assert_array_equal(form.parse(words), alone)


@pytest.mark.parametrize(("words", "day_first", "pattern", "ambiguous"), DAYS)
def test_days_and_months(words: list[str], day_first: bool | None, pattern: str, ambiguous: bool) -> None:
    writing = date_writing_of(words, ones(words), day_first)
    assert writing is not None
    assert (writing.format.pattern, writing.ambiguous) == (pattern, ambiguous)


NO_DATES = [
    ["1.2.3", "1.2.4"],
    ["10-20", "20-30"],
    ["red", "blue"],
    ["5", "6"],
    ["555-1234", "555-9999"],
    ["A 1", "B 2"],
]


@pytest.mark.parametrize("words", NO_DATES)
def test_what_are_no_dates(words: list[str]) -> None:
    writing = date_writing_of(words, ones(words))
    assert writing is None or writing.share < 0.9


def test_dates_are_read_as_pandas_reads_them() -> None:
    pd = pytest.importorskip("pandas")
    times = pd.date_range("1999-12-31 21:07:06", periods=80, freq="41h13min", tz="Asia/Kolkata")
    series = pd.Series(times)
    expected = times.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]")
    for made in (series, series.astype(str), series.dt.strftime("%Y-%m-%d %H:%M:%S %z"), series.astype(object)):
        table = Table.of({"when": made})
        (kind,) = infer_kinds(table)
        assert kind.kind == "date"
        values = table["when"].values
        if kind.date_format is not None:
            values = kind.date_format.parse(table["when"].words)[values]
        np.testing.assert_array_equal(values, expected)


def _inputs(preparation: TablePreparation, *times: str) -> dict[str, Any]:
    rows = preparation.transform({"t": np.array(times, "datetime64[us]")})
    return dict(zip(preparation.get_feature_names_out().tolist(), rows.T, strict=True))


def test_cycles_are_closed() -> None:
    start = np.datetime64("2020-01-01T00:00")
    preparation = TablePreparation(dtype="float64").fit(
        {"t": start + np.arange(0, 900_000, 997) * np.timedelta64(1, "m")}
    )
    names = ["t", *(f"t:{f}({cycle})" for cycle in ("year", "week", "day") for f in ("sin", "cos"))]
    assert preparation.get_feature_names_out().tolist() == names
    midnight = _inputs(preparation, "2021-06-30T23:59:59", "2021-07-01T00:00:01", "2021-07-01T12:00")
    year = _inputs(preparation, "2021-12-31T23:00", "2022-01-01T01:00", "2021-07-02T12:00")
    for inputs, cycle in ((midnight, "day"), (year, "year")):
        points = np.stack([inputs[f"t:sin({cycle})"], inputs[f"t:cos({cycle})"]])
        assert np.linalg.norm(points[:, 0] - points[:, 1]) < 0.01
        assert np.linalg.norm(points[:, 0] - points[:, 2]) > 1.99
    week = _inputs(preparation, *(f"2024-01-{day:02d}" for day in range(1, 15)))  # the first is a Monday
    points = np.stack([week["t:sin(week)"], week["t:cos(week)"]])
    steps = np.linalg.norm(np.diff(points, axis=1), axis=0)
    np.testing.assert_allclose(steps, 2 * np.sin(np.pi / 7))
    np.testing.assert_allclose(points[:, 0], [0, 1], atol=1e-12)


def test_clocks_have_a_day_and_no_date() -> None:
    preparation = TablePreparation().fit({"t": [f"{h}:{m:02d}" for h in range(24) for m in (0, 20)]})
    assert preparation.get_feature_names_out().tolist() == ["t:sin(day)", "t:cos(day)"]
    np.testing.assert_allclose(preparation.transform({"t": ["6:00", "18:00"]}), [[1, 0], [-1, 0]], atol=1e-6)


def test_days_without_times_have_no_cycle_of_the_day() -> None:
    days = [date(2024, 1, 1) + timedelta(i) for i in range(10)]
    preparation = TablePreparation().fit({"t": days})
    assert preparation.get_feature_names_out().tolist() == ["t", "t:sin(week)", "t:cos(week)"]
