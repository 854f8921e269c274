"""A saved model with what it remembers of its data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..files import ModelFileError
from ..losses import LOSSES, Loss
from ..model import Sequential, load
from ._backend import choose_backend

_LOSS_OF_LINK = {"softmax": "cross_entropy", "sigmoid": "binary_cross_entropy", "identity": "mse"}


class SavedModel:
    """A model file, loaded; models that were saved from Python, without `model.info`, get what their link tells.

    Attributes:
        model: the network.
        task: "classification" or "regression".
        class_names: what classes are called, or None for regression.
        multilabel: whether a sample may have several labels.
        loss: what `evaluate` measures.
        info: `model.info`.
    """

    def __init__(self, path: Path, backend: str | None) -> None:
        self.path = path
        self.model: Sequential = load(path, choose_backend(backend)[0])
        self.info: dict[str, Any] = self.model.info
        link = self.model.link
        if link is None:
            raise ModelFileError(
                f"{path} was saved before it had a loss, so nothing says whether its outputs are classes or values. "
                "Make a fcnn_gpu.Trainer for the model and save it again."
            )
        n_out = self.model.n_out
        self.task = "regression" if link == "identity" else "classification"
        self.multilabel = bool(self.info.get("multilabel", link == "sigmoid" and n_out > 1))
        self.class_names: list[str] | None = None
        if self.task == "classification":
            known, n_classes = self.model.signature.class_names, max(n_out, 2)
            self.class_names = [str(name) for name in (range(n_classes) if known is None else known)]
            self.class_names += [f"output {i}" for i in range(len(self.class_names), n_classes)]
        self.loss: Loss = LOSSES.resolve(self.info.get("loss") or _LOSS_OF_LINK[link])
