"""Stores of every released format open and answer as they did; what is newer is refused by name.

`tests/t4dx/golden/<format>/` holds a store written once and never again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from reliability import disk
from reliability.bit_flips_per_type import answers, disk_of
from reliability.options import options
from reliability.rows import Lost, Runner, Wrong
from simulated_fs import File, Folder, SimulatedFileSystem

from t4dm.errors import StoreFormatError
from t4dm.t4dx import T4DX, Item, manifest

FOLDER = "store"
GOLDEN = Path(__file__).parents[1] / "golden"
FLAGS = ("reader", "writer", "format")


def cases(seed: int, size: int) -> list[str]:
    """Every golden store, and every kind of flag."""
    return [
        *(f"golden,{path.name}" for path in sorted(GOLDEN.glob("*/"))),
        *(f"newer,{flag}" for flag in FLAGS),
    ]


def check(case: str) -> int:
    """Case golden,name or newer,flag."""
    kind, name = case.split(",")
    (golden if kind == "golden" else newer)(name)
    return 1


def golden(name: str) -> None:
    """Open a copy, write into it, open it again."""
    root = disk.from_real(GOLDEN / name)
    fs = SimulatedFileSystem(Folder({FOLDER: root}, {FOLDER: root}))
    with T4DX.open(FOLDER, options=options(durability="sync"), fs=fs) as store:
        report = store.verify("deep")
        items = sorted(item.id for item in store.scan())
        if not report.ok or not items:
            raise Lost(f"golden store {name}: {items} items, {report.problems[:2]}")
        store.insert(Item(id="written by a later version"))
        store.compact()
    with T4DX.open(FOLDER, fs=fs) as store:
        if sorted(item.id for item in store.scan()) != sorted([*items, "written by a later version"]):
            raise Lost(f"golden store {name}: items are gone after a compaction")


def newer(flag: str) -> None:
    """A store of a later version: refused, but for a reader where only writers must know."""
    root = disk.copy(disk_of(1)[0])
    fs = SimulatedFileSystem(root)
    found = manifest.load(fs, FOLDER)
    assert found is not None
    path = f"{FOLDER}/{manifest.manifest_name(found.version)}"
    if flag == "format":
        kept = manifest.FORMAT
        vars(manifest)["FORMAT"] = kept + 1
        data = manifest.encode(found)
        vars(manifest)["FORMAT"] = kept
    else:
        name = f"{flag}_flags"
        data = manifest.encode(replace(found, **{name: (*getattr(found, name), "from-the-future")}))
    file = disk.file_at(root, path)
    assert isinstance(file, File)
    file.data[:] = data
    for read_only in (False, True):
        try:
            T4DX.open(FOLDER, read_only=read_only, fs=SimulatedFileSystem(disk.copy(root))).close()
        except StoreFormatError as error:
            if flag == "writer" and read_only:
                raise Wrong(f"a reader was refused for a writer's flag: {error}") from None
            continue
        if flag != "writer" or not read_only:
            raise Wrong(f"a store with a newer {flag} was opened (read_only={read_only})")
    if not answers(disk.copy(disk_of(1)[0])):
        raise Wrong("the store does not answer")


RUNNER = Runner("upgrade", cases, check, {"pr": 1, "nightly": 1})
