"""Delta files that say the same twice."""

from __future__ import annotations

from disks_with_events import SharedDisk
from reliability.options import options
from store_model import Ticks, digest

from t4dm.t4dx import T4DX, Item, deltas, manifest


def test_a_flush_beside_a_merge_leaves_an_entry_in_two_delta_files_and_it_counts_once() -> None:
    fs, clock = SharedDisk(), Ticks()
    chosen = options(durability="os", memtable_items=1000, max_deltas=1)
    store = T4DX.open("s", dim=2, options=chosen, clock=clock, fs=fs)
    store.insert_many([Item(id=f"a{n}") for n in range(100)])  # so many that two patches rewrite no column
    store.flush()
    store.insert_many([Item(id="b0"), Item(id="b1")])
    store.flush()
    store.update_fields("a0", kappa=0.25)
    store.delete("b0")  # half of the second segment is dead: it will be merged alone
    store.flush()

    def update_and_flush() -> None:
        store.update_fields("a1", kappa=0.5)
        store.flush()

    fs.then("deltas/", update_and_flush)  # the merge has written its segment, and writes what it leaves
    store._upkeep.compact(full=False)
    assert fs.at == ""
    contents = [deltas.read(fs, "s", entry) for entry in manifest.load(fs, "s").deltas]
    assert [content["items"]["kappa"][0] for content in contents] == [["a0"], ["a0", "a1"]]
    before = digest(store)
    with T4DX.open("s", options=chosen, clock=clock, fs=fs.after_crash("all")) as again:
        assert digest(again) == before
        assert {item.id: item.kappa for item in again.scan() if item.kappa} == {"a0": 0.25, "a1": 0.5}
        assert again.verify("deep").ok
        again.compact()
        assert digest(again) == before
