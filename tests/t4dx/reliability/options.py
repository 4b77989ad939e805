"""Thresholds so small that flushes, merges and parts happen all the time."""

from __future__ import annotations

import random
from dataclasses import fields

from t4dm.t4dx import Options

KNOWN = {f.name for f in fields(Options)}


def options(**wanted: object) -> Options:
    """Options with the background work done in the foreground, so that a run repeats exactly."""
    chosen = {"background": False, "idle_marker": 0.0, "max_frozen": 1000} | wanted
    return Options(**{name: value for name, value in chosen.items() if name in KNOWN})


def tiny(rng: random.Random, *, durability: str | None = None) -> Options:
    """Random tiny thresholds."""
    return options(
        durability=durability or rng.choice(("sync", "os")),
        memtable_items=rng.choice((4, 9, 30)),
        memtable_bytes=rng.choice((4096, 2**20)),
        max_deltas=rng.choice((1, 2, 4)),
        max_segments=rng.choice((1, 2, 3)),
        txn_part_bytes=rng.choice((200, 10_000)),
    )
