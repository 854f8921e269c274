"""Which display of its progress a run has."""

from __future__ import annotations

from typing import Any

from .._checks import check_choice
from ._base import Callback
from .epoch_lines import EpochLines
from .notebook import NotebookProgress, in_notebook
from .progress_bar import ProgressBar

KINDS = {"bar": ProgressBar, "notebook": NotebookProgress, "lines": EpochLines}


def progress_display(who: str, choice: Any) -> list[Callback]:
    """What `progress=` of a run asks for: a name of `KINDS`, True for the one that fits, False for none.

    True takes "notebook" in a Jupyter kernel, "bar" where standard error is a terminal, and "lines" elsewhere. Raises
    ValueError or TypeError for anything else.
    """
    if isinstance(choice, bool):
        if not choice:
            return []
        choice = "notebook" if in_notebook() else "bar" if _is_terminal() else "lines"
    if not isinstance(choice, str):
        raise TypeError(f"{who} expects True, False or one of {', '.join(KINDS)}, got {choice!r}.")
    return [KINDS[check_choice(who, choice, tuple(KINDS))]()]


def _is_terminal() -> bool:
    from rich.console import Console

    return Console(stderr=True).is_terminal
