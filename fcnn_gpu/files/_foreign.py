"""Model files of other programs: by the ending of a name, and by the bytes that a file begins with."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

_KERAS, _TORCH, _PICKLE = "Keras's models", "PyTorch's files", "pickles"
_ENDINGS = {".h5": _KERAS, ".hdf5": _KERAS, ".keras": _KERAS, ".pt": _TORCH, ".pth": _TORCH}
_ENDINGS |= {".pkl": _PICKLE, ".pickle": _PICKLE, ".joblib": "joblib's pickles", ".onnx": "ONNX models"}
_ENDINGS |= {".pb": "TensorFlow's models", ".tflite": "TensorFlow Lite's models", ".gguf": "GGUF models"}
_ENDINGS |= {".npz": "NumPy's archives", ".npy": "NumPy's arrays"}
_BEGINNINGS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as older Keras models are",
    b"PK\x03\x04": "a zip archive, as models of PyTorch and Keras and NumPy's .npz are",
    b"\x93NUMPY": "an array of NumPy's",
    b"PAR1": "a Parquet file, which holds a table",
    b"GGUF": "a GGUF model",
}
_PICKLED = b"\x80"
"""Behind it come the protocol's number and an instruction; the length of a header has a 0 there."""
_ENOUGH = 512


def named_for(path: str | os.PathLike[str]) -> str | None:
    """Whose files have names that end like this one, where they are no safetensors files.

    >>> named_for("net.h5"), named_for("net.safetensors"), named_for("net")
    ("Keras's models", None, None)
    """
    return _ENDINGS.get(Path(path).suffix.lower())


def kind_of_content(path: Path) -> str | None:
    """What a file that is no safetensors file is, by its first bytes; None where they do not tell."""
    with open(path, "rb") as file:
        start = file.read(_ENOUGH)
    for beginning, kind in _BEGINNINGS.items():
        if start.startswith(beginning):
            return kind
    if start[:1] == _PICKLED and start[1:2] in (b"\2", b"\3", b"\4", b"\5") and start[2:3] > b"\0":
        return "a pickle"
    return "text, as tables and programs are" if _is_text(start) else None


def _is_text(start: bytes) -> bool:
    """Whether the first bytes of a file are UTF-8 without control characters; the last character may be cut."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return len(start) >= 8 and all(character.isprintable() or character in "\t\r\n" for character in text)
