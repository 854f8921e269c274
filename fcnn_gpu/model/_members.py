"""A network of some of the members of an ensemble."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .._checks import check_integer
from .._types import HostArray
from ..files import BlockMatrix
from ..initializers import without_drawing
from ..layers import Branches, DenseEnsemble, Dropout, Layer, member_units, shared_by_members
from ..placement import assign_array
from ._join import is_joined


def select_members(model: Any, members: Sequence[int]) -> Any:
    """A network of these members of `model`, a `Sequential`, by number from 0, with copies of their weights.

    It is on the same device. Its predictions are the mean of theirs. What stands in front of `Members` is copied as it
    is. ValueError for a network without members, for numbers that it does not have, and where a layer mixes members.
    """
    inside: dict[int, int | None] = {}
    if is_joined(model):
        n_members, (branches,) = model.members, model.layers
        chosen = _checked(members, n_members)
        kept = [branches, *(inner for g in chosen for layer in branches.branches[g] for inner in layer.walk())]
        inside = dict.fromkeys(map(id, kept))
        (plain,) = model.config()["layers"]
        layers = [plain | {"branches": [plain["branches"][g] for g in chosen]}]
    else:
        units = list(member_units(model.layers))
        _refuse_mixing(next((layer for layer, k in units if k == 0), None))
        inside = {id(layer): k for layer, k in units}
        counts = {k for k in inside.values() if k is not None}
        if len(counts) != 1:
            raise ValueError(
                "select_members expects a network whose layers are those of an ensemble from Members on, or one of "
                f"join_members whose networks were single, got {model.layers!r}."
            )
        (n_members,) = counts
        chosen, kept = _checked(members, n_members), list(model.walk())
        layers = [_shrunk(layer, n_members, chosen) for layer in model.config()["layers"]]
    config = model.config() | {"layers": layers}
    config.pop("frozen", None)  # names may change
    if model.output_center is not None:
        config["output_center"] = model.output_center.reshape(n_members, -1)[chosen].reshape(-1)
    if model.members > 1:
        config["members"] = len(chosen)
    with without_drawing():
        made = type(model).from_config(config, model.ops)
    frozen: list[str] = []
    for old, new in zip(kept, made.walk(), strict=True):
        frozen += [f"{new.path}.{p.name}" for p in old.parameters() if p.frozen]
        k = inside[id(old)]
        arrays = [(p.name, p.value, q.value) for p, q in zip(old.parameters(), new.parameters(), strict=True)]
        arrays += [(name, x, new.state()[name]) for name, x in old.state().items()]
        for name, x, out in arrays:
            if isinstance(x, BlockMatrix):
                assign_array(made.ops, out, x)
                continue
            whole = model.ops.to_numpy(x)
            if k is not None and name not in shared_by_members(old):
                whole = _part(old, name, whole, k, chosen)
            assign_array(made.ops, out, whole)
    if frozen:
        made.freeze(*frozen)
    made.info, made.signature = dict(model.info), model.signature
    return made


def _refuse_mixing(layer: Layer | None) -> None:
    if isinstance(layer, Branches):
        raise ValueError(f"select_members: the members of {layer} are not those of a network from Members on.")
    if layer is not None:
        raise ValueError(f"select_members: {layer} (layer {layer.path}) mixes the units of several members.")


def _checked(members: Sequence[int], k: int) -> list[int]:
    if not isinstance(members, Iterable):
        raise TypeError(f"select_members expects a list of numbers, got {members!r}. Write [{members!r}].")
    chosen = [check_integer("select_members(members): each", g, low=0) for g in members]
    beyond = next((g for g in chosen if g >= k), None)
    if beyond is not None:
        raise ValueError(f"select_members: there is no member {beyond}; the network has {k}, from 0 to {k - 1}.")
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"select_members expects at least one member, each of them once, got {members!r}.")
    return chosen


def _shrunk(layer: dict[str, Any], k: int, chosen: list[int]) -> dict[str, Any]:
    """A layer's configuration with these of k members."""
    changed = dict(layer)
    if "members" in changed:
        changed["members"] = len(chosen)
    if "block" in changed:
        changed["block"] = [_shrunk(inner, k, chosen) for inner in changed["block"]]
    if changed["name"] == Dropout.name and isinstance(changed["p"], list) and len(changed["p"]) == k:
        changed["p"] = [changed["p"][g] for g in chosen]
    return changed


def _part(layer: Layer, name: str, whole: HostArray, k: int, chosen: list[int]) -> HostArray:
    """The chosen members' part of an array of the layer's."""
    if isinstance(layer, DenseEnsemble) and name == "W":
        return np.ascontiguousarray(whole.reshape(len(whole), k, -1)[:, chosen].reshape(len(whole), -1))
    return np.ascontiguousarray(whole.reshape(k, -1)[chosen].reshape(-1, 1))
