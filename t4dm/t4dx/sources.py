"""Where rows lie: ids, texts, vectors and adjacency of a memtable or a segment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.ann import Graph
from t4dm.t4dx.types import Float32s

UNSURE: Final = -2
"""In place of the row of an id that has several, or whose hash another id has."""


class Ragged(NamedTuple):
    """Byte strings one after the other: string i is blob[ends[i]:ends[i + 1]]."""

    blob: NDArray[np.uint8]
    ends: NDArray[np.int64]


class Source(ABC):
    """Rows of items and edges with their ids and texts; what a row says never changes here."""

    session_names: list[str]

    @abstractmethod
    def vectors(self, collection: int) -> Float32s:
        """Vectors [n, D] of a collection, by its code; the column `vec_row` points into them."""

    @abstractmethod
    def vector(self, collection: int, place: int) -> Float32s:
        """One vector [D], without a look at the others."""

    @abstractmethod
    def vectors_at(self, collection: int, places: NDArray[np.int64]) -> Float32s:
        """A copy of some vectors [n, D], without a look at the others."""

    def graph(self, collection: int) -> Graph | None:
        """The graph over the vectors of a collection, by its code; None while none is built."""
        return None

    @abstractmethod
    def rows_of(self, item_id: str) -> Sequence[int]:
        """Item rows of an id, oldest first."""

    @abstractmethod
    def only_rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The item row of each id, -1 for an unknown one, UNSURE for one that `rows_of` must tell."""

    @abstractmethod
    def id_at(self, row: int) -> str:
        """Id of an item row."""

    @abstractmethod
    def ids_at(self, rows: NDArray[np.int64]) -> list[str]:
        """Ids of many item rows."""

    @abstractmethod
    def text_at(self, row: int) -> tuple[str, bytes]:
        """Content and packed metadata of an item row."""

    @abstractmethod
    def session_code(self, session: str) -> int:
        """Code of a session, -1 where no row has it."""

    @abstractmethod
    def edge_rows(self, item_id: str, *, incoming: bool) -> Sequence[int]:
        """Edge rows that start (or end) at an id, oldest first."""

    @abstractmethod
    def edges_between(self, source: str, target: str) -> Sequence[int]:
        """Edge rows from one id to another, of all types and versions."""

    @abstractmethod
    def edge_ends(self, row: int) -> tuple[str, str]:
        """Source and target of an edge row."""

    @abstractmethod
    def edge_text(self, row: int) -> bytes:
        """Packed properties of an edge row."""

    @abstractmethod
    def code_of(self, item_id: str) -> int:
        """The code of an id in this source, -1 where it does not occur."""

    @abstractmethod
    def label(self, code: int) -> str:
        """The id of a code."""

    @abstractmethod
    def names(self) -> Ragged:
        """All ids in the order of their codes."""

    @abstractmethod
    def item_codes(self, n: int) -> NDArray[np.int32]:
        """The code of each of the first n item rows."""

    @abstractmethod
    def edge_codes(self, m: int | None = None) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The codes of source and target of each of the first m edge rows, None for all."""

    @abstractmethod
    def texts(self, n: int) -> Ragged:
        """Content and packed metadata of the first n item rows, two strings for each."""

    @abstractmethod
    def props(self, m: int) -> Ragged:
        """Packed properties of the first m edge rows."""
