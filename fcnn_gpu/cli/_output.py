"""The folder that a training run leaves behind."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Collection
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from .._extras import how_to_install
from .._types import HostArray
from ..files import MODEL_NAME, check_replaceable, replaced_together, write_atomically
from ..training import PictureError, drawing
from ._evaluation import Evaluation
from ._trained import Trained

MODEL, HISTORY, RUN = MODEL_NAME, "history.csv", "run.json"
CURVES, CONFUSION = "curves.png", "confusion_matrix.png"
ROWS = "training_rows.npy"
_FILES = {MODEL, HISTORY, RUN, ROWS, CURVES, CONFUSION}
HOW_TO_PLOT = how_to_install("plot")


def prepare_folder(path: Path) -> None:
    """Make the folder and see that it can be written, before a long run rather than after it; OSError if not."""
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"--out expects a folder, and {path} is a file.")
    if path.is_symlink() and not path.exists():
        raise FileNotFoundError(f"--out: {path} is a link to {os.readlink(path)}, which is not there.")
    path.mkdir(parents=True, exist_ok=True)
    check_replaceable(path, _FILES.__contains__)
    try:
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        error.filename = str(path)  # of the file, which nobody has named, or none where closing fails
        raise


def holds_run(folder: Path) -> bool:
    """Whether there is a model of an earlier run."""
    return (folder / MODEL).exists()


def earlier_run(folder: Path) -> str | None:
    """The run whose model is there, in words: when it ended and, if run.json says so, on which data."""
    try:
        when = datetime.fromtimestamp((folder / MODEL).stat().st_mtime)
    except FileNotFoundError:
        return None
    try:
        data = json.loads((folder / RUN).read_bytes())["data"]["name"]
    except (OSError, ValueError, LookupError, TypeError):
        data = None
    return f"the run of {when:%Y-%m-%d %H:%M}" + (f" on {data}" if isinstance(data, str) else "")


def check_free(folder: Path, overwrite: bool, names: Collection[str] = _FILES) -> str | None:
    """FileExistsError where files of these names would be replaced and nobody has said so; else a line that says so."""
    there = [name for name in sorted(names) if (folder / name).is_file()]
    if not there:
        return None
    earlier = earlier_run(folder) or ", ".join(there)
    if not overwrite:
        raise FileExistsError(
            f"--out: {folder} holds {earlier}. Choose another folder, or say --overwrite to replace it."
        )
    return f"Output: {folder} holds {earlier}, which this one replaces"


class RunFolder:
    """The folder of a run: its model first, and what is measured and drawn of it afterwards.

    `keep` puts the model, the history and run.json in the place of all that an earlier run has left there, in one step
    where the system can (see files/_replaced_together.py). What is added later replaces files one by one, and only as
    long as the folder holds this very model: another process may train into it, too.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def step_aside(self) -> None:
        """Take a folder beside this one where another process has kept its run in it since `check_free`."""
        asked, i = self.path, 1
        while holds_run(self.path):
            i += 1
            self.path = asked.with_name(f"{asked.name}-{i}")
        if i > 1:
            prepare_folder(self.path)
            print(f"Output: {asked} holds a run that has ended meanwhile, so this one is kept in {self.path}")

    def keep(self, trained: Trained, run: dict[str, Any], rows: HostArray) -> None:
        with replaced_together(self.path, MODEL, lambda name: name in _FILES) as fresh:
            trained.model.save(fresh / MODEL)
            trained.write_csv(fresh / HISTORY)
            write_atomically(fresh / RUN, _plain(run))  # whose errors name the file
            marks = io.BytesIO()
            np.save(marks, np.unique(rows), allow_pickle=False)
            write_atomically(fresh / ROWS, marks.getvalue())
            self._model = os.stat(fresh / MODEL)

    def add(
        self,
        trained: Trained,
        run: dict[str, Any],
        evaluation: Evaluation | None,
        class_names: list[str] | None,
    ) -> list[str]:
        """Write run.json with what was measured and, with matplotlib, the pictures; the names of all files.

        `PictureError` for one that cannot be drawn, when all else is written.
        """
        self._check()
        write_atomically(self.path / RUN, _plain(run))
        pictures = _pictures(trained, evaluation, class_names) if can_plot() else {}
        fault: PictureError | None = None
        for name, draw in pictures.items():
            self._check()
            try:
                with drawing(name):
                    draw(self.path / name)
            except PictureError as error:
                fault = error
        if fault is not None:
            raise fault
        return [MODEL, HISTORY, RUN, ROWS, *pictures]

    def _check(self) -> None:
        if not os.path.samestat(os.stat(self.path / MODEL), self._model):
            raise FileExistsError(
                f"Another run has written its model to {self.path} meanwhile: what was measured of this one is not "
                "kept. Give each run a folder of its own."
            )


def _plain(run: dict[str, Any]) -> bytes:
    return (json.dumps(versions() | run, indent=2) + "\n").encode()


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
    trained: Trained, evaluation: Evaluation | None, class_names: list[str] | None
) -> dict[str, Callable[[Path], Any]]:
    """The pictures that there is something to draw for: name and what draws it into a file."""
    from ..training import plot_confusion_matrix

    found: dict[str, Callable[[Path], Any]] = {}
    if not trained.is_empty:
        found[CURVES] = trained.plot
    if evaluation is not None and evaluation.confusion is not None:
        confusion = evaluation.confusion
        found[CONFUSION] = lambda path: plot_confusion_matrix(confusion, class_names, path)
    return found
