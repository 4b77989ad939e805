"""What the operations mean, the same for every store; a store that has no graph has no edge operations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

from experiments.storage_bench.data import Data, Row


class Answer(NamedTuple):
    """What a get brings into the caller's hands."""

    text: str
    kappa: float
    vector: Any  # [D], as the store hands it out


class Searcher(ABC):
    """What holds vectors in a folder and finds the nearest."""

    efforts: tuple[Any, ...] = (None,)
    """How hard a search can be told to look, ascending; None is what it does by itself."""

    effort: Any = None
    """One of `efforts`, for the searches to come."""

    def __init__(self, label: str, mode: str) -> None:
        self.label, self.mode = label, mode

    @property
    def engine(self) -> str:
        return self.label.partition(" ")[0]

    @abstractmethod
    def open(self, folder: Path, data: Data) -> None:
        """Open the store in `folder`, or create it there."""

    @abstractmethod
    def index(self, data: Data) -> None:
        """Put the first `data.n` rows into a new store, until its index over the vectors stands."""

    def index_fields(self, data: Data) -> None:
        """Index kappa for filters, where that comes after the load."""
        return

    @abstractmethod
    def search(self, vector: Any, k: int) -> list[str]:
        """Ids of the k nearest, best first, by the store's own search."""

    def settle(self) -> None:
        """Wait for what the store does behind a load."""
        return

    def search_below(self, vector: Any, k: int, kappa: float) -> list[str]:
        """Ids of the k nearest whose kappa is `kappa` at most."""
        raise NotImplementedError(f"{self.label} has no filter")

    def search_many(self, vectors: Any, k: int) -> list[list[str]]:
        """`search` for each of the vectors [Q, D], by the store's best way to answer many."""
        return [self.search(vector, k) for vector in vectors]

    @abstractmethod
    def close(self) -> None:
        """Release everything."""


class System(Searcher):
    """A store in a folder. `engine` names the files, so that two durabilities share a loaded store."""

    durability: str
    """What a returned write has survived, in words."""

    def index(self, data: Data) -> None:
        """Most stores index what they load."""
        self.load(data)

    @abstractmethod
    def load(self, data: Data) -> None:
        """Put the first `data.n` rows in, by the store's own bulk way; a search sees them when it returns."""

    @abstractmethod
    def insert(self, row: Row) -> None:
        """One item, one write."""

    @abstractmethod
    def update(self, num: int, kappa: float) -> None:
        """One field of one item, one write."""

    @abstractmethod
    def update_first(self, count: int, kappa: float) -> None:
        """One field of the first `count` items, one write."""

    @abstractmethod
    def get(self, num: int) -> Answer:
        """One item by its id, with its vector."""


class GraphSystem(System):
    """A store that also has weighted edges."""

    @abstractmethod
    def load_edges(self, data: Data) -> None:
        """All edges of `data`, in bulk."""

    @abstractmethod
    def two_hops(self, num: int) -> set[str]:
        """Ids of the nodes one or two edges away, without the start."""

    @abstractmethod
    def bump(self, edge: tuple[int, int, float]) -> None:
        """weight = clip(weight + delta, 0, 1) of the edge (source, target, delta); one write."""

    @abstractmethod
    def weight(self, source: int, target: int) -> float:
        """The weight of one edge."""

    @abstractmethod
    def scale(self, factor: float) -> None:
        """weight = clip(weight * factor, 0, 1) of every edge; one write."""
