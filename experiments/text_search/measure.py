"""BM25 on LoCoMo by constants, stems and stop words; and what the text index costs.

python -m experiments.text_search.measure --data ../shared/data
python -m experiments.text_search.measure --rows 10000
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from t4dm.evaluation.locomo import Conversation, read_split
from t4dm.evaluation.ranking import ndcg_at, recall_at
from t4dm.t4dx import T4DX, Analyzer, Bm25, Filter, Item, Options
from t4dm.t4dx.tokens import ENGLISH

CLASSIC = {"k1": 1.5, "b": 0.75}
WORDS = 50_000
STILL = Options(durability="os", memtable_items=10**7, memtable_bytes=2**40, background=False)


def main() -> None:
    """Print a table of recalls, or with --rows one of costs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rows", type=int, nargs="*")
    parser.add_argument("--queries", type=int, default=50)
    args = parser.parse_args()
    if args.rows is None:
        recalls(read_split(args.data / "locomo"))
        return
    print("| texts | memtable, s | made, s | read, ms | bytes a text | query, ms | 1 % by id | as-of |")
    print("|---|---|---|---|---|---|---|---|")
    for n in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            costs(Path(folder), n, queries=args.queries)


def recalls(conversations: list[Conversation]) -> None:
    """One line per analyzer and set of constants."""
    stem, stop = Analyzer(stem="english"), Analyzer(stop=ENGLISH)
    both = Analyzer(stem="english", stop=ENGLISH)
    print("| words | BM25 | R@10 | nDCG@10 |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        stores = [stored(Path(folder) / talk.id, talk) for talk in conversations]
        for bm25 in (*(Bm25(variant=name, **CLASSIC) for name in ("okapi", "plus", "lucene")), Bm25()):  # type: ignore[arg-type]
            for name, words in {"plain": Analyzer(), "stop": stop, "stem": stem, "both": both}.items():
                found = [
                    (store.search_text(asked.text, 10, bm25=bm25, analyzer=words).ids, asked.evidence)
                    for store, talk in zip(stores, conversations, strict=True)
                    for asked in talk.questions
                ]
                recall, gain = (np.mean([of(*pair, 10) for pair in found]) for of in (recall_at, ndcg_at))
                print(
                    f"| {name} | {bm25.variant} {bm25.k1} {bm25.b} | {recall:.4f} | {gain:.4f} |", flush=True
                )


def stored(folder: Path, talk: Conversation) -> T4DX:
    """The turns of a conversation."""
    store = T4DX.open(folder, dim=1, options=STILL)
    texts = {turn.id: f"{turn.speaker}: {turn.text} {turn.caption}" for turn in talk.turns}
    store.insert_many([Item(id=name, content=text) for name, text in texts.items()])
    return store


def costs(folder: Path, n: int, *, queries: int) -> None:
    """One line for a store of n texts: in the memtable, then in one segment."""
    rng = np.random.default_rng(0)
    names = np.array([f"w{rank}" for rank in range(WORDS)])
    shares = 1 / np.arange(1, WORDS + 1)

    def text(low: int, high: int) -> str:
        return " ".join(names[rng.choice(WORDS, int(rng.integers(low, high)), p=shares / shares.sum())])

    with T4DX.open(folder / "s", dim=1, options=STILL) as store:
        store.insert_many([Item(id=f"{row}", content=text(8, 35)) for row in range(n)])
        grown = seconds(store, "w1")
        store.flush()
        made = seconds(store, "w1")
    size = sum(file.stat().st_size for file in (folder / "s" / "text").iterdir())
    with T4DX.open(folder / "s") as store:
        read = seconds(store, "w1")
        asked = [text(8, 9) for _ in range(queries)]
        few = Filter(ids=tuple(f"{row}" for row in range(0, n, 100)))
        now, narrow, then = (
            1e3 * np.median([seconds(store, query, **options) for query in asked])
            for options in ({}, {"where": few}, {"as_of": time.time()})
        )
    times = f"{grown:.2f} | {made:.2f} | {1e3 * read:.1f} | {size / n:.0f}"
    print(f"| {n} | {times} | {now:.2f} | {narrow:.2f} | {then:.2f} |")


def seconds(store: T4DX, text: str, **options: object) -> float:
    """How long one search for 10 takes."""
    started = time.perf_counter()
    store.search_text(text, 10, **options)  # type: ignore[arg-type]
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
