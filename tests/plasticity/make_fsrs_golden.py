"""Runs random histories of reviews through py-fsrs and writes what it finds to golden/fsrs.json.

    pip install "fsrs>=6.3" && python tests/plasticity/make_fsrs_golden.py

Nothing of t4dm is imported.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from random import Random

from fsrs import Card, Rating, Scheduler

GOLDEN = Path(__file__).parent / "golden" / "fsrs.json"
START = datetime(2026, 1, 1, tzinfo=UTC)


def history(reviews: list[tuple[int, int]]) -> list[list[float]]:
    """(days since the last review, rating) of each review -> [days, rating, R before, S, D] of each."""
    scheduler, card, now, rows = Scheduler(enable_fuzzing=False), Card(), START, []
    for days, rating in reviews:
        now += timedelta(days=days)
        recall = scheduler.get_card_retrievability(card, now)
        card, _ = scheduler.review_card(card, Rating(rating), now)
        assert card.stability is not None
        assert card.difficulty is not None
        rows.append([days, rating, recall, card.stability, card.difficulty])
    return rows


def main() -> None:
    rng = Random(0)
    gaps = [0, 0, 1, 1, 2, 3, 5, 8, 21, 60, 200, 1000]
    histories = [
        history([(0 if n == 0 else rng.choice(gaps), rng.choice([1, 2, 3, 3, 4])) for n in range(8)])
        for _ in range(40)
    ]
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps({"fsrs": version("fsrs"), "histories": histories}) + "\n")


if __name__ == "__main__":
    main()
