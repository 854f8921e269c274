"""What may be recorded and replayed: objects that compute by primitives alone."""

from __future__ import annotations

_KNOWN = (__name__.partition(".")[0], "builtins")


def consists_of_primitives(*parts: object) -> bool:
    """Whether these objects compute as this package's own classes do: by primitives alone.

    A class of the user's, or a method replaced on an object (`layer.forward = traced`), may compute in other ways,
    which a captured pass would not repeat.
    """
    return all(type(part).__module__.partition(".")[0] in _KNOWN and not _has_own_methods(part) for part in parts)


def _has_own_methods(part: object) -> bool:
    return any(callable(getattr(type(part), name, None)) for name in getattr(part, "__dict__", ()))
