"""Networks as what a model file holds, and back.

Weights carry the names and shapes that `torch.nn.Sequential` gives the same network, so its `load_state_dict` takes
them: a Dense layer with an activation counts as two modules (Linear and the activation), BatchNorm is BatchNorm1d, and
a Dense layer of the "ntk" parametrization is a Linear whose weight `torch.nn.utils.parametrize` divides by √n_in. The
input's scale and shift and the centers are no weights: they stand in the architecture. PyTorch's network takes
input_scale·(X − input_center) + input_shift, subtracted in float64, and what it gives lacks output_center.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np

from .._checks import check_bool, check_bytes, check_choice
from .._types import DType
from .._warnings import warn
from ..backend import Ops, resolve_backend
from ..data import Signature
from ..files import (
    MODEL_NAME,
    BlockMatrix,
    ModelFile,
    ModelFileError,
    StorageError,
    Tensors,
    brief,
    check_noted,
    named_for,
    read_model,
    write_model,
)
from ..initializers import without_drawing
from ..placement import (
    MemoryLimitError,
    Storage,
    assign_array,
    holds_network,
    open_folder,
    resolve_storage,
    storage_errors,
)
from ._config import check_config
from ._finite import sound
from ._torch_names import LEARNED, Shape, torch_arrays, torch_shapes
from .sequential import Sequential


def save(model: Sequential, path: str | os.PathLike[str]) -> None:
    """Write `model` to `path`: beside it first, forced to the disk, then renamed over it.

    A crash at any moment leaves either the old file or the new one; a checksum finds damage that comes later. Raises
    OSError if the folder cannot be written, TypeError where `model.info` is something other than plain JSON data or a
    class of one's own is not registered, and ValueError where a weight is NaN or infinite, or a running variance
    negative, which `load` would refuse. A UserWarning says where a name promises files of another kind, as "net.h5"
    does.
    """
    kind = named_for(path)
    if kind is not None:
        warn(f"{misnamed('model.save', path, kind)} It is written nevertheless.")
    tensors = {name: sound(name, array, _refuse_to_save) for name, array in torch_state(model).items()}
    write_model(path, ModelFile(model.config(), tensors, model.info, model.signature.plain()))


def check_saveable(model: Sequential, path: str | os.PathLike[str], who: str) -> None:
    """What `save` would raise of the network's description, before there are weights that are worth saving.

    ValueError where the name promises files of another kind.
    """
    kind = named_for(path)
    if kind is not None:
        raise ValueError(misnamed(who, path, kind))
    check_noted(model.config(), model.info)


def misnamed(who: str, path: str | os.PathLike[str], kind: str) -> str:
    """What there is to say of a file's name that promises another kind of file."""
    path = Path(path)
    return (
        f"{who} writes a safetensors file, which {path.name} does not say: so are {kind} named. Write "
        f"{path.with_suffix('.safetensors').name}."
    )


def _refuse_to_save(fault: str) -> ValueError:
    return ValueError(f"model.save: {fault}. Nothing has been written; a network like this computes nothing of use.")


def load(
    path: str | os.PathLike[str],
    backend: str | Ops | None = None,
    precision: str | None = None,
    *,
    memory_limit: int | str | None = None,
    storage: str | os.PathLike[str] | Storage | None = None,
    verify: bool = False,
) -> Sequential:
    """The model that `save` wrote, on `backend` (None: the default), computing in `precision`.

    `precision` None is that of the saved model. A backend that lacks it computes in the dtype of the parameters, and a
    line in the log says so; a precision asked for by name is never replaced. `memory_limit` and `storage` are those of
    `Sequential`: weights that do not fit stream from the file to the host or to disk.

    Where `path` is the folder of a run, which `fcnn-gpu train --out` made, its model is loaded.

    Where it is the folder of a network whose weights lie on disk (`Sequential(storage=)`), that network is opened
    as it was after its last whole training step, and training goes on in its files. An optimizer of the same kind and
    settings (learning rate and clipping aside) then goes on with the moments and the step number that it left there.
    Any other leaves them alone until it trains. A folder in which nothing can be written is opened for prediction.

    The files of a folder must be those of one network and one step. `verify=True` reads all of their numbers and
    compares them with their sums; without, that is done to 4 MiB of each matrix, and to the rest row by row when it is
    read for the first time. Weights that are looked at so must be finite. A model file is always compared with its
    checksum.

    Raises FileNotFoundError, `ModelFileError` where the file is damaged or foreign, and `StorageError` where a folder
    is damaged, or in use by another process.
    """
    source = Path(path)
    check_bool("load(verify)", verify)
    with storage_errors(source):
        is_folder = source.is_dir()
        if is_folder and (source / MODEL_NAME).is_file() and not holds_network(source):
            source, is_folder = source / MODEL_NAME, False
    if is_folder:
        return _open_folder(source, backend, precision, memory_limit, storage, verify)
    if not source.exists():
        raise FileNotFoundError(f"There is no model file {source}.")
    if not source.is_file():
        raise ModelFileError(
            f"{source} is a pipe or a device, and a model file is read more than once. "
            "Save its content in a file first."
        )
    ops = resolve_backend(backend)
    if precision is not None:
        check_choice("load(precision)", precision, ops.precisions)
    check_bytes("load(memory_limit)", memory_limit)
    resolve_storage(storage)
    saved = read_model(source)
    config, tensors = saved.config, saved.tensors
    try:
        layers = check_config(config)
    except (TypeError, ValueError) as error:
        raise _not_buildable(source, error) from error
    told = torch_shapes(layers, config["n_in"])
    if told is not None:  # before anything is allocated
        _check_arrays(told[1], tensors, np.dtype(config["dtype"]), source)
    if precision is not None:
        config["precision"] = precision
    try:
        with without_drawing():  # all weights are about to be replaced
            model = Sequential.from_config(config, ops, memory_limit, storage)
    except MemoryLimitError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        if storage is not None:  # it may be what was asked for that cannot be had
            raise
        raise _not_buildable(source, error) from error
    _load_state(model, tensors, source)
    model.info = saved.info
    if not saved.signature:
        model.signature = _signature_of_info(saved.info, model)
        return model
    try:
        model.signature = Signature.of(saved.signature)
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"{source} has a signature that does not fit its network: {_short(error)}") from error
    return model


def _not_buildable(source: Path, error: Exception) -> ModelFileError:
    return ModelFileError(f"{source} describes an architecture that cannot be built: {_short(error)}")


def _short(error: Exception) -> str:
    """What an error says, on one line, where it may quote a whole file."""
    return brief(str(error), 500)[1:-1]


def _signature_of_info(info: dict[str, Any], model: Sequential) -> Signature:
    """What releases before signatures wrote into `model.info`; what does not fit the network is the user's own."""
    fitting: dict[str, Any] = {}
    for name in ("feature_names", "class_names"):
        with suppress(TypeError, ValueError):
            Signature.of({name: info.get(name)}).check(model.n_in, model.n_out)
            fitting[name] = info.get(name)
    return Signature.of(fitting)


def _open_folder(
    folder: Path, backend: str | Ops | None, precision: str | None, limit: Any, storage: Any, verify: bool
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
    check_bytes("load(memory_limit)", limit)
    opened = open_folder(folder, verify)
    try:
        config = dict(opened.record.data["config"])
        if precision is not None:
            config["precision"] = precision
        try:
            _refuse_impossible_size(config, opened.n_numbers)
            with without_drawing():  # the folder has all weights
                return Sequential.from_config(config, ops, limit, Storage(None, durable), opened)
        except (MemoryLimitError, StorageError):  # of the caller's limit, and of a file that is named
            raise
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise opened.fault(f"it describes a network that cannot be built ({error})") from error
    except BaseException:
        opened.lock.release()
        raise


def _refuse_impossible_size(config: dict[str, Any], n_stored: int) -> None:
    """A ValueError if the layers have more parameters than are stored: they must not be allocated first."""
    told = torch_shapes(check_config(config), config["n_in"])
    learned = {} if told is None else {n: shape for n, shape in told[1].items() if n.endswith(LEARNED)}
    needed = sum(map(math.prod, learned.values()))
    if needed > n_stored:
        raise ValueError(f"its layers have {needed:,} parameters, but {n_stored:,} numbers are stored.")


def torch_state(model: Sequential) -> dict[str, Any]:
    """Every parameter and running statistic under the name and in the shape that torch.nn.Sequential uses.

    Weights on the host or on disk are not brought into memory.
    """
    return {
        name: array if isinstance(array, BlockMatrix) else model.ops.to_numpy(array).reshape(shape)
        for name, array, shape in torch_arrays(model.layers)
    }


def _check_arrays(expected: Mapping[str, Shape], tensors: Tensors, dtype: DType, source: Path) -> None:
    """`ModelFileError` where the file does not hold the arrays of its architecture."""
    missing = [name for name in expected if name not in tensors]
    extra = sorted(tensors.keys() - expected.keys())
    if missing or extra:
        parts = [f"{len(missing)} missing ({missing[0]}, ...)"] if missing else []
        parts += [f"{len(extra)} unknown ({brief(extra[0])[1:-1]}, ...)"] if extra else []
        raise ModelFileError(f"{source} does not hold the arrays of its architecture: {'; '.join(parts)}.")
    for name, shape in expected.items():
        if tensors[name].shape != shape or tensors[name].dtype != dtype:
            raise ModelFileError(
                f"{source}: {name} is {tensors[name].dtype} {tensors[name].shape}, "
                f"its architecture says {dtype.name} {shape}."
            )


def _load_state(model: Sequential, tensors: Tensors, source: Path) -> None:
    arrays = torch_arrays(model.layers)
    _check_arrays({name: shape for name, _, shape in arrays}, tensors, model.dtype, source)
    with nullcontext() if model.stored is None else model.stored.as_one():
        for name, array, _ in arrays:
            tensor = sound(name, tensors[name], lambda fault: ModelFileError(f"{source}: {fault}."))
            values = tensor if isinstance(tensor, BlockMatrix) else tensor.reshape(array.shape)
            assign_array(model.ops, array, values)
