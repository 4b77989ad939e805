"""Edges by filter, walks, shortest paths and provenance agree with plain loops over a list of edges."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from simulated_fs import SimulatedFileSystem
from store_model import Ticks

from t4dm.errors import FilterError, ItemError
from t4dm.t4dx import BOTH, IN, OUT, T4DX, AsOf, Direction, Edge, EdgeFilter, F, Item, Options, adjacency

NODES = [f"n{n}" for n in range(9)]
KINDS = ["CAUSES", "RELATES_TO", "PART_OF"]


def fresh(**options: object) -> T4DX:
    chosen = Options(durability="os", **options)  # type: ignore[arg-type]
    return T4DX.open("store", dim=2, options=chosen, clock=Ticks(0.0), fs=SimulatedFileSystem())


def random_graph(
    seed: int, *, weights: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
) -> tuple[T4DX, list[Edge]]:
    """Edges over two segments and the memtable, some superseded, closed or deleted since."""
    rng, store = random.Random(seed), fresh()
    store.insert_many([Item(id=name) for name in NODES[:-1]])  # the last node is never stored
    edges: dict[tuple[str, str, str], Edge] = {}
    for step in range(50):
        source, target, kind = rng.choice(NODES), rng.choice(NODES), rng.choice(KINDS)
        edge = Edge(source, target, kind, rng.choice(weights), properties={"n": rng.randrange(4)})
        store.insert_many([], [edge])
        edges[source, target, kind] = edge
        if step % 7 == 3:
            key = rng.choice(sorted(edges))
            store.delete_edge(key[0], key[1], edge_type=key[2])
            del edges[key]
        if step in (15, 32):
            store.flush()
    return store, [edges[key] for key in sorted(edges)]


def naive_walk(
    edges: list[Edge], start: str, depth: int, direction: Direction, kinds: tuple[str, ...], least: float
) -> list[tuple[tuple[str, ...], float]]:
    """Breadth first, heaviest first, then by type and id; a node once."""
    seen, frontier, found = {start}, [((start,), 1.0)], []
    for _ in range(depth):
        further = []
        for nodes, weight in frontier:
            steps = []
            for edge in edges:
                if str(edge.type) not in kinds or edge.weight < least:
                    continue
                for sides, (here, there) in (
                    (OUT, (edge.source, edge.target)),
                    (IN, (edge.target, edge.source)),
                ):
                    if direction in (sides, BOTH) and here == nodes[-1]:
                        steps.append((-edge.weight, str(edge.type), there))
            for falling, _, node in sorted(steps):
                if node not in seen:
                    seen.add(node)
                    further.append(((*nodes, node), weight * -falling))
        found += further
        frontier = further
    return found


@pytest.mark.parametrize("seed", range(4))
def test_walks_agree_with_a_loop(seed: int) -> None:
    store, edges = random_graph(seed)
    rng = random.Random(seed)
    for _ in range(30):
        start, depth, direction = rng.choice(NODES), rng.randrange(1, 4), rng.choice((OUT, IN, BOTH))
        kinds, least = tuple(rng.sample(KINDS, rng.randrange(1, 4))), rng.choice((0.0, 0.5))
        options = {"edge_type": kinds, "direction": direction, "depth": depth, "min_weight": least}
        expected = naive_walk(edges, start, depth, direction, kinds, least)
        paths = store.traverse(start, **options)
        assert [(path.nodes, path.weight) for path in paths] == expected
        assert [path.nodes for path in store.traverse(start, limit=3, **options)] == [
            n for n, _ in expected[:3]
        ]
        by_depth = sorted({(len(nodes), nodes[-1]) for nodes, _ in expected})
        assert store.traverse_ids(start, **options) == [node for _, node in by_depth]
        assert store.reachable(start, **options) == {node for _, node in by_depth}
        assert all((path.item is None) == (path.nodes[-1] == NODES[-1]) for path in paths)
        if rng.random() < 0.1:
            store.compact()


def naive_best(edges: list[Edge], source: str, target: str, hops: int) -> tuple[float, int] | None:
    """(heaviest product, fewest edges) over all simple paths, by trying them all."""
    best: list[tuple[float, int]] = []

    def walk(node: str, seen: frozenset[str], weight: float, steps: int) -> None:
        if node == target:
            best.append((-weight, steps))
            return
        if steps < hops:
            for edge in edges:
                if edge.source == node and edge.target not in seen:
                    walk(edge.target, seen | {edge.target}, weight * edge.weight, steps + 1)

    walk(source, frozenset({source}), 1.0, 0)
    return (-min(best)[0], min(steps for _, steps in best)) if best else None


@pytest.mark.parametrize("seed", range(3))
def test_shortest_and_heaviest_paths_agree_with_trying_all(seed: int) -> None:
    store, edges = random_graph(seed + 50)
    for (source, target), hops in itertools.product(itertools.permutations(NODES[::2], 2), (1, 2, 4)):
        expected = naive_best(edges, source, target, hops)
        short = store.shortest_path(source, target, max_depth=hops)
        heavy = store.shortest_path(source, target, max_depth=hops, weighted=True)
        if expected is None:
            assert short is None
            assert heavy is None
            continue
        assert short is not None
        assert heavy is not None
        assert short.depth == expected[1]
        assert heavy.weight == expected[0]
        for path in (short, heavy):
            assert path.depth <= hops
            assert [path.nodes[0], *(edge.target for edge in path.edges)] == list(path.nodes)
            assert path.weight == math.prod(edge.weight for edge in path.edges)


def test_a_heavy_start_does_not_hide_the_path_that_is_short_enough() -> None:
    """a-x-y-b is heavier up to y than a-y, but only a-y-b has two edges."""
    store = fresh()
    links = [("a", "x", 1.0), ("x", "y", 1.0), ("a", "y", 0.5), ("y", "b", 1.0)]
    store.insert_many([], [Edge(a, b, "CAUSES", w) for a, b, w in links])
    two = store.shortest_path("a", "b", max_depth=2, weighted=True)
    three = store.shortest_path("a", "b", max_depth=3, weighted=True)
    assert two is not None
    assert three is not None
    assert (two.nodes, two.weight) == (("a", "y", "b"), 0.5)
    assert (three.nodes, three.weight) == (("a", "x", "y", "b"), 1.0)
    assert store.shortest_path("a", "b", max_depth=1, weighted=True) is None
    assert store.shortest_path("b", "a") is None
    assert store.shortest_path("b", "a", direction=IN) is not None
    assert store.shortest_path("a", "b", edge_type="PART_OF") is None


def test_a_path_to_itself_needs_an_item() -> None:
    store = fresh()
    store.insert(Item(id="a"))
    path = store.shortest_path("a", "a")
    assert path is not None
    assert (path.nodes, path.edges, path.weight) == (("a",), (), 1.0)
    assert store.shortest_path("ghost", "ghost", weighted=True) is None


@pytest.mark.parametrize("seed", range(2))
def test_edge_filters_agree_with_a_loop(seed: int) -> None:
    store, edges = random_graph(seed + 90)
    for _ in range(2):

        def keys(**fields: object) -> list[tuple[str, str, str]]:
            found = store.edges(where=EdgeFilter(**fields))  # type: ignore[arg-type]
            assert store.count_edges(EdgeFilter(**fields)) == len(
                keyed(list(store.edges(where=EdgeFilter(**fields))))
            )  # type: ignore[arg-type]
            return keyed(list(found))

        assert keys() == keyed(edges)
        assert keys(where={"n": {"gte": 2}}) == keyed([e for e in edges if e.properties["n"] >= 2])
        assert keys(where=~(F("n") == 1), weight=(0.5, 0.75)) == keyed(
            [e for e in edges if e.properties["n"] != 1 and 0.5 <= e.weight <= 0.75]
        )
        ends = tuple(NODES[:4])
        assert keys(source=ends, target=ends, type=("CAUSES", "PART_OF")) == keyed(
            [e for e in edges if e.source in ends and e.target in ends and e.type != "RELATES_TO"]
        )
        assert keyed(list(store.edges(source="n1", where={"n": 0}))) == keyed(
            [e for e in edges if e.source == "n1" and e.properties["n"] == 0]
        )
        store.compact()


def keyed(edges: list[Edge]) -> list[tuple[str, str, str]]:
    return sorted((edge.source, edge.target, str(edge.type)) for edge in edges)


def test_edges_are_filtered_by_their_times() -> None:
    store = fresh()
    store.insert_many([], [Edge("a", "b", "CAUSES", valid_from=1.0, valid_until=5.0)])  # recorded at 1
    store.insert_many([], [Edge("a", "c", "CAUSES", valid_from=3.0)])  # recorded at 2
    for _ in range(2):

        def found(**fields: object) -> str:
            return "".join(sorted(e.target for e in store.edges(where=EdgeFilter(**fields))))  # type: ignore[arg-type]

        assert found(valid_at=2.0) == "b"
        assert found(valid_at=4.0) == "bc"
        assert found(valid_at=5.0) == "c"
        assert found(record_time=(None, 2.0)) == "b"
        assert found(valid_from=(3.0, None)) == "c"
        assert found(valid_until=(6.0, None)) == "c"
        assert found(lsn=1) == "b"
        store.flush()


def test_neighbours_are_all_edges_at_a_node_in_one_order() -> None:
    store = fresh()
    links = [
        ("a", "b", "CAUSES", 0.5),
        ("a", "b", "PART_OF", 0.9),
        ("c", "a", "CAUSES", 0.7),
        ("a", "a", "CAUSES", 0.1),
    ]
    store.insert_many([], [Edge(*link) for link in links])
    store.flush()
    assert [(n.id, str(n.edge.type)) for n in store.neighbours("a")] == [
        ("b", "PART_OF"), ("b", "CAUSES"), ("a", "CAUSES")
    ]  # fmt: skip
    assert [n.id for n in store.neighbours("a", direction=IN)] == ["c", "a"]
    assert [n.id for n in store.neighbours("a", direction=BOTH, min_weight=0.6)] == ["b", "c"]
    assert [n.id for n in store.neighbours("a", limit=1)] == ["b"]
    assert store.neighbours("ghost") == []


def test_every_walk_sees_the_edges_of_its_time() -> None:
    """a-b was replaced at 3, b-c ended in the world at 10, deletes are forgotten at all times."""
    store = fresh()
    store.insert_many([Item(id=name, valid_from=0.0) for name in "abc"])  # 1
    store.insert_many(
        [], [Edge("a", "b", "CAUSES", 0.3, valid_from=0.0), Edge("b", "c", "CAUSES", 1.0, 0.0, 10.0)]
    )  # 2
    store.insert_many([], [Edge("a", "b", "CAUSES", 0.7, valid_from=5.0)])  # 3
    for _ in range(2):
        assert store.traverse_ids("a", depth=2, as_of=2.5) == ["b", "c"]
        assert store.traverse_ids("a", depth=2, as_of=AsOf(record=3.0, valid=4.0)) == []
        assert store.traverse_ids("a", depth=2, as_of=AsOf(valid=10.0)) == ["b"]
        assert [p.weight for p in store.traverse("a", depth=2, as_of=AsOf(record=2.0, valid=9.9))] == [
            0.3,
            0.3,
        ]
        path = store.shortest_path("a", "c", as_of=AsOf(record=3.0, valid=6.0), weighted=True)
        assert path is not None
        assert path.weight == 0.7
        assert store.shortest_path("a", "c", as_of=AsOf(valid=10.0)) is None
        assert [n.edge.weight for n in store.neighbours("a", as_of=2.0)] == [0.3]
        store.compact()


def test_provenance_follows_each_type_in_its_own_direction() -> None:
    store = fresh()
    links = [
        ("summary", "day1", "DERIVED_FROM"),
        ("proto", "summary", "MERGED_FROM"),
        ("proto", "day2", "MERGED_FROM"),
        ("day1", "proto", "CONSOLIDATED_INTO"),  # old to new: a cycle with the two above
        ("newer", "proto", "SUPERSEDES"),
        ("other", "day2", "CAUSES"),
    ]
    store.insert_many([Item(id=n) for n in ("summary", "day1", "day2", "proto", "newer", "other")])
    store.insert_many([], [Edge(a, b, kind, 0.5) for a, b, kind in links])
    store.flush()
    back = store.provenance("newer")
    assert [path.nodes for path in back] == [
        ("newer", "proto"),
        ("newer", "proto", "day1"),
        ("newer", "proto", "day2"),
        ("newer", "proto", "summary"),
    ]
    assert [str(edge.type) for edge in back[1].edges] == ["SUPERSEDES", "CONSOLIDATED_INTO"]
    assert [path.nodes[-1] for path in store.provenance("newer", depth=1)] == ["proto"]
    assert [path.nodes[-1] for path in store.provenance("day1", "forward")] == ["proto", "summary", "newer"]
    assert [path.nodes[-1] for path in store.provenance("day2", "forward")] == ["proto", "newer"]
    assert store.provenance("other") == []
    assert store.provenance("newer", as_of=0.5) == []


def test_a_walk_that_cannot_be_says_what_to_type() -> None:
    store = fresh()
    for call, message in (
        (lambda: store.traverse("a", depth=0), "depth is 0; walk at least depth=1"),
        (lambda: store.traverse_ids("a", limit=-1), "limit is -1; ask for limit=0 or more"),
        (lambda: store.reachable("a", depth=0), "depth is 0; walk at least depth=1"),
        (lambda: store.shortest_path("a", "b", max_depth=0), "max_depth is 0; walk at least max_depth=1"),
        (lambda: store.provenance("a", "sideways"), "direction is 'sideways'; write direction='back' or"),
        (lambda: store.traverse("a", direction="out"), "direction is 'out'; write direction=OUT, IN or BOTH"),
        (lambda: store.edges(source="a", where=EdgeFilter()), "put all into the EdgeFilter"),
    ):
        with pytest.raises(FilterError, match=message):
            call()
    with pytest.raises(ItemError, match=r"min_weight of a walk is 2\.0; it lies in \[0, 1\], clip it first"):
        store.neighbours("a", min_weight=2)


@pytest.mark.parametrize("remembered", [1 << 17, 50, 20])
def test_wide_walks_give_the_same_from_one_segment_as_from_several_and_the_memtable(
    remembered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether all names of the 45 nodes may be kept at hand, or only some."""
    monkeypatch.setattr(adjacency, "REMEMBERED", remembered)
    rng, store = random.Random(5), fresh()
    store.insert_many([Item(id=f"n{n}") for n in range(40)])
    pairs = {(rng.randrange(45), rng.randrange(45)) for _ in range(120)}
    for number, (a, b) in enumerate(sorted(pairs)):
        store.insert_many((), [Edge(f"n{a}", f"n{b}", "RELATES_TO", 0.5)])
        if number in (40, 80):
            store.flush()

    def answers() -> list[list[str]]:
        starts = [["n0"], ["n1", "n2"], ["n44"], ["unknown"], ["n3", "unknown", "n3"]]
        for start in starts:
            for depth in (1, 2, 9):
                assert store.reachable(start, depth=depth) == set(store.traverse_ids(start, depth=depth))
        return [store.traverse_ids(s, depth=d, limit=k) for s in starts for d in (1, 2, 9) for k in (None, 7)]

    mixed = answers()
    assert max(map(len, mixed)) > 30
    store.compact()
    assert store.stats()["segments"] == 1
    assert answers() == answers() == mixed
