"""The store as a plain vector store and as a plain graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from t4dm.errors import ItemNotFoundError, UnknownQueryError
from t4dm.memory.graph_store import GraphStore
from t4dm.memory.vector_store import VectorStore
from t4dm.t4dx import IN, OUT, T4DX, EdgeType, Filter


@pytest.fixture
def store(tmp_path: Path) -> T4DX:
    return T4DX.open(tmp_path / "s", dim=3, clock=lambda: 50.0)


@pytest.fixture
def notes(store: T4DX) -> VectorStore:
    view = VectorStore(store, collection="notes", clock=lambda: 50.0)
    view.add(["a", "b", "c"], np.eye(3), [{"content": "first", "n": 1}, {"n": 2}, {"n": 3}])
    return view


@pytest.fixture
def graph(store: T4DX) -> GraphStore:
    view = GraphStore(store, clock=lambda: 50.0)
    for name in "abcd":
        view.create_node(name, label="letter", properties={"upper": name.upper()})
    view.create_relationship("a", "b", EdgeType.CAUSES, weight=0.9, properties={"why": "x"})
    view.create_relationship("b", "c", EdgeType.CAUSES)
    view.create_relationship("a", "c", EdgeType.RELATES_TO)
    return view


def test_points_are_found_with_their_payload(notes: VectorStore) -> None:
    best, second = notes.search([0.0, 4.0, 3.0], 2)
    assert (best.id, best.payload, best.score) == ("b", {"n": 2}, pytest.approx(0.8))
    assert second.id == "c"
    assert notes.store.get("notes/a").content == "first"  # type: ignore[union-attr]


def test_collections_share_a_store_and_nothing_else(notes: VectorStore) -> None:
    other = VectorStore(notes.store, collection="mails", clock=lambda: 60.0)
    other.add(["a"], [[0.0, 0.0, 1.0]])
    assert (notes.count(), other.count()) == (3, 1)
    assert [point.id for point in other.search([1.0, 0.0, 0.0], 10)] == ["a"]
    assert notes.get(["a"])[0].payload["n"] == 1  # type: ignore[union-attr]
    assert other.count(where=Filter(event_time=(0.0, 55.0))) == 0


def test_adding_an_id_again_replaces_the_point(notes: VectorStore) -> None:
    notes.add(["a"], [[0.0, 0.0, 1.0]], [{"n": 9}])
    (point,) = notes.get(["a"])
    assert point is not None
    assert point.payload == {"n": 9}
    assert notes.count() == 3


def test_payloads_merge_all_or_none(notes: VectorStore) -> None:
    notes.update_payloads({"b": {"tag": "x"}})
    assert notes.get(["b"])[0].payload == {"n": 2, "tag": "x"}  # type: ignore[union-attr]
    with pytest.raises(ItemNotFoundError, match="'z'"):
        notes.update_payloads({"a": {"n": 0}, "z": {}})
    assert notes.get(["a"])[0].payload["n"] == 1  # type: ignore[union-attr]


def test_deleting_counts_what_was_there(notes: VectorStore) -> None:
    assert notes.delete(["a", "zzz"]) == 1
    assert notes.get(["a", "b"])[0] is None
    assert notes.count() == 2


def test_scrolling_visits_every_point_once(notes: VectorStore) -> None:
    page, after = notes.scroll(2)
    rest, end = notes.scroll(2, after=after)
    assert [point.id for point in page + rest] == ["a", "b", "c"]
    assert end is None
    assert notes.scroll(0) == ([], None)


def test_nodes_keep_label_and_properties(graph: GraphStore) -> None:
    node = graph.get_node("a")
    assert node is not None
    assert (node.label, node.properties) == ("letter", {"upper": "A"})
    graph.update_node("a", {"seen": True})
    assert graph.get_node("a").properties == {"upper": "A", "seen": True}  # type: ignore[union-attr]
    assert [n.id for n in graph.nodes(label="letter")] == list("abcd")
    assert graph.nodes(label="word") == []


def test_relationships_by_direction_and_kind(graph: GraphStore) -> None:
    assert {(e.source, e.target) for e in graph.relationships("b")} == {("b", "c"), ("a", "b")}
    assert [e.target for e in graph.relationships("b", direction=OUT)] == ["c"]
    (edge,) = graph.relationships("b", direction=IN)
    assert (edge.source, edge.weight, edge.properties) == ("a", 0.9, {"why": "x"})
    assert [e.target for e in graph.relationships("a", kind=EdgeType.RELATES_TO)] == ["c"]


def test_weights_move_and_stay_in_bounds(graph: GraphStore) -> None:
    graph.update_weight("a", "b", 0.5, kind=EdgeType.CAUSES)
    assert graph.relationships("a", kind=EdgeType.CAUSES)[0].weight == 1.0


def test_paths_are_shortest(graph: GraphStore) -> None:
    path = graph.find_path("a", "c")
    assert path is not None
    assert path.nodes == ("a", "c")
    assert graph.find_path("c", "a") is None
    assert graph.find_path("a", "d") is None


def test_deleting_a_node_takes_its_relationships(graph: GraphStore) -> None:
    graph.delete_node("b")
    assert graph.get_node("b") is None
    assert [(e.source, e.target) for e in graph.relationships("a")] == [("a", "c")]


def test_unknown_nodes_are_named(graph: GraphStore) -> None:
    with pytest.raises(ItemNotFoundError, match="'zz'"):
        graph.create_relationship("a", "zz", EdgeType.CAUSES)
    with pytest.raises(ItemNotFoundError):
        graph.update_node("zz", {})
    with pytest.raises(ItemNotFoundError):
        graph.delete_node("zz")


def test_queries_are_registered_templates(graph: GraphStore) -> None:
    assert graph.query("neighbours", node_id="a", depth=2) == ["b", "c"]
    graph.register("count", lambda: len(graph.nodes()))
    assert graph.query("count") == 4
    with pytest.raises(
        UnknownQueryError, match=r"no query 'MATCH'; use one of count, neighbours, .*register\('MATCH'"
    ):
        graph.query("MATCH")
