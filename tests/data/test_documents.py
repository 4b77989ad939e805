"""Reading the user's files: every kind, and one clear line for every mistake."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from t4dm.data.documents import find_files, hub_documents, read_documents, sections
from t4dm.errors import (
    DataFieldMissingError,
    DataFileMissingError,
    DataFormatError,
    HubDatasetError,
    TextEncodingError,
)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_each_kind_of_file_gives_its_documents_in_order(tmp_path):
    txt = write(tmp_path / "a.txt", "eins\n\nzwei\n")
    jsonl = write(tmp_path / "b.jsonl", '{"text": "drei", "n": 1}\n\n{"text": "vier"}\n{"text": " "}\n')
    parquet = str(tmp_path / "c.parquet")
    pq.write_table(pa.table({"text": ["fünf", None, "sechs"]}), parquet)
    assert list(read_documents([parquet, txt, jsonl])) == ["fünf", "sechs", "eins\n\nzwei\n", "drei", "vier"]


def test_globs_are_sorted_and_a_file_named_twice_is_read_once(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.txt", "a.txt", "deep/c.txt"):
        write(tmp_path / name, name)
    found = find_files([str(tmp_path / "b.txt"), str(tmp_path / "**" / "*.txt")])
    assert [path.name for path in found] == ["b.txt", "a.txt", "c.txt"]


def test_another_field_is_read_when_it_is_named(tmp_path):
    assert list(read_documents([write(tmp_path / "a.jsonl", '{"body": "x"}')], field="body")) == ["x"]


def test_a_byte_order_mark_is_no_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfhello")
    assert list(read_documents([str(path)])) == ["hello"]


def test_sections_join_to_the_text_and_are_long_enough():
    text = "".join(f"paragraph {i}\n\n" for i in range(50))
    cut = sections(text, chars=100)
    assert "".join(cut) == text
    assert all(len(part) >= 100 for part in cut[:-1])
    assert len(cut) > 5


def test_a_long_text_becomes_sections_only_when_asked(tmp_path):
    path = write(tmp_path / "a.txt", "one\n\ntwo\n\nthree")
    assert list(read_documents([path])) == ["one\n\ntwo\n\nthree"]
    assert list(read_documents([path], section_chars=4)) == ["one\n\n", "two\n\n", "three"]


def test_a_missing_file_says_what_to_set(tmp_path):
    with pytest.raises(DataFileMissingError) as caught:
        list(read_documents([str(tmp_path / "no*.txt")]))
    assert str(caught.value) == (
        f"no file matches '{tmp_path}/no*.txt'; set data.files to the path of a .txt, .jsonl or .parquet file"
    )


def test_an_unknown_kind_of_file_lists_the_known_ones(tmp_path):
    with pytest.raises(DataFormatError, match=r"a file of type \.pdf; give one of \.txt, \.jsonl, \.parquet"):
        list(read_documents([write(tmp_path / "a.pdf", "x")]))


def test_a_text_file_that_is_not_utf8_names_the_byte_and_the_command(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"gr" + "ün".encode("latin1"))
    with pytest.raises(TextEncodingError) as caught:
        list(read_documents([str(path)]))
    assert str(caught.value) == (
        f"{path} is not UTF-8 at byte 2; convert it: iconv -f LATIN1 -t UTF-8 {path} > {path}.utf8"
    )


def test_utf16_is_recognised_by_its_mark(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("hello".encode("utf-16"))
    with pytest.raises(TextEncodingError, match="at byte 0; convert it: iconv -f UTF-16 "):
        list(read_documents([str(path)]))


def test_the_byte_in_a_jsonl_file_counts_from_its_start(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n')
    with pytest.raises(TextEncodingError, match="not UTF-8 at byte 24;"):
        list(read_documents([str(path)]))


def test_a_record_without_the_field_lists_its_fields(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "a"}\n{"body": "b", "id": 3}\n')
    with pytest.raises(DataFieldMissingError, match=r"line 2 has no text under 'text' but body, id; set"):
        list(read_documents([path]))
    with pytest.raises(DataFieldMissingError, match="no field at all"):
        list(read_documents([write(tmp_path / "b.jsonl", "[1]\n")]))
    parquet = str(tmp_path / "c.parquet")
    pq.write_table(pa.table({"body": ["x"]}), parquet)
    with pytest.raises(DataFieldMissingError, match="but body;"):
        list(read_documents([parquet]))


def test_broken_files_name_the_place(tmp_path):
    with pytest.raises(DataFormatError, match=r"line 2 is not JSON \(.* at column 1\); write one JSON"):
        list(read_documents([write(tmp_path / "a.jsonl", '{"text": "a"}\nnonsense\n')]))
    with pytest.raises(DataFormatError, match="not a parquet file"):
        list(read_documents([write(tmp_path / "a.parquet", "nonsense")]))


@pytest.fixture
def quiet_hub(monkeypatch):
    """The hub as a machine without network sees it."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.mark.usefixtures("quiet_hub")
def test_a_data_set_is_read_by_name(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder / "train.jsonl", "\n".join(json.dumps({"text": t, "id": 1}) for t in ("one", "", "two")))
    cache = str(tmp_path / "cache")
    assert list(hub_documents(str(folder), cache_dir=cache)) == ["one", "two"]
    with pytest.raises(DataFieldMissingError, match=r"\[train\] has no text under 'body' but text, id"):
        list(hub_documents(str(folder), field="body", cache_dir=cache))


@pytest.mark.usefixtures("quiet_hub")
def test_without_network_one_line_says_what_to_do(tmp_path):
    with pytest.raises(HubDatasetError) as caught:
        list(hub_documents("nobody/nothing", cache_dir=str(tmp_path)))
    message = str(caught.value)
    assert message.startswith("cannot load the data set 'nobody/nothing' from the hub (")
    assert message.endswith("connect to the network once, or use your own files: data.files=[book.txt]")
    assert "\n" not in message
