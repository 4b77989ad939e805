"""The speed table's searches, at a tiny size, with what needs no further package: T4DX, faiss and hnswlib."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("faiss")
ROOT = Path(__file__).resolve().parents[2]
N, DIM = 300, 16


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    import experiments.storage_bench as package
    from experiments.storage_bench import indexed, report, searches, sets, systems, targets  # noqa: F401

    monkeypatch.setattr(sets, "QUERIES", 40)
    return package


@pytest.fixture
def content(bench: ModuleType, tmp_path: Path) -> Any:
    return bench.sets.make("easy", N, DIM, cache=tmp_path / "data")


@pytest.fixture
def setting(bench: ModuleType, content: Any, tmp_path: Path) -> Any:
    """T4DX and faiss, indexed."""
    from experiments.storage_bench.groups import Setting

    made = Setting(content, tmp_path / "stores", tmp_path / "scratch", 2, 6, 1.0, ("t4dx", "faiss"))
    made.scratch.mkdir()
    for label in made.engines:
        bench.indexed.index(label, made)
    return made


@pytest.mark.parametrize("name", ["easy", "harder", "50x8"])
def test_queries_are_not_stored(bench: ModuleType, tmp_path: Path, name: str) -> None:
    dim = 64 if name == "harder" else DIM
    data = bench.sets.make(name, N, dim, cache=tmp_path)
    again = bench.sets.make(name, N, dim, cache=tmp_path)
    queries = np.concatenate(bench.sets.sides(data))
    assert (data.n, data.dim) == ((50, 8) if name == "50x8" else (N, dim))
    assert len(data.vectors) == data.n + (120 if name == "easy" else 0) + 40
    assert (data.vectors[: data.n] @ queries.T).max() < 1.0 - 1e-6
    assert np.allclose(np.linalg.norm(data.vectors, axis=1), 1.0, atol=1e-5)
    assert np.array_equal(again.vectors, data.vectors)
    assert (again.ids, again.kappas.tolist()) == (data.ids, data.kappas.tolist())


def test_sentences_come_from_their_cache(bench: ModuleType, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "minilm").mkdir()
    for name, count in (("stored", 30), ("asked", 50)):
        np.save(tmp_path / "minilm" / f"{name}.npy", rng.standard_normal((count, 4)).astype(np.float32))
    if not bench.sets.SHARED.exists():
        pytest.skip("the texts are not here")
    data = bench.sets.make("minilm", N, DIM, cache=tmp_path)
    assert (data.n, data.dim, len(data.vectors)) == (30, 4, 70)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.001])
def test_a_filter_passes_its_share_of_the_rows(bench: ModuleType, tmp_path: Path, share: float) -> None:
    data = bench.sets.make("8192x2", N, DIM, cache=tmp_path)
    passing = int((data.kappas <= bench.sets.below(share)).sum())
    assert passing == pytest.approx(share * len(data.kappas), abs=2)


def test_the_truth_is_that_of_a_sort(bench: ModuleType, content: Any) -> None:
    rows, queries = np.arange(3, N, 7), content.vectors[-5:]
    scores = queries.astype(np.float64) @ content.vectors[rows].T.astype(np.float64)
    wanted = [{content.ids[rows[place]] for place in line} for line in np.argsort(-scores, axis=1)[:, :10]]
    assert bench.sets.truth(content, queries, 10, rows) == wanted
    assert [len(ids) for ids in bench.sets.truth(content, queries, 10, rows[:4])] == [4] * 5


class Halting:
    """Finds the share `effort` of what it is asked for; of the second half of the queries a little less."""

    efforts = (0.5, 0.99, 0.992, 1.0)

    def __init__(self, truth: dict[bytes, set[str]], late: set[bytes]) -> None:
        self.effort, self._truth, self._late = 1.0, truth, late

    def search(self, query: Any) -> list[str]:
        share = self.effort - (0.001 if query.tobytes() in self._late and self.effort < 1.0 else 0.0)
        names = sorted(self._truth[query.tobytes()])
        return names[: round(share * len(names))]


@pytest.fixture
def halting(bench: ModuleType, content: Any) -> tuple[Any, Any]:
    """A store that needs its third effort, and its exam: 1000 ids for each query."""
    sides = bench.sets.sides(content)
    names = {str(number) for number in range(1000)}
    exam = bench.searches.Exam(sides, *([names for _ in half] for half in sides))
    truth = {query.tobytes(): names for half in sides for query in half}
    return Halting(truth, {query.tobytes() for query in sides.judged}), exam


def test_the_least_effort_that_finds_enough_on_both_halves_is_taken(
    bench: ModuleType, halting: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.99 is enough where it is tuned, and 0.989 where it is judged: so the next one."""
    monkeypatch.setattr(bench.searches, "K", 1000)
    store, exam = halting
    assert bench.searches.tuned(store, store.search, exam) == (0.992, pytest.approx(0.991))
    assert store.effort == 0.992


def test_what_cannot_find_enough_is_told_by_its_best(
    bench: ModuleType, halting: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.searches, "K", 1000)
    store, exam = halting
    store.efforts = (0.5, 0.98)
    assert bench.searches.tuned(store, store.search, exam) == (0.98, pytest.approx(0.98))


def test_each_system_states_the_recall_it_has(bench: ModuleType, setting: Any) -> None:
    found = bench.searches.nearest(setting)
    assert set(found["systems"]) == {"t4dx", "t4dx default", "faiss"}
    for entry in found["systems"].values():
        assert entry["recall"] >= 0.99
        assert (entry["rounds"], entry["calls"]) == (2, 12)
    assert found["systems"]["t4dx"]["effort"] == (0.9, 32)
    assert found["systems"]["t4dx default"]["effort"] is None


def test_a_system_that_finds_too_little_has_no_times(bench: ModuleType, setting: Any) -> None:
    searches = bench.searches
    stores, _ = searches.opened(("t4dx", "faiss"), setting)
    asks: dict[str, Any] = {
        "t4dx": lambda vector: stores["t4dx"].search(vector, 10),
        "faiss": lambda vector: stores["faiss"].search(vector, 5),
    }
    exams = dict.fromkeys(stores, searches.exam(setting))
    systems, missing = searches.compared(searches.Race("search", asks, stores, exams), setting)
    searches.closed(stores)
    assert list(systems) == ["t4dx"]
    assert [(entry.label, entry.why[:10]) for entry in missing] == [("faiss, search", "recall 0.5")]


def test_a_filtered_answer_holds_what_passes(bench: ModuleType, setting: Any) -> None:
    found = bench.searches.filtered(setting)
    kappas = setting.data.kappas[:N]
    for name, share in bench.searches.SHARES.items():
        entry = found["systems"]["t4dx"][name]
        assert entry["matches"] == int((kappas <= bench.sets.below(share)).sum())
        assert entry["recall"] == 1.0


def test_two_threads_answer_a_batch_as_one_does(bench: ModuleType, setting: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    stores, _ = bench.searches.opened(("t4dx", "faiss"), setting)
    queries = setting.data.vectors[-7:]
    with ThreadPoolExecutor(2) as pool:
        parts = bench.searches._halves(stores["t4dx"], pool)(queries)
    singly = [stores["t4dx"].search(query, 10) for query in queries]
    assert [hits for part in parts for hits in part] == stores["t4dx"].search_many(queries, 10) == singly
    assert [set(hits) for hits in stores["faiss"].search_many(queries, 10)] == [set(hits) for hits in singly]
    bench.searches.closed(stores)
    found = bench.searches.batch(setting)
    assert set(found["systems"]) == {"t4dx 1 thread", "t4dx 2 threads", "faiss"}


def test_fresh_rows_lie_in_three_segments_and_the_memtable(bench: ModuleType, setting: Any) -> None:
    from experiments.storage_bench.groups import copies

    assert bench.indexed.fresh(setting)["systems"]["t4dx"]["recall"] == 1.0
    stores, _ = copies(("t4dx",), setting)
    stores["t4dx"].close()
    store = bench.indexed.with_fresh(setting, N // 10)
    held = store.stats()
    store.close()
    assert (held["items"], held["segments"], held["memtable_items"]) == (N + 120, 4, 30)


def test_the_past_and_the_present_have_answers_of_their_own(bench: ModuleType, setting: Any) -> None:
    """Row 0 gets the vector of the first fresh row: its new place is found now, its old one then."""
    from experiments.storage_bench.groups import copies

    data = setting.data
    stores, _ = copies(("t4dx",), setting)
    moment, after = bench.indexed._replaced(stores["t4dx"], setting)
    old, new = data.vectors[0], data.vectors[N]
    assert after == {0: N, 100: N + 1, 200: N + 2}
    assert stores["t4dx"].search(new, 1) == [data.ids[0]]
    assert stores["t4dx"].search_as_of(old, 1, moment) == [data.ids[0]]
    assert stores["t4dx"].search(old, 1) != [data.ids[0]]
    asked = bench.indexed._now(setting, after)
    assert not {data.ids[row] for row in after.values()} & set().union(*asked.judged)
    stores["t4dx"].close()
    found = bench.indexed.as_of(setting)
    assert {label: entry["recall"] for label, entry in found["systems"].items()} == {"now": 1.0, "as of": 1.0}


def test_reopening_ends_with_the_first_answer(bench: ModuleType, setting: Any) -> None:
    found = bench.indexed.reopened(setting)
    assert list(found["systems"]) == ["t4dx os"]
    assert found["systems"]["t4dx os"]["rounds"] == 5


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the kernel does not tell")
def test_anonymous_memory_grows_by_what_is_held() -> None:
    """In a process of its own: what others have freed may serve this one."""
    script = (
        "import numpy as np; from experiments.storage_bench.anonymous import anonymous; "
        "before = anonymous(); held = np.ones(8_000_000); print(anonymous() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 60e6 < float(done.stdout) < 70e6


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the kernel does not tell")
def test_a_store_has_a_footprint(bench: ModuleType, setting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = bench.indexed.footprint(setting)
    ours = found["systems"]["t4dx"]
    assert 0.1 < ours["memory"]["value"] < 200
    files = sum(
        file.stat().st_blocks * 512 for file in (setting.stores / "t4dx").rglob("*") if file.is_file()
    )
    assert ours["disk"]["value"] == pytest.approx(files / (N * DIM * 4))
    assert "memory" not in found["systems"]["raw vectors"]


def steps(arguments: list[str]) -> Iterator[str]:
    from experiments.storage_bench import __main__ as command

    return iter(command.wanted(command.parse(arguments)))


def test_a_set_is_indexed_before_it_is_searched(bench: ModuleType) -> None:
    found = list(
        steps(["--only", "search", "--systems", "t4dx,kuzu", "--sizes", "500,900", "--scaling-dim", "8"])
    )
    assert found[:5] == [
        "index easy t4dx",
        "index easy kuzu",
        "index harder t4dx",
        "index minilm t4dx",
        "index minilm kuzu",
    ]
    assert found[-4:] == ["index 500x8 t4dx", "scaling 500x8", "index 900x8 t4dx", "scaling 900x8"]
    assert set(found[5:-4]) == {
        "nearest", "nearest_harder", "nearest_minilm", "fresh", "filter", "reopen_search", "footprint",
        "batch", "as_of", "search_shares", "search_floors",
    }  # fmt: skip


def test_everything_includes_the_searches_once(bench: ModuleType) -> None:
    found = list(steps(["--systems", "t4dx", "--sizes", "500"]))
    assert set(steps(["--only", "search", "--systems", "t4dx", "--sizes", "500"])) < set(found)
    assert len(set(found)) == len(found)


def entry(name: str, systems: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name, "systems": systems, "missing": [], "others": 0.0, "machine": "m", "size": [10, 2],
        "calibration": [{"matvec10K_ms": 1.0, "python_loop_ms": 1.0, "append_fdatasync_ms": 1.0}],
        "versions": {}, "command": "make bench", "when": "2026-01-01",
    }  # fmt: skip


def times(milliseconds: float) -> dict[str, Any]:
    return {"p50": milliseconds, "p99": 9.0, "rounds_p50": [milliseconds], "rounds": 1, "recall": 0.991}


def test_each_selectivity_is_a_row_of_its_own(bench: ModuleType) -> None:
    ours = {"durability": "reads only", "50 %": times(0.3), "0.1 %": times(0.2)}
    theirs = {"durability": "reads only", "50 %": times(1.0), "0.1 %": times(0.1)}
    rows = bench.report.rows_of([entry("filter", {"t4dx": ours, "qdrant-edge": theirs})])
    judged = {row["bench"]: (row["ratio"], row["target"], row["met"]) for row in rows if row["target"]}
    assert judged == {"filter_50": (0.3, "<= 0.4", True), "filter_01": (2.0, "<= 1.3", False)}
    assert {row["recall"] for row in rows} == {0.991}


def test_memory_and_disk_are_figures_of_their_own_kind(bench: ModuleType) -> None:
    ours = {"durability": "-", "memory": {"value": 20.0, "rounds": 1}, "disk": {"value": 1.5, "rounds": 1}}
    stored = [
        entry(
            "footprint",
            {
                "t4dx": ours,
                "chroma": {"durability": "-", "memory": {"value": 100.0, "rounds": 1}},
                "raw vectors": {"durability": "-", "disk": {"value": 1.0, "rounds": 1}},
            },
        )
    ]
    rows = bench.report.rows_of(stored)
    assert [(r["bench"], r["system"], r["ratio"], r["met"]) for r in rows if r["target"]] == [
        ("memory", "t4dx", 0.2, True),
        ("disk", "t4dx", 1.5, False),
    ]
    page = bench.report.page(rows, stored)
    assert "| 20 anonymous MB | chroma: 100 anonymous MB | 0.2 |" in page
    assert "| 1.5 x raw | raw vectors: 1 x raw | 1.5 |" in page


def test_a_second_peer_adds_only_its_own_row(bench: ModuleType) -> None:
    labels = ("t4dx os", "kuzu", "qdrant-edge", "lancedb")
    opened = {label: {**times(place + 1.0), "durability": "-"} for place, label in enumerate(labels)}
    rows = bench.report.rows_of([entry("reopen_search", opened)])
    assert [row["system"] for row in rows if row["bench"] == "reopen_search"] == [
        "t4dx os", "kuzu", "lancedb", "qdrant-edge"
    ]  # fmt: skip
    assert [row["system"] for row in rows if row["bench"] == "reopen_search_qdrant"] == [
        "t4dx os",
        "qdrant-edge",
    ]


def test_only_the_easy_loads_are_judged(bench: ModuleType) -> None:
    load = {"rate": 100.0, "seconds": 1.0, "durability": "-", "rounds": 1}
    stored = [
        entry("index easy t4dx", {"t4dx": load}),
        entry("index easy lancedb", {"lancedb": load | {"rate": 50.0, "seconds": 2.0}}),
        entry("index harder t4dx", {"t4dx": load | {"rate": 1.0, "seconds": 100.0}}),
    ]
    (row,) = [row for row in bench.report.rows_of(stored) if row["target"]]
    assert (row["value"], row["ratio"], row["met"]) == (100.0, 0.5, True)


def test_sizes_have_rows_and_a_picture_without_a_target(bench: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ours = {"t4dx": {**times(0.5), "durability": "-"}}
    stored = [entry("scaling 10000x8", ours), entry("scaling 1000x8", ours)]
    bench.report.write(stored, tmp_path)
    rows = json.loads((tmp_path / "benchmarks.json").read_text())["rows"]
    assert [(row["bench"], row["target"], row["met"]) for row in rows] == [
        ("scaling_1000x8", None, None),
        ("scaling_10000x8", None, None),
    ]
    assert (tmp_path / "images" / "benchmarks_scaling.svg").exists()
    assert "images/benchmarks_scaling.svg" in (tmp_path / "benchmarks.md").read_text()


def test_a_search_group_runs_from_the_command_line(bench: ModuleType, tmp_path: Path) -> None:
    run = [sys.executable, "-m", "experiments.storage_bench", "--n", "100", "--dim", "8", "--rounds", "2"]
    run += ["--calls", "5", "--budget", "0.1", "--systems", "t4dx", "--only", "scaling", "--sizes", "120"]
    run += ["--scaling-dim", "8", "--work", str(tmp_path / "work"), "--docs", str(tmp_path / "docs")]
    subprocess.run(run, cwd=ROOT, check=True, capture_output=True)
    rows = json.loads((tmp_path / "docs" / "benchmarks.json").read_text())["rows"]
    assert [(row["bench"], row["system"]) for row in rows] == [
        ("scaling_120x8", "t4dx"),
        ("scaling_120x8", "t4dx default"),
    ]
    assert "--only scaling" in rows[0]["command"]
    assert "--sizes 120 --scaling-dim 8" in rows[0]["command"]
