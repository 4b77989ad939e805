"""A whole, tiny world to train in: random Qwen2, two cortical blocks, a store, recall episodes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from t4dm.backbone.load import Backbone, _checkpoint_activations, freeze
from t4dm.backbone.lora import add_lora
from t4dm.backbone.tiny import tiny_qwen2, tiny_tokenizer
from t4dm.data import words
from t4dm.data.recall import RecallTask
from t4dm.data.recall_module import RecallDataModule
from t4dm.memory.embedders import LexicalEmbedder
from t4dm.memory.memory import Memory
from t4dm.memory.temporal_gate import TemporalGate
from t4dm.model import MemoryLM
from t4dm.model.writer import MemoryWriter, gate_features
from t4dm.spiking.stack import CorticalStack
from t4dm.t4dx import T4DX, Options
from t4dm.training.bundle_io import BundleIO
from t4dm.training.event_clock import EventClock

DIM = 32
FAST = Options(durability="os")


@lru_cache(maxsize=1)
def tokenizer() -> Any:
    """Every word of the recall world, so that sentences stay short."""
    values = " ".join(value for values in words.ATTRIBUTES.values() for value in values)
    text = f" {' '.join(words.ENTITIES)} {values} {' '.join(words.ATTRIBUTES)} The of is now. What?"
    return tiny_tokenizer([text] * 3, vocab_size=512)


def encode(text: str) -> list[int]:
    return tokenizer().encode(text, add_special_tokens=False)


@dataclass
class World:
    """One run: what an app would build."""

    folder: Path
    model: MemoryLM
    memory: Memory
    data: RecallDataModule
    clock: EventClock
    exits: ExitStack = field(default_factory=ExitStack)

    @property
    def store(self) -> T4DX:
        return self.memory.store

    def read_night(self, number: int = -1) -> dict[str, Any]:
        """A line of nights.jsonl."""
        return json.loads((self.folder / "nights.jsonl").read_text().splitlines()[number])

    def writer(self, **options: Any) -> MemoryWriter:
        return MemoryWriter(gate=TemporalGate(weights=gate_features()), **options)

    def trainer(self, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
        defaults: dict[str, Any] = {
            "max_epochs": 1,
            "accelerator": "cpu",
            "logger": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "default_root_dir": self.folder,
            "plugins": [BundleIO(store=self.store)],
        }
        return pl.Trainer(callbacks=list(callbacks), **(defaults | options))


def build_model(
    *,
    seed: int = 0,
    lora: bool = True,
    blocks: int = 2,
    dropout: float = 0.0,
    working: int = 0,
    checkpointing: bool = False,
) -> MemoryLM:
    torch.manual_seed(seed)
    vocabulary = len(tokenizer())
    qwen = tiny_qwen2(vocab_size=vocabulary, hidden_size=32, layers=3, heads=2, kv_heads=1)
    freeze(qwen)
    if checkpointing:
        _checkpoint_activations(qwen)
    backbone = Backbone(qwen.eval(), tokenizer(), "test", None)
    if lora:
        backbone = add_lora(backbone, rank=2, dropout=dropout)
    stack = CorticalStack(width=16, blocks=blocks, heads=2, capsules=4) if blocks else None
    embedder = LexicalEmbedder(vocab_size=vocabulary, dim=DIM)
    return MemoryLM(
        backbone=backbone,
        stack=stack,
        insert_at=2,
        embedder=embedder,
        recalled=2,
        recall_tokens=12,
        working=working,
    )


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """A factory of worlds; each opens a store of its own, or the one at `store`."""
    with ExitStack() as exits:

        def make(name: str = "run", *, store: Path | None = None, rounds: int = 1, **model: Any) -> World:
            clock = EventClock()
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            opened = exits.enter_context(
                T4DX.open(store or folder / "store", dim=DIM, options=FAST, clock=clock)
            )
            memory = Memory(opened, clock=clock, rng=np.random.default_rng(7))
            task = RecallTask(windows=3, facts=2, questions=1, distances=(1, 2), distractors=0, entities=4)
            data = RecallDataModule(
                encode=encode, task=task, lanes=2, rounds=rounds, val_rounds=1, length=48, reads=1, writes=4
            )
            return World(folder, build_model(**model), memory, data, clock)

        yield make
