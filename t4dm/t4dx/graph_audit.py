"""Which nodes of a graph no query reaches: builds leave some without a way in, and no search ever tells.

A walk ends on the lowest level at some node near the query and goes on from neighbour to neighbour, so what
the entry point does not reach there is taken for unreachable (hnswlib issue 352; Malkov and Yashunin 2018,
"Efficient and robust approximate nearest neighbor search using HNSW graphs", algorithm 5).
"""

from __future__ import annotations

import numpy as np

from t4dm.t4dx.ann import Links, Places


def unreached(links: Links) -> Places:
    """The nodes that no walk from the entry point reaches, ascending."""
    seen = np.zeros(links.nodes, bool)
    front = np.array([links.entry] if links.nodes else [], np.int64)
    seen[front] = True
    while len(front):
        near = links.of(front).ravel()
        near = near[near >= 0]
        front = np.unique(near[~seen[near]]).astype(np.int64)
        seen[front] = True
    return np.flatnonzero(~seen)
