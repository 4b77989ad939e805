"""The store's vocabulary: items, edges, times, hits and paths. Plain values, no behaviour of the engine."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from enum import Enum, StrEnum
from typing import Any, Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

Lsn = int
Float32s = NDArray[np.float32]

UNSET: Final[float] = -sys.float_info.max
"""A time that the store fills in at the insert: record_time from the clock, the others from record_time."""

ITEM_TYPES: Final = ("episodic", "semantic", "procedural")
METRICS: Final = ("cosine", "dot", "l2")
DEFAULT: Final = "default"
"""The collection that every store has."""


class Collection(NamedTuple):
    """A set of vectors of one size, compared by one metric of METRICS; for each a higher score is better."""

    name: str
    dim: int
    metric: str = "cosine"


class EdgeType(StrEnum):
    """The relations every store knows; `Options.edge_types` registers more."""

    CAUSES = "CAUSES"
    TEMPORAL_BEFORE = "TEMPORAL_BEFORE"
    TEMPORAL_AFTER = "TEMPORAL_AFTER"
    PART_OF = "PART_OF"
    SIMILAR_TO = "SIMILAR_TO"
    MERGED_FROM = "MERGED_FROM"
    SUPERSEDES = "SUPERSEDES"
    RELATES_TO = "RELATES_TO"
    CONSOLIDATED_INTO = "CONSOLIDATED_INTO"
    IMPLEMENTS = "IMPLEMENTS"
    HAS_CONTEXT = "HAS_CONTEXT"
    DERIVED_FROM = "DERIVED_FROM"
    DEPENDS_ON = "DEPENDS_ON"


class Direction(Enum):
    """Which way `traverse` follows edges."""

    OUT = "out"
    IN = "in"
    BOTH = "both"


OUT: Final = Direction.OUT
IN: Final = Direction.IN
BOTH: Final = Direction.BOTH


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Item:
    """One version of a memory: a node of the graph, with or without a vector.

    Content, vector and validity belong to the version; inserting the same id again supersedes it. kappa,
    importance and access_count are learning state of the current version and keep no history. All times are
    seconds; intervals are half open, [from, until). `record_time` and `record_until` say when the store
    believed the version. `collection` says where the vector lives; ids are unique in the whole store.
    """

    id: str
    content: str = ""
    vector: Float32s | None = None  # [D]
    type: str = "episodic"
    session: str = ""
    kappa: float = 0.0
    importance: float = 0.5
    access_count: int = 0
    event_time: float = UNSET
    record_time: float = UNSET
    valid_from: float = UNSET
    valid_until: float = math.inf
    record_until: float = math.inf
    metadata: Mapping[str, Any] = field(default_factory=dict)
    collection: str = DEFAULT

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Item):
            return NotImplemented
        if (self.vector is None) != (other.vector is None):
            return False
        same = self.vector is None or bool(np.array_equal(self.vector, np.asarray(other.vector)))
        return same and self._plain() == other._plain()

    def __hash__(self) -> int:
        return hash(self.id)

    def _plain(self) -> tuple[object, ...]:
        times = (self.event_time, self.record_time, self.valid_from, self.valid_until, self.record_until)
        learning = (self.kappa, self.importance, self.access_count)
        place = (self.id, self.content, self.type, self.session, self.collection)
        return (*place, learning, times, dict(self.metadata))


_Unfrozen: Final[Any] = make_dataclass("_Unfrozen", [field.name for field in fields(Item)], slots=True)


def item_of(values: Sequence[Any]) -> Item:
    """An item from all its fields, in their order. Reads make many: the constructor of a frozen class takes
    five times as long as that of one with the same slots, which then becomes an `Item`.
    """
    made = _Unfrozen(*values)
    made.__class__ = Item
    item: Item = made
    return item


@final
@dataclass(frozen=True, slots=True)
class Edge:
    """One version of a relation, known by (source, target, type). Weight in [0, 1], times in seconds."""

    source: str
    target: str
    type: EdgeType | str
    weight: float = 0.5
    valid_from: float = UNSET
    valid_until: float = math.inf
    record_time: float = UNSET
    record_until: float = math.inf
    properties: Mapping[str, Any] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.source, self.target, str(self.type)))


class AsOf(NamedTuple):
    """A point on the two time axes, seconds; None leaves an axis open.

    `record` asks what the store believed then, `valid` what held in the world then. A plain float given as
    `as_of` means both axes at that time.
    """

    record: float | None = None
    valid: float | None = None


class Hit(NamedTuple):
    """One search result; `score` is the cosine, computed from the stored float32 vector."""

    id: str
    score: float
    item: Item


@final
class Hits(Sequence[Hit]):
    """Search results, best first; ties by id. `plan` tells how they were found when `explain=True`."""

    __slots__ = ("_hits", "plan")

    def __init__(self, hits: Sequence[Hit], *, plan: Sequence[Mapping[str, object]] | None = None) -> None:
        self._hits = tuple(hits)
        self.plan = plan

    def __len__(self) -> int:
        return len(self._hits)

    def __getitem__(self, index: Any) -> Any:
        return self._hits[index]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._hits)

    def __repr__(self) -> str:
        return f"Hits({[(hit.id, round(hit.score, 4)) for hit in self._hits]})"

    @property
    def ids(self) -> list[str]:
        """The ids, best first."""
        return [hit.id for hit in self._hits]


class Path(NamedTuple):
    """A walk from a start: `nodes` has one more entry than `edges`; `weight` is the product of the edge
    weights.

    `item` is the last node, or None where the target was never stored (a dangling edge).
    """

    nodes: tuple[str, ...]
    edges: tuple[Edge, ...]
    weight: float
    item: Item | None

    @property
    def depth(self) -> int:
        """Number of edges walked."""
        return len(self.edges)


Paths = list[Path]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a store behaves; only `edge_types` is remembered on disk.

    Attributes:
        durability: when a write returns. "sync": after fsync. "interval": after write(), fsync within
            `sync_interval` seconds; survives a killed process, loses at most the interval at a power cut.
            "os": after write(); the operating system decides when it reaches the disk.
        sync_interval: seconds between background fsyncs.
        idle_marker: seconds without a write after which the log is ended with a marker, so that later damage
            to the last write is seen; 0 for never. Not with "os"; a close always does it.
        memtable_items: items plus edges buffered before a flush to a segment.
        memtable_bytes: log bytes buffered before a flush, so that updates alone also flush.
        max_deltas: delta files kept before a flush merges them into one.
        max_frozen: memtables that may wait for their flush; with as many each write is delayed a little, with
            more of them writers wait.
        background: whether threads flush and compact, or each writer does so after its write; None: threads,
            but not on a simulated disk.
        max_segments: segments that an unforced `compact(full=False)` tolerates before it merges small
        neighbours. txn_part_bytes: transactions above this size are logged in parts between BEGIN and COMMIT.
        undo_keep: how many of the last transactions with an id are remembered; those opened with `undo=True`
            can be taken back as long.
        index: what searches large segments: "faiss" or "hnswlib" (a graph), "exact", or "auto": the first of
            these that is installed.
        index_rows: vectors of a collection in one segment from which on they get a graph, in the background.
        index_threads: of a build; with more than one it is faster, and no two graphs are the same.
        edge_types: edge type names beyond `EdgeType`.
    """

    durability: str = "interval"
    sync_interval: float = 0.05
    idle_marker: float = 1.0
    memtable_items: int = 10_000
    memtable_bytes: int = 64 * 2**20
    max_deltas: int = 4
    max_segments: int = 8
    max_frozen: int = 2
    background: bool | None = None
    txn_part_bytes: int = 4 * 2**20
    undo_keep: int = 16
    index: str = "auto"
    index_rows: int = 20_000
    index_threads: int = 1
    edge_types: tuple[str, ...] = ()


def new_id(rng: np.random.Generator) -> str:
    """A fresh 128-bit id as 32 hexadecimal digits."""
    return rng.bytes(16).hex()
