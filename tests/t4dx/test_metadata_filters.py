"""Filters, lists and facets over segments, overlays and the memtable agree with plain loops over dicts."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from simulated_fs import SimulatedFileSystem
from store_model import Ticks

from t4dm.errors import FilterError, ItemError
from t4dm.t4dx import T4DX, F, Filter, Item, Options
from t4dm.t4dx.metadata_columns import column
from t4dm.t4dx.zone_maps import hull

SCALARS = [None, True, False, 0, 1, 1.0, 0.5, -3, 2**53 + 1, 2**60, "", "ann", "bob", "an"]
FIELDS = ["a", "b", "user.name", "user.age", "user"]


def fresh() -> T4DX:
    return T4DX.open(
        "store", dim=2, options=Options(durability="os"), clock=Ticks(0.0), fs=SimulatedFileSystem()
    )


def random_metadata(rng: random.Random) -> dict[str, Any]:
    def value() -> Any:
        kind = rng.random()
        if kind < 0.7:
            return rng.choice(SCALARS)
        return [rng.choice(SCALARS) for _ in range(rng.randrange(3))] if kind < 0.9 else {}

    made: dict[str, Any] = {name: value() for name in "ab" if rng.random() < 0.7}
    if rng.random() < 0.5:
        made["user"] = {name: value() for name in ("name", "age") if rng.random() < 0.7}
    return made


def random_condition(rng: random.Random, depth: int = 3) -> dict[str, Any]:
    kind = rng.random()
    if depth and kind < 0.4:
        parts = [random_condition(rng, depth - 1) for _ in range(rng.randrange(3))]
        return {rng.choice(("and", "or")): parts}
    if depth and kind < 0.55:
        return {"not": random_condition(rng, depth - 1)}
    field, scalar = rng.choice(FIELDS), rng.choice(SCALARS)
    bound = rng.choice([v for v in SCALARS if v is not None and not isinstance(v, bool)])
    op = rng.choice(("eq", "ne", "in", "lt", "lte", "gt", "gte", "contains", "exists", "empty"))
    given = {
        "in": [scalar, rng.choice(SCALARS)],
        "exists": rng.random() < 0.5,
        "empty": rng.random() < 0.5,
    }.get(op, bound if op in ("lt", "lte", "gt", "gte") else scalar)
    return {field: {op: given}}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b if isinstance(a, str | dict | list) or a is None else a == b


def naive(where: dict[str, Any], data: Any) -> bool:
    """The meaning of a condition, read off the documentation, one item at a time."""
    ((key, given),) = where.items()
    if key == "and":
        return all(naive(part, data) for part in given)
    if key == "or":
        return any(naive(part, data) for part in given)
    if key == "not":
        return not naive(given, data)
    ((op, bound),) = given.items()
    found = True
    for name in key.split("."):
        found = found and isinstance(data, dict) and name in data
        data = data[name] if found else None
    if op in ("exists", "empty"):
        hollow = not found or data is None or (isinstance(data, str | list | dict) and len(data) == 0)
        return (found if op == "exists" else hollow) is bound
    if op == "ne":
        return not (found and same(data, bound))
    if not found:
        return False
    if op == "eq":
        return same(data, bound)
    if op == "in":
        return any(same(data, one) for one in bound)
    if op == "contains":
        if isinstance(data, list):
            return any(same(one, bound) for one in data)
        return isinstance(data, str) and isinstance(bound, str) and bound in data
    numbers = [isinstance(v, int | float) and not isinstance(v, bool) for v in (data, bound)]
    if not (all(numbers) or (isinstance(data, str) and isinstance(bound, str))):
        return False
    return {"lt": data < bound, "lte": data <= bound, "gt": data > bound, "gte": data >= bound}[op]


def spread(rng: random.Random, count: int = 60) -> tuple[T4DX, dict[str, Item]]:
    """Items over two segments and the memtable, some with metadata that was replaced later."""
    store, items = fresh(), {}
    for n in range(count):
        item = Item(
            id=f"{n:03d}",
            metadata=random_metadata(rng),
            kappa=rng.choice((0.0, 0.5, 1.0)),
            session=rng.choice("xy"),
        )
        store.insert(item)
        items[item.id] = item
        if rng.random() < 0.3:
            name = rng.choice(sorted(items))
            items[name] = replace(items[name], metadata=random_metadata(rng))
            store.update_fields(name, metadata=dict(items[name].metadata))
        if n in (count // 3, 2 * count // 3):
            store.flush()
    return store, items


@pytest.mark.parametrize("seed", range(3))
def test_random_conditions_agree_with_a_loop(seed: int) -> None:
    rng = random.Random(seed)
    store, items = spread(rng)
    for step in range(60):
        where = random_condition(rng)
        expected = [name for name in sorted(items) if naive(where, items[name].metadata)]
        found = [item.id for item in store.scan(Filter(where=where))]
        assert found == expected, where
        assert store.count(Filter(where=where)) == len(expected)
        if step % 20 == 5:
            name = rng.choice(sorted(items))
            items[name] = replace(items[name], metadata=random_metadata(rng))
            store.update_fields(name, metadata=dict(items[name].metadata))
        if step == 40:
            store.compact()


def test_conditions_join_fields_of_the_item_and_of_its_metadata() -> None:
    store, items = spread(random.Random(7))
    where = (F("@kappa") > 0.2) & ((F("@session") == "x") | F("a").exists()) & ~(F("@id") < "005")
    expected = [
        i.id
        for i in items.values()
        if i.kappa > 0.2 and (i.session == "x" or "a" in i.metadata) and i.id >= "005"
    ]
    assert [item.id for item in store.scan(Filter(where=where))] == expected
    assert store.count(Filter(where={"@type": "episodic", "@collection": "default"})) == len(items)
    assert store.count(Filter(where={"@valid_until": {"gt": 1e9}})) == len(items)


def test_filters_on_content_validity_accesses_and_collection() -> None:
    store = fresh()
    store.create_collection("notes", dim=3)
    store.insert_many(
        [
            Item(id="a", content="the Cat sat", valid_from=1.0, valid_until=5.0, access_count=3),
            Item(id="b", content="a cat", valid_from=2.0),
            Item(id="c", content="dog", valid_from=3.0, valid_until=9.0, collection="notes"),
        ]
    )
    for _ in range(2):

        def ids(**fields: object) -> str:
            return "".join(item.id for item in store.scan(Filter(**fields)))

        assert ids(content="cat") == "b"
        assert ids(content="at") == "ab"
        assert ids(valid_from=(2, 3)) == "b"
        assert ids(valid_until=(5, 9)) == "a"
        assert ids(valid_until=(6, None)) == "bc"
        assert ids(access_count=(3, 3)) == "a"
        assert ids(collection="notes") == "c"
        assert ids(collection=("notes", "default", "unknown")) == "abc"
        assert ids(where={"@content": {"contains": "dog"}}) == "c"
        store.flush()


def test_a_snapshot_keeps_the_metadata_it_saw() -> None:
    store = fresh()
    store.insert_many([Item(id="a", metadata={"n": 1}), Item(id="b", metadata={"n": 2})])
    store.flush()
    before = store.snapshot()
    assert before.count(Filter(where={"n": 1})) == 1
    store.update_fields("a", metadata={"n": 5})
    store.insert(Item(id="c", metadata={"n": 1}))
    middle = store.snapshot()
    store.update_fields("a", metadata={"n": "word"})
    assert [before.count(Filter(where={"n": n})) for n in (1, 5, "word")] == [1, 0, 0]
    assert [middle.count(Filter(where={"n": n})) for n in (1, 5, "word")] == [1, 1, 0]
    assert [store.count(Filter(where={"n": n})) for n in (1, 5, "word")] == [1, 0, 1]


def test_a_column_is_decoded_once_per_source() -> None:
    store = fresh()
    store.insert_many([Item(id=f"{n}", metadata={"n": n, "word": "abc"[n % 3]}) for n in range(50)])
    store.flush()
    view = store.snapshot()._read().views[1]
    first = column(view, ("word",))
    store.merge_kappa(["1"], 0.5)
    again = column(store.snapshot()._read().views[1], ("word",))
    assert again.codes is first.codes
    assert first.dictionary.values == ["a", "b", "c"]


def keyed(item: Item, field: str) -> Any:
    return item.metadata.get("score") if field.startswith("metadata") else getattr(item, field)


@pytest.mark.parametrize("order", ["kappa", "-kappa", "-record_time", "id", "-id", "-access_count"])
@pytest.mark.parametrize("flushed", [False, True])
def test_pages_are_cuts_of_one_fixed_order(order: str, flushed: bool) -> None:
    rng, store = random.Random(3), fresh()
    items = [
        Item(id=f"{n:04d}", kappa=rng.choice((0.0, 0.5, 1.0)), access_count=rng.randrange(4))
        for n in rng.sample(range(2000), 900)
    ]
    for start in range(0, 900, 300):
        store.insert_many(items[start : start + 300])
        if flushed:
            store.flush()
    stored, name = list(store.scan()), order.removeprefix("-")
    by_id = sorted(stored, key=lambda item: item.id)
    whole = sorted(by_id, key=lambda item: keyed(item, name), reverse=order.startswith("-"))
    for offset, limit in ((0, None), (0, 7), (5, 10), (880, 50), (0, 0), (2000, 5), (100, 1)):
        page = [item.id for item in store.scan(order=order, limit=limit, offset=offset)]
        assert page == [item.id for item in whole][offset:][:limit]


def test_a_list_by_metadata_puts_numbers_first_and_what_is_missing_last() -> None:
    store = fresh()
    scores = {"a": 2, "b": None, "c": 0.5, "d": "x", "e": 2**60, "f": "w", "h": 2}
    store.insert_many([Item(id="g")] + [Item(id=k, metadata={"score": v}) for k, v in scores.items()])
    for _ in range(2):

        def ids(**kwargs: object) -> str:
            return "".join(item.id for item in store.scan(**kwargs))

        assert ids(order="metadata.score") == "cahefdbg"
        assert ids(order="-metadata.score") == "eahcdfbg"
        assert ids(order="-metadata.score", limit=3, offset=1) == "ahc"
        assert ids(order="metadata.score", limit=3, offset=4) == "fdb"
        store.flush()


def test_a_wrong_order_or_page_says_what_to_type() -> None:
    store = fresh()
    with pytest.raises(
        FilterError, match=r"cannot order by 'color'; choose one of id, event_time.* or metadata"
    ):
        store.scan(order="color")
    with pytest.raises(FilterError, match="limit is -1; ask for limit=0 or more"):
        store.scan(limit=-1)
    with pytest.raises(FilterError, match="offset is -2; ask for offset=0 or more"):
        store.scan(offset=-2)
    with pytest.raises(
        FilterError, match=r"cannot count by 'kappa'; choose type, session, collection or meta"
    ):
        store.facets("kappa")


def test_facets_count_each_value_once() -> None:
    store = fresh()
    values = ["x", "x", 1, 1.0, True, None, ["x"], "x"]
    store.insert_many([Item(id=f"{n}", metadata={"v": v}, session="s") for n, v in enumerate(values)])
    store.insert(Item(id="none"))
    found = store.facets("metadata.v")
    assert found[:2] == [("x", 3), (1.0, 2)]
    assert sorted(map(repr, found[2:])) == [
        "Facet(value=None, size=1)",
        "Facet(value=True, size=1)",
        "Facet(value=['x'], size=1)",
    ]
    assert store.facets("session") == [("s", 8), ("", 1)]
    assert store.facets("metadata.v", Filter(ids=("0", "none"))) == [("x", 1)]


@pytest.mark.parametrize(
    ("field", "stored", "overlay", "where"),
    [
        ("kappa", 0.1, 0.8, Filter(kappa=(0.5, 1))),
        ("importance", 0.9, 0.2, Filter(importance=(0, 0.3))),
        ("access_count", 0, 9, Filter(access_count=(5, None))),
        ("event_time", 5.0, 70.0, Filter(event_time=(60, 80))),
        ("valid_until", 9.0, 50.0, Filter(valid_at=20.0)),
        ("valid_from", 8.0, 1.0, Filter(valid_at=2.0)),
        ("type", "episodic", "procedural", Filter(type="procedural")),
    ],
)
def test_an_overlay_widens_the_zone_map(field: str, stored: Any, overlay: Any, where: Filter) -> None:
    store = fresh()
    base: dict[str, Any] = {"valid_from": 5.0, "valid_until": 10.0, "event_time": 5.0, field: stored}
    store.insert_many([Item(id=name, vector=np.ones(2, np.float32), **base) for name in "ab"])
    store.flush()
    plan = store.search(np.ones(2), 5, where, explain=True).plan
    assert plan is not None
    assert plan[1]["pruned"] != ""
    store.update_fields("a", **{field: overlay})
    for step in (lambda: None, store.flush, store.compact):
        step()
        assert store.search(np.ones(2), 5, where).ids == ["a"]
        assert store.count(where) == 1
        assert [item.id for item in store.scan(where)] == ["a"]


def test_hulls_hold_every_value_that_a_reader_sees() -> None:
    store, _ = spread(random.Random(11))
    store.merge_kappa(["000"], 0.25)
    for view in store.snapshot()._read().views:
        for name in ("kappa", "importance", "event_time", "valid_until", "type"):
            seen, values = hull(view, name), view.items[name][: view.n]
            assert (seen.lo, seen.hi) == (values.min(), values.max())
            assert hull(view, name) is seen


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), b"bytes", {1, 2}, {"a": {3: 4}}, 2**70, object()]
)
def test_metadata_holds_json_values_only(value: object) -> None:
    store = fresh()
    with pytest.raises(ItemError, match="metadata of item 'a' holds what cannot be stored"):
        store.insert(Item(id="a", metadata={"deep": [{"x": value}]}))
    assert store.count() == 0


def test_filters_can_be_kept_and_compared() -> None:
    one, other = (Filter(where={"and": [{"a": {"in": [1, 2]}}, {"b": [1, "x"]}]}) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)


def test_readers_filter_beside_a_writer_that_flushes() -> None:
    """Every item has n or had it replaced by a word: the two conditions always split a snapshot in two."""
    options = Options(durability="os", memtable_items=40, max_segments=2)
    store = T4DX.open("store", dim=2, options=options, clock=Ticks(0.0), fs=SimulatedFileSystem())
    stop, wrong, reads = threading.Event(), [], []

    def read() -> None:
        while not stop.is_set():
            seen = store.snapshot()
            parts = [
                seen.count(Filter(where={"n": {"gte": 0}})),
                seen.count(Filter(where={"n": {"gte": ""}})),
            ]
            listed = len(list(seen.scan(order="-metadata.n")))
            reads.append(sum(parts))
            if sum(parts) != seen.count() or listed != seen.count():
                wrong.append((*parts, seen.count(), listed))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(120):
        store.insert(Item(id=f"{n}", metadata={"n": n}))
        if n % 3 == 0:
            store.update_fields(f"{n // 2}", metadata={"n": "word"})
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(reads) > 3


def test_many_ids_are_read_in_the_order_asked_for() -> None:
    store = fresh()
    store.insert_many([Item(id=name) for name in "abc"])
    store.flush()
    store.insert(Item(id="d"))
    found = store.get_many(["d", "zz", "a", "d", "c"])
    assert [item and item.id for item in found] == ["d", None, "a", "d", "c"]
