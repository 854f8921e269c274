"""A saved model with what it remembers of its data."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .._console import counted
from .._types import HostArray
from ..datasets import CATALOGUE
from ..files import ModelFileError
from ..losses import LOSSES, VALUE_LINKS, Loss, Quantile
from ..metrics import METRICS
from ..model import Sequential, load
from ..tables import Targets
from ._backend import choose_backend
from ._named import build
from ._output import MODEL, ROWS, RUN
from ._rows import digest_of

_QUANTILE = re.compile(r"quantile (0?\.\d+)")
"""What `TabularRegressor(quantiles=)` calls its predictions."""
_LOSS_OF_LINK = {"softmax": "cross_entropy", "sigmoid": "binary_cross_entropy", "identity": "mse", "exp": "poisson"}
_NOTED = {"multilabel": bool, "loss": dict, "metrics": list, "data": str, "target": str, "test_fraction": float}
_NOTED |= {"data_digest": str, "targets": dict, "sheet": str}
"""What `fcnn-gpu train` notes for the other commands (`info_of`)."""


def model_file(path: Path) -> Path:
    """The model file of a run, where `path` is the folder that `train --out` made; else `path`."""
    return path / MODEL if (path / MODEL).is_file() else path


class SavedModel:
    """A model file, loaded; models that were saved from Python, without `model.info`, get what their link tells.

    Attributes:
        model: the network.
        task: "classification" or "regression".
        class_names: what classes are called, or None for regression.
        multilabel: whether a sample may have several labels.
        loss, metrics: what `evaluate` measures of predictions; the task's own metrics beside these.
        targets: how the targets of a table are read, for a model that was trained on one; else None.
        run: what `train --out` has written beside the model.
        info: what `fcnn-gpu train` has noted in `model.info`; entries of another kind are a program's own.
    """

    def __init__(self, path: Path, backend: str | None, loss: str | None = None) -> None:
        """`loss`: the text of an option that names it, in the place of what the model notes."""
        path = model_file(path)
        self.path = path
        self.model: Sequential = load(path, choose_backend(backend)[0])
        noted = self.model.info
        self.info = {key: noted[key] for key, kind in _NOTED.items() if isinstance(noted.get(key), kind)}
        link = self.model.link
        if link is None:
            raise ModelFileError(
                f"{path} was saved before it had a loss, so nothing says whether its outputs are classes or values. "
                "Make a fcnn_gpu.Trainer for the model and save it again."
            )
        n_out = self.model.n_predictions
        self.task: Literal["classification", "regression"] = "regression" if link in VALUE_LINKS else "classification"
        self.multilabel = link == "sigmoid" and self.info.get("multilabel", n_out > 1)
        self.class_names: list[str] | None = None
        if self.task == "classification":
            known, n_classes = self.model.signature.class_names, max(n_out, 2)
            self.class_names = [str(name) for name in (range(n_classes) if known is None else known)]
            self.class_names += [f"output {i}" for i in range(len(self.class_names), n_classes)]
        self.loss = self._noted_loss(link) if loss is None else self._given_loss(loss, link)
        self.targets = self._targets()
        try:
            self.metrics = [
                METRICS.build(config) for config in self.info.get("metrics", []) if isinstance(config, dict)
            ]
        except (TypeError, ValueError) as error:
            raise ModelFileError(f"{path} notes a metric that is not known: {error}") from error

    def _noted_loss(self, link: str) -> Loss:
        """What the model notes, or what its predictions are called: quantiles; else what goes with such a link."""
        names = self.model.signature.target_names or ()
        quantiles = [match[1] for match in map(_QUANTILE.fullmatch, names) if match]
        if "loss" not in self.info and quantiles and len(quantiles) == len(names):
            return Quantile([float(q) for q in quantiles])
        try:
            return LOSSES.resolve(self.info.get("loss", _LOSS_OF_LINK[link]))
        except (TypeError, ValueError) as error:
            raise ModelFileError(f"{self.path} notes a loss that is not known: {error}") from error

    def _given_loss(self, text: str, link: str) -> Loss:
        loss: Loss = build("--loss", text, LOSSES)
        if loss.link != link:
            fitting = ", ".join(name for name in LOSSES if LOSSES[name].link == link)
            raise ValueError(f"--loss {text} does not fit {self.path}. Losses that fit: {fitting}.")
        loss.check_outputs(self.model.n_predictions)
        return loss

    @property
    def n_targets(self) -> int:
        """How many numbers of a sample its predictions are of; several quantiles are of one."""
        return self.model.n_predictions // self.loss.outputs_per_target

    def _targets(self) -> Targets | None:
        noted = self.info.get("targets")
        if noted is None or self.model.preparation is None:
            return None
        try:
            targets = Targets.from_plain(noted)
        except ValueError as error:
            raise ModelFileError(f"{self.path} notes targets that cannot be: {error}") from error
        if targets.task != self.task or targets.n_outputs != max(
            self.model.n_predictions, 2 if self.class_names else 1
        ):
            raise ModelFileError(f"{self.path} notes targets of another network: {', '.join(targets.names)}.")
        return targets

    def targets_in(self, target: str) -> Targets:
        """How to read targets in these columns, for a model that notes nothing of its own; labels are zeros and ones.

        ValueError unless there are as many columns as it predicts.
        """
        names = tuple(target.split(",")) if self.multilabel or self.task == "regression" else (target,)
        classes = None if self.class_names is None else tuple(self.class_names)
        n_expected = self.n_targets if self.multilabel or self.task == "regression" else 1
        if len(names) != n_expected:
            raise ValueError(
                f"--target names {counted(len(names), 'column')}, and the model {self.path} predicts {n_expected}."
            )
        labels = (("0", "1"),) * len(names) if self.multilabel else ()
        return Targets(names, self.task, classes, self.multilabel, (None,) * len(names), "as given", labels)

    @functools.cached_property
    def run(self) -> dict[str, Any]:
        """What run.json beside the model says; empty where there is none."""
        path = self.path.parent / RUN
        try:
            noted = json.loads(path.read_bytes())
            noted["data"]["name"], noted["options"]["data"]
        except FileNotFoundError:
            return {}
        except (ValueError, LookupError, TypeError) as error:
            raise ModelFileError(f"{path} is not what `fcnn-gpu train` wrote ({error}). Remove it.") from error
        return dict(noted)

    def training_data(self) -> str | None:
        """A data set's name, or a file that is where `train` found it, as it was then; None where it is not."""
        name: Any = self.info.get("data")
        if name in CATALOGUE:
            return str(name)
        name, known = self.run["options"]["data"] if self.run else name, self.info.get("data_digest")
        is_there = isinstance(name, str) and Path(name).is_file() and known is not None and digest_of(name) == known
        return name if is_there else None

    def training_rows(self) -> HostArray | None:
        """The marks of the rows that the model was trained on (`row_marks`), where they lie beside it."""
        path = self.path.parent / ROWS
        if not path.is_file():
            return None
        try:
            rows = np.load(path, allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise ModelFileError(f"{path} cannot be read ({error}). Train again, or remove it.") from error
        if rows.ndim != 1 or rows.dtype != np.uint64:
            raise ModelFileError(f"{path} is not what `fcnn-gpu train` wrote. Train again, or remove it.")
        return rows
