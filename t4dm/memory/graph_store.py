"""A plain property graph, for those who come from one: nodes with labels, typed relationships, paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, final

from t4dm.errors import ItemNotFoundError, UnknownQueryError
from t4dm.t4dx import BOTH, IN, OUT, T4DX, Direction, Edge, EdgeType, Filter, Item, Path

__all__ = ["GraphStore", "Node"]


class Node(NamedTuple):
    """A node of the graph: any item of the store; one made here has a label and no vector."""

    id: str
    label: str
    properties: dict[str, Any]


@final
class GraphStore:
    """A T4DX seen as a graph. Every item is a node, whoever wrote it.

    There is no query language. `query` runs named templates: those below, and what `register` adds.

    Args:
        store: an open store; the caller closes it.
        clock: the time in seconds.
    """

    def __init__(self, store: T4DX, *, clock: Callable[[], float]) -> None:
        self.store = store
        self._clock = clock
        self._templates: dict[str, Callable[..., Any]] = {
            "neighbours": self.neighbours,
            "nodes": self.nodes,
            "path": self.find_path,
            "relationships": self.relationships,
        }

    def create_node(
        self, node_id: str, *, label: str = "", properties: Mapping[str, Any] | None = None
    ) -> None:
        """Store a node; an id that exists is superseded."""
        now = self._clock()
        metadata = {**(properties or {}), "label": label}
        content = str(metadata.get("content", ""))
        self.store.insert(
            Item(
                id=node_id,
                content=content,
                type="semantic",
                event_time=now,
                record_time=now,
                metadata=metadata,
            )
        )

    def get_node(self, node_id: str) -> Node | None:
        """The node, or None."""
        item = self.store.get(node_id)
        return None if item is None else _node(item)

    def update_node(self, node_id: str, properties: Mapping[str, Any]) -> None:
        """Merge into a node's properties.

        Raises:
            ItemNotFoundError: there is no such node.
        """
        item = self.store.get(node_id)
        if item is None:
            raise ItemNotFoundError(node_id)
        self.store.update_fields(node_id, metadata={**item.metadata, **properties})

    def delete_node(self, node_id: str) -> None:
        """Delete a node; its relationships go with it.

        Raises:
            ItemNotFoundError: there is no such node.
        """
        if self.store.get(node_id) is None:
            raise ItemNotFoundError(node_id)
        self.store.delete(node_id)

    def nodes(self, *, label: str | None = None) -> list[Node]:
        """All nodes, or those of a label, in the order of their ids."""
        found = (_node(item) for item in self.store.scan(Filter(), order="id"))
        return [node for node in found if label is None or node.label == label]

    def create_relationship(
        self,
        source: str,
        target: str,
        kind: EdgeType | str,
        *,
        weight: float = 0.5,
        properties: Mapping[str, Any] | None = None,
    ) -> None:
        """Store a relationship; the same source, target and kind is superseded.

        Raises:
            ItemNotFoundError: one of the ends is not stored.
        """
        for name, item in zip((source, target), self.store.get_many([source, target]), strict=True):
            if item is None:
                raise ItemNotFoundError(name)
        now = self._clock()
        edge = Edge(
            source, target, kind, weight, valid_from=now, record_time=now, properties=dict(properties or {})
        )
        self.store.insert_many([], [edge])

    def relationships(
        self, node_id: str, *, kind: EdgeType | str | None = None, direction: Direction = BOTH
    ) -> list[Edge]:
        """Edges at a node, outgoing before incoming; a loop appears once."""
        name = None if kind is None else str(kind)
        found = list(self.store.edges(source=node_id, edge_type=name)) if direction in (OUT, BOTH) else []
        if direction in (IN, BOTH):
            incoming = self.store.edges(target=node_id, edge_type=name)
            found += [edge for edge in incoming if direction is IN or edge.source != node_id]
        return found

    def update_weight(self, source: str, target: str, delta: float, *, kind: EdgeType | str) -> None:
        """Add to a relationship's weight, which stays in [0, 1]."""
        self.store.update_edge_weight(source, target, delta, edge_type=str(kind))

    def neighbours(self, node_id: str, *, kind: EdgeType | str | None = None, depth: int = 1) -> list[str]:
        """Ids within `depth` outgoing steps, nearest first, without the node itself."""
        name = None if kind is None else str(kind)
        return [path.nodes[-1] for path in self.store.traverse([node_id], edge_type=name, depth=depth)]

    def find_path(self, source: str, target: str, *, max_depth: int = 5) -> Path | None:
        """A shortest walk along outgoing relationships, or None within `max_depth`."""
        paths = self.store.traverse([source], depth=max_depth)
        return next((path for path in paths if path.nodes[-1] == target), None)

    def register(self, name: str, template: Callable[..., Any]) -> None:
        """Add a template for `query`."""
        self._templates[name] = template

    def query(self, name: str, **parameters: Any) -> Any:
        """Run a template by name.

        Raises:
            UnknownQueryError: no template has that name; the message lists those that exist.
        """
        if name not in self._templates:
            raise UnknownQueryError(name=name, known=sorted(self._templates))
        return self._templates[name](**parameters)


def _node(item: Item) -> Node:
    properties = {key: value for key, value in item.metadata.items() if key != "label"}
    return Node(item.id, str(item.metadata.get("label", "")), properties)
