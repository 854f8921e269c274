"""The option --threads."""

from __future__ import annotations

HELP = (
    "Threads on the CPU; results do not depend on them. (default: the variable FCNN_THREADS, else one for each core of "
    "this process)"
)


def choose_threads(wanted: int | None) -> None:
    """Compute with as many threads as the option says (None: not given)."""
    if wanted is not None:
        from .._checks import check_integer  # which the help does without
        from ..backend import set_threads

        set_threads(check_integer("--threads", wanted, low=1))
