"""The store that a finished run is read with: a copy, its own, or one that an earlier command left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from t4dm.apps.finished import Finished
from t4dm.errors import NoStoreError, StoreDimensionError
from t4dm.persistence.recovery import open_store_copy
from t4dm.t4dx import T4DX, Options
from t4dm.training.event_clock import EventClock

COPY, OWN = "copy", "run"


@contextmanager
def run_store(
    trained: Finished, *, run: Path, which: str, copy_to: Path, clock: EventClock
) -> Iterator[T4DX | None]:
    """Open a store; each write is on the disk before it is acknowledged. None where the run has none.

    The clock is set to the latest event, so that ages count from there and what is newer outranks what it
    superseded.

    Args:
        trained: the run, loaded.
        run: its folder.
        which: `"copy"` of the newest checkpoint's store, `"run"` for the run's own, or a store's folder.
        copy_to: where a copy goes.
        clock: of the store.

    Raises:
        NoStoreError: `which` names no store.
        StoreLockedError: another process writes to it.
        StoreDimensionError: it holds other vectors than this model's search keys.
    """
    options = Options(durability="sync")
    dim = int(trained.config["model"]["embedder"]["dim"])
    if which == COPY and trained.bundle.lsn is None:
        yield None
        return
    if which == COPY:
        store = open_store_copy(trained.bundle, copy_to, clock=clock, options=options)
    else:
        path = run / "store" if which == OWN else Path(which)
        if not path.is_dir():
            raise NoStoreError(str(path), fix="take a copy of the checkpoint's: store=copy (--store copy)")
        store = T4DX.open(path, options=options, clock=clock)
    with store:
        if store.dim != dim:
            raise StoreDimensionError(store.path, store.dim, dim)
        clock.advance(latest_event(store))
        yield store


def latest_event(store: T4DX | None) -> float:
    """When the last event was, seconds."""
    return 0.0 if store is None else float(store.column("event_time").max(initial=0.0))


def newest_session(store: T4DX | None) -> str:
    """Whose memories were written last."""
    newest = next(iter(store.scan(limit=1, order="-record_time")), None) if store is not None else None
    return "" if newest is None else newest.session
