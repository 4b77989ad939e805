"""BM25 over what is visible: by hand, against rank-bm25, in the past, with filters, after crashes."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from naive_bm25 import ranking
from simulated_fs import Crash, SimulatedFileSystem
from store_model import Ticks

from t4dm.errors import FilterError, TextQueryError
from t4dm.t4dx import T4DX, Analyzer, AsOf, Bm25, F, Filter, Item, Options, text_index

CLASSIC = Bm25(k1=1.5, b=0.75)
GOLDEN = json.loads((Path(__file__).parent / "golden" / "rank_bm25.json").read_text())
THREE = {"ann": "the cat sat", "ben": "the dog", "cid": "a dog and a dog ran"}


def fresh(fs: SimulatedFileSystem | None = None, clock: object = None) -> T4DX:
    options = Options(durability="os", background=False)
    return T4DX.open("s", dim=2, options=options, clock=clock or Ticks(0.0), fs=fs or SimulatedFileSystem())


def filled(texts: dict[str, str], *, flushed: bool = False) -> T4DX:
    store = fresh()
    store.insert_many([Item(id=name, content=text) for name, text in texts.items()])
    if flushed:
        store.flush()
    return store


def found(store: T4DX, text: str, k: int = 10, **options: object) -> list[tuple[str, float]]:
    return [(hit.id, pytest.approx(hit.score, abs=1e-12)) for hit in store.search_text(text, k, **options)]


def test_three_documents_worked_out_by_hand() -> None:
    # 3 documents of 3, 2 and 6 words, 11/3 on average; "dog" stands in 2 of them, "cat" in 1.
    # idf(dog) = ln(1 + 1.5 / 2.5) = ln 1.6, idf(cat) = ln(1 + 2.5 / 1.5) = ln(8 / 3).
    # ben: f = 1, 1.5 * (0.25 + 0.75 * 2 * 3 / 11) = 0.988636, so 2.5 / 1.988636 = 1.257143
    # cid: f = 2, 1.5 * (0.25 + 0.75 * 6 * 3 / 11) = 2.215909, so 5 / 4.215909 = 1.185984
    # ann: f = 1, 1.5 * (0.25 + 0.75 * 3 * 3 / 11) = 1.295455, so 2.5 / 2.295455 = 1.089109
    store = filled(THREE)
    dog = {"ben": math.log(1.6) * 1.2571428571, "cid": math.log(1.6) * 1.1859838275}
    cat = math.log(8 / 3) * 1.0891089109
    assert dict(found(store, "dog", bm25=CLASSIC)) == pytest.approx(dog, abs=1e-9)
    assert dict(found(store, "A cat? A DOG!", bm25=CLASSIC)) == pytest.approx(
        {**dog, "ann": cat, "cid": dog["cid"] + 2 * math.log(8 / 3) * 5 / 4.2159090909}, abs=1e-9
    )
    assert store.search_text("dog", 2, bm25=CLASSIC).ids == ["ben", "cid"]
    assert store.search_text("dog dog", 1, bm25=CLASSIC)[0].score == pytest.approx(2 * dog["ben"], abs=1e-9)


@pytest.mark.parametrize("variant", ["okapi", "plus"])
@pytest.mark.parametrize("flushed", [False, True])
def test_scores_are_those_of_rank_bm25(variant: str, flushed: bool) -> None:
    store = filled({f"{n:03d}": text for n, text in enumerate(GOLDEN["documents"])}, flushed=flushed)
    for query, scores in zip(GOLDEN["queries"], GOLDEN[variant], strict=True):
        hits = store.search_text(query, 1000, bm25=Bm25(variant=variant, k1=1.5, b=0.75))
        held = [n for n, text in enumerate(GOLDEN["documents"]) if set(text.split()) & set(query.split())]
        assert {int(hit.id): hit.score for hit in hits} == pytest.approx(
            {n: scores[n] for n in held if scores[n] > 0}, abs=1e-9
        )


@pytest.mark.parametrize("variant", ["okapi", "plus"])
def test_scores_are_those_of_rank_bm25_where_it_is_installed(variant: str) -> None:
    judge = pytest.importorskip("rank_bm25")
    documents = [text.split() for text in GOLDEN["documents"]]
    made = {"okapi": judge.BM25Okapi, "plus": judge.BM25Plus}[variant](documents)
    for query, scores in zip(GOLDEN["queries"], GOLDEN[variant], strict=True):
        assert made.get_scores(query.split()).tolist() == pytest.approx(scores, abs=1e-12)


@pytest.mark.parametrize("variant", ["lucene", "okapi", "plus"])
def test_every_variant_equals_the_naive_one_over_parts_of_every_kind(variant: str) -> None:
    rng, store, bm25 = random.Random(1), fresh(), Bm25(variant=variant, k1=1.2, b=0.6, delta=0.5)
    words = [f"w{n}" for n in range(30)]
    texts = {f"{n:03d}": " ".join(rng.choices(words, k=rng.randrange(9))) for n in range(120)}
    for n, (name, text) in enumerate(texts.items()):
        store.insert(Item(id=name, content=text))
        if n in (40, 80):
            store.flush()
    for name in list(texts)[::7]:
        store.delete(name)
        del texts[name]
    for query in ("w1 w2 w3", "w1 w1 w29 w99", "w5"):
        hits = store.search_text(query, 200, bm25=bm25)
        wanted = ranking({name: text.split() for name, text in texts.items()}, query.split(), bm25)
        assert [hit.id for hit in hits] == [name for name, _ in wanted]
        assert [hit.score for hit in hits] == pytest.approx([score for _, score in wanted], abs=1e-9)


@pytest.mark.parametrize("text", ["", "...", "unicorn", "¿?"])
def test_a_query_without_known_words_finds_nothing(text: str) -> None:
    assert len(filled(THREE).search_text(text, 5)) == 0
    assert len(fresh().search_text("cat", 5)) == 0


def test_k_bounds_the_hits_and_zero_is_none() -> None:
    store = filled(THREE)
    assert len(store.search_text("dog the", 0)) == 0
    assert len(store.search_text("dog the", 99)) == 3
    with pytest.raises(FilterError, match="k=0"):
        store.search_text("dog", -1)
    with pytest.raises(TextQueryError, match="pass a string"):
        store.search_text(3, 5)  # type: ignore[arg-type]


@pytest.mark.parametrize("flushed", [False, True])
def test_equal_scores_tie_by_id(flushed: bool) -> None:
    names = [f"{n:03d}" for n in np.random.default_rng(0).permutation(400)]
    store = filled({name: "same words" for name in names} | {"other": "else"}, flushed=flushed)
    assert store.search_text("words", 7).ids == sorted(names)[:7]


def test_unspaced_scripts_and_folded_letters_are_found() -> None:
    store = filled({"tokyo": "東京都に住んでいる", "kyoto": "京都の寺", "berlin": "Große Straße"})
    assert store.search_text("東京", 5).ids[0] == "tokyo"
    assert store.search_text("寺", 5).ids == ["kyoto"]
    assert store.search_text("STRASSE", 5).ids == ["berlin"]


def test_superseded_and_deleted_texts_leave_the_statistics() -> None:
    store = filled({**THREE, "old": "dog dog dog", "gone": "cat"}, flushed=True)
    store.insert(Item(id="old", content="a new bird"))
    store.delete("gone")
    kept = {name: text.split() for name, text in {**THREE, "old": "a new bird"}.items()}
    assert found(store, "dog cat") == ranking(kept, ["dog", "cat"], Bm25())
    assert store.search_text("dog", 9, explain=True).plan[0] == {
        "search": "text",
        "documents": 4,
        "average": 14 / 4,
        "frequency": {"dog": 2},
    }


def test_the_past_is_searched_with_the_statistics_of_then() -> None:
    now = [100.0]
    store = fresh(clock=lambda: now[0])
    store.insert_many([Item(id=name, content=text) for name, text in THREE.items()])
    before = found(store, "dog cat")
    now[0] = 200.0
    store.close_item("ben")
    store.insert(Item(id="cid", content="cat cat"))
    store.insert(Item(id="dot", content="dog"))
    for step in (lambda: None, store.flush, store.compact):
        step()
        assert found(store, "dog cat", as_of=150.0) == before
        assert found(store, "dog cat", as_of=AsOf(record=150.0)) == before
        assert found(store, "dog", as_of=50.0) == []
        assert [name for name, _ in found(store, "dog cat")] == ["dot", "cid", "ann"]


def test_filters_narrow_the_answer_and_not_the_statistics() -> None:
    store, rng = fresh(), random.Random(3)
    texts = {f"{n:03d}": " ".join(rng.choices("abcdef", k=6)) for n in range(300)}
    store.insert_many(
        [
            Item(id=i, content=t, session=f"s{n % 2}", metadata={"n": n})
            for n, (i, t) in enumerate(texts.items())
        ]
    )
    for _ in range(2):
        whole = found(store, "a b b", 999)
        odd = [pair for pair in whole if int(pair[0]) % 2]
        few = [pair for pair in whole if int(pair[0]) < 5]
        assert found(store, "a b b", 999, where=Filter(session="s1")) == odd
        assert found(store, "a b b", 3, where=Filter(session="s1")) == odd[:3]
        assert found(store, "a b b", 999, where=Filter(where=F("n") < 5)) == few
        assert found(store, "a b b", 9, where=Filter(ids=("004", "001", "x", "000", "003", "002"))) == few
        assert found(store, "a", 9, where=Filter(session="nowhere")) == []
        store.flush()
    plan = store.search_text("a b", 9, Filter(ids=("001",)), explain=True).plan
    assert [line["path"] for line in plan if "path" in line] == ["skipped", "rows"]


def test_a_corpus_takes_the_statistics_over_itself() -> None:
    store = fresh()
    for n, (name, text) in enumerate(THREE.items()):
        store.insert(Item(id=name, content=text, session="mine"))
        store.insert(Item(id=f"{n}", content="dog cat dog", session="other"))
    mine = Filter(session="mine")
    wanted = ranking({name: text.split() for name, text in THREE.items()}, ["dog", "cat"], Bm25())
    assert found(store, "dog cat", where=mine, corpus=mine) == wanted
    assert found(store, "dog cat", where=mine) != wanted


def test_explain_tells_what_each_word_adds() -> None:
    for variant in ("lucene", "plus"):
        hits = filled(THREE).search_text("the dog", 3, bm25=Bm25(variant=variant), explain=True)
        lines = [line for line in hits.plan if "hit" in line]
        assert [line["hit"] for line in lines] == hits.ids
        for line, hit in zip(lines, hits, strict=True):
            assert line["the"] + line.get("dog", 0.0) == pytest.approx(hit.score) if "the" in line else True
            assert set(line) <= {"hit", "score", "the", "dog"}
        assert set(lines[0]) == {"hit", "score", "the", "dog"}


def test_analyzers_have_an_index_each() -> None:
    store = filled({"a": "the dog", "b": "dog"})
    plain, stopped = found(store, "the dog"), found(store, "the dog", analyzer=Analyzer(stop=("the",)))
    assert [name for name, _ in plain] == ["a", "b"]
    assert stopped == [("a", stopped[1][1]), ("b", stopped[0][1])]
    assert found(store, "the dog") == plain


def test_a_snapshot_keeps_its_words() -> None:
    store = filled(THREE)
    snapshot, before = store.snapshot(), found(store, "dog")
    store.insert(Item(id="new", content="dog"))
    assert found(snapshot, "dog") == before  # type: ignore[arg-type]
    assert len(store.search_text("dog", 9)) == 3
    store.flush()
    assert found(snapshot, "dog") == before  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"variant": "bm26"}, "choose one of lucene, okapi, plus"),
        ({"k1": 0.0}, "k1 above 0"),
        ({"b": 1.5}, r"b in \[0, 1\]"),
        ({"delta": math.nan}, "from 0 on"),
    ],
)
def test_constants_that_are_none_are_refused(made: dict[str, object], message: str) -> None:
    with pytest.raises(TextQueryError, match=message):
        Bm25(**made)  # type: ignore[arg-type]


def many(n: int = 300) -> list[Item]:
    rng = random.Random(n)
    return [Item(id=f"{i:03d}", content=" ".join(rng.choices("abcdefgh東京", k=5))) for i in range(n)]


def paths(fs: SimulatedFileSystem) -> list[str]:
    return [f"s/text/{name}" for name in fs.listdir("s/text")]


def how(store: T4DX) -> list[object]:
    return [line["index"] for line in store.search_text("a", 1, explain=True).plan if "index" in line]


def test_a_segments_postings_are_made_once_and_read_after_a_reopen() -> None:
    fs = SimulatedFileSystem()
    with fresh(fs) as store:
        store.insert_many(many())
        store.flush()
        before = found(store, "a c 京", 999)
        assert len(paths(fs)) == 1
        assert how(store) == ["grown", "kept"]
    with fresh(fs) as store:
        assert how(store) == ["grown", "read"]
        assert found(store, "a c 京", 999) == before
    reader = T4DX.open("s", read_only=True, fs=fs)
    assert how(reader) == ["grown", "read"]
    assert found(reader, "a c 京", 999) == before


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other", "gone"])
def test_a_damaged_index_is_made_anew(damage: str) -> None:
    fs = SimulatedFileSystem()
    with fresh(fs) as store:
        store.insert_many(many())
        store.flush()
        before = found(store, "a c", 999)
    path = paths(fs)[0]
    whole = fs.read(path)
    fs.unlink(path)
    if damage != "gone":
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        shorn = {"flip": flipped, "cut": whole[:middle], "empty": b"", "other": whole[:100] + b"x" * 400}
        fs.write_new(path, shorn[damage])
    for expected in ("made", "read"):
        with fresh(fs) as store:
            assert how(store) == ["grown", expected]
            assert found(store, "a c", 999) == before
    assert fs.read(path) == whole
    with fresh(fs) as store:
        assert store.verify("deep").ok


def test_an_index_of_other_texts_is_not_believed() -> None:
    fs, other = SimulatedFileSystem(), SimulatedFileSystem()
    for disk, items in ((fs, many()), (other, [Item(id=i.id, content="z " + i.content) for i in many()])):
        with fresh(disk) as store:
            store.insert_many(items)
            store.flush()
            store.search_text("a", 1)
    path = paths(fs)[0]
    assert paths(other) == [path]
    fs.unlink(path)
    fs.write_new(path, other.read(path))
    with fresh(fs) as store:
        assert len(store.search_text("z", 5)) == 0
        assert how(store) == ["grown", "kept"]


def test_indexes_of_segments_that_are_gone_are_removed() -> None:
    fs = SimulatedFileSystem()
    store = fresh(fs)
    for start in (0, 300):
        store.insert_many([Item(id=f"{start}{i.id}", content=i.content) for i in many()])
        store.flush()
        store.search_text("a", 1)
    assert len(paths(fs)) == 2
    store.compact()
    store.search_text("a", 1)
    assert len(paths(fs)) == 1


def test_a_reader_leaves_nothing() -> None:
    fs = SimulatedFileSystem()
    with fresh(fs) as store:
        store.insert_many(many())
        store.flush()
    calls = fs.calls
    reader = T4DX.open("s", read_only=True, fs=fs)
    assert len(reader.search_text("a", 5)) == 5
    assert fs.calls == calls
    assert not fs.exists("s/text")


@pytest.mark.parametrize("mode", ["all", "synced", "some"])
def test_a_crash_at_any_call_of_leaving_an_index_costs_no_answer(mode: str) -> None:
    base = SimulatedFileSystem()
    with fresh(base) as store:
        store.insert_many(many())
        store.flush()
    whole = base.after_crash("all")
    with fresh(whole) as store:
        first, before, last = whole.calls, found(store, "a c", 99), whole.calls
    assert last - first >= 3  # a folder, a file with its bytes, its name
    for call in range(first + 1, last + 1):
        disk = base.after_crash("all", crash_at=call)
        with pytest.raises(Crash):  # noqa: SIM117
            with fresh(disk) as store:
                store.search_text("a c", 99)
        again = disk.after_crash(mode, seed=call)
        with fresh(again) as store:
            assert found(store, "a c", 99) == before
            assert store.verify("full").ok


def test_a_disk_that_refuses_the_index_is_no_failure() -> None:
    base = SimulatedFileSystem()
    with fresh(base) as store:
        store.insert_many(many())
        store.flush()
        before = found(store.snapshot(), "a", 9)  # type: ignore[arg-type]
    disk = base.after_crash("all")
    for path in paths(disk):
        disk.unlink(path)
    with fresh(disk) as store:
        disk.fail_at, disk.forever = disk.calls + 1, True
        assert found(store, "a", 9) == before
        disk.fail_at, disk.forever = 0, False
        store.insert(Item(id="later", content="a"))  # the store itself was not touched by it


def test_threads_that_search_first_at_the_same_time_find_the_same() -> None:
    from concurrent.futures import ThreadPoolExecutor

    store = filled({item.id: item.content for item in many(600)})
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: store.search_text("a b", 20).ids, range(16)))
    assert all(ids == answers[0] for ids in answers)


def test_a_second_process_finds_the_words_of_the_first(tmp_path: Path) -> None:
    with T4DX.open(tmp_path / "s", dim=2) as store:
        store.insert_many(many())
        store.flush()
        store.insert(Item(id="fresh", content="a unicorn"))
        wanted = store.search_text("a unicorn", 5).ids
        code = (
            "import sys; from t4dm.t4dx import T4DX\n"
            "with T4DX.open(sys.argv[1], read_only=True) as s: print(*s.search_text('a unicorn', 5).ids)"
        )
        told = subprocess.run([sys.executable, "-c", code, tmp_path / "s"], capture_output=True, text=True)
    assert told.stdout.split() == wanted, told.stderr
    assert wanted[0] == "fresh"


def test_small_segments_leave_no_file() -> None:
    fs = SimulatedFileSystem()
    store = fresh(fs)
    store.insert_many(many(text_index.WORTH - 1))
    store.flush()
    assert len(store.search_text("a", 5)) == 5
    assert not fs.exists("s/text")
