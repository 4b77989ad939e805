"""Items and edges as plain JSON values and back, without losing a bit.

One object per version: `kind` is "item" or "edge", the other keys are the fields of `Item` and `Edge`. An
open end of time is null. A vector is a list of numbers, or base64 of little-endian float32. Metadata and
properties are JSON already.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

import numpy as np

from t4dm.errors import ItemError
from t4dm.t4dx.types import DEFAULT, UNSET, Edge, Float32s, Item

FORMAT: Final = 1
VECTORS: Final = ("base64", "list", "none")
ITEM_FIELDS: Final = tuple(field.name for field in fields(Item))
EDGE_FIELDS: Final = tuple(field.name for field in fields(Edge))
TIMES: Final = ("event_time", "record_time", "valid_from", "valid_until", "record_until")
Row = dict[str, Any]


def item_row(item: Item, *, vectors: str = "base64") -> Row:
    """An item as JSON values; `vectors` is "base64", "list" or "none"."""
    row: Row = {"kind": "item"}
    for name in ITEM_FIELDS:
        row[name] = _plain(name, getattr(item, name))
    row |= {"metadata": dict(item.metadata), "vector": None}
    if item.vector is not None and vectors != "none":
        row["vector"] = item.vector.tolist() if vectors == "list" else pack_vector(item.vector)
    return row


def edge_row(edge: Edge) -> Row:
    """An edge as JSON values."""
    row: Row = {"kind": "edge"}
    for name in EDGE_FIELDS:
        row[name] = _plain(name, getattr(edge, name))
    return row | {"type": str(edge.type), "properties": dict(edge.properties)}


def item_of(row: Mapping[str, Any]) -> Item:
    """Undo `item_row`; keys that are not there get their default. Raises ItemError."""
    known = _known(row, ITEM_FIELDS, "item")
    if "vector" in known:
        known["vector"] = vector_of(known["vector"])
    return Item(**known)


def edge_of(row: Mapping[str, Any]) -> Edge:
    """Undo `edge_row`; keys that are not there get their default. Raises ItemError."""
    known = _known(row, EDGE_FIELDS, "edge")
    missing = [name for name in ("source", "target", "type") if not isinstance(known.get(name), str)]
    if missing:
        raise ItemError(f"an edge has a text for source, target and type; add {missing[0]!r}")
    return Edge(**known)


def plain_item_of(row: Mapping[str, Any], *, collection: str = DEFAULT) -> Item:
    """An item of a user's own file: `id`, `content` or `text`, an optional `vector`; the rest is metadata.

    A key `metadata` that holds an object is merged into it.
    """
    rest = {name: value for name, value in row.items() if value is not None}
    name = rest.pop("id", None)
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)
    key = "content" if "content" in rest else "text"
    content, vector, inner = rest.pop(key, ""), rest.pop("vector", None), rest.pop("metadata", {})
    if not isinstance(name, str) or not name:
        raise ItemError('it has no text under "id"; give every line its own id')
    if not isinstance(content, str):
        raise ItemError(f'"{key}" is not a text; write it as a string')
    metadata = {**inner, **rest} if isinstance(inner, dict) else {"metadata": inner, **rest}
    return Item(id=name, content=content, vector=vector_of(vector), metadata=metadata, collection=collection)


def pack_vector(vector: Float32s) -> str:
    """base64 of little-endian float32."""
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode("ascii")


def vector_of(value: Any) -> Float32s | None:
    """A vector from base64, a list of numbers, or None; raises ItemError."""
    if value is None:
        return None
    try:
        if isinstance(value, str):
            raw = base64.b64decode(value.encode("ascii"), validate=True)
            return np.frombuffer(raw, "<f4").astype(np.float32)
        with np.errstate(over="ignore"):  # the store refuses the infinity that comes of it
            flat = np.array(value, np.float64).astype(np.float32)
    except (ValueError, TypeError, UnicodeEncodeError, binascii.Error):
        flat = np.zeros((0, 0), np.float32)
    if flat.ndim != 1:
        raise ItemError("the vector is neither a list of numbers nor base64 of float32; write [0.1, 0.2]")
    return flat


def _plain(name: str, value: Any) -> Any:
    return None if name in TIMES and math.isinf(value) else value


def _known(row: Mapping[str, Any], names: tuple[str, ...], kind: str) -> Row:
    unknown = row.keys() - {"kind", *names}
    if unknown:
        raise ItemError(f"an {kind} has no field {min(unknown)!r}; it has {', '.join(names)}")
    known = {name: row[name] for name in names if name in row}
    for name in TIMES:
        if name in known and known[name] is None:
            opened = {"valid_from": -math.inf, "valid_until": math.inf, "record_until": math.inf}
            known[name] = opened.get(name, UNSET)
        if name in known and (isinstance(known[name], bool) or not isinstance(known[name], int | float)):
            raise ItemError(f"{name} is {known[name]!r}; give seconds as a number, or null")
    return known
