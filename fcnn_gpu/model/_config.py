"""What a configuration, the plain data that stands for a network, must say."""

from __future__ import annotations

from typing import Any

from .._checks import check_bool, check_choice, check_integer, suggest
from ..data import InputMap
from ..layers import LAYERS, Layer
from ._network import check_dtype
from ._precision import resolve_precision
from ._recompute import check_recompute

LINKS = ("identity", "sigmoid", "softmax", "exp")
REQUIRED = ("n_in", "layers", "dtype", "seed", "link")
OPTIONAL = (
    "precision",
    "input_scale",
    "input_shift",
    "input_center",
    "output_center",
    "recompute",
    "share_workspace",
    "awaits_data",
    "members",
    "frozen",
)
"""What files of earlier releases lack, and networks without a center, members or frozen parameters."""


def check_config(config: dict[str, Any]) -> list[Layer]:
    """The layers of a configuration, not yet built. ValueError or TypeError where it is not `Sequential.config()`'s."""
    missing = [name for name in REQUIRED if name not in config]
    if missing:
        raise ValueError(f"The configuration of a network needs {missing[0]!r}.")
    unknown = [name for name in config if name not in REQUIRED and name not in OPTIONAL]
    if unknown:
        raise ValueError(
            f"The configuration of a network does not know {unknown[0]!r}. {suggest(unknown[0], REQUIRED + OPTIONAL)}"
        )
    check_integer("n_in", config["n_in"], low=1)
    check_integer("seed", config["seed"], low=0)
    if config["dtype"] not in ("float32", "float64"):  # and not one of the many things that NumPy takes for a dtype
        raise ValueError(f"dtype is 'float32' or 'float64', got {config['dtype']!r}.")
    precision = resolve_precision(config.get("precision"), check_dtype(config["dtype"]))
    InputMap(precision.compute_dtype, config.get("input_scale", 1.0), config.get("input_shift", 0.0))
    check_recompute("recompute", config.get("recompute", False))
    check_bool("share_workspace", config.get("share_workspace", False))
    check_bool("awaits_data", config.get("awaits_data", False))
    check_integer("members", config.get("members", 1), low=1)
    frozen = config.get("frozen", [])
    if not isinstance(frozen, list) or not all(isinstance(name, str) for name in frozen):
        raise TypeError(f"frozen expects a list of parameter names, got {frozen!r}.")
    if config["link"] is not None:
        check_choice("The model's link", config["link"], LINKS)
    described = config["layers"]
    if not isinstance(described, list) or not described:
        raise TypeError(f"layers expects a list of at least one layer, got {described!r}.")
    return [_layer(i, layer) for i, layer in enumerate(described)]


def _layer(i: int, described: Any) -> Layer:
    try:
        if not isinstance(described, dict):
            raise TypeError(f"it is no configuration of a layer, but {described!r}.")
        return LAYERS.build(described)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"layer {i}: {error}") from error
    except RecursionError as error:
        raise ValueError(f"layer {i}: its blocks are nested too deeply.") from error
