"""How far a Python program can go in a search: the leanest one, beside T4DX and the peer, at equal recall.

Each is tuned as in the row itself; what finds too little is no floor and has no time. *faiss alone* is the
one call into faiss that does most of the leanest program's work, at that program's effort. *shortened* is the
same program over a graph of fewer coordinates, where there is a walk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np

from experiments.storage_bench import sets
from experiments.storage_bench.groups import Missing, Result, Setting, copies
from experiments.storage_bench.indexed import with_fresh
from experiments.storage_bench.searches import (
    SHARES,
    Ask,
    Batch,
    K,
    Part,
    Race,
    batched,
    batches,
    below,
    closed,
    compared,
    exam,
    opened,
    plain,
    result,
)
from experiments.storage_bench.targets import SEARCH, Target

LEANEST: Final = "leanest"
SHORTENED: Final = "shortened"
ALONE: Final = "faiss alone"
PEER: Final = "qdrant-edge"
GROUPS: Final = ("nearest", "filter", "fresh", "batch")
ROWS: Final = {
    target.bench: target for target in SEARCH if target.group in GROUPS and target.at_most is not None
}
Timed = tuple[dict[str, Any], list[Missing]]


class Lean(NamedTuple):
    """The leanest program, what faiss does in it, and the program over a short graph."""

    whole: Any
    alone: Any
    shortened: Any


def floors(setting: Setting) -> Result:
    """Times of T4DX, of the peer, of the leanest program and of faiss in it, in each of `ROWS`."""
    stores, missing = opened(("t4dx", PEER), setting)
    lean, why = _leanest(setting)
    if why:
        missing.append(Missing(LEANEST, why))
    found: dict[str, Timed] = {}
    try:
        if "t4dx" in stores:
            found = {target.bench: _search(target, stores, lean, setting) for target in ROWS.values()}
    finally:
        closed(stores)
    rows = [row for bench, timed in found.items() if (row := _row(ROWS[bench], timed[0]))]
    missing += [entry for _, short in found.values() for entry in short]
    seen: dict[str, Any] = {label: {} for row in rows for label in row["systems"]}
    return {**result(seen, list(dict.fromkeys(missing))), "search_floors": rows}


def _row(target: Target, systems: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is compared in a row; None without T4DX."""
    labels = [label for name in ("t4dx", LEANEST, ALONE, SHORTENED) for label in target.rivals(name)]
    kept = {label: systems[label] for label in dict.fromkeys(labels) if label in systems}
    return {"operation": target.bench, "systems": kept} if target.ours in kept else None


def _leanest(setting: Setting) -> tuple[dict[int, Lean], str]:
    """The leanest program by one thread and by two, or why there is none."""
    folder = setting.stores / "faiss"
    if "faiss" not in setting.engines:
        return {}, "it reads what the system faiss leaves, which was not asked for"
    if not folder.exists():
        return {}, "it reads what the system faiss leaves, not indexed: run the group 'index' first"
    try:
        from experiments.storage_bench.leanest_search import FaissAlone, Leanest, held, shortened
    except ImportError as error:
        return {}, str(error)
    content = held(folder, setting.data, fresh=sets.fresh(setting.data.n))
    short = shortened(content)
    programs = [(threads, Leanest(content, threads=threads)) for threads in (1, 2)]
    return {
        threads: Lean(whole, FaissAlone(whole), Leanest(short, threads=threads))
        for threads, whole in programs
    }, ""


def _search(target: Target, stores: Mapping[str, Any], lean: Mapping[int, Lean], setting: Setting) -> Timed:
    match target.group:
        case "nearest":
            return _nearest(stores, lean, setting)
        case "filter":
            return _filtered(target.part, stores, lean, setting)
        case "fresh":
            return _fresh(stores, lean, setting)
    return _batch(target, stores, lean, setting)


def _nearest(stores: Mapping[str, Any], lean: Mapping[int, Lean], setting: Setting) -> Timed:
    every, parts = _beside(stores, lean, _walk)
    asks = {label: plain(store) for label, store in every.items()}
    return compared(Race("search", asks, every, dict.fromkeys(every, exam(setting)), parts), setting)


def _filtered(share: str, stores: Mapping[str, Any], lean: Mapping[int, Lean], setting: Setting) -> Timed:
    kappa, data = sets.below(SHARES[share]), setting.data
    asked = exam(setting, np.flatnonzero(data.kappas[: data.n] <= kappa))
    every, parts = _beside(stores, lean, lambda alone: lambda vector: alone.below(vector, K, kappa))
    if lean and not lean[1].whole.walks(kappa):
        del every[SHORTENED]
    asks = {label: below(store, kappa) for label, store in every.items()}
    return compared(Race(f"filter {share}", asks, every, dict.fromkeys(every, asked), parts), setting)


def _fresh(stores: Mapping[str, Any], lean: Mapping[int, Lean], setting: Setting) -> Timed:
    """The peer holds the indexed rows alone; faiss alone walks among them."""
    peers = {label: store for label, store in stores.items() if label == PEER}
    own, missing = copies(("t4dx",), setting)
    own["t4dx"].close()
    own["t4dx"].store = with_fresh(setting, setting.data.n // 10)
    try:
        every, parts = _beside({**own, **peers}, lean, _walk)
        asks: dict[str, Ask] = {label: plain(store) for label, store in every.items()}
        asks |= {label: _later(every[label]) for label in (LEANEST, SHORTENED) if lean}
        whole = exam(setting, np.arange(setting.data.n + sets.fresh(setting.data.n)))
        exams = {**dict.fromkeys(every, whole), **dict.fromkeys(peers, exam(setting))}
        systems, short = compared(Race("fresh rows", asks, every, exams, parts), setting)
    finally:
        closed(own)
    return systems, [*missing, *short]


def _batch(target: Target, stores: Mapping[str, Any], lean: Mapping[int, Lean], setting: Setting) -> Timed:
    parts: dict[str, Part] = {}
    with ThreadPoolExecutor(2) as pool:
        calls: dict[str, Batch] = {}
        for label, store in stores.items():
            calls |= batches(label, store, pool)
        for (whole, alone, short), threads in zip(lean.values(), ("1 thread", "2 threads"), strict=False):
            calls |= batches(f"{LEANEST} {threads}", whole, pool)
            calls |= batches(f"{SHORTENED} {threads}", short, pool)
            parts[f"{ALONE} {threads}"] = Part(f"{LEANEST} {threads}", _walk(alone))
        labels = {label for name in ("t4dx", LEANEST, ALONE, SHORTENED) for label in target.rivals(name)}
        calls = {label: call for label, call in calls.items() if label in labels}
        parts = {label: part for label, part in parts.items() if label in labels}
        return batched(calls, parts, setting)


def _later(whole: Any) -> Ask:
    return lambda vector: whole.search_beside(vector, K)


def _walk(alone: Any) -> Callable[[Any], object]:
    return lambda queries: alone.walk(queries, K)


def _beside(
    stores: Mapping[str, Any], lean: Mapping[int, Lean], ask: Callable[[Any], Callable[[Any], object]]
) -> tuple[dict[str, Any], dict[str, Part]]:
    """The stores and the leanest programs, and the part of the first that is faiss's."""
    if not lean:
        return dict(stores), {}
    whole, alone, short = lean[1]
    return {**stores, LEANEST: whole, SHORTENED: short}, {ALONE: Part(LEANEST, ask(alone))}
