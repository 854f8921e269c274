"""Which display of its progress a run has."""

from __future__ import annotations

from typing import Any

from .._checks import check_choice, check_integer
from ._base import Callback
from .epoch_lines import EpochLines
from .notebook import NotebookProgress, in_notebook
from .progress_bar import ProgressBar

KINDS = {"bar": ProgressBar, "notebook": NotebookProgress, "lines": EpochLines}


def progress_display(who: str, choice: Any) -> list[Callback]:
    """What `progress=` of a run asks for: a name of `KINDS`, True for the one that fits, False for none.

    True takes "notebook" in a Jupyter kernel, "bar" where standard error is a terminal, and "lines" elsewhere; so does
    "bar", which a file or a pipe cannot show. Raises ValueError or TypeError for anything else.
    """
    if isinstance(choice, bool):
        if not choice:
            return []
        choice = "notebook" if in_notebook() else "bar" if _is_terminal() else "lines"
    if not isinstance(choice, str):
        raise TypeError(f"{who} expects True, False or one of {', '.join(KINDS)}, got {choice!r}.")
    check_choice(who, choice, tuple(KINDS))
    return [KINDS["lines" if choice == "bar" and not _is_terminal() else choice]()]


def progress_of_verbose(who: str, verbose: Any) -> bool | str:
    """`progress=` for the `verbose=` of scikit-learn and Keras: 0 and False nothing, 1 what fits, 2 and more lines."""
    if isinstance(verbose, bool):
        return verbose
    return "lines" if check_integer(who, verbose, low=0) > 1 else verbose == 1


def _is_terminal() -> bool:
    from rich.console import Console

    return Console(stderr=True).is_terminal
