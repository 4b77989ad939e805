"""`t4dm store`: every verb for people and for programs, beside a writer, and one line for each mistake."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from t4dm.t4dx import T4DX, Edge, Item, Options

Cli = Callable[..., tuple[int, str, str]]
OS = Options(durability="os")


class Clock:
    """Every call is a day later, from 2026-01-01 on."""

    def __init__(self) -> None:
        self.now = 1767225600.0 - 86400.0

    def __call__(self) -> float:
        self.now += 86400.0
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with T4DX.open(tmp_path / "notes", dim=2, options=OS, clock=Clock()) as store:
        store.insert(Item(id="a", content="Ann is red", vector=np.array([1, 0], np.float32), session="s"))
        with store.transaction(id="night-1", undo=True) as tx:
            tx.insert(
                Item(
                    id="b",
                    content="Bob is blue",
                    vector=np.array([0, 1], np.float32),
                    type="semantic",
                    kappa=0.5,
                ),
                [Edge("b", "a", "MERGED_FROM", 0.25)],
            )
        store.flush()
        store.insert(
            Item(id="a", content="Ann is [green]", vector=np.array([1, 1], np.float32), metadata={"n": 3})
        )
    return tmp_path / "notes"


def rows(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_stats_for_people_and_programs(t4dm: Cli, path: Path) -> None:
    code, out, _ = t4dm("store", "stats", path)
    assert code == 0
    assert re.search(r"^items +2$", out, re.M)
    assert re.search(r"^collections +default \(2, cosine\)$", out, re.M)
    (row,) = rows(t4dm("store", "stats", path, "--json")[1])
    assert (row["items"], row["edges"], row["collections"]) == (
        *(2, 1),
        [{"name": "default", "dim": 2, "metric": "cosine"}],
    )


def test_get_tells_all_of_an_item_now_and_then(t4dm: Cli, path: Path) -> None:
    _, out, _ = t4dm("store", "get", path, "a")
    assert '"content": "Ann is [green]"' in out
    assert '"vector": "2 numbers"' in out
    (row,) = rows(t4dm("store", "get", path, "a", "--json")[1])
    assert (row["metadata"], row["edges"][0]["type"]) == ({"n": 3}, "MERGED_FROM")
    (row,) = rows(t4dm("store", "get", path, "a", "--as-of", "2026-01-02", "--json")[1])
    assert (row["content"], row["edges"]) == ("Ann is red", [])


def test_scan_is_newest_first_and_pages_and_filters(t4dm: Cli, path: Path) -> None:
    _, out, _ = t4dm("store", "scan", path)
    assert out.index("Ann is [green]") < out.index("Bob is blue")
    assert "2026-01-0" in out
    ids = [row["id"] for row in rows(t4dm("store", "scan", path, "--json")[1])]
    assert ids == ["a", "b"]
    for options, found in {
        ("--limit", "1"): ["a"],
        ("--offset", "1"): ["b"],
        ("--order", "id"): ["a", "b"],
        ("--type", "semantic"): ["b"],
        ("--where", '{"kappa": [0.2, null]}'): ["b"],
        ("--where", '{"where": {"n": {"gte": 3}}}'): ["a"],
        ("--as-of", "1e9"): [],
    }.items():
        _, out, _ = t4dm("store", "scan", path, *options, "--json")
        assert [row["id"] for row in rows(out)] == found, options


def test_search_by_numbers_by_file_and_by_item(t4dm: Cli, path: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "query.npy", np.array([0.0, 1.0]))
    for query in (("--vector", "0,1"), ("--vector", tmp_path / "query.npy"), ("--like", "b")):
        _, out, _ = t4dm("store", "search", path, *query, "--json")
        first, second = rows(out)
        assert (first["id"], first["score"], second["id"]) == ("b", 1.0, "a")
    _, out, _ = t4dm("store", "search", path, "--like", "b", "-k", "1", "--where", '{"type": "episodic"}')
    assert re.search(r"^0\.7071 +a +episodic +Ann is \[green\] *$", out, re.M)
    _, out, _ = t4dm("store", "search", path, "--vector", "1,0", "--as-of", "2026-01-02", "--explain")
    assert "Ann is red" in out
    assert "path=exact" in out


def test_search_by_words_alone_and_with_a_vector(t4dm: Cli, path: Path) -> None:
    _, out, _ = t4dm("store", "search", path, "--text", "GREEN?", "--json")
    assert [row["id"] for row in rows(out)] == ["a"]
    _, out, _ = t4dm("store", "search", path, "--text", "green", "--explain")
    assert re.search(r"^search=text +documents=\d +average=[\d.]+ +frequency=green:1$", out, re.M)
    assert re.search(r"^hit=a +score=[\d.]+ +green=[\d.]+$", out, re.M)
    _, out, _ = t4dm("store", "search", path, "--text", "red", "--as-of", "2026-01-02")
    assert "Ann is red" in out
    assert t4dm("store", "search", path, "--text", "green", "--collection", "nowhere", "--json")[1] == ""
    rank = 0.5 / 61 + 0.5 / 62
    for fusion, scores in (("weighted", {"a": 0.5, "b": 0.5}), ("rrf", {"a": rank, "b": 0.5 / 61})):
        query = ("--text", "green", "--vector", "0,1", "--fusion", fusion)
        _, out, _ = t4dm("store", "search", path, *query, "--json")
        assert {row["id"]: row["score"] for row in rows(out)} == pytest.approx(scores)


def test_a_timeline_tells_versions_edges_and_transactions_in_order(t4dm: Cli, path: Path) -> None:
    events = rows(t4dm("store", "timeline", path, "a", "--json")[1])
    assert [event["event"] for event in events] in (
        ["item", "edge", "transaction", "item ended", "item"],
        ["item", "transaction", "edge", "item ended", "item"],
        ["item", "edge", "transaction", "item", "item ended"],
        ["item", "transaction", "edge", "item", "item ended"],
    )
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)
    _, out, _ = t4dm("store", "timeline", path, "a")
    assert re.search(r"^2026-01-0\d 00:00:00 +edge +b -MERGED_FROM-> a \(0\.25\) *$", out, re.M)
    assert re.search(r"transaction +night-1 ", out)


def test_read_verbs_work_beside_a_writer_and_writing_ones_say_who_holds_it(
    t4dm: Cli, path: Path, tmp_path: Path
) -> None:
    (tmp_path / "more.jsonl").write_text('{"id": "m"}')
    with T4DX.open(path, options=OS):
        for verb in (
            ["stats"],
            ["get", "a"],
            ["scan"],
            ["search", "--like", "a"],
            ["timeline", "a"],
            ["verify"],
        ):
            assert t4dm("store", verb[0], path, *verb[1:])[0] == 0, verb
        assert t4dm("store", "backup", path, tmp_path / "copy")[0] == 0
        assert t4dm("store", "export", path, tmp_path / "all.jsonl")[0] == 0
        for verb in (["compact"], ["repair"], ["import", tmp_path / "more.jsonl"]):
            code, _, err = t4dm("store", verb[0], path, *verb[1:])
            assert code == 1
            holder = (
                rf"pid {os.getpid()} on .*; close it there, or use a verb that only reads: stats, get, scan, "
            )
            assert re.fullmatch(
                rf"t4dm: the store {path} is open for writing by {holder}"
                "search, timeline, verify, backup, export\n",
                err,
            )


def test_backup_restore_export_import_compact_go_round(t4dm: Cli, path: Path, tmp_path: Path) -> None:
    code, out, _ = t4dm("store", "backup", path, tmp_path / "copy", "--copy")
    assert (code, out) == (0, f"{tmp_path / 'copy'}: a verified copy of {path} up to LSN 5\n")
    _, out, _ = t4dm("store", "restore", tmp_path / "copy", tmp_path / "again", "--json")
    assert rows(out) == [{"target": str(tmp_path / "again"), "lsn": 5}]
    _, out, _ = t4dm("store", "export", tmp_path / "again", tmp_path / "all.jsonl", "--history")
    assert out == f"{tmp_path / 'all.jsonl'}: 3 items and 1 edges\n"
    _, out, _ = t4dm("store", "import", tmp_path / "new", tmp_path / "all.jsonl", "--json")
    assert rows(out) == [{"store": str(tmp_path / "new"), "items": 3, "edges": 1, "unchanged": 0}]
    _, out, _ = t4dm("store", "import", tmp_path / "new", tmp_path / "all.jsonl")
    assert out == f"{tmp_path / 'new'}: 3 items and 1 edges read, 4 were there already\n"
    (done,) = rows(t4dm("store", "compact", path, "--json")[1])
    assert done["segments_after"] == 1
    for store in (path, tmp_path / "new"):
        assert [row["content"] for row in rows(t4dm("store", "scan", store, "--json")[1])] == [
            *("Ann is [green]", "Bob is blue")
        ]


def test_a_users_file_makes_a_store(t4dm: Cli, tmp_path: Path) -> None:
    file, store = tmp_path / "mine.jsonl", tmp_path / "new"
    file.write_text('{"id": "x", "text": "hello", "page": 3}\n')
    code, _, err = t4dm("store", "import", store, file)
    assert (code, err) == (
        2,
        f"t4dm: {file} holds no vector that says how long they are; say it: --dim 1024\n",
    )
    assert not store.exists()
    assert t4dm("store", "import", store, file, "--dim", "3")[0] == 0
    (row,) = rows(t4dm("store", "get", store, "x", "--json")[1])
    assert (row["content"], row["metadata"]) == ("hello", {"page": 3})
    file.write_text('{"id": "y"}\n{"id": "z", "vector": [1]}\n')
    code, _, err = t4dm("store", "import", store, file)
    assert code == 1
    assert err.startswith(f"t4dm: line 2 of {file}: the vector of z has shape (1,)")
    assert err.endswith("nothing of its batch was stored, correct the line and run the import again\n")


def test_ctrl_c_in_an_import_says_how_to_go_on(
    t4dm: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from t4dm.apps import store_care

    file = tmp_path / "mine.jsonl"
    file.write_text("".join(f'{{"id": "i{n}"}}\n' for n in range(9)))

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    real = store_care.import_store
    monkeypatch.setattr(
        store_care, "import_store", lambda *args, **more: real(*args, **more | {"progress": stop})
    )
    code, _, err = t4dm("store", "import", tmp_path / "new", file, "--dim", "2", "--batch", "4")
    assert code == 130
    assert (
        err
        == f"t4dm: stopped; whole batches are stored, go on: t4dm store import {tmp_path / 'new'} {file}\n"
    )
    monkeypatch.undo()
    with T4DX.open(tmp_path / "new", read_only=True) as store:
        assert store.count() == 4


@pytest.fixture
def damaged(path: Path) -> Iterator[Path]:
    vectors = next(path.glob("segments/*/vectors_0.npy"))
    data = bytearray(vectors.read_bytes())
    data[-1] ^= 1
    vectors.write_bytes(data)
    return path


def test_verify_and_repair_tell_what_is_wrong_and_what_is_lost(t4dm: Cli, damaged: Path) -> None:
    assert t4dm("store", "verify", damaged, "--level", "quick")[0] == 0
    code, out, _ = t4dm("store", "verify", damaged)
    assert code == 1
    assert "vectors_0.npy: its checksum is wrong" in out
    assert out.endswith(
        f"level full: 1 problems; see what can be saved: t4dm store repair {damaged} --dry-run\n"
    )
    code, out, _ = t4dm("store", "repair", damaged, "--dry-run")
    assert code == 1
    assert "would do: segments/" in out
    assert t4dm("store", "verify", damaged)[0] == 1
    code, out, _ = t4dm("store", "repair", damaged, "--json")
    (report,) = rows(out)
    assert (code, report["ok"], report["dry_run"], report["lost_items"], report["items"]) == (
        1,
        False,
        False,
        2,
        1,
    )
    code, out, _ = t4dm("store", "repair", damaged)
    assert (code, out) == (0, f"{damaged}: nothing to repair, 1 versions of items and 1 of edges\n")
    code, out, _ = t4dm("store", "verify", damaged, "--level", "deep", "--json")
    assert (code, rows(out)[0]["problems"]) == (0, [])


def test_a_damaged_store_says_how_to_repair_it(t4dm: Cli, damaged: Path) -> None:
    code, _, err = t4dm("store", "search", damaged, "--vector", "0,1")
    assert code == 1
    assert err.startswith(f"t4dm: {damaged}/segments/")
    fix = f"see what can be saved: t4dm store repair {damaged} --dry-run"
    assert err.endswith(f"vectors_0.npy: its checksum is wrong; {fix}\n")


@pytest.mark.parametrize(
    ("verb", "code", "line"),
    [
        ("get PATH c", 1, "no item 'c' in PATH; list ids: t4dm store scan PATH"),
        ("timeline PATH c", 1, "no item 'c' in PATH; list ids: t4dm store scan PATH"),
        ("search PATH --like c", 1, "no item 'c' in PATH; list ids: t4dm store scan PATH"),
        ("search PATH --vector 0,1 -k 0", 2, "-k 0 asks for nothing; write -k 10"),
        (
            "search PATH",
            2,
            'say what to look for: --vector query.npy, --like ID, or --text "some words"',
        ),
        (
            "search PATH --text a --like a --fusion x",
            1,
            "no fusion 'x'; write fusion='rrf' or fusion='weighted'",
        ),
        (
            "search PATH --like a --vector 0,1",
            2,
            "give either a vector or an item: --vector query.npy, or --like ID",
        ),
        ("search PATH --vector 0,1,2", 2, "the query has shape [3]; pass [2] or [Q, 2]"),
        (
            "search PATH --vector x",
            2,
            "--vector 'x' is no list of numbers; write --vector \"0.1,0.2\", or a .npy file",
        ),
        (
            "search PATH --like a --collection none",
            2,
            "no collection 'none' (there is default); make it first: .*",
        ),
        ("scan PATH --where {", 2, "--where is not JSON (.*); write --where '{.*}'"),
        ("scan PATH --where []", 2, '--where is list; write an object: --where \'{"type": "semantic"}\''),
        ('scan PATH --where {"kapa":1}', 2, "--where: a filter has no field 'kapa'; choose from .*"),
        ("scan PATH --limit=-1", 2, "limit is -1; ask for limit=0 or more"),
        ("scan PATH --order colour", 2, ".*colour.*"),
        (
            "scan PATH --as-of soon",
            2,
            "--as-of 'soon' is no time; write 2026-03-01, 2026-03-01T12:00, or seconds",
        ),
        ("verify PATH --level all", 2, "no verify level 'all'; choose one of quick, full, deep"),
        (
            "verify PATH/none",
            1,
            "no store at PATH/none; list the runs, each has its own in store: t4dm runs ls",
        ),
        ("repair PATH/none", 1, "no store at PATH/none; .*"),
        (
            "backup PATH/none NEW",
            1,
            "PATH/none holds no store and no backup; name the folder that T4DX.open takes",
        ),
        ("restore PATH/segments NEW", 1, "PATH/segments holds no store and no backup; .*"),
        ("backup PATH PATH", 1, "PATH exists and is not empty; name a new folder, or remove it: rm -r PATH"),
        (
            "stats FILE",
            1,
            "no store at FILE; it is a file; name the folder of the store: t4dm store stats .*",
        ),
        (
            "export PATH FILE",
            1,
            "FILE exists; name another file, or replace it with overwrite=True (--force)",
        ),
        ("export PATH PATH", 1, "PATH is a folder; name a file in it: PATH/store.jsonl"),
        ("export PATH NEW.csv", 1, "NEW.csv has no known format; name it new.jsonl or new.parquet"),
        ("export PATH NEW.jsonl --vectors hex", 2, "no vector form 'hex'; choose one of base64, list, none"),
        ("import PATH PATH", 1, "PATH is a folder; name the file: PATH/store.jsonl"),
        ("import PATH NEW.jsonl", 1, "NEW.jsonl does not exist; name a .jsonl or .parquet file"),
        ("import PATH FILE --batch 0", 2, "--batch 0 is no number of lines; write --batch 1000"),
        ("import PARENT FILE", 2, "PARENT is no store and not empty; name a new folder for it"),
        ("stats PATH --key-file NEW", 2, "cannot read the key file NEW (.*); name another: --key-file .*"),
    ],
)
def test_a_mistake_costs_one_line(t4dm: Cli, path: Path, verb: str, code: int, line: str) -> None:
    file = path.parent / "mine.jsonl"
    file.write_text('{"id": "x"}\n')
    places = {"PATH": path, "FILE": file, "NEW": path.parent / "new", "PARENT": path.parent}

    def filled(text: str) -> str:
        for name, place in places.items():
            text = text.replace(name, str(place))
        return text

    got, out, err = t4dm("store", *map(filled, verb.split(" ")))
    assert (got, out, err.count("\n")) == (code, "", 1)
    wanted = re.escape(filled(line)).replace(r"\.\*", ".*")
    assert re.fullmatch(f"t4dm: {wanted}\n", err), err


def test_a_signed_store_is_read_with_its_key_file(t4dm: Cli, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"0123456789abcdef\n")
    with T4DX.open(tmp_path / "s", dim=2, key=b"0123456789abcdef", options=OS) as store:
        store.insert(Item(id="a"))
    code, _, err = t4dm("store", "scan", tmp_path / "s")
    assert code == 1
    assert "is signed with a key" in err
    for verb in (["scan"], ["verify"], ["compact"], ["backup", tmp_path / "copy"], ["repair"]):
        assert t4dm("store", verb[0], tmp_path / "s", *verb[1:], "--key-file", tmp_path / "key")[0] == 0, verb
