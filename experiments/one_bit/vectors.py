"""What one-bit codes are judged on: sentences by MiniLM, the storage bench's mixture, and a harder one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.storage_bench.data import draw

Vectors = NDArray[np.float32]


class Set(NamedTuple):
    """Vectors [N, D] and queries [Q, D] that are not among them."""

    name: str
    vectors: Vectors
    queries: Vectors


def sentences(data: Path, cache: Path, *, queries: int) -> Set:
    """LoCoMo's turns, observations and MemoryBank's utterances, asked by the questions of both."""
    stored, asked = _unique(_stored(data)), _unique(_asked(data))
    return Set(
        "MiniLM", _embedded(stored, cache / "stored.npy"), _embedded(asked, cache / "asked.npy")[:queries]
    )


def mixture(n: int, dim: int, *, queries: int) -> Set:
    """The mixture of the storage bench."""
    vectors = draw(n + queries, dim, np.random.default_rng(7))
    return Set("easy", vectors[:n], vectors[n:])


def harder(n: int, dim: int, *, queries: int) -> Set:
    """Wide, overlapping clusters on a flat spectrum and more noise: the nearest are far, the next as near."""
    rng = np.random.default_rng(11)
    spectrum = (1.0 + np.arange(64)) ** -0.25
    latent = rng.normal(size=(500, 64))[rng.integers(0, 500, n + queries)] * 0.5
    latent = (
        latent + rng.normal(size=latent.shape) * rng.uniform(0.5, 0.9, (len(latent), 1)) + 0.2
    ) * spectrum
    turned = latent @ np.linalg.qr(rng.normal(size=(dim, 64)))[0].T
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    noise = rng.normal(size=turned.shape)
    turned += 0.45 * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    vectors = (turned / np.linalg.norm(turned, axis=1, keepdims=True)).astype(np.float32)
    return Set("harder", vectors[:n], vectors[n:])


def outliers(n: int, dim: int, *, queries: int) -> Set:
    """Three coordinates are as large as all the others together, as in the states of language models."""
    rng = np.random.default_rng(13)
    vectors = rng.standard_normal((n + queries, dim)).astype(np.float32)
    vectors[:, :3] *= np.sqrt(dim / 3)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Set("outliers", vectors[:n], vectors[n:])


def _stored(data: Path) -> Iterator[str]:
    for talk in json.loads((data / "locomo/dev/locomo_dev.json").read_text()):
        for key, turns in talk["conversation"].items():
            if key.startswith("session_") and isinstance(turns, list):
                yield from (turn["text"] for turn in turns)
        yield from _strings(talk["observation"])
    for user in json.loads((data / "memorybank/memory_bank_en.json").read_text()).values():
        for turns in user["history"].values():
            yield from (turn[side] for turn in turns for side in ("query", "response"))


def _asked(data: Path) -> Iterator[str]:
    for talk in json.loads((data / "locomo/dev/locomo_dev.json").read_text()):
        yield from (one["question"] for one in talk["qa"])
    for line in (data / "memorybank/probing_questions_en.jsonl").read_text().splitlines():
        yield from _strings(json.loads(line))


def _strings(value: Any) -> Iterator[str]:
    """Every sentence in nested lists and dicts; evidence ids such as D1:3 are none."""
    if isinstance(value, str):
        if " " in value:
            yield value
    else:
        for one in value.values() if isinstance(value, dict) else value:
            yield from _strings(one)


def _unique(texts: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(text.strip() for text in texts if text and text.strip()))


def _embedded(texts: list[str], file: Path) -> Vectors:
    if file.exists():
        kept: Vectors = np.load(file)
        return kept
    from t4dm.backbone.minilm import MiniLM

    vectors = MiniLM().encode(texts)
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, vectors)
    return vectors
