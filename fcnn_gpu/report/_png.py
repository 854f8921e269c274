"""Images of few pixels, as data within a page."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from .._types import HostArray


def data_uri(pixels: HostArray) -> str:
    """A grey image (height, width), its smallest number black and its largest white, as a PNG in a data URI.

    The file has three chunks: IHDR (8 bits, grey), IDAT (each row after a byte 0, compressed) and IEND. Source: the PNG
    specification (ISO/IEC 15948).
    """
    low, high = float(pixels.min()), float(pixels.max())
    grey = np.round((pixels - low) * (255 / ((high - low) or 1.0))).astype(np.uint8)
    height, width = grey.shape
    rows = np.hstack([np.zeros((height, 1), np.uint8), grey]).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    file = (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND", b"")
    )
    return f"data:image/png;base64,{base64.b64encode(file).decode()}"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
