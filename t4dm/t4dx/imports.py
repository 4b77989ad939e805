"""Items and edges from a file into a store: batch by batch, each whole or not at all. A second time changes
nothing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from t4dm.errors import CollectionExistsError, ImportFileError, ImportLineError, T4DMError
from t4dm.t4dx import exchange, history
from t4dm.t4dx.engine import T4DX
from t4dm.t4dx.exchange import Row
from t4dm.t4dx.export import SUFFIXES
from t4dm.t4dx.transaction import Transaction
from t4dm.t4dx.types import DEFAULT, UNSET, Collection, Edge, Item

Entry = Item | Edge
Numbered = tuple[int, Entry]


class Imported(NamedTuple):
    """What an import read, and how much of it the store held already, equal to the last bit."""

    items: int
    edges: int
    unchanged: int


def import_store(
    store: T4DX,
    path: str | os.PathLike[str],
    *,
    collection: str = DEFAULT,
    batch: int = 1000,
    progress: Callable[[int], None] | None = None,
) -> Imported:
    """Store what a .jsonl or .parquet file holds: an export, or a user's own lines with an id each.

    A version that the store holds already is left alone, one that differs supersedes it; so an import that
    was interrupted is finished by running it again. A user's own line has `id`, `content` or `text`, perhaps
    `vector`; every other key becomes metadata.

    Args:
        store: open for writing.
        path: the file.
        collection: where a user's own lines go; the lines of an export know it.
        batch: lines per transaction.
        progress: called with the number of lines read so far.

    Raises:
        ImportLineError: a line cannot be stored; nothing of its batch was, all batches before it were.
        ImportFileError, MissingExtra.
    """
    file = check_file(Path(path))
    head = read_head(file)
    _prepare(store, file, head)
    total, lines = Imported(0, 0, 0), _lines(file)
    while rows := list(islice(lines, batch)):
        entries = [_parse(file, n, row, exported=bool(head), collection=collection) for n, row in rows]
        total = _add(total, _store(store, file, entries))
        if progress is not None:
            progress(total.items + total.edges)
    return total


def check_file(path: Path) -> Path:
    """A file that can be read; raises ImportFileError."""
    if path.is_dir():
        raise ImportFileError(path, f"is a folder; name the file: {path / 'store.jsonl'}")
    if not path.is_file():
        raise ImportFileError(path, "does not exist; name a .jsonl or .parquet file")
    if path.suffix not in SUFFIXES:
        raise ImportFileError(
            path, f"has no known format; rename it to {path.stem}.jsonl or {path.stem}.parquet"
        )
    return path


def read_head(path: Path) -> Row:
    """The head of an export; empty for a user's own file. Raises ImportFileError for a newer format."""
    if path.suffix == ".parquet":
        from t4dm.t4dx import parquet

        head = parquet.head(path)
    else:
        with path.open("rb") as file:
            first = file.readline()
        head = _json(path, 1, first) if first.lstrip().startswith(b'{"kind":"store"') else {}
    if head and head.get("format") != exchange.FORMAT:
        raise ImportFileError(
            path,
            f"has format {head.get('format')}, this version reads {exchange.FORMAT}; pip install -U t4dm",
        )
    return head


def default_collection(path: Path) -> Collection | None:
    """What a new store for this file needs: its head's default collection, or the size of its first vector;
    None where it has none.
    """
    head = read_head(check_file(path))
    if head:
        return Collection(**head["collections"][0])
    for number, row in _lines(path):
        _, item = _parse(path, number, row, exported=False)
        if isinstance(item, Item) and item.vector is not None:
            return Collection(DEFAULT, len(item.vector))
    return None


def _prepare(store: T4DX, path: Path, head: Row) -> None:
    """Make the store know what the head names; raises ImportFileError where the two cannot fit."""
    for row in head.get("collections", ()):
        try:
            store.create_collection(**row)
        except CollectionExistsError as error:
            raise ImportFileError(
                path, f"does not fit: {error}; or import it into a new store: t4dm store import NEW {path}"
            ) from None
    for name in head.get("edge_types", ()):
        store.register_edge_type(name)


def _lines(path: Path) -> Iterator[tuple[int, Row]]:
    """Numbered rows, empty lines and the head left out."""
    if path.suffix == ".parquet":
        from t4dm.t4dx import parquet

        yield from enumerate(parquet.read(path), 1)
        return
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            if text.strip():
                row = _json(path, number, text)
                if number > 1 or row.get("kind") != "store":
                    yield number, row


def _json(path: Path, number: int, text: bytes) -> Row:
    try:
        row = json.loads(text.decode("utf-8-sig" if number == 1 else "utf-8"))
    except ValueError as error:
        raise ImportLineError(path, number, f"it is not JSON ({error})") from None
    if not isinstance(row, dict):
        raise ImportLineError(path, number, "it is not a JSON object like {...}")
    return row


def _parse(path: Path, number: int, row: Row, *, exported: bool, collection: str = DEFAULT) -> Numbered:
    try:
        if not exported:
            return number, exchange.plain_item_of(row, collection=collection)
        if row.get("kind") not in ("item", "edge"):
            raise T4DMError(f'its "kind" is {row.get("kind")!r}; it must be "item" or "edge"')
        return number, exchange.item_of(row) if row["kind"] == "item" else exchange.edge_of(row)
    except (T4DMError, ValueError, TypeError) as error:
        raise ImportLineError(path, number, str(error)) from None


def _store(store: T4DX, path: Path, rows: Sequence[Numbered]) -> Imported:
    """One batch as one transaction."""
    done = [0, 0, 0]
    with store.transaction() as tx:
        pending = _Pending(tx, path)
        for number, entry in rows:
            done[isinstance(entry, Edge)] += 1
            there = _twin(store, entry)
            if there is None:
                pending.add(number, entry)
            done[2] += there is not None
            if (there is None or there.record_until == math.inf) and entry.record_until < math.inf:
                pending.end(number, entry)
        pending.flush()
    return Imported(*done)


class _Pending:
    """Inserts gathered for one call; a second version of a key starts the next one."""

    def __init__(self, tx: Transaction, path: Path) -> None:
        self._tx, self._path = tx, path
        self._items: dict[str, tuple[int, Item]] = {}
        self._edges: dict[tuple[str, str, str], tuple[int, Edge]] = {}

    def add(self, number: int, entry: Entry) -> None:
        """Take an entry; its end on the record axis is not the insert's business."""
        entry = replace(entry, record_until=math.inf)
        if isinstance(entry, Item):
            if entry.id in self._items:
                self.flush()
            self._items[entry.id] = number, entry
        else:
            key = entry.source, entry.target, str(entry.type)
            if key in self._edges:
                self.flush()
            self._edges[key] = number, entry

    def end(self, number: int, entry: Entry) -> None:
        """End the newest version of an entry's key when the file says."""
        self.flush()
        if isinstance(entry, Item):
            self._tx.close_item(entry.id, at=entry.record_until)

    def flush(self) -> None:
        """Hand over what was gathered; names the line that is refused."""
        try:
            if self._items or self._edges:
                self._tx.insert_many(
                    [i for _, i in self._items.values()], [e for _, e in self._edges.values()]
                )
        except T4DMError:
            gathered: list[Numbered] = [*self._items.values(), *self._edges.values()]
            for number, entry in gathered:
                self._check(number, entry)
            raise
        self._items, self._edges = {}, {}

    def _check(self, number: int, entry: Entry) -> None:
        try:
            alone = ([entry], []) if isinstance(entry, Item) else ([], [entry])
            self._tx.insert_many(*alone)
        except T4DMError as error:
            raise ImportLineError(self._path, number, str(error)) from None


def _twin(store: T4DX, entry: Entry) -> Entry | None:
    """The version that the store holds already, whenever it ended; None where there is none."""
    found: Sequence[Entry]
    if isinstance(entry, Item):
        found = list(reversed(store.history(entry.id)))
    else:
        found = history.edge_versions(store, entry.source, entry.target, entry.type)
    same: Iterator[Entry] = (old for old in reversed(found) if _same(old, entry))
    return next(same, None)


def _same(old: Entry, new: Entry) -> bool:
    """Equal in all that the new one says; a time that it leaves open counts as said by the old one."""
    times = {name: getattr(old, name) for name in exchange.TIMES if getattr(new, name, None) == UNSET}
    return old == replace(new, **{**times, "record_until": old.record_until})


def _add(one: Imported, other: Imported) -> Imported:
    return Imported(*(a + b for a, b in zip(one, other, strict=True)))
