"""A store as a file and back: equal to the last bit, resumable, and exact about the line that is wrong."""

from __future__ import annotations

import builtins
import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from store_model import DIM, IDS, Model, Ticks, write_step

from t4dm.errors import (
    ExportTargetError,
    ImportFileError,
    ImportLineError,
    MissingExtra,
    OptionError,
)
from t4dm.t4dx import T4DX, Edge, Item, Options
from t4dm.t4dx.exchange import edge_of, item_of, item_row, plain_item_of
from t4dm.t4dx.export import export_store
from t4dm.t4dx.history import all_edges, all_items, edge_versions, life_of
from t4dm.t4dx.imports import Imported, default_collection, import_store

OS = Options(durability="os")


def everything(store: T4DX, *, past: bool) -> tuple[list[str], list[str]]:
    items = sorted(
        repr((item, item.vector is None or item.vector.tobytes())) for item in all_items(store, past=past)
    )
    return items, sorted(repr(edge) for edge in all_edges(store, past=past))


def opened(path: Path, *, start: float = 1e6) -> T4DX:
    return T4DX.open(path, dim=DIM, options=OS, clock=Ticks(start))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> T4DX:
    """Many random writes over several flushes, the rest in the memtable."""
    clock, rng, model = Ticks(), random.Random(5), Model()
    store = T4DX.open(tmp_path_factory.mktemp("full") / "store", dim=DIM, options=OS, clock=clock)
    for step in range(160):
        write_step(rng, store, model, clock)
        if step % 40 == 39:
            store.flush()
    alive = next(name for name in IDS if model.current(name))
    store.close_item(alive)
    return store


@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize(
    ("suffix", "vectors"), [("jsonl", "base64"), ("jsonl", "list"), ("parquet", "base64")]
)
def test_a_round_trip_is_equal(full: T4DX, tmp_path: Path, suffix: str, vectors: str, past: bool) -> None:
    path = tmp_path / f"all.{suffix}"
    counts = export_store(full, path, history=past, vectors=vectors)
    before = everything(full, past=past)
    assert counts == (len(before[0]), len(before[1]))
    with opened(tmp_path / "new") as copy:
        done = import_store(copy, path, batch=7)
        assert (done.items, done.edges, done.unchanged) == (*counts, 0)
        assert everything(copy, past=past) == before


def test_past_versions_answer_as_of_as_they_did(full: T4DX, tmp_path: Path) -> None:
    export_store(full, tmp_path / "all.jsonl", history=True)
    with opened(tmp_path / "new") as copy:
        import_store(copy, tmp_path / "all.jsonl")
        for when in range(1000, 1170, 10):
            assert [*copy.scan(as_of=float(when))] == [*full.scan(as_of=float(when))]


@pytest.mark.parametrize("past", [False, True])
def test_a_second_import_changes_nothing(full: T4DX, tmp_path: Path, past: bool) -> None:
    path = tmp_path / "all.jsonl"
    counts = export_store(full, path, history=past)
    with opened(tmp_path / "new") as copy:
        import_store(copy, path)
        lsn = copy.lsn
        assert import_store(copy, path, batch=3) == (*counts, sum(counts))
        assert copy.lsn == lsn


def test_an_import_stopped_anywhere_is_finished_by_running_it_again(full: T4DX, tmp_path: Path) -> None:
    path, past = tmp_path / "all.jsonl", everything(full, past=True)
    total = sum(export_store(full, path, history=True))
    for stop in range(5, total, 29):

        def interrupt(done: int, stop: int = stop) -> None:
            if done >= stop:
                raise KeyboardInterrupt

        with opened(tmp_path / f"new{stop}") as copy:
            with pytest.raises(KeyboardInterrupt):
                import_store(copy, path, batch=5, progress=interrupt)
            assert import_store(copy, path, batch=11).unchanged >= stop
            assert everything(copy, past=True) == past


def test_a_differing_version_supersedes(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    with opened(tmp_path / "new") as store:
        path.write_text('{"id": "a", "text": "one"}\n{"id": "b", "text": "two"}\n')
        assert import_store(store, path) == Imported(2, 0, 0)
        path.write_text('{"id": "a", "text": "one"}\n{"id": "b", "text": "three"}\n')
        assert import_store(store, path) == Imported(2, 0, 1)
        assert [item.content for item in store.history("b")] == ["three", "two"]
        assert len(store.history("a")) == 1


def test_a_users_own_lines_become_items(tmp_path: Path) -> None:
    lines = [
        {"id": "a", "text": "Ann is red", "vector": [1, 0.5, 0, 0], "page": 3, "tags": ["x"]},
        {"id": 7, "content": "Bob", "metadata": {"by": "me"}, "type": "note", "score": None},
        {"id": "c"},
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("\ufeff" + "\n\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert default_collection(path) == ("default", 4, "cosine")
    with opened(tmp_path / "new") as store:
        assert import_store(store, path).items == 3
        ann, bob, empty = (store.get(name) for name in ("a", "7", "c"))
        assert (ann.content, ann.vector.tolist()) == ("Ann is red", [1.0, 0.5, 0.0, 0.0])
        assert ann.metadata == {"page": 3, "tags": ["x"]}
        assert (bob.content, bob.metadata) == ("Bob", {"by": "me", "type": "note"})
        assert (empty.content, empty.vector, empty.metadata) == ("", None, {})


def test_a_users_parquet_file_is_read_too(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(
        pa.table({"id": ["a", "b"], "text": ["x", "y"], "page": [1, None]}), tmp_path / "mine.parquet"
    )
    with opened(tmp_path / "new") as store:
        import_store(store, tmp_path / "mine.parquet")
        assert [(i.id, i.content, i.metadata) for i in store.scan()] == [
            ("a", "x", {"page": 1}),
            ("b", "y", {}),
        ]


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("{", "it is not JSON"),
        ("[1]", "it is not a JSON object"),
        ('{"text": "no id"}', 'it has no text under "id"'),
        ('{"id": "x", "text": 3}', '"text" is not a text'),
        ('{"id": "x", "vector": [1, 2]}', r"the vector of x has shape \(2,\), the store holds \[4\]"),
        ('{"id": "x", "vector": "?"}', "neither a list of numbers nor base64"),
        ('{"id": "x", "vector": [[1]]}', "neither a list of numbers nor base64"),
        ('{"id": "x", "vector": [1e39, 0, 0, 0]}', "holds NaN or infinity"),
        ('{"id": "x", "n": 1e999}', "inf is no JSON number"),
    ],
)
def test_a_bad_line_is_named_and_nothing_of_its_batch_is_stored(
    tmp_path: Path, bad: str, problem: str
) -> None:
    path = tmp_path / "mine.jsonl"
    good = [json.dumps({"id": f"i{n}"}) for n in range(8)]
    path.write_text("\n".join([*good[:5], bad, *good[5:]]))
    with opened(tmp_path / "new") as store:
        with pytest.raises(
            ImportLineError, match=rf"^line 6 of .*mine\.jsonl: .*{problem}.*run the import again$"
        ):
            import_store(store, path, batch=3)
        assert store.count() == 3
        path.write_text("\n".join(good))
        assert import_store(store, path).unchanged == 3


def test_an_exported_line_that_was_edited_wrongly_is_named(full: T4DX, tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    export_store(full, path)
    head, first, *_ = path.read_text().splitlines()
    for name, value, problem in (
        ("kind", "thing", "\"kind\" is 'thing'"),
        ("kappa", 7, r"kappa of item .* is 7\.0"),
        ("valid_from", "soon", "valid_from is 'soon'"),
        ("record_time", 1.7e12, "looks like milliseconds"),
        ("colour", 1, "an item has no field 'colour'"),
        ("metadata", [1], "is a mapping with string keys"),
    ):
        path.write_text("\n".join([head, json.dumps(json.loads(first) | {name: value})]))
        with opened(tmp_path / f"new-{name}") as store:
            with pytest.raises(ImportLineError, match=f"line 2 of .*{problem}"):
                import_store(store, path)
            assert store.count() == 0


def test_every_field_of_an_item_survives_its_row() -> None:
    item = Item(
        id="ä",
        content="line\u2028end",
        vector=np.array([-0.0, 1e-38, 0.1, 3.0], np.float32),
        kappa=0.1,
        access_count=3,
        event_time=1.5,
        record_time=2.5,
        valid_from=-math.inf,
        valid_until=9.25,
        metadata={"x": {"y": [1, None, True]}},
    )
    back = item_of(json.loads(json.dumps(item_row(item))))
    assert back == item
    assert back.vector.tobytes() == item.vector.tobytes()
    with pytest.raises(Exception, match="an edge has a text for source, target and type; add 'target'"):
        edge_of({"source": "a", "type": "CAUSES"})
    assert plain_item_of({"id": "a", "metadata": 3}).metadata == {"metadata": 3}


def test_versions_of_one_key_come_in_order(tmp_path: Path) -> None:
    with opened(tmp_path / "s", start=10.0) as store:
        store.insert(Item(id="a", content="one"), [Edge("a", "b", "CAUSES", 0.1)])
        store.flush()
        store.insert(
            Item(id="a", content="two"), [Edge("a", "b", "CAUSES", 0.2), Edge("a", "b", "PART_OF", 0.3)]
        )
        assert [edge.weight for edge in edge_versions(store, "a", "b", "CAUSES")] == [0.1, 0.2]
        assert len(edge_versions(store, "a", "b")) == 3
        life = life_of(store, "a")
        assert [(lsn, getattr(one, "weight", None)) for lsn, one in life] == [
            *((1, None), (2, 0.1), (3, None), (4, 0.2), (4, 0.3))
        ]
        assert len(life_of(store, "b")) == 3


def test_collections_and_edge_types_come_along(tmp_path: Path) -> None:
    with opened(tmp_path / "old") as store:
        store.create_collection("notes", dim=2, metric="l2")
        store.register_edge_type("LIKES")
        store.insert(Item(id="a", vector=np.ones(4, np.float32)))
        note = Item(id="n", collection="notes", vector=np.array([3, 4], np.float32))
        store.insert(note, [Edge("n", "a", "LIKES", properties={"why": ["x"]})])
        for suffix in ("jsonl", "parquet"):
            export_store(store, tmp_path / f"all.{suffix}")
            with opened(tmp_path / suffix) as copy:
                import_store(copy, tmp_path / f"all.{suffix}")
                assert everything(copy, past=True) == everything(store, past=True)
                assert copy.collections() == store.collections()
                assert copy.search([0, 0], 1, collection="notes")[0].score == -5.0


def test_a_users_lines_go_into_the_collection_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"id": "a", "vector": [1, 2]}')
    with opened(tmp_path / "new") as store:
        store.create_collection("notes", dim=2)
        import_store(store, tmp_path / "mine.jsonl", collection="notes")
        assert store.get("a").collection == "notes"


def test_an_export_that_fails_leaves_no_file(full: T4DX, tmp_path: Path) -> None:
    def stop(done: int) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        export_store(full, tmp_path / "all.jsonl", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_an_export_does_not_write_over_a_file_unasked(full: T4DX, tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    path.write_text("mine")
    for target, problem in {
        path: r"all\.jsonl exists; name another file, or replace it with overwrite=True \(--force\)$",
        tmp_path: r"is a folder; name a file in it: .*store\.jsonl$",
        tmp_path / "all.csv": r"has no known format; name it all\.jsonl or all\.parquet$",
        tmp_path / "none/all.jsonl": r"lies in no folder; make it: mkdir -p .*none$",
    }.items():
        with pytest.raises(ExportTargetError, match=problem):
            export_store(full, target)
    assert path.read_text() == "mine"
    export_store(full, path, overwrite=True)
    assert path.read_text().startswith('{"kind":"store"')
    with pytest.raises(OptionError, match="no vector form 'hex'; choose one of base64, list, none"):
        export_store(full, path, vectors="hex", overwrite=True)


def test_files_that_cannot_be_imported_say_why(full: T4DX, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id")
    (tmp_path / "a.parquet").write_text("no")
    (tmp_path / "new.jsonl").write_text('{"kind":"store","format":99}\n')
    (tmp_path / "wide.jsonl").write_text(
        '{"kind":"store","format":1,"collections":[{"name":"default","dim":9}]}\n'
    )
    for name, problem in {
        "": r"is a folder; name the file: .*store\.jsonl$",
        "none.jsonl": r"does not exist; name a \.jsonl or \.parquet file$",
        "a.csv": r"has no known format; rename it to a\.jsonl or a\.parquet$",
        "a.parquet": "is no Parquet file",
        "new.jsonl": "has format 99, this version reads 1; pip install -U t4dm$",
        "wide.jsonl": "does not fit: collection .default. exists with dim=4 .*; or import it into a new",
    }.items():
        with pytest.raises(ImportFileError, match=problem):
            import_store(full, tmp_path / name)


def test_parquet_without_pyarrow_says_what_to_install(
    full: T4DX, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"pyarrow is not installed; run: pip install 't4dm\[data\]'"):
        export_store(full, tmp_path / "all.parquet")
    assert list(tmp_path.iterdir()) == []
