"""Find what a newer memory of the same session has replaced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from t4dm.t4dx import Filter, Item
from t4dm.t4dx.reader import Reader

__all__ = ["Superseded", "find_superseded"]

_NEIGHBOURS = 16


class Superseded(NamedTuple):
    """`old` says another thing than `new` about the same, and is older."""

    new: Item
    old: Item
    cosine: float


def find_superseded(view: Reader, items: Sequence[Item], *, threshold: float) -> list[Superseded]:
    """Pairs of the same session with cosine >= threshold, different content, and different event times.

    Both directions are looked at: an item can be the newer or the older one. Of several newer items the one
    that came first after the old one counts, for that is when the old one ceased to hold. What already
    ceased is left alone.

    Args:
        view: where to look for the partners.
        items: the items to check.
        threshold: cosine, for example 0.8.
    """
    checked = [item for item in items if item.vector is not None and item.type == "episodic"]
    if not checked:
        return []
    queries = np.stack([np.asarray(item.vector, dtype=np.float32) for item in checked])
    where = [Filter(session=item.session, type="episodic") for item in checked]
    best: dict[str, Superseded] = {}
    for item, hits in zip(checked, view.search(queries, _NEIGHBOURS, where), strict=True):
        for hit in hits:
            if (
                hit.score < threshold
                or hit.item.content == item.content
                or hit.item.event_time == item.event_time
            ):
                continue
            new, old = sorted((item, hit.item), key=lambda one: -one.event_time)
            known = best.get(old.id)
            if old.valid_until == np.inf and (known is None or new.event_time < known.new.event_time):
                best[old.id] = Superseded(new, old, float(hit.score))
    return [best[name] for name in sorted(best)]
