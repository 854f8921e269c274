"""The option --class-weight."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .._checks import check_real, suggest
from .._types import HostArray

_MOST_NAMES = 20


def parse_class_weight(text: str) -> str | dict[str, float]:
    """ "balanced", or the weights by class; a class may have commas and equals signs in its name.

    >>> parse_class_weight("cat=2,dog, small=0.5")
    {'cat': 2.0, 'dog, small': 0.5}
    """
    if text.strip() == "balanced":
        return "balanced"
    weights: dict[str, float] = {}
    begun = ""
    for part in text.split(","):
        name, equals, value = (begun + part).rpartition("=")
        if not equals:
            begun += part + ","
            continue
        begun = ""
        try:
            weight = float(value)
        except ValueError:
            raise ValueError(f"--class-weight expects a number for {name!r}, got {value!r}.") from None
        if name in weights:
            raise ValueError(f"--class-weight names the class {name!r} twice.")
        weights[name] = check_real(f"--class-weight of {name!r}", weight, low=0)
    if begun:
        raise ValueError(f"--class-weight expects balanced, or CLASS=2,OTHER=0.5, got {text!r}.")
    return weights


def match_classes(weights: str | dict[str, float], names: Sequence[str], y: HostArray) -> str | dict[int, float]:
    """The weights by the classes' numbers. ValueError for an unknown class, or where no sample of `y` has a weight."""
    if isinstance(weights, str):
        return weights
    numbers = {name: number for number, name in enumerate(names)}
    by_number: dict[int, float] = {}
    for given, weight in weights.items():
        name = given if given in numbers else given.strip()
        if name not in numbers:
            if len(names) <= _MOST_NAMES:
                known = suggest(name, names).replace("Known names", "The classes")
            else:
                known = f"The first of {len(names)} classes: {', '.join(names[:_MOST_NAMES])}."
            raise ValueError(f"--class-weight names an unknown class {name!r}. {known}")
        by_number[numbers[name]] = weight
    if not any(by_number.get(int(number), 1.0) for number in np.unique(y)):
        raise ValueError("--class-weight is 0 for every class of the training samples: there is nothing to learn from.")
    return by_number
