"""Joining what two searches say of the same items, and letting scores flow to neighbours: pure arithmetic.

`rank_scores` is reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009). `scaled_scores` adds
scores that were brought to [0, 1]. `flow` lets part of each score reach the neighbours, as spreading
activation does (Collins and Loftus, 1975).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, final

from t4dm.errors import FusionError
from t4dm.t4dx.types import BOTH, Direction

FUSIONS: Final = ("rrf", "weighted")
SIDES: Final = ("vector", "text")
MEANS: Final = ("mean", "max", "sum")
TIME: Final = "time"
"""The relation between items of one session."""
Parts = dict[str, float]
"""What each part adds to one score."""
Neighbours = Mapping[str, Mapping[str, float]]
"""For each node its neighbours with the strength of each link."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How scores flow: score(n) += weight * combined scores of the neighbours of n, per relation.

    Attributes:
        edge_types: one type, several, or a weight for each: {"PART_OF": 0.3}.
        weight: of each type that has none of its own, 0 or more.
        direction: OUT: n hears those that its edges point to; IN: those that point to it; BOTH.
        hops: how often the scores flow, 1 to 3; what comes over h edges counts weight ** h.
        edge_weights: multiply each neighbour's score with the weight of the edge.
        time_neighbours: how many items before and after n in its session, by event time, it hears; 0 for
            none. Items without a session have no such neighbours.
        time_weight: of those, 0 or more.
        combine: of several neighbours the "mean", the "max" or the "sum".
        fan: of more edges at one node only the heaviest are followed.
    """

    edge_types: str | Iterable[str] | Mapping[str, float] = ()
    weight: float = 0.3
    direction: Direction = BOTH
    hops: int = 1
    edge_weights: bool = False
    time_neighbours: int = 0
    time_weight: float = 0.3
    combine: str = "mean"
    fan: int = 64

    def __post_init__(self) -> None:
        given: Any = self.edge_types
        names = (given,) if isinstance(given, str) else tuple(given)
        pairs = given.items() if isinstance(given, Mapping) else ((name, self.weight) for name in names)
        chosen = tuple((str(name), _weight(str(name), value)) for name, value in pairs)
        object.__setattr__(self, "edge_types", chosen)
        _weight("time_weight", self.time_weight)
        if self.combine not in MEANS:
            raise FusionError(
                f"a Spread cannot combine by {self.combine!r}; choose one of {', '.join(MEANS)}"
            )
        if not isinstance(self.direction, Direction):
            raise FusionError(f"direction of a Spread is {self.direction!r}; write OUT, IN or BOTH")
        for name, value, most in (("hops", self.hops, 3), ("time_neighbours", self.time_neighbours, 1000)):
            low = 1 if name == "hops" else 0
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= most:
                raise FusionError(
                    f"{name} of a Spread is {value!r}; write a whole number from {low} to {most}"
                )
        if self.fan < 1:
            raise FusionError(f"fan of a Spread is {self.fan}; write fan=1 or more")

    @property
    def relations(self) -> dict[str, float]:
        """The weight of each edge type."""
        return dict(self.edge_types)  # type: ignore[arg-type]


class Lists(NamedTuple):
    """What two searches found: scores by id, best first."""

    vector: dict[str, float]
    text: dict[str, float]


class Both(NamedTuple):
    """The scores of one item in both searches; None where it has no vector."""

    vector: float | None
    text: float


def edge_relation(edge_type: str) -> str:
    """The name of the relation along an edge type, different from all other parts of a score."""
    return f"edge {edge_type}"


def side_weights(weights: Mapping[str, float] | None) -> Parts:
    """The weight of each side, equal where none are given."""
    if weights is None:
        return {"vector": 0.5, "text": 0.5}
    if set(weights) != set(SIDES):
        raise FusionError(
            f"weights name {', '.join(map(repr, weights)) or 'nothing'}; "
            "write weights={'vector': 0.5, 'text': 0.5}"
        )
    return {side: _weight(side, weights[side]) for side in SIDES}


def rank_scores(lists: Lists, exact: Mapping[str, Both], weights: Parts, *, constant: float = 60.0) -> _Made:
    """weight / (constant + rank), added over both lists, ranks from 1. An item outside a list has the rank
    that its score would have there, and nothing from a list whose last is better.
    """
    made: _Made = {}
    ranks = {
        side: {name: rank for rank, name in enumerate(found, 1)}
        for side, found in zip(SIDES, lists, strict=True)
    }
    fallings = {side: [-score for score in found.values()] for side, found in zip(SIDES, lists, strict=True)}
    for name, both in exact.items():
        parts: Parts = {}
        for side, score in zip(SIDES, both, strict=True):
            rank = ranks[side].get(name) or _rank(fallings[side], score, held=side == "vector")
            if rank:
                parts[side] = weights[side] / (constant + rank)
        made[name] = parts
    return made


def scaled_scores(lists: Lists, exact: Mapping[str, Both], weights: Parts) -> _Made:
    """Both scores in [0, 1] and weighted: a text's by the best one's, since 0 means no word in common; a
    vector's between the worst and the best of those found, since it has no such zero.
    """
    best = max(lists.text.values(), default=1.0)
    low, high = min(lists.vector.values(), default=0.0), max(lists.vector.values(), default=0.0)
    span = high - low
    made: _Made = {}
    for name, both in exact.items():
        parts: Parts = {}
        if both.vector is not None:
            share = (both.vector - low) / span if span > 0 else float(both.vector >= high)
            parts["vector"] = weights["vector"] * min(max(share, 0.0), 1.0)
        if both.text > 0:
            parts["text"] = weights["text"] * both.text / best
        made[name] = parts
    return made


_Made = dict[str, Parts]


def flow(
    start: Collection[str],
    links: Callable[[Collection[str]], Mapping[str, Neighbours]],
    base: Callable[[Collection[str]], _Made],
    spread: Spread,
) -> _Made:
    """The scores of the start nodes and of those they reach, with what each part and relation adds.

    Args:
        start: nodes to begin with.
        links: for nodes the neighbours along each relation: TIME, or `edge_relation` of a type.
        base: the scores of nodes before anything flows.
        spread: how it flows.
    """
    weights = {edge_relation(name): weight for name, weight in spread.relations.items()}
    weights[TIME] = spread.time_weight
    rings, known = [set(start)], dict[str, dict[str, Mapping[str, float]]]()
    for _ in range(spread.hops + 1):  # the start and what it reaches are scored, and what reaches those
        rings.append(rings[-1] | _linked(rings[-1] - known.keys(), links, known))
    pool = rings[1]
    own = base(rings[-1])
    now = {name: sum(own[name].values()) for name in rings[-1]}
    found = {name: dict(own[name]) for name in pool}
    for hop in range(spread.hops):
        ring = rings[spread.hops - hop]
        heard = {name: _heard(known[name], now, weights, spread.combine) for name in ring}
        now = {name: sum(own[name].values()) + sum(heard[name].values()) for name in ring}
        if hop == spread.hops - 1:
            for name in pool:
                found[name] |= heard[name]
    return found


def total(parts: Mapping[str, float]) -> float:
    """The score that the parts add up to, the same in whatever order they were found."""
    return math.fsum(parts.values())


def _linked(
    nodes: Collection[str],
    links: Callable[[Collection[str]], Mapping[str, Neighbours]],
    known: dict[str, dict[str, Mapping[str, float]]],
) -> set[str]:
    """Look up the links of nodes; returns all that they lead to."""
    reached = set[str]()
    for relation, neighbours in links(nodes).items():
        for name in nodes:
            found = neighbours.get(name, {})
            known.setdefault(name, {})[relation] = found
            reached.update(found)
    for name in nodes:
        known.setdefault(name, {})
    return reached


def _heard(
    relations: Mapping[str, Mapping[str, float]], scores: Parts, weights: Parts, combine: str
) -> Parts:
    """What a node gets along each relation."""
    heard = {}
    for relation, neighbours in relations.items():
        values = [scores[name] * strength for name, strength in neighbours.items()]
        if values and (value := weights[relation] * _combined(values, combine)) > 0:
            heard[relation] = value
    return heard


def _combined(values: Sequence[float], combine: str) -> float:
    match combine:
        case "max":
            return max(values)
        case "sum":
            return math.fsum(values)
    return math.fsum(values) / len(values)


def _rank(fallings: list[float], score: float | None, *, held: bool) -> int:
    """The rank of a score in a list, from 1; 0 where it is behind the last, or says nothing."""
    if score is None or (score <= 0 and not held) or not fallings or -score > fallings[-1]:
        return 0
    return bisect_left(fallings, -score) + 1


def _weight(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise FusionError(f"the weight {name!r} is {value!r}; write a number from 0 on")
    return float(value)
