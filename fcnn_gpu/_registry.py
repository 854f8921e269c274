"""Named families of classes: what `activation="relu"` resolves to, and what a saved model's metadata names.

One registry per family (layers, activations, losses, ...) is also what the tests walk through, so that a new
member is gradient-checked, compared and saved without anybody listing it again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import numpy as np

from ._checks import suggest

T = TypeVar("T")

OMITTED_IF_DEFAULT = {"omitted if default": True}
"""Metadata of a dataclass field that `config` leaves out where it has its default: older releases do not know it."""

ADDED_LATER = {"added later": True}
"""Metadata of a dataclass field that a folder of weights names where it has not its default: older ones know none."""

NOT_KEPT = {"not kept": True}
"""Metadata of a dataclass field in whose place `config` has None: too large for plain data, and not needed there."""

_families: list[Registry[Any]] = []


class Registry(Generic[T]):
    """The members of one family by name.

    A member is a dataclass: its fields are its whole configuration, so `config()` and `build()` are inverse.
    """

    def __init__(self, family: str, base: type[T]) -> None:
        self.family = family
        self._base = base
        self._members: dict[str, type[T]] = {}
        _families.append(self)

    def register(self, name: str) -> Any:
        """Class decorator: make the class known as `name` (and set its `name` attribute)."""

        def add(cls: type[T]) -> type[T]:
            if name in self._members:
                raise ValueError(f"There is already a {self.family} named {name!r}: {self._members[name]}.")
            self._members[name] = cls
            cls.name = name  # type: ignore[attr-defined]
            return cls

        return add

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __getitem__(self, name: str) -> type[T]:
        if name not in self._members:
            raise ValueError(f"Unknown {self.family} {name!r}. {suggest(name, self._members)}")
        return self._members[name]

    def resolve(self, spec: str | T | type[T] | dict[str, Any]) -> T:
        """An instance: a name or a class gives its defaults, a `config` what it says, an instance is taken as it is."""
        if isinstance(spec, str):
            return self[spec]()
        if isinstance(spec, dict):
            return self.build(spec)
        if isinstance(spec, type) and issubclass(spec, self._base):
            return spec()
        if isinstance(spec, self._base):
            return spec
        family, base = _with_article(self.family), _with_article(self._base.__name__)
        raise TypeError(
            f"{family.capitalize()} is a name or {base}, got {spec!r} ({type(spec).__name__}). "
            f"Known names: {', '.join(sorted(self._members))}."
        )

    def config(self, member: T) -> dict[str, Any]:
        """A member as plain data (what JSON holds): its name and its dataclass fields, members of families included.

        Raises TypeError for an instance of a class that is not registered: no name would lead back to it.
        """
        if self._members.get(getattr(member, "name", "")) is not type(member):
            raise TypeError(
                f"{member!r} cannot be written as plain data: its class {type(member).__name__} is not registered. "
                f"Decorate the class with its family's register(name), for example @LAYERS.register('my_layer')."
            )
        fields = dataclasses.fields(member) if dataclasses.is_dataclass(member) else ()
        kept = {f.name: None if "not kept" in f.metadata else getattr(member, f.name) for f in fields if f.init}
        plain = {f.name: _plain(kept[f.name]) for f in fields if f.init and not _omitted(member, f)}
        return {"name": member.name} | plain  # type: ignore[attr-defined]

    def build(self, config: dict[str, Any]) -> T:
        """The inverse of `config`."""
        arguments = dict(config)
        if "name" not in arguments:
            raise ValueError(f'The configuration of {_with_article(self.family)} needs a "name", got {config!r}.')
        return self[arguments.pop("name")](**arguments)


def _omitted(member: Any, field: dataclasses.Field[Any]) -> bool:
    return "omitted if default" in field.metadata and getattr(member, field.name) == field.default


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    for family in _families:
        if isinstance(value, family._base):
            return family.config(value)
    return value.item() if isinstance(value, np.generic) else value
