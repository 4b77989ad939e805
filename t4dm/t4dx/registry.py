"""Names with codes, kept in the manifest: edge types and collections. A code is never given twice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from t4dm.errors import CollectionExistsError, OptionError, UnknownCollectionError
from t4dm.t4dx.types import METRICS, Collection, EdgeType


@final
class EdgeTypes:
    """Edge type names and their codes. Codes are given in order of registration and kept in the manifest."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names: list[str] = []
        self.codes: dict[str, int] = {}
        for name in names:
            self.register(name)

    def register(self, name: str) -> int:
        """The code of a name, new or known."""
        if name not in self.codes:
            self.names.append(name)
            self.codes[name] = len(self.names) - 1
        return self.codes[name]

    def label(self, code: int) -> EdgeType | str:
        """The name of a code, as an `EdgeType` where it is one."""
        name = self.names[code]
        return EdgeType(name) if name in EdgeType.__members__ else name


@final
class Collections:
    """The collections of a store and their codes, in order of creation. Items hold the code."""

    def __init__(self, rows: Iterable[Collection] = ()) -> None:
        self.rows: list[Collection] = []
        self.codes: dict[str, int] = {}
        for row in rows:
            self.add(row)

    def add(self, row: Collection) -> None:
        """Append one; `check_new` has passed it."""
        self.rows.append(row)
        self.codes[row.name] = len(self.rows) - 1

    def named(self, name: str) -> Collection:
        """The collection of a name; raises UnknownCollectionError."""
        return self.rows[self.code(name)]

    def code(self, name: str) -> int:
        """The code of a name; raises UnknownCollectionError."""
        code = self.codes.get(name)
        if code is None:
            raise UnknownCollectionError(name, list(self.codes))
        return code

    def is_new(self, row: Collection) -> bool:
        """Whether a collection has to be made; raises CollectionExistsError where the name means another."""
        check_collection(row)
        if row.name not in self.codes:
            return True
        found = self.named(row.name)
        if found != row:
            raise CollectionExistsError(found.name, found.dim, found.metric)
        return False


def check_collection(row: Collection) -> Collection:
    """Refuse a name, size or metric that cannot be; raises OptionError."""
    if not isinstance(row.name, str) or not row.name:
        raise OptionError(f"a collection's name is a non-empty string, not {row.name!r}; write name='notes'")
    if row.dim < 1:
        raise OptionError(f"dim is {row.dim}; give the size of the vectors, for example dim=1024")
    if row.metric not in METRICS:
        raise OptionError(f"metric is {row.metric!r}; choose one of {', '.join(METRICS)}")
    return row
