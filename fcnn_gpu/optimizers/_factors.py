"""Factors that a setting is multiplied by, for parameters whose names match patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import numpy as np

from .._checks import check_real

Factor: TypeAlias = float | list[float]
"""Of a parameter, or of each member's part of it."""


def check_factors(who: str, factors: Any) -> dict[str, Factor] | None:
    """Patterns of names with numbers of at least 0, or lists of them; None for none.

    TypeError or ValueError for anything else.
    """
    if factors is None:
        return None
    if not isinstance(factors, Mapping) or not all(isinstance(pattern, str) for pattern in factors):
        raise TypeError(
            f'{who} expects patterns of parameter names with factors, such as {{"*.b": 0.1}}, got {factors!r}.'
        )
    return {pattern: _factor(f"{who}: {pattern!r}", value) for pattern, value in factors.items()}


def _factor(who: str, value: Any) -> Factor:
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
        return check_real(who, value, low=0.0)
    if len(value) == 0:
        raise ValueError(f"{who} expects a number, or one for each member of an ensemble, got an empty list.")
    return [check_real(f"{who} of member {g}", x, low=0.0) for g, x in enumerate(value)]


def check_patterns(
    who: str, factors: Mapping[str, Factor] | None, names: Sequence[str], members: Mapping[str, int]
) -> None:
    """ValueError where a pattern matches none of the names, or has numbers for other members than a parameter has."""
    for pattern in factors or {}:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"{who}: {pattern!r} matches no parameter of the model. Its parameters: {', '.join(names)}. "
                '"*" stands for any characters: "*.b" are all biases, "0.*" is the first layer.'
            )
    for name in names:
        factor, k = factor_of(name, factors, 1.0), members.get(name, 0)
        if isinstance(factor, list) and len(factor) != k:
            has = f"parts of {k} members" if k else "no part for each of several members"
            theirs = ", ".join(f"{known} ({n})" for known, n in members.items()) or "none"
            raise ValueError(
                f"{who}: there are factors for {len(factor)} members, and {name} has {has}. Parameters that have: "
                f"{theirs}. Give {name} a single number, under a pattern of its own behind the others."
            )


def factor_of(name: str, factors: Mapping[str, Factor] | None, otherwise: float) -> Factor:
    """Of the patterns that match a name, the last one's number, or its numbers of each member."""
    found = [value for pattern, value in (factors or {}).items() if fnmatchcase(name, pattern)]
    return found[-1] if found else otherwise


def largest_factor(factors: Mapping[str, Factor] | None) -> float:
    """No parameter has a larger factor."""
    values = [x for value in (factors or {}).values() for x in (value if isinstance(value, list) else [value])]
    return max([1.0, *values])
