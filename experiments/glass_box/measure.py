"""What watching a model costs: processor time of a pass under a `GlassBox` beside one without, bytes a token.

python -m experiments.glass_box.measure
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import nullcontext

import torch

from t4dm.backbone.load import load_backbone
from t4dm.backbone.lora import add_lora
from t4dm.model import MemoryLM
from t4dm.model.glass_box import GlassBox, observing
from t4dm.spiking.stack import CorticalStack

LEVELS = {
    "lengths": {"streams": False, "inner": False},
    "lengths, streams, LoRA parts": {"streams": True, "inner": False},
    "everything": {"streams": True, "inner": True},
}


def main() -> None:
    """Print one row for each level."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=30)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = shipped()
    ids = torch.randint(2, 500, (1, chosen.tokens))
    seconds, kept = measured(model, ids, rounds=chosen.rounds)
    off = seconds.pop("off")
    print(f"hooks where nobody watches: {hooks(model)}; T {chosen.tokens}, {chosen.rounds} rounds in turns")
    print("| watched | processor time / unwatched (quartiles) | bytes a token |\n|---|---|---|")
    for name, spent in seconds.items():
        low, middle, high = statistics.quantiles([on / o for on, o in zip(spent, off, strict=True)], n=4)
        print(f"| {name} | {middle:.2f} ({low:.2f} to {high:.2f}) | {kept[name] / chosen.tokens:,.0f} |")


def shipped() -> MemoryLM:
    """The shipped backbone with LoRA and the small stack, as configs/model/tiny.yaml has them."""
    backbone = add_lora(load_backbone("tiny"), rank=16)
    stack = CorticalStack(width=128, blocks=2)
    return MemoryLM(backbone=backbone, stack=stack, insert_at=2).eval()


@torch.no_grad()
def measured(
    model: MemoryLM, ids: torch.Tensor, *, rounds: int
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Processor seconds of each level in each round, the levels in turns; and the bytes of one pass."""
    seconds: dict[str, list[float]] = {"off": [], **{name: [] for name in LEVELS}}
    kept: dict[str, int] = {}
    for number in range(rounds + 1):
        for name in seconds:
            box = GlassBox(**LEVELS[name]) if name in LEVELS else None
            began = time.process_time()
            with nullcontext() if box is None else observing(model, box):
                model(ids)
            if number:  # the first round warms up
                seconds[name].append(time.process_time() - began)
            if box is not None:
                kept[name] = box.bytes
    return seconds, kept


def hooks(model: torch.nn.Module) -> int:
    """Forward hooks of any kind on any module."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


if __name__ == "__main__":
    main()
