"""All parameters of a network in one buffer, and all gradients in another."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np

from ..backend import FlatParameters, LimitedRows, Ops, Segment, WeightMatrix, joined
from ..initializers import initial_values
from ..layers import Parameter
from ._precision import Precision


def make_flat(
    parameters: Mapping[str, Parameter],
    ops: Ops,
    precision: Precision,
    members: Mapping[str, int],
    hidden: Collection[str],
) -> FlatParameters:
    """One buffer for all values and one for all gradients, weights first; parameters, by name, become views of them.

    `members`: of which of them how many members of an ensemble have equal parts. `hidden`: the weights between others.

    Weights on the host or on disk are not among them. In 16-bit precision the weights have a copy, which holds nothing
    of use until they are rounded into it.
    """
    matrices = dict(_matrices(parameters, members, hidden))
    resident = {name: p for name, p in parameters.items() if p.stored is None}
    named = dict(sorted(resident.items(), key=lambda item: not item[1].is_weight))
    ordered = list(named.values())
    size = sum(p.initial.size for p in ordered)
    host = np.concatenate([p.initial.T.reshape(-1) for p in ordered] or [np.zeros(0)])
    values, gradients = ops.empty(size, precision.dtype), ops.zeros(size, precision.dtype)
    ops.assign(values, initial_values(host, precision.dtype))
    low = None
    if precision.mixed:
        low = ops.empty(sum(p.initial.size for p in ordered if p.is_weight), precision.compute_dtype)
    places: dict[str, slice] = {}
    start = 0
    for name, parameter in named.items():
        shape, stop = parameter.initial.shape, start + parameter.initial.size
        parameter.value = values[start:stop].reshape(shape[::-1]).T
        parameter.gradient = gradients[start:stop].reshape(shape[::-1]).T
        parameter.compute = parameter.value
        if low is not None and parameter.is_weight:
            parameter.compute = low[start:stop].reshape(shape[::-1]).T
        parameter.initial = np.broadcast_to(np.float64(0), shape)  # the values live in the flat buffer now
        places[name] = slice(start, stop)
        start = stop
    segments, limited = joined(segments_of(named, places)), limited_rows(named, places)
    return FlatParameters(values, gradients, segments, low, places, members, matrices, limited)


def _matrices(
    parameters: Mapping[str, Parameter], members: Mapping[str, int], hidden: Collection[str]
) -> Iterator[tuple[str, WeightMatrix]]:
    for name, parameter in parameters.items():
        if parameter.is_weight:
            (n_out, n_in), k = parameter.initial.shape, members.get(name, 1)
            yield name, WeightMatrix(n_out, n_in // k, k, name in hidden)


def segments_of(parameters: Mapping[str, Parameter], places: Mapping[str, slice]) -> Iterator[Segment]:
    """How each parameter is treated, in the order of the buffer. One that is frozen has no penalty."""
    for name, place in places.items():
        parameter = parameters[name]
        frozen, decay = parameter.frozen, float(parameter.is_weight)
        l1, l2 = (0.0, 0.0) if frozen else (parameter.l1, parameter.l2)
        yield Segment(place.start, place.stop, l1, l2, decay, frozen=frozen)


def limited_rows(parameters: Mapping[str, Parameter], places: Mapping[str, slice]) -> tuple[LimitedRows, ...]:
    """The weights that learn within limits."""
    learning = ((places[name], parameter) for name, parameter in parameters.items() if not parameter.frozen)
    return tuple(LimitedRows(place, p.initial.shape[0], p.limits) for place, p in learning if p.limits is not None)
