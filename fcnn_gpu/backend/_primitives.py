"""What may be recorded and replayed: objects that compute by primitives alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._ops import outside
from ._ops._tape import current_tape

_KNOWN = (__name__.partition(".")[0], "builtins")


def consists_of_primitives(*parts: object) -> bool:
    """Whether these objects compute as this package's own classes do: by primitives alone.

    A class of the user's, or a method replaced on an object (`layer.forward = traced`), may compute in other ways,
    which a captured pass would not repeat.
    """
    return all(type(part).__module__.partition(".")[0] in _KNOWN and not _has_own_methods(part) for part in parts)


def called(part: object, method: Callable[..., Any], *args: Any) -> Any:
    """`method(*args)`, a method of `part`; while a step is recorded, as a call in Python if `part` is not ours."""
    if current_tape() is None or consists_of_primitives(part):
        return method(*args)
    return outside(method, *args)


def _has_own_methods(part: object) -> bool:
    return any(callable(getattr(type(part), name, None)) for name in getattr(part, "__dict__", ()))
