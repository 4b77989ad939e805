"""Conditions as plain dicts, for the command line and config files; see `predicates` for what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from t4dm.errors import FilterError
from t4dm.t4dx.predicates import (
    OPERATORS,
    RANGES,
    And,
    Compare,
    Not,
    Or,
    Predicate,
    freeze,
    parse_path,
    ranged,
)

_DEEPEST: Final = 64


def as_predicate(where: object) -> Predicate:
    """A condition as it is, a mapping parsed; raises FilterError for anything else."""
    if isinstance(where, Predicate):
        return where
    return parse(where)


def parse(where: object, *, depth: int = 0) -> Predicate:
    """The dict form: {"and": [...]}, {"or": [...]}, {"not": ...}, {"field": value}, {"field": {"gte": 0.5}}.

    Several keys must all hold. An object as a value is compared with {"field": {"eq": {...}}}.

    Raises:
        FilterError: what it cannot mean, and what to write.
    """
    if not isinstance(where, Mapping) or not all(isinstance(key, str) for key in where):
        raise FilterError(
            f"a condition is a mapping, not {where!r}; write {{'user.name': 'ann'}} or {{'and': [...]}}"
        )
    if depth > _DEEPEST:
        raise FilterError(f"a condition is nested deeper than {_DEEPEST}; flatten its 'and' and 'or' lists")
    parts = [_entry(key, value, depth + 1) for key, value in where.items()]
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _entry(key: str, value: object, depth: int) -> Predicate:
    if key in ("and", "or"):
        if not isinstance(value, list | tuple):
            raise FilterError(f"{key!r} takes a list of conditions, not {value!r}; write {{{key!r}: [...]}}")
        parts = tuple(parse(part, depth=depth) for part in value)
        return And(parts) if key == "and" else Or(parts)
    if key == "not":
        return Not(parse(value, depth=depth))
    path = parse_path(key)
    if not isinstance(value, Mapping):
        return Compare(path, "eq", freeze(value))
    if unknown := [name for name in value if name not in OPERATORS] or ([] if value else [""]):
        raise FilterError(
            f"{unknown[0]!r} is no comparison of {key!r}; choose one of {', '.join(OPERATORS)}, "
            f"or compare objects with {{{key!r}: {{'eq': {{...}}}}}}"
        )
    parts = tuple(_make(path, name, given) for name, given in value.items())
    return parts[0] if len(parts) == 1 else And(parts)


def _make(path: tuple[str, ...], name: str, value: Any) -> Predicate:
    if name in RANGES:
        return ranged(path, name, value)
    if name == "ne":
        return Not(Compare(path, "eq", freeze(value)))
    if name in ("exists", "empty"):
        if not isinstance(value, bool):
            raise FilterError(f"{name!r} takes true or false, not {value!r}; write {{{name!r}: true}}")
        test = Compare(path, name, ())
        return test if value else Not(test)
    if name == "in":
        if not isinstance(value, list | tuple):
            raise FilterError(f"'in' takes a list of values, not {value!r}; write {{'in': ['a', 'b']}}")
        return Compare(path, name, ("set", frozenset(map(freeze, value))))
    return Compare(path, name, freeze(value))
