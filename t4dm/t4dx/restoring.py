"""How the operations of an undo change the state: columns by version, and versions that come back whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from t4dm.t4dx.ops import EDGE_NUMBERS, ITEM_NUMBERS, Floats, PatchRows, RestoreEdges, RestoreItems
from t4dm.t4dx.tables import Draft

if TYPE_CHECKING:
    from t4dm.t4dx.state import State


def restore(state: State, op: PatchRows | RestoreItems | RestoreEdges) -> None:
    """Apply one of them under the state's present LSN."""
    match op:
        case PatchRows():
            _patch(state, op)
        case RestoreItems():
            state.memtable.add_items(
                state.front, op.rows, times=_times(op.rows.numbers, ITEM_NUMBERS), seq=state.lsn
            )
        case RestoreEdges():
            state.memtable.add_edges(
                state.front, op.rows, state.types, times=_times(op.rows.numbers, EDGE_NUMBERS), seq=state.lsn
            )


def _times(numbers: Floats, names: tuple[str, ...]) -> list[float]:
    times: list[float] = numbers[:, names.index("record_time")].tolist()
    return times


def _patch(state: State, op: PatchRows) -> None:
    for key, birth, value in zip(op.keys, op.births, op.values, strict=True):
        for draft in state.drafts:
            items = op.kind == "items"
            rows = list(draft.source.rows_of(key[0])) if items else _edge_rows(state, draft, key)
            for row in rows:
                if draft.value(op.kind, "seq", row) == birth:
                    draft.patch(op.kind, op.field, row, value, seq=state.lsn)


def _edge_rows(state: State, draft: Draft, key: list[str]) -> list[int]:
    code = state.types.codes.get(key[2], -1)
    return [
        row for row in draft.source.edges_between(key[0], key[1]) if draft.value("edges", "type", row) == code
    ]
