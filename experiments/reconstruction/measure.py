"""What do the projections lose of the stream, at the start, trained, and at best?

python -m experiments.reconstruction.measure [--steps 300]
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor
from torch.nn.functional import rms_norm

from t4dm.backbone.load import load_backbone
from t4dm.backbone.tap import stream_at
from t4dm.data.recall import RecallTask
from t4dm.data.recall_module import RecallDataModule
from t4dm.model.projections import Entry, Exit, reconstruction_error

LAYER = 2


def states(loader: object, *, batches: int) -> Tensor:
    """Valid states `[1, N, W]` that enter the stack, of the first batches."""
    backbone, found = load_backbone("tiny"), []
    for step in range(batches):
        batch = loader.batch_at(0, step)  # type: ignore[attr-defined]
        mask = batch["attention_mask"]
        found.append(stream_at(backbone, LAYER, batch["input_ids"], mask)[mask])
    return torch.cat(found)[None]


def error(stream: Tensor, entry: Entry, exit: Exit) -> Tensor:
    return reconstruction_error(stream, entry=entry, exit=exit, mask=torch.ones(stream.shape[:2]).bool())


def best(stream: Tensor, width: int) -> float:
    """Share outside the first principal directions of the states themselves: no linear pair loses less."""
    normal = rms_norm(stream[0], stream.shape[-1:])
    squares = torch.linalg.svdvals(normal).square()
    return float(squares[width:].sum() / squares.sum())


def train(entry: Entry, exit: Exit, stream: Tensor, *, steps: int) -> None:
    """AdamW on the error alone, all states at once."""
    optimizer = torch.optim.AdamW([*entry.parameters(), exit.project.weight], lr=3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        error(stream, entry, exit).backward()
        optimizer.step()


def main() -> None:
    """Print the table."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--steps", type=int, default=300)
    reader.add_argument("--widths", type=int, nargs="+", default=[128, 96, 64, 48, 32])
    options = reader.parse_args()
    tokenizer = load_backbone("tiny").tokenizer
    data = RecallDataModule(
        encode=lambda text: tokenizer(text)["input_ids"], task=RecallTask(), lanes=16, pad_id=1
    )
    seen, held_out = (states(side, batches=6) for side in (data.train_dataloader(), data.val_dataloader()))
    print(f"{seen.shape[1]} states to train on, {held_out.shape[1]} held out, of width {seen.shape[2]}\n")
    print("| width of the stack | at the start | trained, 100 steps | trained, all steps | at best |")
    print("|---|---|---|---|---|")
    for width in options.widths:
        torch.manual_seed(0)
        entry = Entry(stream_width=seen.shape[-1], width=width)
        exit = Exit(entry=entry)
        found = []
        for steps in (0, min(100, options.steps), max(0, options.steps - 100)):
            train(entry, exit, seen, steps=steps)
            with torch.no_grad():
                found.append(float(error(held_out, entry, exit)))
        print(
            f"| {width} |", " | ".join(f"{value:.4f}" for value in found), f"| {best(held_out, width):.4f} |"
        )


if __name__ == "__main__":
    main()
