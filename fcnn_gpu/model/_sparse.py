"""Which networks take sparse X."""

from __future__ import annotations

from collections.abc import Sequence

from ..data import InputMap
from ..layers import Dense, Layer


def why_not_sparse(layers: Sequence[Layer], inputs: InputMap, has_center: bool) -> str | None:
    """What keeps a network of these layers from taking sparse X, and what to do, as the end of a sentence; or None."""
    first = layers[0]
    dense = "Pass X.toarray() where it has room"
    if type(first) is not Dense:
        return f"the network begins with {first}: of all layers Dense alone takes it. {dense}, or begin with Dense."
    if first.weights.stored is not None:
        return (
            f"the weights of the first layer, {first}, lie on the host or on disk. {dense}, or keep them on the "
            "device: Dense(..., placement='device')."
        )
    if has_center or inputs.shift != 0.0:
        what = "input_center" if has_center else "input_shift"
        return (
            f"{what} would make numbers other than 0 of all that it leaves out. {dense}, or leave {what} out: "
            "input_scale keeps X sparse, and so does sklearn.preprocessing.MaxAbsScaler."
        )
    return None
