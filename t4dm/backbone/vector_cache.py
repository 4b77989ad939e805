"""Vectors that were computed once, in one file, found again by the text they stand for."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

Encode = Callable[[Sequence[str]], NDArray[np.float32]]


@final
class VectorCache:
    """A function from texts to vectors that asks `encode` for new texts only.

    The file holds hashes and no text. It can be deleted at any time; one that cannot be read, or that another
    model wrote, is written anew.

    Args:
        file: an .npz, made where there is none.
        encode: texts to `[N, D]` float32.
        model: name of what encodes: a part of every key.
    """

    def __init__(self, file: Path, *, encode: Encode, model: str) -> None:
        self._file, self._encode, self._model = file, encode, model

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors `[N, D]` in the order of the texts."""
        known = self._read()
        keys = [self._key(text) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            fresh = self._encode(list(missing.values()))
            known |= dict(zip(missing, fresh, strict=True))
            self._write(known)
        return np.stack([known[key] for key in keys]) if keys else np.zeros((0, 0), np.float32)

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{self._model}\0{text}".encode()).digest()[:16]

    def _read(self) -> dict[bytes, NDArray[np.float32]]:
        try:
            with self._file.open("rb") as opened, np.load(opened, allow_pickle=False) as kept:
                return dict(zip(map(bytes, kept["keys"]), kept["vectors"], strict=True))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return {}

    def _write(self, known: dict[bytes, NDArray[np.float32]]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        beside = self._file.with_name(f".{self._file.name}.part")
        keys = np.frombuffer(b"".join(known), np.uint8).reshape(-1, 16)
        with beside.open("wb") as out:
            np.savez(out, keys=keys, vectors=np.stack(list(known.values())))
        beside.replace(self._file)
