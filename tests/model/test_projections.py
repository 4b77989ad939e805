"""What the way into the stack's space and back keeps of the stream."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import rms_norm

from t4dm.backbone.load import load_backbone
from t4dm.backbone.tap import stream_at
from t4dm.data.recall_module import RecallDataModule
from t4dm.model.projections import Entry, Exit, reconstruction_error

from .conftest import TASK, asked, told


def doors(width: int, *, stream_width: int = 128) -> tuple[Entry, Exit]:
    torch.manual_seed(0)
    entry = Entry(stream_width=stream_width, width=width)
    return entry, Exit(entry=entry)


def error(stream: Tensor, entry: Entry, exit: Exit) -> Tensor:
    return reconstruction_error(
        stream, entry=entry, exit=exit, mask=torch.ones(stream.shape[:2], dtype=torch.bool)
    )


def shipped_states(which: str) -> Tensor:
    """States `[1, N, 128]` that enter layer 2 of the shipped backbone, of recall episodes."""
    backbone = load_backbone("tiny")
    data = RecallDataModule(
        encode=lambda text: backbone.tokenizer(text)["input_ids"],
        task=TASK, lanes=16, rounds=1, writes=6, pad_id=1,
    )  # fmt: skip
    loader = data.train_dataloader() if which == "train" else data.val_dataloader()
    batch = loader.batch_at(0, 0)
    mask = batch["attention_mask"]
    return stream_at(backbone, 2, batch["input_ids"], mask)[mask][None]


def test_the_error_is_the_share_of_the_square_that_is_lost() -> None:
    entry, exit = doors(1, stream_width=2)
    with torch.no_grad():
        entry.project.weight.copy_(torch.tensor([[1.0, 0.0]]))
        exit.project.weight.copy_(torch.tensor([[1.0], [0.0]]))
    stream = torch.tensor([[[3.0, 4.0], [30.0, 40.0], [5.0, 0.0], [0.0, 7.0]]])
    # of (3, 4) the 4 is lost, 16 of 25, at any scale; of (5, 0) nothing, of (0, 7) all
    mask = torch.tensor([[True, True, True, False]])
    found = reconstruction_error(stream, entry=entry, exit=exit, mask=mask)
    assert float(found.detach()) == pytest.approx((0.64 + 0.64 + 0.0) / 3, rel=1e-5)
    assert float(error(stream, entry, exit).detach()) == pytest.approx(
        (0.64 + 0.64 + 0.0 + 1.0) / 4, rel=1e-5
    )


def test_the_shipped_stack_is_as_wide_as_its_stream_and_loses_nothing_at_the_start() -> None:
    assert float(error(shipped_states("val"), *doors(128)).detach()) < 1e-9


def test_at_half_the_width_a_hundred_steps_bring_the_error_below_a_tenth_on_held_out_states() -> None:
    """2048 to 1024 is what the plan does at 3B; here 128 to 64."""
    train, held_out = shipped_states("train"), shipped_states("val")
    entry, exit = doors(64)
    optimizer = torch.optim.AdamW([*entry.parameters(), exit.project.weight], lr=3e-3)
    before = float(error(held_out, entry, exit).detach())
    for _ in range(100):
        optimizer.zero_grad()
        error(train, entry, exit).backward()
        optimizer.step()
    after = float(error(held_out, entry, exit).detach())
    assert before == pytest.approx(0.5, abs=0.1)  # a random half of the directions
    assert after < 0.1
    directions = torch.linalg.eigh(torch.cov(rms_norm(held_out[0], (128,)).T, correction=0))
    assert float(directions.eigenvalues[:64].sum()) / 128 < after  # no linear pair is better than this


def test_the_error_moves_the_projections_and_nothing_else(make_model, data, memory, writer) -> None:
    model = make_model().train()
    batch = told(data, model, memory, writer)
    out = asked(model, batch, memory, reconstruct=True)
    out.reconstruction.backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert moved == {"entry.norm.weight", "entry.project.weight", "exit.project.weight"}
    assert asked(model, batch, memory).reconstruction is None
