"""A report as a JSON file and back, every number as it was.

Numbers that JSON has no word for (an infinite deviation) are written as the strings "inf", "-inf" and "nan".
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from ..files import write_atomically
from .results import Report

FORMAT = "fcnn_gpu benchmark report"
VERSION = 1


class ReportFileError(ValueError):
    """The file is no report, or one that this version cannot read."""


def save(report: Report, path: str | Path) -> None:
    """Write the report; a reader sees the old file or the new one, never half of it."""
    write_atomically(Path(path), to_json(report).encode())


def load(path: str | Path) -> Report:
    """The report that `save` wrote. Raises ReportFileError, a ValueError, for anything else."""
    path = Path(path)
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except (ReportFileError, UnicodeDecodeError) as error:
        raise ReportFileError(f"{path} is no benchmark report that can be read: {error}") from error


def to_json(report: Report) -> str:
    """The report as JSON text."""
    plain = {"format": FORMAT, "version": VERSION} | _plain(report.plain())
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> Report:
    """The report that `to_json` wrote; ReportFileError names what is wrong and where."""
    data = parsed(text)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ReportFileError("it does not say that it is one. `fcnn-gpu bench --out DIR` writes DIR/report.json.")
    version = data.get("version")
    if version != VERSION:
        raise ReportFileError(
            f"its format has version {version!r}, and this fcnn_gpu reads version {VERSION}. Read it with the fcnn_gpu "
            f"that wrote it, {data.get('versions', {}).get('fcnn_gpu', 'which it does not name')}."
        )
    return _read(Report, {key: value for key, value in data.items() if key not in ("format", "version")}, "report")


def parsed(text: str) -> Any:
    """What a text holds as JSON; ReportFileError where it is none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ReportFileError(f"it is not JSON ({error}).") from error


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def _read(kind: Any, value: Any, where: str) -> Any:
    """`value`, as JSON holds it, in the type that an annotation names; `where` is its place in the file."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, value, where)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        [inner] = [argument for argument in arguments if argument is not type(None)]
        return _read(inner, value, where)
    if origin is list and isinstance(value, list):
        return [_read(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    if origin is tuple and isinstance(value, list) and len(value) == len(arguments):
        return tuple(
            _read(inner, item, f"{where}[{i}]") for i, (inner, item) in enumerate(zip(arguments, value, strict=True))
        )
    if origin is dict and isinstance(value, dict):
        return {key: _read(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is Literal and value in arguments:
        return value
    if kind is float and (value in ("inf", "-inf", "nan") or (_is_number(value))):
        return float(value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    expected = " or ".join(map(repr, arguments)) if origin is Literal else getattr(kind, "__name__", str(kind))
    raise ReportFileError(f"{where} expects {expected}, got {value!r}.")


def _read_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ReportFileError(f"{where} expects an object with the fields of {kind.__name__}, got {value!r}.")
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    unknown = sorted(set(value) - {field.name for field in fields})
    missing = [
        field.name
        for field in fields
        if field.name not in value
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if unknown or missing:
        what = f"has no {missing[0]!r}" if missing else f"has {unknown[0]!r}, which nobody knows"
        raise ReportFileError(f"{where} {what}.")
    return kind(**{name: _read(hints[name], item, f"{where}.{name}") for name, item in value.items()})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
