"""BM25 as its papers write it: one document after the other, one word after the other, no index."""

from __future__ import annotations

import math

from t4dm.t4dx.bm25 import Bm25


def idf(documents: list[list[str]], word: str, bm25: Bm25) -> float:
    total, n = len(documents), sum(word in words for words in documents)
    if n == 0:
        return 0.0
    if bm25.variant == "plus":
        return math.log((total + 1) / n)
    if bm25.variant == "lucene":
        return math.log(1 + (total - n + 0.5) / (n + 0.5))
    value = math.log((total - n + 0.5) / (n + 0.5))
    if value >= 0:
        return value
    every = {word for words in documents for word in words}
    counts = [sum(word in words for words in documents) for word in every]
    return bm25.epsilon * sum(math.log((total - n + 0.5) / (n + 0.5)) for n in counts) / len(counts)


def score(documents: list[list[str]], words: list[str], query: list[str], bm25: Bm25) -> float:
    """The score of one document among all; 0 where it holds no word of the query."""
    average = sum(map(len, documents)) / len(documents)
    total = 0.0
    for word in query:
        f, delta = words.count(word), bm25.delta if bm25.variant == "plus" else 0.0
        norm = bm25.k1 * (1 - bm25.b + bm25.b * len(words) / average)
        total += idf(documents, word, bm25) * (delta + f * (bm25.k1 + 1) / (f + norm))
    return total if set(words) & set(query) else 0.0


def ranking(texts: dict[str, list[str]], query: list[str], bm25: Bm25) -> list[tuple[str, float]]:
    """Ids and scores of the documents that hold a word, best first, ties by id."""
    documents = [words for words in texts.values() if words]
    found = [(name, score(documents, words, query, bm25)) for name, words in texts.items() if words]
    return sorted(((name, value) for name, value in found if value > 0), key=lambda pair: (-pair[1], pair[0]))
