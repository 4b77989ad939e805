"""Ids of one length as the bytes of a segment, for writes that find thousands of items by a filter.

The log needs the bytes and nobody the strings, so they are made for whoever asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, final, overload

import msgpack
import numpy as np
from numpy.typing import NDArray


@final
class PackedIds(Sequence[str]):
    """Strings of equal length. octets [n, size] uint8: their UTF-8."""

    __slots__ = ("octets",)

    def __init__(self, octets: NDArray[np.uint8]) -> None:
        self.octets = octets

    def __len__(self) -> int:
        return len(self.octets)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: Any) -> Any:
        return list(PackedIds(self.octets[place])) if isinstance(place, slice) else _text(self.octets[place])

    def __iter__(self) -> Iterator[str]:
        return map(_text, self.octets)

    def packed(self) -> bytes:
        """What msgpack makes of the list of strings."""
        rows, size = self.octets.shape
        head = np.frombuffer(msgpack.packb(" " * size)[: -size or None], np.uint8)
        whole = np.empty((rows, len(head) + size), np.uint8)
        whole[:, : len(head)], whole[:, len(head) :] = head, self.octets
        return array_head(rows) + whole.tobytes()


def array_head(count: int) -> bytes:
    """How msgpack begins a list of `count` entries."""
    head: bytes = msgpack.Packer().pack_array_header(count)
    return head


def _text(octets: NDArray[np.uint8]) -> str:
    return octets.tobytes().decode()
