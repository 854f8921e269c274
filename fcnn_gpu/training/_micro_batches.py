"""A batch in several parts: gradients of the whole from forward and backward passes over one part after the other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from .._types import Array
from ..backend import consists_of_primitives
from ..layers import BatchNorm, Layer
from ..model import Sequential


def parts_of(batch: int, size: int) -> list[tuple[int, int]]:
    """(first sample, samples) of each part of a batch, of at most `size` samples each; the last may be smaller."""
    return [(first, min(size, batch - first)) for first in range(0, batch, size)]


def why_whole(model: Sequential) -> str | None:
    """Why batches of this model cannot be split without another result, or None if they can."""
    for layer in model.walk():
        if layer.mixes_samples and not (isinstance(layer, BatchNorm) and layer.is_frozen):
            return (
                f"layer {layer.path}, {layer}, takes its statistics over all samples of a batch, and smaller batches "
                "have others"
            )
    return None


def check_split(model: Sequential, batch: int, size: int | None, who: str) -> None:
    """ValueError if to compute on `size` samples of a batch at a time would change the result."""
    reason = why_whole(model)
    if size is not None and size < batch and reason is not None:
        raise ValueError(
            f"{who}(micro_batch_size={size}) would change the result of batches of {batch}: {reason}. "
            f"Leave micro_batch_size out, use batch_size={size}, or LayerNorm in its place."
        )


class GradientSums:
    """Sums of gradients over the parts of a batch, in `model.flat.gradients` after the last of them.

    The weights of this package's layers are summed where they are: their products add to what is there already
    (`Layer.accumulated`). Every pass overwrites all other gradients: biases, normalization parameters, and those of
    layers that users have written. These are summed in a buffer of their size.
    """

    def __init__(self, model: Sequential) -> None:
        flat = model.flat
        self._ops, self._gradients = model.ops, flat.gradients
        for layer in model.layers:
            _let_accumulate(layer, True)
        self._stretches = list(_overwritten(model))
        size = sum(stop - start for start, stop in self._stretches)
        self._sums = model.ops.empty(size, flat.gradients.dtype)

    def add(self, is_first: bool, is_last: bool) -> None:
        """The backward pass over a part is done; of several, the first and the last are different parts."""
        if is_first and is_last:
            return
        for gradient, sums in self._pairs():
            if is_first:
                self._ops.assign(sums, gradient)
            else:
                self._ops.add(sums, gradient, gradient if is_last else sums)

    def _pairs(self) -> Iterator[tuple[Array, Array]]:
        at = 0
        for start, stop in self._stretches:
            yield self._gradients[start:stop], self._sums[at : at + stop - start]
            at += stop - start


def _let_accumulate(layer: Layer, known: bool) -> None:
    """Mark the parameters whose layers add to gradients by themselves: this package's, within layers of this package.

    A layer that a user has written may call the backward pass of one of ours, and go on with its gradients as those of
    a single pass.
    """
    known = known and consists_of_primitives(layer)
    accumulated = layer.accumulated() if known else []
    for parameter in layer.parameters():
        parameter.accumulates = any(parameter is other for other in accumulated)
    for inner in layer.sublayers():
        _let_accumulate(inner, known)


def _overwritten(model: Sequential) -> Iterator[tuple[int, int]]:
    """Stretches (start, stop) of the flat gradients of parameters whose layers do not add to them."""
    resident = [parameter for parameter in model.parameters if parameter.stored is None]
    ordered = sorted(resident, key=lambda p: not p.is_weight)  # as in the flat buffer
    places = [0]
    for parameter in ordered:
        places.append(places[-1] + parameter.value.size)
    begun: int | None = None
    for parameter, (start, stop) in zip(ordered, pairwise(places), strict=True):
        if parameter.accumulates:
            if begun is not None:
                yield begun, start
            begun = None
        elif begun is None:
            begun = start
        last = stop
    if begun is not None:
        yield begun, last
