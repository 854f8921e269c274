"""The folder that a training run leaves behind."""

from __future__ import annotations

import importlib.util
import json
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..files import write_atomically
from ..model import Sequential
from ..training import History
from ._evaluation import Evaluation

MODEL, HISTORY, RUN = "model.safetensors", "history.csv", "run.json"
CURVES, CONFUSION = "curves.png", "confusion_matrix.png"
HOW_TO_PLOT = "pip install 'fcnn_gpu[plot]'"


def prepare_folder(path: Path) -> None:
    """Make the folder and see that it can be written, before a long run rather than after it; OSError if not."""
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"--out expects a folder, and {path} is a file.")
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
        pass


def write_run(
    folder: Path,
    model: Sequential,
    history: History,
    run: dict[str, Any],
    evaluation: Evaluation | None,
    class_names: list[str] | None,
) -> list[str]:
    """Write the model, the history, run.json and, with matplotlib, the pictures.

    Returns the names of the files. A picture of an earlier run in the same folder that this run does not draw anew is
    removed: it would show another model.
    """
    model.save(folder / MODEL)
    write_atomically(folder / HISTORY, history.to_csv().encode())
    write_atomically(folder / RUN, (json.dumps(versions() | run, indent=2) + "\n").encode())
    pictures = _pictures(history, evaluation, class_names) if can_plot() else {}
    for name in (CURVES, CONFUSION):
        if name in pictures:
            pictures[name](folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    return [MODEL, HISTORY, RUN, *pictures]


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def versions() -> dict[str, str]:
    """What computed the run."""
    return {
        "fcnn_gpu": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": f"{sys.platform} {platform.machine()}",
    }


def _pictures(
    history: History, evaluation: Evaluation | None, class_names: list[str] | None
) -> dict[str, Callable[[Path], Any]]:
    """The pictures that there is something to draw for: name and what draws it into a file."""
    from ..training import plot_confusion_matrix

    found: dict[str, Callable[[Path], Any]] = {}
    if len(history):
        found[CURVES] = history.plot
    if evaluation is not None and evaluation.confusion is not None:
        confusion = evaluation.confusion
        found[CONFUSION] = lambda path: plot_confusion_matrix(confusion, class_names, path)
    return found
