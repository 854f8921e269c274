"""Whether a CSV file's first line names its columns: one verdict in every reader, or a question."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fcnn_gpu import datasets
from fcnn_gpu.cli._app import run
from fcnn_gpu.datasets import BlockSource, DataFileError, open_csv, read_features

UNCLEAR = re.compile("line [0-9]+ may be the header or the first sample: .* Say header=True .* header=False if")


def rows_of(source: BlockSource) -> int:
    return sum(len(X) for block in range(len(source.block_sizes)) for X, _, _ in source.read(block))


READERS: dict[str, Callable[..., int]] = {
    "load": lambda path, **header: len(datasets.load(path, test_fraction=0, **header).X_train),
    "read_features": lambda path, **header: len(read_features(path, drop=-1, **header)),
    "open_csv": lambda path, **header: rows_of(open_csv(path, **header)),
    "open_csv without targets": lambda path, **header: rows_of(open_csv(path, None, **header)),
}

TABLE: dict[str, tuple[str, str]] = {
    "names": ("a,b,y|1,2,0|3,4,1", "header"),
    "names above text": ("length,species|5.1,setosa|4.9,virginica", "header"),
    "names alone are text, and so is all": ("a,b|c,d|e,f", "header"),
    "sodium is a name": ("Na,K,y|1,2,0|3,4,1", "header"),
    "a sample without its numbers": ("?,NA,setosa|1,2,setosa|3,4,virginica", "unclear"),
    "an empty name above numbers": (",a,y|0,2,0|1,4,1", "header"),
    "years above whole numbers": ("1990,1991,1992|17,4,20|3,15,8", "unclear"),
    "whole numbers that follow each other": ("7,8,9|17,4,20|3,15,8", "sample"),
    "iris": ("5.1,3.5,1.4,0.2,setosa|4.9,3.0,1.4,0.2,setosa|6.3,3.3,6.0,2.5,virginica", "sample"),
    "iris, each of its own": ("5.1,3.5,setosa|7.0,3.2,versicolor|6.3,3.3,virginica", "sample"),
    "one sample": ("5.1,3.5,setosa", "sample"),
    "a missing number in the first sample": ("5.1,?,setosa|4.9,3.0,setosa|6.3,3.3,virginica", "sample"),
    "counted columns": ("0,1,2|3.5,4.5,0|5.5,6.5,1", "unclear"),
    "counted columns and a label": ("0,1,label|3.5,4.5,cat|5.5,6.5,dog", "unclear"),
    "counted columns, label first": ("label,0,1|cat,4.5,1|dog,6.5,2", "unclear"),
    "pandas' row index": (",0,1,2|0,1.5,2.5,0|1,3.5,4.5,1", "unclear"),
    "one column called 0": ("0,label|3.5,cat|4.5,dog", "unclear"),
    "a first sample 0, 1 of labels that come again": ("0,1,cat|3.5,4.5,cat|5.5,6.5,dog", "sample"),
    "years": ("2019,2020,2021,y|0.5,1.5,2.5,0|3.5,4.5,5.5,1", "unclear"),
    "years alone": ("2019,2020,2021|0.5,1.5,2.5|3.5,4.5,5.5", "unclear"),
    "wavelengths above classes": ("400,402,404,kind|0.5,1.5,2.5,oil|3.5,4.5,5.5,fat", "unclear"),
    "years above whole numbers and classes": ("1990,1991,kind|5,7,oil|3,-4,fat|8,8,oil", "unclear"),
    "whole numbers and a label of its own": ("5,3,setosa|4,9,virginica|6,3,virginica", "sample"),
    "whole numbers that increase and labels that come once": ("3,5,setosa|4,9,versicolor|6,3,virginica", "sample"),
    "whole samples that increase": ("1,2,3|4,5,6|7,8,9", "sample"),
    "text above numbers": ("x,1,0|2,1,1|3,4,0", "unclear"),
    "the first label alone is no number": ("1.5,2.5,10+|3.5,4.5,5|5.5,6.5,7", "unclear"),
    "the first label is a number": ("1.5,2.5,5|3.5,4.5,10+|5.5,6.5,7", "sample"),
    "labels that are no numbers, again": ("1.5,2.5,10+|3.5,4.5,5|5.5,6.5,10+", "sample"),
    "numbers": ("1.5,2.5,0|3.5,4.5,1", "sample"),
    "pixels": ("0,0,0,1|0,255,0,0", "sample"),
    "0 is spelled otherwise": ("0.0,1.0,2.0|3.5,4.5,1.5|1.5,2.5,0.5", "sample"),
    "behind a blank line and a mark": ("\ufeff|0,1,label|3.5,4.5,cat|5.5,6.5,dog", "unclear"),
    "in quotes": ('"0","1","label"|3.5,4.5,"cat"|5.5,6.5,"dog"', "unclear"),
}


def said(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    try:
        return call(*arguments, **options)
    except DataFileError as error:
        return str(error)


def verdict(path: Path, reader: str) -> str:
    """By what comes of it: a number of samples, or the words of a refusal, as they are where a verdict is forced."""
    got = said(READERS[reader], path)
    if isinstance(got, str) and UNCLEAR.search(got):
        return "unclear"
    as_header, as_sample = (said(READERS[reader], path, header=header) for header in (True, False))
    assert as_header != as_sample
    return {as_header: "header", as_sample: "sample"}[got]


@pytest.mark.parametrize("case", TABLE)
@pytest.mark.parametrize("reader", READERS)
def test_the_table(case: str, reader: str, tmp_path: Path) -> None:
    text, expected = TABLE[case]
    path = tmp_path / "a.csv"
    path.write_text(text.replace("|", "\n") + "\n", "utf-8")
    assert verdict(path, reader) == expected


CELLS = st.sampled_from(
    ["0", "1", "2", "3", "2.5", "-7", "1e3", "", "NA", "-nan", "cat", "dog", "10+", "y", "inf", "4_0"]
)


@st.composite
def files(draw: st.DrawFn) -> str:
    n = draw(st.integers(2, 4))
    rows = draw(st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=1, max_size=6))
    quote = draw(st.sampled_from(['"{}"', "{}"]))
    return "\n".join(",".join(quote.format(cell) for cell in row) for row in rows)


@settings(deadline=None, max_examples=300)
@given(text=files(), run_bytes=st.sampled_from([8, 2**20]))
def test_all_readers_come_to_the_same_verdict(
    text: str, run_bytes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("header", numbered=True) / "a.csv"
    path.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fcnn_gpu.datasets._csv_source._BLOCK_BYTES", run_bytes)
        got = {reader: said(read, path) for reader, read in READERS.items()}
        unclear = {isinstance(x, str) and UNCLEAR.search(x) is not None for x in got.values()}
        assert len(unclear) == 1, got
        if unclear == {True}:
            assert len(set(got.values())) == 1
            return
        forced = {h: {reader: said(read, path, header=h) for reader, read in READERS.items()} for h in (True, False)}
        assert got in forced.values()
        assert got["load"] == got["open_csv"]


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_load_and_open_csv_find_the_same(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Names, classes and numbers, in any dialect and across the borders of blocks."""
    n, k = data.draw(st.integers(4, 30)), data.draw(st.integers(1, 3))
    numbers = data.draw(st.lists(st.floats(-1e6, 1e6, width=32), min_size=n * k, max_size=n * k))
    kinds = [
        ["a", "b", "ü ß"],
        ["5", "10+", "7"],
        ["1", "2", "10"],
        ["1.0", "1", "2"],
        ["0.5", "1", "2.5"],
        ["none", "+", "-"],
    ]
    labels = data.draw(st.lists(st.sampled_from(data.draw(st.sampled_from(kinds))), min_size=n, max_size=n))
    assume(len({label.removesuffix(".0") for label in labels}) > 1)
    delimiter, end = data.draw(st.sampled_from(",;\t|")), data.draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    quote, mark = data.draw(st.sampled_from(['"{}"', "{}"])), data.draw(st.sampled_from(["", "\ufeff"]))
    header = [["x", "x", "z"][i] for i in range(k)] + ["label"]  # a name may come twice
    rows = [[f"{value:.9g}" for value in numbers[i * k : (i + 1) * k]] + [quote.format(labels[i])] for i in range(n)]
    path = tmp_path_factory.mktemp("same", numbered=True) / "a.csv"
    path.write_bytes((mark + end.join(delimiter.join(row) for row in [header, *rows])).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fcnn_gpu.datasets._csv_source._BLOCK_BYTES", data.draw(st.sampled_from([9, 100, 2**20])))
        source = open_csv(path)
    pieces = [piece for block in range(len(source.block_sizes)) for piece in source.read(block)]
    whole = said(datasets.load, path, test_fraction=0)
    X = np.array([float(f"{value:.9g}") for value in numbers]).reshape(n, k)
    np.testing.assert_array_equal(whole.X_train, X.astype(whole.X_train.dtype))
    np.testing.assert_array_equal(np.concatenate([x for x, _, _ in pieces]), X)
    np.testing.assert_array_equal(read_features(path, drop="label"), X)  # float64 where float32 is not exact
    np.testing.assert_array_equal(np.concatenate([y for _, y, _ in pieces if y is not None]), whole.y_train)
    assert (source.class_names, source.feature_names) == (whole.class_names, whole.feature_names)
    assert whole.feature_names == tuple(header[:-1])
    assert source.target_names == (whole.target_name,) == ("label",)
    if whole.class_names is not None:
        expected = [float(x) for x in labels] if set(labels) <= {"1", "1.0", "2", "10"} else labels
        names = [float(x) for x in whole.class_names] if expected is not labels else list(whole.class_names)
        assert [names[i] for i in whole.y_train] == expected


def test_what_pandas_writes(tmp_path: Path) -> None:
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 3)))
    path = tmp_path / "a.csv"
    table.to_csv(path)
    for read in READERS.values():
        with pytest.raises(DataFileError, match=r"count the columns .*row index.*index=False"):
            read(path)
        with pytest.raises(DataFileError, match=r"column 1 has no name in the header.*index=False"):
            read(path, header=True)
    table.to_csv(path, index=False)
    for read in READERS.values():
        with pytest.raises(DataFileError, match="count the columns"):
            read(path)
        assert read(path, header=True) == 20
        assert read(path, header=False) == 21


def test_classes_that_are_no_numbers_are_text_in_every_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("size,age\n1.5,5\n2.5,10+\n3.5,7\n4.5,5\n")
    assert datasets.load(path).class_names == open_csv(path).class_names == ("10+", "5", "7")
    path.write_text("1.5,10+\n2.5,5\n3.5,7\n")
    assert datasets.load(path, header=False, test_fraction=0).class_names == ("10+", "5", "7")
    assert open_csv(path, header=False).class_names == ("10+", "5", "7")
    np.savez(tmp_path / "a.npz", X=np.ones((3, 2)), y=np.array(["10+", "5", "7"]))
    assert datasets.load(tmp_path / "a.npz", test_fraction=0).class_names == ("10+", "5", "7")


def test_the_command_asks_in_its_own_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text("0,1,label\n3.5,4.5,cat\n5.5,6.5,dog\n")
    assert run(["train", "--data", str(path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "Say --header if it names the columns, --no-header if it is a sample." in said
