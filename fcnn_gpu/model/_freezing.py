"""Parameters that do not learn: which are meant, and what changes where they are frozen or set free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from ..backend import FlatParameters, joined
from ..layers import Layer, Parameter
from ._flat import limited_rows, segments_of


def named_by(who: str, given: Sequence[Any], layers: Iterable[Layer], names: Sequence[str]) -> list[str]:
    """Those of `names` that patterns and layers stand for; a layer for its own parameters and all inside it.

    TypeError for what is neither a pattern nor a layer, ValueError for one that stands for no parameter of the network.
    """
    if not given:
        raise TypeError(f'{who} expects layers or patterns of parameter names, such as "0.*"; "*" is all of them.')
    known, found = {id(layer): layer for layer in layers}, set[str]()
    for one in given:
        if isinstance(one, Layer) and id(one) not in known:
            raise ValueError(f"{who}: {one} is no layer of this network. Take one of model.layers, or of model.walk().")
        if not isinstance(one, Layer | str):
            raise TypeError(f'{who} expects layers or patterns of parameter names, such as "0.*", got {one!r}.')
        pattern = f"{one.path}.*" if isinstance(one, Layer) else one
        meant = [name for name in names if fnmatchcase(name, pattern)]
        if not meant:
            raise ValueError(
                f"{who}: {one!r} stands for no parameter of the network. Its parameters: {', '.join(names)}. "
                '"*" stands for any characters: "*.b" are all biases, "0.*" is the first layer.'
            )
        found.update(meant)
    return [name for name in names if name in found]


def set_frozen(
    frozen: bool,
    names: Iterable[str],
    parameters: Mapping[str, Parameter],
    layers: Iterable[Layer],
    flat: FlatParameters,
) -> None:
    """Freeze the parameters of these names, or set them free, and let their layers and the flat buffers know.

    Gradients of frozen ones are 0 from now on.
    """
    for name in names:
        parameter = parameters[name]
        parameter.frozen = frozen
        if parameter.stored is not None:
            parameter.stored.frozen = frozen
    resident = {name: parameter for name, parameter in parameters.items() if parameter.stored is None}
    flat.divide(joined(segments_of(resident, flat.places)), limited_rows(resident, flat.places))
    for layer in layers:
        layer.note_frozen()
