"""Writes golden/rank_bm25.json: documents, queries and the scores of rank-bm25 0.2.2 (pip install rank-bm25).

python tests/t4dx/make_text_golden.py
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from rank_bm25 import BM25Okapi, BM25Plus

WORDS = [f"w{n}" for n in range(40)]


def main() -> None:
    rng = random.Random(7)
    weights = [1 / (n + 1) for n in range(len(WORDS))]  # w0 stands in more than half of the documents
    documents = [rng.choices(WORDS, weights, k=rng.randint(1, 14)) for _ in range(60)]
    queries = ["w0", "w3 w17", "w0 w1 w2 w2", "w39 w5 w0 unknown", "unknown", "w7 w7 w7"]
    made = {"okapi": BM25Okapi(documents), "plus": BM25Plus(documents)}
    golden = {
        "documents": [" ".join(words) for words in documents],
        "queries": queries,
        **{name: [bm25.get_scores(q.split()).tolist() for q in queries] for name, bm25 in made.items()},
    }
    (Path(__file__).parent / "golden" / "rank_bm25.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
