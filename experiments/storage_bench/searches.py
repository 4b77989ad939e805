"""Row groups of searches at equal recall: each system by the least effort that finds what it must.

The effort is found on one half of the queries, the recall and the times are taken on the other. Where that
half falls short the next effort is taken; a system that cannot find enough has no row.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np

from experiments.bench import measure
from experiments.storage_bench import sets
from experiments.storage_bench.groups import Missing, Result, Setting
from experiments.storage_bench.systems import system

K: Final = 10
RECALL: Final = 0.99
BATCH: Final = 256
SEARCHERS: Final = (
    "t4dx", "t4dx-hnswlib", "qdrant-edge", "lancedb", "chroma", "kuzu", "faiss", "hnswlib"
)  # fmt: skip
STORES: Final = SEARCHERS[:6]
"""Those that are stores, not libraries."""
SHARES: Final = {"50 %": 0.5, "10 %": 0.1, "1 %": 0.01, "0.1 %": 0.001}
DURABILITY: Final = "reads only"
Ask = Callable[[Any], list[str]]


class Found(NamedTuple):
    """A system at the effort that it needs."""

    effort: Any
    recall: float


class Exam(NamedTuple):
    """Queries [Q, D] of both halves, and the ids that their answers must hold."""

    sides: sets.Sides
    tuning: list[set[str]]
    judged: list[set[str]]


def exam(setting: Setting, chosen: Any = None) -> Exam:
    """The queries of the set, asked of some rows."""
    sides = sets.sides(setting.data)
    tuning, judged = (sets.truth(setting.data, queries, K, chosen) for queries in sides)
    return Exam(sides, tuning, judged)


def recall(ask: Ask, queries: Any, wanted: Sequence[set[str]]) -> float:
    """The mean share of what must be found; an answer counts its k first ids."""
    shares = [
        len(set(ask(query)[:K]) & truth) / len(truth) if truth else 1.0
        for query, truth in zip(queries, wanted, strict=True)
    ]
    return float(np.mean(shares))


def tuned(store: Any, ask: Ask, asked: Exam) -> Found:
    """Set the least effort at which both halves find RECALL; the greatest one where none does."""
    store.effort = store.efforts[-1]
    best = recall(ask, asked.sides.tuning, asked.tuning)
    if best < RECALL:
        return Found(store.effort, best)
    for effort in store.efforts:
        store.effort = effort
        if effort == store.efforts[-1] or recall(ask, asked.sides.tuning, asked.tuning) >= RECALL:
            best = recall(ask, asked.sides.judged, asked.judged)
            if best >= RECALL:
                break
    return Found(store.effort, best)


def opened(labels: Iterable[str], setting: Setting) -> tuple[dict[str, Any], list[Missing]]:
    """The indexed stores of a set, opened where they lie: nothing is written."""
    stores: dict[str, Any] = {}
    missing: list[Missing] = []
    for label in setting.wanted(labels):
        folder = setting.stores / label
        if not folder.exists():
            missing.append(Missing(label, "not indexed: run the group 'index' first"))
            continue
        try:
            stores[label] = system(label)
        except ImportError as error:
            missing.append(Missing(label, str(error)))
            continue
        stores[label].open(folder, setting.data)
    return stores, missing


class Part(NamedTuple):
    """What one system's call does among other things."""

    whole: str
    ask: Callable[[Any], object]


class Race(NamedTuple):
    """One kind of search by several systems: what each is asked, what it must find; and by label the part of
    another system's call that is timed alone, at its effort, and need not find anything.
    """

    what: str
    asks: dict[str, Ask]
    stores: dict[str, Any]
    exams: dict[str, Exam]
    parts: Mapping[str, Part] = MappingProxyType({})


def compared(race: Race, setting: Setting) -> tuple[dict[str, Any], list[Missing]]:
    """Tune each system, then time those that find enough, interleaved."""
    found, missing = {}, []
    for label, ask in race.asks.items():
        store = race.stores[label]
        if label.endswith("default"):
            store.effort = None
            asked = race.exams[label]
            found[label] = Found(None, recall(ask, asked.sides.judged, asked.judged))
        else:
            found[label] = tuned(store, ask, race.exams[label])
        if found[label].recall < RECALL:
            why = f"recall {found[label].recall:.3f} at effort {found[label].effort}"
            missing.append(Missing(f"{label}, {race.what}", why))
    jobs = {
        label: _job(race.stores[label], found[label].effort, ask, race.exams[label], setting)
        for label, ask in race.asks.items()
        if found[label].recall >= RECALL
    }
    for label, part in race.parts.items():
        if part.whole in jobs:
            store, effort = race.stores[part.whole], found[part.whole].effort
            jobs[label] = _job(store, effort, part.ask, race.exams[part.whole], setting)
    gc.collect()
    times = measure.interleave(jobs, rounds=setting.rounds)
    return _entries(times, found), missing


def _job(
    store: Any, effort: Any, ask: Callable[[Any], object], asked: Exam, setting: Setting
) -> Callable[[int], list[float]]:
    def run(turn: int) -> list[float]:
        store.effort = effort
        queries = list(asked.sides.judged)
        measure.block(ask, queries[:5], budget=setting.budget)  # what the others pushed out of the caches
        return measure.block(ask, islice(cycle(queries), setting.calls), budget=setting.budget)

    return run


def nearest(setting: Setting) -> Result:
    """The k nearest of all rows."""
    stores, missing = opened(SEARCHERS, setting)
    if "t4dx" in stores:
        stores["t4dx default"] = stores["t4dx"]
    asks = {label: plain(store) for label, store in stores.items()}
    exams = dict.fromkeys(stores, exam(setting))
    try:
        systems, short = compared(Race("search", asks, stores, exams), setting)
    finally:
        closed(stores)
    return result(systems, [*missing, *short])


def filtered(setting: Setting) -> Result:
    """The k nearest of the rows whose kappa is at most some value, by the share that passes."""
    stores, missing = opened(STORES, setting)
    if "t4dx" in stores:
        stores["t4dx default"] = stores["t4dx"]
    systems: dict[str, Any] = {label: {"durability": DURABILITY} for label in stores}
    try:
        for name, share in SHARES.items():
            kappa = sets.below(share)
            rows = np.flatnonzero(setting.data.kappas[: setting.data.n] <= kappa)
            asks = {label: below(store, kappa) for label, store in stores.items()}
            exams = dict.fromkeys(stores, exam(setting, rows))
            timed, short = compared(Race(f"filter {name}", asks, stores, exams), setting)
            missing += short
            for label, entry in timed.items():
                systems[label][name] = {**entry, "matches": len(rows)}
    finally:
        closed(stores)
    return result(systems, missing)


def batch(setting: Setting) -> Result:
    """256 queries at once: T4DX by one thread and by two that share them, the others by their own batches."""
    stores, missing = opened(("t4dx", "qdrant-edge", "lancedb", "chroma", "faiss", "hnswlib"), setting)
    calls: dict[str, Batch] = {}
    try:
        with ThreadPoolExecutor(2) as pool:
            for label, store in stores.items():
                calls |= batches(label, store, pool)
                if label == "qdrant-edge":
                    calls["qdrant-edge one by one"] = Batch(store, _one_by_one(store))
            systems, short = batched(calls, {}, setting)
    finally:
        closed(stores)
    return result(systems, [*missing, *short])


class Batch(NamedTuple):
    """A system, and how it is asked [Q, D] queries at once."""

    store: Any
    call: Callable[[Any], object]


def batches(label: str, store: Any, pool: ThreadPoolExecutor) -> dict[str, Batch]:
    """A system's own way to answer many; T4DX has one with a thread and one with two."""
    if label != "t4dx":
        return {label: Batch(store, _many(store))}
    return {
        "t4dx 1 thread": Batch(store, _many(store)),
        "t4dx 2 threads": Batch(store, _halves(store, pool)),
    }


def batched(
    calls: Mapping[str, Batch], parts: Mapping[str, Part], setting: Setting
) -> tuple[dict[str, Any], list[Missing]]:
    """`compared` for batches; each effort is that of the plain search."""
    asked = exam(setting)
    queries = np.resize(asked.sides.judged, (BATCH, setting.data.dim))
    found = {label: tuned(store, plain(store), asked) for label, (store, _) in calls.items()}
    missing = [
        Missing(f"{label}, batch", f"recall {best.recall:.3f}")
        for label, best in found.items()
        if best.recall < RECALL
    ]

    def job(label: str, call: Callable[[Any], object]) -> Callable[[int], list[float]]:
        store = calls[label].store

        def run(_: int) -> list[float]:
            store.effort = found[label].effort
            return measure.block(call, [queries] * 3, budget=setting.budget)

        run(0)
        return run

    jobs = {label: job(label, calls[label].call) for label, best in found.items() if best.recall >= RECALL}
    jobs |= {label: job(part.whole, part.ask) for label, part in parts.items() if part.whole in jobs}
    return _entries(measure.interleave(jobs, rounds=setting.rounds), found), missing


def _entries(times: dict[str, list[list[float]]], found: dict[str, Found]) -> dict[str, Any]:
    entries = {
        label: {**measure.summary(rounds), "durability": DURABILITY} for label, rounds in times.items()
    }
    for label in found.keys() & entries.keys():
        entries[label] |= {"recall": round(found[label].recall, 4), "effort": found[label].effort}
    return entries


def plain(store: Any) -> Ask:
    return lambda vector: list(store.search(vector, K))


def below(store: Any, kappa: float) -> Ask:
    return lambda vector: list(store.search_below(vector, K, kappa))


def _many(store: Any) -> Callable[[Any], Any]:
    return lambda queries: store.search_many(queries, K)


def _one_by_one(store: Any) -> Callable[[Any], Any]:
    return lambda queries: [store.search(query, K) for query in queries]


def _halves(store: Any, pool: ThreadPoolExecutor) -> Callable[[Any], Any]:
    def call(queries: Any) -> Any:
        return list(pool.map(lambda part: store.search_many(part, K), np.array_split(queries, 2)))

    return call


def closed(stores: dict[str, Any]) -> None:
    """Close each store once."""
    for store in {id(store): store for store in stores.values()}.values():
        store.close()


def result(systems: dict[str, Any], missing: Sequence[Missing]) -> Result:
    return {"systems": systems, "missing": [entry._asdict() for entry in missing]}


def allocated(folder: Path) -> int:
    """Bytes that a folder takes on the disk."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())
