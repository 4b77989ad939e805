"""A graph seen from another numbering of the vectors: what a merge leaves of the graph of its largest part.

The nodes of rows that the merge dropped stay as stepping stones, but hold no place and never come back.
"""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.ann import Bitmap, Graph, Places, Scores


@final
class Placed:
    """A graph whose nodes hold other places.

    Args:
        inner: over nodes.
        places: the place of each node, -1 for none; every place below `rows` occurs once.
        rows: how many places there are. unreached: those that no query reaches.
    """

    def __init__(self, inner: Graph, places: NDArray[np.int32], *, rows: int, unreached: Places) -> None:
        self.inner, self.places, self.rows, self.ladder = inner, places, rows, inner.ladder
        self.width = inner.width
        self._living = np.packbits(places >= 0, bitorder="little")
        self.unreached = unreached

    def search(
        self, queries: NDArray[np.float32], k: int, *, ef: int, allowed: Bitmap | None = None
    ) -> tuple[Scores, Places]:
        """As the inner graph, among the nodes that hold an allowed place."""
        bits = self._living
        if allowed is not None:
            mask = np.unpackbits(allowed, bitorder="little", count=self.rows)
            bits = np.packbits(np.append(mask, np.uint8(0))[self.places], bitorder="little")
        scores, nodes = self.inner.search(queries, k, ef=ef, allowed=bits)
        return scores, np.where(nodes >= 0, self.places[nodes], np.int64(-1))


def unpack(graph: Graph) -> tuple[Graph, NDArray[np.int32]]:
    """The graph over nodes, and the place of each."""
    if isinstance(graph, Placed):
        return graph.inner, graph.places
    return graph, np.arange(graph.rows, dtype=np.int32)


def after_merge(graph: Graph, kept: Places) -> Placed:
    """What holds of a graph when a merge has put the old places `kept`, ascending, at 0, 1, 2...

    Places that the old graph did not hold come last and are not in it.
    """
    inner, old = unpack(graph)
    kept = kept[: np.searchsorted(kept, graph.rows)]
    new = np.full(graph.rows + 1, -1, np.int32)  # the last one stands for "no place"
    new[kept] = np.arange(len(kept), dtype=np.int32)
    lost = new[graph.unreached]
    lonely = np.sort(lost[lost >= 0]).astype(np.int64)
    return Placed(inner, new[old], rows=len(kept), unreached=lonely)
