"""The operations a log record holds, and their bytes. Columns, not rows: one operation may carry thousands of
items.

Nobody changes an operation. They are not frozen all the same: every write makes one, and the constructor of a
frozen class takes three times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import msgpack
import numpy as np
from numpy.typing import NDArray

from t4dm.errors import CorruptionError
from t4dm.t4dx.packed_ids import PackedIds, array_head
from t4dm.t4dx.types import DEFAULT

Floats = NDArray[np.float64]

ITEM_NUMBERS: Final = (
    "kappa",
    "importance",
    "access_count",
    "event_time",
    "record_time",
    "valid_from",
    "valid_until",
    "record_until",
)
EDGE_NUMBERS: Final = ("weight", "valid_from", "valid_until", "record_time", "record_until")


@final
@dataclass(slots=True)
class InsertItems:
    """n new versions in one collection. numbers [n, 8] in the order of ITEM_NUMBERS; vectors [m, D] of the
    rows that `has`.
    """

    ids: list[str]
    contents: list[str]
    types: list[str]
    sessions: list[str]
    metas: list[bytes]
    numbers: Floats
    has: NDArray[np.bool_]
    vectors: NDArray[np.float32]
    collection: str = DEFAULT


@final
@dataclass(slots=True)
class InsertEdges:
    """m new edge versions. numbers [m, 5] in the order of EDGE_NUMBERS."""

    sources: list[str]
    targets: list[str]
    types: list[str]
    props: list[bytes]
    numbers: Floats


@final
@dataclass(slots=True)
class SetField:
    """One field of the current versions: floats, type names or packed metadata."""

    field: str
    ids: Sequence[str]
    values: list[Any]


@final
@dataclass(slots=True)
class MapField:
    """x -> clip(a*x+b, lo, hi) on one numeric field of the current versions; operators [n, 4]."""

    field: str
    ids: list[str]
    operators: Floats


@final
@dataclass(slots=True)
class MapEdges:
    """x -> clip(a*x+b, lo, hi) on the weights of current edges; operators [n, 4]."""

    sources: list[str]
    targets: list[str]
    types: list[str]
    operators: Floats


@final
@dataclass(slots=True)
class ScaleRule:
    """One operator for every older current edge that fits; None fits all. operator [4].

    It asks only for what an edge never changes, so it can be applied at any time: besides type and ends its
    record_time, [from, until), and the LSN of its insert, at most `lsn`.
    """

    types: list[str] | None
    sources: list[str] | None
    targets: list[str] | None
    operator: Floats
    recorded: tuple[float, float] | None = None
    lsn: int | None = None


@final
@dataclass(slots=True)
class DeleteItems:
    """Tombstones: every older version of the ids and every older edge at them is gone."""

    ids: list[str]


@final
@dataclass(slots=True)
class CloseItems:
    """The current versions end on the record axis at `time`; as-of reads before it still see them."""

    ids: list[str]
    time: float


@final
@dataclass(slots=True)
class DeleteEdges:
    """Edges that are gone, every older version of them."""

    sources: list[str]
    targets: list[str]
    types: list[str]


@final
@dataclass(slots=True)
class PatchRows:
    """One column of versions that are named by key and by the LSN of their insert.

    kind "items" or "edges"; a key is [id] or [source, target, type]; values as the column holds them,
    metadata packed. A version that was dropped from the files meanwhile is passed over.
    """

    kind: str
    field: str
    keys: list[list[str]]
    births: list[int]
    values: list[Any]


@final
@dataclass(slots=True)
class RestoreItems:
    """Versions that were deleted, as they were; `births` are the LSNs of their first insert."""

    births: list[int]
    rows: InsertItems


@final
@dataclass(slots=True)
class RestoreEdges:
    """Edge versions that were deleted, as they were; `births` are the LSNs of their first insert."""

    births: list[int]
    rows: InsertEdges


@final
@dataclass(slots=True)
class Remember:
    """The head of a transaction with an id: what undoes the `size` operations behind it, packed.

    `inverse` is empty where it cannot be undone; the last `keep` transactions are kept.
    """

    name: str
    size: int
    keep: int
    time: float
    inverse: bytes


@final
@dataclass(slots=True)
class Undone:
    """The operations before it in its batch have undone a transaction."""

    name: str


Op = (
    InsertItems
    | InsertEdges
    | SetField
    | MapField
    | MapEdges
    | ScaleRule
    | DeleteItems
    | CloseItems
    | DeleteEdges
    | PatchRows
    | RestoreItems
    | RestoreEdges
    | Remember
    | Undone
)

_ROWS: Final[dict[type[Any], Callable[[Any], list[Any]]]] = {
    InsertItems: lambda op: [1, *_texts(op), op.vectors.shape[1], op.collection],
    InsertEdges: lambda op: [2, op.sources, op.targets, op.types, op.props, op.numbers.tobytes()],
    SetField: lambda op: [3, op.field, op.ids, op.values],
    MapField: lambda op: [4, op.field, op.ids, op.operators.tobytes()],
    MapEdges: lambda op: [5, op.sources, op.targets, op.types, op.operators.tobytes()],
    ScaleRule: lambda op: [6, op.types, op.sources, op.targets, op.operator.tobytes(), op.recorded, op.lsn],
    DeleteItems: lambda op: [7, op.ids],
    CloseItems: lambda op: [8, op.ids, op.time],
    DeleteEdges: lambda op: [9, op.sources, op.targets, op.types],
    PatchRows: lambda op: [10, op.kind, op.field, op.keys, op.births, op.values],
    RestoreItems: lambda op: [11, op.births, _row(op.rows)],
    RestoreEdges: lambda op: [12, op.births, _row(op.rows)],
    Remember: lambda op: [13, op.name, op.size, op.keep, op.time, op.inverse],
    Undone: lambda op: [14, op.name],
}
"""What the log holds of each operation: its code, never to be used for another one, and its columns."""


_SMALL: Final = 64 * 2**10
_PACKERS: Final[list[Any]] = []
"""Making a packer costs more than packing a small operation; each caller takes one out and puts it back."""


def pack(ops: list[Op]) -> bytes:
    """The payload of a record."""
    try:
        packer = _PACKERS.pop()
    except IndexError:
        packer = msgpack.Packer(use_bin_type=True)
    try:
        payload: bytes = packer.pack([_ROWS[type(op)](op) for op in ops])
    except TypeError:  # ids that are packed already
        payload = array_head(len(ops)) + b"".join([_octets(op, packer) for op in ops])
    if len(payload) <= _SMALL:  # it keeps its buffer
        _PACKERS.append(packer)
    return payload


def _octets(op: Op, packer: Any) -> bytes:
    """One operation as `pack` writes it."""
    if isinstance(op, SetField) and isinstance(op.ids, PackedIds):
        code, field, values = map(packer.pack, (3, op.field, op.values))
        return b"".join((array_head(4), code, field, op.ids.packed(), values))
    packed: bytes = packer.pack(_row(op))
    return packed


def unpack(payload: bytes, *, path: str) -> list[Op]:
    """Undo `pack`; raises CorruptionError for an operation this version does not know."""
    try:
        return [_op(row) for row in msgpack.unpackb(payload, raw=False, strict_map_key=False)]
    except (ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
        raise CorruptionError(path, f"a log record cannot be read ({error})") from None


def _row(op: Op) -> list[Any]:
    return _ROWS[type(op)](op)


def _texts(op: InsertItems) -> list[Any]:
    numbers, has, vectors = op.numbers.tobytes(), op.has.tobytes(), np.ascontiguousarray(op.vectors).data
    return [op.ids, op.contents, op.types, op.sessions, op.metas, numbers, has, vectors]


def _op(row: list[Any]) -> Op:
    match row:
        case [1, ids, contents, types, sessions, metas, numbers, has, vectors, dim, collection]:
            block = np.frombuffer(vectors, np.float32).reshape(-1, dim)
            columns = _floats(numbers, len(ITEM_NUMBERS)), np.frombuffer(has, np.bool_), block
            return InsertItems(ids, contents, types, sessions, metas, *columns, collection)
        case [2, sources, targets, types, props, numbers]:
            return InsertEdges(sources, targets, types, props, _floats(numbers, len(EDGE_NUMBERS)))
        case [3, field, ids, values]:
            return SetField(field, ids, values)
        case [4, field, ids, operators]:
            return MapField(field, ids, _floats(operators, 4))
        case [5, sources, targets, types, operators]:
            return MapEdges(sources, targets, types, _floats(operators, 4))
        case [6, types, sources, targets, operator, recorded, lsn]:
            span = None if recorded is None else (recorded[0], recorded[1])
            return ScaleRule(types, sources, targets, np.frombuffer(operator, np.float64), span, lsn)
        case [7, ids]:
            return DeleteItems(ids)
        case [8, ids, time]:
            return CloseItems(ids, time)
        case [9, sources, targets, types]:
            return DeleteEdges(sources, targets, types)
        case [10, kind, field, keys, births, values]:
            return PatchRows(kind, field, keys, births, values)
        case [11 | 12, births, inner]:
            rows = _op(inner)
            if isinstance(rows, InsertItems):
                return RestoreItems(births, rows)
            if isinstance(rows, InsertEdges):
                return RestoreEdges(births, rows)
        case [13, name, size, keep, time, inverse]:
            return Remember(name, size, keep, time, inverse)
        case [14, name]:
            return Undone(name)
    raise ValueError(f"unknown operation {row[:1]}")


def _floats(data: bytes, width: int) -> Floats:
    return np.frombuffer(data, np.float64).reshape(-1, width)
