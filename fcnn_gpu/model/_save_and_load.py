"""Networks as what a model file holds, and back.

Weights carry the names and shapes that `torch.nn.Sequential` gives the same network, so its `load_state_dict` takes
them: a Dense layer with an activation counts as two modules (Linear and the activation), BatchNorm is BatchNorm1d. The
input's scale and shift and the centers are no weights: they stand in the architecture. PyTorch's network takes
input_scale·(X − input_center) + input_shift, subtracted in float64, and what it gives lacks output_center.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from .._checks import check_choice
from .._types import Array
from ..backend import Ops, resolve_backend
from ..data import Signature
from ..files import BlockMatrix, ModelFile, ModelFileError, Tensors, read_model, write_model
from ..layers import Dense, Layer, Residual
from ..placement import Storage, assign_array, open_folder
from .sequential import Sequential

_TORCH_NAMES = {"W": "weight", "b": "bias", "gamma": "weight", "beta": "bias"}


def save(model: Sequential, path: str | os.PathLike[str]) -> None:
    """Write `model` to `path`: beside it first, forced to the disk, then renamed over it.

    A crash at any moment leaves either the old file or the new one; a checksum finds damage that comes later. Raises
    OSError if the folder cannot be written, and TypeError where `model.info` is something other than plain JSON data.
    """
    write_model(path, ModelFile(model.config(), torch_state(model), model.info, model.signature.plain()))


def load(
    path: str | os.PathLike[str],
    backend: str | Ops | None = None,
    precision: str | None = None,
    *,
    memory_limit: int | str | None = None,
    storage: str | os.PathLike[str] | Storage | None = None,
) -> Sequential:
    """The model that `save` wrote, on `backend` (None: the default), computing in `precision`.

    `precision` None is that of the saved model. A backend that lacks it computes in the dtype of the parameters, and a
    line in the log says so; a precision asked for by name is never replaced. `memory_limit` and `storage` are those of
    `Sequential`: weights that do not fit stream from the file to the host or to disk.

    Where `path` is the folder of a network whose weights lie on disk (`Sequential(storage=)`), that network is opened
    as it was after its last whole training step, and training goes on in its files. An optimizer of the same kind and
    settings (learning rate and clipping aside) then goes on with the moments and the step number that it left there.

    Raises FileNotFoundError, `ModelFileError` where the file is damaged or foreign, and `StorageError` where a folder
    is damaged, or in use by another process.
    """
    source = Path(path)
    if source.is_dir():
        return _open_folder(source, backend, precision, memory_limit, storage)
    if not source.exists():
        raise FileNotFoundError(f"There is no model file {source}.")
    if not source.is_file():
        raise ModelFileError(
            f"{source} is a pipe or a device, and a model file is read more than once. "
            "Save its content in a file first."
        )
    ops = resolve_backend(backend)
    saved = read_model(source)
    config, tensors = saved.config, saved.tensors
    if precision is not None:
        check_choice("load(precision)", precision, ops.precisions)
        config["precision"] = precision
    try:
        _refuse_impossible_size(config, sum(tensor.size for tensor in tensors.values()))
        model = Sequential.from_config(config, ops, memory_limit, storage)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ModelFileError(f"{source} describes an architecture that cannot be built: {error}") from error
    _load_state(model, tensors, source)
    model.info = saved.info
    try:
        model.signature = Signature.of(saved.signature or _signature_of_info(saved.info))
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"{source} has a signature that does not fit its network: {error}") from error
    return model


def _signature_of_info(info: dict[str, Any]) -> dict[str, Any]:
    """What releases before signatures wrote into `model.info`."""
    return {name: info[name] for name in ("feature_names", "class_names") if info.get(name) is not None}


def _open_folder(
    folder: Path, backend: str | Ops | None, precision: str | None, limit: Any, storage: Any
) -> Sequential:
    """The network of a folder, at its last whole step."""
    durable = isinstance(storage, Storage) and storage.durable
    if storage is not None and not (isinstance(storage, Storage) and storage.folder is None):
        raise ValueError(
            f"load({str(folder)!r}) opens a network in its own folder; storage= names another. Leave it out. To train "
            "a copy, copy the folder first."
        )
    ops = resolve_backend(backend)
    if precision is not None:
        check_choice("load(precision)", precision, ops.precisions)
    opened = open_folder(folder)
    try:
        config = dict(opened.record.data["config"])
        if precision is not None:
            config["precision"] = precision
        return Sequential.from_config(config, ops, limit, Storage(None, durable), opened)
    except BaseException:
        opened.lock.release()
        raise


def _refuse_impossible_size(config: dict[str, Any], n_stored: int) -> None:
    """A ValueError if the layers have more parameters than the file holds: they must not be allocated first."""

    def n_weights(layers: list[dict[str, Any]], n_in: int) -> tuple[int, int]:
        total = 0
        for layer in layers:
            n_out = n_in
            if layer["name"] == "dense":
                n_out = layer["n_out"]
                total += n_in * n_out
            elif layer["name"] == "residual":
                inner, n_out = n_weights(layer["block"], n_in)
                total += inner
            elif layer["name"] in ("batch_norm", "layer_norm"):
                total += 2 * n_in
            n_in = n_out
        return total, n_in

    needed, _ = n_weights(config["layers"], config["n_in"])
    if needed > n_stored:
        raise ValueError(f"its layers have {needed:,} parameters, but the file holds {n_stored:,} numbers.")


def torch_state(model: Sequential) -> dict[str, Any]:
    """Every parameter and running statistic under the name and in the shape that torch.nn.Sequential uses.

    Weights on the host or on disk are not brought into memory.
    """
    return {
        name: array if isinstance(array, BlockMatrix) else model.ops.to_numpy(array).reshape(shape)
        for name, array, shape in _torch_arrays(model.layers)
    }


def _torch_arrays(layers: Sequence[Layer], prefix: str = "") -> list[tuple[str, Array, tuple[int, ...]]]:
    """(name, live array, shape in the file) for a stack of layers."""
    found: list[tuple[str, Array, tuple[int, ...]]] = []
    module = 0
    for layer in layers:
        here = f"{prefix}{module}."
        for p in layer.parameters():
            shape = p.value.shape if p.is_weight else (p.value.shape[0],)
            found.append((here + _TORCH_NAMES[p.name], p.value, shape))
        for name, array in layer.state().items():
            found.append((here + name, array, (array.shape[0],)))
        if isinstance(layer, Residual):
            found += _torch_arrays(layer.block, f"{here}block.")
            if layer.projection is not None:
                found.append((f"{here}projection.weight", layer.projection.W, layer.projection.W.shape))
        module += 2 if isinstance(layer, Dense) and layer.activation.name != "identity" else 1
    return found


def _load_state(model: Sequential, tensors: Tensors, source: Path) -> None:
    expected = _torch_arrays(model.layers)
    missing = [name for name, _, _ in expected if name not in tensors]
    extra = sorted(set(tensors) - {name for name, _, _ in expected})
    if missing or extra:
        parts = [f"{len(missing)} missing ({missing[0]}, ...)"] if missing else []
        parts += [f"{len(extra)} unknown ({extra[0]}, ...)"] if extra else []
        raise ModelFileError(f"{source} does not hold the arrays of its architecture: {'; '.join(parts)}.")
    for name, _, shape in expected:
        if tensors[name].shape != shape or tensors[name].dtype != model.dtype:
            raise ModelFileError(
                f"{source}: {name} is {tensors[name].dtype} {tensors[name].shape}, "
                f"its architecture says {model.dtype.name} {shape}."
            )
    with nullcontext() if model.stored is None else model.stored.as_one():
        for name, array, _ in expected:
            tensor = tensors[name]
            values = tensor if isinstance(tensor, BlockMatrix) else tensor.reshape(array.shape)
            assign_array(model.ops, array, values)
