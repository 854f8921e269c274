"""JSON that comes from a file: read strictly, so that nothing in it is taken for something else."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn


def read_json(text: str | bytes) -> Any:
    """What a JSON text says. ValueError, with the place where the parser knows it, for anything that is not plain.

    Refused are what RFC 8259 does not have (NaN, Infinity) or leaves open (two values of one name), numbers beyond the
    range of float, integers of thousands of digits, nesting beyond what the parser can follow, and text that is not
    UTF-8.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode()
        return json.loads(
            text, object_pairs_hook=_without_repetition, parse_constant=_no_number, parse_float=_finite_number
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text at byte {error.start:,}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names: set[str] = set()
        for name, _ in pairs:
            if name in names:
                raise ValueError(f"the name {brief(name)} stands twice in one object")
            names.add(name)
    return found


def _finite_number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {brief(text)} is beyond the range of float")
    return number


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def brief(value: object, longest: int = 60) -> str:
    """A value for a message: on one line, and of a message's length whatever came from the file."""
    text = repr(value[: longest + 1] if isinstance(value, str) else value)
    return text if len(text) <= longest else f"{text[: longest - 4]}...{text[-1]}"
