"""Parquet files of items and edges. pyarrow is optional, and imported here alone."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from t4dm.errors import ImportFileError, MissingExtra
from t4dm.t4dx.exchange import EDGE_FIELDS, ITEM_FIELDS, TIMES, Row, vector_of

_HEAD: Final = b"t4dx"
_GROUP: Final = 4096
_JSON: Final = ("metadata", "properties")
_FLOATS: Final = ("kappa", "importance", "weight", *TIMES)
COLUMNS: Final = tuple(dict.fromkeys(["kind", *ITEM_FIELDS, *EDGE_FIELDS]))


def write(path: Path, head: Row, rows: Iterable[Row]) -> None:
    """One column per field; `vector` is a list of float32, metadata and properties are JSON texts."""
    arrow, parquet = _arrow()
    schema = _schema(arrow).with_metadata({_HEAD: json.dumps(head).encode()})
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        source = iter(rows)
        while group := [_flat(row) for row in itertools.islice(source, _GROUP)]:
            writer.write_table(arrow.Table.from_pylist(group, schema=schema))


def head(path: Path) -> Row:
    """What `write` was told of the store; empty for a file of another origin."""
    _, parquet = _arrow()
    try:
        with parquet.ParquetFile(path) as file:
            found: Row = json.loads((file.schema_arrow.metadata or {}).get(_HEAD, b"{}"))
    except (OSError, ValueError) as error:
        raise ImportFileError(path, f"is no Parquet file ({str(error).splitlines()[0]})") from None
    return found


def read(path: Path) -> Iterator[Row]:
    """The rows as `write` got them; of a file of another origin, every column that is not null."""
    _, parquet = _arrow()
    ours = bool(head(path))
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_GROUP):
            for row in batch.to_pylist():
                yield _deep(row) if ours else {name: v for name, v in row.items() if v is not None}


def _schema(arrow: Any) -> Any:
    kinds = dict.fromkeys(_FLOATS, arrow.float64()) | {"access_count": arrow.int64()}
    kinds["vector"] = arrow.list_(arrow.float32())
    return arrow.schema([(name, kinds.get(name, arrow.string())) for name in COLUMNS])


def _flat(row: Row) -> Row:
    flat = dict(row)
    if flat.get("vector") is not None:
        flat["vector"] = vector_of(flat["vector"])
    return flat | {name: json.dumps(row[name], ensure_ascii=False) for name in _JSON if name in row}


def _deep(row: Row) -> Row:
    names = EDGE_FIELDS if row["kind"] == "edge" else ITEM_FIELDS
    deep = {name: row[name] for name in ("kind", *names)}
    return deep | {name: json.loads(row[name]) for name in _JSON if deep.get(name) is not None}


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("pyarrow", "data") from None
    return pyarrow, pyarrow.parquet
