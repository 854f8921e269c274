"""Which layers of a network compute the units of which members of an ensemble."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ._base import Layer
from .activation import Activation
from .branches import Branches
from .dropout import AlphaDropout, Dropout
from .ensemble import BatchEnsemble, DenseEnsemble, Members
from .noise import GaussianNoise
from .normalization import BatchNorm
from .parametric import ParametricActivation, PReLU, Scale
from .residual import Residual

_BY_UNIT = (AlphaDropout, BatchNorm, Dropout, GaussianNoise, ParametricActivation, PReLU, Scale)
"""What keeps to each unit, and so to each member."""


def member_units(layers: Sequence[Layer], k: int | None = None) -> Iterator[tuple[Layer, int | None]]:
    """Each layer, those inside others included, with the number of members whose units it computes.

    None in front of `Members`; 0 where it mixes the units of several members, and behind that. `k` is that of what
    comes in.
    """
    for layer in layers:
        if isinstance(layer, Members):
            k = layer.members if k is None else 0
        elif isinstance(layer, DenseEnsemble | BatchEnsemble):
            k = layer.members
        elif isinstance(layer, Residual):
            inner = list(member_units(layer.block, k))
            yield from inner
            if layer.projection is not None:
                k = None if k is None else 0
                yield layer.projection, k
            if any(found == 0 for _, found in inner):
                k = 0
        elif isinstance(layer, Branches):
            inner = [pair for branch in layer.branches for pair in member_units(branch, k)]
            yield from inner
            if k is not None or any(found is not None for _, found in inner):
                k = 0
        elif k is not None and not _keeps_to_members(layer, k):
            k = 0
        yield layer, k


def _keeps_to_members(layer: Layer, k: int) -> bool:
    if type(layer) is Dropout and isinstance(layer.p, tuple):
        return len(layer.p) == k
    return type(layer) in _BY_UNIT or _is_elementwise(layer)


def _is_elementwise(layer: Layer) -> bool:
    return type(layer) is Activation and bool(layer.activation.is_primitive)


def shared_by_members(layer: Layer) -> tuple[str, ...]:
    """The names of the layer's parameters that members have in common."""
    if not isinstance(layer, BatchEnsemble):
        return ()
    return ("W", "b") if layer.bias == "shared" else ("W",)


def member_blocks(layers: Sequence[Layer]) -> dict[str, int]:
    """How many members have equal parts of a parameter, one behind the other in memory, by its name ("1.W")."""
    found = {}
    for layer, k in member_units(layers):
        for parameter in layer.parameters() if k else ():
            if parameter.name not in shared_by_members(layer):
                found[f"{layer.path}.{parameter.name}"] = int(k or 0)
    return found
