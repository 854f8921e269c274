"""Model files: an architecture, tensors by name and what their maker remembers, in one safetensors file.

Nothing in a file is ever executed. What is in a file becomes a network, and a network what is in a file, in
model/_save_and_load.py.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ._blocks import BlockMatrix
from ._foreign import kind_of_content
from ._json import read_json
from ._replacement import atomic_replacement, write_atomically
from ._tensor_file import LONGEST_HEADER, TensorFile, Tensors, checksum, write_tensors

MODEL_NAME = "model.safetensors"
"""What the model of a run is called in the run's folder."""
FORMAT = "fcnn_gpu"
VERSION = "1"
SCALED_VERSION = "2"
"""What a model with an input scale or shift is saved as: a release that does not know of them must not read it."""
SIGNED_VERSION = "3"
"""What a model with a signature, or a center of its inputs or outputs, is saved as: a release without these would take
columns by their places, and subtract nothing."""

PREPARED_VERSION = "4"
"""What a model that makes inputs of tables, or keeps its predictions in a range, is saved as."""
_VERSIONS = (VERSION, SCALED_VERSION, SIGNED_VERSION, PREPARED_VERSION)


class ModelFileError(ValueError):
    """A model file is damaged, incomplete, or was not written by fcnn_gpu; the message names the file and the fault."""


@dataclass
class ModelFile:
    """What a model file holds.

    Attributes:
        config: the architecture, as `Sequential.config` gives it.
        tensors: parameters and running statistics by name. Matrices larger than a block stay in the file.
        info: `model.info`.
        signature: what `model.signature` knows, as plain data.
    """

    config: dict[str, Any]
    tensors: Tensors
    info: dict[str, Any]
    signature: dict[str, Any]


def write_model(path: str | os.PathLike[str], model: ModelFile) -> None:
    """Make or replace the file at `path`: a crash at any moment leaves either the old file or the new one.

    A checksum finds damage that comes later. Tensors that are not in memory are gone through block by block. Raises
    OSError if the folder cannot be written, TypeError where `info` is something other than plain JSON data, and
    ValueError where it is longer than the format allows.
    """
    from safetensors.numpy import save as serialize

    metadata = {
        "format": FORMAT,
        "format_version": _version(model),
        "architecture": json.dumps(model.config, allow_nan=False),
        "info": _info_text(model.info),
    }
    if model.signature:
        metadata["signature"] = json.dumps(model.signature, allow_nan=False)
    _check_length(metadata)
    if any(isinstance(tensor, BlockMatrix) for tensor in model.tensors.values()):
        with atomic_replacement(path) as beside:
            write_tensors(beside, model.tensors, metadata)
        return
    arrays = {name: np.ascontiguousarray(tensor) for name, tensor in model.tensors.items()}
    metadata["crc32"] = checksum(metadata, arrays)
    write_atomically(path, serialize(arrays, metadata))


def check_noted(config: dict[str, Any], info: dict[str, Any]) -> None:
    """What `write_model` raises for these before it writes."""
    _check_length({"architecture": json.dumps(config, allow_nan=False), "info": _info_text(info)})


def _version(model: ModelFile) -> str:
    if model.signature.keys() & {"preparation", "target_range", "threshold"}:
        return PREPARED_VERSION
    if model.signature or model.config.keys() & {"input_center", "output_center"}:
        return SIGNED_VERSION
    scaled = model.config.get("input_scale", 1.0) != 1.0 or model.config.get("input_shift", 0.0) != 0.0
    return SCALED_VERSION if scaled else VERSION


def _info_text(info: dict[str, Any]) -> str:
    try:
        text = json.dumps(info, allow_nan=False)
        read_json(text)  # what could not be read again is refused while the model is still there
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"model.info must be plain JSON data (str, int, float, bool, list, dict): {error}.") from error
    if not isinstance(info, dict):
        raise TypeError(f"model.info must be a dict, got {type(info).__name__}.")
    return text


def _check_length(metadata: dict[str, str]) -> None:
    """A ValueError for a header that no reader of the format would take."""
    length = len(json.dumps(metadata))
    if length > LONGEST_HEADER:
        raise ValueError(
            f"The model's info and architecture take {length:,} bytes in a file, which holds up to "
            f"{LONGEST_HEADER:,}. Keep what is large beside the model."
        )


def read_model(source: Path) -> ModelFile:
    """What `write_model` wrote into the file `source`. `ModelFileError` where it is damaged or foreign."""
    try:
        file = TensorFile(source)
        _check_origin(file.metadata, source)
        described = file.described()
    except ModelFileError:
        raise
    except ValueError as error:
        foreign = kind_of_content(source)
        if foreign is not None:
            raise ModelFileError(
                f"{source} is no model of fcnn_gpu's: it is {foreign}. Expected a file that model.save, or fcnn-gpu "
                "train --out, has written."
            ) from error
        raise ModelFileError(f"{source} is damaged or no safetensors file: {error}.") from error
    tensors = file.read(described)
    if file.metadata.get("crc32") != checksum(file.metadata, tensors):
        raise ModelFileError(
            f"{source} is damaged: its content does not have the checksum that was saved with it. Restore a copy, or "
            "save the model anew."
        )
    info, signature = (_object(file.metadata, key, source) for key in ("info", "signature"))
    return ModelFile(_architecture(file.metadata, source), tensors, info, signature)


def _check_origin(metadata: dict[str, str], source: Path) -> None:
    if metadata.get("format") != FORMAT:
        raise ModelFileError(
            f"{source} is a safetensors file, but not one of fcnn_gpu's: its metadata has no architecture. "
            "Build the network with fcnn_gpu.Sequential and copy the weights into layer.W and layer.b."
        )
    if metadata.get("format_version") not in _VERSIONS:
        raise ModelFileError(
            f"{source} has format version {metadata.get('format_version')!r}; this fcnn_gpu reads versions {VERSION} "
            f"to {PREPARED_VERSION}. Install the release that wrote it, or a newer one."
        )


def _architecture(metadata: dict[str, str], source: Path) -> dict[str, Any]:
    try:
        config = read_json(metadata["architecture"])
    except KeyError:
        raise ModelFileError(f"{source} has no readable architecture in its metadata: there is none.") from None
    except ValueError as error:
        raise ModelFileError(f"{source} has no readable architecture in its metadata: {error}.") from error
    if not isinstance(config, dict) or not {"n_in", "layers", "dtype", "seed", "link"} <= config.keys():
        raise ModelFileError(f"{source} has an incomplete architecture in its metadata.")
    return config


_ARTICLES = {"info": "an", "signature": "a"}


def _object(metadata: dict[str, str], key: str, source: Path) -> dict[str, Any]:
    """The JSON object under a key; {} where there is none."""
    try:
        value = read_json(metadata.get(key, "{}"))
    except ValueError as error:
        raise ModelFileError(f"{source} has an unreadable {key} in its metadata: {error}.") from error
    if not isinstance(value, dict):
        raise ModelFileError(f"{source} has {_ARTICLES[key]} {key} in its metadata that is no JSON object.")
    return value
