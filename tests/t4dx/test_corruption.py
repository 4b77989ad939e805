"""Flip bits in every kind of file: a named error or the right answer, never a wrong one."""

from __future__ import annotations

import random

import numpy as np
import pytest
from simulated_fs import File, Folder, SimulatedFileSystem
from store_model import digest

from t4dm.errors import CorruptionError, StoreFormatError
from t4dm.t4dx import T4DX, Edge, EdgeFilter, Item, Options, manifest, verify_store

DIM = 4
OS = Options(durability="os")


def vector(number: int) -> np.ndarray:
    return np.array([number, 1.0, -number, 0.5], np.float32)


@pytest.fixture(scope="module")
def disk() -> SimulatedFileSystem:
    """A closed store with two segments, a delta file of every kind of entry, and a log."""
    fs = SimulatedFileSystem()
    with T4DX.open("store", dim=DIM, options=OS, clock=lambda: 9.0, fs=fs) as store:
        items = [
            Item(id=f"i{n}", vector=vector(n), content=f"text {n}", session=f"s{n % 2}", metadata={"n": n})
            for n in range(6)
        ]
        store.insert_many(
            items, [Edge("i0", "i1", "CAUSES", properties={"why": "test"}), Edge("i1", "i2", "CAUSES")]
        )
        store.flush()
        store.insert(Item(id="i9", content="nine"), [Edge("i9", "i0", "PART_OF")])
        store.update_fields("i3", kappa=0.5, metadata={"n": 33})
        store.update_edge_weight("i0", "i1", 0.1, edge_type="CAUSES")
        store.batch_scale_weights(EdgeFilter(type="CAUSES"), (0.5, 0.0, 0.0, 1.0))
        store.delete("i5")
        store.flush()
        store.insert(Item(id="i10", vector=vector(10)))
    return fs


def answers(fs: SimulatedFileSystem) -> object:
    with T4DX.open("store", options=OS, fs=fs) as store:
        return digest(store), store.search(vector(3), 4).ids, list(store.traverse("i9", depth=3))


def files(fs: SimulatedFileSystem) -> list[str]:
    def walk(folder: Folder, path: str) -> list[str]:
        return [
            name
            for key, child in sorted(folder.entries.items())
            for name in (walk(child, f"{path}{key}/") if isinstance(child, Folder) else [f"{path}{key}"])
        ]

    return walk(fs.root, "")


def damaged(disk: SimulatedFileSystem, path: str) -> tuple[SimulatedFileSystem, File]:
    fs = disk.after_crash("all")
    return fs, fs._file(path)


def test_the_disk_holds_every_kind_of_file(disk: SimulatedFileSystem) -> None:
    kinds = {path.split("/")[1].split("-")[0] for path in files(disk)}
    assert kinds == {"MANIFEST", "SPARE", "deltas", "segments", "wal"}
    names = [path.rsplit("/", 1)[1] for path in files(disk) if path.startswith("store/segments/")]
    assert len(names) == 2 * len(set(names)) - 2  # the second segment holds no vectors


def test_a_flipped_bit_anywhere_is_a_named_error_or_changes_no_answer(disk: SimulatedFileSystem) -> None:
    right, rng, seen = repr(answers(disk.after_crash("all"))), random.Random(0), 0
    for path in files(disk):
        for _ in range(2):
            fs, file = damaged(disk, path)
            file.data[rng.randrange(len(file.data))] ^= 1 << rng.randrange(8)
            try:
                assert repr(answers(fs)) == right, path
                seen += not verify_store(fs, "store", "full").ok  # a column that no answer needed
            except (CorruptionError, StoreFormatError):
                seen += 1
    assert seen > 0.9 * 2 * len(files(disk))


@pytest.mark.parametrize(
    "part", ["wal", "MANIFEST", "deltas", "vectors", "item_kappa", "ids", "texts", "source"]
)
def test_a_truncated_or_missing_file_is_refused(disk: SimulatedFileSystem, part: str) -> None:
    path = next(path for path in files(disk) if part in path)
    fs, file = damaged(disk, path)
    if part != "wal":  # a log that ends early looks like one that was cut by the crash: see test_wal
        del file.data[len(file.data) // 2 :]
        with pytest.raises(CorruptionError):
            answers(fs)
    fs, _ = damaged(disk, path)
    fs.unlink(path)
    with pytest.raises(CorruptionError):
        answers(fs)


def test_a_file_swapped_with_that_of_another_segment_is_refused(disk: SimulatedFileSystem) -> None:
    first, second = [path for path in files(disk) if path.endswith("/source.npy")]
    fs, file = damaged(disk, first)
    file.data[:] = disk.read(second)
    with pytest.raises(CorruptionError):
        answers(fs)


def test_a_log_of_another_store_is_refused(disk: SimulatedFileSystem) -> None:
    other = SimulatedFileSystem()
    other.tokens.seed(99)
    T4DX.open("store", dim=DIM, options=OS, fs=other).close()
    path = next(path for path in files(disk) if "wal-" in path)
    fs, file = damaged(disk, path)
    file.data[:] = other.read("store/wal-00000000000000000001.log")
    with pytest.raises(CorruptionError, match="belongs to another state"):
        answers(fs)


def test_a_vector_file_is_checked_when_it_is_first_touched(disk: SimulatedFileSystem) -> None:
    path = next(path for path in files(disk) if path.endswith("vectors_0.npy") and disk.size(path) > 150)
    fs, file = damaged(disk, path)
    file.data[-1] ^= 1
    with T4DX.open("store", options=OS, fs=fs) as store:
        assert store.count() == 7
        with pytest.raises(CorruptionError, match=r"vectors_0\.npy: its checksum is wrong"):
            store.search(vector(1), 1)


def test_verify_finds_each_kind_of_damage_at_its_level(disk: SimulatedFileSystem) -> None:
    clean = disk.after_crash("all")
    assert [verify_store(clean, "store", level).ok for level in ("quick", "full", "deep")] == [True] * 3
    fs, file = damaged(disk, next(path for path in files(disk) if path.endswith("vectors_0.npy")))
    file.data[-1] ^= 1
    assert verify_store(fs, "store", "quick").ok
    assert "vectors_0.npy: its checksum is wrong" in verify_store(fs, "store", "full").problems[0]
    fs, file = damaged(disk, next(path for path in files(disk) if "delta-" in path))
    file.data.pop()
    assert "bytes instead of" in verify_store(fs, "store", "quick").problems[0]


def rewrite(disk: SimulatedFileSystem, **changes: object) -> SimulatedFileSystem:
    fs = disk.after_crash("all")
    found = manifest.load(fs, "store")
    assert found is not None
    path = f"store/{manifest.manifest_name(found.version)}"
    fs._file(path).data[:] = manifest.encode(found.next(**changes))
    fs.rename(path, f"store/{manifest.manifest_name(found.version + 1)}")
    return fs


def test_a_newer_format_is_refused_and_says_so(disk: SimulatedFileSystem) -> None:
    newer = disk.after_crash("all")
    file = newer._file(next(path for path in files(newer) if "MANIFEST" in path))
    body = bytes(file.data).partition(b"\n")[2]
    file.data[:] = f"T4DX 3 {manifest._crc(3, body):08x}\n".encode() + body
    with pytest.raises(
        StoreFormatError, match=r"format 3, this version reads format 2; .*pip install -U t4dm"
    ):
        answers(newer)


def test_unknown_reader_flags_stop_everyone_and_writer_flags_only_writers(disk: SimulatedFileSystem) -> None:
    with pytest.raises(StoreFormatError, match="with quantised"):
        T4DX.open("store", read_only=True, fs=rewrite(disk, reader_flags=("columns", "quantised")))
    fs = rewrite(disk, writer_flags=("encrypted",))
    with pytest.raises(StoreFormatError, match="with encrypted"):
        T4DX.open("store", fs=fs)
    with T4DX.open("store", read_only=True, fs=fs) as store:
        assert store.count() == 7


def test_a_store_without_its_manifest_is_not_taken_for_an_empty_folder(disk: SimulatedFileSystem) -> None:
    fs = disk.after_crash("all")
    fs.unlink(next(path for path in files(fs) if "MANIFEST" in path))
    with pytest.raises(CorruptionError, match="no manifest"):
        T4DX.open("store", dim=DIM, fs=fs)
