"""A small model with a memory, built anew for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from t4dm.backbone.load import load_backbone
from t4dm.backbone.lora import add_lora
from t4dm.data.recall import RecallTask
from t4dm.data.recall_module import RecallDataModule
from t4dm.memory.embedders import LexicalEmbedder
from t4dm.memory.memory import Memory
from t4dm.memory.temporal_gate import TemporalGate
from t4dm.model import MemoryLM, Reads
from t4dm.model.writer import MemoryWriter, gate_features
from t4dm.spiking.stack import CorticalStack
from t4dm.t4dx import T4DX

KEY_WIDTH = 64
TASK = RecallTask(windows=3, facts=3, questions=2, distances=(1, 2), update_rate=0.0)

MakeModel = Callable[..., MemoryLM]


@pytest.fixture
def make_model() -> MakeModel:
    def make(
        *, checkpointing: bool = False, stack: bool = True, blocks: int = 1, working: int = 0
    ) -> MemoryLM:
        torch.manual_seed(0)
        backbone = add_lora(load_backbone("tiny", checkpointing=checkpointing), rank=2)
        return MemoryLM(
            backbone=backbone,
            stack=CorticalStack(width=32, blocks=blocks, heads=2) if stack else None,
            insert_at=2,
            embedder=LexicalEmbedder(vocab_size=len(backbone.tokenizer), dim=KEY_WIDTH),
            recalled=2,
            working=working,
        )

    return make


@pytest.fixture
def data() -> RecallDataModule:
    tokenizer = load_backbone("tiny").tokenizer
    return RecallDataModule(
        encode=lambda t: tokenizer(t)["input_ids"], task=TASK, lanes=4, rounds=1, writes=6, pad_id=1
    )


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with T4DX.open(tmp_path / "store", dim=KEY_WIDTH, clock=lambda: 1000.0) as store:
        yield Memory(store, clock=lambda: 1000.0, rng=np.random.default_rng(0))


@pytest.fixture
def writer() -> MemoryWriter:
    return MemoryWriter(gate=TemporalGate(weights=gate_features(), bias=2.0))


def reads_of(batch: dict) -> Reads:
    return Reads(batch["read_start"], batch["read_end"], batch["sessions"])


def open_gate(model: MemoryLM) -> MemoryLM:
    """A model whose stack speaks: the output gate is open and the LoRAs are not zero."""
    with torch.no_grad():
        model.exit.gamma.fill_(0.5)
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.05)
    return model


def told(data, model, memory, writer, windows: int = 2) -> dict:
    """Write the first windows of the episodes; the batch that asks."""
    loader = data.train_dataloader()
    for w in range(windows):
        batch = loader.batch_at(0, w)
        out = model(batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"])
        writer.write(model, memory, batch, out)
    return loader.batch_at(0, windows)


def asked(model, batch, memory, **changes):
    inputs = {
        "attention_mask": batch["attention_mask"],
        "reads": reads_of(batch),
        "memory": memory,
        **changes,
    }
    return model(batch["input_ids"], **inputs)
