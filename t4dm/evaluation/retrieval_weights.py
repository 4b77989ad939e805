"""Weights of a hybrid search and how they are chosen: one number at a time, on all conversations but the one
that is scored.

Trying weights by asking the store would take hours. A `Board` asks once for what the parts of every score
are, and adds them up by itself; the tests hold its rankings to those of `search_hybrid`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from t4dm.evaluation.locomo import Question
from t4dm.evaluation.ranking import ndcg_at, recall_at
from t4dm.evaluation.retrieval_store import TURNS
from t4dm.evaluation.retrieval_words import WORDS, WRITTEN, analyzer_of
from t4dm.t4dx import OUT, T4DX, Analyzer, Bm25, EdgeFilter, EdgeType, Filter, Spread

K: Final = 10
RELATIONS: Final[Mapping[str, EdgeType]] = {
    "previous": EdgeType.TEMPORAL_AFTER,
    "next": EdgeType.TEMPORAL_BEFORE,
    "session": EdgeType.PART_OF,
    "speaker": EdgeType.HAS_CONTEXT,
}
"""The edge along which a turn hears each neighbour."""


class Weights(NamedTuple):
    """How much each part of a turn's score counts."""

    text: float = 0.5
    """BM25 over the best turn's; the vector's part is 1 - text."""
    previous: float = 0.0
    """Of the turn before, next: of the one after; likewise the node of the session and of the speaker."""
    next: float = 0.0
    session: float = 0.0
    speaker: float = 0.0
    k1: float = 1.5
    b: float = 0.75
    """k1 and b: the constants of BM25."""
    words: str = WRITTEN
    """What BM25 counts, one of WORDS."""

    @property
    def sides(self) -> dict[str, float]:
        """Of the two searches."""
        return {"vector": 1.0 - self.text, "text": self.text}

    @property
    def bm25(self) -> Bm25:
        return Bm25(k1=self.k1, b=self.b)

    @property
    def analyzer(self) -> Analyzer:
        """Raises MissingExtra where there is no stemmer for the words."""
        return analyzer_of(self.words)

    @property
    def spread(self) -> Spread | None:
        """Along the edges that count, if any does."""
        along = {str(kind): getattr(self, name) for name, kind in RELATIONS.items() if getattr(self, name)}
        return Spread(edge_types=along, direction=OUT) if along else None


GRID: Final[Mapping[str, Sequence[Any]]] = {
    "words": WORDS,
    "text": (0.3, 0.4, 0.5, 0.6, 0.7),
    "previous": (0.0, 0.1, 0.2, 0.3, 0.4),
    "next": (0.0, 0.1, 0.2, 0.3, 0.4),
    "session": (0.0, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0),
    "speaker": (0.0, 0.02, 0.05, 0.1, 0.2),
    "bm25": ((1.5, 0.75), (0.9, 0.4), (0.6, 0.2)),
}
"""What is tried of each; of "bm25" the pairs (k1, b): the usual one, Anserini's, and one for short texts."""


@final
class Board:
    """The parts of all scores of a conversation.

    Args:
        store: of the conversation, as `make_store` makes it.
        questions: with their evidence.
        vectors: of the questions, `[Q, D]`.
    """

    def __init__(self, store: T4DX, questions: Sequence[Question], vectors: NDArray[np.float32]) -> None:
        self._store, self._questions = store, questions
        self.turns = [item.id for item in store.scan(TURNS)]
        nodes = self.turns + [item.id for item in store.scan(Filter(type="semantic"))]
        self._place = {name: place for place, name in enumerate(nodes)}
        self._vector = self._scaled_vectors(vectors)
        self._heard = {name: self._targets(kind) for name, kind in RELATIONS.items()}
        self._texts: dict[tuple[str, Bm25], NDArray[np.float64]] = {}
        self._gains: dict[Weights, float] = {}

    def scores(self, weights: Weights) -> NDArray[np.float64]:
        """Scores of the turns in the order of `turns`, `[Q, turns]`."""
        text = self._text(weights)
        base = weights.text * text + (1.0 - weights.text) * self._vector
        total = base[:, : len(self.turns)].copy()
        for name, targets in self._heard.items():
            if weight := getattr(weights, name):
                total += weight * np.where(targets >= 0, base[:, targets], 0.0)
        return total

    def gain(self, weights: Weights) -> float:
        """Sum over the questions of recall@10 + nDCG@10: what the choice of weights makes large."""
        if weights not in self._gains:
            # turns are in the order of their ids, so equal scores fall as they do in the store
            best = np.argsort(-self.scores(weights), axis=1, kind="stable")[:, :K]
            names = [[self.turns[place] for place in row] for row in best.tolist()]
            both = zip(names, self._questions, strict=True)
            self._gains[weights] = sum(
                recall_at(row, asked.evidence, K) + ndcg_at(row, asked.evidence, K) for row, asked in both
            )
        return self._gains[weights]

    def _scaled_vectors(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        cosines = np.zeros((len(vectors), len(self._place)))
        for row, hits in enumerate(self._store.search(vectors, len(self.turns), [TURNS])):
            found = np.array([hit.score for hit in hits])
            span = max(float(found[0] - found[-1]), 1e-12)
            cosines[row, [self._place[hit.id] for hit in hits]] = (found - found[-1]) / span
        return cosines

    def _text(self, weights: Weights) -> NDArray[np.float64]:
        """BM25 of all nodes over that of the best turn."""
        key = weights.words, weights.bm25
        if key not in self._texts:
            scores = np.zeros((len(self._questions), len(self._place)))
            for row, asked in enumerate(self._questions):
                hits = self._store.search_text(
                    asked.text,
                    len(self._place),
                    corpus=TURNS,
                    bm25=weights.bm25,
                    analyzer=weights.analyzer,
                )
                scores[row, [self._place[hit.id] for hit in hits]] = [hit.score for hit in hits]
            best = scores[:, : len(self.turns)].max(axis=1, keepdims=True)
            self._texts[key] = scores / np.where(best > 0, best, 1.0)
        return self._texts[key]

    def _targets(self, kind: EdgeType) -> NDArray[np.int64]:
        """Where the edge of each turn leads, -1 for nowhere, `[turns]`."""
        targets = np.full(len(self.turns), -1)
        for edge in self._store.edges(where=EdgeFilter(type=kind)):
            targets[self._place[edge.source]] = self._place[edge.target]
        return targets


def choose(boards: Sequence[Board], start: Weights, fields: Sequence[str], *, rounds: int = 4) -> Weights:
    """Weights with the largest gain per question of all boards: each field in turn takes its best value of
    GRID, until a round changes nothing. Of equal ones the first that was tried is kept.
    """

    def gain(weights: Weights) -> float:
        return sum(board.gain(weights) for board in boards)

    best = start
    for _ in range(rounds):
        before = best
        for field in fields:
            for value in GRID[field]:
                changed = dict(zip(("k1", "b"), value, strict=True)) if field == "bm25" else {field: value}
                if gain(other := best._replace(**changed)) > gain(best) + 1e-9:
                    best = other
        if best == before:
            break
    return best


def cross_validated(boards: Mapping[str, Board], start: Weights, fields: Sequence[str]) -> dict[str, Weights]:
    """For each conversation the weights that all others choose; under "all" those that all choose together.

    Where there is one conversation only, nothing chooses for it: it has the weights of the start.
    """
    chosen = {}
    for name in boards:
        others = [board for other, board in boards.items() if other != name]
        chosen[name] = choose(others, start, fields) if others else start
    chosen["all"] = choose(list(boards.values()), start, fields)
    return chosen
