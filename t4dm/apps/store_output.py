"""What the `t4dm store` verbs share: opening a store, reading options, printing for people or programs."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from t4dm.errors import (
    CorruptionError,
    FilterError,
    ItemError,
    NoStoreError,
    OptionError,
    StoreBusyError,
    StoreDamagedError,
    StoreLockedError,
    StoreMissingError,
    UnknownCollectionError,
    UsageError,
    VectorError,
)
from t4dm.t4dx import T4DX, Filter
from t4dm.t4dx.export import line

_WRONG_USE = (FilterError, ItemError, OptionError, UnknownCollectionError, VectorError)


@contextlib.contextmanager
def at_store(path: Path) -> Iterator[None]:
    """Turn what a store can say into one line that ends with a command; wrong arguments get exit code 2."""
    try:
        yield
    except (StoreMissingError, NotADirectoryError):
        raise NoStoreError(str(path), fix=_where_to_look(path)) from None
    except StoreLockedError as error:
        raise StoreBusyError(str(path), error.owner) from None
    except CorruptionError as error:
        raise StoreDamagedError(str(path), str(error).partition(";")[0]) from None
    except _WRONG_USE as error:
        raise UsageError(str(error)) from None


@contextlib.contextmanager
def opened(path: Path, *, key: Path | None, write: bool = False, **create: Any) -> Iterator[T4DX]:
    """A store for one verb; reading works beside a writer."""
    with at_store(path), T4DX.open(path, read_only=not write, key=secret(key), **create) as store:
        yield store


def secret(path: Path | None) -> bytes | None:
    """The key in a file, without the line end behind it."""
    if path is None:
        return None
    try:
        return path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise UsageError(
            f"cannot read the key file {path} ({error.strerror}); name another: --key-file FILE"
        ) from None


def parsed_filter(text: str, **more: Any) -> Filter:
    """A filter from the JSON of --where; `more` are options of their own."""
    try:
        fields = json.loads(text) if text else {}
    except ValueError as error:
        raise UsageError(
            f'--where is not JSON ({error}); write --where \'{{"type": "semantic", "kappa": [0.2, null]}}\''
        ) from None
    if not isinstance(fields, dict):
        raise UsageError(
            f'--where is {type(fields).__name__}; write an object: --where \'{{"type": "semantic"}}\''
        )
    try:
        return Filter.parse(fields | {name: value for name, value in more.items() if value})
    except FilterError as error:
        raise UsageError(f"--where: {error}") from None


def parsed_time(text: str) -> float | None:
    """Seconds from a number or an ISO date; without a zone it is UTC. None for no text."""
    if not text:
        return None
    with contextlib.suppress(ValueError):
        seconds = float(text)
        if math.isfinite(seconds):
            return seconds
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--as-of {text!r} is no time; write 2026-03-01, 2026-03-01T12:00, or seconds"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def shown_time(seconds: float) -> str:
    """Seconds since 1970 as a date where they can be one, else as they are; nothing for an open end."""
    if math.isinf(seconds):
        return ""
    if 1e8 < seconds < 1e11:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{seconds:g}"


def print_json(row: Mapping[str, Any]) -> None:
    """One object on one line."""
    print(line(row), end="")


def print_fields(rows: Mapping[str, object]) -> None:
    """`key  value` lines."""
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:{width}}  {value}")


def print_table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """A table without lines; a pipe gets the same text without colours."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*map(_cell, row))
    Console(soft_wrap=True).print(table, markup=False)


def _cell(value: object) -> Any:
    from rich.text import Text

    return Text(str(value).replace("\n", " "))


def _where_to_look(path: Path) -> str:
    if path.is_file():
        return f"it is a file; name the folder of the store: t4dm store stats {path.parent}"
    if (path / "store").is_dir():
        return f"there is one in it: t4dm store stats {path / 'store'}"
    return "list the runs, each has its own in store: t4dm runs ls"
