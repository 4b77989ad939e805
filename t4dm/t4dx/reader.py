"""The reading half of the store: every query runs on one version, so it sees one moment. A kept Reader is a
snapshot.
"""

from __future__ import annotations

from t4dm.t4dx.edge_reads import EdgeReads
from t4dm.t4dx.item_reads import ALL, ItemReads, When, as_point
from t4dm.t4dx.text_reads import TextReads

__all__ = ["ALL", "Reader", "When", "as_point"]


class Reader(ItemReads, TextReads, EdgeReads):
    """Read operations over `version()`: the present for a store, a fixed one for a snapshot."""
