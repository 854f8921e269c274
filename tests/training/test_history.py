"""The record of a run: columns, CSV, and what it says of itself."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd
import pytest

from fcnn_gpu import History


def history() -> History:
    return History([{"epoch": 1, "loss": 0.5, "val_loss": 0.75}, {"epoch": 2, "loss": 0.25, "val_loss": 1 / 3}])


def test_columns_and_records() -> None:
    h = history()
    assert h.columns == ["epoch", "loss", "val_loss"]
    assert len(h) == 2
    assert [record["loss"] for record in h] == h["loss"] == [0.5, 0.25]
    assert (h.stopped_by, h.best_epoch) == ("epochs", None)


def test_an_unknown_column_is_answered_by_those_there_are() -> None:
    with pytest.raises(KeyError, match="no column 'accuracy'; it has epoch, loss, val_loss"):
        history()["accuracy"]


def test_a_dictionary_is_a_table() -> None:
    table = pd.DataFrame(history().to_dict())
    assert table.shape == (2, 3)
    assert table["val_loss"].tolist() == [0.75, 1 / 3]


def test_csv_keeps_every_digit(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    text = history().to_csv(path)
    assert path.read_bytes() == text.encode()
    assert text.startswith("epoch,loss,val_loss\n1,0.5,0.75\n")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [float(row["val_loss"]) for row in rows] == history()["val_loss"]
    assert history().to_csv() == text


def test_a_run_without_an_epoch_is_an_empty_table() -> None:
    empty = History()
    assert empty.columns == []
    assert empty.to_dict() == {}
    assert empty["loss"] == []
    assert empty.to_csv() == "\n"


def test_print_shows_a_short_table() -> None:
    same = {"learning_rate": 0.1, "seconds": 0.5}
    long = History([{"epoch": i, "loss": 1 / i, "val_loss": 2 / i, **same} for i in range(1, 41)], best_epoch=7)
    lines = repr(long).splitlines()
    shown = ["epoch", "1", "…", "7", "…", *map(str, range(33, 41)), "40"]
    assert [line.split()[0] for line in lines] == shown
    assert lines[1].split() == ["1", "1.0000", "2.0000", "0.1"]
    assert len({len(line) for line in lines[:-1]}) == 1
    assert lines[-1] == "40 epochs in 20.0 s, validation aside. The network has the weights of epoch 7."
    assert str(long) == repr(long)
    assert len(repr(History(long.records[:3])).splitlines()) == 5
    assert repr(History()) == "No epoch has been trained."
