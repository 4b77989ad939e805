"""Conditions on metadata: what each comparison means, and what is refused with which words."""

from __future__ import annotations

import pytest

from t4dm.errors import FilterError
from t4dm.t4dx import EdgeFilter, F, Filter
from t4dm.t4dx.conditions import parse
from t4dm.t4dx.predicates import MISSING, And, Compare, Or, freeze, holds, lookup, parse_path

VALUES = {
    "null": None,
    "true": True,
    "one": 1,
    "onef": 1.0,
    "half": 0.5,
    "big": 2**53 + 1,
    "word": "banana",
    "none": "",
    "list": ["a", 1, None],
    "empty": [],
    "bag": {},
    "user": {"name": "ann", "age": 7},
}


def passing(where: dict[str, object]) -> list[str]:
    """Names of the values above that a comparison of field x lets pass, MISSING included."""
    (name, given), *_ = where.items()
    test = parse({"x": {name: given}})
    assert isinstance(test, Compare)
    found = [key for key, value in VALUES.items() if holds(test, value)]
    return found + ["missing"] * holds(test, MISSING)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"eq": 1}, ["one", "onef"]),
        ({"eq": True}, ["true"]),
        ({"eq": None}, ["null"]),
        ({"eq": 2**53 + 1}, ["big"]),
        ({"eq": float(2**53)}, []),
        ({"eq": ["a", 1.0, None]}, ["list"]),
        ({"eq": {"age": 7, "name": "ann"}}, ["user"]),
        ({"in": [1, "banana", []]}, ["one", "onef", "word", "empty"]),
        ({"in": []}, []),
        ({"lt": 1}, ["half"]),
        ({"lte": 1}, ["one", "onef", "half"]),
        ({"gt": 2**53}, ["big"]),
        ({"gte": "b"}, ["word"]),
        ({"lt": "b"}, ["none"]),
        ({"contains": "nan"}, ["word"]),
        ({"contains": "a"}, ["word", "list"]),
        ({"contains": 1.0}, ["list"]),
        ({"contains": True}, []),
        ({"contains": None}, ["list"]),
        ({"exists": True}, list(VALUES)),
        ({"empty": True}, ["null", "none", "empty", "bag", "missing"]),
    ],
)
def test_each_comparison_on_each_type(where: dict[str, object], expected: list[str]) -> None:
    assert passing(where) == expected


def test_a_path_walks_objects_and_nothing_else() -> None:
    data = {"user": {"name": "ann"}, "a.b": 1, "@kappa": 2, "tags": ["x"], "back\\slash": 3}
    assert lookup(data, parse_path("user.name")) == "ann"
    assert lookup(data, parse_path(r"a\.b")) == 1
    assert lookup(data, parse_path(r"\@kappa")) == 2
    assert lookup(data, parse_path(r"back\\slash")) == 3
    assert lookup(data, parse_path("tags.0")) is MISSING
    assert lookup(data, parse_path("user.name.first")) is MISSING
    assert parse_path("@kappa") == ("", "kappa")


def test_both_forms_make_equal_conditions() -> None:
    written = (F("user.name") == "ann") & (F("score") >= 0.5) & ~F("tags").contains("x")
    given = parse({"and": [{"user.name": "ann"}, {"score": {"gte": 0.5}}]})
    assert given & parse({"not": {"tags": {"contains": "x"}}}) == And(
        (And((F("user.name") == "ann", F("score") >= 0.5)), ~F("tags").contains("x"))
    )
    assert Filter(where=written) == Filter(where=written)
    assert len({Filter(where=written), Filter(where=(F("user.name") == "ann"))}) == 2
    assert parse({"or": [{"a": 1}, {"b": {"ne": 2}}]}) == Or((F("a") == 1, F("b") != 2))
    assert parse({"a": {"gt": 0, "lt": 2}}) == And((F("a") > 0, F("a") < 2))
    assert parse({"a": 1, "b": 2}) == And((F("a") == 1, F("b") == 2))
    assert parse({"a": {"exists": False}}) == ~F("a").exists()
    assert parse({"a": {"empty": True}}) == F("a").is_empty()
    assert parse({"a": {"in": ["x", "y"]}}) == F("a").isin(["y", "x"])
    assert parse({}) == And(())


def test_true_and_one_are_two_conditions() -> None:
    assert (F("a") == 1) != (F("a") == True)  # noqa: E712
    assert Filter(where={"a": 1}) != Filter(where={"a": True})
    assert freeze(1) == freeze(1.0) != freeze(True)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ([1], r"a condition is a mapping, not \[1\]; write \{'user.name': 'ann'} or"),
        ({"and": {"a": 1}}, r"'and' takes a list of conditions, not {'a': 1}; write {'and': \[...\]}"),
        ({"a": {"like": "x"}}, "'like' is no comparison of 'a'; choose one of eq, ne, in, lt, lte, gt, gte"),
        ({"a": {}}, "'' is no comparison of 'a'"),
        ({"a": {"gte": None}}, "'gte' compares with a number or a string, not None; write {'gte': 0.5}"),
        ({"a": {"lt": True}}, "'lt' compares with a number or a string, not True"),
        ({"a": {"in": "x"}}, r"'in' takes a list of values, not 'x'; write {'in': \['a', 'b'\]}"),
        ({"a": {"exists": 1}}, "'exists' takes true or false, not 1; write {'exists': true}"),
        ({"a..b": 1}, "'a..b' is no path of a field; write the keys with dots between: 'user.name'"),
        ({"": 1}, "'' is no path of a field"),
        ({"@kapa": 1}, "an item has no field '@kapa'; choose one of @id, @content"),
        ({"a": float("nan")}, "metadata cannot equal nan; compare with None, a bool, a number"),
        ({"a": {"eq": {1}}}, r"metadata cannot equal \{1\}; compare with None"),
    ],
)
def test_a_condition_that_means_nothing_says_what_to_write(where: object, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        Filter(where=where)  # type: ignore[arg-type]


def test_a_condition_has_no_truth_by_itself() -> None:
    with pytest.raises(FilterError, match=r"join conditions with & \| ~ in parentheses"):
        bool(F("a") == 1 and F("b") == 2)
    with pytest.raises(FilterError, match="join conditions"):
        assert 0 < F("a") < 1
    with pytest.raises(FilterError, match=r"{'b': 1} is no condition; write a comparison"):
        (F("a") == 1) & {"b": 1}  # type: ignore[operator]
    with pytest.raises(FilterError, match=r"isin takes several values, not 'x'; write isin\(\['x'\]\)"):
        F("a").isin("x")
    nested: dict[str, object] = {"a": 1}
    for _ in range(70):
        nested = {"not": nested}
    with pytest.raises(FilterError, match="nested deeper than 64; flatten"):
        parse(nested)


def test_filters_are_made_from_plain_values() -> None:
    made = Filter.parse({"type": "semantic", "kappa": [0.2, None], "where": {"user.name": "ann"}})
    assert made == Filter(type="semantic", kappa=(0.2, None), where=F("user.name") == "ann")
    with pytest.raises(FilterError, match="a filter has no field 'kapa'; choose from kappa, importance"):
        Filter.parse({"kapa": 1})
    with pytest.raises(FilterError, match="content of a filter is a string, not 3; write content='part'"):
        Filter(content=3)  # type: ignore[arg-type]
    with pytest.raises(FilterError, match="looks at its properties; use the filter's own fields"):
        EdgeFilter(where={"@kappa": 1})
