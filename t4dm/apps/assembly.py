"""From a plain config to the objects of a run: backbone, data, model, store, memory."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from t4dm.backbone.load import Backbone
from t4dm.config import build, chosen
from t4dm.errors import DevicesError, NoGpuError
from t4dm.memory.embedders import document_frequencies
from t4dm.memory.memory import Memory
from t4dm.model import MemoryLM
from t4dm.model.writer import MemoryWriter
from t4dm.persistence.bundle import BundleInfo
from t4dm.persistence.recovery import open_store_copy
from t4dm.t4dx import T4DX
from t4dm.training.event_clock import EventClock

Plain = Mapping[str, Any]
Encode = Callable[[str], list[int]]
SHARED_MEMORY = Path("/dev/shm")


class Streams(NamedTuple):
    """One random stream for each part, so that taking one part out does not shift the others'."""

    memory: np.random.Generator
    sleep: np.random.Generator
    exam: np.random.Generator


class Parts(NamedTuple):
    """What a run is made of."""

    model: MemoryLM
    data: Any
    """A LightningDataModule."""
    writer: MemoryWriter
    encode: Encode
    pad_id: int


def streams(seed: int) -> Streams:
    """Spawn the streams of a seed; seed torch, for the weights, and what libraries draw from."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    return Streams(*(np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3)))


def one_device(c: Plain) -> None:
    """Refuse more than one device, and one that is not here.

    Raises:
        DevicesError: the trainer asks for more.
        NoGpuError: it asks for a GPU.
    """
    if c["trainer"].get("accelerator") in ("gpu", "cuda") and not torch.cuda.is_available():
        raise NoGpuError
    devices = c["trainer"].get("devices", 1)
    if devices not in (1, "1", [0]) and not (isinstance(devices, list) and len(devices) == 1):
        raise DevicesError(devices)


def assemble(c: Plain) -> Parts:
    """Load the backbone, make the data, and put the model around the backbone."""
    backbone: Backbone = build(c["model"]["backbone"])
    for lora in chosen({"": c["model"].get("lora")}):
        backbone = build(lora, backbone=backbone)
    encode: Encode = partial(backbone.tokenizer.encode, add_special_tokens=False)
    pad_id = int(backbone.tokenizer.pad_token_id or 0)
    data = build(c["data"], encode=encode, pad_id=pad_id, end_id=backbone.tokenizer.eos_token_id)
    model = build(
        c["model"]["memory_lm"],
        backbone=backbone,
        stack=next((build(node) for node in chosen({"": c["model"].get("stack")})), None),
        embedder=build(c["model"]["embedder"], **_word_counts(data, backbone)),
    )
    return Parts(model.to(backbone.device), data, build(c["model"]["writer"]), encode, pad_id)


def _word_counts(data: Any, backbone: Backbone) -> dict[str, Any]:
    """How rare each word is in the episodes; data without episodes counts every word alike."""
    size = int(backbone.decoder.config.vocab_size)  # type: ignore[union-attr, arg-type]
    source = getattr(data, "recall", data)
    if not hasattr(source, "spans"):
        return {"vocab_size": size}
    spans = list(source.spans())
    return {
        "vocab_size": size,
        "document_frequency": document_frequencies(spans, vocab_size=size),
        "documents": len(spans),
    }


@contextmanager
def open_store(
    c: Plain, *, clock: EventClock, bundle: BundleInfo | None = None, folder: Path | None = None
) -> Iterator[T4DX | None]:
    """The store of a run, closed at the end whatever happens; None where the config has none.

    Args:
        c: with `storage` and the width of the search keys.
        clock: of the store.
        bundle: start from a copy of its store.
        folder: instead of the config's.
    """
    if c["storage"]["open"] is None:
        yield None
        return
    chosen = folder or c["storage"]["folder"]
    in_memory = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="t4dm-", dir=in_memory) as volatile:
        path = Path(chosen or volatile) / ("" if chosen else "store")
        if bundle is not None and bundle.lsn is not None:
            store = open_store_copy(bundle, path, clock=clock)
        else:
            store = build(
                c["storage"]["open"], path=str(path), dim=c["model"]["embedder"]["dim"], clock=clock
            )
        with store:
            yield store


def port(store: T4DX | None, *, clock: EventClock, rng: np.random.Generator) -> Memory | None:
    """The model's port to a store."""
    return None if store is None else Memory(store, clock=clock, rng=rng)
