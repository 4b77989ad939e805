"""Edges at a node, fast: other ends by id and the rows they lie at, per source, derived at the first walk.

A segment keeps its edges sorted by source; two offset tables turn a node's code into a slice. Codes and ids
of the nodes that walks met are remembered, so that a step from one node to the next is a lookup, not a hash.
"""

from __future__ import annotations

import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, final

import numpy as np

from t4dm.t4dx.columns import Array
from t4dm.t4dx.segment import REMEMBERED, Segment
from t4dm.t4dx.tables import Source, View
from t4dm.t4dx.types import AsOf


class Links(ABC):
    """The edges of one source by node."""

    @abstractmethod
    def at(self, item_id: str, *, incoming: bool) -> tuple[Sequence[int], Sequence[str]]:
        """Edge rows that start (or end) at an id, and their other ends, in one order."""

    def ends(self, nodes: Iterable[str], *, incoming: bool, found: set[str]) -> None:
        """Add the other ends of all edges at some nodes."""
        for node in nodes:
            found.update(self.at(node, incoming=incoming)[1])

    def within(self, starts: Iterable[str], depth: int | None) -> list[list[str]] | None:
        """The nodes 1, 2, .. depth outgoing edges away, all edges followed; None where single steps are as
        fast.
        """
        return None

    def reached(self, starts: Collection[str], depth: int | None) -> set[str] | None:
        """All of them together."""
        levels = self.within(starts, depth)
        return None if levels is None else set().union(*levels)

    def flags(self, view: View) -> bytes | bool | None:
        """One byte per edge row, not 0 where it is current; True where all are, None to look at each row."""
        return None


@final
class _PlainLinks(Links):
    """The memtable's own dicts."""

    def __init__(self, source: Source) -> None:
        self._source = weakref.ref(source)

    def at(self, item_id: str, *, incoming: bool) -> tuple[Sequence[int], Sequence[str]]:
        source = self._source()
        rows: list[int] = list(source.edge_rows(item_id, incoming=incoming)) if source is not None else []
        return rows, [source.edge_ends(row)[not incoming] for row in rows] if source is not None else []


@final
class _SegmentLinks(Links):
    """Offset tables over a segment's sorted edges."""

    def __init__(self, segment: Segment) -> None:
        self._segment = weakref.ref(segment)
        self._out, self._targets = segment.outgoing()
        self._in: tuple[Any, Any, Any] | None = None
        self._codes = segment.codes
        self._labels: dict[int, str] | list[str] = {}
        self._flags: tuple[Array, Array, bytes | bool] | None = None

    def flags(self, view: View) -> bytes | bool | None:
        """Taken once from the columns as they are; a patched column is a new array."""
        alive, until, known = view.edges["alive"], view.edges["record_until"], self._flags
        if known is None or known[0] is not alive or known[1] is not until:
            current = alive[: view.m] & (until[: view.m] == np.inf)
            known = self._flags = (alive, until, True if bool(current.all()) else current.tobytes())
        return known[2]

    def at(self, item_id: str, *, incoming: bool) -> tuple[Sequence[int], Sequence[str]]:
        code = self._code(item_id)
        if incoming:
            return self._coming(code)
        if code < 0 or code + 1 >= len(self._out):
            return (), ()
        start, end = self._out[code], self._out[code + 1]
        return range(start, end), self._names(self._targets[start:end].tolist())

    def within(self, starts: Iterable[str], depth: int | None) -> list[list[str]]:
        """By codes alone: names are needed only for the answer."""
        offsets, targets, last = self._out, self._targets, len(self._out) - 1
        frontier = {code for node in starts if (code := self._code(node)) >= 0}
        seen, levels = set(frontier), list[list[str]]()
        while frontier and (depth is None or len(levels) < depth):
            fresh: set[int] = set()
            for code in frontier:
                if code < last:
                    fresh.update(targets[offsets[code] : offsets[code + 1]])
            fresh -= seen
            seen |= fresh
            levels.append(self._names(list(fresh)))
            frontier = fresh
        return levels

    def reached(self, starts: Collection[str], depth: int | None) -> set[str]:
        """The same as one set. Most nodes lie at the last step: these are told apart by their names alone."""
        offsets, targets, last = self._out, self._targets, len(self._out) - 1
        frontier = {code for node in starts if (code := self._code(node)) >= 0}
        seen, ends, steps = set(frontier), list[int](), 0
        while frontier and (depth is None or steps < depth):
            steps, ends = steps + 1, []
            for code in frontier:
                if code < last:
                    ends += targets[offsets[code] : offsets[code + 1]].tolist()
            if steps != depth:
                frontier = set(ends) - seen
                seen |= frontier
        found = set(self._names(ends))
        found.update(self._names(list(seen)))
        return found.difference(starts)

    def ends(self, nodes: Iterable[str], *, incoming: bool, found: set[str]) -> None:
        """The same without rows; the loop of wide walks."""
        if incoming:
            super().ends(nodes, incoming=incoming, found=found)
            return
        offsets, targets, codes, labels = self._out, self._targets, self._codes, self._labels
        last = len(offsets) - 1
        for node in nodes:
            code = codes.get(node)
            if code is None:
                code = self._code(node)
            if 0 <= code < last:
                others = targets[offsets[code] : offsets[code + 1]].tolist()
                try:
                    found.update([labels[other] for other in others])
                except KeyError:
                    found.update(self._names(others))
                    labels = self._labels

    def _coming(self, code: int) -> tuple[Sequence[int], Sequence[str]]:
        if self._in is None:
            segment = self._segment()
            if segment is None:
                return (), ()
            self._in = segment.incoming()
        offsets, rows, sources = self._in
        if code < 0 or code + 1 >= len(offsets):
            return (), ()
        chosen = rows[offsets[code] : offsets[code + 1]].tolist()
        return chosen, self._names([sources[row] for row in chosen])

    def _code(self, item_id: str) -> int:
        code = self._codes.get(item_id)
        if code is None:
            segment = self._segment()
            code = -1 if segment is None else segment.code_of(item_id)
        return code

    def _names(self, codes: list[int]) -> list[str]:
        labels = self._labels
        try:
            return [labels[code] for code in codes]
        except KeyError:
            return self._read_names(codes)

    def _read_names(self, codes: list[int]) -> list[str]:
        """As `_names`, where not all are known. Once walks have met a sixteenth of all nodes, all names are
        read, if they are few enough to be kept.
        """
        labels, segment = self._labels, self._segment()
        if segment is None or isinstance(labels, list):
            return []
        count = len(segment.hashes())
        if count <= REMEMBERED and 16 * len(labels) >= count:
            every = self._labels = segment.labels(np.arange(count))
            return [every[code] for code in codes]
        if len(labels) + len(codes) > REMEMBERED:
            labels = self._labels = {}
        for code in codes:
            if code not in labels:
                labels[code] = name = segment.label(code)
                self._codes[name] = code
        return [labels[code] for code in codes]


_LINKS: Final[weakref.WeakKeyDictionary[Source, Links]] = weakref.WeakKeyDictionary()
_LOCK: Final = threading.Lock()


def links(source: Source) -> Links:
    """The adjacency of a source."""
    found = _LINKS.get(source)
    if found is None:
        with _LOCK:
            found = _LINKS.get(source)
            if found is None:
                found = _SegmentLinks(source) if isinstance(source, Segment) else _PlainLinks(source)
                _LINKS[source] = found
    return found


@final
class Sight:
    """Which edges of a view a walk may use: visible at its time, of its types, heavy enough."""

    def __init__(
        self, view: View, as_of: AsOf | None, *, codes: frozenset[int] | None, min_weight: float
    ) -> None:
        self.view, self._as_of, self._codes, self._least = view, as_of, codes, min_weight
        self.links = links(view.source)
        self._flags = self.links.flags(view) if as_of is None else None
        self.plain = self._flags is True and codes is None and min_weight <= 0.0

    def allows(self, row: int) -> bool:
        """Whether one edge row may be walked."""
        view = self.view
        if isinstance(self._flags, bytes):
            if not self._flags[row]:
                return False
        elif self._flags is None and not view.sees_edge(row, self._as_of):
            return False
        if self._codes is not None and view.part.edges["type"].cells[row] not in self._codes:
            return False
        return self._least <= 0.0 or view.weight(row) >= self._least
