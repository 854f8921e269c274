"""Arrays under the names and in the shapes that `torch.nn.Sequential` gives the same network: those of a model file.

A Dense layer with an activation counts as two modules (Linear and the activation), and so do those of ensembles,
which PyTorch has no module for; BatchNorm is BatchNorm1d. Weights of
the "ntk" parametrization have the name that `torch.nn.utils.parametrize` gives what a weight is computed from: a plain
Linear, which would leave the factor 1/√n_in out, does not take them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from .._types import Array
from ..layers import BatchEnsemble, Branches, Dense, DenseEnsemble, Layer, Residual, Scale

Shape: TypeAlias = tuple[int, ...]

_TORCH_NAMES = {
    "W": "weight",
    "b": "bias",
    "gamma": "weight",
    "beta": "bias",
    "alpha": "weight",
    "E": "weight",
}
LEARNED = ("weight", "bias", "original", ".r", ".s")
"""How the names of learned arrays end."""


def _torch_name(layer: Layer, name: str) -> str:
    if name == "W" and isinstance(layer, Dense) and layer.parametrization != "standard":
        return "parametrizations.weight.original"
    if isinstance(layer, Scale):
        return "weight"
    return _TORCH_NAMES.get(name, name)


def _numbered(layers: Sequence[Layer], prefix: str) -> Iterator[tuple[str, Layer]]:
    """Each layer with what the names of its arrays begin with."""
    module = 0
    for layer in layers:
        yield f"{prefix}{module}.", layer
        module += (
            2 if isinstance(layer, Dense | DenseEnsemble | BatchEnsemble) and layer.activation.name != "identity" else 1
        )


def torch_arrays(layers: Sequence[Layer], prefix: str = "") -> list[tuple[str, Array, Shape]]:
    """(name, live array, shape in the file) for a stack of layers."""
    found: list[tuple[str, Array, Shape]] = []
    for here, layer in _numbered(layers, prefix):
        for p in layer.parameters():
            shape = layer.shape_in_file(p.name, p.value.shape)
            found.append((here + _torch_name(layer, p.name), p.value, shape))
        for name, array in layer.state().items():
            found.append((here + name, array, (array.shape[0],)))
        if isinstance(layer, Residual):
            found += torch_arrays(layer.block, f"{here}block.")
            if layer.projection is not None:
                found.append((f"{here}projection.weight", layer.projection.W, layer.projection.W.shape))
        elif isinstance(layer, Branches):
            for i, branch in enumerate(layer.branches):
                found += torch_arrays(branch, f"{here}branches.{i}.")
    return found


def torch_shapes(layers: Sequence[Layer], n_in: int, prefix: str = "") -> tuple[int, dict[str, Shape]] | None:
    """(n_out, shapes by name) of what `torch_arrays` gives once the layers are built. Nothing is allocated.

    None where a layer of a user's is among them that tells only then.
    """
    found: dict[str, Shape] = {}
    for here, layer in _numbered(layers, prefix):
        if type(layer) is Residual:
            block = torch_shapes(layer.block, n_in, f"{here}block.")
            if block is None:
                return None
            n_out = block[0]
            found |= block[1]
            if n_out != n_in:
                found[f"{here}projection.weight"] = (n_out, n_in)
        elif type(layer) is Branches:
            n_out = 0
            for i, inner in enumerate(layer.branches):
                branch = torch_shapes(inner, n_in, f"{here}branches.{i}.")
                if branch is None:
                    return None
                n_out += branch[0]
                found |= branch[1]
        elif _tells(layer):
            n_out, arrays = layer.shapes(n_in)
            for name, shape in arrays.items():
                found[here + _torch_name(layer, name)] = layer.shape_in_file(name, shape)
        else:
            return None
        n_in = n_out
    return n_in, found


def _tells(layer: Layer) -> bool:
    """Whether `shapes` speaks of what the layer builds: a subclass may build other things and not say so."""

    def depth(method: str) -> int:
        return next(i for i, cls in enumerate(type(layer).__mro__) if method in vars(cls))

    return depth("shapes") <= min(map(depth, ("_build", "parameters", "state")))
