"""Documents packed into windows of T tokens: nothing lost or reordered, only the last window padded.

Documents are laid end to end and cut every T tokens. A document that crosses a cut goes on in the next
window. The first token of each document carries a reset, which zeroes recurrent state, and no label,
because the token before it belongs to another document.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from t4dm.errors import SettingError

IGNORED = -100


class Packed(NamedTuple):
    """N windows of T tokens."""

    tokens: NDArray[np.int64]  # [N, T]
    starts: NDArray[np.bool_]  # [N, T], True at the first token of a document
    mask: NDArray[np.bool_]  # [N, T], False on the padding that ends the last window

    @property
    def labels(self) -> NDArray[np.int64]:
        """[N, T]: the token itself, `IGNORED` on padding and where a document starts."""
        return np.where(self.mask & ~self.starts, self.tokens, IGNORED)


def pack(
    documents: Iterable[Sequence[int]], *, length: int, end_id: int | None = None, pad_id: int = 0
) -> Packed:
    """Pack documents of token ids into windows of `length` tokens.

    The result is a pure function of the documents in their order, and causal: further documents change no
    token of the windows that were already full. Documents without tokens leave no trace.

    Args:
        documents: token ids, one sequence a document.
        length: tokens in a window, T.
        end_id: appended to each document; None appends nothing.
        pad_id: id of the padding in the last window.

    Raises:
        SettingError: `length` is not positive.
    """
    if length < 1:
        raise SettingError("data.length", length, "set it to 1 token or more")
    end = [] if end_id is None else [end_id]
    pieces = [np.asarray([*ids, *end], dtype=np.int64) for ids in documents if len(ids)]
    sizes = np.array([len(piece) for piece in pieces], dtype=np.int64)
    total = int(sizes.sum())
    windows = -(-total // length)
    tokens = np.full(windows * length, pad_id, dtype=np.int64)
    starts, mask = np.zeros(windows * length, dtype=bool), np.zeros(windows * length, dtype=bool)
    if pieces:
        tokens[:total] = np.concatenate(pieces)
        starts[np.cumsum(sizes) - sizes] = True
    mask[:total] = True
    shape = (windows, length)
    return Packed(tokens.reshape(shape), starts.reshape(shape), mask.reshape(shape))


def unpack(packed: Packed, *, end_id: int | None = None) -> list[list[int]]:
    """The documents that were packed; the inverse of `pack` for documents that hold tokens."""
    tokens, starts = packed.tokens[packed.mask], packed.starts[packed.mask]
    if not len(tokens):
        return []
    pieces = np.split(tokens, np.flatnonzero(starts)[1:])
    return [piece.tolist() if end_id is None else piece[:-1].tolist() for piece in pieces]
