"""One network of several trained ones, its members."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .._types import Array
from ..backend import Ops
from ..data import Signature
from ..files import BlockMatrix
from ..initializers import without_drawing
from ..layers import Branches
from ._network import Network

_ALIKE = ("n_in", "n_predictions", "dtype", "precision", "link", "input_scale", "input_shift", "input_center")
_SIGNED_ALIKE = ("feature_names", "class_names", "target_names", "byte_scale", "preparation")


def join_members(models: Sequence[Any], make: Callable[[dict[str, Any], Any], Any], backend: str | Ops | None) -> Any:
    """A network of `Branches`, those of `models`, with copies of their weights; `make` builds it of a configuration.

    Its predictions are the mean of theirs. ValueError where the networks do not take the same inputs or do not give the
    same outputs, and where one has initial values that wait for samples.
    """
    _check(models)
    first = models[0]
    parts = [part for model in models for part in _members_of(model)]
    members = {part[0] for part in parts}
    if len(members) > 1:
        raise ValueError(
            f"join_members: the networks have {_listed(sorted(members))} members, and the mean over all of them would "
            "weigh a network by its members. Join networks of as many each."
        )
    config = first.config() | {"layers": [{"name": Branches.name, "branches": [layers for _, layers, _, _ in parts]}]}
    config |= {"frozen": [f"0.branches.{i}.{name}" for i, (*_, frozen) in enumerate(parts) for name in frozen]}
    config |= {"members": len(parts) * members.pop(), "output_center": _output_center(models)}
    with without_drawing():
        made = make(config, first.ops if backend is None else backend)
    whole = [(i, arrays) for i, (_, _, arrays, _) in enumerate(parts)]
    made.restore({f"0.branches.{i}.{name}": x for i, arrays in whole for name, x in arrays.items()})
    made.signature = _joined_signature([model.signature for model in models])
    infos = [model.info for model in models]
    made.info = {name: value for name, value in infos[0].items() if all(info.get(name) == value for info in infos)}
    return made


def _check(models: Sequence[Any]) -> None:
    if isinstance(models, Network) or not isinstance(models, Sequence):
        raise TypeError(f"join_members expects a list of networks, got {type(models).__name__}.")
    if not models:
        raise ValueError("join_members expects at least one network, got an empty list.")
    for i, model in enumerate(models):
        if not isinstance(model, Network):
            raise TypeError(
                f"join_members expects networks, got {type(model).__name__} (number {i}). Of an estimator it is model_."
            )
        if model.awaits_data:
            raise ValueError(
                f"join_members: network {i} has initial values that wait for samples. Train it, or call its initialize."
            )
        for of, names in ((lambda of: of, _ALIKE), (lambda of: of.signature, _SIGNED_ALIKE)):
            for name in names:
                ours, theirs = getattr(of(models[0]), name), getattr(of(model), name)
                if not _same(ours, theirs):
                    raise ValueError(f"join_members: {_difference(name, ours, theirs, i)}")


def _same(ours: Any, theirs: Any) -> bool:
    arrays = [isinstance(x, np.ndarray) for x in (ours, theirs)]
    return np.array_equal(ours, theirs) if all(arrays) else not any(arrays) and bool(ours == theirs)


def _difference(name: str, ours: Any, theirs: Any, i: int) -> str:
    shown = "" if name in ("input_center", "preparation") else f", {ours} and {theirs}"
    where = f"signature.{name}" if name in _SIGNED_ALIKE else name
    return (
        f"network 0 and network {i} differ in {where}{shown}. Members take the same X and give the same outputs: train "
        "them on inputs that are made in the same way."
    )


def _listed(numbers: list[int]) -> str:
    return " and ".join(map(str, numbers))


def _members_of(model: Any) -> Iterator[tuple[int, list[dict[str, Any]], dict[str, Array], list[str]]]:
    """What becomes a branch: how many members, the layers, the arrays, on the host, by name, and what is frozen.

    A network that has been joined gives its branches one by one.
    """
    layers = model.config()["layers"]
    arrays = {n: x if isinstance(x, BlockMatrix) else model.ops.to_numpy(x) for n, x in model.named_arrays().items()}
    if not is_joined(model):
        yield model.members, layers, arrays, model.frozen
        return
    for i, branch in enumerate(layers[0]["branches"]):
        prefix = f"0.branches.{i}."
        own = {n.removeprefix(prefix): x for n, x in arrays.items() if n.startswith(prefix)}
        yield 1, branch, own, [n.removeprefix(prefix) for n in model.frozen if n.startswith(prefix)]


def is_joined(model: Any) -> bool:
    """Whether each member of the network is a branch of its only layer."""
    only = model.layers[0]
    if len(model.layers) > 1 or not isinstance(only, Branches) or len(only.branches) != model.members:
        return False
    return all(branch[-1].n_out == model.n_predictions for branch in only.branches)


def _output_center(models: Sequence[Any]) -> list[float] | None:
    """The centers of all outputs, one behind the other; None where no network has one."""
    if all(model.output_center is None for model in models):
        return None
    centers = [np.zeros(model.n_out) if model.output_center is None else model.output_center for model in models]
    return np.concatenate(centers).tolist()


def _joined_signature(signatures: Sequence[Signature]) -> Signature:
    """The signature that all share, with the ranges of all, and a threshold where it is the same of all."""
    inputs = [signature.input_range for signature in signatures]
    targets = [signature.target_range for signature in signatures]
    known = [ends for ends in inputs if ends is not None]
    ranges = [of_each for of_each in targets if of_each is not None]
    thresholds = {signature.threshold for signature in signatures}
    return dataclasses.replace(
        signatures[0],
        threshold=thresholds.pop() if len(thresholds) == 1 else None,
        input_range=_widest(known) if len(known) == len(inputs) else None,
        target_range=([_widest(ends) for ends in zip(*ranges, strict=True)] if len(ranges) == len(targets) else None),
    )


def _widest(ends: Sequence[Sequence[float]]) -> tuple[float, float]:
    return min(low for low, _ in ends), max(high for _, high in ends)
