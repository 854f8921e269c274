"""What goes wrong with a backend as a whole."""

from __future__ import annotations


class BackendError(RuntimeError):
    """A backend that was asked for by name cannot be used; the message names the failing link and its fix."""
