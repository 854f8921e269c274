"""What notebooks show: every text escaped, and the epochs that matter."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fcnn_gpu as fcnn
from fcnn_gpu._html import ShownAsText, paragraph, table
from fcnn_gpu.callbacks import clock, epochs_table


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])), min_size=2, max_size=2))
def test_text_is_escaped(cells: list[str]) -> None:
    tree = ElementTree.fromstring(table(("a", "b"), [cells], caption=cells[0]))
    assert [cell.text or "" for cell in tree.iter("td")] == cells
    assert ElementTree.fromstring(paragraph(cells[0])).text == (cells[0] or None)


def test_what_prints_as_text_is_shown_as_text() -> None:
    class Report(ShownAsText):
        def __str__(self) -> str:
            return "<b>1 & 2</b>"

    assert ElementTree.fromstring(Report()._repr_html_()).text == "<b>1 & 2</b>"


def shown_epochs(n: int, best: int | None = None) -> list[str]:
    records = [{"epoch": i, "loss": 1 / i, "penalty": 0.0, "seconds": 1.0} for i in range(1, n + 1)]
    tree = ElementTree.fromstring(epochs_table(records, best))
    assert [cell.text for cell in tree.iter("th")] == ["epoch", "loss"]
    rows = [[cell.text or "" for cell in row.iter("td")] for row in tree.iterfind("tbody/tr")]
    return [row[0] for row in rows]


@pytest.mark.parametrize(
    ("n", "best", "expected"),
    [
        (3, None, "1 2 3"),
        (10, 4, "1 2 3 4 5 6 7 8 9 10"),
        (100, None, "1 … 93 94 95 96 97 98 99 100"),
        (100, 40, "1 … 40 … 93 94 95 96 97 98 99 100"),
        (100, 92, "1 … 92 93 94 95 96 97 98 99 100"),
        (100, 1, "1 … 93 94 95 96 97 98 99 100"),
    ],
)
def test_of_many_epochs_the_first_the_last_and_the_best(n: int, best: int | None, expected: str) -> None:
    assert shown_epochs(n, best) == expected.split()


def test_an_empty_history_says_so() -> None:
    assert "No epoch" in fcnn.History()._repr_html_()


@pytest.mark.parametrize(("seconds", "text"), [(3.14, "3.1 s"), (123, "2:03"), (3723, "1:02:03"), (59.96, "60.0 s")])
def test_times(seconds: float, text: str) -> None:
    assert clock(seconds) == text
