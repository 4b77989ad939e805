"""Held-out split by the content of a document: seeded, order-free, and blind to duplicates.

Equal documents share a side, so nothing held out was trained on word for word; adding documents moves no
other.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from t4dm.errors import SettingError


class Split(NamedTuple):
    """Documents by side, in their given order."""

    train: list[str]
    held_out: list[str]


def position(document: str, *, seed: int) -> float:
    """A uniform number in [0, 1) that depends on the document's content and the seed alone."""
    digest = hashlib.blake2b(document.encode(), digest_size=8, key=str(seed).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def split(documents: Sequence[str], *, fraction: float, seed: int) -> Split:
    """Hold out the documents whose position lies below `fraction`.

    Where chance leaves a side empty, it gets the one distinct document nearest to it, so two distinct
    documents suffice. A single one is cut: its end is held out.

    Raises:
        SettingError: `fraction` is not in [0, 1).
        ValueError: there is nothing to divide: no document, or a single word.
    """
    if not 0 <= fraction < 1:
        raise SettingError("data.held_out", fraction, "set it to a share in [0, 1)")
    if fraction == 0:
        return Split(list(documents), [])
    at = {document: position(document, seed=seed) for document in documents}
    if len(at) < 2:
        head, tail = _cut("".join(at), fraction)
        return Split([head] * len(documents), [tail])
    border = min(max(fraction, math.nextafter(min(at.values()), 1)), max(at.values()))
    return Split([d for d in documents if at[d] >= border], [d for d in documents if at[d] < border])


def _cut(document: str, fraction: float) -> tuple[str, str]:
    """A document in two, behind the white space nearest to where its last share begins."""
    place = len(document) * (1 - fraction)
    gaps = [gap.end() for gap in re.finditer(r"\s+(?=\S)", document) if document[: gap.start()].strip()]
    if not gaps:
        raise ValueError("a single word cannot be divided; two are needed")
    border = min(gaps, key=lambda gap: abs(gap - place))
    return document[:border], document[border:]
