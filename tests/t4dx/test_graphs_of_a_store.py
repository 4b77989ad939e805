"""Graphs of a store (`graph_shelf`, `graph_building`, `graph_files`): built beside the writes, checked before
use, kept by what changes no vector, extended by merges, thrown away when damaged.
"""

from __future__ import annotations

import random
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from graph_data import bits, clusters, fill, graph_files, of_many_lengths, opened, options, recall, segments
from simulated_fs import Crash, SimulatedFileSystem

from t4dm.errors import GraphLibraryWarning, OptionError, StoreClosedError
from t4dm.t4dx import T4DX, Item, Options, graph_building, graph_shelf, repair_store, verify_folder
from t4dm.t4dx import graph_files as files
from t4dm.t4dx.ann import Exact, Graph
from t4dm.t4dx.ladders import LADDER

DIM = 8
VECTORS = clusters(300, DIM)
SECONDS = 20.0


def stored(disk: SimulatedFileSystem, **chosen: object) -> T4DX:
    """A store of 300 vectors with its graph."""
    store = opened(disk, dim=DIM, **chosen)
    fill(store, VECTORS)
    store.build_graphs()
    return store


def graph_of(store: T4DX, number: int = 0, code: int = 0) -> Graph | None:
    return segments(store)[number].graph(code)


def figures(store: T4DX) -> tuple[int, int, int, int]:
    told = store.stats()["graphs"]
    return told["ready"], told["missing"], told["built"], told["extended"]


def test_a_large_segment_gets_a_graph_and_a_small_one_none() -> None:
    store = opened(SimulatedFileSystem(), dim=DIM)
    fill(store, VECTORS[:50])
    fill(store, VECTORS[50:99], 50)
    assert [graph_of(store, number) for number in (0, 1)] == [None, None]
    store.build_graphs()
    assert graph_of(store, 0) is None
    assert graph_of(store, 1).rows == 50
    assert figures(store) == (1, 0, 1, 0)


def test_a_graph_answers_for_the_vectors_of_its_segment() -> None:
    store = stored(SimulatedFileSystem())
    assert recall(graph_of(store), VECTORS, "cosine", clusters(30, DIM, seed=1), ef=64) >= 0.99
    assert store.search(VECTORS[7], k=1).ids == ["00007"]


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_every_metric_has_graphs_that_survive_a_reopening(metric: str) -> None:
    disk, vectors = SimulatedFileSystem(), of_many_lengths(300, DIM)
    vectors[4] = 0.0
    with T4DX.open("store", dim=DIM, metric=metric, options=options(), fs=disk) as store:
        fill(store, vectors)
        store.build_graphs()
    with opened(disk, dim=DIM) as store:
        graph = graph_of(store)
        assert figures(store) == (1, 0, 0, 0)
        assert recall(graph, vectors, metric, clusters(30, DIM, seed=1), ef=128) >= 0.98


def test_each_collection_has_a_graph_of_its_own() -> None:
    store = opened(SimulatedFileSystem(), dim=DIM)
    store.create_collection("places", dim=3, metric="l2")
    places = clusters(80, 3)
    store.insert_many(
        [Item(id=f"a{n}", vector=vector) for n, vector in enumerate(VECTORS[:60])]
        + [Item(id=f"b{n}", vector=vector, collection="places") for n, vector in enumerate(places)]
    )
    store.flush()
    store.build_graphs()
    assert (graph_of(store, code=0).rows, graph_of(store, code=1).rows) == (60, 80)
    assert recall(graph_of(store, code=1), places, "l2", places[:20], ef=64) >= 0.99
    told = store.stats()["graphs"]
    assert [(line["collection"], line["state"]) for line in told["segments"]] == [
        ("default", "ready"),
        ("places", "ready"),
    ]
    assert told["bytes"] == sum(_sizes(store))


def _sizes(store: T4DX) -> list[int]:
    disk = store._fs
    return [disk.size(f"store/graphs/{name}") for name in disk.listdir("store/graphs")]


def test_a_second_process_uses_the_graph_that_the_writer_built() -> None:
    disk = SimulatedFileSystem()
    store = opened(disk, dim=DIM)
    fill(store, VECTORS)
    reader = opened(disk, read_only=True)
    assert graph_of(reader) is None
    store.build_graphs()
    assert graph_of(reader) is None  # it looks again when it is asked to
    reader.refresh()
    found = graph_of(reader)
    assert found.rows == 300
    store.insert(Item(id="new", vector=VECTORS[0]))
    store.flush()
    reader.refresh()
    assert graph_of(reader, 1) is found  # checked once


def test_changes_of_learning_state_build_nothing() -> None:
    disk = SimulatedFileSystem()
    store = stored(disk)
    before = {name: disk.read(f"store/graphs/{name}") for name in graph_files(disk)}
    store.update_many([f"{n:05d}" for n in range(300)], kappa=0.5)
    store.compact(full=False, graphs=True)
    assert figures(store) == (1, 0, 1, 0)
    assert {name: disk.read(f"store/graphs/{name}") for name in graph_files(disk)} == before
    store.compact(full=True, graphs=True)  # all of it rewritten: the graph goes on, under the new name
    assert figures(store) == (1, 0, 1, 1)
    assert graph_files(disk) != list(before)


def test_deleted_rows_are_masked_by_the_caller_and_stay_in_the_graph() -> None:
    store = stored(SimulatedFileSystem())
    store.delete("00007")
    graph = graph_of(store)
    assert graph.rows == 300
    assert graph.search(VECTORS[7:8], 1, ef=64)[1].tolist() == [[7]]
    rest = bits(graph, [n for n in range(300) if n != 7])
    assert graph.search(VECTORS[7:8], 1, ef=64, allowed=rest)[1].tolist() != [[7]]


def test_a_merge_keeps_the_graph_of_its_largest_part_and_extends_it() -> None:
    store = stored(SimulatedFileSystem())
    fill(store, clusters(40, DIM, seed=2), 300)
    store.delete_many([f"{n:05d}" for n in range(0, 60, 2)])
    store.compact()
    partial = graph_of(store)
    assert partial.rows == 270  # at once, for the rows that it held
    assert store.stats()["graphs"]["segments"][0]["state"] == "waiting"
    vectors = segments(store)[0].vectors(0)
    queries = clusters(30, DIM, seed=1)
    assert recall(partial, vectors[:270], "cosine", queries, ef=128) >= 0.99
    store.build_graphs()
    assert figures(store) == (1, 0, 1, 1)
    assert graph_of(store).rows == 310
    assert recall(graph_of(store), vectors, "cosine", queries, ef=128) >= 0.99
    wanted = [hit.id for hit in store.search(queries[0], k=10)]
    _, best = Exact(vectors, "cosine").search(queries[:1], 10)
    assert len(wanted) == 10
    assert len(graph_of(store).search(queries[:1], 10, ef=300)[1][0]) == len(best[0])


def test_a_graph_with_too_many_dead_rows_is_built_anew() -> None:
    store = stored(SimulatedFileSystem())
    store.delete_many([f"{n:05d}" for n in range(70)])
    store.compact(graphs=True)
    assert figures(store) == (1, 0, 2, 0)
    assert graph_of(store).rows == 230


def test_stones_of_several_merges_count_together() -> None:
    store = stored(SimulatedFileSystem())
    for first in (0, 35):  # 35 of 300, then 70 of 300
        store.delete_many([f"{n:05d}" for n in range(first, first + 35)])
        store.compact(graphs=True)
    assert figures(store) == (1, 0, 2, 1)


def test_merges_before_the_graph_is_built_lose_nothing() -> None:
    store = stored(SimulatedFileSystem())
    for number in range(3):
        fill(store, clusters(20, DIM, seed=3 + number), 300 + 20 * number)
        store.delete(f"{number:05d}")
        store.compact()
    assert graph_of(store).rows == 297
    store.build_graphs()
    vectors = segments(store)[0].vectors(0)
    assert (graph_of(store).rows, len(vectors)) == (357, 357)
    assert recall(graph_of(store), vectors, "cosine", clusters(30, DIM, seed=1), ef=128) >= 0.99


def test_vectors_far_outside_of_the_old_codes_make_a_new_graph() -> None:
    store = T4DX.open("store", dim=DIM, metric="dot", options=options(), fs=SimulatedFileSystem())
    fill(store, VECTORS)
    store.build_graphs()
    fill(store, 3.0 * VECTORS[:20], 300)
    store.compact(graphs=True)
    assert figures(store) == (1, 0, 2, 0)


def test_graphs_of_merged_segments_are_swept_up() -> None:
    disk = SimulatedFileSystem()
    store = stored(disk)
    old = graph_files(disk)
    fill(store, VECTORS[:5], 300)
    store.compact()
    assert graph_files(disk) == []
    store.build_graphs()
    assert len(graph_files(disk)) == 1
    assert graph_files(disk) != old


def damaged(disk: SimulatedFileSystem, change: object) -> T4DX:
    """The store, opened after its graph's file was changed."""
    stored(disk).close()
    (name,) = graph_files(disk)
    change(disk._file(f"store/graphs/{name}").data)
    return opened(disk, dim=DIM)


def flip(data: bytearray, bit: int) -> None:
    data[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("library", ["faiss", "hnswlib"])
def test_wherever_a_bit_flips_the_graph_is_not_used_and_is_built_again(library: str) -> None:
    if library == "hnswlib":
        pytest.importorskip("hnswlib")
    disk = SimulatedFileSystem()
    stored(disk, index=library).close()
    (name,) = graph_files(disk)
    data = disk._file(f"store/graphs/{name}").data
    dice, whole = random.Random(5), bytes(data)
    with opened(disk, dim=DIM, read_only=True, index=library) as reader:
        for _ in range(200):
            flip(data, bit := dice.randrange(8 * len(data)))
            reader._shelf._known.clear()
            reader._shelf._damaged.clear()
            segments(reader)[0].graphs.clear()
            assert graph_of(reader) is None, f"bit {bit}"
            flip(data, bit)
    assert bytes(data) == whole
    flip(data, 12345)
    with opened(disk, dim=DIM, index=library) as store:
        assert store.search(VECTORS[9], k=1).ids == ["00009"]
        assert figures(store) == (0, 1, 0, 0)
        store.build_graphs()
        assert figures(store) == (1, 0, 1, 0)
        assert graph_of(store).rows == 300


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.clear(),
        lambda data: data.__delitem__(slice(0, 1)),
        lambda data: data.__delitem__(slice(len(data) // 2, None)),
        lambda data: data.__delitem__(slice(5, None)),
        lambda data: data.extend(b"more"),
        lambda data: data.__setitem__(slice(0, None), bytes(len(data))),
        lambda data: data.__setitem__(slice(0, None), random.Random(1).randbytes(len(data))),
    ],
    ids=["empty", "first byte gone", "half", "five bytes", "longer", "zeros", "noise"],
)
def test_whatever_became_of_the_file_it_is_built_again(change: object) -> None:
    disk = SimulatedFileSystem()
    with damaged(disk, change) as store:
        assert figures(store) == (0, 1, 0, 0)
        assert store.verify("deep").damaged_graphs == (f"store/graphs/{graph_files(disk)[0]}",)
        store.build_graphs()
        assert figures(store) == (1, 0, 1, 0)
        assert store.verify("deep").graphs == 1


def test_a_graph_of_other_vectors_is_not_used() -> None:
    disk, other = SimulatedFileSystem(), SimulatedFileSystem()
    stored(disk).close()
    with opened(other, dim=DIM) as store:
        fill(store, clusters(300, DIM, seed=9))
    (name,) = graph_files(disk)
    other.mkdir("store/graphs")
    other.write_new(f"store/graphs/{name}", disk.read(f"store/graphs/{name}"))
    with opened(other, dim=DIM) as store:
        assert graph_of(store) is None
        store.build_graphs()
        assert figures(store) == (1, 0, 1, 0)


def test_damage_that_a_thread_finds_takes_the_graph_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_shelf, "AT_ONCE", 0)
    disk = SimulatedFileSystem()
    with damaged(disk, lambda data: flip(data, 8 * (data.rindex(b"segment") - 800))) as store:
        until(lambda: graph_of(store) is None)
        assert store.search(VECTORS[9], k=1).ids == ["00009"]
        store.build_graphs()
        assert figures(store) == (1, 0, 1, 0)
        assert graph_of(store) is not None


def until(what: object) -> None:
    end = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


def test_a_crash_anywhere_in_a_build_leaves_a_store_that_answers_and_builds_again() -> None:
    disk = SimulatedFileSystem()
    with opened(disk, dim=DIM) as store:
        fill(store, VECTORS[:60])
    first = SimulatedFileSystem(disk.after_crash("all").root)
    with opened(first, dim=DIM) as store:
        before = first.calls
        store.build_graphs()
        steps = first.calls - before
    assert steps >= 6  # folder, file, bytes, sync, name, sync
    for step in range(1, steps + 1):
        for mode in ("all", "synced", "some"):
            trial = disk.after_crash("all")
            store = opened(trial, dim=DIM)
            trial.crash_at = trial.calls + step
            with pytest.raises(Crash):
                store.build_graphs()
            found = trial.after_crash(mode, seed=step)
            with opened(found, dim=DIM) as store:
                assert store.search(VECTORS[3], k=1).ids == ["00003"]
                store.build_graphs()
                assert figures(store)[:2] == (1, 0)
                assert recall(graph_of(store), VECTORS[:60], "cosine", VECTORS[:5], ef=64) == 1.0
                assert len(graph_files(found)) == 1
            assert verify_folder("store", "full", fs=found).ok


def test_a_failing_disk_stops_the_build_and_nothing_else() -> None:
    disk = SimulatedFileSystem()
    store = opened(disk, dim=DIM)
    fill(store, VECTORS)
    before = disk.calls
    for step in range(1, 7):
        store._upkeep.nursery.failures.clear()
        disk.fail_at = disk.calls + step
        store.build_graphs()
        state = store.stats()["graphs"]["segments"][0]["state"]
        assert "injected" in state
        store.insert(Item(id=f"after {step}", vector=VECTORS[0]))
        assert store.search(VECTORS[3], k=1).ids == ["00003"]
    assert disk.calls > before
    store._upkeep.nursery.failures.clear()
    store.build_graphs()
    assert figures(store)[:2] == (1, 0)


def test_a_full_disk_leaves_no_half_graph_behind() -> None:
    disk = SimulatedFileSystem()
    store = opened(disk, dim=DIM)
    fill(store, VECTORS)
    disk.capacity = disk.used() + 3000
    store.build_graphs()
    assert "No space" in store.stats()["graphs"]["segments"][0]["state"]
    assert graph_files(disk) == []
    store.insert(Item(id="small"))


def test_a_missing_library_is_told_once_and_the_next_one_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    disk = SimulatedFileSystem()
    with pytest.warns(GraphLibraryWarning) as told:
        store = stored(disk)
    assert len(told) == 1
    assert str(told[0].message) == (
        "faiss cannot be imported, searches are exact, and slower; type: pip install faiss-cpu"
    )
    assert told[0].filename == __file__.replace("test_graphs_of_a_store", "graph_data")
    assert (graph_of(store), graph_files(disk), store.stats()["graphs"]["library"]) == (None, [], "")
    assert store.search(VECTORS[3], k=1).ids == ["00003"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened(SimulatedFileSystem(), index="exact").close()
    with pytest.warns(GraphLibraryWarning, match="pip install hnswlib"):
        opened(SimulatedFileSystem(), index="hnswlib").close()


def test_without_faiss_hnswlib_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hnswlib")
    monkeypatch.setitem(sys.modules, "faiss", None)
    disk = SimulatedFileSystem()
    with pytest.warns(
        GraphLibraryWarning, match="hnswlib searches instead of it; type: pip install faiss-cpu"
    ):
        store = stored(disk)
    assert graph_files(disk)[0].endswith(".hnswlib")
    assert recall(graph_of(store), VECTORS, "cosine", clusters(30, DIM, seed=1), ef=64) >= 0.99


def test_hnswlib_answers_the_same_after_a_reopening_with_its_ef_set() -> None:
    pytest.importorskip("hnswlib")
    disk, queries = SimulatedFileSystem(), clusters(20, DIM, seed=1)
    with stored(disk, index="hnswlib") as store:
        before = graph_of(store).search(queries, 10, ef=100)
    with opened(disk, dim=DIM, index="hnswlib") as store:
        after = graph_of(store).search(queries, 10, ef=100)
    assert np.array_equal(before[1], after[1])


def test_an_unknown_index_is_refused() -> None:
    with pytest.raises(OptionError, match="index is 'annoy'; choose one of auto, faiss, hnswlib, exact"):
        opened(SimulatedFileSystem(), index="annoy")


def test_exact_means_no_graph() -> None:
    disk = SimulatedFileSystem()
    store = stored(disk, index="exact")
    assert (graph_of(store), graph_files(disk)) == (None, [])


def test_a_thread_builds_without_being_asked_and_close_does_not_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_building, "STEP", 20)
    chosen = Options(durability="os", index_rows=50)
    with T4DX.open(tmp_path / "s", dim=DIM, options=chosen) as store:
        fill(store, VECTORS)
        until(lambda: figures(store)[:2] == (1, 0))
        assert recall(graph_of(store), VECTORS, "cosine", VECTORS[:20], ef=64) >= 0.99
        fill(store, clusters(5000, DIM, seed=3), 300)
        assert store.stats()["graphs"]["missing"] == 1
    assert len(list((tmp_path / "s/graphs").iterdir())) == 1
    with T4DX.open(tmp_path / "s", dim=DIM, options=chosen) as store:
        assert figures(store)[0] >= 1


def test_a_build_for_a_closed_store_is_refused() -> None:
    store = opened(SimulatedFileSystem(), dim=DIM)
    fill(store, VECTORS)
    store.close()
    with pytest.raises(StoreClosedError):
        store.build_graphs()


def test_a_build_ends_when_its_segment_is_merged_away(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimulatedFileSystem()
    store = opened(disk, dim=DIM)
    fill(store, VECTORS)
    begun, merged = threading.Event(), threading.Event()
    plain = graph_building.extent

    def slow(*args: object) -> object:
        if not merged.is_set():
            begun.set()
            merged.wait(SECONDS)
        return plain(*args)

    monkeypatch.setattr(graph_building, "extent", slow)
    thread = threading.Thread(target=store.build_graphs)
    thread.start()
    assert begun.wait(SECONDS)
    fill(store, VECTORS[:10], 300)
    store.compact()
    merged.set()
    thread.join(SECONDS)
    assert figures(store)[:2] == (1, 0)  # of the merged one
    assert graph_of(store).rows == 310
    assert len(graph_files(disk)) == 1


def test_a_backup_has_no_graphs_and_builds_its_own() -> None:
    disk = SimulatedFileSystem()
    store = stored(disk)
    store.backup("copy")
    assert not disk.exists("copy/graphs")
    with T4DX.open("copy", options=options(), fs=disk) as copy:
        copy.build_graphs()
        assert figures(copy) == (1, 0, 1, 0)


def test_repair_drops_damaged_graphs_and_those_of_lost_segments() -> None:
    disk = SimulatedFileSystem()
    store = stored(disk)
    fill(store, VECTORS[:60], 300)
    store.build_graphs()
    store.close()
    first, second = graph_files(disk)
    segment = sorted(disk.listdir("store/segments"))[0]
    flip(disk._file(f"store/segments/{segment}/item_kappa.npy").data, 1100)
    flip(disk._file(f"store/graphs/{second}").data, 999)
    assert verify_folder("store", "full", fs=disk).problems
    repair_store("store", fs=disk)
    assert graph_files(disk) == []
    assert first.startswith(segment)
    with opened(disk, dim=DIM) as store:
        store.build_graphs()
        assert figures(store)[:2] == (1, 0)


def test_identical_vectors_are_found_all_the_same() -> None:
    disk = SimulatedFileSystem()
    store = opened(disk, dim=DIM)
    fill(store, np.ones((300, DIM), np.float32))
    store.build_graphs()
    graph = graph_of(store)
    told = store.stats()["graphs"]["segments"][0]
    assert graph is not None or "out of its reach" in told["state"]
    assert store.search(np.ones(DIM), k=3).ids == ["00000", "00001", "00002"]


def test_what_walks_find_is_measured_once_and_kept() -> None:
    disk = SimulatedFileSystem()
    stored(disk).close()
    with opened(disk, dim=DIM) as store:
        ladder = graph_of(store).ladder
        assert len(ladder) == len(LADDER)
        assert 0.9 <= min(ladder) <= max(ladder) <= 1.0
        fill(store, VECTORS[:5], 300)
        store.compact()
        assert graph_of(store).ladder == ladder


def test_vectors_out_of_reach_are_written_down_with_the_graph() -> None:
    disk, vectors = SimulatedFileSystem(), of_many_lengths(600, DIM)
    with T4DX.open("store", dim=DIM, metric="dot", options=options(), fs=disk) as store:
        fill(store, vectors)
        store.build_graphs()
    with opened(disk, dim=DIM) as store:
        graph = graph_of(store)
        assert len(graph.unreached) > 0  # the shortest vectors are nobody's nearest by product
        assert store.stats()["graphs"]["segments"][0]["unreached"] == len(graph.unreached)
        found = graph.search(clusters(50, DIM, seed=1), 600, ef=600)[1]
        assert not np.isin(found, graph.unreached).any()
        assert len(np.union1d(found[found >= 0], graph.unreached)) == 600


def test_the_foot_of_a_file_says_what_it_is() -> None:
    disk = SimulatedFileSystem()
    stored(disk).close()
    foot = files.read_foot(disk.map_bytes(f"store/graphs/{graph_files(disk)[0]}"))
    assert (foot.collection, foot.dim, foot.metric, foot.rows, foot.nodes) == (0, DIM, "cosine", 300, 300)
    assert (foot.backend, foot.places, foot.format) == ("faiss", b"", 3)
    assert [size for size, _ in foot.ladder] == list(LADDER)
    assert foot.size - foot.structure == 300 * DIM  # one byte a coordinate
