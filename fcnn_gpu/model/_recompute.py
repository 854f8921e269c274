"""Layers run again in the backward pass, so that training keeps fewer of their outputs.

Source: Chen et al. (2016), "Training deep nets with sublinear memory cost", section 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from .._checks import check_integer
from .._types import Array
from ..backend import Ops, called, consists_of_primitives
from ..layers import BatchPart, Layer, backward_layer


def check_recompute(who: str, value: Any) -> bool | int:
    """Whether to recompute, or every how many layers to keep one."""
    return value if isinstance(value, bool) else check_integer(who, value, low=1)


def may_repeat(layer: Layer) -> bool:
    """Whether a second pass through the layer gives what the first has given, and changes nothing else.

    Not known of layers and activations that a user has written; and weights that are not on the device would be read
    twice.
    """
    inner = list(layer.walk())
    stored = any(parameter.stored is not None for part in inner for parameter in part.parameters())
    return not stored and consists_of_primitives(*inner, *(getattr(part, "activation", None) for part in inner))


@dataclass(frozen=True)
class Segment:
    """Layers start ... stop − 1. `recomputed`: their arrays give way to those of other segments, and are made again."""

    start: int
    stop: int
    recomputed: bool

    @property
    def layers(self) -> range:
        """The numbers of its layers."""
        return range(self.start, self.stop)


def one_segment(n_layers: int) -> list[Segment]:
    """One segment, of which everything is kept."""
    return [Segment(0, n_layers, False)]


def segments_of(may_repeat: Sequence[bool], every: int) -> list[Segment]:
    """Segments of up to `every` layers that may be run twice; the others are kept, alone or with their neighbours."""
    segments: list[Segment] = []
    for i, repeats in enumerate(may_repeat):
        last = segments[-1] if segments else None
        if last is not None and last.recomputed == repeats and (not repeats or i - last.start < every):
            segments[-1] = Segment(last.start, i + 1, repeats)
        else:
            segments.append(Segment(i, i + 1, repeats))
    return segments


def candidates(n_layers: int) -> list[int]:
    """Lengths of segments worth comparing: those about the square root of the number of layers, and all of them."""
    return [*range(1, min(n_layers, 4 * math.isqrt(n_layers) + 1)), n_layers]


class SegmentedPass:
    """A training pass forward and backward, segment by segment, over the arrays of one batch size.

    Forward, the output of each recomputed segment but the last is copied to a place of its own. Backward, a segment
    whose arrays another has taken is run forward again from its input. The same primitives on the same numbers give the
    same bits: masks of dropout are counted, and statistics do not move a second time (`BatchPart.again`).
    """

    def __init__(
        self,
        ops: Ops,
        layers: Sequence[Layer],
        caches: Sequence[SimpleNamespace],
        segments: Sequence[Segment],
        outputs: Sequence[Array | None],
        part: BatchPart,
    ) -> None:
        self._ops, self._layers, self._caches, self._part = ops, layers, caches, part
        self._segments, self._outputs = segments, outputs
        self._inputs: list[Array] = []
        self._present: Segment | None = None

    def forward(self, A: Array) -> Iterator[tuple[Layer, Array]]:
        """Each layer with its output, one after the other."""
        self._inputs = []
        for segment, kept in zip(self._segments, self._outputs, strict=True):
            self._inputs.append(A)
            for i in segment.layers:
                A = called(self._layers[i], self._layers[i].forward, A, self._caches[i], True)
                yield self._layers[i], A
            if segment.recomputed:
                self._present = segment
            if kept is not None:
                self._ops.assign(kept, A)
                A = kept

    def backward(self, gradient: Array, first: int, needs_input_gradient: bool) -> Array | None:
        """The chain rule from the gradient of the last output down to layer `first`; see `backward_layers`."""
        dA: Array | None = gradient
        for segment, A in zip(reversed(self._segments), reversed(self._inputs), strict=True):
            if segment.stop <= first:
                break
            if segment.recomputed and segment is not self._present:
                self._repeat(segment, A)
            for i in reversed(segment.layers):
                if i >= first:
                    needs = needs_input_gradient or i > first
                    dA = backward_layer(self._layers[i], dA, self._caches[i], needs)
        return dA if needs_input_gradient else None

    def _repeat(self, segment: Segment, A: Array) -> None:
        self._part.again = True
        try:
            for i in segment.layers:
                A = called(self._layers[i], self._layers[i].forward, A, self._caches[i], True)
        finally:
            self._part.again = False
        self._present = segment
