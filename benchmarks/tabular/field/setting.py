"""What a run was made with, as a line of runs.jsonl."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fcnn_gpu.bench._json import ReportFileError, _plain, _read, parsed


@dataclass(frozen=True)
class Setting:
    """One call of `run`."""

    created: str
    command: str
    machine: dict[str, Any]
    versions: dict[str, str]
    notes: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    """By the name of a table or a model that could take no part: why."""


def append(path: Path, setting: Setting) -> None:
    """Add a line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(_plain(dataclasses.asdict(setting)), ensure_ascii=False, allow_nan=False) + "\n")


def read(path: Path) -> list[Setting]:
    """All of a file. None where there is no file."""
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            found.append(_read(Setting, parsed(line), "run"))
        except ReportFileError as fault:
            raise ReportFileError(f"{path}, line {number}: {fault}") from None
    return found
