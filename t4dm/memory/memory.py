"""The model's port to the store: tensors in, recalls out."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from t4dm.memory.item import MemoryItem
from t4dm.memory.policies import AnyPolicy, Policy
from t4dm.t4dx import T4DX, Edge, EdgeType, Filter, Hit, Item, new_id

__all__ = ["Memory", "Recall", "novelty"]


class Recall(NamedTuple):
    """What B queries brought back, best first; rows with fewer than k hits are padded, and `mask` says where.

    `ids`, `contents` and `tokens` are ragged: they hold the hits only, in the order of the columns.
    """

    vectors: Tensor  # [B, k, D] float32, 0 where there is no hit
    ids: list[list[str]]
    contents: list[list[str]]
    tokens: list[list[list[int]]]
    ages: Tensor  # [B, k] seconds since the event, never below 0
    kappas: Tensor  # [B, k]
    scores: Tensor  # [B, k] as ranked by the policy
    mask: Tensor  # [B, k] bool, True at a hit


class MemoryObserver(Protocol):
    """Told of every search and every write of a `Memory`, after it was done."""

    def searched(self, recall: Recall, sessions: Sequence[str] | None) -> None:
        """What a batch of queries brought back, and whose memories each was allowed to see."""
        ...

    def wrote(
        self,
        ids: Sequence[str | None],
        contents: Sequence[str],
        gate: Sequence[float],
        sessions: Sequence[str],
    ) -> None:
        """What a batch of moments became; an id is None where the gate was closed."""
        ...


def novelty(recall: Recall) -> Tensor:
    """How unlike anything stored each query was, [B]: 1 - the best cosine; 1 where nothing was found."""
    best = recall.scores.masked_fill(~recall.mask, 0.0)
    return 1.0 - best.clamp(0.0, 1.0).amax(dim=1) if best.shape[1] else torch.ones(best.shape[0])


@final
class Memory:
    """Reads and writes memories of a T4DX store in whole batches.

    Reading never writes: how often an item was recalled is counted in RAM, and `flush_accesses` logs the
    counts in one record. Writing a batch is one atomic record, items and edges together.

    Args:
        store: an open store; the caller opens and closes it.
        clock: the time in seconds.
        rng: source of the ids.
    """

    def __init__(self, store: T4DX, *, clock: Callable[[], float], rng: np.random.Generator) -> None:
        self.store = store
        self.clock = clock
        self.rng = rng
        self.observer: MemoryObserver | None = None
        """Told of every search and write; nobody by default."""
        self._lock = threading.Lock()
        self._accesses: Counter[str] = Counter()
        self._latest: dict[str, str] = {}

    def read(
        self,
        queries: Tensor | NDArray[Any],
        *,
        policy: Policy | None = None,
        k: int,
        sessions: Sequence[str] | None = None,
        now: float | None = None,
        count: bool = True,
    ) -> Recall:
        """The k best memories of each query, by one matrix search.

        Args:
            queries: [B, D].
            policy: what may be recalled; `AnyPolicy()` by default.
            k: columns of the answer.
            sessions: B sessions; row b then sees only its own.
            now: the time, seconds; the clock's by default.
            count: whether the hits count as accesses. False in evaluation.

        Returns:
            The recall, its tensors on the device of `queries`.
        """
        policy = AnyPolicy() if policy is None else policy
        now = self.clock() if now is None else now
        matrix = _as_matrix(queries)
        if sessions is not None and len(sessions) != len(matrix):
            raise ValueError(
                f"sessions has {len(sessions)} entries for {len(matrix)} queries; pass one for each."
            )
        rows = self._search(matrix, policy=policy, k=k, sessions=sessions, now=now)
        if count:
            with self._lock:
                self._accesses.update(hit.id for hits in rows for hit, _ in hits)
        recall = _as_recall(rows, k=k, dim=matrix.shape[1], now=now, device=getattr(queries, "device", None))
        if self.observer is not None:
            self.observer.searched(recall, sessions)
        return recall

    def write(
        self,
        keys: Tensor | NDArray[Any],
        contents: Sequence[str],
        gate: Tensor | NDArray[Any] | Sequence[float],
        *,
        tokens: Sequence[Sequence[int]] | None = None,
        sessions: Sequence[str] | None = None,
        event_times: Sequence[float] | None = None,
        links: Sequence[Sequence[str]] = (),
        prediction_errors: Sequence[float] | Tensor | None = None,
        threshold: float = 0.5,
        link_type: EdgeType | str = EdgeType.DERIVED_FROM,
    ) -> list[str | None]:
        """Store the moments whose gate is open, all in one record.

        A written item has its gate as importance, and tau, prediction error and tokens as metadata. It gets
        an edge of `link_type` to each item in its row of `links` that still exists, and TEMPORAL_AFTER to
        the item that the same session wrote before it.

        Args:
            keys: [N, D] search keys.
            contents: N texts.
            gate: [N] tau in [0, 1].
            tokens: N lists of token ids.
            sessions: N sessions; "" by default.
            event_times: N times in seconds; the clock's by default.
            links: N lists of ids (what was recalled), or empty.
            prediction_errors: [N].
            threshold: smallest gate that is written.

        Returns:
            N ids; None where the gate was closed.
        """
        matrix, tau, now = _as_matrix(keys), np.asarray(gate, dtype=np.float64).reshape(-1), self.clock()
        total = len(matrix)
        columns: dict[str, Any] = {
            "contents": contents,
            "gate": tau,
            "tokens": [()] * total if tokens is None else tokens,
            "sessions": [""] * total if sessions is None else sessions,
            "event_times": [now] * total if event_times is None else event_times,
            "links": links or [()] * total,
            "prediction_errors": [0.0] * total if prediction_errors is None else prediction_errors,
        }
        for name, column in columns.items():
            if len(column) != total:
                raise ValueError(f"{name} has {len(column)} entries for {total} keys; pass one for each.")
        chosen = np.flatnonzero(tau >= threshold).tolist()
        ids = dict(zip(chosen, self._new_ids(len(chosen)), strict=True))
        items = [
            MemoryItem(
                id=ids[row],
                content=contents[row],
                embedding=matrix[row],
                event_time=float(columns["event_times"][row]),
                record_time=now,
                importance=float(tau[row]),
                session=columns["sessions"][row],
                tokens=columns["tokens"][row],
                prediction_error=float(columns["prediction_errors"][row]),
                tau=float(tau[row]),
            )
            for row in chosen
        ]
        self._insert(items, [columns["links"][row] for row in chosen], link_type=str(link_type))
        written = [ids.get(row) for row in range(total)]
        if self.observer is not None:
            self.observer.wrote(written, contents, tau.tolist(), columns["sessions"])
        return written

    def flush_accesses(self) -> int:
        """Log the accesses counted since the last call, in one record; how many items were touched."""
        with self._lock:
            counts, self._accesses = self._accesses, Counter()
        alive = {name: count for name, count in counts.items() if name in self.store}
        if alive:
            self.store.add_accesses(alive)
        return len(alive)

    def _search(
        self,
        matrix: NDArray[np.float32],
        *,
        policy: Policy,
        k: int,
        sessions: Sequence[str] | None,
        now: float,
    ) -> list[list[tuple[Hit, float]]]:
        if k < 1 or not len(matrix):
            return [[] for _ in matrix]
        base = policy.where(now=now)
        names = [base.session] * len(matrix) if sessions is None else sessions
        where = [replace(base, session=name) for name in names]
        found = self.store.search(matrix, k * policy.oversample, where)
        scored = [[(hit, policy.score(hit)) for hit in hits] for hits in found]
        return [sorted(hits, key=lambda pair: (-pair[1], pair[0].id))[:k] for hits in scored]

    def _new_ids(self, count: int) -> list[str]:
        """Fresh ids; a generator that was reseeded after a resume must not overwrite what it wrote before."""
        ids: list[str] = []
        while len(ids) < count:
            drawn = [new_id(self.rng) for _ in range(count - len(ids))]
            ids += [name for name in drawn if name not in self.store]
        return ids

    def _insert(self, items: Sequence[MemoryItem], links: Sequence[Sequence[str]], *, link_type: str) -> None:
        if not items:
            return
        known = {target for target in {target for row in links for target in row} if target in self.store}
        edges: list[Edge] = []
        latest = self._latest_of({item.session for item in items})
        for item, targets in zip(items, links, strict=True):
            edges += [_edge(item, target, link_type) for target in dict.fromkeys(targets) if target in known]
            if item.session in latest:
                edges.append(_edge(item, latest[item.session], str(EdgeType.TEMPORAL_AFTER)))
            latest[item.session] = item.id
        self.store.insert_many([item.to_store()[0] for item in items], edges)
        self._latest.update(latest)

    def _latest_of(self, sessions: set[str]) -> dict[str, str]:
        """The item each session wrote last: remembered, or looked up where it is unknown or was forgotten."""
        latest = {s: self._latest[s] for s in sessions & self._latest.keys() if self._latest[s] in self.store}
        # The first write into an empty store needs no scan.
        unknown = sessions - latest.keys() if self.store.count() else set()
        if unknown:
            where = Filter(session=tuple(sorted(unknown)), type="episodic")
            for item in self.store.scan(where, order="record_time"):
                if self._is_last(item):
                    latest[item.session] = item.id
        return latest

    def _is_last(self, item: Item) -> bool:
        """Whether nothing came after it: items of one batch share their times, only the edges know their
        order.
        """
        return next(self.store.edges(target=item.id, edge_type=EdgeType.TEMPORAL_AFTER), None) is None


def _edge(item: MemoryItem, target: str, kind: str) -> Edge:
    return Edge(
        source=item.id,
        target=target,
        type=kind,
        valid_from=item.event_time,
        record_time=item.record_time,
    )


def _as_matrix(values: Tensor | NDArray[Any]) -> NDArray[np.float32]:
    array = (
        values.detach().float().cpu().numpy()
        if isinstance(values, Tensor)
        else np.asarray(values, dtype=np.float32)
    )
    if array.ndim != 2:
        raise ValueError(f"vectors have shape {array.shape}; pass [rows, D].")
    return np.ascontiguousarray(array, dtype=np.float32)


def _as_recall(
    rows: list[list[tuple[Hit, float]]], *, k: int, dim: int, now: float, device: torch.device | None
) -> Recall:
    shape = (len(rows), k)
    vectors = np.zeros((*shape, dim), dtype=np.float32)
    ages, kappas, scores = (np.zeros(shape, dtype=np.float32) for _ in range(3))
    mask = np.zeros(shape, dtype=bool)
    for b, hits in enumerate(rows):
        for j, (hit, score) in enumerate(hits):
            item = hit.item
            if item.vector is not None:
                vectors[b, j] = item.vector
            ages[b, j], kappas[b, j] = max(0.0, now - item.event_time), item.kappa
            scores[b, j], mask[b, j] = score, True

    def tensor(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(device)

    return Recall(
        vectors=tensor(vectors),
        ids=[[hit.id for hit, _ in hits] for hits in rows],
        contents=[[hit.item.content for hit, _ in hits] for hits in rows],
        tokens=[[list(hit.item.metadata.get("tokens", ())) for hit, _ in hits] for hits in rows],
        ages=tensor(ages),
        kappas=tensor(kappas),
        scores=tensor(scores),
        mask=tensor(mask),
    )
