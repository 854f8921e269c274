"""All parameters of a network in one buffer, and all gradients in another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..backend import FlatParameters, Ops, Segment
from ..initializers import initial_values
from ..layers import Parameter
from ._precision import Precision


def make_flat(parameters: Sequence[Parameter], ops: Ops, precision: Precision) -> FlatParameters:
    """One buffer for all values and one for all gradients, weights first; parameters become views of them.

    Weights on the host or on disk are not among them. In 16-bit precision the weights have a copy, which holds nothing
    of use until they are rounded into it.
    """
    ordered = sorted((p for p in parameters if p.stored is None), key=lambda p: not p.is_weight)
    size = sum(p.initial.size for p in ordered)
    host = np.concatenate([p.initial.T.reshape(-1) for p in ordered] or [np.zeros(0)])
    values, gradients = ops.empty(size, precision.dtype), ops.zeros(size, precision.dtype)
    ops.assign(values, initial_values(host, precision.dtype))
    low = None
    if precision.mixed:
        low = ops.empty(sum(p.initial.size for p in ordered if p.is_weight), precision.compute_dtype)
    segments: list[Segment] = []
    start = 0
    for parameter in ordered:
        shape, stop = parameter.initial.shape, start + parameter.initial.size
        parameter.value = values[start:stop].reshape(shape[::-1]).T
        parameter.gradient = gradients[start:stop].reshape(shape[::-1]).T
        parameter.compute = parameter.value
        if low is not None and parameter.is_weight:
            parameter.compute = low[start:stop].reshape(shape[::-1]).T
        parameter.initial = np.broadcast_to(np.float64(0), shape)  # the values live in the flat buffer now
        segment = Segment(start, stop, parameter.l1, parameter.l2, parameter.is_weight)
        if segments and _same_treatment(segments[-1], segment):
            segments[-1] = Segment(segments[-1].start, stop, segment.l1, segment.l2, segment.decays)
        else:
            segments.append(segment)
        start = stop
    return FlatParameters(values, gradients, tuple(segments), low)


def _same_treatment(a: Segment, b: Segment) -> bool:
    return (a.l1, a.l2, a.decays) == (b.l1, b.l2, b.decays)
