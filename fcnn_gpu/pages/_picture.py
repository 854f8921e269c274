"""Pictures of few pixels, as data within a page."""

from __future__ import annotations

import base64
import struct
import zlib
from html import escape

import numpy as np

from .._types import HostArray

_GREY, _RGBA = 0, 6
_PLUS, _MINUS = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)  # Okabe & Ito's palette, as the style sheet's --c0 and --c1


def picture(pixels: HostArray, label: str, caption: str = "", signed: bool = False) -> str:
    """A figure of the numbers (height, width), with a label for who does not see it and a caption, which is HTML.

    The smallest is black and the largest white. Of signed ones those above 0 are blue and those below orange, the
    clearer the nearer to 0.
    """
    source = data_uri(np.asarray(pixels, np.float64), signed)
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure class="picture"><img src="{source}" alt="{escape(label)}"/>{below}</figure>'


def data_uri(pixels: HostArray, signed: bool = False) -> str:
    """The image as a PNG in a data URI: grey, or of signed numbers in two colours whose opacity is |x|/max |x|.

    The file has three chunks: IHDR (8 bits, grey or RGBA), IDAT (each row after a byte 0, compressed) and IEND. Source:
    the PNG specification (ISO/IEC 15948).
    """
    height, width = pixels.shape
    if signed:
        alpha = np.round(np.abs(pixels) * (255 / (float(np.abs(pixels).max()) or 1.0)))
        colours = np.where((pixels < 0)[:, :, None], np.array(_MINUS), np.array(_PLUS))
        samples = np.concatenate([colours, alpha[:, :, None]], axis=2).reshape(height, width * 4)
    else:
        low, high = float(pixels.min()), float(pixels.max())
        samples = np.round((pixels - low) * (255 / ((high - low) or 1.0)))
    rows = np.hstack([np.zeros((height, 1), np.uint8), samples.astype(np.uint8)]).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, _RGBA if signed else _GREY, 0, 0, 0)
    file = (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND", b"")
    )
    return f"data:image/png;base64,{base64.b64encode(file).decode()}"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
