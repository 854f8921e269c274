"""Adam with decoupled weight decay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .._registry import ADDED_LATER, OMITTED_IF_DEFAULT
from ._base import OPTIMIZERS
from .adam import Adam


@OPTIMIZERS.register("adamw")
@dataclass
class AdamW(Adam):
    """Adam with decoupled weight decay: θ ← θ(1 − ηλ) − η m̂/(√v̂ + ε) (Loshchilov & Hutter 2019, algorithm 2).

    λ, `weight_decay`, is a number or a schedule, by which `Trainer.fit` gives each step its own.
    Weights decay; biases and normalization parameters do not, unless `decay_all` (PyTorch's `AdamW` decays all that it
    is given, as `decay_all` does). `decay_factors` multiply λ for some parameters, by their names as `rate_factors` do
    η: `{"*.b": 1, "0.W": 0.5}` lets biases decay as well, and the first layer's weights half as fast; lists of them are
    those of members. A parameter with a rate factor r and a decay factor d decays by 1 − rη·dλ in a step.

    It is `Adam` with other defaults.
    """

    weight_decay: Any = 0.01
    decay_all: bool = field(default=False, metadata=ADDED_LATER)
    decay_factors: Mapping[str, Any] | None = field(default=None, kw_only=True, metadata=OMITTED_IF_DEFAULT)
