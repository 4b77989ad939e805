"""The user's own text as documents: .txt, .jsonl and .parquet files, or a data set of the Hugging Face hub.

One .txt file holds one document, or several sections where `section_chars` cuts it; one line of .jsonl
and one row of .parquet hold one document each.
"""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from t4dm.errors import (
    DataFieldMissingError,
    DataFileMissingError,
    DataFormatError,
    HubDatasetError,
    MissingExtra,
    TextEncodingError,
)

_SUFFIXES = (".txt", ".jsonl", ".parquet")
_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def find_files(patterns: Sequence[str]) -> list[Path]:
    """The files that paths and globs name, in the order of the patterns and sorted within each, each once.

    Raises:
        DataFileMissingError: a pattern matches no file.
        DataFormatError: a file has another suffix than .txt, .jsonl or .parquet.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        expanded = Path(pattern).expanduser()
        matches = [expanded] if expanded.is_file() else _glob(str(expanded))
        if not matches:
            raise DataFileMissingError(pattern)
        found.update(dict.fromkeys(matches))
    for path in found:
        if path.suffix not in _SUFFIXES:
            raise DataFormatError(
                str(path),
                f"a file of type {path.suffix or 'none'}",
                fix=f"give one of {', '.join(_SUFFIXES)}",
            )
    return list(found)


def read_documents(
    patterns: Sequence[str], *, field: str = "text", section_chars: int | None = None
) -> Iterator[str]:
    """The documents of every file that the patterns name; empty ones are left out.

    Args:
        patterns: paths or globs.
        field: the field of a .jsonl record and the column of a .parquet file that hold the text.
        section_chars: cut a .txt file at blank lines into sections of at least this many characters; None
            keeps it whole.

    Raises:
        DataFileMissingError, DataFormatError: see `find_files`; also for a broken .jsonl or .parquet file.
        DataFieldMissingError: a record has no text under `field`.
        TextEncodingError: a text file is not UTF-8.
        MissingExtra: a .parquet file is named, but pyarrow is not installed.
    """
    for path in find_files(patterns):
        if path.suffix == ".txt":
            text = decode(path.read_bytes(), path=path)
            documents = iter(sections(text, chars=section_chars) if section_chars else [text])
        else:
            documents = _jsonl(path, field) if path.suffix == ".jsonl" else _parquet(path, field)
        yield from (document for document in documents if document.strip())


def hub_documents(
    name: str,
    *,
    subset: str | None = None,
    split: str = "train",
    revision: str | None = None,
    field: str = "text",
    cache_dir: str | None = None,
) -> Iterator[str]:
    """The documents of a hub data set, or of a local folder that `datasets` reads; empty ones are left out.

    Raises:
        MissingExtra: `datasets` is not installed.
        HubDatasetError: there is no network, or no such data set, subset or split.
        DataFieldMissingError: the data set has no column `field`.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra("datasets", "data") from error
    try:
        rows = datasets.load_dataset(name, subset, split=split, revision=revision, cache_dir=cache_dir)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise HubDatasetError(name, str(error).strip().splitlines()[0]) from error
    if field not in rows.column_names:
        raise DataFieldMissingError(f"{name}[{split}]", field, list(rows.column_names))
    yield from (text for text in rows[field] if text and text.strip())


def decode(data: bytes, *, path: Path, start: int = 0) -> str:
    """Bytes of a file as text, without a byte order mark; `start` is their offset in the file.

    Raises:
        TextEncodingError: they are not UTF-8; names the first wrong byte of the file.
    """
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        encoding = _BOMS.get(data[:2], "LATIN1") if start == 0 else "LATIN1"
        raise TextEncodingError(str(path), start + error.start, encoding=encoding) from error


def sections(text: str, *, chars: int) -> list[str]:
    """Cut a text behind blank lines into sections of at least `chars` characters; joined, they are it."""
    paragraphs = re.split(r"(?<=\n\n)(?!\n)", text.replace("\r\n", "\n"))
    out, current, size = [], [], 0
    for paragraph in paragraphs:
        current.append(paragraph)
        size += len(paragraph)
        if size >= chars:
            out.append("".join(current))
            current, size = [], 0
    return [*out, "".join(current)] if current else out


def _glob(pattern: str) -> list[Path]:
    return [path for path in map(Path, sorted(glob.glob(pattern, recursive=True))) if path.is_file()]


def _jsonl(path: Path, field: str) -> Iterator[str]:
    offset = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            text = decode(line, path=path, start=offset)
            offset += len(line)
            if text.strip():
                yield _field(_record(text, path, number), field, f"{path} line {number}")


def _record(text: str, path: Path, number: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        problem = f"line {number} is not JSON ({error.msg} at column {error.colno})"
        raise DataFormatError(str(path), problem, fix="write one JSON object a line") from error


def _field(record: Any, field: str, where: str) -> str:
    present = sorted(record) if isinstance(record, dict) else []
    if field not in present or not isinstance(record[field], str):
        raise DataFieldMissingError(where, field, present)
    return str(record[field])


def _parquet(path: Path, field: str) -> Iterator[str]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "data") from error
    try:
        file = parquet.ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataFormatError(str(path), "not a parquet file", fix="write it again") from error
    with file:
        if field not in file.schema_arrow.names:
            raise DataFieldMissingError(str(path), field, list(file.schema_arrow.names))
        for batch in file.iter_batches(columns=[field]):
            yield from (str(text) for text in batch.column(0).to_pylist() if text is not None)
