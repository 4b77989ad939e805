"""Scaling rules: one operator for all edges of a kind, logged and kept as one entry, applied when a weight is
read.

A rule concerns the edges that were current when it was made; so it applies to a weight that is older, in the
order of the LSNs between patches of the same weight. Rules up to a column's `upto` are part of its base.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.columns import Array, Rows
from t4dm.t4dx.ops import ScaleRule
from t4dm.t4dx.registry import EdgeTypes
from t4dm.t4dx.types import Lsn

if TYPE_CHECKING:
    from t4dm.t4dx.tables import Part, View


@final
class Rules:
    """The rules that some segment has not folded yet, by LSN. It only grows; trimming makes a new one."""

    __slots__ = ("rules", "seqs", "types")

    def __init__(self, types: EdgeTypes, pairs: list[tuple[Lsn, ScaleRule]] | None = None) -> None:
        self.types = types
        self.seqs: list[Lsn] = [seq for seq, _ in pairs or []]
        self.rules: list[ScaleRule] = [rule for _, rule in pairs or []]

    def add(self, seq: Lsn, rule: ScaleRule) -> None:
        """Append the newest."""
        self.rules.append(rule)
        self.seqs.append(seq)

    def between(self, since: Lsn, upto: Lsn) -> list[tuple[Lsn, ScaleRule]]:
        """The rules with an LSN in (since, upto]."""
        lo, hi = bisect_right(self.seqs, since), bisect_right(self.seqs, upto)
        return list(zip(self.seqs[lo:hi], self.rules[lo:hi], strict=True))

    def count(self, since: Lsn) -> int:
        """How many rules are newer than an LSN."""
        return len(self.seqs) - bisect_right(self.seqs, since)

    def pending(self, since: Lsn, upto: Lsn) -> bool:
        """Whether there is a rule with an LSN in (since, upto]."""
        return bool(self.seqs) and bisect_right(self.seqs, since) < bisect_right(self.seqs, upto)

    def after(self, lsn: Lsn) -> Rules:
        """The rules that are newer than an LSN."""
        return Rules(self.types, self.between(lsn, self.seqs[-1] if self.seqs else lsn))


def scaled(view: View, rules: Rules, weights: Array) -> Array:
    """The weights of a view, pending rules applied; kept as long as nothing changes."""
    if not rules.seqs or not rules.pending(view.part.edges["weight"].upto, view.lsn):
        return weights
    fields = [("edges", name) for name in ("weight", "alive", "record_until")]
    last = rules.seqs[bisect_right(rules.seqs, view.lsn) - 1]
    made: Array = view.memo("weights", fields, lambda: _scaled(view, rules, weights), also=last)
    return made


def scaled_one(part: Part, rules: Rules, row: int, lsn: Lsn) -> float:
    """The weight of one row, pending rules applied."""
    column = part.edges["weight"]
    weight: float = column.at(row, lsn)
    if rules.seqs and rules.pending(column.upto, lsn):
        since = max(column.upto, column.stamp(row, lsn))
        for seq, rule in rules.between(since, lsn):
            if _concerns(part, rules.types, rule, row, seq, lsn):
                a, b, lo, hi = rule.operator.tolist()
                weight = min(max(a * weight + b, lo), hi)
    return weight


def _scaled(view: View, rules: Rules, weights: Array) -> Array:
    part, m, lsn = view.part, view.m, view.lsn
    column, weights = part.edges["weight"], weights[:m].copy()
    stamps, born = column.stamps_at(lsn, m), part.edges["seq"].base[:m]
    open_now = view.edges["record_until"][:m] == math.inf
    living, closed_at = view.edges["alive"][:m], part.edges["record_until"].stamps_at(lsn, m)
    died_at = part.edges["alive"].stamps_at(lsn, m)
    for seq, rule in rules.between(column.upto, lsn):
        # where the last change of a state is newer than the rule, the state was the other one then
        mask = (open_now ^ (closed_at > seq)) & (living ^ (died_at > seq)) & (born < seq) & (stamps < seq)
        rows = np.flatnonzero(mask & _chosen(part, rules.types, rule, m))
        a, b, lo, hi = rule.operator.tolist()
        weights[rows] = np.minimum(np.maximum(a * weights[rows] + b, lo), hi)
    return weights


def concerned(view: View, types: EdgeTypes, rule: ScaleRule) -> Rows:
    """The rows that a rule concerns if it is made now."""
    chosen: Rows = view.visible_edges(None)
    mask = np.zeros(view.m, bool)
    mask[chosen] = True
    return np.flatnonzero(mask & _chosen(view.part, types, rule, view.m))


def _chosen(part: Part, types: EdgeTypes, rule: ScaleRule, m: int) -> Any:
    mask: Any = True
    if rule.types is not None:
        codes = [types.codes[name] for name in rule.types if name in types.codes]
        kinds = part.edges["type"].base[:m]
        mask = kinds == codes[0] if len(codes) == 1 else np.isin(kinds, codes)
    if rule.recorded is not None:
        times = part.edges["record_time"].base[:m]
        mask = mask & (times >= rule.recorded[0]) & (times < rule.recorded[1])
    if rule.lsn is not None:
        mask = mask & (part.edges["seq"].base[:m] <= rule.lsn)
    for side, names in enumerate((rule.sources, rule.targets)):
        if names is not None:
            rows = [r for name in names for r in part.source.edge_rows(name, incoming=bool(side)) if r < m]
            chosen: NDArray[np.bool_] = np.zeros(m, bool)
            chosen[rows] = True
            mask = mask & chosen
    return mask


def _concerns(part: Part, types: EdgeTypes, rule: ScaleRule, row: int, seq: Lsn, lsn: Lsn) -> bool:
    cols = part.edges
    if cols["seq"].cells[row] >= seq:
        return False
    if (cols["record_until"].at(row, lsn) == math.inf) is (cols["record_until"].stamp(row, lsn) > seq):
        return False
    if bool(cols["alive"].at(row, lsn)) is (cols["alive"].stamp(row, lsn) > seq):
        return False
    if rule.types is not None and types.names[cols["type"].cells[row]] not in rule.types:
        return False
    if rule.lsn is not None and cols["seq"].cells[row] > rule.lsn:
        return False
    if rule.recorded is not None and not (
        rule.recorded[0] <= cols["record_time"].cells[row] < rule.recorded[1]
    ):
        return False
    source, target = part.source.edge_ends(row)
    return (rule.sources is None or source in rule.sources) and (
        rule.targets is None or target in rule.targets
    )
