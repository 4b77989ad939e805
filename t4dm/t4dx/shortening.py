"""Vectors cut down to their principal coordinates, for graphs: of 1024 numbers a walk compares 64, and finds
as much where it may propose more.

Of a point x in D coordinates a shortened one keeps those along d directions B [D, d], and how much of its
length they leave over:

    y = (B'x, sqrt(|x|^2 - |B'x|^2))

so |y| = |x|, and the distance of two such points is never more than that of the points themselves. A query
by inner product has 0 for the last: what it leaves over is not compared. The directions are those along which
the points are longest on average: eigenvectors of their second moments (Eckart and Young 1936). A graph over
such points is rough: whoever asks compares again all that its walk has kept, and how much a walk finds is
measured, so vectors that have no such directions get a graph of whole points.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

KEPT: Final = 63
"""Principal coordinates of a shortened point; with the last it has 64."""
NARROWEST: Final = 192
"""Coordinates from which on points are worth shortening."""
Points = NDArray[np.float32]


def basis_of(sample: Points, count: int) -> Points:
    """The `count` orthonormal directions [D, count] along which points [n, D] are longest on average; as many
    as there are points, where these are fewer.
    """
    wide = sample.astype(np.float64)
    if len(wide) < wide.shape[1]:
        found = np.linalg.svd(wide, full_matrices=False)[2].T
    else:  # the same, and sooner
        found = np.linalg.eigh(wide.T @ wide)[1][:, ::-1]
    return np.ascontiguousarray(found[:, :count], np.float32)


def shortened(points: Points, basis: Points, *, rest: bool = True) -> Points:
    """Points [n, D] by their coordinates in a basis [D, d] as [n, d + 1]; without a rest the last is 0."""
    short = np.zeros((len(points), basis.shape[1] + 1), np.float32)
    np.matmul(points, basis, out=short[:, :-1])
    if rest:
        left = np.einsum("ij,ij->i", points, points) - np.einsum("ij,ij->i", short, short)
        short[:, -1] = np.sqrt(np.maximum(left, 0.0))
    return short
