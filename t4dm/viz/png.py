"""Small pictures as data: a matrix of numbers between 0 and 1 as the opacity of pixels."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY_WITH_ALPHA = 4


def opacity_png(levels: NDArray[Any]) -> bytes:
    """A white PNG whose opacity is `levels` `[rows, columns]`, 0 to 1 in 256 steps (PNG 1.2, colour type 4).

    White with opacity is a mask: what lies under it takes the page's colours, light or dark.
    """
    alpha = np.clip(np.rint(255 * np.nan_to_num(np.asarray(levels, dtype=np.float64))), 0, 255)
    rows, columns = alpha.shape
    pixels = np.full((rows, columns, 2), 255, dtype=np.uint8)
    pixels[..., 1] = alpha
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), pixels.reshape(rows, -1)], axis=1)
    head = struct.pack(">IIBBBBB", columns, rows, 8, GREY_WITH_ALPHA, 0, 0, 0)
    return b"".join(
        [
            SIGNATURE,
            _chunk(b"IHDR", head),
            _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)),
            _chunk(b"IEND", b""),
        ]
    )


def data_uri(png: bytes) -> str:
    """The picture inside of a page."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
