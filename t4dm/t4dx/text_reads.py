"""Reads of items by their text, and by vector and text together. Every call runs on one version, so it sees
one moment.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from t4dm.errors import FilterError, FusionError, VectorError
from t4dm.t4dx.bm25 import Bm25
from t4dm.t4dx.filters import Filter
from t4dm.t4dx.fusion import FUSIONS, Spread, side_weights
from t4dm.t4dx.hybrid import DEPTH, HybridQuery
from t4dm.t4dx.item_reads import ALL, When, as_point
from t4dm.t4dx.matching import names_of
from t4dm.t4dx.state import Version
from t4dm.t4dx.text_index import TextFiles
from t4dm.t4dx.text_search import Line, TextQuery
from t4dm.t4dx.tokens import Analyzer
from t4dm.t4dx.types import DEFAULT, Hit, Hits

BM25: Final = Bm25()
WORDS: Final = Analyzer()


class TextReads:
    """Searches for words over `version()`. The first one makes an index of each segment, later ones follow
    what was written since.

    Attributes:
        text_files: where indexes are left for the next opening; None for nowhere.
    """

    _read: Callable[[], Version]
    text_files: TextFiles | None = None

    def search_text(
        self,
        text: str,
        k: int,
        where: Filter = ALL,
        *,
        as_of: When = None,
        corpus: Filter | None = None,
        bm25: Bm25 = BM25,
        analyzer: Analyzer = WORDS,
        explain: bool = False,
    ) -> Hits:
        """The k items whose content answers a text best by BM25, among those that pass the filter: always
        min(k, matches with a positive score), best first, ties by id.

        Args:
            text: words in any order; those that stand nowhere add nothing.
            k: how many, from 0 on.
            where: which items.
            as_of: a time in seconds or an `AsOf`; documents and statistics are those of that time.
            corpus: which documents the statistics are taken over (how many there are, their mean length, how
                many hold a word); all that are visible by default, whatever `where` says.
            bm25: variant and constants.
            analyzer: how texts become words.
            explain: keep in `Hits.plan` the statistics, how each part of the store was searched, and what
                each word adds to each hit.

        Raises:
            TextQueryError: the text is no string.
        """
        version = self._read()
        query = self._text_query(version, text, as_of, corpus, bm25, analyzer)
        ranked, plan = query.search(_count(k), where)
        hits = [
            Hit(name, -falling, version.views[number].item(row, version.collections))
            for falling, name, number, row in ranked
        ]
        if not explain:
            return Hits(hits)
        told: list[Line] = [
            {"hit": name, "score": -falling, **query.explain(number, row)}
            for falling, name, number, row in ranked
        ]
        return Hits(hits, plan=[*plan, *told])

    def search_hybrid(
        self,
        vector: NDArray[Any] | Sequence[float],
        text: str,
        k: int,
        where: Filter = ALL,
        *,
        collection: str = DEFAULT,
        as_of: When = None,
        fusion: str = "weighted",
        weights: Mapping[str, float] | None = None,
        spread: Spread | None = None,
        depth: int | None = None,
        corpus: Filter | None = None,
        bm25: Bm25 = BM25,
        analyzer: Analyzer = WORDS,
        explain: bool = False,
    ) -> Hits:
        """The k items that a vector and a text find together, best first, ties by id.

        Candidates are the `depth` best of each search among the items of the collection that pass the filter.
        "rrf" adds weight / (60 + rank) over both; "weighted" adds both scores, scaled to [0, 1], of every
        candidate. Then a `spread` lets scores flow along edges and to neighbours in time, which may bring in
        more items that pass the filter.

        Args:
            vector: the query [D].
            text: the query in words.
            k: how many, from 0 on.
            where: which items may be returned.
            collection: whose vectors and items.
            as_of: a time in seconds or an `AsOf`, for items, statistics and edges.
            fusion: "weighted" or "rrf".
            weights: {"vector": 0.5, "text": 0.5} by default.
            spread: how scores flow; not at all by default.
            depth: candidates of each search, the larger of 200 and 4 * k by default; with as many as there
                are items nothing is left out.
            corpus, bm25, analyzer: as in `search_text`.
            explain: keep in `Hits.plan` how both searches went, and for each hit what "vector", "text",
                "edge <type>" and "time" add to its score.

        Raises:
            FusionError: an unknown fusion, weights that are none. VectorError: several queries, or as above.
            FilterError: k or depth below 0, a filter for other collections. TextQueryError: as above.
        """
        if fusion not in FUSIONS:
            raise FusionError(f"no fusion {fusion!r}; write fusion='rrf' or fusion='weighted'")
        version, chosen = self._read(), side_weights(weights)
        version.collections.code(collection)
        if np.ndim(vector) != 1:
            raise VectorError(
                f"a hybrid search takes one query, not an array of shape {np.shape(vector)}; "
                "call search_hybrid once for each"
            )
        where = _within(where, collection)
        words = self._text_query(version, text, as_of, corpus, bm25, analyzer)
        query = HybridQuery(version, vector, words, collection=collection, as_of=as_point(as_of))
        found = query.search(
            _count(k),
            where,
            depth=max(DEPTH, 4 * k) if depth is None else max(_count(depth, "depth"), k),
            fusion=fusion,
            weights=chosen,
            spread=spread,
        )
        hits = query.hits(found)
        return hits if explain else Hits(tuple(hits))

    def _text_query(
        self,
        version: Version,
        text: str,
        as_of: When,
        corpus: Filter | None,
        bm25: Bm25,
        analyzer: Analyzer,
    ) -> TextQuery:
        return TextQuery(
            version,
            text,
            as_of=as_point(as_of),
            corpus=corpus,
            bm25=bm25,
            analyzer=analyzer,
            files=self.text_files,
        )


def _count(k: int, name: str = "k") -> int:
    if k < 0:
        raise FilterError(f"{name} is {k}; ask for {name}=0 or more hits")
    return k


def _within(where: Filter, collection: str) -> Filter:
    """A filter on the items of one collection."""
    if where.collection is not None and collection not in names_of(where.collection):
        raise FilterError(
            f"the filter lets no item of {collection!r} pass; search with collection={where.collection!r}"
        )
    return dataclasses.replace(where, collection=collection)
