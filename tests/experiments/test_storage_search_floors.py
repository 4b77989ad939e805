"""The leanest search program of the storage bench and the profile of a search: answers and tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

faiss = pytest.importorskip("faiss")
ROOT = Path(__file__).resolve().parents[2]
N, DIM = 300, 16
COLUMNS = {"bench", "system", "metric", "value", "ratio", "target", "machine", "versions", "command"}
SEARCHES = ["search", "search_fresh", "filter_50", "filter_10", "filter_1", "filter_01"]


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        import experiments.storage_bench as package
        from experiments.storage_bench import (  # noqa: F401
            floors_report,
            groups,
            indexed,
            leanest_search,
            report,
            search_floors,
            search_shares,
            searches,
            sets,
            shares,
            shares_report,
        )

        patch.setattr(sets, "QUERIES", 40)
        yield package


@pytest.fixture(scope="module")
def indexed(bench: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny run with T4DX and faiss, indexed."""
    folder = tmp_path_factory.mktemp("searches")
    content = bench.sets.make("easy", N, DIM, cache=folder / "data")
    made = bench.groups.Setting(content, folder / "stores", folder, 2, 5, 1.0, ("t4dx", "faiss"))
    for label in made.engines:
        bench.indexed.index(label, made)
    return made


@pytest.fixture
def setting(indexed: Any, tmp_path: Path) -> Any:
    """The same with a place of its own to work in."""
    return indexed._replace(scratch=tmp_path / "scratch")


@pytest.fixture(scope="module")
def content(bench: ModuleType, indexed: Any) -> Any:
    """What a leanest program reads, with the later rows."""
    return bench.leanest_search.held(indexed.stores / "faiss", indexed.data, fresh=120)


def ordered(data: Any, query: Any, rows: Any, k: int = 10) -> list[str]:
    """The exact answer by float64."""
    scores = data.vectors[rows].astype(np.float64) @ query.astype(np.float64)
    return [data.ids[rows[place]] for place in np.argsort(-scores)[:k]]


@pytest.mark.parametrize(("few", "many"), [(N, N), (0, N), (0, 0)], ids=["all", "bits", "walk"])
@pytest.mark.parametrize("count", [150, 30, 3])
def test_each_way_to_filter_finds_what_a_sort_finds(
    bench: ModuleType, indexed: Any, content: Any, few: int, many: int, count: int
) -> None:
    """Where fewer pass than are asked for, all of them; what is as large as the limit passes."""
    program, data = bench.leanest_search.Leanest(content, few=few, many=many), indexed.data
    rows = np.argsort(data.kappas[:N])[:count]
    for query in bench.sets.sides(data).judged:
        found = program.search_below(query, 10, float(data.kappas[rows[-1]]))
        assert found == ordered(data, query, rows)


@pytest.mark.parametrize(
    ("few", "many", "walks"), [(30, 30, False), (29, 30, False), (29, 29, True)], ids=["all", "bits", "walk"]
)
def test_the_number_of_rows_that_pass_decides_the_way(
    bench: ModuleType, indexed: Any, content: Any, few: int, many: int, walks: bool
) -> None:
    """Faiss alone takes the same: of all rows it returns the ten best, of bits or a walk more."""
    program, data = bench.leanest_search.Leanest(content, few=few, many=many), indexed.data
    alone, query, rows = (
        bench.leanest_search.FaissAlone(program),
        data.vectors[-1],
        np.argsort(data.kappas[:N]),
    )
    program.effort, kappa = bench.leanest_search.Effort(32, 15), float(data.kappas[rows[29]])
    assert (distances(lambda: program.search_below(query, 10, kappa)) > 0) == walks
    exact = program.search_below(query, 10, kappa) == ordered(data, query, rows[:30])
    assert walks or exact == (few == 30)  # 15 by 16 bits are too few
    assert (distances(lambda: alone.below(query, 10, kappa)) > 0) == walks
    places = alone.below(query, 10, kappa)
    assert len(places) == (20 if walks else 15 if few == 29 else 10)
    assert set(places.tolist()) <= (set(range(30)) if len(places) == 15 else {-1, *rows[:30].tolist()})


@pytest.mark.parametrize(("few", "many"), [(N, N), (0, N), (-1, -1)], ids=["all", "bits", "walk"])
def test_where_nothing_passes_nothing_is_found(
    bench: ModuleType, indexed: Any, content: Any, few: int, many: int
) -> None:
    program = bench.leanest_search.Leanest(content, few=few, many=many)
    assert program.search_below(indexed.data.vectors[0], 10, -1.0) == []


@pytest.mark.parametrize("short", [False, True])
def test_searches_find_what_a_sort_finds(bench: ModuleType, indexed: Any, content: Any, short: bool) -> None:
    """At the greatest effort, which looks at all of so few rows; the later ones only where they belong."""
    held = bench.leanest_search.shortened(content) if short else content
    program, data = bench.leanest_search.Leanest(held), indexed.data
    assert (held.graph.d, held.graph.ntotal) == (DIM // 2 if short else DIM, N)
    for query in bench.sets.sides(data).judged:
        assert program.search(query, 10) == ordered(data, query, np.arange(N))
        assert program.search_beside(query, 10) == ordered(data, query, np.arange(N + 120))
    assert program.search(data.vectors[7], 1) == [data.ids[7]]
    assert program.search_beside(data.vectors[N + 7], 1) == [data.ids[N + 7]]


def test_the_short_graph_has_the_coordinates_that_vary_most(
    bench: ModuleType, indexed: Any, content: Any
) -> None:
    """The spread in each is the largest that is left: the eigenvalues of the covariance in their order."""
    turn, vectors = bench.leanest_search.shortened(content).turn, indexed.data.vectors[:N]
    largest = np.linalg.eigvalsh(np.cov(vectors.astype(np.float64), rowvar=False))[::-1]
    assert np.var(vectors @ turn, axis=0, ddof=1) == pytest.approx(largest[: DIM // 2], rel=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_batch_is_answered_as_each_query_alone(
    bench: ModuleType, indexed: Any, content: Any, threads: int
) -> None:
    program, queries = bench.leanest_search.Leanest(content, threads=threads), indexed.data.vectors[-9:]
    assert program.search_many(queries, 10) == [program.search(query, 10) for query in queries]


def test_two_threads_of_a_batch_are_one_again_behind_it(
    bench: ModuleType, indexed: Any, content: Any
) -> None:
    program, queries = bench.leanest_search.Leanest(content, threads=2), indexed.data.vectors[-9:]
    for call in (program.search_many, bench.leanest_search.FaissAlone(program).walk):
        faiss.omp_set_num_threads(2)
        call(queries, 10)
        assert faiss.omp_get_max_threads() == 1


def test_a_query_of_another_shape_is_refused(bench: ModuleType, content: Any) -> None:
    program, wrong = bench.leanest_search.Leanest(content), np.ones(DIM + 1, np.float32)
    for call in (
        lambda: program.search(wrong, 10),
        lambda: program.search_below(wrong, 10, 0.5),
        lambda: program.search_beside(wrong, 10),
        lambda: program.search_many(wrong[None], 10),
    ):
        with pytest.raises(ValueError, match=r"shape \[17\]; pass \[16\]"):
            call()


@pytest.mark.parametrize(("queries", "count", "dim"), [(1, 1, 8), (3, 5, 8), (2, 0, 16), (4, 7, 33)])
def test_products_are_those_of_numpy(bench: ModuleType, queries: int, count: int, dim: int) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((20, dim)).astype(np.float32)
    asked = rng.standard_normal((queries, dim)).astype(np.float32)
    places = rng.integers(0, 20, (queries, count))
    wanted = np.einsum("qd,qnd->qn", asked, vectors[places])
    assert np.allclose(bench.leanest_search.products(vectors, places, asked), wanted, atol=1e-5)
    if count:
        places[0, 0] = -1
        assert bench.leanest_search.products(vectors, places, asked)[0, 0] == -np.inf


@pytest.mark.parametrize(("n", "k"), [(1, 1), (9, 4), (40, 40), (3, 7)])
def test_the_nearest_by_products_and_by_bits_are_those_of_a_sort(bench: ModuleType, n: int, k: int) -> None:
    rng = np.random.default_rng(n)
    vectors = rng.standard_normal((50, 32)).astype(np.float32)
    rows, query = rng.permutation(50)[:n], rng.standard_normal(32).astype(np.float32)
    wanted = rows[np.argsort(-(vectors[rows] @ query))][:k].tolist()
    found = bench.leanest_search.nearest_of(vectors, rows, query, k).tolist()
    assert found == wanted + [-1] * (k - len(wanted))
    bits, probe = rng.integers(0, 256, (n, 8), np.uint8), rng.integers(0, 256, 8, np.uint8)
    apart = np.unpackbits(bits ^ probe, axis=1).sum(axis=1)
    near = bench.leanest_search.nearest_bits(bits, probe, k)
    assert apart[near].tolist() == np.sort(apart)[:k].tolist()
    assert len(set(near.tolist())) == min(k, n)


def distances(call: Any) -> int:
    """How many faiss computed in the graph."""
    faiss.cvar.hnsw_stats.reset()
    call()
    return int(faiss.cvar.hnsw_stats.ndis)


def test_faiss_alone_walks_as_far_as_the_program_does(bench: ModuleType, indexed: Any, content: Any) -> None:
    program, query = bench.leanest_search.Leanest(content, few=0, many=0), indexed.data.vectors[-1]
    alone, seen = bench.leanest_search.FaissAlone(program), []
    for effort in bench.leanest_search.EFFORTS[::6]:
        program.effort = effort
        seen.append(distances(lambda: alone.walk(query, 10)))
        assert seen[-1] == distances(lambda: program.search(query, 10)) > 0
        assert distances(lambda: alone.below(query, 10, 0.5)) == distances(
            lambda: program.search_below(query, 10, 0.5)
        )
    assert seen == sorted(set(seen))  # more effort, a longer walk


def test_every_row_has_its_times_at_its_recall(bench: ModuleType, setting: Any) -> None:
    found = bench.search_floors.floors(setting)
    programs = ("t4dx", "leanest", "faiss alone", "shortened")
    threads = [f"{name} {count}" for count in ("2 threads", "1 thread") for name in programs]
    walked = {name: set(programs) for name in SEARCHES[:2]}
    wanted = {**{name: set(programs[:3]) for name in SEARCHES}, **walked}  # too few rows for other walks
    wanted |= {"batch_threads": set(threads), "batch": set(threads[:4])}
    assert {row["operation"]: set(row["systems"]) for row in found["search_floors"]} == wanted
    assert not found["missing"]
    for row in found["search_floors"]:
        for label, figure in row["systems"].items():
            assert figure["p50"] > 0
            assert figure["rounds"] == 2
            assert figure.get("recall", 0.0) >= 0.99 or label.startswith("faiss alone")


def test_what_finds_too_little_is_no_floor(
    bench: ModuleType, setting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.search_floors, "ROWS", {"search": bench.search_floors.ROWS["search"]})
    whole = bench.leanest_search.Leanest.search
    monkeypatch.setattr(
        bench.leanest_search.Leanest, "search", lambda self, vector, k: whole(self, vector, 9)
    )
    found = bench.search_floors.floors(setting)
    assert [list(row["systems"]) for row in found["search_floors"]] == [["t4dx"]]
    gone = {entry["label"]: entry["why"][:12] for entry in found["missing"]}
    assert gone == {"leanest, search": "recall 0.900", "shortened, search": "recall 0.900"}


@pytest.mark.parametrize(
    ("engines", "rows", "why"),
    [(("t4dx",), 1, "was not asked for"), (("faiss",), 0, ""), (("t4dx", "faiss"), 1, "not indexed")],
)
def test_what_is_not_there_is_told(
    bench: ModuleType,
    setting: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    engines: tuple[str, ...],
    rows: int,
    why: str,
) -> None:
    monkeypatch.setattr(bench.search_floors, "ROWS", {"search": bench.search_floors.ROWS["search"]})
    if why == "not indexed":
        (tmp_path / "stores").mkdir()
        (tmp_path / "stores" / "t4dx").symlink_to(setting.stores / "t4dx")
        setting = setting._replace(stores=tmp_path / "stores")
    found = bench.search_floors.floors(setting._replace(engines=engines))
    assert [list(row["systems"]) for row in found["search_floors"]] == [["t4dx"]] * rows
    assert [entry["label"] for entry in found["missing"]] == ["leanest"] * bool(why)
    assert all(why in entry["why"] for entry in found["missing"])


def times(*rounds: float, **more: Any) -> dict[str, Any]:
    base = {"p50": rounds[0], "p99": 9.0, "rounds_p50": list(rounds), "rounds": len(rounds)}
    return {**base, "durability": "reads only", **more}


def entry(*rows: tuple[str, dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "name": "search_floors", "systems": {}, "missing": [], "others": 0.0, "machine": "m", "size": [10, 2],
        "calibration": [{"matvec10K_ms": 1.0, "python_loop_ms": 1.0, "append_fdatasync_ms": 1.0}] * 2,
        "versions": {}, "command": "make bench", "when": "2026-01-01",
        "search_floors": [{"operation": name, "systems": systems} for name, systems in rows], **more,
    }  # fmt: skip


def row_of(
    ours: float, lean: float | None = None, alone: float | None = None, short: float | None = None
) -> tuple[str, dict[str, Any]]:
    """A plain search (at most 0.4 is wanted) whose peer takes 1.0."""
    own = {"t4dx": ours, "leanest": lean, "faiss alone": alone, "shortened": short, "qdrant-edge": 1.0}
    return "search", {label: times(figure) for label, figure in own.items() if figure is not None}


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        ((0.4, 0.3, 0.2), "met"),
        ((0.5, 0.4, 0.3), "missed by T4DX alone"),
        ((0.5, 0.45, 0.3), "**missed even by the leanest program**"),
        ((0.5, 0.48, 0.45), "**missed even by faiss alone**"),
        ((0.3, 0.48, 0.45), "met"),
        ((0.5, 0.48, 0.45, 0.4), "**missed even by the leanest program**, met over a short graph"),
        ((0.5, 0.48, 0.45, 0.41), "**missed even by faiss alone**"),
        ((0.5, 0.4, 0.45, 0.3), "missed by T4DX alone"),
        ((0.5,), ""),
    ],
)
def test_a_target_is_missed_by_t4dx_by_python_or_by_faiss(
    bench: ModuleType, figures: tuple[float, ...], verdict: str
) -> None:
    (floor,) = bench.floors_report.floors_of(entry(row_of(*figures)))
    assert floor.verdict() == verdict


def test_the_page_counts_what_no_search_from_python_meets(bench: ModuleType) -> None:
    rows = [row_of(0.3, 0.2, 0.1), row_of(0.5, 0.4, 0.3), row_of(0.5, 0.45, 0.3, 0.4), row_of(0.5, 0.5, 0.45)]
    page = bench.report.page([], [entry(*rows, row_of(0.5))])
    assert page.count("## How far a search from Python can go") == 1
    assert "## How far a Python program can go" not in page
    assert (
        "Of 4 targets T4DX misses 3 here; the leanest program misses 2 of these as well, 1 of them by the "
        "time of faiss alone; shortened it meets 1 of them." in page
    )
    assert page.count("| not measured |") == 1


def test_ratios_are_medians_over_rounds_worked_out_by_hand(bench: ModuleType) -> None:
    """T4DX / peer 2, 4, 3; leanest / peer 0.5, 1, 0.75; faiss / peer 0.5, 0.5, 0.5; T4DX / leanest 4."""
    systems = {
        "t4dx": times(4.0, 4.0, 6.0, recall=0.999),
        "leanest": times(1.0, 1.0, 1.5, recall=0.9926, effort=(48, 150)),
        "faiss alone": times(1.0, 0.5, 1.0),
        "qdrant-edge": times(2.0, 1.0, 2.0, recall=0.991),
    }
    stored = [entry(("search", systems))]
    rows = {row["system"]: row for row in bench.floors_report.rows_of(stored)}
    assert all(row.keys() >= COLUMNS and row["bench"] == "floor_search" for row in rows.values())
    over = {label: (row["ratio"], row["over_peer"], row["met"]) for label, row in rows.items()}
    assert over == {
        "t4dx": (3.0, 3.0, False),
        "leanest": (4.0, 0.75, False),
        "faiss alone": (6.0, 0.5, False),
        "qdrant-edge": (3.0, 1.0, None),
    }
    assert (rows["leanest"]["recall"], rows["leanest"]["effort"]) == (0.9926, (48, 150))
    assert bench.floors_report.lines_of(stored)[-1] == (
        "| search k=10 at recall 0.99, easy vectors | qdrant-edge: 2 ms at 0.991 | 4 ms at 0.999 "
        "| 1 ms at 0.993 | - | 1 ms | 3 | 0.75 | - | 0.5 | 4 | <= 0.4x qdrant-edge "
        "| **missed even by faiss alone** |"
    )


def test_two_threads_are_compared_with_one_of_the_same_program(bench: ModuleType) -> None:
    """T4DX 3 / 4, leanest 1 / 2, faiss 0.9 / 1; at most 0.625 is wanted."""
    systems = {
        "t4dx 2 threads": times(3.0), "t4dx 1 thread": times(4.0), "leanest 2 threads": times(1.0),
        "leanest 1 thread": times(2.0), "faiss alone 2 threads": times(0.9),
        "faiss alone 1 thread": times(1.0),
    }  # fmt: skip
    stored = entry(("batch_threads", systems))
    (floor,) = bench.floors_report.floors_of(stored)
    assert [floor.over_peer(name) for name in ("t4dx", "leanest", "faiss alone")] == [0.75, 0.5, 0.9]
    against = {row["system"]: row["against"] for row in bench.floors_report.rows_of([stored])}
    assert against["leanest 2 threads"] == against["leanest 1 thread"] == "leanest 1 thread"


def test_rows_are_the_searches_that_the_plan_judges(bench: ModuleType) -> None:
    assert list(bench.search_floors.ROWS) == [*SEARCHES, "batch_threads", "batch"]


def test_every_part_of_a_search_is_counted_once(bench: ModuleType, setting: Any) -> None:
    found = bench.search_shares.search_shares(setting)
    names = [row["operation"] for row in found["search_shares"]]
    assert names == [
        "search", "filter 50 %", "filter 10 %", "filter 1 %", "filter 0.1 %", "batch of 256, one of it",
        "search beside fresh rows",
    ]  # fmt: skip
    for row in found["search_shares"]:
        assert tuple(row["parts"]) == bench.search_shares.NAMES
        assert sum(row["parts"].values()) == pytest.approx(row["micros"], abs=0.1)
        assert row["recall"] >= 0.99
        assert row["parts"]["checks"] > 0
    by_name = {row["operation"]: row for row in found["search_shares"]}
    calls = [by_name[name]["python_calls"] for name in ("batch of 256, one of it", "search", "filter 50 %")]
    assert calls == sorted(set(calls))
    lines = bench.shares_report.lines_of([found])
    assert sum(line.startswith("| ") for line in lines) == 2 + len(names)
    assert "## Where the time of a search goes" in lines
    assert bench.search_shares.search_shares(setting._replace(engines=("faiss",)))["search_shares"] == []


@pytest.mark.parametrize(
    ("file", "name", "part"),
    [
        ("/x/t4dx/item_reads.py", "_asked", "checks"),
        ("/x/t4dx/proposals.py", "by_graph", "planner"),
        ("/x/t4dx/proposals.py", "reach_of", "filter"),
        ("/x/t4dx/scoring.py", "add", "answer"),
        ("/x/t4dx/scoring.py", "score", "scores"),
        ("/x/t4dx/new.py", "search", "rest"),
        ("/x/site-packages/faiss/class_wrappers.py", "replacement_search", "bindings"),
        ("/x/site-packages/numpy/core/fromnumeric.py", "_wrapfunc", ""),
        ("~", "<built-in method faiss._swigfaiss_avx2.IndexHNSW_search>", "walk"),
        ("~", "<built-in method faiss._swigfaiss.hammings>", "codes"),
        ("~", "<built-in method faiss._swigfaiss.new_IDSelectorBitmap>", "bindings"),
        ("~", "<method 'partition' of 'numpy.ndarray' objects>", ""),
    ],
)  # fmt: skip
def test_a_function_belongs_to_a_part(bench: ModuleType, file: str, name: str, part: str) -> None:
    assert bench.search_shares.part_of(file, name) == part


def test_parts_name_modules_that_the_engine_has(bench: ModuleType) -> None:
    modules = {name for names in bench.search_shares.MODULES.values() for name in names}
    modules |= {name.partition(".")[0] for names in bench.search_shares.FUNCTIONS.values() for name in names}
    assert all((ROOT / "t4dm" / "t4dx" / f"{name}.py").exists() for name in modules)


class Profile:
    """numpy's `flatnonzero` took 4 s in itself and 2 s in what it calls: three quarters of it for the filter,
    one for the codes, as their calls took 6 s and 2 s.
    """

    def __init__(self) -> None:
        sift, code = ("/x/t4dx/matching.py", 1, "sift"), ("/x/t4dx/codes.py", 1, "take")
        wrapped, inner = ("/x/numpy/numeric.py", 1, "flatnonzero"), ("~", 0, "<method 'nonzero'>")
        self.stats = {
            sift: (1, 3, 1.0, 7.0, {}),
            code: (1, 1, 0.5, 2.5, {}),
            wrapped: (4, 4, 4.0, 6.0, {sift: (3, 3, 3.0, 6.0), code: (1, 1, 1.0, 2.0)}),
            inner: (4, 4, 2.0, 2.0, {wrapped: (4, 4, 2.0, 2.0)}),
        }


def test_what_a_library_takes_counts_for_its_callers_worked_out_by_hand(bench: ModuleType) -> None:
    parts, functions = bench.shares.parted(Profile(), bench.search_shares.SPLIT)
    assert functions == 3 + 1 + 4
    assert {part: seconds for part, seconds in parts.items() if seconds} == {
        "filter": pytest.approx(1.0 + 3.0 + 2.0 * 0.75),
        "codes": pytest.approx(0.5 + 1.0 + 2.0 * 0.25),
    }


def test_shares_are_rows_of_the_json_without_a_target(bench: ModuleType, tmp_path: Path) -> None:
    row = {"system": "t4dx", "operation": "search", "micros": 100.0, "python_calls": 7.0, "recall": 0.995}
    stored = [entry(row_of(0.5, 0.4, 0.3), search_shares=[{**row, "parts": {"walk": 70.0, "rest": 30.0}}])]
    for _ in range(2):  # the second ones stand where the first ones stood
        bench.report.write(stored, tmp_path)
    rows = json.loads((tmp_path / "benchmarks.json").read_text())["rows"]
    assert [row["bench"] for row in rows] == [*["floor_search"] * 4, "share_search"]
    assert all(row.keys() >= COLUMNS for row in rows)
    assert (rows[-1]["value"], rows[-1]["parts"]["walk"], rows[-1]["target"]) == (100.0, 70.0, None)
    assert "| search | 70 | 30 | 100 | 7 |" in (tmp_path / "benchmarks.md").read_text()


def test_both_groups_run_from_the_command_line(bench: ModuleType, tmp_path: Path) -> None:
    from experiments.storage_bench import __main__ as command

    run = ["--n", "100", "--dim", "8", "--rounds", "2", "--calls", "3", "--budget", "0.03"]
    run += ["--only", "search_floors,search_shares", "--systems", "t4dx,faiss"]
    run += ["--work", str(tmp_path / "work"), "--docs", str(tmp_path / "docs")]
    for name in ("index easy t4dx", "index easy faiss", "search_floors", "search_shares"):
        assert command.main([*run, "--child", name]) == 0
    assert command.main([*run, "--report"]) == 0
    rows = json.loads((tmp_path / "docs" / "benchmarks.json").read_text())["rows"]
    floors = [row for row in rows if row["bench"].startswith("floor_")]
    assert {row["system"] for row in floors if row["bench"] == "floor_search"} == {
        "t4dx", "leanest", "shortened", "faiss alone"
    }  # fmt: skip
    assert floors[0]["command"].endswith("--only search_floors --rounds 2 --calls 3 --budget 0.03'")
    assert sum(row["bench"].startswith("share_") for row in rows) == 7
    page = (tmp_path / "docs" / "benchmarks.md").read_text()
    assert page.count("## How far a search from Python can go") == 1
    assert page.count("## Where the time of a search goes") == 1


def test_each_group_is_measured_anew_when_what_it_runs_changes(bench: ModuleType) -> None:
    from experiments.storage_bench import __main__ as command

    options, here = command.parse(["--n", "100"]), ROOT / "experiments" / "storage_bench"
    for name, files in (
        ("search_floors", ("search_floors.py", "leanest_search.py", "searches.py", "indexed.py")),
        ("search_shares", ("search_shares.py", "shares.py", "searches.py", "indexed.py")),
    ):
        assert {here / file for file in files} <= set(command.sources_of(name, options))
    assert here / "leanest_search.py" not in command.sources_of("filter", options)


def test_a_result_of_fewer_systems_is_measured_anew(bench: ModuleType) -> None:
    from experiments.storage_bench import __main__ as command

    options = command.parse(["--systems", "t4dx,chroma"])
    stored = {"key": "a", "engines": ["chroma", "kuzu", "t4dx"]}
    assert command._is_this(stored, "a", options)
    assert not command._is_this(stored, "b", options)
    assert not command._is_this({**stored, "engines": ["t4dx"]}, "a", options)


def test_both_back_ends_and_chroma_take_part_in_filters(bench: ModuleType, setting: Any) -> None:
    pytest.importorskip("hnswlib")
    assert {"chroma", "t4dx-hnswlib"} <= set(bench.searches.STORES)
    both = setting._replace(engines=("t4dx", "t4dx-hnswlib"), stores=setting.scratch, calls=2)
    for label in both.engines:
        bench.indexed.index(label, both)
    systems = bench.searches.filtered(both)["systems"]
    assert all(systems["t4dx-hnswlib"][name]["recall"] == 1.0 for name in bench.searches.SHARES)
