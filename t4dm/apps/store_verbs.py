"""What `t4dm store stats|get|scan|search|timeline` do; they only read, also beside a running training."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from t4dm.apps.store_output import (
    opened,
    parsed_filter,
    parsed_time,
    print_fields,
    print_json,
    print_table,
    shown_time,
)
from t4dm.errors import UnknownItemError, UsageError
from t4dm.t4dx import T4DX, Edge, Filter, Hits, Item
from t4dm.t4dx.exchange import edge_row, item_row
from t4dm.t4dx.history import Written, life_of
from t4dm.t4dx.reader import When

_NAMES: Final = ("id", "source", "target", "type")


class Page(NamedTuple):
    """Which part of a listing."""

    limit: int
    offset: int
    order: str


class Query(NamedTuple):
    """What a search looks for."""

    vector: str
    like: str
    text: str
    fusion: str
    k: int
    collection: str
    explain: bool


def stats(path: Path, *, as_json: bool, key: Path | None) -> None:
    """Counts and sizes as `key  value` lines."""
    with opened(path, key=key) as store:
        rows = store.stats() | {"collections": [row._asdict() for row in store.collections().values()]}
    if as_json:
        print_json(rows)
        return
    named = [f"{row['name']} ({row['dim']}, {row['metric']})" for row in rows["collections"]]
    print_fields(rows | {"collections": ", ".join(named)})


def get(path: Path, id: str, *, as_of: str, as_json: bool, key: Path | None) -> None:
    """One item and its edges; for people with its vector by length only."""
    when = parsed_time(as_of)
    with opened(path, key=key) as store:
        item = store.get(id, as_of=when)
        if item is None:
            raise UnknownItemError(id, str(path))
        edges = [*store.edges(source=id, as_of=when), *store.edges(target=id, as_of=when)]
    row = item_row(item)
    if as_json:
        print_json(row | {"edges": [edge_row(edge) for edge in edges]})
        return
    row["vector"] = None if item.vector is None else f"{len(item.vector)} numbers"
    row["edges"] = [f"{edge.source} -{edge.type}-> {edge.target} ({edge.weight:.2f})" for edge in edges]
    print(
        json.dumps(
            {name: value for name, value in row.items() if name != "kind"}, indent=1, ensure_ascii=False
        )
    )


def scan(
    path: Path, page: Page, *, type: str, where: str, as_of: str, as_json: bool, key: Path | None
) -> None:
    """Items in an order, the newest first where nothing else is asked for."""
    chosen, when = parsed_filter(where, type=type), parsed_time(as_of)
    with opened(path, key=key) as store:
        items = store.scan(chosen, limit=page.limit, offset=page.offset, order=page.order, as_of=when)
        if as_json:
            for item in items:
                print_json(item_row(item))
            return
        rows = [
            (
                i.id,
                i.type,
                f"{i.kappa:.2f}",
                f"{i.importance:.2f}",
                i.session,
                shown_time(i.record_time),
                i.content,
            )
            for i in items
        ]
    print_table(("id", "type", "kappa", "importance", "session", "recorded", "content"), rows)


def search(path: Path, query: Query, *, where: str, as_of: str, as_json: bool, key: Path | None) -> None:
    """The items nearest to a vector, those that answer a text, or those that do both."""
    chosen, when = parsed_filter(where), parsed_time(as_of)
    if query.k < 1:
        raise UsageError(f"-k {query.k} asks for nothing; write -k 10")
    if bool(query.vector) and bool(query.like):
        raise UsageError("give either a vector or an item: --vector query.npy, or --like ID")
    if not (query.vector or query.like or query.text):
        raise UsageError('say what to look for: --vector query.npy, --like ID, or --text "some words"')
    with opened(path, key=key) as store:
        hits = _found(store, path, query, chosen, when)
    if as_json:
        for hit in hits:
            print_json({"score": float(hit.score), **item_row(hit.item)})
    else:
        print_table(
            ("score", "id", "type", "content"),
            [(f"{h.score:.4f}", h.id, h.item.type, h.item.content) for h in hits],
        )
    for step in hits.plan or ():
        shown = {
            name: " ".join(f"{word}:{n}" for word, n in value.items()) if isinstance(value, dict) else value
            for name, value in step.items()
            if isinstance(value, str | int | float | dict | None)
        }
        if as_json:
            print_json({"plan": shown})
        else:
            print("  ".join(f"{name}={value}" for name, value in shown.items()))


def timeline(path: Path, id: str, *, as_json: bool, key: Path | None) -> None:
    """The life of an item by record time."""
    with opened(path, key=key) as store:
        life = life_of(store, id)
        if not any(isinstance(written.version, Item) for written in life):
            raise UnknownItemError(id, str(path))
        events = [event for written in life for event in _events(written)]
        for info in store.transactions():
            if any(info.first_lsn <= written.lsn <= info.last_lsn for written in life):
                known = {"lsn": info.first_lsn, "event": "transaction", "id": info.id, "state": info.state}
                events.append({"time": info.time, **known})
    events.sort(key=lambda event: (event["time"], event["lsn"]))
    if as_json:
        for event in events:
            print_json(event)
    else:
        print_table(
            ("recorded", "event", "what"), [(shown_time(e["time"]), e["event"], _what(e)) for e in events]
        )


def _events(written: Written) -> list[dict[str, Any]]:
    """The beginning of a version, and its end where it has one."""
    version, row = written.version, _row(written.version)
    kind = row["kind"]
    events = [{"time": version.record_time, "lsn": written.lsn, "event": kind, **row}]
    if version.record_until < math.inf:
        named: dict[str, Any] = {name: row[name] for name in _NAMES if name in row}
        events.append({"time": version.record_until, "lsn": written.lsn, "event": f"{kind} ended", **named})
    return events


def _row(version: Item | Edge) -> dict[str, Any]:
    return item_row(version, vectors="none") if isinstance(version, Item) else edge_row(version)


def _what(event: dict[str, Any]) -> str:
    kind = event["event"].partition(" ")[0]
    if kind == "transaction":
        return f"{event['id']} {event['state']}"
    if kind == "edge":
        weight = f" ({event['weight']:.2f})" if "weight" in event else ""
        return f"{event['source']} -{event['type']}-> {event['target']}{weight}"
    return f"{event['id']} {event.get('content', '')}"


def _found(store: T4DX, path: Path, query: Query, where: Filter, when: When) -> Hits:
    """What the query finds: by its vector, by its text, or by both."""
    if not (query.vector or query.like):
        if query.collection:
            where = dataclasses.replace(where, collection=query.collection)
        return store.search_text(query.text, query.k, where, as_of=when, explain=query.explain)
    vector, name = _query(store, path, query)
    if not query.text:
        return store.search(vector, query.k, where, collection=name, as_of=when, explain=query.explain)
    return store.search_hybrid(
        vector,
        query.text,
        query.k,
        where,
        collection=name,
        as_of=when,
        fusion=query.fusion,
        explain=query.explain,
    )


def _query(store: T4DX, path: Path, query: Query) -> tuple[Any, str]:
    """The vector to look for, and the collection."""
    if not query.like:
        return _vector(query.vector), query.collection or "default"
    item = store.get(query.like)
    if item is None:
        raise UnknownItemError(query.like, str(path))
    if item.vector is None:
        raise UsageError(f"item {item.id!r} has no vector; name one that has, or give --vector query.npy")
    return item.vector, query.collection or item.collection


def _vector(text: str) -> Any:
    if text.endswith(".npy"):
        try:
            found = np.load(text, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"--vector {text}: {error}; write a file with numpy.save({text!r}, vector)"
            ) from None
        return found[0] if found.ndim == 2 and len(found) == 1 else found
    try:
        return np.array([float(part) for part in text.split(",")], np.float32)
    except ValueError:
        raise UsageError(
            f'--vector {text!r} is no list of numbers; write --vector "0.1,0.2", or a .npy file'
        ) from None
