"""Transactions that can be undone: what undoes them, and what touched the same things since.

A transaction with an id begins with a `Remember` that holds its inverse, made before it was applied. From
then on every write is compared with what the transaction touched: fields of items, whole items, edges. The
first touch by each later transaction, and by writes without one, is kept, so that a conflict can be named;
undoing that later transaction removes it. All of this is replayed from the log and flushed with the deltas.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, final

from t4dm.errors import CorruptionError, TransactionError, UndoConflictError, UnknownTransactionError
from t4dm.t4dx import ops
from t4dm.t4dx.ops import (
    CloseItems,
    DeleteEdges,
    DeleteItems,
    InsertEdges,
    InsertItems,
    MapEdges,
    MapField,
    Op,
    PatchRows,
    Remember,
    RestoreEdges,
    RestoreItems,
    ScaleRule,
    SetField,
    Undone,
)
from t4dm.t4dx.types import Lsn

OPEN: Final = "open"
UNDONE: Final = "undone"
FINAL: Final = "final"
Key = tuple[str, ...]


class TransactionInfo(NamedTuple):
    """A transaction with an id. `conflict` says what keeps it from being undone, "" for nothing."""

    id: str
    first_lsn: Lsn
    last_lsn: Lsn
    time: float
    state: str
    conflict: str


@final
class Touched:
    """What a transaction touched, read off its inverse."""

    def __init__(self, inverse: Iterable[Op]) -> None:
        self.fields: dict[str, set[str]] = {}
        self.whole: set[str] = set()
        self.made: set[str] = set()
        self.edges: set[Key] = set()
        for op in inverse:
            match op:
                case PatchRows("items", "record_until" | "alive", keys):
                    self.whole |= {key[0] for key in keys}
                    self.made |= {key[0] for key in keys} if op.field == "alive" else set()
                case PatchRows("items", name, keys):
                    for key in keys:
                        self.fields.setdefault(key[0], set()).add(name)
                case PatchRows("edges", _, keys):
                    self.edges |= {tuple(key) for key in keys}
                case RestoreItems(_, rows):
                    self.whole |= set(rows.ids)
                case RestoreEdges(_, rows):
                    self.edges |= set(zip(rows.sources, rows.targets, rows.types, strict=True))
        self.ends = {end for key in self.edges for end in key[:2]}
        self.names = self.ends | self.whole | set(self.fields)

    def by(self, op: Op) -> str:
        """The first thing that an operation touches as well, "" for nothing."""
        match op:
            case InsertItems() | DeleteItems() | CloseItems():
                for name in op.ids:
                    if name in self.whole or name in self.fields:
                        return f"item {name!r}"
                    if isinstance(op, DeleteItems) and name in self.ends:
                        return f"an edge at item {name!r}"
            case SetField() | MapField():
                for name in op.ids:
                    if name in self.whole or op.field in self.fields.get(name, ()):
                        return f"{op.field} of item {name!r}"
            case InsertEdges() | MapEdges() | DeleteEdges():
                for key in zip(op.sources, op.targets, op.types, strict=True):
                    if key in self.edges:
                        return _edge(key)
                    if isinstance(op, InsertEdges) and not self.made.isdisjoint(key[:2]):
                        return f"item {next(end for end in key[:2] if end in self.made)!r}"
            case ScaleRule():
                return next((_edge(key) for key in sorted(self.edges) if _scaled(op, key)), "")
        return ""


@final
@dataclass
class Record:
    """One transaction with an id; `changed` is the LSN of the last change of this record."""

    name: str
    first: Lsn
    last: Lsn
    time: float
    keep: int
    changed: Lsn
    state: str
    inverse: bytes
    conflicts: dict[str, tuple[str, Lsn]] = field(default_factory=dict)
    touched: Touched | None = None

    def row(self) -> list[Any]:
        """Plain values, for a delta file."""
        head = [self.name, self.first, self.last, self.time, self.keep, self.changed, self.state]
        return [*head, self.inverse, [[cause, *found] for cause, found in self.conflicts.items()]]


TOLD: Final = frozenset({Remember, Undone, RestoreItems, RestoreEdges})
"""Operations that change what is remembered of transactions."""


@final
class Undoables:
    """The last transactions with an id, oldest first."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._births: dict[Key, int] = {}
        self._names: set[str] = set()

    def check_new(self, name: str) -> None:
        """Refuse an id that is taken; one that was undone is free again."""
        found = self._records.get(name)
        if found is not None and found.state != UNDONE:
            raise TransactionError(
                f"transaction {name!r} was committed before; choose another id, or store.undo({name!r}) first"
            )

    def inverse(self, name: str, path: str) -> list[Op]:
        """What undoes a transaction now.

        Raises:
            UnknownTransactionError, UndoConflictError, and TransactionError for one that has nothing to undo.
        """
        found = self._records.get(name)
        if found is None:
            raise UnknownTransactionError(name, list(self._records))
        if found.state != OPEN:
            reason = "was undone before" if found.state == UNDONE else "was committed without undo=True"
            raise TransactionError(f"transaction {name!r} {reason}; see store.transactions()")
        for cause, (what, lsn) in found.conflicts.items():
            later = self._records.get(cause)
            raise UndoConflictError(
                name, what, lsn, cause if later is not None and later.state == OPEN else ""
            )
        return [self._moved(op) for op in unpack_inverse(found.inverse, path=path)]

    @property
    def size(self) -> int:
        """Bytes of all that undoes them."""
        return sum(len(record.inverse) for record in self._records.values())

    @property
    def watching(self) -> bool:
        """Whether some transaction may still be undone: then it must see every operation, not only those of
        TOLD.
        """
        return bool(self._names)

    def see(self, op: Op, lsn: Lsn) -> None:
        """Note what an operation means for the transactions before it; `lsn` is its own."""
        match op:
            case Remember():
                self._remember(op, lsn)
            case Undone(name):
                self._undone(name, lsn)
            case RestoreItems(births, rows):
                keys: Iterable[Key] = ((name,) for name in rows.ids)
                self._births.update({(*k, str(b)): lsn for k, b in zip(keys, births, strict=True)})
            case RestoreEdges(births, rows):
                keys = zip(rows.sources, rows.targets, rows.types, strict=True)
                self._births.update({(*k, str(b)): lsn for k, b in zip(keys, births, strict=True)})
            case PatchRows():
                pass
            case _:
                if self._names and (isinstance(op, ScaleRule) or not self._names.isdisjoint(_named(op))):
                    self._touch(op, lsn)

    def listing(self) -> list[TransactionInfo]:
        """All of them, oldest first."""
        return [
            TransactionInfo(
                r.name, r.first, r.last, r.time, r.state, next((w for w, _ in r.conflicts.values()), "")
            )
            for r in self._records.values()
        ]

    def dump(self, since: Lsn) -> list[Any]:
        """What changed after an LSN, as plain values; where versions went comes first."""
        changed = [record.row() for record in self._records.values() if record.changed > since]
        return [[[*key, birth] for key, birth in self._births.items()], *changed] if changed else []

    def load(self, dumps: Sequence[list[Any]]) -> None:
        """Undo `dump`, for dumps from old to new."""
        for dump in dumps:
            for births, *rows in [dump] if dump else []:
                self._births.update({tuple(row[:-1]): row[-1] for row in births})
                for *head, conflicts in rows:
                    record = self._records[head[0]] = Record(*head)
                    record.conflicts = {cause: (what, lsn) for cause, what, lsn in conflicts}
        for record in self._records.values():
            record.touched = Touched(unpack_inverse(record.inverse)) if record.state == OPEN else None
        ordered = sorted(self._records.values(), key=lambda record: record.last)
        self._records = {record.name: record for record in ordered}
        self._trim()

    def _remember(self, op: Remember, lsn: Lsn) -> None:
        self._records.pop(op.name, None)
        state = OPEN if op.inverse else FINAL
        touched = Touched(unpack_inverse(op.inverse)) if op.inverse else None
        head = (op.name, lsn, lsn + op.size, op.time, op.keep, lsn, state, op.inverse)
        self._records[op.name] = Record(*head, touched=touched)
        self._trim()

    def _undone(self, name: str, lsn: Lsn) -> None:
        for record in self._records.values():
            if record.conflicts.pop(name, None) is not None:
                record.changed = lsn
        if (found := self._records.get(name)) is not None:
            found.state, found.inverse, found.touched, found.changed = UNDONE, b"", None, lsn
            found.conflicts.clear()
        self._trim()

    def _trim(self) -> None:
        newest = next(reversed(self._records.values()), None)
        keep = newest.keep if newest is not None else 0
        for name in list(self._records)[: max(0, len(self._records) - keep)]:
            del self._records[name]
        live = [record.touched for record in self._records.values() if record.touched is not None]
        self._names = set().union(*(touched.names for touched in live))
        if not live:
            self._births.clear()

    def _touch(self, op: Op, lsn: Lsn) -> None:
        newest = next(reversed(self._records.values()))
        cause = newest.name if newest.state == OPEN and newest.first < lsn <= newest.last else ""
        for record in self._records.values():
            own = record.name == cause or record.touched is None or cause in record.conflicts
            if not own and record.touched is not None and (what := record.touched.by(op)):
                record.conflicts[cause], record.changed = (what, lsn), lsn

    def _moved(self, op: Op) -> Op:
        """An operation of an inverse, with versions that came back since under their new LSN."""
        if isinstance(op, PatchRows):
            born = [self._born(tuple(k), b) for k, b in zip(op.keys, op.births, strict=True)]
            return PatchRows(op.kind, op.field, op.keys, born, op.values)
        return op

    def _born(self, key: Key, birth: int) -> int:
        while (moved := self._births.get((*key, str(birth)))) is not None:
            birth = moved
        return birth


def pack_inverse(inverse: list[Op]) -> bytes:
    """What undoes a transaction, as bytes: ids come again and again in it, so it shrinks to a third."""
    return zlib.compress(ops.pack(inverse), 1)


def unpack_inverse(data: bytes, *, path: str = "the undo log") -> list[Op]:
    """Undo `pack_inverse`; raises CorruptionError."""
    try:
        return ops.unpack(zlib.decompress(data), path=path)
    except zlib.error as error:
        raise CorruptionError(path, f"what undoes a transaction cannot be read ({error})") from None


def _named(op: Op) -> set[str]:
    match op:
        case InsertItems() | DeleteItems() | CloseItems() | SetField() | MapField():
            return set(op.ids)
        case InsertEdges() | MapEdges() | DeleteEdges():
            return {*op.sources, *op.targets}
    return set()


def _scaled(rule: ScaleRule, key: Key) -> bool:
    wanted = (rule.sources, rule.targets, rule.types)
    return all(names is None or name in names for names, name in zip(wanted, key, strict=True))


def _edge(key: Key) -> str:
    return f"edge {key[0]!r} -> {key[1]!r} of type {key[2]}"
