"""What `t4dm store stats|get|scan` do; they only read."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from t4dm.errors import NoStoreError, StoreMissingError, UnknownItemError
from t4dm.t4dx import T4DX, Filter


def _open(path: Path) -> T4DX:
    try:
        return T4DX.open(path, read_only=True)
    except (StoreMissingError, NotADirectoryError):
        inside = path / "store"
        fix = "list the runs, each has its own in store: t4dm runs ls"
        if inside.is_dir():
            fix = f"there is one in it: t4dm store stats {inside}"
        raise NoStoreError(str(path), fix=fix) from None


def stats(path: Path) -> str:
    """Counts and sizes as `key  value` lines."""
    with _open(path) as store:
        rows = {key: str(value) for key, value in store.stats().items()}
    width = max(map(len, rows))
    return "\n".join(f"{key:{width}}  {value}" for key, value in rows.items())


def get(path: Path, id: str) -> str:
    """One item and its edges as JSON, its vector by length only.

    Raises:
        UnknownItemError: no such item.
    """
    with _open(path) as store:
        item = store.get(id)
        if item is None:
            raise UnknownItemError(id, str(path))
        edges = [*store.edges(source=id), *store.edges(target=id)]
    fields = {
        name: getattr(item, name) for name in item.__dataclass_fields__ if name not in ("vector", "metadata")
    }
    fields["dim"] = None if item.vector is None else len(item.vector)
    fields["metadata"] = dict(item.metadata)
    fields["edges"] = [f"{edge.source} -{edge.type}-> {edge.target} ({edge.weight:.2f})" for edge in edges]
    return json.dumps(fields, indent=1, ensure_ascii=False, default=str)


def scan(path: Path, *, limit: int, type: str) -> None:
    """Print the newest items."""
    table = Table("id", "type", "kappa", "importance", "session", "content", box=None, header_style="bold")
    with _open(path) as store:
        for item in store.scan(Filter(type=type or None), limit=limit, order="-record_time"):
            table.add_row(
                item.id, item.type, f"{item.kappa:.2f}", f"{item.importance:.2f}", item.session, item.content
            )
    Console(soft_wrap=True).print(table)
