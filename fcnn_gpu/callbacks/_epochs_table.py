"""The records of a history as rows."""

from __future__ import annotations

from collections.abc import Sequence

from .._console import readable
from .._html import table

_MOST_ROWS = 10
_HIDDEN = ("seconds", "penalty", "loss_scale", "skipped_steps")


def epochs_table(records: Sequence[dict[str, float]], best_epoch: int | None = None) -> str:
    """HTML; of many epochs the first, the last ones and the best, which is bold."""
    if not records:
        return ""
    columns, rows, marked = _rows(records, best_epoch)
    return table([name.replace("_", " ") for name in columns], rows, left=0, marked=marked)


def epochs_text(records: Sequence[dict[str, float]], best_epoch: int | None = None) -> str:
    """The same as text, under the columns' names."""
    columns, rows, _ = _rows(records, best_epoch)
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in [columns, *rows]
    )


def _rows(records: Sequence[dict[str, float]], best_epoch: int | None) -> tuple[list[str], list[list[str]], int | None]:
    """(the columns, the rows of the epochs that are shown, which of them is the best)."""
    columns = [name for name in records[0] if name not in _HIDDEN or (name == "penalty" and records[-1][name])]
    chosen = list(range(len(records)))
    best = None if best_epoch is None else best_epoch - int(records[0]["epoch"])
    if len(records) > _MOST_ROWS:
        chosen = sorted({0, *chosen[2 - _MOST_ROWS :], *(() if best is None else (best,))})
    rows: list[list[str]] = []
    marked = None
    for i, after in zip(chosen, [*chosen[1:], len(records)], strict=True):
        if i == best:
            marked = len(rows)
        rows.append([_text(name, records[i][name]) for name in columns])
        if after > i + 1:
            rows.append(["…" for _ in columns])
    return columns, rows, marked


def _text(column: str, value: float) -> str:
    if column in ("epoch", "samples_per_second"):
        return f"{value:,.0f}"
    return f"{value:.2g}" if column == "learning_rate" else readable(value)


def clock(seconds: float) -> str:
    """1:02:03, 2:03 or 3.1 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
