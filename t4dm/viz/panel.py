"""What a part of the report is made of. Panels hold text and pictures; only the template knows HTML."""

from __future__ import annotations

from typing import NamedTuple

from markupsafe import Markup


class Figure(NamedTuple):
    """A picture with its caption. `size` is its place in the page: `half`, `middle`, `wide` or `small`."""

    svg: Markup
    caption: str
    size: str = "half"


class Table(NamedTuple):
    """Rows of text under column heads; `numeric` columns are set flush right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    numeric: frozenset[int] = frozenset()


class Fold(NamedTuple):
    """A part that opens on demand: tables, or verbatim text."""

    title: str
    tables: tuple[Table, ...] = ()
    verbatim: str = ""
    open: bool = False


class Panel(NamedTuple):
    """One section of the page. `missing` says what could not be shown, and why."""

    id: str
    title: str
    lead: str = ""
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    folds: tuple[Fold, ...] = ()
    missing: tuple[str, ...] = ()
