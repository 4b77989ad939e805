"""A conversation as a T4DX store: turns with vectors, sessions and speakers as nodes, edges between them.

Edges say what is known without reading: a turn is PART_OF its session, stands TEMPORAL_BEFORE the next one
and TEMPORAL_AFTER the one before it, and HAS_CONTEXT its speaker.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from t4dm.evaluation.locomo import Conversation, Turn
from t4dm.t4dx import T4DX, Edge, EdgeType, Filter, Item, Options

TURNS = Filter(type="episodic")
"""What is searched for; sessions and speakers lend their scores."""
OPTIONS = Options(durability="os")
"""A store that is made anew for each study need not outlive a power cut."""


def turn_text(turn: Turn) -> str:
    """Who said what, and what the picture that came with it shows."""
    return f"{turn.speaker}: {turn.text}" + (f" [{turn.caption}]" if turn.caption else "")


def make_store(
    folder: Path,
    conversation: Conversation,
    vectors: NDArray[np.float32],
    *,
    order: Sequence[int] | NDArray[np.int64] | None = None,
) -> T4DX:
    """A new store with everything of a conversation but its questions, flushed to disk.

    Args:
        folder: where; it must not hold a store.
        conversation: its turns keep their ids.
        vectors: of the turns, `[turns, D]`.
        order: a permutation of the turns: each takes the edges of another one. As they were by default.
    """
    names = [turn.id for turn in conversation.turns]
    taken = dict(zip(names, names if order is None else [names[place] for place in order], strict=True))
    edges = [
        dataclasses.replace(edge, source=taken[edge.source], target=taken.get(edge.target, edge.target))
        for edge in _edges(conversation)
    ]
    store = T4DX.open(folder, dim=vectors.shape[1], options=OPTIONS)
    store.insert_many([*_turns(conversation, vectors), *_nodes(conversation)], edges)
    store.flush()
    return store


def session_id(number: int) -> str:
    """The id of a session's node."""
    return f"S{number}"


def _turns(conversation: Conversation, vectors: NDArray[np.float32]) -> Iterator[Item]:
    for turn, vector in zip(conversation.turns, vectors, strict=True):
        yield Item(
            id=turn.id,
            content=turn_text(turn),
            vector=vector,
            session=session_id(turn.session),
            event_time=turn.time,
            metadata={"speaker": turn.speaker},
        )


def _nodes(conversation: Conversation) -> Iterator[Item]:
    """Sessions with their date and all that was said, speakers with their name: nodes without a vector."""
    sessions: dict[int, list[Turn]] = {}
    for turn in conversation.turns:
        sessions.setdefault(turn.session, []).append(turn)
    for number, turns in sessions.items():
        date = f"{datetime.fromtimestamp(turns[0].time, UTC):%d %B %Y}".lstrip("0")
        content = "\n".join([date, *map(turn_text, turns)])
        yield Item(id=session_id(number), content=content, type="semantic", event_time=turns[0].time)
    for speaker in sorted({turn.speaker for turn in conversation.turns}):
        yield Item(id=speaker, content=speaker, type="semantic")


def _edges(conversation: Conversation) -> Iterator[Edge]:
    before: Turn | None = None
    for turn in conversation.turns:
        yield Edge(turn.id, session_id(turn.session), EdgeType.PART_OF, 1.0)
        yield Edge(turn.id, turn.speaker, EdgeType.HAS_CONTEXT, 1.0)
        if before is not None and before.session == turn.session:
            yield Edge(before.id, turn.id, EdgeType.TEMPORAL_BEFORE, 1.0)
            yield Edge(turn.id, before.id, EdgeType.TEMPORAL_AFTER, 1.0)
        before = turn
