"""MemoryItem: a memory as the model means it, and its round trip to the store's rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx import Edge, Item

__all__ = ["MemoryItem"]

_OWN_FIELDS = ("tokens", "prediction_error", "tau", "spike_trace")


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MemoryItem:
    """One memory: what happened, when, how sure, and what it is tied to.

    Attributes:
        id: any non-empty string.
        content: readable text.
        embedding: search key, [D] float32; None for a node without one.
        event_time: when it happened, seconds.
        record_time: when it was stored, seconds.
        valid_from: since when it holds in the world; `event_time` where not given.
        valid_until: until when (excluded); infinity while it still holds.
        kappa: consolidation, 0 (fresh) to 1 (stable).
        importance: 0 to 1.
        memory_type: "episodic", "semantic" or "procedural".
        session: whose memory it is; sleep never merges two sessions.
        tokens: the token ids of the content, for a read that re-encodes them.
        prediction_error: how surprising it was when written.
        tau: what the temporal gate said, 0 to 1.
        spike_trace: mean firing rates that a replay evoked, [width].
        access_count: how often it was recalled.
        links: edges from this item to others, written with it.
        metadata: further plain values.
    """

    id: str
    event_time: float
    record_time: float
    content: str = ""
    embedding: NDArray[np.float32] | None = None
    valid_from: float | None = None
    valid_until: float = math.inf
    kappa: float = 0.0
    importance: float = 0.5
    memory_type: str = "episodic"
    session: str = ""
    tokens: Sequence[int] = ()
    prediction_error: float = 0.0
    tau: float | None = None
    spike_trace: Sequence[float] = ()
    access_count: int = 0
    links: Sequence[Edge] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def to_store(self) -> tuple[Item, tuple[Edge, ...]]:
        """The row and its edges; what has no column of its own goes into the row's metadata."""
        extra = {
            "tokens": [int(token) for token in self.tokens],
            "prediction_error": float(self.prediction_error),
            "tau": None if self.tau is None else float(self.tau),
            "spike_trace": [float(rate) for rate in self.spike_trace],
        }
        row = Item(
            id=self.id,
            content=self.content,
            vector=self.embedding,
            type=self.memory_type,
            session=self.session,
            kappa=self.kappa,
            importance=self.importance,
            access_count=self.access_count,
            event_time=self.event_time,
            record_time=self.record_time,
            valid_from=self.event_time if self.valid_from is None else self.valid_from,
            valid_until=self.valid_until,
            metadata={
                **self.metadata,
                **{key: value for key, value in extra.items() if value not in ([], None)},
            },
        )
        return row, tuple(self.links)

    @classmethod
    def from_store(cls, row: Item, edges: Sequence[Edge] = ()) -> MemoryItem:
        """The memory behind a row; of `edges`, those that start at it become its links."""
        meta = row.metadata
        return cls(
            id=row.id,
            event_time=row.event_time,
            record_time=row.record_time,
            content=row.content,
            embedding=row.vector,
            valid_from=row.valid_from,
            valid_until=row.valid_until,
            kappa=row.kappa,
            importance=row.importance,
            memory_type=row.type,
            session=row.session,
            tokens=tuple(meta.get("tokens", ())),
            prediction_error=float(meta.get("prediction_error", 0.0)),
            tau=meta.get("tau"),
            spike_trace=tuple(meta.get("spike_trace", ())),
            access_count=row.access_count,
            links=tuple(edge for edge in edges if edge.source == row.id),
            metadata={key: value for key, value in meta.items() if key not in _OWN_FIELDS},
        )
