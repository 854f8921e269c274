"""Copies of a trainer: what its optimizer and its network have learned, beside the attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import LossScaling
from ..placement import StoredMatrix, assign_array

if TYPE_CHECKING:
    from .trainer import Trainer

_CONTROL = ("step", "learning_rate", "clip_scale", "failed_step")
_SCALING = ("scale", "good_steps", "skipped", "skip")


def attributes(trainer: Trainer) -> dict[str, Any]:
    """The attributes to be copied: all but the arrays of loss scaling, which lie on the device."""
    return {name: value for name, value in vars(trainer).items() if name != "_loss_scaling"}


def arrays_of(trainer: Trainer) -> dict[str, Any]:
    """Live moments, counters and loss scale, by name. Those of weights on the host or on disk are matrices."""
    optimizer, scaling = trainer.optimizer, trainer._loss_scaling
    found = {f"control.{name}": getattr(optimizer.control, name) for name in _CONTROL}
    found |= {f"state.{name}": array for name, array in optimizer.whole_state.items()}
    return found | {f"scaling.{name}": getattr(scaling, name) for name in _SCALING if scaling is not None}


def on_host(trainer: Trainer) -> dict[str, Any]:
    """Copies of `arrays_of` in memory."""
    to_numpy = trainer.model.ops.to_numpy
    arrays = arrays_of(trainer).items()
    return {name: np.array(array if isinstance(array, StoredMatrix) else to_numpy(array)) for name, array in arrays}


def restore(trainer: Trainer, kept: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Give a trainer without attributes those that were kept, and let its optimizer go on from `arrays`."""
    vars(trainer).update(kept)
    model = trainer.model
    trainer.optimizer.bind(model)
    scales = any(name.startswith("scaling.") for name in arrays)
    trainer._loss_scaling = LossScaling.start(model.ops) if scales else None
    for name, array in arrays_of(trainer).items():
        assign_array(model.ops, array, arrays[name])
