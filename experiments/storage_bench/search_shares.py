"""Where the time of a search goes, by part of the engine: what bounds the searches that miss their target."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from experiments.storage_bench import sets, shares
from experiments.storage_bench.groups import Result, Setting, copies
from experiments.storage_bench.indexed import with_fresh
from experiments.storage_bench.searches import (
    BATCH,
    SHARES,
    Ask,
    Exam,
    K,
    below,
    closed,
    exam,
    opened,
    plain,
    result,
    tuned,
)

MODULES: Final = {
    "checks": ("door", "engine", "item_reads", "registry"),
    "planner": ("costs", "ladders", "planner", "proposals"),
    "filter": (
        "columns", "filters", "matching", "metadata_columns", "predicates", "sorted_columns", "state",
        "tables", "zone_maps",
    ),
    "codes": ("codes",),
    "bindings": ("ann", "ann_faiss", "ann_hnswlib", "ann_placed", "graph"),
    "vectors": ("blobs", "memtable", "segment"),
    "scores": ("metrics", "scoring"),
}  # fmt: skip
FUNCTIONS: Final = {
    "filter": (
        "proposals._reach", "proposals.reach_of", "scoring._chosen", "scoring._is_the_present",
        "scoring.column_of", "scoring.mask", "scoring.part_of", "scoring.places", "scoring.rows",
        "scoring.sieved",
    ),
    "codes": ("proposals._worth_a_look", "proposals.by_codes"),
    "vectors": ("scoring.block", "scoring.inverse", "scoring.take", "scoring.vectors"),
    "answer": (
        "memtable.id_at", "planner._top", "planner.nearest", "scoring.<listcomp>", "scoring.add",
        "scoring.edge", "segment.id_at", "segment.label",
    ),
}  # fmt: skip
"""What does another part's work than the rest of its module."""
NAMES: Final = (
    "checks", "planner", "filter", "codes", "bindings", "walk", "vectors", "scores", "answer", "rest"
)  # fmt: skip
_OWN: Final = {name: part for part, names in FUNCTIONS.items() for name in names}
_MODULE: Final = {name: part for part, names in MODULES.items() for name in names}
_BENCH: Final = Path(__file__).parent


def part_of(file: str, name: str) -> str:
    """What a search spends its time on; numpy works for its caller."""
    if file == "~":
        if "hammings" in name:
            return "codes"
        inside = "_swigfaiss" in name or "hnswlib" in name
        return ("walk" if "search" in name.lower() else "bindings") if inside else ""
    path = Path(file)
    if path.parent.name == shares.SOURCES:
        return _OWN.get(f"{path.stem}.{name}") or _MODULE.get(path.stem, "rest")
    if path.parent.name == "faiss":
        return "bindings"
    return "rest" if path.is_relative_to(_BENCH) else ""


SPLIT: Final = shares.Split(NAMES, part_of)


def search_shares(setting: Setting) -> Result:
    """Microseconds of T4DX per query in each part, at the effort of each row of the table."""
    stores, missing = opened(("t4dx",), setting)
    if "t4dx" not in stores:
        return {**result({}, missing), "search_shares": []}
    data, store = setting.data, stores["t4dx"]
    try:
        rows = [_row("search", store, plain(store), exam(setting), setting)]
        for name, share in SHARES.items():
            kappa = sets.below(share)
            asked = exam(setting, np.flatnonzero(data.kappas[: data.n] <= kappa))
            rows.append(_row(f"filter {name}", store, below(store, kappa), asked, setting))
        rows.append(_batch(store, setting))
    finally:
        closed(stores)
    own, absent = copies(("t4dx",), setting)
    store = own["t4dx"]
    store.close()
    store.store = with_fresh(setting, data.n // 10)
    try:
        whole = exam(setting, np.arange(data.n + sets.fresh(data.n)))
        rows.append(_row("search beside fresh rows", store, plain(store), whole, setting))
    finally:
        closed(own)
    return {**result({"t4dx": {}}, [*missing, *absent]), "search_shares": rows}


def _row(name: str, store: Any, ask: Ask, asked: Exam, setting: Setting) -> dict[str, Any]:
    found = tuned(store, ask, asked)
    queries = list(islice(cycle(asked.sides.judged), min(shares.CALLS, setting.calls)))
    row = shares.row("t4dx", name, _each(ask, queries), len(queries), SPLIT)
    return {**row, "recall": round(found.recall, 4), "effort": found.effort}


def _batch(store: Any, setting: Setting) -> dict[str, Any]:
    """By one thread: a profile sees no other."""
    asked = exam(setting)
    found = tuned(store, plain(store), asked)
    queries = np.resize(asked.sides.judged, (BATCH, setting.data.dim))
    loop = _each(lambda many: store.search_many(many, K), [queries] * 3)
    row = shares.row("t4dx", f"batch of {BATCH}, one of it", loop, 3 * BATCH, SPLIT)
    return {**row, "recall": round(found.recall, 4), "effort": found.effort}


def _each(call: Callable[[Any], object], values: list[Any]) -> Callable[[], None]:
    def loop() -> None:
        for value in values:
            call(value)

    return loop
