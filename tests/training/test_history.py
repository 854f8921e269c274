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
