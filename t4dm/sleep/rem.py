"""REM: cluster what NREM has strengthened, and keep a prototype of each cluster."""

from __future__ import annotations

from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN

from t4dm.sleep.night import Night
from t4dm.t4dx import Edge, EdgeType, Filter, Item, new_id

__all__ = ["Rem", "cluster"]

_MERGED = str(EdgeType.MERGED_FROM)


class _Known(NamedTuple):
    """A prototype that earlier nights made, and what it was merged from."""

    item: Item
    members: frozenset[str]


def cluster(
    vectors: NDArray[np.float32], *, min_size: int = 3, dims: int = 32, cohesion: float = 0.3
) -> list[NDArray[np.int64]]:
    """Groups of vectors that point the same way.

    Vectors are scaled to length 1, so Euclidean distance orders like the cosine, and reduced to at most
    `dims` principal components, because density means little in hundreds of dimensions. Then HDBSCAN
    (Campello, Moulavi & Sander 2013). A group whose members have a mean cosine to each other below
    `cohesion` is dropped: density alone calls any lump a cluster.

    Args:
        vectors: [N, D].
        min_size: smallest group.

    Returns:
        Row numbers of each group, ascending; groups by their first row.
    """
    if len(vectors) < max(2, min_size):
        return []
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    labels = HDBSCAN(min_cluster_size=max(2, min_size), copy=True).fit_predict(_principal(unit, dims))
    groups = [np.flatnonzero(labels == label) for label in range(int(labels.max(initial=-1)) + 1)]
    kept = [rows for rows in groups if _mean_cosine(unit[rows]) >= cohesion]
    return sorted(kept, key=lambda rows: int(rows[0]))


def _principal(unit: NDArray[np.float32], dims: int) -> NDArray[np.float64]:
    """[N, min(dims, N, D)] principal components, signs fixed so that the result is the same on every
    machine.
    """
    centred = unit.astype(np.float64) - unit.mean(axis=0, dtype=np.float64)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    scores = u[:, :dims] * s[:dims]
    signs = np.sign(scores[np.abs(scores).argmax(axis=0), np.arange(scores.shape[1])])
    return np.asarray(scores * np.where(signs == 0, 1.0, signs))


def _mean_cosine(unit: NDArray[np.float32]) -> float:
    """Mean cosine of all pairs, from the length R of the mean vector: (n R^2 - 1) / (n - 1)."""
    count, length = len(unit), float(np.linalg.norm(unit.mean(axis=0, dtype=np.float64)))
    return (count * length**2 - 1.0) / (count - 1.0)


def _centroid(unit: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = unit.mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), dtype=np.float32)


@final
class Rem:
    """Merge clusters of half-consolidated episodes into semantic prototypes.

    Candidates are episodic items with a vector and kappa in [lo, hi), tonight's replay counted; clusters
    never cross sessions. A prototype is an item of type semantic with the cluster's centroid as vector and
    the content and tokens of its medoid, tied to each member by MERGED_FROM (weight = cosine). Members and
    prototype gain kappa. Where an earlier prototype already covers at least `overlap` of a cluster, the new
    members are added to it: repeated nights do not breed prototypes.

    Args:
        kappa: [lo, hi) of the candidates.
        eta: kappa <- kappa + eta * (1 - kappa) for members and prototype.
        min_size: smallest cluster.
        dims: principal components that HDBSCAN sees.
        cohesion: smallest mean cosine between members.
        overlap: share of a cluster that makes a known prototype its equivalent.
        max_items: candidates of one session that a night looks at, the latest first.
    """

    def __init__(
        self,
        *,
        kappa: tuple[float, float] = (0.3, 0.7),
        eta: float = 0.2,
        min_size: int = 3,
        dims: int = 32,
        cohesion: float = 0.3,
        overlap: float = 0.5,
        max_items: int = 5000,
    ) -> None:
        self.kappa = (float(kappa[0]), float(kappa[1]))
        self.eta = eta
        self.min_size = min_size
        self.dims = dims
        self.cohesion = cohesion
        self.overlap = overlap
        self.max_items = max_items

    def decide(self, night: Night) -> None:
        sessions: dict[str, list[Item]] = {}
        for item in night.scan(Filter(type="episodic"), kappa=self.kappa):
            if item.vector is not None and item.id not in night.closed:
                sessions.setdefault(item.session, []).append(item)
        known = self._known(night) if sessions else {}
        for session in sorted(sessions):
            latest = sorted(sessions[session], key=lambda item: (-item.event_time, item.id))[: self.max_items]
            items = sorted(latest, key=lambda item: (item.event_time, item.id))
            vectors = np.stack([np.asarray(item.vector, dtype=np.float32) for item in items])
            for rows in cluster(vectors, min_size=self.min_size, dims=self.dims, cohesion=self.cohesion):
                self._merge(night, [items[row] for row in rows], known.setdefault(session, []))

    def _known(self, night: Night) -> dict[str, list[_Known]]:
        members: dict[str, set[str]] = {}
        for edge in night.view.edges(edge_type=_MERGED):
            members.setdefault(edge.source, set()).add(edge.target)
        known: dict[str, list[_Known]] = {}
        for item in night.view.get_many(sorted(members)):
            if item is not None:
                all_members = members[item.id] | set(item.metadata.get("members", ()))
                known.setdefault(item.session, []).append(_Known(item, frozenset(all_members)))
        return known

    def _merge(self, night: Night, members: list[Item], known: list[_Known]) -> None:
        ids = [item.id for item in members]
        shares = [len(old.members.intersection(ids)) / len(ids) for old in known]
        best = int(np.argmax(shares)) if shares else -1
        if best >= 0 and shares[best] >= self.overlap:
            prototype, fresh = (
                known[best].item,
                [item for item in members if item.id not in known[best].members],
            )
            self._absorb(night, prototype, known[best].members, fresh)
            night.boost([*ids, prototype.id], self.eta)
        else:
            prototype, fresh = self._prototype(night, members), members
            night.prototypes.append(prototype)
            night.boost(ids, self.eta)
            known.append(_Known(prototype, frozenset(ids)))
            contents = [item.content for item in members[:6]]
            night.sample(
                "cluster", id=prototype.id, content=prototype.content, size=len(ids), members=contents
            )
        night.merged.update(ids)
        night.edges += [_merged_from(night, prototype, item) for item in fresh]

    def _prototype(self, night: Night, members: list[Item]) -> Item:
        vectors = np.stack([np.asarray(item.vector, dtype=np.float32) for item in members])
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        centre = _centroid(unit)
        medoid = members[int(np.argmax(unit @ centre))]
        mean = float(np.mean([night.kappa(item) for item in members]))
        return Item(
            id=new_id(night.rng),
            content=medoid.content,
            vector=centre,
            type="semantic",
            session=medoid.session,
            kappa=mean + self.eta * (1.0 - mean),
            importance=max(item.importance for item in members),
            event_time=medoid.event_time,
            record_time=night.now,
            valid_from=min(item.valid_from for item in members),
            metadata={
                "cycle": night.cycle,
                "members": [item.id for item in members],
                **{key: medoid.metadata[key] for key in ("tokens",) if key in medoid.metadata},
            },
        )

    def _absorb(self, night: Night, prototype: Item, members: frozenset[str], fresh: list[Item]) -> None:
        if fresh:
            names = [*sorted(members), *(item.id for item in fresh)]
            night.metadata[prototype.id] = {**prototype.metadata, "members": names}


def _merged_from(night: Night, prototype: Item, member: Item) -> Edge:
    a, b = np.asarray(prototype.vector, dtype=np.float64), np.asarray(member.vector, dtype=np.float64)
    cosine = float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12))
    return Edge(
        prototype.id,
        member.id,
        _MERGED,
        weight=min(1.0, max(0.0, cosine)),
        valid_from=night.now,
        record_time=night.now,
        properties={"cycle": night.cycle},
    )
