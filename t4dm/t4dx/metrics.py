"""Scores by cosine, dot product and Euclidean distance: a wide shortlist in float32, the score in float64.

A score is computed from the stored float32 vector by a float64 sum of its own row and then rounded to
float32, so it does not depend on what else was searched, and equal vectors tie. Higher is better for every
metric: l2 is minus the distance. A zero vector has no direction, its cosine is 0.

The shortlist comes from one float32 matrix product. |fl(x.y) - x.y| <= D*u*|x||y| in any order of summation
(Higham 2002, eq. 3.5), u = 2^-24, so every row gets an interval that holds its true rank value, and only rows
that lie below k others for certain are left out.
"""

from __future__ import annotations

from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from t4dm.errors import VectorError

Floats = NDArray[np.float64]
Scores = NDArray[np.float32]

_UNIT: Final = 2.0**-24
_NORMS: Final = (1e-18, 1e18)  # as at the door of the store: products stay within float32


@final
class Query:
    """Queries [Q, D] under a metric of one collection.

    Attributes:
        raw: the queries [Q, D] as they came. metric: of the collection.
        fast: the directions [Q, D], norm 1 or 0, for the matrix product.
        turned: the directions as codes need them; None until one does.
    """

    def __init__(self, queries: NDArray[np.float32], metric: str) -> None:
        self.turned: Scores | None = None
        self.raw, self.metric, self._wide = queries, metric, queries.astype(np.float64)
        self._norms = np.sqrt(np.square(self._wide).sum(axis=1))
        if metric != "cosine":
            _check_norms(self._norms)
        scale = np.divide(1.0, self._norms, out=np.zeros_like(self._norms), where=self._norms > 0)
        self._directions = self._wide * scale[:, None]
        self.fast = self._directions.astype(np.float32)
        # + 4u: rounding the direction, the product with the norm, and the scores on both sides of a tie
        self._slack = (queries.shape[1] + 4) * _UNIT * 1.1

    @property
    def dim(self) -> int:
        """Size of a vector."""
        return self.raw.shape[1]

    def exact(self, vectors: NDArray[np.float32], inverse: Floats, place: int) -> Scores:
        """Scores [n] of vectors [n, D] with inverse norms [n] for one query."""
        # float32 times float64 is float64, piece by piece: no wide copy of the vectors is made
        if self.metric == "cosine":
            scores: Floats = (vectors * self._directions[place]).sum(axis=1) * inverse
        elif self.metric == "dot":
            scores = (vectors * self._wide[place]).sum(axis=1)
        else:
            scores = 0.0 - np.sqrt(np.square(vectors - self._wide[place]).sum(axis=1))
        return scores.astype(np.float32)

    def shortlist(self, products: Floats, inverse: Floats, place: int, k: int) -> NDArray[np.int64]:
        """Rows that may be among the k best, ties included, by their products [n] with `fast[place]`."""
        slack: Any = self._slack
        if self.metric == "cosine":
            near = products * inverse
        else:
            lengths = _lengths(inverse)
            near, slack = products, lengths * self._slack
            if self.metric == "l2":
                near, slack = self._distances(products, lengths, place)
        low = near - slack
        edge = np.partition(low, len(low) - k)[len(low) - k]
        return np.flatnonzero(near + slack >= edge)

    def ceiling(self, cosines: NDArray[Any], inverse: Floats, place: int) -> NDArray[Any]:
        """The largest score [n] of rows whose cosine is `cosines` [n] at most."""
        if self.metric == "cosine":
            return cosines
        lengths, own = _lengths(inverse), float(self._norms[place])
        if self.metric == "dot":
            return cosines * (lengths * own)
        squares: Floats = np.square(lengths) + own**2 - 2.0 * own * lengths * cosines
        ceilings: Floats = -np.sqrt(np.maximum(squares, 0.0)) * (1.0 - 4.0 * _UNIT)
        return ceilings

    def _distances(self, products: Floats, lengths: Floats, place: int) -> tuple[Floats, Floats]:
        """Minus the squared distances, and how far off they may be: by the product, by float64, by ties."""
        own, squares = float(self._norms[place]), np.square(lengths) + float(self._norms[place]) ** 2
        near = 2.0 * own * products - squares
        slack = 2.0 * own * lengths * self._slack + 1e-13 * squares + 4.0 * _UNIT * np.abs(near)
        return near, slack


def _lengths(inverse: Floats) -> Floats:
    return np.divide(1.0, inverse, out=np.zeros_like(inverse), where=inverse > 0)


def _check_norms(norms: Floats) -> None:
    for norm in norms[(norms > 0) & ((norms < _NORMS[0]) | (norms > _NORMS[1]))].tolist():
        raise VectorError(f"the query has norm {norm:.1e}; bring it between 1e-18 and 1e18 first")
