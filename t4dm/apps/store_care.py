"""What `t4dm store verify|repair|backup|restore|export|import|compact` do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from t4dm.apps.store_output import at_store, opened, print_fields, print_json, secret
from t4dm.errors import UsageError
from t4dm.t4dx import T4DX
from t4dm.t4dx.backup import backup_store, restore_store
from t4dm.t4dx.export import check_target, export_store
from t4dm.t4dx.imports import check_file, default_collection, import_store
from t4dm.t4dx.repair import LOST, repair_store
from t4dm.t4dx.verify import verify_folder


class Form(NamedTuple):
    """How to export."""

    history: bool
    vectors: str
    force: bool


def verify(path: Path, level: str, *, as_json: bool, key: Path | None) -> None:
    """Every problem, one a line; exit code 1 where there is one."""
    with at_store(path):
        report = verify_folder(path, level, key=secret(key))
    if as_json:
        print_json({"ok": report.ok, **asdict(report)})
    else:
        for problem in report.problems:
            print(problem)
        found = f"{len(report.problems)} problems; see what can be saved: t4dm store repair {path} --dry-run"
        print(f"{path}: {report.files} files, level {report.level}: {'no problem' if report.ok else found}")
    _exit(report.ok)


def repair(path: Path, *, dry_run: bool, as_json: bool, key: Path | None) -> None:
    """What was wrong, what was done, what is lost; exit code 1 where anything was wrong."""
    with at_store(path):
        report = repair_store(path, dry_run=dry_run, key=secret(key))
    if as_json:
        print_json({"ok": report.ok, **asdict(report)})
    elif report.ok:
        print(f"{path}: nothing to repair, {report.items} versions of items and {report.edges} of edges")
    else:
        for text in (
            *(f"wrong: {p}" for p in report.problems),
            *(f"{_done(dry_run)}: {a}" for a in report.actions),
        ):
            print(text)
        lost = {
            "items lost": report.lost_items,
            "edges lost": report.lost_edges,
            "files of updates lost": report.lost_updates,
            "log bytes lost": report.lost_log_bytes,
            "log records in them": report.lost_log_records,
            "items left": report.items,
            "edges left": report.edges,
            f"files in {path / LOST}": len(report.quarantined),
        }
        print_fields(lost)
    _exit(report.ok)


def backup(path: Path, target: Path, *, link: bool, as_json: bool, key: Path | None) -> None:
    """A verified copy."""
    with at_store(path):
        lsn = backup_store(path, target, link=link, key=secret(key))
    _said(
        f"{target}: a verified copy of {path} up to LSN {lsn}", {"target": str(target), "lsn": lsn}, as_json
    )


def restore(source: Path, target: Path, *, as_json: bool, key: Path | None) -> None:
    """A verified store."""
    with at_store(source):
        lsn = restore_store(source, target, key=secret(key))
    _said(
        f"{target}: restored from {source} up to LSN {lsn}, and verified",
        {"target": str(target), "lsn": lsn},
        as_json,
    )


def export(path: Path, file: Path, form: Form, *, as_json: bool, key: Path | None) -> None:
    """One file of everything."""
    check_target(file, overwrite=form.force)
    with opened(path, key=key) as store, _progress("versions written") as step:
        counts = export_store(
            store, file, history=form.history, vectors=form.vectors, overwrite=form.force, progress=step
        )
    said = f"{file}: {counts.items} items and {counts.edges} edges"
    _said(said, {"file": str(file), **counts._asdict()}, as_json)


def import_(
    path: Path, file: Path, *, dim: int | None, collection: str, batch: int, as_json: bool, key: Path | None
) -> None:
    """Lines into a store; a new one takes its vector size from the file."""
    check_file(file)
    if batch < 1:
        raise UsageError(f"--batch {batch} is no number of lines; write --batch 1000")
    try:
        with _writable(path, file, dim, key) as store, _progress("lines read") as step:
            done = import_store(store, file, collection=collection, batch=batch, progress=step)
    except KeyboardInterrupt:
        sys.stderr.write(f"t4dm: stopped; whole batches are stored, go on: t4dm store import {path} {file}\n")
        raise SystemExit(130) from None
    said = f"{path}: {done.items} items and {done.edges} edges read, {done.unchanged} were there already"
    _said(said, {"store": str(path), **done._asdict()}, as_json)


def compact(path: Path, *, as_json: bool, key: Path | None) -> None:
    """Segments before and after."""
    with opened(path, key=key, write=True) as store:
        before = store.stats()
        store.compact()
        after = store.stats()
    rows = {
        f"{name}_{when}": stats[name]
        for name in ("segments", "bytes")
        for when, stats in (("before", before), ("after", after))
    }
    sizes = [f"{stats['segments']} segments, {stats['bytes']} bytes" for stats in (before, after)]
    said = f"{path}: {' -> '.join(sizes)}"
    _said(said, {"store": str(path), **rows}, as_json)


@contextmanager
def _writable(path: Path, file: Path, dim: int | None, key: Path | None) -> Iterator[T4DX]:
    """The store at a path, or a new one that fits the file."""
    if any(path.glob("MANIFEST-*")):
        with opened(path, key=key, write=True) as store:
            yield store
        return
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise UsageError(f"{path} is no store and not empty; name a new folder for it")
    found = default_collection(file)
    size = dim or (found.dim if found is not None else None)
    if size is None:
        raise UsageError(f"{file} holds no vector that says how long they are; say it: --dim 1024")
    metric = found.metric if found is not None else "cosine"
    with opened(path, key=key, write=True, dim=size, metric=metric) as store:
        yield store


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int], None] | None]:
    """A running count on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with console.status(f"0 {what}") as status:
        yield lambda done: status.update(f"{done} {what}")


def _said(text: str, row: dict[str, object], as_json: bool) -> None:
    print_json(row) if as_json else print(text)


def _done(dry_run: bool) -> str:
    return "would do" if dry_run else "done"


def _exit(ok: bool) -> None:
    if not ok:
        raise SystemExit(1)
