"""Warnings that point at the user's line."""

from __future__ import annotations

import sys
import warnings

_PASSED_THROUGH = (__name__.partition(".")[0], "contextlib")


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """`warnings.warn`, which names the line that an entry of the package was called from, whichever entry it was."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED_THROUGH:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
