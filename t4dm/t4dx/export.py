"""A whole store, or its present, as one file that other programs read: JSONL or Parquet."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from t4dm.errors import ExportTargetError, OptionError
from t4dm.t4dx import exchange
from t4dm.t4dx.exchange import Row
from t4dm.t4dx.history import all_edges, all_items
from t4dm.t4dx.reader import Reader

SUFFIXES: Final = (".jsonl", ".parquet")
_STEP: Final = 1000


class Counts(NamedTuple):
    """Versions of items and of edges."""

    items: int
    edges: int


def export_store(
    store: Reader,
    path: str | os.PathLike[str],
    *,
    history: bool = False,
    vectors: str = "base64",
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Counts:
    """Write every item and edge to a .jsonl or .parquet file; one version at a time is in memory.

    The file appears under its name when it is complete, and it is of one moment, whatever is written to the
    store meanwhile.

    Args:
        store: an open store or a snapshot.
        path: a new file; its suffix says the format.
        history: all versions ever recorded instead of the current ones.
        vectors: "base64" (float32, exact), "list" (numbers, exact, larger) or "none".
        overwrite: replace a file that exists.
        progress: called with the number of versions written so far.

    Returns:
        How many were written.

    Raises:
        ExportTargetError, OptionError, MissingExtra.
    """
    target = check_target(Path(path), overwrite=overwrite)
    if vectors not in exchange.VECTORS:
        raise OptionError(f"no vector form {vectors!r}; choose one of {', '.join(exchange.VECTORS)}")
    version = store._read()
    frozen, counted = Reader(lambda: version), [0, 0]
    rows = _counted(_rows(frozen, history=history, vectors=vectors), counted, progress)
    partial = target.with_name(target.name + ".partial")
    try:
        if target.suffix == ".parquet":
            from t4dm.t4dx import parquet

            parquet.write(partial, header(frozen, history=history), rows)
        else:
            _write_lines(partial, header(frozen, history=history), rows)
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return Counts(*counted)


def check_target(path: Path, *, overwrite: bool) -> Path:
    """A file that may be written; raises ExportTargetError, which says what to type instead."""
    if path.is_dir():
        raise ExportTargetError(path, f"is a folder; name a file in it: {path / 'store.jsonl'}")
    if path.suffix not in SUFFIXES:
        raise ExportTargetError(
            path, f"has no known format; name it {path.stem}.jsonl or {path.stem}.parquet"
        )
    if path.exists() and not overwrite:
        raise ExportTargetError(
            path, "exists; name another file, or replace it with overwrite=True (--force)"
        )
    if not path.absolute().parent.is_dir():
        raise ExportTargetError(path, f"lies in no folder; make it: mkdir -p {path.parent}")
    return path


def header(reader: Reader, *, history: bool) -> Row:
    """What an import must know before the first version."""
    version = reader._read()
    return {
        "kind": "store",
        "format": exchange.FORMAT,
        "collections": [collection._asdict() for collection in version.collections.rows],
        "edge_types": list(version.types.names),
        "history": history,
        "lsn": version.lsn,
    }


def _rows(reader: Reader, *, history: bool, vectors: str) -> Iterator[Row]:
    for item in all_items(reader, past=history):
        yield exchange.item_row(item, vectors=vectors)
    for edge in all_edges(reader, past=history):
        yield exchange.edge_row(edge)


def _counted(
    rows: Iterable[Row], counted: list[int], progress: Callable[[int], None] | None
) -> Iterator[Row]:
    for row in rows:
        yield row
        counted[row["kind"] == "edge"] += 1
        if progress is not None and sum(counted) % _STEP == 0:
            progress(sum(counted))
    if progress is not None:
        progress(sum(counted))


def _write_lines(path: Path, head: Row, rows: Iterable[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(line(head))
        for row in rows:
            file.write(line(row))
        file.flush()
        os.fsync(file.fileno())


def line(row: Any) -> str:
    """One JSON object and a line end."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
