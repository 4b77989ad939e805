"""What one query brought back, hit by hit, for people and for files."""

from __future__ import annotations

from typing import Any, NamedTuple

from t4dm.memory.memory import Recall


class RecalledItem(NamedTuple):
    """One hit of a search."""

    id: str
    text: str
    score: float
    age: float
    """Seconds since the event."""
    kappa: float


def hits(recall: Recall, row: int = 0) -> list[RecalledItem]:
    """The hits of one query, best first."""
    found = recall.mask[row].tolist()
    columns = (recall.ids[row], recall.contents[row])
    numbers = (recall.scores[row].tolist(), recall.ages[row].tolist(), recall.kappas[row].tolist())
    return [
        RecalledItem(*values)
        for values, there in zip(zip(*columns, *numbers, strict=False), found, strict=False)
        if there
    ]


def one_query(recall: Recall, row: int) -> Recall:
    """The recall of one query alone."""
    parts: list[Any] = [part[row : row + 1] for part in recall]
    return Recall(*parts)
