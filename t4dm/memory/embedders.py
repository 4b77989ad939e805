"""Search keys made from words alone: a random-indexing bag of token ids.

A transformer's hidden state, mean-pooled over a chunk, is a poor key: the filler words that every chunk
shares dominate it. Weighting words by their rarity and giving each its own nearly orthogonal direction is a
key that needs no training and never drifts, so what was stored before a night can still be found after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from t4dm.errors import TokenOutOfVocabularyError

__all__ = ["LexicalEmbedder", "document_frequencies"]

_ROWS_PER_BLOCK = 1024


def document_frequencies(token_spans: Iterable[Sequence[int]], *, vocab_size: int) -> NDArray[np.int64]:
    """In how many spans does each token occur?  [vocab_size], one count per span however often it repeats."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    for span in token_spans:
        counts[_checked(np.unique(np.asarray(span, dtype=np.int64)), vocab_size)] += 1
    return counts


def _checked(tokens: NDArray[np.int64], vocab_size: int) -> NDArray[np.int64]:
    if tokens.size and (int(tokens.min()) < 0 or int(tokens.max()) >= vocab_size):
        bad = int(tokens.min()) if int(tokens.min()) < 0 else int(tokens.max())
        raise TokenOutOfVocabularyError(token=bad, vocab_size=vocab_size)
    return tokens


@final
class LexicalEmbedder:
    """Random indexing (Kanerva, Kristofersson & Holst 2000): each token owns one random row of +1 and -1.

    The key of a span is the sum of its tokens' rows, each weighted by ``(1 + ln tf) * idf`` with
    ``idf = ln((1 + N) / (1 + df))``, scaled to length 1. Two spans that share rare words have a high cosine;
    rows of different tokens are orthogonal up to a deviation of ``1 / sqrt(dim)``.

    Rows come from the raw 64-bit words of a Philox counter generator, so they are the same on every machine
    and with every numpy. They are kept as one bit per entry: 151,936 tokens of 1,024 dimensions take 19 MB.

    Args:
        vocab_size: number of token ids.
        dim: length D of a key.
        document_frequency: spans in which each token occurs, ``[vocab_size]``. None counts every token alike.
        documents: number of spans N behind ``document_frequency``; the largest frequency where not given.
        stop_idf: tokens whose idf lies below this are left out of the keys. None keeps all.
        seed: which random rows.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        dim: int,
        document_frequency: NDArray[Any] | None = None,
        documents: int | None = None,
        stop_idf: float | None = None,
        seed: int = 0,
    ) -> None:
        self.vocab_size = vocab_size
        self.dim = dim
        self.seed = seed
        self._signs = _random_signs(vocab_size, dim, seed)
        self._weights = _inverse_frequencies(document_frequency, documents, vocab_size)
        if stop_idf is not None:
            self._weights[self._weights < stop_idf] = 0.0

    @classmethod
    def fit(
        cls,
        token_spans: Sequence[Sequence[int]],
        *,
        vocab_size: int,
        dim: int,
        stop_idf: float | None = None,
        seed: int = 0,
    ) -> LexicalEmbedder:
        """An embedder whose idf weights are counted on ``token_spans``."""
        return cls(
            vocab_size=vocab_size,
            dim=dim,
            document_frequency=document_frequencies(token_spans, vocab_size=vocab_size),
            documents=len(token_spans),
            stop_idf=stop_idf,
            seed=seed,
        )

    @property
    def idf(self) -> NDArray[np.float32]:
        """Weight of every token, [vocab_size]; 0 for a stop word."""
        return self._weights.copy()

    def rows(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """The +1 / -1 rows of some tokens, [n, D]."""
        bits = np.unpackbits(self._signs[_checked(tokens, self.vocab_size)], axis=1, count=self.dim)
        return bits.astype(np.float32) * 2.0 - 1.0

    def encode(self, token_spans: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Keys of token spans.

        Args:
            token_spans: N lists of token ids, of any lengths.

        Returns:
            [N, D], each row of length 1. A span of stop words alone falls back to equal weights, so that it
            can still be found by its own words; an empty span is a row of zeros.

        Raises:
            TokenOutOfVocabularyError: a token id is negative or not below ``vocab_size``.
        """
        blocks = [
            self._encode_block(token_spans[start : start + _ROWS_PER_BLOCK])
            for start in range(0, len(token_spans), _ROWS_PER_BLOCK)
        ]
        return np.concatenate(blocks) if blocks else np.zeros((0, self.dim), dtype=np.float32)

    def _encode_block(self, spans: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        lengths = np.fromiter((len(span) for span in spans), dtype=np.int64, count=len(spans))
        flat = np.fromiter((t for span in spans for t in span), dtype=np.int64, count=int(lengths.sum()))
        tokens, column = np.unique(flat, return_inverse=True)
        row = np.repeat(np.arange(len(spans)), lengths)
        counts = np.bincount(row * max(1, tokens.size) + column, minlength=len(spans) * tokens.size)
        frequency = counts.reshape(len(spans), tokens.size).astype(np.float32)
        damped = np.where(frequency > 0, 1.0 + np.log(np.maximum(frequency, 1.0)), 0.0).astype(np.float32)
        weighted = damped * self._weights[_checked(tokens, self.vocab_size)]
        only_stop_words = ~weighted.any(axis=1)
        weighted[only_stop_words] = damped[only_stop_words]
        keys = np.asarray(weighted @ self.rows(tokens), dtype=np.float32)
        norms = np.linalg.norm(keys, axis=1, keepdims=True)
        return np.divide(keys, norms, out=np.zeros_like(keys), where=norms > 0)

    def state_dict(self) -> dict[str, Any]:
        """Plain arrays and numbers: enough to build the same embedder elsewhere."""
        return {"vocab_size": self.vocab_size, "dim": self.dim, "seed": self.seed, "idf": self.idf}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> LexicalEmbedder:
        """The embedder that wrote ``state_dict()``."""
        made = cls(vocab_size=int(state["vocab_size"]), dim=int(state["dim"]), seed=int(state["seed"]))
        made._weights = np.asarray(state["idf"], dtype=np.float32).copy()
        return made


def _random_signs(vocab_size: int, dim: int, seed: int) -> NDArray[np.uint8]:
    """[vocab_size, ceil(dim / 64) * 8] packed bits; raw generator words, in little-endian order."""
    words = -(-dim // 64)
    raw = np.asarray(np.random.Philox(key=seed).random_raw(vocab_size * words)).astype("<u8")
    return raw.view(np.uint8).reshape(vocab_size, words * 8)


def _inverse_frequencies(
    document_frequency: NDArray[Any] | None, documents: int | None, vocab_size: int
) -> NDArray[np.float32]:
    if document_frequency is None:
        return np.ones(vocab_size, dtype=np.float32)
    frequency = np.asarray(document_frequency, dtype=np.float64)
    if frequency.shape != (vocab_size,):
        raise ValueError(
            f"document_frequency has shape {frequency.shape}; pass one count per token, ({vocab_size},)."
        )
    total = float(documents if documents is not None else max(1.0, frequency.max(initial=1.0)))
    return np.maximum(np.log((1.0 + total) / (1.0 + frequency)), 0.0).astype(np.float32)
