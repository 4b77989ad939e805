"""Files that are long, bare, or say the same key twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from simulated_fs import SimulatedFileSystem
from store_model import Ticks

from t4dm.t4dx import T4DX, Item, Options, export_store, import_store
from t4dm.t4dx.imports import default_collection


@pytest.fixture
def store() -> T4DX:
    options = Options(durability="os")
    return T4DX.open("s", dim=2, options=options, clock=Ticks(), fs=SimulatedFileSystem())


def test_an_export_tells_its_progress_every_thousand_versions(store: T4DX, tmp_path: Path) -> None:
    store.insert_many([Item(id=f"{n}") for n in range(1001)])
    told: list[int] = []
    export_store(store, tmp_path / "all.jsonl", progress=told.append)
    assert told == [1000, 1001]


def test_a_new_store_takes_its_size_from_the_head_or_the_first_vector_of_a_file(
    store: T4DX, tmp_path: Path
) -> None:
    export_store(store, tmp_path / "all.jsonl")
    assert default_collection(tmp_path / "all.jsonl") == ("default", 2, "cosine")
    mine = tmp_path / "mine.jsonl"
    mine.write_text('{"id": "a", "text": "x"}\n{"id": "b", "vector": [1, 2, 3]}\n')
    assert default_collection(mine) == ("default", 3, "cosine")
    mine.write_text('{"id": "a", "text": "x"}\n')
    assert default_collection(mine) is None


def test_two_versions_of_an_id_in_one_batch_of_lines_are_two_versions(store: T4DX, tmp_path: Path) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_text('{"id": "a", "text": "one"}\n{"id": "a", "text": "two"}\n')
    assert import_store(store, mine).items == 2
    assert [item.content for item in store.history("a")] == ["two", "one"]


def test_rows_of_an_export_may_leave_fields_out_and_repeat_an_edge(store: T4DX, tmp_path: Path) -> None:
    export_store(store, tmp_path / "all.jsonl")
    rows = [
        '{"kind":"item","id":"a","content":"bare"}',
        '{"kind":"edge","source":"a","target":"b","type":"CAUSES","weight":0.25}',
        '{"kind":"edge","source":"a","target":"b","type":"CAUSES","weight":0.5}',
    ]
    with (tmp_path / "all.jsonl").open("a") as file:
        file.write("\n".join(rows) + "\n")
    import_store(store, tmp_path / "all.jsonl")
    assert store.get("a").content == "bare"
    assert [edge.weight for edge in store.edges(source="a")] == [0.5]
