"""The rows of the table: what is measured, who is the peer, and which ratio is wanted.

`ratio` is always a time over a time, ours over the peer's, so below 1 is ahead; where the wish is a rate, its
inverse is the wanted ratio.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Target(NamedTuple):
    """One row. `against` is the named peer, `at_most` the wanted ratio None where the plan wants none, `wish`
    the words of the plan, `part` the part of a system's figures that this row shows.
    """

    bench: str
    title: str
    group: str
    ours: str
    against: str
    metric: str
    at_most: float | None
    wish: str
    part: str = ""

    def rivals(self, name: str) -> tuple[str, str]:
        """Who is compared with whom where another program stands in for T4DX."""
        return self.ours.replace("t4dx", name, 1), self.against.replace("t4dx", name, 1)


STORE: Final = (
    Target(
        "insert_sync",
        "insert one item, synced",
        "insert_sync",
        "t4dx sync",
        "sqlite full",
        "p50 ms",
        0.6,
        "<= 0.6x SQLite WAL/FULL",
    ),
    Target(
        "insert_nosync",
        "insert one item, not synced",
        "insert_nosync",
        "t4dx os",
        "qdrant-edge",
        "p50 ms",
        0.4,
        "<= 0.4x qdrant-edge",
    ),
    Target(
        "update_sync",
        "update one field, synced",
        "update_sync",
        "t4dx sync",
        "sqlite full",
        "p50 ms",
        0.65,
        "<= 0.65x SQLite WAL/FULL",
    ),
    Target(
        "update_nosync",
        "update one field, not synced",
        "update_nosync",
        "t4dx os",
        "qdrant-edge",
        "p50 ms",
        0.4,
        "<= 0.4x qdrant-edge",
    ),
    Target(
        "bulk_load",
        "bulk load, queryable by exact search",
        "load",
        "t4dx",
        "lancedb",
        "rows/s",
        1 / 20,
        ">= 20x LanceDB's rate with its index",
    ),
    Target(
        "bulk_update",
        "bulk update of one field",
        "bulk_update",
        "t4dx os",
        "kuzu",
        "rows/s",
        1 / 2,
        ">= 2x kuzu's rate",
    ),
    Target(
        "get",
        "get one item with its vector",
        "get",
        "t4dx os",
        "qdrant-edge",
        "p50 ms",
        0.6,
        "<= 0.6x qdrant-edge",
    ),
    Target(
        "two_hops",
        "2 hops at degree 10",
        "two_hops",
        "t4dx os",
        "sqlite normal",
        "p50 ms",
        0.6,
        "<= 0.6x SQLite",
    ),
    Target(
        "edge_update_nosync",
        "one edge-weight update, not synced",
        "edge_update_nosync",
        "t4dx os",
        "sqlite normal",
        "p50 ms",
        0.4,
        "<= 0.4x SQLite NORMAL",
    ),
    Target(
        "scale_edges",
        "scale all edge weights",
        "scale_edges",
        "t4dx os",
        "sqlite normal",
        "p50 ms",
        0.01,
        "<= 0.01x SQLite",
    ),
    Target(
        "reopen",
        "reopen to the first get and 2 hops",
        "reopen",
        "t4dx os",
        "kuzu",
        "p50 ms",
        1.0,
        "<= 1x kuzu",
        part="graph",
    ),
    Target(
        "readers_throughput",
        "2 readers beside a writer: recalls per second",
        "readers",
        "beside a writer",
        "idle",
        "recalls/s",
        1 / 0.7,
        ">= 0.7x idle",
    ),
    Target(
        "readers_p99",
        "2 readers beside a writer: p99 of a recall",
        "readers",
        "beside a writer",
        "idle",
        "p99 ms",
        2.0,
        "<= 2x idle",
    ),
    Target(
        "insert_sync_writers",
        "8 writers insert one item each, synced",
        "writers",
        "t4dx sync",
        "sqlite full",
        "inserts/s",
        0.6,
        "<= 0.6x SQLite WAL/FULL",
    ),
    Target(
        "writer_stall",
        "longest writer stall during flush and merge",
        "stall",
        "t4dx os",
        "50 ms",
        "worst ms",
        1.0,
        "<= 50 ms",
    ),
)

_QDRANT: Final = "qdrant-edge"


def _filter(share: str, at_most: float) -> Target:
    title = f"search k=10 where {share} of the rows pass"
    wish = f"<= {at_most}x qdrant-edge"
    name = f"filter_{share.removesuffix(' %').replace('.', '')}"
    return Target(name, title, "filter", "t4dx", _QDRANT, "p50 ms", at_most, wish, share)


SEARCH: Final = (
    Target(
        "search",
        "search k=10 at recall 0.99, easy vectors",
        "nearest",
        "t4dx",
        _QDRANT,
        "p50 ms",
        0.4,
        "<= 0.4x qdrant-edge",
    ),
    Target(
        "search_harder",
        "search k=10 at recall 0.99, harder vectors",
        "nearest_harder",
        "t4dx",
        _QDRANT,
        "p50 ms",
        None,
        "beside the easy ones",
    ),
    Target(
        "search_minilm",
        "search k=10 at recall 0.99, sentences by MiniLM",
        "nearest_minilm",
        "t4dx",
        _QDRANT,
        "p50 ms",
        None,
        "beside the easy ones",
    ),
    Target(
        "search_fresh",
        "search k=10 beside 3 unmerged segments and a full memtable",
        "fresh",
        "t4dx",
        _QDRANT,
        "p50 ms",
        1.0,
        "<= 1x qdrant-edge",
    ),
    _filter("50 %", 0.4),
    _filter("10 %", 1.0),
    _filter("1 %", 1.2),
    _filter("0.1 %", 1.3),
    Target(
        "bulk_load_indexed",
        "bulk load with the index over the vectors",
        "index",
        "t4dx",
        "lancedb",
        "rows/s",
        1 / 1.3,
        ">= 1.3x LanceDB's rate",
    ),
    Target(
        "reopen_search",
        "reopen to the first search",
        "reopen_search",
        "t4dx os",
        "kuzu",
        "p50 ms",
        1.0,
        "<= 1x kuzu",
    ),
    Target(
        "reopen_search_qdrant",
        "reopen to the first search",
        "reopen_search",
        "t4dx os",
        _QDRANT,
        "p50 ms",
        0.1,
        "<= 0.1x qdrant-edge",
    ),
    Target(
        "memory",
        "anonymous memory after the open and a search",
        "footprint",
        "t4dx",
        "chroma",
        "anonymous MB",
        0.3,
        "<= 0.3x Chroma",
        "memory",
    ),
    Target(
        "disk",
        "bytes on disk over those of the vectors",
        "footprint",
        "t4dx",
        "raw vectors",
        "x raw",
        1.4,
        "<= 1.4x the raw bytes",
        "disk",
    ),
    Target(
        "batch_threads",
        "256 queries on 2 threads, against 1 thread",
        "batch",
        "t4dx 2 threads",
        "t4dx 1 thread",
        "p50 ms",
        1 / 1.6,
        ">= 1.6x the rate of one thread",
    ),
    Target(
        "batch",
        "256 queries on 2 threads",
        "batch",
        "t4dx 2 threads",
        _QDRANT,
        "p50 ms",
        0.5,
        "<= 0.5x qdrant-edge",
    ),
    Target(
        "as_of",
        "search as of a moment before 1 % changed",
        "as_of",
        "as of",
        "now",
        "p50 ms",
        2.0,
        "<= 2x now",
    ),
)
TARGETS: Final = STORE + SEARCH


def scaling(name: str) -> Target:
    """The row of a set like "10000x128"."""
    rows, _, dim = name.partition("x")
    title = f"search k=10 at recall 0.99 among {int(rows):,} of {dim} dimensions"
    return Target(
        f"scaling_{name}", title, f"scaling {name}", "t4dx", _QDRANT, "p50 ms", None, "beside the others"
    )
