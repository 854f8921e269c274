"""The loss that explanations are of, and targets as it takes them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from .._types import HostArray
from ..losses import LOSSES, EnsembleLoss, Loss
from ..model import Sequential

_LOSS_OF_LINK = {"softmax": "cross_entropy", "sigmoid": "binary_cross_entropy", "identity": "mse", "exp": "poisson"}


def loss_of(model: Sequential, loss: str | Loss | None) -> Loss:
    """The loss named, or the one that fits what the network was trained with; of an ensemble that of its members."""
    if loss is None:
        loss = _LOSS_OF_LINK.get(model.link or "", "cross_entropy" if model.n_predictions > 1 else "mse")
    resolved = copy.copy(LOSSES.resolve(loss))
    if model.members > 1 and not isinstance(resolved, EnsembleLoss):
        resolved = EnsembleLoss(resolved, model.members)
    resolved.check_outputs(model.n_out)
    return resolved


def targets_of(model: Sequential, y: Any) -> HostArray:
    """Targets for raw outputs: less what is added to these, and classes by their names as numbers."""
    targets, names = np.asarray(y), model.signature.class_names
    if names is not None and targets.dtype.kind in "UO" and all(isinstance(name, str) for name in names):
        unknown = [name for name in np.unique(targets.astype(str)).tolist() if name not in names]
        if unknown:
            raise ValueError(
                f"explain: there is no class {unknown[0]!r}; the classes are {', '.join(map(str, names))}."
            )
        numbers = {name: i for i, name in enumerate(names)}
        targets = np.array([numbers[str(name)] for name in targets.ravel()], np.int64).reshape(targets.shape)
    return targets if model.output_center is None else targets - model.prediction_center
