"""Writes the golden store of this format and its answers: `python tests/t4dx/make_golden.py FOLDER`.

Run it once per format, commit what it writes, and never again: the test opens that very folder with every
later version. Clock, ids and salts are fixed.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np

from t4dm.t4dx import BOTH, T4DX, AsOf, Edge, EdgeFilter, Filter, Item, Options
from t4dm.t4dx.fs import OsFileSystem
from t4dm.t4dx.reader import Reader


class FixedSalts(OsFileSystem):
    """The real disk with a known source of randomness."""

    def __init__(self) -> None:
        super().__init__()
        self._random = random.Random(7)

    def token(self, size: int) -> bytes:
        return self._random.randbytes(size)


def vector(number: int, size: int) -> np.ndarray:
    return np.array([(number * (place + 3)) % 7 - 3 for place in range(size)], np.float32)


def make(folder: Path) -> None:
    """A store with every kind of file and of log record."""
    times = iter(range(1000, 2000))
    options = Options(durability="os", background=False, max_deltas=1, edge_types=("LIKES",))
    with T4DX.open(
        folder, dim=4, options=options, clock=lambda: float(next(times)), fs=FixedSalts()
    ) as store:
        store.create_collection("notes", dim=3, metric="l2")
        store.insert_many(
            [
                Item(
                    id=f"item-{n}",
                    content=f"content {n} ä",
                    vector=vector(n, 4),
                    session=f"s{n % 2}",
                    event_time=float(n),
                    metadata={"n": n, "tags": ["even" if n % 2 == 0 else "odd"]},
                )
                for n in range(8)
            ]
            + [Item(id=f"note-{n}", vector=vector(n, 3), collection="notes") for n in range(4)],
            [Edge(f"item-{n}", f"item-{n + 1}", "CAUSES", 0.5, properties={"n": n}) for n in range(7)],
        )
        store.insert(Item(id="bare", content="without a vector", valid_until=5000.0))
        store.flush()
        store.merge_kappa([f"item-{n}" for n in range(8)], 0.25)
        store.update_fields("item-1", metadata={"n": 100}, type="semantic")
        store.batch_scale_weights(EdgeFilter(type="CAUSES"), (0.5, 0.1, 0.0, 1.0))
        store.flush()
        store.compact(full=False)  # new generations of some columns
        likes = Edge("item-2", "bare", "LIKES", 0.25)
        store.insert(Item(id="item-2", content="again", vector=vector(9, 4)), [likes])
        store.flush()
        store.delete("item-5")
        store.update_edge_weight("item-0", "item-1", 0.25, edge_type="CAUSES")
        store.batch_scale_weights(EdgeFilter(type="CAUSES"), (0.5, 0.0, 0.0, 1.0))
        store.flush()  # a delta file with values, a rule and a tombstone
        with store.transaction(id="night-1", undo=True) as tx:
            tx.insert(Item(id="proto", content="prototype"), [Edge("proto", "item-0", "MERGED_FROM", 1.0)])
            tx.add_accesses({"item-0": 3, "item-1": 1})
        store.close_item("item-7")
        store.delete_edge("item-3", "item-4", edge_type="CAUSES")
        store.update_fields("item-0", importance=0.75)


def answers(store: Reader) -> dict[str, Any]:
    """What the store says, as plain values."""
    walks = store.traverse("item-0", direction=BOTH, depth=3)
    return {
        "items": [repr(item) for item in store.scan()],
        "edges": sorted(repr(edge) for edge in store.edges()),
        "past": [repr(item) for item in store.scan(as_of=AsOf(record=1003.5))],
        "search": [[hit.id, hit.score] for hit in store.search(vector(3, 4), 5)],
        "notes": [[hit.id, hit.score] for hit in store.search(vector(2, 3), 3, collection="notes")],
        "kappa": [item.id for item in store.scan(Filter(kappa=(0.2, 1.0), session="s1"))],
        "walks": [[list(path.nodes), path.weight] for path in walks],
        "lsn": store.lsn,
    }


def main(folder: Path) -> None:
    make(folder)
    with T4DX.open(folder, read_only=True) as store:
        text = json.dumps(answers(store), indent=1, ensure_ascii=False)
    for name in ("LOCK", "gc.lock"):  # they name the machine, and a store without them opens as well
        (folder / name).unlink(missing_ok=True)
    folder.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
