"""Recall episodes: facts told in one window, asked one to many windows later.

An episode is a sequence of windows. A window holds facts about entities, updates that supersede them,
distractors, and questions about what *earlier* windows told (or, with `distances=(0,)`, about this window).
The answer to a question is the value told last, so every answer is exact, and guessing within the attribute
succeeds once in sixteen times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from t4dm.data import words

Kind = Literal["fact", "update", "distractor", "question"]
CHANCE = 1.0 / len(words.ATTRIBUTES["color"])


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a window; `answer` is the word that follows a question, told `distance` windows ago."""

    text: str
    kind: Kind
    key: tuple[str, str] | None = None
    answer: str | None = None
    distance: int = -1


@dataclass(frozen=True, slots=True)
class Episode:
    """A seeded story: `windows[w]` is the list of sentences of window `w`."""

    session: str
    windows: tuple[tuple[Sentence, ...], ...]


@dataclass(slots=True)
class _World:
    """What is true now: value and window of the last telling, by (entity, attribute)."""

    keys: list[tuple[str, str]]
    """All that can be told of."""
    value: dict[tuple[str, str], str] = field(default_factory=dict)
    told: dict[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallTask:
    """The recipe of an episode.

    Args:
        windows: windows in an episode.
        facts: facts (or updates) told in each window that tells.
        telling: how many of the first windows tell facts; None = all.
        questions: questions in each window in which some fact is old enough.
        asking: the first window that asks.
        distances: allowed distances in windows between telling and asking; 0 asks within the window.
        update_rate: share of tellings that supersede an earlier fact.
        distractors: distractor sentences in a window.
        entities: size of the cast of one episode; a small cast makes facts share entities.
        attributes: how many attributes an episode speaks of; few make facts share attributes.
    """

    windows: int = 6
    facts: int = 3
    telling: int | None = None
    questions: int = 2
    asking: int = 0
    distances: tuple[int, ...] | list[int] = (1, 2, 3, 4, 5)
    update_rate: float = 0.15
    distractors: int = 1
    entities: int = 16
    attributes: int = len(words.ATTRIBUTES)

    def episode(self, rng: np.random.Generator, *, session: str) -> Episode:
        """Draw one episode."""
        cast = [words.ENTITIES[i] for i in rng.permutation(len(words.ENTITIES))[: self.entities]]
        spoken_of = [list(words.ATTRIBUTES)[i] for i in rng.permutation(len(words.ATTRIBUTES))]
        world = _World(keys=[(e, a) for e in cast for a in spoken_of[: self.attributes]])
        return Episode(session, tuple(self._window(w, world, rng) for w in range(self.windows)))

    def _window(self, w: int, world: _World, rng: np.random.Generator) -> tuple[Sentence, ...]:
        tells = self.telling is None or w < self.telling
        told = [self._tell(w, world, rng) for _ in range(self.facts if tells else 0)]
        told += [_distractor(rng) for _ in range(self.distractors)]
        order = rng.permutation(len(told)) if not _has_update(told) else np.arange(len(told))
        asked = self._ask(w, world, rng) if w >= self.asking else []
        return (*(told[i] for i in order), *asked)

    def _tell(self, w: int, world: _World, rng: np.random.Generator) -> Sentence:
        free = [key for key in world.keys if key not in world.value]
        if world.value and (rng.random() < self.update_rate or not free):
            key = list(world.value)[rng.integers(len(world.value))]
            values = [v for v in words.ATTRIBUTES[key[1]] if v != world.value[key]]
            form, kind = words.update, "update"
        else:
            key = free[rng.integers(len(free))]
            values = list(words.ATTRIBUTES[key[1]])
            form, kind = words.fact, "fact"
        value = values[rng.integers(len(values))]
        world.value[key], world.told[key] = value, w
        return Sentence(form(*key, value), kind, key)  # type: ignore[arg-type]

    def _ask(self, w: int, world: _World, rng: np.random.Generator) -> list[Sentence]:
        """Questions that take turns among the distances, in random order; a fact is asked at most once in
        a window.
        """
        by_distance = {d: [k for k, t in world.told.items() if w - t == d] for d in self.distances}
        asked: list[Sentence] = []
        turn: list[int] = []
        while len(asked) < self.questions and any(by_distance.values()):
            turn = turn or [d for d in rng.permutation(self.distances).tolist() if by_distance[d]]
            d = turn.pop()
            key = by_distance[d].pop(int(rng.integers(len(by_distance[d]))))
            asked.append(Sentence(words.question(*key), "question", key, world.value[key], d))
        return asked


def _has_update(sentences: Sequence[Sentence]) -> bool:
    """An update must stay behind what it supersedes, so such a window keeps its order."""
    return any(s.kind == "update" for s in sentences)


def _distractor(rng: np.random.Generator) -> Sentence:
    when, who, did, where = (part[rng.integers(len(part))] for part in words.DISTRACTOR_PARTS)
    return Sentence(f"{when} {who} {did} {where}.", "distractor")


def mqar(*, pairs: int = 4, windows: int = 2, distance: int = 1) -> RecallTask:
    """Multi-query associative recall (Arora et al. 2023, Zoology) in words: `pairs` told, then all of
    them asked.
    """
    return RecallTask(
        windows=windows,
        facts=pairs,
        telling=max(1, windows - distance),
        questions=pairs,
        distances=(distance,),
        update_rate=0.0,
        distractors=0,
        entities=max(pairs, 2),
    )
