"""Settings that may change from step to step, as operations take them."""

from __future__ import annotations

from typing import Any

from .._ops import Scheduled


def scheduled(name: str, setting: float | Scheduled) -> dict[str, Any]:
    """The arguments that SCHEDULED(name) declares (kernels/cpu/level.h), in its order."""
    table, position = setting if isinstance(setting, Scheduled) else (None, None)
    return {
        name: 0.0 if isinstance(setting, Scheduled) else setting,
        f"n_{name}": 0 if table is None else table.size,
        f"{name}_table": table,
        f"{name}_position": position,
    }
