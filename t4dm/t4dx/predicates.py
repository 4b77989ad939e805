"""Conditions on typed metadata: small hashable trees, written in Python or as plain dicts.

A condition is two-valued. A comparison with a field that is missing, or that holds another type, is false,
and `~` is the plain complement, so `F("x") != 1` also holds where there is no x. Numbers compare as numbers
(1 == 1.0), True is no number, strings compare by code point, lists and objects only for equality.

    (F("user.name") == "ann") & (F("score") >= 0.5) & ~F("tags").contains("x")
    {"and": [{"user.name": "ann"}, {"score": {"gte": 0.5}}, {"not": {"tags": {"contains": "x"}}}]}

A path walks objects by key. A dot inside a key is written `\\.`, any other character may be escaped as well.
"@kappa" and its like are the item's own fields.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NoReturn, final

import numpy as np
from numpy.typing import NDArray

from t4dm.errors import FilterError

RANGES: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}
OPERATORS: Final = ("eq", "ne", "in", *RANGES, "contains", "exists", "empty")
MISSING: Final = object()
"""What a path leads to where a field is not there."""
OWN_FIELDS: Final = (
    "id",
    "content",
    "type",
    "session",
    "collection",
    "kappa",
    "importance",
    "access_count",
    "event_time",
    "record_time",
    "valid_from",
    "valid_until",
    "record_until",
)
Frozen = tuple[Any, ...]
Mask = NDArray[np.bool_]


class Predicate(ABC):
    """A condition. Combine with &, | and ~, in parentheses."""

    __slots__ = ()

    @abstractmethod
    def mask(self, leaf: Callable[[Compare], Mask], every: Mask) -> Mask:
        """Which rows pass, where `leaf` answers for one comparison and `every` is all true."""

    def __and__(self, other: Predicate) -> Predicate:
        return And((self, _part(other)))

    def __or__(self, other: Predicate) -> Predicate:
        return Or((self, _part(other)))

    def __invert__(self) -> Predicate:
        return Not(self)

    def __bool__(self) -> NoReturn:
        raise FilterError("a condition has no truth by itself; join conditions with & | ~ in parentheses")


@final
@dataclass(frozen=True, slots=True)
class Compare(Predicate):
    """One field against one value; `value` is frozen, so that 1 and True are two conditions."""

    path: tuple[str, ...]
    op: str
    value: Frozen

    def mask(self, leaf: Callable[[Compare], Mask], every: Mask) -> Mask:
        return leaf(self)


@final
@dataclass(frozen=True, slots=True)
class And(Predicate):
    """All parts hold; the empty one always does."""

    parts: tuple[Predicate, ...]

    def mask(self, leaf: Callable[[Compare], Mask], every: Mask) -> Mask:
        found = every
        for part in self.parts:
            found = found & part.mask(leaf, every)
        return found


@final
@dataclass(frozen=True, slots=True)
class Or(Predicate):
    """At least one part holds; the empty one never does."""

    parts: tuple[Predicate, ...]

    def mask(self, leaf: Callable[[Compare], Mask], every: Mask) -> Mask:
        found = ~every
        for part in self.parts:
            found = found | part.mask(leaf, every)
        return found


@final
@dataclass(frozen=True, slots=True)
class Not(Predicate):
    """The part does not hold."""

    part: Predicate

    def mask(self, leaf: Callable[[Compare], Mask], every: Mask) -> Mask:
        return ~self.part.mask(leaf, every)


@final
class F:
    """A field by its dotted path; comparing it makes a condition."""

    __slots__ = ("_path",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, path: str) -> None:
        self._path = parse_path(path)

    def __eq__(self, value: object) -> Predicate:  # type: ignore[override]
        return Compare(self._path, "eq", freeze(value))

    def __ne__(self, value: object) -> Predicate:  # type: ignore[override]
        return Not(Compare(self._path, "eq", freeze(value)))

    def __lt__(self, value: float | str) -> Predicate:
        return ranged(self._path, "lt", value)

    def __le__(self, value: float | str) -> Predicate:
        return ranged(self._path, "lte", value)

    def __gt__(self, value: float | str) -> Predicate:
        return ranged(self._path, "gt", value)

    def __ge__(self, value: float | str) -> Predicate:
        return ranged(self._path, "gte", value)

    def isin(self, values: Iterable[object]) -> Predicate:
        """Equal to one of the values."""
        if isinstance(values, str):
            raise FilterError(f"isin takes several values, not {values!r}; write isin([{values!r}])")
        return Compare(self._path, "in", ("set", frozenset(map(freeze, values))))

    def contains(self, value: object) -> Predicate:
        """A list has the value as an element; a string has it as a part."""
        return Compare(self._path, "contains", freeze(value))

    def exists(self) -> Predicate:
        """The field is there, null included."""
        return Compare(self._path, "exists", ())

    def is_empty(self) -> Predicate:
        """The field is missing, null, "", [] or {}."""
        return Compare(self._path, "empty", ())


def parse_path(path: str) -> tuple[str, ...]:
    """ "user.name" as ("user", "name"), "@kappa" as ("", "kappa"); raises FilterError for an empty key."""
    if isinstance(path, str) and path.startswith("@"):
        if path[1:] not in OWN_FIELDS:
            known = ", ".join(f"@{name}" for name in OWN_FIELDS)
            raise FilterError(f"an item has no field {path!r}; choose one of {known}")
        return "", path[1:]
    keys, escaped = [""], False
    for letter in path if isinstance(path, str) else "":
        if escaped or letter not in "\\.":
            keys[-1], escaped = keys[-1] + letter, False
        elif letter == "\\":
            escaped = True
        else:
            keys.append("")
    if not all(keys) or escaped:
        raise FilterError(f"{path!r} is no path of a field; write the keys with dots between: 'user.name'")
    return tuple(keys)


def paths(where: Predicate) -> list[tuple[str, ...]]:
    """The fields a condition looks at."""
    match where:
        case Compare():
            return [where.path]
        case Not():
            return paths(where.part)
        case And() | Or():
            return [path for part in where.parts for path in paths(part)]
    return []


def freeze(value: object) -> Frozen:
    """A JSON value as a hashable key that knows its type; raises FilterError for anything else."""
    match value:
        case None:
            return ("null",)
        case bool():
            return ("bool", value)
        case int() | float() if value == value:  # NaN equals nothing, itself included
            return ("number", value)
        case str():
            return ("str", value)
        case list() | tuple():
            return ("list", tuple(map(freeze, value)))
        case dict() if all(isinstance(key, str) for key in value):
            return ("object", tuple(sorted((key, freeze(v)) for key, v in value.items())))
    raise FilterError(
        f"metadata cannot equal {value!r}; compare with None, a bool, a number, a string, a list or a dict"
    )


def lookup(metadata: Any, path: tuple[str, ...]) -> Any:
    """The value at a path, or MISSING."""
    for key in path:
        if not isinstance(metadata, dict) or key not in metadata:
            return MISSING
        metadata = metadata[key]
    return metadata


def holds(test: Compare, value: Any) -> bool:
    """Whether one value, or MISSING, passes a test."""
    if test.op == "empty":
        return value is MISSING or value is None or (isinstance(value, str | list | dict) and not value)
    if value is MISSING:
        return False
    match test.op:
        case "exists":
            return True
        case "eq":
            return freeze(value) == test.value
        case "in":
            return freeze(value) in test.value[1]
        case "contains":
            if isinstance(value, list):
                return any(freeze(part) == test.value for part in value)
            return isinstance(value, str) and test.value[0] == "str" and test.value[1] in value
    kind, bound = test.value
    if isinstance(value, bool) or not isinstance(value, str if kind == "str" else int | float):
        return False
    return RANGES[test.op](value, bound)


def ranged(path: tuple[str, ...], name: str, value: Any) -> Predicate:
    """A comparison by order; raises FilterError for what has none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or value != value:
        raise FilterError(
            f"{name!r} compares with a number or a string, not {value!r}; write {{{name!r}: 0.5}}"
        )
    return Compare(path, name, freeze(value))


def _part(other: object) -> Predicate:
    if not isinstance(other, Predicate):
        raise FilterError(f"{other!r} is no condition; write a comparison: (F('a') == 1) & (F('b') > 2)")
    return other
