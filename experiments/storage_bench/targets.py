"""The rows of the table: what is measured, who is the peer, and which ratio is wanted.

`ratio` is always a time over a time, ours over the peer's, so below 1 is ahead; where the wish is a rate, its
inverse is the wanted ratio.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Target(NamedTuple):
    """One row. `against` is the named peer, `at_most` the wanted ratio, `wish` the words of the plan."""

    bench: str
    title: str
    group: str
    ours: str
    against: str
    metric: str
    at_most: float
    wish: str


TARGETS: Final = (
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
    ),
    Target(
        "reopen_search",
        "reopen to the first search",
        "reopen",
        "t4dx os",
        "kuzu",
        "p50 ms",
        1.0,
        "<= 1x kuzu",
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
