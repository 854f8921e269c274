"""What options call by name, with settings behind a colon where the defaults do not do.

>>> from fcnn_gpu.losses import LOSSES
>>> from fcnn_gpu.schedules import SCHEDULES
>>> build("--loss", "huber:delta=2", LOSSES)
Huber(delta=2.0)
>>> build("--schedule", "warmup:epochs=2,then=step:every=10,factor=0.5", SCHEDULES, given={"learning_rate": 0.1})
Warmup(then=StepDecay(learning_rate=0.1, every=10.0, factor=0.5), epochs=2.0, start=0.0)

What follows `then=`, a schedule itself, reaches to the end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import MISSING
from typing import Any, TypeVar

from .._checks import suggest
from .._registry import Registry
from ..metrics import METRICS, Metric

T = TypeVar("T")

_EXAMPLES = {
    "piecewise_constant": "piecewise_constant:boundaries=30/60",
    "step": "step:every=10,factor=0.5",
    "warmup": "warmup:epochs=1,then=cosine",
}
"""How the settings without a default are given."""
_NESTED = "then"
_WORDS = {"true": True, "false": False, "none": None}
_MOST_DIGITS = 18


def build(
    option: str,
    text: str,
    family: Registry[T],
    *,
    given: Mapping[str, Any] | None = None,
    elsewhere: Mapping[str, str] | None = None,
) -> T:
    """The member of `family` that an option's text names.

    Args:
        given: settings that come from elsewhere, as far as the member has them; the text cannot.
        elsewhere: settings that the text cannot give, and the option that does ("": none needs to).

    Raises:
        ValueError: an unknown name or setting, one that is missing, or one that cannot be.
    """
    name, colon, rest = text.partition(":")
    name = family.named(f"{option} does not know {name!r}.", name)
    kind: Any = family[name]
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    settings = {key: value for key, value in (given or {}).items() if key in fields}
    open_to = [key for key in fields if key not in settings and key not in (elsewhere or {})]
    if colon and not rest:
        raise ValueError(f"{option} {text} ends in a colon; expected {name} alone, or {name}:key=value.")
    while rest:
        key, equals, rest = rest.partition("=")
        key = key.strip()
        if elsewhere and elsewhere.get(key) and key in fields:
            raise ValueError(f"{option} {text}: {key} is what {elsewhere[key]} gives.")
        if key not in open_to:
            known = suggest(key, open_to).replace("Known names", "Its settings") if open_to else "It has none."
            raise ValueError(f"{option} {text}: {name} has no setting {key!r}. {known}")
        if not equals:
            raise ValueError(f"{option} {text}: {key} has no value; expected {key}=value.")
        if key in settings:
            raise ValueError(f"{option} {text} gives {key} twice.")
        if key == _NESTED:
            settings[key], rest = build(option, rest.strip(), family, given=given, elsewhere=elsewhere), ""
        else:
            value, _, rest = rest.partition(",")
            settings[key] = _value(value.strip(), str(fields[key].type))
    for key in open_to:
        needed = fields[key].default is MISSING and fields[key].default_factory is MISSING
        if needed and key not in settings:
            example = _EXAMPLES.get(name, f"{name}:{key}=value")
            raise ValueError(f"{option} {name} needs {key}=, as in {option} {example}.")
    try:
        member: T = kind(**settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{option} {text}: {error}") from error
    return member


def build_metric(option: str, text: str) -> Metric:
    """The metric that an option's text names; "top_3_accuracy" is short for "top_k_accuracy:k=3"."""
    if ":" not in text and text not in METRICS:
        try:
            return METRICS.resolve(text)
        except ValueError as error:
            if text.startswith("top_"):
                raise ValueError(f"{option} {text}: {error}") from error
    return build(option, text, METRICS, elsewhere={"multilabel": ""})


def _value(text: str, kind: str) -> Any:
    """A setting as Python's, a float where the field is one; the member checks whether it can be.

    >>> _value("3", "float | None"), _value("3", "int"), _value("macro", "Average"), _value("none", "float | None")
    (3.0, 3, 'macro', None)
    >>> _value("0.1/0.9", "Sequence[float]")
    [0.1, 0.9]
    """
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if "Sequence[float]" in kind and ("/" in text or "float |" not in kind):
        return [_value(part.strip(), "float") for part in text.split("/")]
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS and "float" not in kind:
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text
