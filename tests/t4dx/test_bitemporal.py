"""Two time axes: every kind of read agrees with a naive list of versions; supersede, invalidate."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from simulated_fs import SimulatedFileSystem
from store_model import Ticks

from t4dm import errors
from t4dm.t4dx import T4DX, AsOf, Edge, EdgeFilter, Filter, Item, Options
from t4dm.t4dx.operators import scale

IDS = ["a", "b", "c", "d"]


def fresh(start: float = 0.0) -> T4DX:
    options = Options(durability="os", memtable_items=7)
    return T4DX.open("store", dim=2, options=options, clock=Ticks(start), fs=SimulatedFileSystem())


def sees(row: Item | Edge, when: AsOf | None) -> bool:
    record, valid = when or AsOf()
    known = row.record_until == math.inf if record is None else row.record_time <= record < row.record_until
    return known and (valid is None or row.valid_from <= valid < row.valid_until)


class Versions:
    """All versions of items and edges in plain lists, the last of an id the current one."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.edges: list[Edge] = []

    def put(self, item: Item, now: float) -> None:
        self.close(item.id, now)
        self.items.append(replace(item, record_time=now))

    def link(self, edge: Edge, now: float) -> None:
        key = (edge.source, edge.target, str(edge.type))
        self.edges = [
            replace(e, record_until=now)
            if (e.source, e.target, str(e.type)) == key and e.record_until == math.inf
            else e
            for e in self.edges
        ]
        self.edges.append(replace(edge, record_time=now))

    def close(self, name: str, now: float) -> None:
        self.items = [
            replace(i, record_until=now) if i.id == name and i.record_until == math.inf else i
            for i in self.items
        ]

    def visible(self, when: AsOf | None) -> list[Item]:
        return sorted((i for i in self.items if sees(i, when)), key=lambda item: item.id)


def step(rng: random.Random, store: T4DX, model: Versions, now: float) -> None:
    """One write at time now, on both."""
    name, current = rng.choice(IDS), {i.id: i for i in model.visible(None)}
    since = float(rng.randrange(60))
    until = rng.choice((math.inf, since + rng.randrange(30)))
    kind = rng.choice(("insert", "insert", "supersede", "link", "link", "close", "until"))
    if kind == "insert" or (kind in ("supersede", "close", "until") and name not in current):
        vector = np.array([rng.uniform(-1, 1), 1], np.float32)
        item = Item(
            id=name, content=str(now), vector=vector, event_time=since, valid_from=since, valid_until=until
        )
        store.insert(item)
        model.put(item, now)
    elif kind == "supersede":
        store.supersede(name, content=f"next {now}", valid_from=since)
        model.put(replace(current[name], content=f"next {now}", valid_from=since, valid_until=math.inf), now)
    elif kind == "close":
        store.close_item(name)
        model.close(name, now)
    elif kind == "until":
        end = current[name].valid_from + rng.randrange(20)
        store.update_fields(name, valid_until=end)
        model.items[model.items.index(current[name])] = replace(current[name], valid_until=end)
    else:
        edge = Edge(name, rng.choice(IDS), "CAUSES", rng.random(), valid_from=since, valid_until=until)
        store.insert_many([], [edge])
        model.link(edge, now)


@pytest.mark.parametrize("seed", range(3))
def test_every_read_agrees_with_a_list_of_versions(seed: int) -> None:
    rng, clock = random.Random(seed), Ticks(0.0)
    store = T4DX.open(
        "store",
        dim=2,
        options=Options(durability="os", memtable_items=7, max_deltas=2, max_segments=2),
        clock=clock,
        fs=SimulatedFileSystem(),
    )
    model, query = Versions(), np.array([0.3, 1.0], np.float32)
    for _ in range(30):
        step(rng, store, model, clock.now + 1)
        when = rng.choice(
            (
                None,
                AsOf(record=float(rng.randrange(45))),
                AsOf(valid=float(rng.randrange(90))),
                AsOf(record=float(rng.randrange(45)), valid=float(rng.randrange(90))),
            )
        )
        expected = model.visible(when)
        assert list(store.scan(as_of=when)) == expected
        assert store.count(as_of=when) == len(expected)
        assert store.get_many(IDS, as_of=when) == [
            next((i for i in expected if i.id == n), None) for n in IDS
        ]
        assert sorted(store.search(query, 9, as_of=when).ids) == [i.id for i in expected]
        edges = [e for e in model.edges if sees(e, when)]
        assert {(e.source, e.target, e.weight) for e in store.edges(as_of=when)} == {
            (e.source, e.target, e.weight) for e in edges
        }
        for name in IDS:
            reach = {e.target for e in edges if e.source == name} - {name}
            assert set(store.traverse_ids(name, as_of=when)) == reach
            history = [i for i in model.items if i.id == name]
            assert store.history(name) == history[::-1]
        if rng.random() < 0.1:
            store.compact()


def test_supersede_carries_over_what_does_not_change() -> None:
    store = fresh()
    store.insert(
        Item(
            id="a",
            content="old",
            vector=np.ones(2, np.float32),
            kappa=0.5,
            importance=0.25,
            session="s",
            valid_from=0.0,
            valid_until=9.0,
            metadata={"n": 1},
        )
    )
    store.add_accesses({"a": 3})
    store.supersede("a", content="new")
    new, old = store.history("a")
    assert (new.content, new.kappa, new.importance, new.access_count, new.session) == (
        "new",
        0.5,
        0.25,
        3,
        "s",
    )
    assert (new.metadata, new.vector.tolist()) == ({"n": 1}, [1.0, 1.0])
    assert (new.record_time, new.valid_from, new.valid_until) == (2.0, 2.0, math.inf)
    assert (old.content, old.record_until, old.valid_until) == ("old", 2.0, 9.0)
    assert store.get("a", as_of=AsOf(record=1.5)).content == "old"
    store.supersede("a", metadata={"n": 2}, vector=np.array([0, 1], np.float32), valid_from=1.0)
    assert store.get("a").metadata == {"n": 2}
    assert store.search([0.0, 1.0], 1)[0].item.valid_from == 1.0


def test_supersede_by_another_item_ends_the_old_one_and_links_them() -> None:
    store = fresh()
    store.create_collection("notes", dim=3)
    store.insert(Item(id="old", content="it rains"))
    store.supersede(
        "old", Item(id="new", content="it is dry", collection="notes", vector=np.ones(3, np.float32))
    )
    assert store.get("old") is None
    assert store.get("old", as_of=AsOf(record=1.5)).content == "it rains"
    assert [path.nodes for path in store.provenance("new")] == [("new", "old")]
    assert store.provenance("new")[0].item.content == "it rains"  # closed, and still what it came from
    store.supersede("new", Item(id="newest"), link=False)
    assert store.provenance("newest") == []
    store.supersede("newest", Item(id="newest", content="whole"))
    assert [item.content for item in store.history("newest")] == ["whole", ""]


def test_a_supersede_that_cannot_be_says_what_to_type() -> None:
    store = fresh()
    store.insert(Item(id="a"))
    before = store.lsn
    with pytest.raises(errors.ItemNotFoundError, match="no item 'zz'"):
        store.supersede("zz", content="x")
    with pytest.raises(
        errors.ItemError, match=r"give fields or a new item for 'a', one of them; write supersede"
    ):
        store.supersede("a")
    with pytest.raises(
        errors.ItemError, match="'record_until' is no field of a new version; choose from content"
    ):
        store.supersede("a", record_until=3.0)
    with pytest.raises(errors.ItemError, match="valid_from of item 'a' is nan; give seconds"):
        store.supersede("a", content="x", valid_from=math.nan)

    def twice() -> None:
        with store.transaction() as tx:
            tx.update_fields("a", kappa=0.5)
            tx.supersede("a", content="x")

    with pytest.raises(
        errors.TransactionError, match="changed earlier in this transaction; insert its new version"
    ):
        twice()
    assert store.lsn == before


@pytest.mark.parametrize("when", [math.nan, 1.7e12, AsOf(record=1.7e12), AsOf(valid=math.nan), "now", True])
def test_a_moment_that_is_not_in_seconds_is_refused_at_every_read(when: object) -> None:
    store = fresh()
    store.insert(Item(id="a", vector=np.ones(2, np.float32)), [Edge("a", "b", "CAUSES")])
    reads = (
        lambda: store.get("a", as_of=when),
        lambda: store.get_many(["a"], as_of=when),
        lambda: store.search(np.ones(2), 1, as_of=when),
        lambda: store.scan(as_of=when),
        lambda: store.count(as_of=when),
        lambda: store.edges("a", as_of=when),
        lambda: store.traverse("a", as_of=when),
        lambda: store.shortest_path("a", "b", as_of=when),
        lambda: store.provenance("a", as_of=when),
    )
    for read in reads:
        with pytest.raises(errors.ItemError, match=r"divide it by 1000|give seconds"):
            read()


def dependent() -> T4DX:
    """plan <- step <- detail (DEPENDS_ON), plan <- copy (DERIVED_FROM), and what does not depend on it."""
    store = fresh()
    store.insert_many(
        [Item(id=n, valid_from=0.0) for n in ("plan", "step", "detail", "copy", "cause", "loop")]
    )
    store.insert_many(
        [],
        [
            Edge("step", "plan", "DEPENDS_ON"),
            Edge("detail", "step", "DEPENDS_ON"),
            Edge("copy", "plan", "DERIVED_FROM"),
            Edge("plan", "cause", "DEPENDS_ON"),
            Edge("loop", "detail", "DEPENDS_ON"),
            Edge("plan", "loop", "DERIVED_FROM"),  # a cycle
            Edge("ghost", "plan", "DEPENDS_ON"),  # never stored
        ],
    )
    store.flush()
    return store


def test_an_invalidation_cascades_and_is_one_write() -> None:
    store = dependent()
    lsn = store.lsn
    assert store.invalidate("plan", at=50.0, dry_run=True) == ["plan", "copy", "step", "detail", "loop"]
    assert store.lsn == lsn
    store.update_fields("copy", valid_until=30.0)
    assert store.invalidate("plan", at=50.0) == ["plan", "step", "detail", "loop"]
    assert store.lsn == lsn + 2
    ends = {item.id: item.valid_until for item in store.scan()}
    assert ends == {
        "plan": 50.0, "step": 50.0, "detail": 50.0, "loop": 50.0, "copy": 30.0, "cause": math.inf
    }  # fmt: skip
    assert [item.id for item in store.scan(Filter(valid_at=60.0))] == ["cause"]
    assert store.invalidate("plan", at=70.0) == []
    assert store.invalidate("cause", at=60.0, cascade=False) == ["cause"]


def test_what_begins_after_the_invalidation_never_held() -> None:
    store = fresh()
    store.insert(Item(id="late", valid_from=90.0))
    store.insert(Item(id="base", valid_from=0.0), [Edge("late", "base", "DEPENDS_ON")])
    assert store.invalidate("base", at=50.0) == ["base", "late"]
    late = store.get("late")
    assert (late.valid_from, late.valid_until) == (90.0, 90.0)
    assert store.count(Filter(valid_at=90.0)) == 0


def test_an_invalidation_in_a_transaction_comes_first_or_is_refused() -> None:
    store = dependent()
    with store.transaction() as tx:
        closed = tx.invalidate("step", at=20.0)
        tx.insert(Item(id="later"))
    assert closed == ["step", "detail", "loop", "plan", "copy"]

    def late() -> None:
        with store.transaction() as tx:
            tx.insert(Item(id="x"), [Edge("x", "cause", "DEPENDS_ON")])
            tx.invalidate("cause")

    with pytest.raises(errors.TransactionError, match="put it first, or into a transaction of its own"):
        late()
    with pytest.raises(errors.ItemNotFoundError):
        store.invalidate("ghost")
    with pytest.raises(errors.ItemError, match="looks like milliseconds; divide it by 1000"):
        store.invalidate("cause", at=1.7e12)


def test_a_scaling_by_weight_after_a_change_of_weights_is_refused() -> None:
    store = fresh()
    store.insert_many([], [Edge("a", "b", "CAUSES", 0.5)])

    def late() -> None:
        with store.transaction() as tx:
            tx.update_edge_weight("a", "b", 0.2, edge_type="CAUSES")
            tx.batch_map_weights(EdgeFilter(weight=(0.6, 1.0)), lambda weights: weights * 0.5)

    with pytest.raises(errors.TransactionError, match="a scaling by weight, validity or properties looks at"):
        late()
    with store.transaction() as tx:
        tx.batch_scale_weights(EdgeFilter(weight=(0.4, 1.0)), scale(0.5))
        tx.update_edge_weight("a", "b", 0.2, edge_type="CAUSES")
    assert next(store.edges()).weight == pytest.approx(0.45)
