"""The door of the store: everything is checked here, before it is logged, so that applying it cannot fail."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgpack
import numpy as np
from numpy.typing import ArrayLike, NDArray

from t4dm.errors import EdgeError, ItemError, VectorError
from t4dm.t4dx.ops import InsertEdges, InsertItems
from t4dm.t4dx.types import ITEM_TYPES, UNSET, Collection, Edge, Item

_LATEST: Final = 1e11  # the year 5138; milliseconds since 1970 passed it in 1973
_NORMS: Final = (1e-18, 1e18)  # within these a float32 dot product neither overflows nor vanishes
_HAS, _HAS_NOT = np.array([True]), np.array([False])
_CLEAR: Final = (1e-30, 1e30)  # a square that float32 puts here has a norm well within _NORMS


def item_rows(items: Sequence[Item], *, collection: Collection, now: float) -> InsertItems:
    """Check items of one collection and lay them out in columns; raises ItemError or VectorError and names
    the item.
    """
    seen: set[str] = set()
    for item in items:
        check_id(item.id, what="item")
        if item.id in seen:
            raise ItemError(
                f"item {item.id!r} is twice in one insert; insert its versions one after the other"
            )
        seen.add(item.id)
        _check_words(item)
    has = np.array([item.vector is not None for item in items], bool)
    given = [item.vector for item in items if item.vector is not None]
    owners = [item.id for item in items if item.vector is not None]
    return InsertItems(
        ids=[str(item.id) for item in items],
        contents=[_utf8(item.content, item.id) for item in items],
        types=[item.type for item in items],
        sessions=[_utf8(item.session, item.id) for item in items],
        metas=[pack_plain(item.metadata, owner=f"metadata of item {item.id!r}") for item in items],
        numbers=np.array([_item_numbers(item, now) for item in items], np.float64).reshape(-1, 8),
        has=has,
        vectors=check_vectors(given, dim=collection.dim, owners=owners),
        collection=collection.name,
    )


def item_row(item: Item, *, collection: Collection, now: float) -> InsertItems:
    """The same for one item, without the loops."""
    name, vector = item.id, item.vector
    check_id(name, what="item")
    _check_words(item)
    return InsertItems(
        [str(name)],
        [_utf8(item.content, name)],
        [item.type],
        [_utf8(item.session, name)],
        [pack_plain(item.metadata, owner=f"metadata of item {name!r}") if item.metadata else b""],
        np.array((_item_numbers(item, now),), np.float64),
        _HAS if vector is not None else _HAS_NOT,
        check_vectors([] if vector is None else [vector], dim=collection.dim, owners=[name]),
        collection.name,
    )


def _check_words(item: Item) -> None:
    if item.type not in ITEM_TYPES:
        raise ItemError(f"item {item.id!r} has type {item.type!r}; choose one of {', '.join(ITEM_TYPES)}")
    if not isinstance(item.content, str) or not isinstance(item.session, str):
        raise ItemError(f"item {item.id!r}: content and session are strings; write content=str(...)")


def edge_rows(edges: Sequence[Edge], *, known: Mapping[str, int], now: float) -> InsertEdges:
    """Check edges and lay them out in columns; raises EdgeError."""
    keys = [(edge.source, edge.target, check_type(edge.type, known)) for edge in edges]
    for edge in edges:
        for end in (edge.source, edge.target):
            check_id(end, what="end of an edge")
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise EdgeError(f"edge {twice} is twice in one insert; keep one of them")
    return InsertEdges(
        sources=[key[0] for key in keys],
        targets=[key[1] for key in keys],
        types=[key[2] for key in keys],
        props=[
            pack_plain(edge.properties, owner=f"properties of edge {key}")
            for edge, key in zip(edges, keys, strict=True)
        ],
        numbers=np.array([_edge_numbers(edge, now) for edge in edges], np.float64).reshape(-1, 5),
    )


def check_vectors(vectors: Iterable[ArrayLike], *, dim: int, owners: Sequence[str]) -> NDArray[np.float32]:
    """Vectors as [m, dim] float32; raises VectorError for a wrong size, NaN, infinity or an absurd norm."""
    rows = [np.asarray(vector, np.float32) for vector in vectors]
    for row, owner in zip(rows, owners, strict=False):
        if row.shape != (dim,):
            raise VectorError(
                f"the vector of {owner} has shape {row.shape}, the store holds [{dim}]; pass {dim} numbers"
            )
    if len(rows) == 1:
        block = np.array(rows)
        if _CLEAR[0] < np.vdot(block, block) < _CLEAR[1]:  # False for NaN, and vdot never warns
            return block
    else:
        block = np.concatenate(rows).reshape(-1, dim) if rows else np.zeros((0, dim), np.float32)
        squares = np.einsum("ij,ij->i", block, block)  # never warns either
        if np.all((squares > _CLEAR[0]) & (squares < _CLEAR[1])):
            return block
    norms = np.sqrt(np.square(block, dtype=np.float64).sum(axis=1))
    for place in np.flatnonzero(~np.isfinite(norms)).tolist():
        raise VectorError(
            f"the vector of {owners[place]} holds NaN or infinity; drop it or repair it before the insert"
        )
    for place in np.flatnonzero((norms > 0) & ((norms < _NORMS[0]) | (norms > _NORMS[1]))).tolist():
        raise VectorError(
            f"the vector of {owners[place]} has norm {norms[place]:.1e}; divide it by its norm first"
        )
    return block


def check_id(value: object, *, what: str) -> None:
    """Ids are non-empty strings."""
    if not isinstance(value, str) or not value:
        raise ItemError(
            f"the id of an {what} is a non-empty string, not {value!r}; make one with new_id(rng)"
        )
    _utf8(value, value)


def check_type(value: object, known: Mapping[str, int]) -> str:
    """An edge type this store knows."""
    name = str(value)
    if name not in known:
        raise EdgeError(
            f"edge type {name!r} is not known ({', '.join(known)}); register it: T4DX.open(path, "
            f"options=Options(edge_types=({name!r},)))"
        )
    return name


def check_time(name: str, value: float, *, owner: str, open_end: bool = False) -> float:
    """Seconds since 1970 or any other origin; refuses NaN and what can only be milliseconds."""
    number = _number(name, value, owner)
    if -_LATEST < number < _LATEST:
        return number
    if math.isnan(number) or (math.isinf(number) and not (open_end or (name == "valid_from" and number < 0))):
        raise ItemError(f"{name} of {owner} is {number}; give seconds as a finite number")
    if math.isfinite(number) and abs(number) >= _LATEST:
        raise ItemError(
            f"{name} of {owner} is {number:.0f}, which looks like milliseconds; divide it by 1000"
        )
    return number


def check_unit(name: str, value: float, *, owner: str) -> float:
    """A number in [0, 1]."""
    number = _number(name, value, owner)
    if not 0.0 <= number <= 1.0:
        raise ItemError(f"{name} of {owner} is {number}; it lies in [0, 1], clip it first")
    return number


def item_field(name: str, value: Any, *, item_id: str) -> Any:
    """`check_field` for one item; what is as it should be passes without a message made for it."""
    if (name == "kappa" or name == "importance") and type(value) is float and 0.0 <= value <= 1.0:
        return value
    return check_field(name, value, owner=f"item {item_id!r}")


def check_field(name: str, value: Any, *, owner: str) -> Any:
    """A value for `update_fields`, ready to be logged."""
    if name in ("kappa", "importance"):
        return check_unit(name, value, owner=owner)
    if name == "access_count":
        return check_count(value, owner=owner)
    if name in ("valid_from", "valid_until", "event_time"):
        return check_time(name, value, owner=owner, open_end=name == "valid_until")
    if name == "type":
        if value not in ITEM_TYPES:
            raise ItemError(f"type of {owner} cannot be {value!r}; choose one of {', '.join(ITEM_TYPES)}")
        return value
    if name == "metadata":
        return pack_plain(value, owner=f"metadata of {owner}")
    raise ItemError(
        f"{name!r} of {owner} cannot be updated in place; insert the item again to supersede it "
        "(in place: kappa, importance, access_count, event_time, valid_from, valid_until, type, metadata)"
    )


def check_count(value: Any, *, owner: str) -> float:
    """A whole number from 0 on."""
    number = _number("access_count", value, owner)
    if not (number.is_integer() and 0 <= number < 2**53):
        raise ItemError(f"access_count of {owner} is {value!r}; give a whole number from 0 on")
    return number


def _number(name: str, value: Any, owner: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ItemError(f"{name} of {owner} is {value!r}; give a number") from None


def pack_plain(value: Mapping[str, Any], *, owner: str) -> bytes:
    """Plain values as msgpack, b"" for none; raises ItemError for anything else."""
    if type(value) is dict and not value:
        return b""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ItemError(f"{owner} is a mapping with string keys, not {value!r}; write {{'key': value}}")
    if not value:
        return b""
    try:
        _check_json(dict(value))
        return bytes(msgpack.packb(dict(value), use_bin_type=True))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ItemError(
            f"{owner} holds what cannot be stored ({error}); use None, bool, int, float, str, list, dict"
        ) from None


def _check_json(value: object) -> None:
    """Raise TypeError or ValueError for what JSON does not have."""
    match value:
        case None | bool() | int() | str():
            return
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{value} is no JSON number")
        case list() | tuple():
            for part in value:
                _check_json(part)
        case dict():
            for key, part in value.items():
                if not isinstance(key, str):
                    raise TypeError(f"key {key!r} is no string")
                _check_json(part)
        case _:
            raise TypeError(f"{type(value).__name__} is no JSON type")


def _item_numbers(item: Item, now: float) -> tuple[float, ...]:
    record = now if item.record_time == UNSET else item.record_time
    event = record if item.event_time == UNSET else item.event_time
    since = event if item.valid_from == UNSET else item.valid_from
    times = event, record, since, item.valid_until
    numbers = item.kappa, item.importance, item.access_count, *times, item.record_until
    try:
        plain = _is_plain(*numbers)
    except TypeError:  # what is no number
        plain = False
    return numbers if plain else _checked_numbers(item, times)


def _is_plain(
    kappa: float,
    importance: float,
    accesses: float,
    event: float,
    record: float,
    since: float,
    until: float,
    end: float,
) -> bool:
    """Whether numbers pass every check of `_checked_numbers`; what is unusual is left to it."""
    return (
        0.0 <= kappa <= 1.0
        and 0.0 <= importance <= 1.0
        and type(accesses) is int
        and 0 <= accesses < 2**53
        and -_LATEST < event < _LATEST
        and -_LATEST < record < _LATEST
        and -_LATEST < since < _LATEST
        and (since <= until < _LATEST or until == math.inf)
        and end == math.inf
    )


def _checked_numbers(item: Item, times: tuple[float, ...]) -> tuple[float, ...]:
    owner = f"item {item.id!r}"
    if item.record_until != math.inf:
        raise ItemError(f"record_until of {owner} is set by the store; leave it out, or call close_item")
    event, record, since, until = times
    spans = (
        check_time("event_time", event, owner=owner),
        check_time("record_time", record, owner=owner),
        check_time("valid_from", since, owner=owner),
        check_time("valid_until", until, owner=owner, open_end=True),
    )
    check_order(spans[2], spans[3], owner=owner)
    kappa = check_unit("kappa", item.kappa, owner=owner)
    importance = check_unit("importance", item.importance, owner=owner)
    return kappa, importance, check_count(item.access_count, owner=owner), *spans, math.inf


def _edge_numbers(edge: Edge, now: float) -> list[float]:
    owner = f"edge {edge.source!r} -> {edge.target!r}"
    record = now if edge.record_time == UNSET else edge.record_time
    since = record if edge.valid_from == UNSET else edge.valid_from
    if edge.record_until != math.inf:
        raise EdgeError(f"record_until of {owner} is set by the store; leave it out")
    times = [
        check_time("valid_from", since, owner=owner),
        check_time("valid_until", edge.valid_until, owner=owner, open_end=True),
        check_time("record_time", record, owner=owner),
    ]
    check_order(times[0], times[1], owner=owner)
    return [check_unit("weight", edge.weight, owner=owner), *times, math.inf]


def check_order(since: float, until: float, *, owner: str) -> None:
    """Intervals run forward."""
    if until < since:
        raise ItemError(
            f"{owner} is valid until {until}, before it starts at {since}; swap valid_from and valid_until"
        )


def _utf8(text: str, owner: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ItemError(
            f"item {owner!r} holds text that is not valid Unicode; encode it with errors='replace'"
        ) from None
    return text
