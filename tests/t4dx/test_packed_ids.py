"""Ids that stay bytes between a segment and the log."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest
from simulated_fs import SimulatedFileSystem
from store_model import Ticks

from t4dm.t4dx import T4DX, Filter, Item, Options, ops, resolving
from t4dm.t4dx.ops import DeleteItems, SetField
from t4dm.t4dx.packed_ids import PackedIds


def packed(names: list[str]) -> PackedIds:
    return PackedIds(np.array([list(name.encode()) for name in names], np.uint8))


@pytest.mark.parametrize("size", [1, 31, 32, 255, 256, 70_000])
@pytest.mark.parametrize("count", [1, 15, 16])
def test_their_bytes_are_those_of_a_list_of_strings(size: int, count: int) -> None:
    names = [chr(97 + n) * size for n in range(count)]
    assert packed(names).packed() == msgpack.packb(names)


def test_seventy_thousand_have_the_long_head_of_a_list() -> None:
    names = [f"{n:05d}" for n in range(70_000)]
    assert packed(names).packed() == msgpack.packb(names)


def test_they_read_as_the_strings_they_are() -> None:
    names = ["äa", "bä", "\0€"]
    assert [len(name.encode()) for name in names] == [3, 3, 4]
    two = packed(names[:2])
    assert (len(two), list(two), two[1], two[-1], two[:1]) == (2, names[:2], "bä", "bä", ["äa"])
    assert "äa" in two
    assert names[2] not in two


def test_a_record_with_packed_ids_is_the_record_with_their_strings() -> None:
    names = ["m1", "m2", "m3"]
    for values in ([0.5, 0.5, 0.5], [b"x", b"", b"y"]):
        batch = [SetField("kappa", names, values), DeleteItems(["m9"])]
        same = [SetField("kappa", packed(names), values), DeleteItems(["m9"])]
        assert ops.pack(same) == ops.pack(batch)
        assert ops.unpack(ops.pack(same), path="log") == batch


@pytest.mark.parametrize("limit", [4 * 2**20, 512])
def test_an_update_by_a_filter_over_one_segment_is_replayed_from_packed_ids(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """Whole, and in parts of 512 bytes."""
    disk, made = SimulatedFileSystem(), list[object]()
    told = resolving._ids_at
    monkeypatch.setattr(resolving, "_ids_at", lambda found: made.append(told(found)) or made[-1])
    options = Options(durability="os", txn_part_bytes=limit)
    store = T4DX.open("store", dim=2, options=options, clock=Ticks(0.0), fs=disk)
    store.insert_many([Item(id=f"m{n:03d}", kappa=n / 200) for n in range(200)])
    store.compact()
    store.update_where(Filter(kappa=(0.25, 0.75)), importance=1.0, metadata={"seen": True})
    assert isinstance(made[0], PackedIds)
    wanted = [f"m{n:03d}" for n in range(50, 151)]
    assert [item.id for item in store.scan(Filter(importance=(1.0, 1.0)))] == wanted
    store.close()
    with T4DX.open("store", options=options, clock=Ticks(0.0), fs=disk) as again:
        assert [item.id for item in again.scan(Filter(importance=(1.0, 1.0)))] == wanted
        assert [item.id for item in again.scan(Filter(where={"seen": True}))] == wanted


def test_ids_of_several_lengths_or_sources_come_as_strings(monkeypatch: pytest.MonkeyPatch) -> None:
    made, told = list[object](), resolving._ids_at
    monkeypatch.setattr(resolving, "_ids_at", lambda found: made.append(told(found)) or made[-1])
    options = Options(durability="os")
    store = T4DX.open("store", dim=2, options=options, clock=Ticks(0.0), fs=SimulatedFileSystem())
    store.insert_many([Item(id="short"), Item(id="longer")])
    store.flush()
    store.update_where(Filter(), kappa=0.5)
    store.insert(Item(id="third"))
    store.update_where(Filter(ids=("short", "third")), kappa=0.75)
    assert [sorted(ids) for ids in made] == [["longer", "short"], ["short", "third"]]  # type: ignore[call-overload]
    assert all(type(ids) is list for ids in made)
    assert [store.get(name).kappa for name in ("short", "longer", "third")] == [0.75, 0.5, 0.75]  # type: ignore[union-attr]
