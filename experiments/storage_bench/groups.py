"""The row groups: each runs in its own process, over its own copies of the loaded stores."""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from experiments.bench import measure
from experiments.storage_bench.data import Data
from experiments.storage_bench.systems import system
from experiments.storage_bench.systems.base import GraphSystem, System

Result = dict[str, Any]

LOADED: Final = ("t4dx", "sqlite normal", "qdrant-edge", "lancedb", "chroma", "kuzu")
POINT: Final = {
    "insert_sync": ("t4dx sync", "sqlite full", "kuzu", "chroma"),
    "insert_nosync": ("t4dx os", "t4dx interval", "qdrant-edge", "sqlite normal", "lancedb"),
    "update_sync": ("t4dx sync", "sqlite full", "kuzu", "chroma"),
    "update_nosync": ("t4dx os", "t4dx interval", "qdrant-edge", "sqlite normal", "lancedb"),
    "bulk_update": ("t4dx os", "sqlite normal", "kuzu", "qdrant-edge", "chroma", "lancedb"),
    "get": ("t4dx os", "qdrant-edge", "sqlite normal", "chroma", "lancedb", "kuzu"),
    "two_hops": ("t4dx os", "sqlite normal", "kuzu"),
    "edge_update_nosync": ("t4dx os", "t4dx interval", "sqlite normal", "kuzu"),
    "scale_edges": ("t4dx os", "sqlite normal", "kuzu"),
}


class Setting(NamedTuple):
    """A run: its data, where stores are, how often and how long."""

    data: Data
    stores: Path
    scratch: Path
    rounds: int
    calls: int
    budget: float  # seconds for one system in one round
    engines: tuple[str, ...]

    def wanted(self, labels: Iterable[str]) -> list[str]:
        return [label for label in labels if label.partition(" ")[0] in self.engines]


class Missing(NamedTuple):
    """A system without rows, and why."""

    label: str
    why: str


def load(label: str, setting: Setting) -> Result:
    """Bulk load from nothing until a search answers; the store stays for the other groups."""
    folder = setting.stores / label.partition(" ")[0]
    shutil.rmtree(folder, ignore_errors=True)
    try:
        store = system(label)
    except ImportError as error:
        return {"systems": {}, "missing": [Missing(label, str(error))._asdict()]}
    store.open(folder, setting.data)
    begin = time.perf_counter()
    store.load(setting.data)
    hits = store.search(setting.data.vectors[0], 1)
    seconds = time.perf_counter() - begin
    agree(label, "its own vector is the nearest", hits, setting.data.ids[:1])
    entry = {
        "rate": setting.data.n / seconds,
        "seconds": seconds,
        "durability": store.durability,
        "rounds": 1,
    }
    if isinstance(store, GraphSystem):
        begin = time.perf_counter()
        store.load_edges(setting.data)
        entry["edges_per_s"] = setting.data.targets.size / (time.perf_counter() - begin)
    store.settle()
    store.close()
    entry["bytes"] = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {"systems": {label: entry}, "missing": []}


def point(name: str, setting: Setting) -> Result:
    """One kind of call, systems interleaved; at the end all systems must give the same answers."""
    stores, missing = copies(POINT[name], setting)
    try:
        times = timed(name, stores, setting)
        same_answers(name, stores, setting)
    finally:
        for store in stores.values():
            store.close()
    systems = {}
    for label, rounds in times.items():
        systems[label] = {**measure.summary(rounds), "durability": stores[label].durability}
        if name == "bulk_update":
            systems[label]["rate"] = _bulk(setting) / systems[label]["p50"] * 1e3
    return {"systems": systems, "missing": [entry._asdict() for entry in missing]}


def timed(name: str, stores: Mapping[str, Any], setting: Setting) -> dict[str, list[list[float]]]:
    """Milliseconds of one kind of call by system and round, after a first round that is not counted."""
    jobs = {label: _job(name, store, setting) for label, store in stores.items()}
    for job in jobs.values():  # caches, prepared statements and lazy columns
        job(-1)
    gc.collect()
    return measure.interleave(jobs, rounds=setting.rounds)


def copies(labels: Sequence[str], setting: Setting) -> tuple[dict[str, Any], list[Missing]]:
    """Open a private copy of each loaded store."""
    stores: dict[str, Any] = {}
    missing: list[Missing] = []
    shutil.rmtree(setting.scratch, ignore_errors=True)
    for label in setting.wanted(labels):
        source = setting.stores / label.partition(" ")[0]
        if not source.exists():
            missing.append(Missing(label, "not loaded: run the group 'load' first"))
            continue
        folder = setting.scratch / label.replace(" ", "-")
        shutil.copytree(source, folder)
        try:
            stores[label] = system(label)
        except ImportError as error:
            missing.append(Missing(label, str(error)))
            continue
        stores[label].open(folder, setting.data)
    return stores, missing


def _job(name: str, store: Any, setting: Setting) -> Callable[[int], list[float]]:
    """Round number -> milliseconds of its calls. Arguments are made before the clock starts; -1 warms up."""
    data, budget = setting.data, setting.budget

    def run(turn: int) -> list[float]:
        rng = np.random.default_rng(100 + turn)
        calls = setting.calls if turn >= 0 else max(2, setting.calls // 20)
        nums = rng.integers(0, data.n, calls).tolist()
        if name.startswith("insert"):
            first = data.n + (turn + 1) * setting.calls
            rows = data.rows(first, min(first + calls, len(data.ids)))
            return measure.block(store.insert, rows, budget=budget)
        if name.startswith("update"):
            kappas = rng.random(calls).tolist()
            return measure.block(
                lambda pair: store.update(*pair), list(zip(nums, kappas, strict=True)), budget=budget
            )
        if name == "bulk_update":
            return measure.block(
                lambda kappa: store.update_first(_bulk(setting), kappa), [0.25 + turn / 64], budget=budget
            )
        if name == "edge_update_nosync":
            targets = data.targets[nums, rng.integers(0, data.targets.shape[1], calls)].tolist()
            edges = [(a, b, 1 / 1024) for a, b in zip(nums, targets, strict=True)]
            return measure.block(store.bump, edges, budget=budget)
        if name == "scale_edges":
            probe = (nums[0], int(data.targets[nums[0]][0]))
            return measure.block(
                lambda factor: (store.scale(factor), store.weight(*probe)), [0.75], budget=budget
            )
        return measure.block(store.get if name == "get" else store.two_hops, nums, budget=budget)

    return run


def _bulk(setting: Setting) -> int:
    return min(10_000, setting.data.n)


def same_answers(name: str, stores: Mapping[str, Any], setting: Setting) -> None:
    """Raise where two systems disagree on what the calls left behind. Slow ones made fewer of them, so what
    is compared is set anew first.
    """
    data, probe = setting.data, [0, setting.data.n // 2, setting.data.n - 1]
    if name == "two_hops":
        wanted = [_two_hops(data, num) for num in probe]
        for label, store in stores.items():
            numbers = label.startswith("sqlite")
            names = [{n if numbers else data.ids[n] for n in hops} for hops in wanted]
            agree(label, "2 hops", [store.two_hops(num) for num in probe], names)
    elif name in ("edge_update_nosync", "scale_edges"):
        _same_weights(name, stores, data, probe)
    else:
        for label, store in stores.items():
            _same_items(name, label, store, setting, probe)


def _same_weights(name: str, stores: Mapping[str, Any], data: Data, probe: Sequence[int]) -> None:
    for label, store in stores.items():
        for num in probe:
            target = int(data.targets[num][0])
            before = store.weight(num, target)
            if name == "scale_edges":
                store.scale(0.5)
                wanted = before * 0.5
            else:
                store.bump((num, target, 0.125))
                wanted = min(before + 0.125, 1.0)
            if abs(store.weight(num, target) - wanted) > 1e-6:
                raise Disagreement(f"{label} answers {name} with {store.weight(num, target)}, not {wanted}")


def _same_items(name: str, label: str, store: System, setting: Setting, probe: Sequence[int]) -> None:
    data = setting.data
    if name.startswith("update"):
        for num in probe:
            store.update(num, 0.625)
    kappas = {num: 0.625 if name.startswith("update") else data.kappas[num] for num in probe}
    if name == "bulk_update":
        kappas |= {num: 0.25 + (setting.rounds - 1) / 64 for num in probe if num < _bulk(setting)}
    if name.startswith("insert"):
        kappas[data.n] = data.kappas[data.n]
    for num, kappa in kappas.items():
        found = store.get(num)
        agree(label, f"item {num}", (found.text, found.kappa), (data.row(num).text, kappa))
        if not np.allclose(np.asarray(found.vector, np.float32), data.vectors[num], atol=1e-5):
            raise Disagreement(f"{label} answers get of item {num} with another vector")


def _two_hops(data: Data, num: int) -> set[int]:
    near = data.targets[num]
    return {int(n) for n in near} | {int(n) for n in data.targets[near].ravel()} - {num}


class Disagreement(AssertionError):
    """Two systems gave different answers: their times cannot be compared."""


def agree(label: str, what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise Disagreement(f"{label} answers {what} with {found!r}, not {wanted!r}")
