"""Does a search for a question find the turns that answer it, and what do edges add? LoCoMo's turns in T4DX.

Each arm ranks the turns of each question's conversation through the store's own searches. The weights of an
arm that has any to choose come from the other conversations (leave one out), so that no figure is of a
question that helped to choose.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t4dm.errors import TooFewConversationsError
from t4dm.evaluation.locomo import Conversation
from t4dm.evaluation.retrieval_scores import Scored, scored
from t4dm.evaluation.retrieval_store import TURNS, make_store, turn_text
from t4dm.evaluation.retrieval_weights import Board, Weights, cross_validated
from t4dm.evaluation.retrieval_words import WORDS, analyzer_of
from t4dm.t4dx import T4DX

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
Choices = Mapping[str, Mapping[str, Weights]]
"""By arm and conversation; under "all" what the whole of them chooses."""

RANKED: Final = 100
"""Turns that are ranked for each question."""
NO_WEIGHTS: Final = Weights()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to rank.

    Attributes:
        start: its weights; where `fields` are chosen, the first ones.
        fields: of the weights that are chosen.
        search: "text" or "vector" alone, or "hybrid".
        shuffled: the edges join other turns than they should: as many, of the same types. A control.
    """

    start: Weights = NO_WEIGHTS
    fields: tuple[str, ...] = ()
    search: str = "hybrid"
    shuffled: bool = False


RECIPE: Final = Weights(previous=0.3, next=0.3, session=0.3)
EDGES: Final = "hybrid + edges"
ARMS: Final[Mapping[str, Arm]] = {
    "MiniLM": Arm(search="vector"),
    "BM25": Arm(search="text"),
    "hybrid, plain": Arm(),
    "hybrid + edges, plain": Arm(start=RECIPE),
    "BM25, chosen": Arm(search="text", start=Weights(text=1.0), fields=("words", "bm25")),
    "hybrid": Arm(fields=("words", "text", "bm25")),
    "hybrid + neighbours": Arm(
        start=Weights(previous=0.2, next=0.2), fields=("words", "text", "previous", "next", "bm25")
    ),
    EDGES: Arm(start=RECIPE, fields=("words", "text", "previous", "next", "session", "speaker", "bm25")),
    "hybrid + shuffled edges": Arm(start=RECIPE, shuffled=True),
}
"""What is compared. The first four take words as they are written and weights that nobody chose: 0.5 for both
searches, 0.3 for edges. The control has the weights of EDGES.
"""
CONTROLS: Final[Mapping[str, str]] = {"hybrid + shuffled edges": EDGES}
"""Arms that take over the weights of another one."""


class Study(NamedTuple):
    """What was found."""

    rows: Mapping[str, list[Scored]]
    """By arm, in the order of the questions."""
    weights: Choices


def study(
    conversations: Sequence[Conversation],
    *,
    encode: Encode,
    folder: Path,
    rng: np.random.Generator,
    weights: Choices | None = None,
    arms: Mapping[str, Arm] = ARMS,
    progress: Callable[[str], None] = lambda _: None,
) -> Study:
    """Store the conversations, choose weights, and rank the turns for each question under each arm.

    Args:
        conversations: each with its questions.
        encode: texts to unit vectors `[N, D]`.
        folder: where the stores are made, one for each conversation.
        rng: shuffles the edges of the control.
        weights: of an earlier study; then those under "all" are taken and nothing is chosen.
        arms: what is compared.
        progress: called with a word for each part.

    Raises:
        TooFewConversationsError: weights are to be chosen, and there are not two conversations.
    """
    if weights is None and len(conversations) < 2:
        raise TooFewConversationsError(len(conversations))
    if any("words" in arm.fields for arm in arms.values()):
        for words in WORDS:
            analyzer_of(words)  # first: whoever lacks a stemmer hears it now
    rows: dict[str, list[Scored]] = {name: [] for name in arms}
    with contextlib.ExitStack() as opened:
        desks = []
        for one in conversations:
            progress(f"store {one.id}")
            desks.append(_desk(one, encode, folder, rng, opened))
        chosen = weights or _chosen(desks, arms, progress)
        for name, arm in arms.items():
            progress(f"rank {name}")
            for desk in desks:
                of = _weights_of(name, arm, desk.conversation.id, chosen, fixed=weights is not None)
                rows[name] += _rows(desk, arm, of)
    return Study(rows, chosen)


def ranked(
    store: T4DX,
    text: str,
    vector: NDArray[np.float32],
    weights: Weights,
    *,
    search: str,
    k: int = RANKED,
) -> list[str]:
    """Ids of the k best turns, by the store's own search: "vector", "text" or "hybrid"."""
    if search == "vector":
        return store.search(vector, k, TURNS).ids
    if search == "text":
        return store.search_text(
            text, k, TURNS, corpus=TURNS, bm25=weights.bm25, analyzer=weights.analyzer
        ).ids
    return store.search_hybrid(
        vector,
        text,
        k,
        TURNS,
        weights=weights.sides,
        spread=weights.spread,
        depth=store.count(TURNS),  # nothing is left out
        corpus=TURNS,
        bm25=weights.bm25,
        analyzer=weights.analyzer,
    ).ids


class _Desk(NamedTuple):
    """A conversation, its store, the same with shuffled edges, the vectors of its questions."""

    conversation: Conversation
    store: T4DX
    shuffled: T4DX
    asked: NDArray[np.float32]


def _desk(
    one: Conversation,
    encode: Encode,
    folder: Path,
    rng: np.random.Generator,
    opened: contextlib.ExitStack,
) -> _Desk:
    vectors = encode([turn_text(turn) for turn in one.turns])
    store = opened.enter_context(make_store(folder / one.id, one, vectors))
    order = rng.permutation(len(one.turns))
    shuffled = opened.enter_context(make_store(folder / f"{one.id}-shuffled", one, vectors, order=order))
    return _Desk(one, store, shuffled, encode([question.text for question in one.questions]))


def _rows(desk: _Desk, arm: Arm, weights: Weights) -> list[Scored]:
    store = desk.shuffled if arm.shuffled else desk.store
    both = zip(desk.conversation.questions, desk.asked, strict=True)
    return [
        scored(asked, ranked(store, asked.text, vector, weights, search=arm.search)) for asked, vector in both
    ]


def _chosen(desks: Sequence[_Desk], arms: Mapping[str, Arm], progress: Callable[[str], None]) -> Choices:
    boards = {one.id: Board(store, one.questions, asked) for one, store, _, asked in desks}
    chosen = {}
    for name, arm in arms.items():
        if arm.fields:
            progress(f"weights of {name}")
            chosen[name] = cross_validated(boards, arm.start, arm.fields)
    return chosen


def _weights_of(name: str, arm: Arm, conversation: str, chosen: Choices, *, fixed: bool) -> Weights:
    """Those that an arm ranks a conversation with."""
    found = chosen.get(CONTROLS.get(name, name))
    return arm.start if found is None else found["all" if fixed else conversation]
